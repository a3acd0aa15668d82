//! Batches, the flush pipeline, and that faults change nothing of the outcome.

use super::*;

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
