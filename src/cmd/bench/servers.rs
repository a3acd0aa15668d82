//! What benches on servers share: settings, callers, progress, interruption.

use std::time::Duration;

use anyhow::Result;
use axs::core::{
    bench::{Workload, callers::Load},
    config::Settings,
    testbed::fleet::Size,
};

use super::{
    super::{flags, service, ui},
    Common, Ctx, Shape,
};

/// The services of most benches.
pub const ONE_OF_EACH: Size = Size {
    servers: 1,
    consumers: 1,
    outboxes: 1,
};

/// Who sends, and what.
#[derive(clap::Args)]
pub struct Callers {
    /// How commands spread: uniform, zipf (exponent 1.0), hot (one account), or multi (four changes)
    #[arg(long, value_name = "SHAPE", default_value_t = Shape::Uniform)]
    pub shape: Shape,
    /// How many accounts there are
    #[arg(long, value_name = "COUNT", default_value_t = 50,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub accounts: u64,
    /// Independent callers, each with one call at a time
    #[arg(long, value_name = "COUNT", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub callers: u32,
    /// Commands of a call
    #[arg(long, value_name = "COUNT", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub batch: u32,
    /// Commands a second of all callers, at fixed times [default: as fast as they are answered]
    #[arg(long, value_name = "COUNT", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000), hide_default_value = true)]
    pub rate: u32,
    /// How long callers send
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
}

impl Callers {
    pub fn load(&self, common: &Common) -> Load {
        Load {
            workload: Workload {
                shape: self.shape,
                accounts: match self.shape {
                    Shape::Hot => 1,
                    _ => self.accounts,
                },
                duplicates_percent: common.duplicates,
                seed: common.seed,
            },
            callers: self.callers,
            batch: self.batch,
            rate: f64::from(self.rate),
            duration: Duration::from_secs(self.seconds),
        }
    }
}

/// The settings of the servers to measure on.
pub fn settings(to: &flags::Servers, ctx: &Ctx) -> Result<Settings> {
    let settings = ctx.settings(to.settings())?.settings;
    if settings.postgres.url.is_none() {
        return Err(service::missing("postgres.url", "--postgres-url").into());
    }
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    Ok(settings)
}

/// Progress on stderr.
pub struct Told<'a> {
    ctx: &'a Ctx,
    phase: &'static str,
    bar: Option<ui::Progress>,
}

impl<'a> Told<'a> {
    pub fn new(ctx: &'a Ctx) -> Self {
        Self {
            ctx,
            phase: "",
            bar: None,
        }
    }

    pub fn tell(&mut self, phase: &'static str, steps: u64) {
        if self.phase != phase {
            self.phase = phase;
            self.bar = None;
            self.ctx.ui.note(phase);
        }
        let bar = self
            .bar
            .get_or_insert_with(|| self.ctx.ui.progress("commands", None));
        bar.add(steps);
    }
}
