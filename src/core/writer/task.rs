//! The task that owns acceptance: one statement at a time, its retries, and what is done while the
//! store is away. Every retry is bounded; what a group does is planned in `group`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hashbrown::HashMap;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Answer,
    blocks::Blocks,
    gate::Gate,
    group::{Group, Limits, Next, Pending, Settled},
    publish::Publisher,
    routes::Routes,
};
use crate::core::{
    config,
    store::{self, AcceptedGroup, Store},
    types::{CommandId, ShardId, Timestamp},
};

/// Most bytes of commands in one statement.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most commands looked at for one group, in groups.
const SCAN_GROUPS: usize = 4;
/// Statements sent for one group before its callers are told that the outcome is unknown.
pub(super) const ATTEMPTS_MAX: u32 = 4;
/// A store that is away for so long is not tried again for the same group: callers are told soon.
const AWAY_MAX: Duration = Duration::from_millis(500);
/// Wait before the second attempt; doubles with each.
pub(super) const BACKOFF: Duration = Duration::from_millis(25);
/// Longest wait between two looks whether the store is back.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Where commands come from.
pub(super) struct Inbox {
    pub receiver: mpsc::UnboundedReceiver<Vec<Pending>>,
    pub stop: CancellationToken,
    pub gate: Arc<Gate>,
}

/// The owner of acceptance.
pub(super) struct Task {
    store: Store,
    publisher: Publisher,
    inbox: Inbox,
    routes: Routes,
    shards: u16,
    limits: Limits,
    blocks: Blocks,
    queue: VecDeque<Pending>,
    /// When the group under way was begun.
    begun_at: Instant,
}

/// How a statement went.
enum Round {
    Settled(Settled),
    Again(Group),
    Halves(Group, Group),
}

impl Task {
    pub fn new(
        store: Store,
        publisher: Publisher,
        inbox: Inbox,
        settings: &config::Writer,
        shards: u16,
        routes: Routes,
    ) -> Self {
        let count_max = settings.group_count_max.max(1);
        let blocks = Blocks::new(store.clone(), settings.block_size);
        Self {
            store,
            publisher,
            inbox,
            routes,
            shards,
            limits: Limits {
                count_max,
                bytes_max: GROUP_BYTES_MAX,
                scan_max: count_max * SCAN_GROUPS,
            },
            blocks,
            queue: VecDeque::new(),
            begun_at: Instant::now(),
        }
    }

    /// Runs until the inbox is closed and empty.
    pub async fn run(mut self) {
        while self.receive().await {
            self.blocks.numbers.retire(Instant::now());
            self.blocks.close().await;
            let group = Group::select(&mut self.queue, &self.routes, self.limits);
            metrics::histogram!("axs_accept_group_commands").record(group.callers.len() as f64);
            metrics::gauge!("axs_accept_inbox_commands").set(self.inbox.gate.count() as f64);
            metrics::gauge!("axs_accept_appends_in_flight").set(self.inbox.gate.appends() as f64);
            self.commit(group).await;
            if self.inbox.gate.store_is_away() {
                self.wait_for_store().await;
            }
        }
        self.blocks.numbers.abandon_all();
        self.blocks.close().await;
    }

    /// Waits for commands, then takes all that are there. False: there will be none.
    async fn receive(&mut self) -> bool {
        while self.queue.is_empty() {
            match self.inbox.next().await {
                Some(batch) => self.queue.extend(batch),
                None => return false,
            }
        }
        while let Ok(batch) = self.inbox.receiver.try_recv() {
            self.queue.extend(batch);
        }
        true
    }

    /// Settles a group: with its retries, its halves, and what it sends again.
    async fn commit(&mut self, group: Group) {
        // The next group is on top. Each statement settles its group, halves it or counts against
        // its attempts, so that this ends.
        let mut work = vec![group];
        self.begun_at = Instant::now();
        while let Some(group) = work.pop() {
            let attempts = group.attempts + 1;
            match self.round(group).await {
                Round::Settled(mut settled) => {
                    let again = std::mem::take(&mut settled.again);
                    self.deliver(settled).await;
                    if !again.is_empty() {
                        work.push(Group {
                            attempts,
                            ..Group::new(again)
                        });
                    }
                }
                Round::Again(group) => work.push(Group { attempts, ..group }),
                Round::Halves(first, second) => work.extend([second, first]),
            }
        }
    }

    /// One statement.
    async fn round(&mut self, mut group: Group) -> Round {
        if group.attempts >= ATTEMPTS_MAX {
            let text = "it did not succeed in several attempts; send the same key again";
            return Round::Settled(group.fail(&Answer::Unavailable(text.into())));
        }
        if self.inbox.gate.store_is_away() {
            let text = "the store is not reachable; send the same key again";
            return Round::Settled(group.fail(&Answer::Unavailable(text.into())));
        }
        let shards = match self.prepare(&mut group).await {
            Ok(shards) => shards,
            // Nothing was sent, whatever it is.
            Err(error) => {
                let error = store::Error::Unavailable(error.to_string());
                return self.trouble(group, error).await;
            }
        };
        // The next blocks are leased meanwhile, before these run out.
        let sent_at = Instant::now();
        let (accepted, leased) = tokio::join!(
            self.store.accept(&group.accept),
            self.blocks.lease_next(&shards)
        );
        metrics::histogram!("axs_accept_seconds").record(sent_at.elapsed());
        if let Err(error) = self.blocks.add(leased) {
            tracing::debug!(%error, "the next block was not leased; it is tried again when needed");
        }
        match accepted {
            Ok(accepted) => {
                let found_at = self.found(&group, &accepted).await;
                let (routes, numbers) = (&self.routes, &mut self.blocks.numbers);
                Round::Settled(group.settle(&accepted, &found_at, routes, numbers))
            }
            Err(error) => self.trouble(group, error).await,
        }
    }

    /// Routes, shards and numbers of a group; returns the shards that it touches.
    async fn prepare(&mut self, group: &mut Group) -> Result<Vec<ShardId>, store::Error> {
        let unknown = group.unknown_accounts(&self.routes);
        if !unknown.is_empty() {
            let found = self.store.routes(&unknown).await?;
            for (account, shard) in unknown.into_iter().zip(found) {
                if let Some(shard) = shard {
                    self.routes.learn(account, shard);
                    group.routes.insert(account, shard);
                }
            }
        }
        let needs = group.place(self.shards);
        self.blocks.lease_missing(&needs).await?;
        group.number(&mut self.blocks.numbers);
        Ok(needs.into_iter().map(|(shard, _)| shard).collect())
    }

    /// When the store took what an execution with a lost answer has stored. What cannot be read is
    /// accepted all the same, and left to the outbox.
    async fn found(
        &self,
        group: &Group,
        accepted: &AcceptedGroup,
    ) -> HashMap<CommandId, Timestamp> {
        let found = group.found(accepted);
        if found.is_empty() {
            return HashMap::new();
        }
        match self.store.commands(&found).await {
            Ok(stored) => found
                .into_iter()
                .zip(stored)
                .filter_map(|(id, stored)| Some((id, stored?.command.accepted_at)))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "stored commands were not read; the outbox sends them");
                HashMap::new()
            }
        }
    }

    /// What an error means for a group.
    async fn trouble(&mut self, group: Group, error: store::Error) -> Round {
        if let store::Error::NumberTaken(id) = &error {
            let id = id.0;
            tracing::error!(
                command.id = id,
                "a leased command id was in use already; its block is closed"
            );
            metrics::counter!("axs_accept_numbers_taken_total").increment(1);
        }
        match group.after(error, &mut self.blocks.numbers) {
            Next::Halves(first, second) => Round::Halves(first, second),
            Next::Refused(group, why) => {
                tracing::error!(error = why, "the store refuses a command");
                Round::Settled(group.fail(&Answer::Internal(why.into())))
            }
            Next::Again(group) => Round::Again(group),
            Next::CloseThenAgain(group, why) => {
                tracing::warn!(error = why, "an answer of the store was lost");
                // Closing waits for the execution under way and refuses a late one: only then may
                // other numbers be sent.
                if self.blocks.close().await {
                    Round::Again(group)
                } else {
                    self.give_up(group, &why)
                }
            }
            Next::Later(group, why) => {
                if group.attempts + 1 >= ATTEMPTS_MAX || self.begun_at.elapsed() >= AWAY_MAX {
                    return self.give_up(group, &why);
                }
                sleep(BACKOFF * 2_u32.pow(group.attempts)).await;
                Round::Again(group)
            }
            Next::GiveUp(group, why) => self.give_up(group, &why),
        }
    }

    /// The store is away: the callers are told, and all that come until it is back.
    fn give_up(&self, group: Group, why: &str) -> Round {
        tracing::warn!(
            error = why,
            "the store is away; commands are refused until it is back"
        );
        self.inbox.gate.set_store_away(true);
        Round::Settled(group.fail(&Answer::Unavailable(why.into())))
    }

    /// Answers everything at once until the store is back, or the writer ends.
    async fn wait_for_store(&mut self) {
        let mut pause = BACKOFF;
        loop {
            let waiting = self.queue.drain(..).collect();
            let text = "the store is not reachable; send the same key again";
            self.tell(
                Group::new(waiting)
                    .fail(&Answer::Unavailable(text.into()))
                    .answered,
            );
            tokio::select! {
                batch = self.inbox.next() => match batch {
                    Some(batch) => {
                        self.queue.extend(batch);
                        continue;
                    }
                    None => return,
                },
                () = sleep(pause) => {}
            }
            match self.store.shards().await {
                Ok(_) => break,
                Err(error) => tracing::debug!(%error, "the store is still away"),
            }
            pause = (pause * 2).min(PROBE_INTERVAL_MAX);
        }
        tracing::info!("the store is back");
        self.inbox.gate.set_store_away(false);
    }

    /// Appends what was stored and answers.
    async fn deliver(&mut self, settled: Settled) {
        for pending in settled.requeued.into_iter().rev() {
            self.queue.push_front(pending);
        }
        if !self.publisher.is_ledger() {
            self.tell(settled.answered);
            self.publisher.send(&settled.stored);
            return;
        }
        let appended = self.publisher.append(&settled.stored).await;
        let mut answered = settled.answered;
        if let Err(error) = appended {
            tracing::error!(%error, "the log file was not written: what was accepted is unknown");
            let unknown = Answer::Unavailable(error.to_string().into());
            for (_, answer) in &mut answered {
                if matches!(answer, Answer::Accepted(_) | Answer::Duplicate(_)) {
                    *answer = unknown.clone();
                }
            }
        }
        self.tell(answered);
    }

    fn tell(&self, answered: Vec<(super::group::Caller, Answer)>) {
        let mut counts = HashMap::new();
        let seconds = metrics::histogram!("axs_submit_seconds");
        for (caller, answer) in answered {
            *counts.entry(answer.label()).or_insert(0_u64) += 1;
            seconds.record(caller.submitted.elapsed());
            // Who went away does not want it.
            let _ = caller.answer.send(answer);
        }
        for (label, count) in counts {
            metrics::counter!("axs_accept_commands_total", "answer" => label).increment(count);
        }
    }
}

impl Inbox {
    /// The next commands; `None` when it is closed and empty. Cancel-safe.
    async fn next(&mut self) -> Option<Vec<Pending>> {
        tokio::select! {
            batch = self.receiver.recv() => return batch,
            () = self.stop.cancelled() => {}
        }
        // Harmless when it was closed before: what is in stays in.
        self.receiver.close();
        self.receiver.recv().await
    }
}
