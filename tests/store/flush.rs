//! The flush: what it writes, and each way to refuse it, after which nothing is written.

use std::sync::Arc;

use axs::core::{
    command::CommandKind,
    engine::{Account, AccountStatus, Balance, Reject, RejectCode},
    interval_set::IntervalSet,
    store::{
        AccountBalances, AccountWrite, BalanceWrite, DeadLetterReason, Error, Flush, Flushed,
        LoadRequest, ShardRow, Store,
    },
    types::{AccountId, AssetId, CommandId, Epoch, Money, Position, Sequence, ShardId, Timestamp},
};

use crate::{
    ledger::{Leader, START, TTL, Writer, change, command, nonce, open},
    stores::SHARD,
};

/// What is wrong, and how it is made so.
type Spoil<'a, T> = (&'a str, &'a dyn Fn(&mut T));

/// Account 1001 with 100 of asset 1, led, flushed.
async fn opened(store: &Store) -> (Writer<'_>, Leader) {
    let mut writer = Writer::new(store);
    let commands = vec![open(1001), change(1001, "fund", 1, 100, 0)];
    let accepted = writer.accept(SHARD, commands).await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.open(&accepted[0]);
    leader.apply(&accepted[1]);
    leader.commit(store).await;
    (writer, leader)
}

/// What a refused flush must leave as it was.
async fn seen(store: &Store) -> (Option<AccountBalances>, ShardRow, usize, usize) {
    let balances = store.balances(&[AccountId(1001)]).await.expect("an answer");
    let mut balances = balances[0].clone();
    if let Some(balances) = &mut balances {
        balances.as_of = Timestamp(0);
    }
    let rows = store.shard_rows().await.expect("an answer");
    let mut row = rows[usize::from(SHARD.0)].clone();
    row.lease_left = TTL;
    let results = store.results(SHARD, Position::ZERO, 100).await;
    let letters = store.dead_letters(SHARD, Position::ZERO, 100).await;
    let counts = (
        results.expect("an answer").len(),
        letters.expect("an answer").len(),
    );
    (balances, row, counts.0, counts.1)
}

pub async fn every_kind_of_row_is_written(store: &Store) {
    let mut writer = Writer::new(store);
    let commands = vec![
        open(1001),
        change(1001, "fund", 1, 100, 0),
        change(1001, "freeze", 1, -40, 40),
        change(1001, "too much", 1, -1_000, 0),
        command(CommandKind::BlockAccount, 1001, "block", vec![]),
    ];
    let accepted = writer.accept(SHARD, commands).await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.open(&accepted[0]);
    leader.apply(&accepted[1]);
    leader.commit(store).await;
    leader.apply(&accepted[2]);
    let reject = Reject {
        code: RejectCode::InsufficientAvailable,
        leg: 3,
        account: AccountId(1001),
        asset: Some(AssetId(1)),
        had: Money::from(60),
        needed: Money::MAX,
    };
    leader.outcome(&accepted[3], Some(reject));
    leader.outcome(&accepted[4], None);
    let blocked = Account {
        id: AccountId(1001),
        user: 7,
        status: AccountStatus::Blocked,
        opened_at: START.plus_micros(1_000),
    };
    leader.flush.accounts.push(AccountWrite {
        account: blocked,
        opens: false,
    });
    let flush = leader.commit(store).await;

    let read = store.balances(&[AccountId(1001)]).await.expect("an answer");
    let read = read[0].clone().expect("it was opened");
    assert_eq!(read.account, blocked);
    assert_eq!((read.shard, read.epoch), (SHARD, Epoch(1)));
    let balance = Balance {
        account: AccountId(1001),
        asset: AssetId(1),
        available: Money::from(60),
        frozen: Money::from(40),
        version: 2,
        last_position: Position::new(0, 2),
    };
    assert_eq!(read.balances, [balance]);

    let ids: Vec<CommandId> = accepted.iter().filter_map(|command| command.id).collect();
    let outcomes = store.outcomes(&ids).await.expect("an answer");
    let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
    assert_eq!(outcomes.len(), 5);
    for (result, command) in outcomes.iter().zip(&accepted) {
        assert_eq!(result.label, command.label());
        assert_eq!(
            (result.epoch, Some(result.outcome.id)),
            (Epoch(1), command.id)
        );
        let before = result.outcome.position.0 - 1;
        assert_eq!(result.previous_position, Position(before));
    }
    assert_eq!(outcomes[2].outcome, flush.outcomes[0]);
    assert_eq!(outcomes[2].entries, flush.entries);
    assert_eq!(outcomes[3].outcome, flush.outcomes[1]);
    assert_eq!(outcomes[3].outcome.reject.as_deref(), Some(&reject));
    assert_eq!(
        (&outcomes[4].outcome, outcomes[4].entries.len()),
        (&flush.outcomes[2], 0)
    );
}

pub async fn a_flush_sent_again_was_done_already(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    leader.apply(&accepted[0]);
    let flush = leader.take();
    assert_eq!(store.flush(&flush, TTL).await.expect("ours"), Flushed::Done);
    let before = seen(store).await;
    assert_eq!(
        store.flush(&flush, TTL).await.expect("ours"),
        Flushed::Already
    );
    assert_eq!(seen(store).await, before);
    // Behind a later flush too.
    leader.tick(START);
    leader.commit(store).await;
    let before = seen(store).await;
    assert_eq!(
        store.flush(&flush, TTL).await.expect("ours"),
        Flushed::Already
    );
    assert_eq!(seen(store).await, before);
}

/// The flush is refused as fenced, and leaves everything as it was.
async fn fenced(store: &Store, what: &str, flush: &Arc<Flush>) {
    let before = seen(store).await;
    let refused = store.flush(flush, TTL).await;
    assert!(
        matches!(refused, Err(Error::Fenced(_))),
        "{what}: {refused:?}"
    );
    assert_eq!(seen(store).await, before, "{what}");
}

pub async fn a_flush_that_is_not_ours_is_fenced(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    leader.apply(&accepted[0]);
    let flush = leader.take();
    let spoilt = |spoil: &dyn Fn(&mut Flush)| {
        let mut flush = flush.clone();
        spoil(Arc::make_mut(&mut flush));
        flush
    };
    let old_epoch = spoilt(&|flush| flush.epoch = Epoch(0));
    fenced(store, "old epoch", &old_epoch).await;
    let later_epoch = spoilt(&|flush| flush.epoch = Epoch(2));
    fenced(store, "later epoch", &later_epoch).await;
    let other_nonce = spoilt(&|flush| flush.nonce = nonce());
    fenced(store, "other nonce", &other_nonce).await;
    let gap = spoilt(&|flush| {
        flush.from = Position::new(0, 5);
        flush.to = Position::new(0, 6);
        flush.outcomes[0].position = Position::new(0, 5);
    });
    fenced(store, "a gap", &gap).await;
    let behind = spoilt(&|flush| flush.from = Position::new(0, 1));
    fenced(store, "from what is applied, beyond it", &behind).await;
    let again = spoilt(&|flush| flush.applied.insert_range(1, 3));
    fenced(store, "a number again", &again).await;

    // Taken over by another: also the flush that would have fitted.
    store
        .release(SHARD, flush.epoch, flush.nonce)
        .await
        .expect("ours");
    let taken = store.acquire(SHARD, "next", None, nonce(), TTL).await;
    assert!(taken.expect("an answer").is_some());
    fenced(store, "taken over", &flush).await;
}

pub async fn a_stale_version_is_a_conflict(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    leader.apply(&accepted[0]);
    let flush = leader.take();
    let account = |id, opens| AccountWrite {
        account: Account {
            id: AccountId(id),
            user: 7,
            status: AccountStatus::Closed,
            opened_at: START,
        },
        opens,
    };
    let spoils: [Spoil<'_, Flush>; 6] = [
        ("older", &|flush| flush.balances[0].expected_version = 3),
        ("as if new", &|flush| flush.balances[0].expected_version = 0),
        ("not there", &|flush| {
            let mut other = flush.balances[0];
            other.balance.asset = AssetId(2);
            flush.balances.push(other);
        }),
        ("not there, among good ones", &|flush| {
            let mut other = flush.balances[0];
            other.balance.account = AccountId(1);
            flush.balances.insert(0, other);
        }),
        ("account there", &|flush| {
            flush.accounts.push(account(1001, true))
        }),
        ("account not there", &|flush| {
            flush.accounts.push(account(1002, false))
        }),
    ];
    for (what, spoil) in spoils {
        let mut spoilt = flush.clone();
        spoil(Arc::make_mut(&mut spoilt));
        let before = seen(store).await;
        let refused = store.flush(&spoilt, TTL).await;
        assert!(
            matches!(refused, Err(Error::Conflict(_))),
            "{what}: {refused:?}"
        );
        assert_eq!(seen(store).await, before, "{what}");
    }
    assert_eq!(
        store.flush(&flush, TTL).await.expect("as it was"),
        Flushed::Done
    );
}

pub async fn what_the_columns_refuse_is_refused(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    leader.apply(&accepted[0]);
    let flush = leader.take();
    let spoils: [Spoil<'_, BalanceWrite>; 3] = [
        ("available below zero", &|write| {
            write.balance.available = Money::from(-1)
        }),
        ("frozen below zero", &|write| {
            write.balance.frozen = Money::from(-1)
        }),
        ("version 0", &|write| write.balance.version = 0),
    ];
    for (what, spoil) in spoils {
        let mut spoilt = flush.clone();
        spoil(&mut Arc::make_mut(&mut spoilt).balances[0]);
        let before = seen(store).await;
        let refused = store.flush(&spoilt, TTL).await;
        assert!(
            matches!(refused, Err(Error::Refused(_))),
            "{what}: {refused:?}"
        );
        assert_eq!(seen(store).await, before, "{what}");
    }
    // The bounds of the columns themselves are fine, and a clearing account has no floor.
    let mut bounds = Flush::clone(&flush);
    bounds.balances[0].balance.available = Money::MAX;
    bounds.balances[0].balance.frozen = Money::MAX;
    bounds.balances.push(BalanceWrite {
        balance: Balance {
            account: AccountId::clearing(SHARD),
            asset: AssetId(1),
            available: Money::MIN,
            frozen: Money::MIN,
            version: 1,
            last_position: Position::new(0, 2),
        },
        expected_version: 0,
    });
    assert_eq!(
        store
            .flush(&Arc::new(bounds), TTL)
            .await
            .expect("in bounds"),
        Flushed::Done
    );
    let request = LoadRequest {
        accounts: vec![AccountId(1001), AccountId::clearing(SHARD)],
        ..LoadRequest::default()
    };
    let mut loaded = store.load(SHARD, &request).await.expect("an answer");
    loaded.balances.sort_by_key(|balance| balance.account);
    let money: Vec<_> = loaded
        .balances
        .iter()
        .map(|b| (b.available, b.frozen))
        .collect();
    assert_eq!(money, [(Money::MAX, Money::MAX), (Money::MIN, Money::MIN)]);
}

pub async fn a_command_is_reversed_once(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let target = CommandId::new(SHARD, Sequence(2));
    let reverse = |key: &str| command(CommandKind::Reverse, 1001, key, vec![]);
    let accepted = writer.accept(SHARD, vec![reverse("r"), reverse("s")]).await;
    leader.reverse(target, &accepted[0]);
    leader.commit(store).await;
    let request = LoadRequest {
        targets: vec![target, CommandId::new(SHARD, Sequence(1))],
        ..LoadRequest::default()
    };
    let mut loaded = store.load(SHARD, &request).await.expect("an answer");
    loaded.targets.sort_by_key(|target| target.id);
    let reversed: Vec<_> = loaded
        .targets
        .iter()
        .map(|target| target.reversed_by)
        .collect();
    assert_eq!(reversed, [None, accepted[0].id]);

    leader.reverse(target, &accepted[1]);
    let flush = leader.take();
    let before = seen(store).await;
    let refused = store.flush(&flush, TTL).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert_eq!(seen(store).await, before);
}

pub async fn dead_letters_keep_their_bytes_and_park(store: &Store) {
    let (mut writer, mut leader) = opened(store).await;
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    let elsewhere = writer
        .accept(ShardId(1), vec![change(1001, "b", 1, 1, 0)])
        .await;
    leader.dead_letter(DeadLetterReason::Undecodable, None);
    leader.dead_letter(DeadLetterReason::EnginePanic, accepted[0].id);
    leader.dead_letter(DeadLetterReason::Misrouted, elsewhere[0].id);
    let flush = leader.commit(store).await;
    let letters = store.dead_letters(SHARD, Position::ZERO, 10).await;
    assert_eq!(letters.expect("an answer"), flush.dead_letters);
    let one = store.dead_letters(SHARD, Position::new(0, 3), 1).await;
    assert_eq!(one.expect("an answer"), flush.dead_letters[1..2]);
    let none = store.dead_letters(ShardId(1), Position::ZERO, 10).await;
    assert_eq!(none.expect("an answer"), []);

    let ids: Vec<_> = [&accepted[0], &elsewhere[0]]
        .iter()
        .filter_map(|c| c.id)
        .collect();
    let stored = store.commands(&ids).await.expect("an answer");
    let parked: Vec<_> = stored
        .into_iter()
        .flatten()
        .map(|stored| stored.parked)
        .collect();
    let messages = ["letter at 3", "letter at 4"].map(|text| Some(text.to_owned()));
    assert_eq!(parked, messages);
    let mut applied = IntervalSet::new();
    applied.insert_range(1, 2);
    let state = seen(store).await.1;
    assert_eq!(state.applied, applied, "a parked number stays outside");
}
