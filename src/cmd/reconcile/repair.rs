//! What `--execute` would do, and doing it.

use anyhow::Result;
use axs::core::reconcile::{self, Repaired};
use axs::core::types::ShardId;

use super::{
    super::{Ctx, Exit, Failure, confirm::Execution, ui::count},
    Compared, Work, failure,
};

/// What can be derived again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Balance rows to make as the journal says, by shard.
    balances: Vec<(ShardId, usize)>,
    /// Snapshots to write to Redis again.
    snapshots: usize,
}

/// What was done of it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    pub shards: Vec<Repaired>,
    pub snapshots: usize,
}

impl Plan {
    pub fn of(compared: &Compared) -> Self {
        let shards = compared.shards.iter();
        let balances = shards.map(|it| (it.shard, it.repairs.len()));
        Self {
            balances: balances.filter(|(_, count)| *count > 0).collect(),
            snapshots: compared.caches.iter().map(|(_, it)| it.wrong.len()).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.balances.is_empty() && self.snapshots == 0
    }

    /// One sentence for each thing that would be done.
    pub fn show(&self, ctx: &Ctx) {
        for (shard, balances) in &self.balances {
            let balances = plural(*balances, "balance");
            ctx.ui.note(format!(
                "plan: pause shard {shard}, make {balances} as the journal says, resume it"
            ));
        }
        if self.snapshots > 0 {
            let snapshots = plural(self.snapshots, "account");
            ctx.ui
                .note(format!("plan: write {snapshots} to Redis again"));
        }
    }

    /// Asks, then does it. `None`: it was not asked for.
    pub async fn execute(
        &self,
        ctx: &Ctx,
        execution: &Execution,
        work: &Work<'_>,
        compared: &Compared,
    ) -> Result<Option<Done>> {
        if execution.execute && !self.balances.is_empty() && execution.reason.is_empty() {
            let message = "balances are repaired with a reason only";
            return Err(Failure::new(Exit::Usage, message)
                .hint("give it with --reason TEXT: it is kept in the table `audit`")
                .into());
        }
        if !execution.confirm(ctx, "Do it?").await? {
            return Ok(None);
        }
        let mut done = Done::default();
        for &(shard, _) in &self.balances {
            let (settings, act) = (&work.settings.postgres, execution.act());
            let repaired =
                reconcile::repair_balances(settings, work.store, work.assets, shard, &act).await;
            let repaired = repaired.map_err(failure)?;
            let balances = plural(repaired.balances, "balance");
            let state = if repaired.stays_paused {
                ", which stays paused"
            } else {
                ""
            };
            ctx.ui
                .note(format!("repaired {balances} of shard {shard}{state}"));
            done.shards.push(repaired);
        }
        if let Some(cache) = work.cache {
            for (shard, report) in compared
                .caches
                .iter()
                .filter(|(_, it)| !it.wrong.is_empty())
            {
                let written =
                    reconcile::repair_cache(work.store, cache, *shard, &report.wrong).await;
                done.snapshots += written.map_err(failure)?;
            }
            if done.snapshots > 0 {
                let snapshots = plural(done.snapshots, "account");
                ctx.ui.note(format!("wrote {snapshots} to Redis again"));
            }
        }
        Ok(Some(done))
    }
}

fn plural(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}
