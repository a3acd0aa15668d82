//! Every way through a group, without a store.

use std::sync::Arc;

use super::*;
use crate::core::{
    command::{Change, Move},
    store::SequenceBlock,
    types::{AssetId, ContentHash, KeyHash, Money, Sequence},
    writer::gate::Gate,
};

mod again;

const SHARDS: u16 = 4;
const LIMITS: Limits = Limits {
    count_max: 100,
    bytes_max: 1 << 20,
    scan_max: 400,
};
const AT: Timestamp = Timestamp(1_000);

struct Bench {
    gate: Arc<Gate>,
    routes: Routes,
    numbers: Numbers,
    queue: VecDeque<Pending>,
    answers: Vec<oneshot::Receiver<Answer>>,
}

impl Bench {
    /// Accounts 10 and 11 are in shard 0, account 20 is in shard 1; a block of 100 in each shard.
    fn new() -> Self {
        let routes = Routes::new(1_000);
        routes.learn(AccountId(10), ShardId(0));
        routes.learn(AccountId(11), ShardId(0));
        routes.learn(AccountId(20), ShardId(1));
        let mut bench = Self {
            gate: Gate::new(1_000),
            routes,
            numbers: Numbers::default(),
            queue: VecDeque::new(),
            answers: Vec::new(),
        };
        for shard in 0..SHARDS {
            bench.lease(shard, i64::from(shard), 1);
        }
        bench
    }

    fn lease(&mut self, shard: u16, nonce: i64, first: u64) {
        let block = SequenceBlock {
            nonce: Nonce(nonce),
            shard: ShardId(shard),
            first: Sequence(first),
            last: Sequence(first + 99),
        };
        self.numbers.add(block, Instant::now());
    }

    fn push(&mut self, command: Command) {
        let (answer, receiver) = oneshot::channel();
        self.answers.push(receiver);
        let permit = self
            .gate
            .enter(std::slice::from_ref(&command))
            .expect("it has room");
        let mut key = [0; 16];
        key[..command.idempotency_key.len()].copy_from_slice(command.idempotency_key.as_bytes());
        self.queue.push_back(Pending {
            item: AcceptItem {
                key_hash: KeyHash(key),
                command,
            },
            caller: Caller {
                answer,
                submitted: Instant::now(),
                sent: Vec::new(),
                followers: Vec::new(),
                verdict: None,
                shard: None,
                nonce: None,
                permit: permit.into_iter().next().expect("one"),
            },
        });
    }

    fn select(&mut self) -> Group {
        Group::select(&mut self.queue, &self.routes, LIMITS)
    }

    /// Selected, placed and numbered; the store knows no route that is not known here.
    fn planned(&mut self) -> Group {
        let mut group = self.select();
        self.plan(&mut group);
        group
    }

    fn plan(&mut self, group: &mut Group) {
        group.unknown_accounts(&self.routes);
        group.place(SHARDS);
        group.number(&mut self.numbers);
    }

    fn settle(&mut self, group: Group, answers: Vec<AcceptAnswer>) -> Settled {
        let accepted = AcceptedGroup {
            accepted_at: AT,
            answers,
        };
        let found_at = group
            .found(&accepted)
            .into_iter()
            .map(|id| (id, Timestamp(7)))
            .collect();
        group.settle(&accepted, &found_at, &self.routes, &mut self.numbers)
    }
}

fn command(key: &str, account: u64, kind: CommandKind, others: &[u64]) -> Command {
    let changes = others.iter().map(|&account| Change {
        account: AccountId(account),
        primary: Move {
            asset: AssetId(1),
            available_delta: Money::ZERO,
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    });
    Command {
        id: None,
        content_hash: ContentHash([0; 16]),
        source: "test".into(),
        idempotency_key: key.into(),
        account: AccountId(account),
        kind,
        changes: changes.collect(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp::default(),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    }
}

fn change(key: &str, account: u64) -> Command {
    command(key, account, CommandKind::Change, &[account])
}

fn open(key: &str, account: u64) -> Command {
    command(key, account, CommandKind::OpenAccount, &[])
}

fn other_body(mut command: Command) -> Command {
    command.content_hash = ContentHash([9; 16]);
    command
}

fn keys(group: &Group) -> Vec<&str> {
    group
        .accept
        .items
        .iter()
        .map(|item| item.command.idempotency_key.as_ref())
        .collect()
}

fn queued(bench: &Bench) -> Vec<&str> {
    bench
        .queue
        .iter()
        .map(|pending| pending.item.command.idempotency_key.as_ref())
        .collect()
}

fn id(shard: u16, sequence: u64) -> CommandId {
    CommandId::new(ShardId(shard), Sequence(sequence))
}

fn ids(group: &Group) -> Vec<Option<CommandId>> {
    group
        .accept
        .items
        .iter()
        .map(|item| item.command.id)
        .collect()
}

fn answers(settled: &Settled) -> Vec<Answer> {
    settled
        .answered
        .iter()
        .map(|(_, answer)| answer.clone())
        .collect()
}

#[test]
fn commands_get_numbers_of_their_shards() {
    let mut bench = Bench::new();
    for (key, account) in [("a", 10), ("b", 20), ("c", 11)] {
        bench.push(change(key, account));
    }
    let group = bench.planned();
    assert_eq!(
        ids(&group),
        [Some(id(0, 1)), Some(id(1, 1)), Some(id(0, 2))]
    );
    assert_eq!(
        group.accept.blocks,
        [(ShardId(0), Nonce(0)), (ShardId(1), Nonce(1))]
    );
    let settled = bench.settle(group, vec![AcceptAnswer::Accepted; 3]);
    assert_eq!(
        answers(&settled),
        [id(0, 1), id(1, 1), id(0, 2)].map(Answer::Accepted)
    );
    let stored: Vec<_> = settled
        .stored
        .iter()
        .map(|c| (c.id, c.accepted_at))
        .collect();
    assert_eq!(
        stored,
        [id(0, 1), id(1, 1), id(0, 2)].map(|id| (Some(id), AT))
    );
}

#[test]
fn a_number_that_a_duplicate_did_not_use_goes_to_the_next() {
    let mut bench = Bench::new();
    bench.push(change("a", 10));
    bench.push(change("b", 10));
    let group = bench.planned();
    let before = AcceptAnswer::Duplicate(id(0, 900));
    let settled = bench.settle(group, vec![before, AcceptAnswer::Accepted]);
    assert_eq!(
        answers(&settled),
        [Answer::Duplicate(id(0, 900)), Answer::Accepted(id(0, 2))]
    );
    assert_eq!(settled.stored.len(), 1, "a duplicate is not appended");
    bench.push(change("c", 10));
    assert_eq!(ids(&bench.planned()), [Some(id(0, 1))]);
}

#[test]
fn the_same_key_again_follows_the_first() {
    let mut bench = Bench::new();
    bench.push(change("a", 10));
    bench.push(change("a", 10));
    bench.push(other_body(change("a", 10)));
    let group = bench.planned();
    assert_eq!(keys(&group), ["a"]);
    let settled = bench.settle(group, vec![AcceptAnswer::Accepted]);
    let expected = [
        Answer::Duplicate(id(0, 1)),
        Answer::Conflict(id(0, 1)),
        Answer::Accepted(id(0, 1)),
    ];
    assert_eq!(answers(&settled), expected);
}

#[test]
fn another_body_is_tried_when_the_first_left_the_key_free() {
    let mut bench = Bench::new();
    bench.push(change("a", 99));
    bench.push(change("a", 99));
    bench.push(other_body(change("a", 10)));
    bench.push(change("b", 10));
    let group = bench.planned();
    assert_eq!(keys(&group), ["a"]);
    assert_eq!(
        queued(&bench),
        ["b"],
        "it must not overtake the other body of its account"
    );
    let settled = bench.settle(group, vec![AcceptAnswer::KeyUnknown]);
    let not_found = Answer::AccountNotFound(AccountId(99));
    assert_eq!(answers(&settled), [not_found.clone(), not_found]);
    let requeued: Vec<_> = settled
        .requeued
        .iter()
        .map(|p| p.item.command.account)
        .collect();
    assert_eq!(requeued, [AccountId(10)]);
}

#[test]
fn what_needs_the_route_of_a_new_account_waits_for_it() {
    let mut bench = Bench::new();
    bench.push(open("open", 1));
    bench.push(change("first", 1));
    bench.push(command("both", 10, CommandKind::Change, &[1]));
    bench.push(change("after both", 10));
    bench.push(change("free", 20));
    let group = bench.planned();
    assert_eq!(keys(&group), ["open", "free"]);
    assert_eq!(queued(&bench), ["first", "both", "after both"]);
    assert_eq!(ids(&group)[0], Some(id(2, 1)), "account 1 of 4 shards: 2");
    bench.settle(group, vec![AcceptAnswer::Accepted; 2]);
    assert_eq!(bench.routes.get(AccountId(1)), Some(ShardId(2)));
    assert_eq!(keys(&bench.select()), ["first", "both", "after both"]);
}

#[test]
fn an_account_without_a_route_is_said_after_the_key() {
    let mut bench = Bench::new();
    bench.push(change("a", 99));
    bench.push(change("b", 99));
    let mut group = bench.select();
    assert_eq!(group.unknown_accounts(&bench.routes), [AccountId(99)]);
    assert!(group.place(SHARDS).is_empty(), "no number is needed");
    group.number(&mut bench.numbers);
    assert_eq!(ids(&group), [None, None]);
    let known = AcceptAnswer::Duplicate(id(3, 5));
    let settled = bench.settle(group, vec![known, AcceptAnswer::KeyUnknown]);
    assert_eq!(
        answers(&settled),
        [
            Answer::Duplicate(id(3, 5)),
            Answer::AccountNotFound(AccountId(99))
        ]
    );
    assert_eq!(bench.routes.get(AccountId(99)), None, "absence is not kept");
}

#[test]
fn accounts_of_several_shards_are_refused() {
    let mut bench = Bench::new();
    bench.push(command("change", 10, CommandKind::Change, &[10, 20]));
    bench.push(command("transfer", 10, CommandKind::Transfer, &[10, 20]));
    bench.push(command("unknown", 10, CommandKind::Transfer, &[20, 99]));
    bench.push(command("one shard", 10, CommandKind::Transfer, &[10, 11]));
    let group = bench.planned();
    let mut store = vec![AcceptAnswer::KeyUnknown; 3];
    store.push(AcceptAnswer::Accepted);
    let settled = bench.settle(group, store);
    let expected = [
        Answer::AccountInOtherShard(AccountId(20)),
        Answer::TransferBetweenShards,
        Answer::AccountNotFound(AccountId(99)),
        Answer::Accepted(id(0, 1)),
    ];
    assert_eq!(answers(&settled), expected);
}

#[test]
fn a_pin_decides_where_nothing_stands() {
    let mut bench = Bench::new();
    let pinned = |key, account, shard| Command {
        pin: Some(ShardId(shard)),
        ..open(key, account)
    };
    bench.push(pinned("new", 1, 3));
    bench.push(pinned("here", 10, 0));
    bench.push(pinned("elsewhere", 20, 2));
    let group = bench.planned();
    assert_eq!(ids(&group), [Some(id(3, 1)), Some(id(0, 1)), None]);
    let settled = bench.settle(
        group,
        vec![
            AcceptAnswer::Accepted,
            AcceptAnswer::Accepted,
            AcceptAnswer::KeyUnknown,
        ],
    );
    let elsewhere = Answer::PinnedElsewhere {
        pin: ShardId(2),
        shard: ShardId(1),
    };
    assert_eq!(answers(&settled)[2], elsewhere);
}
