//! `--report`: one page with plots of a run. It loads nothing: style and plots stand in it, so that
//! it can be mailed, kept, and opened without a network. Well-formed XML too.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use axs::core::bench::{Figures, figures::rounded};
use serde_json::{Map, Value};

use super::super::{Exit, Failure, ui};
use plot::{Bars, Line, Scale};

mod plot;

const STYLE: &str = include_str!("style.css");
/// Percentiles of the table.
const PERCENTILES: [f64; 9] = [0.0, 10.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];
/// Points of the curve of latencies.
const CURVE_POINTS: u32 = 240;
/// Points of the curve of throughput, at most: more cannot be told apart.
const OVER_TIME_MAX: usize = 240;

/// Refuses a page that cannot be written, before anything is measured for it.
pub fn check(path: &Path) -> Result<()> {
    let is_new = !path.exists();
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| cannot(path, &error))?;
    if is_new {
        fs::remove_file(path).map_err(|error| cannot(path, &error))?;
    }
    Ok(())
}

/// Writes the page.
pub fn write(path: &Path, figures: &Figures) -> Result<()> {
    Ok(fs::write(path, page(figures)).map_err(|error| cannot(path, &error))?)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot write `{}`: {error}", path.display());
    Failure::new(Exit::Failure, message).hint("give --report a file in a folder that you may write")
}

/// The whole document.
fn page(figures: &Figures) -> String {
    let name = escaped(figures.bench);
    let mut body = String::new();
    section(&mut body, "Latency", &latency(figures));
    section(&mut body, "Throughput over time", &over_time(figures));
    section(&mut body, "Cost by stage", &stages(figures));
    section(&mut body, "Figures", &all_figures(figures));
    let tables = figures
        .more
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_object()?)));
    for (name, fields) in tables {
        section(&mut body, &sentence(name), &fields_table(fields));
    }
    section(&mut body, "Workload", &fields_table(&figures.workload));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>axs bench \
         {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>axs bench \
         {name}</h1>\n<p>{}</p>\n</header>\n{}{body}<footer><p>axs {} ({}). Figures of one run \
         compare with each other; those of different machines do not.</p></footer>\n</main>\n\
         </body>\n</html>\n",
        escaped(&described(&figures.workload)),
        headline(figures),
        escaped(env!("CARGO_PKG_VERSION")),
        escaped(env!("AXS_COMMIT")),
    )
}

fn described(workload: &Map<String, Value>) -> String {
    let parts = workload.iter();
    let parts = parts.map(|(name, value)| format!("{} {}", sentence(name), text(value)));
    parts.collect::<Vec<_>>().join(" · ")
}

/// What a reader looks for first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn headline(figures: &Figures) -> String {
    let micros = |percent| micros(figures.percentile_us(percent));
    let cpu = figures.cpu_seconds * 1e6 / (figures.commands() as f64).max(1.0);
    let tiles = [
        ("commands a second", ui::count(figures.per_second() as u64)),
        ("p50", micros(50.0)),
        ("p99", micros(99.0)),
        ("p99.9", micros(99.9)),
        ("processor time a command", self::micros(cpu)),
        ("peak memory", bytes(figures.peak_rss_bytes)),
    ];
    let mut html = String::from("<dl class=\"tiles\">\n");
    for (name, value) in tiles {
        let (name, value) = (escaped(name), escaped(&value));
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html + "</dl>\n"
}

/// The distribution: a curve by the number of nines, and a table.
fn latency(figures: &Figures) -> String {
    let histogram = figures.seen.latency();
    if histogram.is_empty() {
        return "<p>No latency was measured.</p>\n".into();
    }
    #[expect(clippy::cast_precision_loss, reason = "a count for a plot")]
    let nines_max = (histogram.len() as f64).log10().clamp(1.0, 6.0);
    let points = (0..=CURVE_POINTS).map(|step| {
        let nines = nines_max * f64::from(step) / f64::from(CURVE_POINTS);
        let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
        (nines, figures.percentile_us(percent))
    });
    let curve = Line {
        title: "Latency by percentile",
        desc: &format!(
            "Half of the calls took at most {}, 99 of a hundred at most {}, the slowest {}.",
            micros(figures.percentile_us(50.0)),
            micros(figures.percentile_us(99.0)),
            micros(figures.percentile_us(100.0)),
        ),
        points: points.collect(),
        x: Scale::nines(nines_max),
        y_name: "latency (log scale)",
        y: Scale::log_micros(figures.percentile_us(0.0), figures.percentile_us(100.0)),
        is_filled: false,
    };
    let rows = PERCENTILES.map(|percent| {
        let name = match percent {
            0.0 => "least".to_owned(),
            100.0 => "most".to_owned(),
            percent => format!("p{percent}"),
        };
        vec![name, micros(figures.percentile_us(percent))]
    });
    let of = escaped(&figures.latency_of);
    let calls = ui::count(histogram.len());
    format!(
        "<p>A latency is that of {of}; {calls} were measured.</p>\n{}{}",
        curve.svg(),
        table(&["percentile", "latency"], &rows)
    )
}

fn over_time(figures: &Figures) -> String {
    let points = thinned(figures.over_time());
    let Some(last) = points.last() else {
        return "<p>Nothing was done.</p>\n".into();
    };
    let seconds = last.0.max(0.1);
    let most = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let least = points.iter().map(|(_, rate)| *rate).fold(most, f64::min);
    Line {
        title: "Throughput over time",
        desc: &format!(
            "Between {} and {} commands a second over {:.1} seconds.",
            short(least),
            short(most),
            figures.seconds
        ),
        x: Scale::linear(seconds, "seconds since the beginning").cut(seconds),
        y_name: "commands a second",
        y: Scale::linear(most, ""),
        points,
        is_filled: true,
    }
    .svg()
}

/// Neighbours are put together until few enough are left. What the end cut off is left out.
#[expect(clippy::cast_precision_loss, reason = "rates for a plot")]
fn thinned(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(OVER_TIME_MAX).max(1);
    if points.len() > 2 {
        points.truncate((points.len() - 1) / together * together);
    }
    let mean = |chunk: &[(f64, f64)]| {
        let sum: f64 = chunk.iter().map(|(_, rate)| rate).sum();
        (chunk[0].0, sum / chunk.len() as f64)
    };
    points.chunks(together).map(mean).collect()
}

fn stages(figures: &Figures) -> String {
    if figures.stages.is_empty() {
        return "<p>The cost was not told apart.</p>\n".into();
    }
    let of = |stage| figures.us_per_command(stage);
    let bars = figures
        .stages
        .iter()
        .map(|stage| (stage.name.clone(), of(stage)));
    let total: f64 = figures.stages.iter().map(of).sum();
    let desc = format!("{} a command over all stages.", micros(total));
    Bars {
        title: "Processor time by stage",
        desc: &desc,
        unit: "µs of processor time a command",
        bars: bars.collect(),
    }
    .svg()
}

fn all_figures(figures: &Figures) -> String {
    let mut rows = vec![
        vec!["commands".into(), ui::count(figures.commands())],
        vec!["seconds".into(), format!("{:.3}", figures.seconds)],
        vec![
            "processor seconds".into(),
            format!("{:.3}", figures.cpu_seconds),
        ],
        vec!["peak memory".into(), bytes(figures.peak_rss_bytes)],
    ];
    let single = figures.more.iter().filter(|(_, value)| !value.is_object());
    rows.extend(single.map(|(name, value)| vec![sentence(name), text(value)]));
    for stage in &figures.stages {
        let cost = format!(
            "{:.3} s, {:.3} µs a command",
            stage.cpu_seconds,
            figures.us_per_command(stage)
        );
        rows.push(vec![format!("processor time of {}", stage.name), cost]);
    }
    table(&["figure", "value"], &rows)
}

/// An object by field; objects of objects have a column for each field of theirs.
fn fields_table(fields: &Map<String, Value>) -> String {
    let inner = fields.values().find_map(Value::as_object);
    let Some(inner) = inner else {
        let rows: Vec<_> = fields
            .iter()
            .map(|(name, value)| vec![sentence(name), text(value)])
            .collect();
        return table(&["name", "value"], &rows);
    };
    let names: Vec<String> = inner.keys().map(|name| sentence(name)).collect();
    let mut head = vec!["name"];
    head.extend(names.iter().map(String::as_str));
    let row = |(name, value): (&String, &Value)| {
        let cells = inner
            .keys()
            .map(|field| value.get(field).map_or_else(String::new, text));
        [sentence(name)].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = fields.iter().map(row).collect();
    table(&head, &rows)
}

fn section(body: &mut String, title: &str, content: &str) {
    let title = escaped(title);
    let _ = write!(body, "<section>\n<h2>{title}</h2>\n{content}</section>\n");
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    for cell in head {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escaped(cell));
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        html += "<tr>";
        for (index, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let _ = match index {
                0 => write!(html, "<th scope=\"row\">{cell}</th>"),
                _ => write!(html, "<td>{cell}</td>"),
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n"
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => ui::count(whole),
            (None, Some(part)) => rounded(part).to_string(),
            _ => number.to_string(),
        },
        value => value.to_string(),
    }
}

fn sentence(name: &str) -> String {
    name.replace('_', " ")
}

/// Such as `850 ns`, `2.31 µs`, `14.2 ms`, `1.2 s`.
fn micros(micros: f64) -> String {
    let (value, unit) = match micros {
        _ if micros < 1.0 => (micros * 1e3, "ns"),
        _ if micros < 1e3 => (micros, "µs"),
        _ if micros < 1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Such as `3.4 M`.
fn short(number: f64) -> String {
    let (value, unit) = match number {
        _ if number < 1e3 => (number, ""),
        _ if number < 1e6 => (number / 1e3, " k"),
        _ if number < 1e9 => (number / 1e6, " M"),
        _ => (number / 1e9, " G"),
    };
    format!("{}{unit}", digits(value))
}

/// Three of them, without zeros at the end.
fn digits(value: f64) -> String {
    let places = match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib {
        _ if mib < 1024.0 => format!("{} MiB", digits(mib)),
        _ => format!("{} GiB", digits(mib / 1024.0)),
    }
}

/// Text for an element or an attribute. Control characters have no place in either.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ if character.is_control() => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
