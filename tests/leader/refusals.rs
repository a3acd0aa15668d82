//! What is refused: flushes, records, and leaders that are none any more.

use super::*;

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

/// Found by the simulation: the log lost its end between the refusal and the next reading.
#[test]
fn another_record_at_a_parked_position_is_applied() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    world.flush_faults.extend([FlushFault::Refused; 3]);
    world.hold_flushes = true;
    world.append(vec![credit(2, 7, 1)]);
    world.let_one_flush_go();
    world.let_one_flush_go();
    // The third refusal is of the record by itself; the log is away when it is to be read again.
    world.log_is_away = true;
    world.let_one_flush_go();
    world.log.pop();
    (world.log_is_away, world.hold_flushes) = (false, false);
    world.append(vec![credit(3, 7, 20)]);
    world.pass(2 * SECOND);
    assert_eq!(available(&world, 7), 120);
    let letters = world.tables.dead_letters(SHARD, Position::ZERO, 10);
    assert_eq!(letters.unwrap(), []);
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
    world.pass(60 * SECOND);
    assert_eq!(
        world.status().phase,
        Phase::Stopped,
        "it does not try again by itself"
    );
    // An operator did something about it.
    world.step(Input::Lead);
    world.pass(2 * SECOND);
    assert_eq!(world.status().phase, Phase::Leading);
    assert_eq!(available(&world, 7), 102);
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

/// Each refusal costs a take-over: the count of dead letters has to outlive them.
#[test]
fn a_store_that_refuses_every_flush_stops_the_shard() {
    let mut world = World::leading(config());
    world.append(vec![open(1, 7, 100)]);
    world.refuses_outcomes = true;
    for sequence in 2..=400 {
        world.append_record(credit(sequence, 7, 1), None);
    }
    world.pass(120 * SECOND);
    assert_eq!(world.status().phase, Phase::Stopped);
    let letters = world
        .tables
        .dead_letters(SHARD, Position::ZERO, 1_000)
        .unwrap();
    assert!(
        (90..=100).contains(&letters.len()),
        "{} dead letters",
        letters.len()
    );
    assert_eq!(available(&world, 7), 100);
}
