//! Results, hand-over, leases, and servers that are away.

use super::*;

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

/// A busy store makes flushes slow. Batches shrink, so that neither lease nor renewal waits for them,
/// and grow again with a store that is quick.
#[test]
fn batches_are_as_large_as_the_store_takes_in_good_time() {
    let config = Config {
        batch_count_max: 256,
        ..config()
    };
    let mut world = World::leading(config);
    world.append(vec![open(1, 7, 100)]);
    for sequence in 2..=6_000 {
        world.append_record(credit(sequence, 7, 1), None);
    }
    world.hold_flushes = true;
    world.step(Input::Tick);
    for _ in 0..8 {
        world.pass(LEASE / 3);
        world.let_one_flush_go();
    }
    let slow: Vec<usize> = world
        .flushes
        .iter()
        .map(|flush| flush.outcomes.len())
        .collect();
    assert!(slow.contains(&256), "{slow:?}");
    assert_eq!(slow.last(), Some(&16), "{slow:?}");
    assert_eq!(world.row().epoch.0, 1, "the lease was kept");

    world.let_flushes_go();
    world.pass(SECOND);
    let quick = world.flushes[slow.len()..]
        .iter()
        .map(|flush| flush.outcomes.len());
    assert_eq!(quick.max(), Some(256));
    assert_eq!(available(&world, 7), 100 + 5_999);
}

/// A flush that outlasts the lease costs the memory; the next one is smaller, so that it ends.
#[test]
fn accounts_of_a_slow_flush_are_read_again_for_the_cache() {
    let mut world = World::leading(config());
    world.hold_flushes = true;
    world.append(vec![open(1, 7, 100)]);
    // Somebody else may lead by now, for all we know.
    world.now += LEASE * 7 / 10;
    world.let_flushes_go();
    assert_eq!(available(&world, 7), 100);
    assert!(world.snapshots.is_empty(), "{:?}", world.snapshots);
    assert_eq!(world.refreshed, [AccountId(7)]);
}

#[test]
fn a_flush_that_outlasts_the_lease_is_sent_smaller() {
    let config = Config {
        batch_count_max: 256,
        ..config()
    };
    let mut world = World::leading(config);
    world.append(vec![open(1, 7, 100)]);
    for sequence in 2..=300 {
        world.append_record(credit(sequence, 7, 1), None);
    }
    world.hold_flushes = true;
    world.step(Input::Tick);
    // The store is so busy that not even the renewal is answered.
    let Some(Output::Flush { flush: hung, .. }) = world.held.pop_front() else {
        panic!("a flush is held back");
    };
    world.now += LEASE;
    world.step(Input::Tick);
    assert!(world.row().epoch.0 > 1, "taken over anew");
    world.let_flushes_go();
    world.pass(SECOND);
    let first = world.flushes.iter().find(|flush| flush.epoch.0 > 1);
    let first = first.expect("it goes on").outcomes.len();
    assert_eq!(first, hung.outcomes.len() / 2);
    assert_eq!(available(&world, 7), 100 + 299);
}
