//! The leader against the in-memory store, step by step: batching, the flush pipeline, refusals,
//! dead letters, publication, hand-over.

mod world;

use std::time::Duration;

use axs::core::{
    command::{CommandKind, hash, record},
    engine::RejectCode,
    leader::{Config, Input, Phase, Why},
    store::DeadLetterReason,
    types::{AccountId, AssetId, CommandId, Position, Sequence, ShardId},
};
use bytes::Bytes;
use world::{FlushFault, LEASE, SHARD, World, command, config, credit, id, open, reverse};

const SECOND: Duration = Duration::from_secs(1);

fn available(world: &World, account: u64) -> i128 {
    let found = world
        .tables
        .balances(world.clock(), &[AccountId(account)])
        .swap_remove(0);
    let balances = found.expect("the account is open").balances;
    balances
        .iter()
        .find(|balance| balance.asset == AssetId(1))
        .map_or(0, |balance| balance.available.minor_units())
}

/// Who follows the results deduplicates them by command id: a take-over sends some again.
fn results(world: &World) -> Vec<CommandId> {
    let ids: std::collections::BTreeSet<_> = world.published.iter().copied().collect();
    ids.into_iter().collect()
}

fn reject_code(world: &World, sequence: u64) -> Option<RejectCode> {
    let outcome = world.tables.outcomes(&[id(sequence)]).swap_remove(0);
    outcome
        .expect("the command has an outcome")
        .outcome
        .reject
        .map(|reject| reject.code)
}

#[test]
fn a_command_goes_from_log_to_store_then_to_results_and_cache() {
    let mut world = World::leading(config());
    assert_eq!(world.status().phase, Phase::Leading);
    world.append(vec![open(1, 7, 100), credit(2, 7, 5), credit(3, 7, -500)]);
    assert_eq!(available(&world, 7), 105);
    assert_eq!(
        reject_code(&world, 3),
        Some(RejectCode::InsufficientAvailable)
    );
    assert_eq!(world.published, [id(1), id(2), id(3)]);
    assert_eq!(world.snapshots[&AccountId(7)].balances[0].version, 2);
    assert_eq!(world.row().applied.to_string(), "1-3");
    world.pass(SECOND);
    assert_eq!(
        world.row().published_to,
        Position::new(0, 3),
        "stored once nothing else stores it"
    );
}

#[test]
fn a_batch_closes_on_count_on_bytes_or_on_the_age_of_its_first_record() {
    let gather = Config {
        batch_age_max: Duration::from_millis(100),
        ..config()
    };
    let mut world = World::leading(gather.clone());
    world.append(vec![open(1, 7, 100)]);
    world.pass(Duration::from_millis(60));
    world.append(vec![credit(2, 7, 1)]);
    assert!(world.flushes.is_empty(), "it still gathers");
    world.pass(Duration::from_millis(39));
    assert!(world.flushes.is_empty(), "99 ms after the first record");
    world.pass(Duration::from_millis(2));
    assert_eq!(
        world.flushes.len(),
        1,
        "100 ms after the first, 41 ms after the second record"
    );
    assert_eq!(world.flushes[0].outcomes.len(), 2);

    world.append((3..=10).map(|sequence| credit(sequence, 7, 1)).collect());
    assert_eq!(world.flushes.len(), 2, "full by count: it does not wait");

    let mut world = World::leading(Config {
        batch_bytes_max: 250,
        ..gather
    });
    world.append(vec![open(1, 7, 100), credit(2, 7, 1), credit(3, 7, 1)]);
    assert_eq!(world.flushes[0].outcomes.len(), 2, "full by bytes");
}

#[test]
fn the_next_batch_is_applied_while_a_flush_is_on_its_way() {
    let mut world = World::leading(config());
    world.hold_flushes = true;
    world.append(vec![open(1, 7, 100)]);
    world.append(vec![credit(2, 7, 5)]);
    world.append(vec![credit(3, 7, 6)]);
    assert_eq!(world.held.len(), 1, "one flush at a time");
    assert_eq!(world.status().records_unflushed, 3);
    world.let_flushes_go();
    let sizes: Vec<usize> = world
        .flushes
        .iter()
        .map(|flush| flush.outcomes.len())
        .collect();
    assert_eq!(sizes, [1, 2], "what came meanwhile shares the next flush");
    assert_eq!(available(&world, 7), 111);
}

#[test]
fn flushes_are_spaced_by_the_interval() {
    let interval = Duration::from_millis(500);
    let mut world = World::leading(Config {
        flush_interval_min: interval,
        ..config()
    });
    world.append(vec![open(1, 7, 100)]);
    world.append(vec![credit(2, 7, 5)]);
    assert_eq!(world.flushes.len(), 1);
    world.pass(Duration::from_millis(499));
    assert_eq!(world.flushes.len(), 1);
    world.pass(Duration::from_millis(2));
    assert_eq!(world.flushes.len(), 2);
}

#[test]
fn a_lost_answer_is_settled_by_the_same_flush_again() {
    for fault in [
        FlushFault::LostAfter,
        FlushFault::LostBefore,
        FlushFault::Unavailable,
    ] {
        let mut world = World::leading(config());
        world.flush_faults.push_back(fault);
        world.append(vec![open(1, 7, 100), credit(2, 7, 5)]);
        world.pass(SECOND);
        assert_eq!(available(&world, 7), 105, "{fault:?}");
        assert_eq!(world.flushes.len(), 2, "{fault:?}");
        assert_eq!(
            world.flushes[0], world.flushes[1],
            "a range is sent with one content only"
        );
        assert_eq!(world.published, [id(1), id(2)], "{fault:?}");
        assert_eq!(world.row().epoch.0, 1, "{fault:?}: nothing was dropped");
    }
}

#[test]
fn a_leader_whose_epoch_is_gone_changes_nothing_and_steps_down() {
    let mut world = World::leading(config());
    world.hold_flushes = true;
    world.append(vec![open(1, 7, 100)]);
    let later = axs::core::types::Timestamp(world.clock().0 + 10_000_000);
    let nonce = axs::core::types::Nonce(99);
    let other = world
        .tables
        .acquire(later, SHARD, "other", None, nonce, 100 * LEASE)
        .unwrap();
    assert_eq!(
        other.expect("the lease ran out").next_position,
        Position::ZERO
    );
    world.let_flushes_go();
    assert_eq!(
        world.row().next_position,
        Position::ZERO,
        "the late flush was refused"
    );
    assert_eq!(world.stepped_down, [Why::LeaseLost]);
    assert!(world.published.is_empty() && world.snapshots.is_empty());
    assert_eq!(world.status().phase, Phase::Idle);
}

#[test]
fn a_refused_flush_drops_the_memory_and_applies_again() {
    for fault in [FlushFault::Conflict, FlushFault::Refused] {
        let mut world = World::leading(config());
        world.append(vec![open(1, 7, 100)]);
        world.flush_faults.push_back(fault);
        world.append(vec![credit(2, 7, 5)]);
        world.pass(SECOND);
        assert_eq!(available(&world, 7), 105, "{fault:?}");
        assert_eq!(world.row().epoch.0, 2, "{fault:?}: taken over anew");
        assert_eq!(results(&world), [id(1), id(2)], "{fault:?}");
        let loaded = &world.loads.last().unwrap().accounts;
        assert_eq!(loaded, &[AccountId(7)], "{fault:?}: loaded again");
    }
}

#[test]
fn what_the_store_refuses_by_itself_is_parked_and_the_rest_goes_on() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    world.refused_position = Some(Position::new(0, 3));
    world.append((2..=6).map(|sequence| credit(sequence, 7, 1)).collect());
    world.pass(2 * SECOND);
    assert_eq!(available(&world, 7), 104, "four of five credits");
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 10)
        .unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].position, letters[0].reason),
        (Position::new(0, 3), DeadLetterReason::FlushRefused)
    );
    assert_eq!(letters[0].parks, Some(id(4)));
    assert_eq!(
        world.row().applied.to_string(),
        "1-3,5-6",
        "its number stays open"
    );
    assert_eq!(results(&world), [id(1), id(2), id(3), id(5), id(6)]);
}

#[test]
fn a_version_conflict_of_a_single_record_after_a_fresh_load_stops_the_shard() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    world.flush_faults.extend([FlushFault::Conflict; 3]);
    world.append(vec![credit(2, 7, 1), credit(3, 7, 1)]);
    world.pass(2 * SECOND);
    assert_eq!(world.status().phase, Phase::Stopped);
    let [Why::Stopped(why)] = world.stepped_down.as_slice() else {
        panic!("{:?}", world.stepped_down)
    };
    assert!(why.contains("version conflict"), "{why}");
    assert_eq!(available(&world, 7), 100);
    world.step(Input::Lead);
    assert_eq!(
        world.status().phase,
        Phase::Stopped,
        "it does not try again"
    );
}

#[test]
fn bad_records_become_dead_letters_and_park_only_accepted_commands() {
    let mut world = World::leading(config());
    let accepted = command(9, 7, CommandKind::Change, &[1]);
    let key = hash::key_hash("test", "key-9");
    world.tables.restore_command(key, accepted.clone()).unwrap();
    let elsewhere = {
        let mut elsewhere = command(5, 7, CommandKind::Change, &[1]);
        elsewhere.id = Some(CommandId::new(ShardId(0), Sequence(5)));
        record::encode_command(&elsewhere)
    };
    let garbage = Bytes::from_static(b"\xff\xff\xff");
    world.append_record(garbage.clone(), None);
    world.append_record(garbage.clone(), Some((id(9), accepted.content_hash)));
    world.append_record(garbage.clone(), Some((id(10), accepted.content_hash)));
    world.append_record(elsewhere, None);
    world.append(vec![open(1, 7, 100)]);
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 10)
        .unwrap();
    let seen: Vec<_> = letters
        .iter()
        .map(|letter| (letter.reason, letter.parks))
        .collect();
    assert_eq!(
        seen,
        [
            (DeadLetterReason::Undecodable, None),
            (DeadLetterReason::Undecodable, Some(id(9))),
            (DeadLetterReason::Undecodable, None),
            (DeadLetterReason::Misrouted, None),
        ],
        "a command that was never accepted parks nothing, nor does one of another shard"
    );
    assert_eq!(letters[0].value, garbage);
    assert_eq!(world.letters_published, 4);
    assert_eq!(available(&world, 7), 100, "the shard goes on");
}

#[test]
fn a_duplicate_is_skipped_and_other_content_under_its_number_is_not_silent() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100), credit(2, 7, 5), credit(2, 7, 5)]);
    assert_eq!(available(&world, 7), 105);
    assert!(
        world
            .tables
            .dead_letters(SHARD, Position::ZERO, 10)
            .unwrap()
            .is_empty()
    );
    let forged = record::encode_command(&command(2, 7, CommandKind::Change, &[6]));
    world.append(vec![forged.clone()]);
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 10)
        .unwrap();
    assert_eq!(
        (letters[0].reason, letters[0].parks),
        (DeadLetterReason::ContentMismatch, None)
    );

    // A new leader has no recent hashes: the journal knows.
    world.restart(config(), 2 * LEASE);
    world.append(vec![credit(2, 7, 5), forged]);
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 10)
        .unwrap();
    assert_eq!(
        letters.len(),
        2,
        "the true copy is skipped, the forged one is not"
    );
    assert_eq!(available(&world, 7), 105);
}

#[test]
fn results_are_sent_again_from_the_first_that_failed() {
    let mut world = World::leading(config());
    world.publish_faults.push_back(1);
    world.append(vec![open(1, 7, 100), credit(2, 7, 5), credit(3, 7, 5)]);
    assert_eq!(world.published, [id(1)]);
    assert_eq!(
        world.status().published_to,
        Some(Position::ZERO),
        "not while one is missing"
    );
    world.pass(SECOND);
    assert_eq!(world.published, [id(1), id(2), id(3)]);
    assert_eq!(world.row().published_to, Position::new(0, 3));
}

#[test]
fn a_new_leader_publishes_again_what_may_be_unpublished() {
    let mut world = World::leading(config());
    world.publish_faults.extend([0; 100]);
    world.append(vec![open(1, 7, 100), credit(2, 7, 5)]);
    assert!(world.published.is_empty());
    world.publish_faults.clear();
    world.restart(config(), 3 * LEASE);
    world.pass(SECOND);
    assert_eq!(world.published, [id(1), id(2)]);
    assert_eq!(world.row().published_to, Position::new(0, 2));
}

#[test]
fn a_hand_over_finishes_publishes_marks_and_ends_the_lease() {
    let mut world = World::leading(config());
    world.hold_flushes = true;
    world.append(vec![open(1, 7, 100)]);
    world.step(Input::Drain);
    assert_eq!(world.status().phase, Phase::Draining);
    world.append(vec![credit(2, 7, 5)]);
    world.let_flushes_go();
    assert_eq!(world.stepped_down, [Why::Drained]);
    let row = world.row();
    assert_eq!(
        row.next_position,
        Position::new(0, 1),
        "nothing new was taken in"
    );
    assert_eq!(row.published_to, row.next_position);
    assert!(row.lease_left.is_zero(), "another process need not wait");
}

#[test]
fn a_lease_that_ran_out_by_our_own_clock_ends_the_memory() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    let epoch = world.row().epoch;
    world.now += LEASE;
    world.step(Input::Tick);
    assert!(
        world.row().epoch > epoch,
        "taken over anew, as nobody else did"
    );
    world.append(vec![credit(2, 7, 5)]);
    assert_eq!(available(&world, 7), 105);
}

#[test]
fn a_lease_is_renewed_while_nothing_happens() {
    let mut world = World::leading(config());
    world.pass(20 * LEASE);
    assert_eq!(
        (world.row().epoch.0, world.status().phase),
        (1, Phase::Leading)
    );
}

#[test]
fn a_shard_is_given_up_when_the_log_is_away_for_long() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    world.log_is_away = true;
    world.append(vec![credit(2, 7, 5)]);
    world.pass(9 * SECOND);
    assert_eq!(world.status().phase, Phase::Leading);
    world.pass(3 * SECOND);
    assert!(
        matches!(world.stepped_down.as_slice(), [Why::LogAway(_)]),
        "{:?}",
        world.stepped_down
    );
    assert!(world.row().lease_left.is_zero());
}

#[test]
fn a_log_that_is_not_ours_stops_the_shard() {
    let mut world = World::new(config());
    world.diverged = true;
    world.step(Input::Lead);
    assert_eq!(
        world.stepped_down,
        [Why::Stopped("the log is another one".into())]
    );
}

#[test]
fn a_store_that_is_away_only_delays() {
    let mut world = World::leading(config());
    world.loads_fail = true;
    world.append(vec![open(1, 7, 100)]);
    world.pass(SECOND);
    assert!(world.flushes.is_empty());
    world.loads_fail = false;
    world.pass(2 * SECOND);
    assert_eq!(available(&world, 7), 100);
}

/// The REVERSE stands so close behind its target that no load could have seen it: in the same batch,
/// while the target's flush is on its way, and committed between the plan and the application.
#[test]
fn a_reverse_close_behind_its_target_finds_it() {
    let mut world = World::leading(config());
    world.append(vec![
        open(1, 7, 100),
        credit(2, 7, 5),
        reverse(3, 7, 2),
        reverse(4, 7, 2),
    ]);
    assert_eq!(available(&world, 7), 100, "in the same batch");
    assert_eq!(reject_code(&world, 4), Some(RejectCode::AlreadyReversed));

    world.hold_flushes = true;
    world.append(vec![credit(5, 7, 9)]);
    world.append(vec![reverse(6, 7, 5)]);
    world.let_flushes_go();
    assert_eq!(
        available(&world, 7),
        100,
        "while the target's flush is on its way"
    );

    let few = Config {
        batch_count_max: 2,
        ..config()
    };
    let mut world = World::leading(few);
    // Planned together, flushed apart: the batch is full before the REVERSE is applied.
    world.append(vec![
        open(1, 7, 100),
        credit(2, 7, 5),
        reverse(3, 7, 2),
        reverse(4, 7, 2),
    ]);
    assert_eq!(available(&world, 7), 100);
    assert_eq!(reject_code(&world, 3), None);
    assert_eq!(reject_code(&world, 4), Some(RejectCode::AlreadyReversed));
}

#[test]
fn a_reverse_long_after_its_target_is_answered_from_the_journal() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100), credit(2, 7, 5)]);
    for account in 20..30 {
        world.append(vec![open(account, account, 1)]);
    }
    assert!(world.status().accounts_resident <= 3, "account 7 had to go");
    world.append(vec![
        reverse(30, 7, 2),
        reverse(31, 7, 99),
        reverse(32, 7, 1),
    ]);
    assert_eq!(available(&world, 7), 100);
    assert_eq!(
        reject_code(&world, 31),
        Some(RejectCode::NothingToReverse),
        "never applied"
    );
    assert_eq!(
        reject_code(&world, 32),
        Some(RejectCode::NothingToReverse),
        "an OPEN"
    );
    world.append(vec![reverse(33, 7, 2)]);
    assert_eq!(reject_code(&world, 33), Some(RejectCode::AlreadyReversed));
}

#[test]
fn too_many_dead_letters_stop_the_shard_before_the_log_is_emptied_into_them() {
    let mut world = World::leading(config());
    world.append(vec![Bytes::from_static(b"\xff"); 500]);
    assert_eq!(world.status().phase, Phase::Stopped);
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 1_000)
        .unwrap();
    assert!(letters.len() <= 100, "{} dead letters", letters.len());
}

#[test]
fn control_records_move_the_position_and_the_applied_set() {
    let mut world = World::leading(config());
    let seal = record::Seal {
        first: Sequence(1),
        last: Sequence(3),
    };
    let tick = record::Tick {
        now: world.clock(),
        wal_position: 0,
    };
    world.append(vec![
        open(2, 7, 100),
        record::encode_seal(&seal),
        record::encode_tick(&tick),
    ]);
    let row = world.row();
    assert_eq!(
        (row.next_position, row.applied.to_string()),
        (Position::new(0, 3), "1-3".into())
    );
    assert_eq!(row.passed_at, world.clock());
    assert_eq!(
        available(&world, 7),
        100,
        "a number applied before is not sealed away"
    );
    world.append(vec![credit(3, 7, 5)]);
    assert_eq!(available(&world, 7), 100, "a sealed number cannot be used");
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 10)
        .unwrap();
    assert_eq!(letters[0].reason, DeadLetterReason::ContentMismatch);
}

/// Tiny caches, batches and faults at every turn: what comes out is what one clean run gives.
#[test]
fn faults_and_tiny_limits_change_nothing_of_the_outcome() {
    let records = |world: &mut World| {
        let mut sequence = 0;
        for account in 1..=6 {
            sequence += 1;
            world.append_record(open(sequence, account, 50), None);
        }
        for round in 0..40_i64 {
            for account in 1..=6 {
                sequence += 1;
                let money = (round * 7 + i64::try_from(account).unwrap() * 13) % 41 - 20;
                world.append_record(credit(sequence, account, money), None);
                if round % 5 == 4 {
                    let again = world.log[world.log.len() - 3].value.clone();
                    world.append_record(again, None);
                    sequence += 1;
                    world.append_record(reverse(sequence, account, sequence - 1), None);
                }
            }
        }
    };
    let mut clean = World::leading(Config {
        accounts_max: 1_000,
        ..config()
    });
    records(&mut clean);
    clean.pass(SECOND);
    let expected = clean.row();
    assert_eq!(
        expected.next_position,
        Position::new(0, i64::try_from(clean.log.len()).unwrap())
    );
    for batch_count_max in [1, 2, 3, 5, 12] {
        for (offset, faults) in [
            [
                FlushFault::LostAfter,
                FlushFault::Conflict,
                FlushFault::LostBefore,
            ],
            [
                FlushFault::Conflict,
                FlushFault::Unavailable,
                FlushFault::LostAfter,
            ],
            [
                FlushFault::LostBefore,
                FlushFault::LostBefore,
                FlushFault::Conflict,
            ],
        ]
        .into_iter()
        .enumerate()
        {
            let tiny = Config {
                batch_count_max,
                accounts_max: 1 + offset,
                ..config()
            };
            let mut world = World::leading(tiny);
            records(&mut world);
            for _ in 0..12 {
                world.flush_faults.extend(faults);
                world.publish_faults.push_back(offset);
                world.pass(Duration::from_millis(30));
                world.flush_faults.clear();
                world.pass(Duration::from_millis(30));
            }
            world.pass(3 * SECOND);
            let row = world.row();
            assert_eq!(
                row.next_position, expected.next_position,
                "batches of {batch_count_max}"
            );
            assert_eq!(
                row.state_hash, expected.state_hash,
                "batches of {batch_count_max}"
            );
            assert_eq!(row.applied, expected.applied);
            assert_eq!(
                results(&world).len() as u64,
                expected.applied.count(),
                "each result is out"
            );
            assert_eq!(world.row().published_to, row.next_position);
        }
    }
}
