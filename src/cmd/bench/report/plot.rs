//! Plots as SVG: a curve with two axes, and bars. Knows nothing of benches.

use std::fmt::Write as _;

use super::{digits, escaped, micros, short};

/// Of every plot, in units of its view.
const WIDTH: f64 = 800.0;
/// Of a curve.
const HEIGHT: f64 = 300.0;
/// Left of a curve: the labels of the y axis.
const LEFT: f64 = 72.0;
/// Right of a curve: half a label of the x axis.
const RIGHT: f64 = 28.0;
/// Above a curve: the name of the y axis.
const TOP: f64 = 30.0;
/// Below a curve: labels and name of the x axis.
const BOTTOM: f64 = 46.0;
/// From one bar to the next.
const BAR_STEP: f64 = 32.0;
/// Of a bar.
const BAR_HEIGHT: f64 = 18.0;
/// Left of bars: their names.
const NAMES: f64 = 150.0;
/// Right of bars: the value of the longest.
const VALUES: f64 = 80.0;
/// A name is cut behind so many characters.
const NAME_MAX: usize = 20;
/// Steps of a linear axis, about.
const TICKS: f64 = 5.0;

/// An axis: where a value stands on it, and what is written beside it.
pub struct Scale {
    /// What stands at the beginning, as placed.
    from: f64,
    /// What stands at the end, as placed.
    to: f64,
    is_log: bool,
    name: String,
    /// Values and their labels.
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From 0 to somewhat above `most`.
    pub fn linear(most: f64, name: &str) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let count = (most / step - 1e-9).ceil().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few"
        )]
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step);
        Self {
            from: 0.0,
            to: count * step,
            is_log: false,
            name: name.into(),
            ticks: ticks.map(|tick| (tick, short(tick))).collect(),
        }
    }

    /// As it is, but it ends where the values do.
    pub fn cut(mut self, most: f64) -> Self {
        self.to = most;
        self.ticks.retain(|(tick, _)| *tick <= most);
        self
    }

    /// Percentiles by their number of nines: 90 %, 99 %, 99.9 % are equally far apart.
    pub fn nines(most: f64) -> Self {
        let tick = |nines: usize| {
            let label = match nines {
                0 => "0 %".into(),
                1 => "90 %".into(),
                2 => "99 %".into(),
                nines => format!("99.{} %", "9".repeat(nines - 2)),
            };
            (nines, label)
        };
        #[expect(clippy::cast_precision_loss, reason = "0 to 6")]
        let placed = |(nines, label): (usize, String)| (nines as f64, label);
        let mut ticks: Vec<_> = (0..=6).map(tick).map(placed).collect();
        ticks.insert(1, (-(0.5_f64.log10()), "50 %".into()));
        ticks.retain(|(nines, _)| *nines <= most + 1e-9);
        Self {
            from: 0.0,
            to: most,
            is_log: false,
            name: "part of the calls that took at most so long".into(),
            ticks,
        }
    }

    /// Microseconds, each decade as long as the others.
    pub fn log_micros(least: f64, most: f64) -> Self {
        let (least, most) = (least.max(1e-3), most.max(1e-3));
        let factors: &[f64] = match (most / least).log10() {
            decades if decades > 3.0 => &[1.0],
            decades if decades > 1.5 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let decades = -3..=9;
        let all = decades.flat_map(|decade| factors.iter().map(move |it| it * 10_f64.powi(decade)));
        let all: Vec<f64> = all.collect();
        let below = |value: f64| {
            all.iter()
                .rev()
                .find(|tick| **tick <= value * 1.0001)
                .copied()
        };
        let above = |value: f64| all.iter().find(|tick| **tick >= value * 0.9999).copied();
        let from = below(least).unwrap_or(least);
        let mut to = above(most).unwrap_or(most);
        if to <= from {
            to = above(from * 1.5).unwrap_or(from * 10.0);
        }
        let ticks = all.iter().filter(|tick| (from..=to).contains(*tick));
        Self {
            from: from.log10(),
            to: to.log10(),
            is_log: true,
            name: String::new(),
            ticks: ticks.map(|tick| (*tick, micros(*tick))).collect(),
        }
    }

    #[cfg(test)]
    pub fn labels(&self) -> Vec<String> {
        self.ticks.iter().map(|(_, label)| label.clone()).collect()
    }

    /// 0 at the beginning of the axis, 1 at its end.
    fn place(&self, value: f64) -> f64 {
        let value = match self.is_log {
            true => value.max(1e-3).log10(),
            false => value,
        };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// A curve.
pub struct Line<'a> {
    /// Read out first.
    pub title: &'a str,
    /// What it shows, in a sentence.
    pub desc: &'a str,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Along.
    pub x: Scale,
    /// Written above the y axis.
    pub y_name: &'a str,
    /// Up.
    pub y: Scale,
    /// Down to the x axis.
    pub is_filled: bool,
}

impl Line<'_> {
    /// As an element.
    pub fn svg(&self) -> String {
        let mut svg = opened(self.title, self.desc, HEIGHT);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"14\">{}</text>",
            escaped(self.y_name)
        );
        for (value, label) in &self.y.ticks {
            let y = self.at_y(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escaped(label),
            );
        }
        for (value, label) in &self.x.ticks {
            let x = self.at_x(*value);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 18.0,
                escaped(label),
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 6.0,
            escaped(&self.x.name),
        );
        self.curve(&mut svg);
        svg + "</svg>\n"
    }

    fn curve(&self, svg: &mut String) {
        let at: Vec<String> = self
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", self.at_x(*x), self.at_y(*y)))
            .collect();
        let (Some((first, _)), Some((last, _))) = (self.points.first(), self.points.last()) else {
            return;
        };
        // A line of one point has no length.
        if let [only] = &at[..] {
            let (x, y) = only.split_once(',').expect("as written above");
            let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/>");
            return;
        }
        let path = at.join(" ");
        if self.is_filled {
            let bottom = HEIGHT - BOTTOM;
            let (first, last) = (self.at_x(*first), self.at_x(*last));
            let _ = writeln!(
                svg,
                "<polygon class=\"area\" points=\"{first:.1},{bottom} {path} {last:.1},{bottom}\"/>"
            );
        }
        let _ = writeln!(svg, "<polyline class=\"line\" points=\"{path}\"/>");
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - BOTTOM - TOP)
    }
}

/// Lying bars, each with its name and value.
pub struct Bars<'a> {
    /// Read out first.
    pub title: &'a str,
    /// What they show, in a sentence.
    pub desc: &'a str,
    /// Of the values.
    pub unit: &'a str,
    /// From top to bottom.
    pub bars: Vec<(String, f64)>,
}

impl Bars<'_> {
    /// As an element.
    #[expect(clippy::cast_precision_loss, reason = "a few bars")]
    pub fn svg(&self) -> String {
        let mut svg = opened(
            self.title,
            self.desc,
            TOP + BAR_STEP * self.bars.len() as f64,
        );
        let _ = writeln!(
            svg,
            "<text x=\"{NAMES}\" y=\"14\">{}</text>",
            escaped(self.unit)
        );
        let most = self
            .bars
            .iter()
            .map(|(_, value)| *value)
            .fold(0.0, f64::max);
        for (index, (name, value)) in self.bars.iter().enumerate() {
            let top = TOP + BAR_STEP * index as f64;
            let part = value / most.max(f64::MIN_POSITIVE);
            let width = (part * (WIDTH - NAMES - VALUES)).max(1.0);
            let text_y = top + BAR_HEIGHT / 2.0 + 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\" class=\"strong\">{}</text>\
                 <rect class=\"bar\" x=\"{NAMES}\" y=\"{top}\" width=\"{width:.1}\" \
                 height=\"{BAR_HEIGHT}\" rx=\"2\"/><text x=\"{:.1}\" y=\"{text_y}\" \
                 class=\"strong\">{}</text>",
                NAMES - 10.0,
                escaped(&cut(name)),
                NAMES + width + 8.0,
                escaped(&digits(*value)),
            );
        }
        svg + "</svg>\n"
    }
}

fn opened(title: &str, desc: &str, height: f64) -> String {
    let id: String = title.chars().filter(char::is_ascii_alphanumeric).collect();
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title \
         {id}-desc\">\n<title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n",
        escaped(title),
        escaped(desc),
    )
}

fn cut(name: &str) -> String {
    match name.chars().count() > NAME_MAX {
        true => name.chars().take(NAME_MAX - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
