//! What the leaders say of their flushes on their metrics page, for the figures of a run.

use serde_json::{Map, Value, json};

use super::{Cluster, rounded};

/// What the leaders' metrics say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    flushes: f64,
    flush_seconds: f64,
    commands: f64,
    snapshots_dropped: f64,
}

impl Pages {
    /// Of the process that leads.
    pub async fn of(cluster: &Cluster) -> Self {
        let service = cluster.fleet.take(0).await;
        let page = service.page("/metrics").await.unwrap_or_default();
        let sum = |name: &str, field: &str| -> f64 {
            let of_name = page.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?.strip_prefix(field)?;
                rest.starts_with(['{', ' '])
                    .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
            });
            of_name.sum()
        };
        Self {
            flushes: sum("axs_flush_commands", "_count"),
            flush_seconds: sum("axs_flush_seconds", "_sum"),
            commands: sum("axs_flush_commands", "_sum"),
            snapshots_dropped: sum("axs_cache_snapshots_dropped_total", ""),
        }
    }

    /// What came since an earlier look.
    pub fn since(self, before: &Self) -> Self {
        Self {
            flushes: self.flushes - before.flushes,
            flush_seconds: self.flush_seconds - before.flush_seconds,
            commands: self.commands - before.commands,
            snapshots_dropped: self.snapshots_dropped - before.snapshots_dropped,
        }
    }

    /// As figures.
    pub fn to_json(self) -> Map<String, Value> {
        let flushes = self.flushes.max(1.0);
        let fields = [
            ("flushes", json!(self.flushes)),
            (
                "commands_per_flush",
                json!(rounded(self.commands / flushes)),
            ),
            (
                "flush_milliseconds",
                json!(rounded(self.flush_seconds * 1e3 / flushes)),
            ),
            ("snapshots_dropped", json!(self.snapshots_dropped)),
        ];
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }
}
