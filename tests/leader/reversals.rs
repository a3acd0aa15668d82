//! REVERSE close behind its target and long after it.

use super::*;

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
