//! One of the two stores. Times of its own clock differ from the other's: they are told by the
//! group of commands that they belong to, so that answers can be compared.

use std::{collections::BTreeMap, time::Duration};

use axs::core::{
    store::{
        AcceptAnswer, AcceptGroup, AccountBalances, Error, Flush, Flushed, OutboxView, ShardRow,
        ShardState, Store, StoredCommand,
    },
    types::{AccountId, CommandId, Nonce, ShardId, Timestamp},
};

/// Of the outbox views.
const MARGIN: Duration = Duration::from_secs(6);
const MARGIN_MICROS: i64 = 6_000_000;

/// A store and its times.
pub struct Side {
    pub store: Store,
    /// `accepted_at` of each group.
    groups: Vec<Timestamp>,
    /// The label of each of them.
    labels: BTreeMap<Timestamp, i64>,
}

impl Side {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            groups: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The time that a label stands for: `4 × group + 1` is its acceptance, the two numbers around
    /// it a microsecond less and more; 0 is the beginning.
    fn time(&self, label: i64) -> Timestamp {
        let group = usize::try_from(label / 4).expect("labels are not below 0");
        match (label, self.groups.get(group)) {
            (0, _) => Timestamp(0),
            (_, Some(at)) => at.plus_micros(label % 4 - 2 + MARGIN_MICROS),
            (_, None) => panic!("label {label} is of no group"),
        }
    }

    /// The label of a TICK's time, as a time.
    fn tick_label(&self, at: Timestamp) -> Timestamp {
        if at == Timestamp(0) {
            return at;
        }
        let near = |delta: i64| {
            let label = self.labels.get(&at.plus_micros(-MARGIN_MICROS - delta))?;
            Some(Timestamp(label + delta))
        };
        let label = near(0).or_else(|| near(-1)).or_else(|| near(1));
        label.unwrap_or_else(|| panic!("{at} was told to no store"))
    }

    fn accepted_label(&self, at: Timestamp) -> Timestamp {
        Timestamp(self.labels[&at])
    }

    pub async fn accept(&mut self, group: &AcceptGroup) -> Result<Vec<AcceptAnswer>, Error> {
        let accepted = self.store.accept(group).await?;
        let label = 4 * i64::try_from(self.groups.len()).expect("few groups") + 2;
        self.labels.insert(accepted.accepted_at, label);
        self.groups.push(accepted.accepted_at);
        Ok(accepted.answers)
    }

    /// How many groups were accepted.
    pub fn groups(&self) -> u64 {
        self.groups.len() as u64
    }

    /// With the label of the last TICK as its time.
    pub async fn acquire(
        &self,
        shard: ShardId,
        mine: Option<Nonce>,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Option<ShardState>, Error> {
        let state = self
            .store
            .acquire(shard, "leader", mine, nonce, ttl)
            .await?;
        Ok(state.map(|mut state| {
            state.passed_at = self.tick_label(state.passed_at);
            state
        }))
    }

    /// The flush's `passed_at` is a label.
    pub async fn flush(&self, flush: &Flush, ttl: Duration) -> Result<Flushed, Error> {
        let mut flush = flush.clone();
        flush.passed_at = self.time(flush.passed_at.0);
        self.store.flush(&flush.into(), ttl).await
    }

    /// With labels, without the time left.
    pub async fn rows(&self) -> Result<Vec<ShardRow>, Error> {
        let mut rows = self.store.shard_rows().await?;
        for row in &mut rows {
            row.passed_at = self.tick_label(row.passed_at);
            // Only whether it runs.
            row.lease_left = Duration::from_secs(u64::from(row.lease_left > Duration::ZERO));
        }
        Ok(rows)
    }

    pub async fn commands(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredCommand>>, Error> {
        let mut commands = self.store.commands(ids).await?;
        for stored in commands.iter_mut().flatten() {
            stored.command.accepted_at = self.accepted_label(stored.command.accepted_at);
        }
        Ok(commands)
    }

    pub async fn balances(
        &self,
        account: AccountId,
    ) -> Result<Vec<Option<AccountBalances>>, Error> {
        let mut all = self.store.balances(&[account]).await?;
        for balances in all.iter_mut().flatten() {
            balances.as_of = Timestamp(0);
        }
        Ok(all)
    }

    /// With labels; ranges of numbers that touch are one.
    pub async fn outbox_view(&self, shard: ShardId, limit: usize) -> Result<OutboxView, Error> {
        let mut view = self.store.outbox_view(shard, MARGIN, limit).await?;
        view.now = Timestamp(0);
        view.wal_position = 0;
        view.passed_at = self.tick_label(view.passed_at);
        view.oldest_pending_at = view.oldest_pending_at.map(|at| self.accepted_label(at));
        for command in &mut view.pending {
            command.accepted_at = self.accepted_label(command.accepted_at);
        }
        let mut sealable = axs::core::interval_set::IntervalSet::new();
        for (first, last) in &view.sealable {
            sealable.insert_range(first.0, last.0);
        }
        let ranges = sealable.iter();
        view.sealable = ranges
            .map(|(first, last)| {
                (
                    axs::core::types::Sequence(first),
                    axs::core::types::Sequence(last),
                )
            })
            .collect();
        Ok(view)
    }
}
