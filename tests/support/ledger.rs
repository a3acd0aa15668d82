//! A writer and a leader as small as can be, for suites that talk to a store: they number commands
//! and make flushes that fit what is stored. They know no rules; a suite says what happened.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axs::core::{
    command::{Change, Command, CommandKind, Move, hash},
    engine::{Account, AccountStatus, Balance, Entry, Outcome, Reject},
    interval_set::IntervalSet,
    store::{
        AcceptAnswer, AcceptGroup, AcceptItem, AccountWrite, BalanceWrite, DeadLetter,
        DeadLetterReason, Error, Flush, Flushed, Reversal, SequenceBlock, ShardState, Store,
    },
    types::{
        AccountId, Anchor, AssetId, CommandId, ContentHash, Money, Nonce, Position, Sequence,
        ShardId, Timestamp,
    },
};

/// Longer than any test.
pub const TTL: Duration = Duration::from_secs(600);
/// Where the log's clock starts.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// A nonce that nothing else has.
pub fn nonce() -> Nonce {
    let random = getrandom::u64().expect("the system has random numbers");
    Nonce(i64::from_le_bytes(random.to_le_bytes()))
}

/// A command with its hashes, not yet numbered.
pub fn command(kind: CommandKind, account: u64, key: &str, changes: Vec<Change>) -> Command {
    rehashed(Command {
        id: None,
        content_hash: ContentHash([0; 16]),
        source: "orders".into(),
        idempotency_key: key.into(),
        account: AccountId(account),
        kind,
        changes: changes.into(),
        reference: format!("reference of {key}").into(),
        created_at: Some(Timestamp(1_690_000_000_000_001)),
        accepted_at: Timestamp(0),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    })
}

/// After a field was changed.
pub fn rehashed(mut command: Command) -> Command {
    command.content_hash = hash::content_hash(&command);
    command
}

/// OPEN_ACCOUNT for user 7.
pub fn open(account: u64) -> Command {
    let mut command = command(
        CommandKind::OpenAccount,
        account,
        &format!("open-{account}"),
        vec![],
    );
    command.user = 7;
    rehashed(command)
}

/// CHANGE of one balance.
pub fn change(account: u64, key: &str, asset: u32, available: i64, frozen: i64) -> Command {
    let change = Change {
        account: AccountId(account),
        primary: Move {
            asset: AssetId(asset),
            available_delta: Money::from(available),
            frozen_delta: Money::from(frozen),
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    };
    command(CommandKind::Change, account, key, vec![change])
}

/// One command as acceptance takes it.
pub fn item(command: Command) -> AcceptItem {
    AcceptItem {
        key_hash: hash::key_hash(&command.source, &command.idempotency_key),
        command,
    }
}

/// Gives numbers of leased blocks.
pub struct Writer<'a> {
    store: &'a Store,
    blocks: BTreeMap<ShardId, (SequenceBlock, u64)>,
}

impl<'a> Writer<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            blocks: BTreeMap::new(),
        }
    }

    /// The next number of a shard, of a block leased for it.
    pub async fn number(&mut self, shard: ShardId, mut command: Command) -> Command {
        if !self.blocks.contains_key(&shard) {
            let leased = self.store.lease_block(shard, nonce(), 100_000).await;
            let block = leased.expect("a block is leased");
            self.blocks.insert(shard, (block, block.first.0));
        }
        let (block, next) = self.blocks.get_mut(&shard).expect("just leased");
        assert!(
            *next <= block.last.0,
            "the block is large enough for a test"
        );
        command.id = Some(CommandId::new(shard, Sequence(*next)));
        *next += 1;
        command
    }

    /// The blocks in use, as a group names them.
    pub fn blocks(&self) -> Vec<(ShardId, Nonce)> {
        let open = self.blocks.iter();
        open.map(|(&shard, (block, _))| (shard, block.nonce))
            .collect()
    }

    /// Sends numbered commands as one group.
    pub async fn send(&self, commands: Vec<Command>) -> Result<Vec<AcceptAnswer>, Error> {
        let items = commands.into_iter().map(item).collect();
        let blocks = self.blocks();
        let group = self.store.accept(&AcceptGroup { blocks, items }).await?;
        Ok(group.answers)
    }

    /// Accepts commands that nothing speaks against; answers them as stored.
    pub async fn accept(&mut self, shard: ShardId, commands: Vec<Command>) -> Vec<Command> {
        let mut numbered = Vec::new();
        for command in commands {
            numbered.push(self.number(shard, command).await);
        }
        let items = numbered.iter().cloned().map(item).collect();
        let blocks = self.blocks();
        let group = AcceptGroup { blocks, items };
        let accepted = self
            .store
            .accept(&group)
            .await
            .expect("the group is accepted");
        for (command, answer) in numbered.iter_mut().zip(&accepted.answers) {
            assert_eq!(*answer, AcceptAnswer::Accepted, "{command:?}");
            command.accepted_at = accepted.accepted_at;
        }
        numbered
    }
}

/// Leads one shard and gathers the next flush.
pub struct Leader {
    /// The next flush. A test may spoil it.
    pub flush: Flush,
    /// As after `flush`.
    pub balances: BTreeMap<(AccountId, AssetId), Balance>,
    /// As before `flush`.
    flushed: BTreeMap<(AccountId, AssetId), u64>,
}

impl Leader {
    /// Takes a shard over that nobody leads.
    pub async fn acquire(store: &Store, shard: ShardId) -> Self {
        let acquired = store.acquire(shard, "leader", None, nonce(), TTL).await;
        let state = acquired.expect("the store answers");
        Self::of(&state.expect("nobody leads the shard"))
    }

    /// Of a take-over. Balances that stand must be put in by the test.
    pub fn of(state: &ShardState) -> Self {
        let flush = Flush {
            shard: state.shard,
            epoch: state.epoch,
            nonce: state.nonce,
            from: state.next_position,
            to: state.next_position,
            anchor: state.anchor.unwrap_or(Anchor([0; 16])),
            applied: IntervalSet::new(),
            passed_at: state.passed_at,
            applied_at: state.applied_at.max(START),
            previous_result: state.last_result,
            last_result: state.last_result,
            state_hash: state.state_hash,
            published_to: state.published_to,
            balances: vec![],
            accounts: vec![],
            outcomes: vec![],
            entries: vec![],
            labels: vec![],
            reversals: vec![],
            dead_letters: vec![],
        };
        Self {
            flush,
            balances: BTreeMap::new(),
            flushed: BTreeMap::new(),
        }
    }

    /// The position of the next record, which is consumed with it.
    pub fn consume(&mut self) -> Position {
        let position = self.flush.to;
        self.flush.to = position.next();
        let mut anchor = [0xA5; 16];
        anchor[..8].copy_from_slice(&position.0.to_le_bytes());
        self.flush.anchor = Anchor(anchor);
        self.flush.state_hash = self.flush.state_hash.wrapping_add(u128::MAX / 3 + 1);
        position
    }

    /// An outcome without entries.
    pub fn outcome(&mut self, command: &Command, reject: Option<Reject>) -> Position {
        let position = self.consume();
        let id = command.id.expect("a numbered command");
        self.flush.applied_at = self.flush.applied_at.plus_micros(1_000);
        self.flush.applied.insert(id.sequence().0);
        self.flush.last_result = position;
        self.flush.labels.push(command.label());
        self.flush.outcomes.push(Outcome {
            id,
            position,
            content_hash: command.content_hash,
            applied_at: self.flush.applied_at,
            account: command.account,
            kind: command.kind,
            reject: reject.map(Box::new),
            entries: 0,
        });
        position
    }

    /// The account is opened.
    pub fn open(&mut self, command: &Command) {
        self.outcome(command, None);
        self.flush.accounts.push(AccountWrite {
            account: Account {
                id: command.account,
                user: command.user,
                status: AccountStatus::Open,
                opened_at: self.flush.applied_at,
            },
            opens: true,
        });
        self.flush.accounts.sort_by_key(|write| write.account.id);
    }

    /// Every change of the command is applied as it says.
    pub fn apply(&mut self, command: &Command) {
        let position = self.outcome(command, None);
        let moves: Vec<_> = (command.changes.iter())
            .map(|change| (change.account, change.primary))
            .collect();
        self.entries(position, &moves);
    }

    /// Entries of the last outcome.
    pub fn entries(&mut self, position: Position, moves: &[(AccountId, Move)]) {
        let mut previous = BTreeMap::new();
        for (leg, (account, change)) in moves.iter().enumerate() {
            let key = (*account, change.asset);
            let balance = self.balances.entry(key).or_insert(Balance {
                account: *account,
                asset: change.asset,
                available: Money::ZERO,
                frozen: Money::ZERO,
                version: 0,
                last_position: Position::NONE,
            });
            let before = *previous.entry(key).or_insert(balance.last_position);
            self.flushed.entry(key).or_insert(balance.version);
            let add = |a: Money, b| a.checked_add(b).expect("small amounts");
            balance.available = add(balance.available, change.available_delta);
            balance.frozen = add(balance.frozen, change.frozen_delta);
            balance.version += 1;
            balance.last_position = position;
            self.flush.entries.push(Entry {
                leg: u16::try_from(leg).expect("few legs"),
                fallback: leg % 2 == 1,
                account: *account,
                asset: change.asset,
                available_delta: change.available_delta,
                frozen_delta: change.frozen_delta,
                available_after: balance.available,
                frozen_after: balance.frozen,
                version: balance.version,
                previous_position: before,
            });
        }
        let outcome = self
            .flush
            .outcomes
            .last_mut()
            .expect("entries follow their outcome");
        outcome.entries += u32::try_from(moves.len()).expect("few legs");
    }

    /// The REVERSE of a command, without entries of its own.
    pub fn reverse(&mut self, target: CommandId, by: &Command) {
        self.outcome(by, None);
        let by = by.id.expect("a numbered command");
        self.flush.reversals.push(Reversal { target, by });
        self.flush.reversals.sort_by_key(|reversal| reversal.target);
    }

    /// A TICK.
    pub fn tick(&mut self, at: Timestamp) {
        self.consume();
        self.flush.passed_at = self.flush.passed_at.max(at);
    }

    /// A SEAL.
    pub fn seal(&mut self, first: u64, last: u64) {
        self.consume();
        for (first, last) in self.flush.applied.gaps(first, last) {
            self.flush.applied.insert_range(first, last);
        }
    }

    /// A record that could not be taken.
    pub fn dead_letter(&mut self, reason: DeadLetterReason, parks: Option<CommandId>) -> Position {
        let position = self.consume();
        self.flush.dead_letters.push(DeadLetter {
            position,
            reason,
            message: format!("letter at {position}"),
            parks,
            log_time: START,
            key: b"1001".to_vec(),
            value: vec![0, 255, 7],
        });
        position
    }

    /// The finished flush; the next one goes on behind it.
    pub fn take(&mut self) -> Arc<Flush> {
        for (key, version) in std::mem::take(&mut self.flushed) {
            self.flush.balances.push(BalanceWrite {
                balance: self.balances[&key],
                expected_version: version,
            });
        }
        let next = Flush {
            from: self.flush.to,
            previous_result: self.flush.last_result,
            applied: IntervalSet::new(),
            balances: vec![],
            accounts: vec![],
            outcomes: vec![],
            entries: vec![],
            labels: vec![],
            reversals: vec![],
            dead_letters: vec![],
            ..self.flush.clone()
        };
        Arc::new(std::mem::replace(&mut self.flush, next))
    }

    /// Sends what was gathered; it must be committed.
    pub async fn commit(&mut self, store: &Store) -> Arc<Flush> {
        let flush = self.take();
        let flushed = store.flush(&flush, TTL).await;
        assert_eq!(flushed.expect("the flush is committed"), Flushed::Done);
        flush
    }
}
