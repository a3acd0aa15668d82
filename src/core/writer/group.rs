//! A group of commands that share one statement: which commands it takes, where each goes, and what
//! the store's answer means for each. Pure: `task` does the I/O around it.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use tokio::{sync::oneshot, time::Instant};

use super::{Answer, gate::Permit, numbers::Numbers, routes::Routes};
use crate::core::{
    command::{Command, CommandKind},
    store::{self, AcceptAnswer, AcceptGroup, AcceptItem, AcceptedGroup},
    types::{AccountId, CommandId, Nonce, ShardId, Timestamp},
};

/// A command that waits for its statement.
#[derive(Debug)]
pub(in crate::core) struct Pending {
    pub item: AcceptItem,
    pub caller: Caller,
}

/// Who waits for a command, and what was tried with it.
#[derive(Debug)]
pub(in crate::core) struct Caller {
    pub answer: oneshot::Sender<Answer>,
    pub submitted: Instant,
    /// Ids under which it may have been stored: the answers of those statements were lost.
    pub sent: Vec<CommandId>,
    /// The same key again: answered from this one's answer.
    pub followers: Vec<Pending>,
    /// Its account cannot take it: what to answer if the key is not known.
    pub verdict: Option<Answer>,
    /// Where it goes.
    pub shard: Option<ShardId>,
    /// The block of its number.
    pub nonce: Option<Nonce>,
    /// Its place in the inbox.
    pub permit: Permit,
}

/// Commands of one statement; `accept.items` and `callers` are parallel.
#[derive(Debug)]
pub(in crate::core) struct Group {
    pub accept: AcceptGroup,
    pub callers: Vec<Caller>,
    /// The routes of its accounts; who is not in here has none.
    pub routes: HashMap<AccountId, ShardId>,
    /// Statements that did not settle it.
    pub attempts: u32,
}

/// What a statement's answer means.
#[derive(Debug, Default)]
pub(in crate::core) struct Settled {
    /// To tell.
    pub answered: Vec<(Caller, Answer)>,
    /// Stored by us, with id and time, in the order of acceptance: to append to the log.
    pub stored: Vec<Command>,
    /// To send again at once: their account is in another shard than we thought.
    pub again: Vec<Pending>,
    /// To take into the next group, before everything else.
    pub requeued: Vec<Pending>,
}

/// What an error of the store means for a group.
#[derive(Debug)]
pub(in crate::core) enum Next {
    /// The data itself is refused: each half alone.
    Halves(Group, Group),
    /// Nothing is left to halve: the command cannot be stored.
    Refused(Group, String),
    /// Send it again at once, with other numbers.
    Again(Group),
    /// It may have been stored: close its blocks first, then send it again.
    CloseThenAgain(Group, String),
    /// Nothing was done: wait, then send it again.
    Later(Group, String),
    /// Tell the callers that the outcome is unknown.
    GiveUp(Group, String),
}

/// Limits of one group.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Limits {
    pub count_max: usize,
    pub bytes_max: usize,
    /// Commands looked at, so that many deferred ones cost a bounded time.
    pub scan_max: usize,
}

impl Group {
    pub fn new(pending: Vec<Pending>) -> Self {
        let (items, callers) = pending.into_iter().map(|p| (p.item, p.caller)).unzip();
        let accept = AcceptGroup {
            blocks: Vec::new(),
            items,
        };
        Self {
            accept,
            callers,
            routes: HashMap::new(),
            attempts: 0,
        }
    }

    /// Takes commands from the front of `queue`. A key stands in a group once: the same key again
    /// follows the first. What must not overtake a command that stays in the queue, or that needs
    /// the route which an OPEN_ACCOUNT of this group makes, stays there too, in its order.
    pub fn select(queue: &mut VecDeque<Pending>, routes: &Routes, limits: Limits) -> Self {
        let mut taken: Vec<Pending> = Vec::new();
        let mut by_key = HashMap::new();
        let mut held: HashSet<AccountId> = HashSet::new();
        let mut left = Vec::new();
        let mut bytes = 0;
        for _ in 0..limits.scan_max {
            let Some(pending) = queue.pop_front() else {
                break;
            };
            let command = &pending.item.command;
            let accounts = command.accounts();
            let first = by_key.get(&pending.item.key_hash).copied();
            let first: Option<&mut Pending> = first.map(|first: usize| &mut taken[first]);
            let same_body = first
                .as_ref()
                .is_some_and(|first| first.item.command.content_hash == command.content_hash);
            if !same_body && accounts.iter().any(|account| held.contains(account)) {
                held.extend(accounts);
                left.push(pending);
                continue;
            }
            if let Some(first) = first {
                if !same_body {
                    held.extend(accounts);
                }
                first.caller.followers.push(pending);
                continue;
            }
            bytes += pending.caller.permit.bytes();
            if taken.len() == limits.count_max || (bytes > limits.bytes_max && !taken.is_empty()) {
                queue.push_front(pending);
                break;
            }
            if command.kind == CommandKind::OpenAccount && routes.get(command.account).is_none() {
                held.insert(command.account);
            }
            by_key.insert(pending.item.key_hash, taken.len());
            taken.push(pending);
        }
        for pending in left.into_iter().rev() {
            queue.push_front(pending);
        }
        Self::new(taken)
    }

    /// Notes the routes known here and returns the accounts to ask the store for. OPEN_ACCOUNT does
    /// not need that of its own.
    pub fn unknown_accounts(&mut self, routes: &Routes) -> Vec<AccountId> {
        let mut unknown = Vec::new();
        let mut seen = HashSet::new();
        for item in &self.accept.items {
            let command = &item.command;
            for account in command.accounts() {
                if !seen.insert(account) {
                    continue;
                }
                if let Some(shard) = routes.get(account) {
                    self.routes.insert(account, shard);
                } else {
                    unknown.push(account);
                }
            }
        }
        let needed: HashSet<_> = self.accept.items.iter().flat_map(needed_accounts).collect();
        unknown.retain(|account| needed.contains(account));
        unknown
    }

    /// Decides each command's shard, or the verdict on it; returns how many numbers each shard
    /// needs.
    pub fn place(&mut self, shards: u16) -> Vec<(ShardId, u64)> {
        let mut needs: HashMap<ShardId, u64> = HashMap::new();
        for (item, caller) in self.accept.items.iter().zip(&mut self.callers) {
            (caller.shard, caller.verdict) = match shard_of(&item.command, &self.routes, shards) {
                Ok(shard) => {
                    *needs.entry(shard).or_default() += 1;
                    (Some(shard), None)
                }
                Err(verdict) => (None, Some(verdict)),
            };
        }
        let mut needs: Vec<_> = needs.into_iter().collect();
        needs.sort_unstable();
        needs
    }

    /// Gives each command that may be stored its id. Every shard has the numbers it needs.
    pub fn number(&mut self, numbers: &mut Numbers) {
        let mut blocks = Vec::new();
        for (item, caller) in self.accept.items.iter_mut().zip(&mut self.callers) {
            let number = caller
                .shard
                .map(|shard| numbers.take(shard).expect("the shortage was leased"));
            item.command.id = number.map(|(id, _)| id);
            caller.nonce = number.map(|(_, nonce)| nonce);
            if let Some((id, nonce)) = number
                && !blocks.contains(&(id.shard(), nonce))
            {
                blocks.push((id.shard(), nonce));
            }
        }
        self.accept.blocks = blocks;
    }

    /// The statement did nothing: its numbers are free again.
    pub fn take_numbers_back(&mut self, numbers: &mut Numbers) {
        for (item, caller) in self.accept.items.iter_mut().zip(&mut self.callers) {
            if let (Some(id), Some(nonce)) = (item.command.id.take(), caller.nonce.take()) {
                numbers.give_back(id, nonce);
            }
        }
    }

    /// The statement's answer was lost: what was sent is remembered, its blocks are never used
    /// again and to be closed.
    pub fn answer_lost(&mut self, numbers: &mut Numbers) {
        for (item, caller) in self.accept.items.iter_mut().zip(&mut self.callers) {
            caller.sent.extend(item.command.id.take());
            caller.nonce = None;
        }
        let nonces: Vec<_> = self.accept.blocks.iter().map(|(_, nonce)| *nonce).collect();
        numbers.abandon(&nonces);
    }

    /// Two groups with the first and the second half; `None` for a command that stands alone.
    pub fn halve(mut self) -> Result<(Self, Self), Self> {
        let half = self.callers.len() / 2;
        if half == 0 {
            return Err(self);
        }
        let second = Self {
            accept: AcceptGroup {
                blocks: Vec::new(),
                items: self.accept.items.split_off(half),
            },
            callers: self.callers.split_off(half),
            routes: self.routes.clone(),
            attempts: self.attempts,
        };
        Ok((self, second))
    }

    /// What an error means, and what becomes of the numbers.
    pub fn after(mut self, error: store::Error, numbers: &mut Numbers) -> Next {
        match error {
            store::Error::Refused(why) => {
                self.take_numbers_back(numbers);
                match self.halve() {
                    Ok((first, second)) => Next::Halves(first, second),
                    Err(alone) => Next::Refused(alone, why),
                }
            }
            store::Error::BlockClosed(shard) => {
                numbers.abandon_shard(shard);
                self.take_numbers_back(numbers);
                Next::Again(self)
            }
            store::Error::NumberTaken(id) => {
                numbers.abandon_shard(id.shard());
                self.take_numbers_back(numbers);
                Next::Again(self)
            }
            store::Error::AnswerLost(why) => {
                self.answer_lost(numbers);
                Next::CloseThenAgain(self, why)
            }
            store::Error::Unavailable(why) => {
                self.take_numbers_back(numbers);
                Next::Later(self, why)
            }
            error @ (store::Error::Fenced(_)
            | store::Error::Conflict(_)
            | store::Error::Mismatch(_)) => {
                self.take_numbers_back(numbers);
                Next::GiveUp(self, error.to_string())
            }
        }
    }

    /// Ids of ours that an execution with a lost answer has stored, by this statement's answer.
    pub fn found(&self, accepted: &AcceptedGroup) -> Vec<CommandId> {
        let answers = accepted.answers.iter().zip(&self.callers);
        answers
            .filter_map(|(answer, caller)| match answer {
                AcceptAnswer::Duplicate(id) if caller.sent.contains(id) => Some(*id),
                _ => None,
            })
            .collect()
    }

    /// Reads the store's answer. `found_at`: the stored `accepted_at` of the ids of
    /// [`Group::found`]; one that is missing is left to the outbox.
    pub fn settle(
        self,
        accepted: &AcceptedGroup,
        found_at: &HashMap<CommandId, Timestamp>,
        routes: &Routes,
        numbers: &mut Numbers,
    ) -> Settled {
        assert_eq!(
            accepted.answers.len(),
            self.callers.len(),
            "an answer for each item"
        );
        let mut settled = Settled::default();
        let items = self.accept.items.into_iter().zip(self.callers);
        for ((mut item, mut caller), answer) in items.zip(&accepted.answers) {
            let number = item.command.id.zip(caller.nonce.take());
            if let (Some((id, nonce)), false) = (number, *answer == AcceptAnswer::Accepted) {
                numbers.give_back(id, nonce);
            }
            let answer = match *answer {
                AcceptAnswer::Accepted => {
                    let id = item.command.id.expect("only an item with an id is stored");
                    if item.command.kind == CommandKind::OpenAccount {
                        routes.learn(item.command.account, id.shard());
                    }
                    settled.store(&mut item, id, Some(accepted.accepted_at))
                }
                AcceptAnswer::Duplicate(id) if caller.sent.contains(&id) => {
                    settled.store(&mut item, id, found_at.get(&id).copied())
                }
                AcceptAnswer::Duplicate(id) => Answer::Duplicate(id),
                AcceptAnswer::Conflict(id) => Answer::Conflict(id),
                AcceptAnswer::Routed(shard) => {
                    routes.learn(item.command.account, shard);
                    item.command.id = None;
                    settled.again.push(Pending { item, caller });
                    continue;
                }
                AcceptAnswer::KeyUnknown => caller
                    .verdict
                    .take()
                    .expect("an item without an id has a verdict"),
            };
            settled.answer(&item, caller, answer);
        }
        settled
    }

    /// Tells everyone the same.
    pub fn fail(self, answer: &Answer) -> Settled {
        let mut settled = Settled::default();
        for (item, caller) in self.accept.items.iter().zip(self.callers) {
            settled.answer(item, caller, answer.clone());
        }
        settled
    }
}

impl Settled {
    fn store(&mut self, item: &mut AcceptItem, id: CommandId, at: Option<Timestamp>) -> Answer {
        if let Some(accepted_at) = at {
            // The content hash stays: the answers to followers compare it.
            let mut command = item.command.clone();
            command.id = Some(id);
            command.accepted_at = accepted_at;
            self.stored.push(command);
        }
        Answer::Accepted(id)
    }

    fn answer(&mut self, first: &AcceptItem, mut caller: Caller, answer: Answer) {
        for follower in std::mem::take(&mut caller.followers) {
            let same = follower.item.command.content_hash == first.command.content_hash;
            match (&answer, same) {
                (Answer::Accepted(id) | Answer::Duplicate(id), true) => {
                    self.answered
                        .push((follower.caller, Answer::Duplicate(*id)));
                }
                (Answer::Accepted(id) | Answer::Duplicate(id), false) => {
                    self.answered.push((follower.caller, Answer::Conflict(*id)));
                }
                (_, true) => self.answered.push((follower.caller, answer.clone())),
                (_, false) => self.requeued.push(follower),
            }
        }
        self.answered.push((caller, answer));
    }
}

/// The accounts whose route decides.
fn needed_accounts(item: &AcceptItem) -> Vec<AccountId> {
    let mut accounts = item.command.accounts();
    if item.command.kind == CommandKind::OpenAccount {
        accounts.remove(0);
    }
    accounts
}

/// The shard that takes a command, or why none does: an account that has no route first, then
/// accounts in other shards.
fn shard_of(
    command: &Command,
    routes: &HashMap<AccountId, ShardId>,
    shards: u16,
) -> Result<ShardId, Answer> {
    let assigned = || {
        let default = command.account.default_shard(shards);
        let opens = command.kind == CommandKind::OpenAccount;
        opens.then(|| command.pin.unwrap_or(default))
    };
    let own = routes
        .get(&command.account)
        .copied()
        .or_else(assigned)
        .ok_or(Answer::AccountNotFound(command.account))?;
    let mut stranger = None;
    for account in command.accounts().split_off(1) {
        match routes.get(&account) {
            None => return Err(Answer::AccountNotFound(account)),
            Some(&shard) if shard != own => stranger = stranger.or(Some(account)),
            Some(_) => {}
        }
    }
    if let Some(pin) = command.pin.filter(|pin| *pin != own) {
        return Err(Answer::PinnedElsewhere { pin, shard: own });
    }
    match stranger {
        None => Ok(own),
        Some(_) if command.kind == CommandKind::Transfer => Err(Answer::TransferBetweenShards),
        Some(account) => Err(Answer::AccountInOtherShard(account)),
    }
}

#[cfg(test)]
mod tests;
