//! What waits or is sent again: limits, routes that stand elsewhere, lost answers, closed blocks,
//! refused items.

use super::*;

#[test]
fn an_open_follows_the_route_that_stands() {
    let mut bench = Bench::new();
    bench.push(open("open", 1));
    bench.push(open("open", 1));
    let group = bench.planned();
    let settled = bench.settle(group, vec![AcceptAnswer::Routed(ShardId(0))]);
    assert!(settled.answered.is_empty() && settled.stored.is_empty());
    let mut again = Group::new(settled.again);
    bench.plan(&mut again);
    assert_eq!(ids(&again), [Some(id(0, 1))]);
    assert_eq!(
        bench.numbers.take(ShardId(2)),
        Some((id(2, 1), Nonce(2))),
        "not used"
    );
    let settled = bench.settle(again, vec![AcceptAnswer::Accepted]);
    let expected = [Answer::Duplicate(id(0, 1)), Answer::Accepted(id(0, 1))];
    assert_eq!(answers(&settled), expected, "its follower came along");
}

#[test]
fn what_a_lost_execution_stored_is_ours() {
    let mut bench = Bench::new();
    bench.push(change("a", 10));
    bench.push(change("b", 10));
    let mut group = bench.planned();
    group.answer_lost(&mut bench.numbers);
    assert_eq!(
        bench.numbers.take_closing(),
        [Nonce(0)],
        "to close before it is sent again"
    );
    bench.lease(0, 50, 101);
    bench.plan(&mut group);
    assert_eq!(ids(&group), [Some(id(0, 101)), Some(id(0, 102))]);
    assert_eq!(group.accept.blocks, [(ShardId(0), Nonce(50))]);
    // The first execution stored `a`; `b` is known from another caller.
    let stored = vec![
        AcceptAnswer::Duplicate(id(0, 1)),
        AcceptAnswer::Duplicate(id(0, 77)),
    ];
    let settled = bench.settle(group, stored);
    assert_eq!(
        answers(&settled),
        [Answer::Accepted(id(0, 1)), Answer::Duplicate(id(0, 77))]
    );
    let records: Vec<_> = settled
        .stored
        .iter()
        .map(|c| (c.id, c.accepted_at))
        .collect();
    assert_eq!(
        records,
        [(Some(id(0, 1)), Timestamp(7))],
        "with its stored time"
    );
}

#[test]
fn a_lost_execution_that_did_nothing_is_done_again() {
    let mut bench = Bench::new();
    bench.push(change("a", 10));
    let mut group = bench.planned();
    group.answer_lost(&mut bench.numbers);
    bench.lease(0, 50, 101);
    bench.plan(&mut group);
    let settled = bench.settle(group, vec![AcceptAnswer::Accepted]);
    assert_eq!(answers(&settled), [Answer::Accepted(id(0, 101))]);
}

#[test]
fn a_closed_block_is_left_and_the_others_stay() {
    let mut bench = Bench::new();
    bench.push(change("a", 10));
    bench.push(change("b", 20));
    let mut group = bench.planned();
    bench.numbers.abandon_shard(ShardId(0));
    group.take_numbers_back(&mut bench.numbers);
    bench.lease(0, 50, 101);
    bench.plan(&mut group);
    assert_eq!(ids(&group), [Some(id(0, 101)), Some(id(1, 1))]);
}

#[test]
fn halving_ends_with_the_command_that_is_refused() {
    let mut bench = Bench::new();
    for key in ["a", "b", "bad", "d", "e"] {
        bench.push(change(key, 10));
    }
    let mut work = vec![bench.select()];
    let mut stored = Vec::new();
    let mut statements = 0;
    while let Some(mut group) = work.pop() {
        bench.plan(&mut group);
        statements += 1;
        if !keys(&group).contains(&"bad") {
            let answers = vec![AcceptAnswer::Accepted; group.callers.len()];
            stored.extend(bench.settle(group, answers).stored);
            continue;
        }
        group.take_numbers_back(&mut bench.numbers);
        match group.halve() {
            Ok((first, second)) => work.extend([second, first]),
            Err(alone) => {
                let refused = Answer::Internal("no".into());
                assert_eq!(answers(&alone.fail(&refused)), [refused]);
            }
        }
    }
    let order: Vec<_> = stored.iter().map(|c| c.idempotency_key.as_ref()).collect();
    assert_eq!(order, ["a", "b", "d", "e"], "in the order of acceptance");
    assert_eq!(statements, 5, "5, 2, 3, 1, 2");
    let mut used: Vec<_> = stored.iter().filter_map(|c| c.id).collect();
    used.sort_unstable();
    assert_eq!(
        used,
        [id(0, 1), id(0, 2), id(0, 3), id(0, 4)],
        "no number is left out"
    );
}

#[test]
fn limits_of_a_group_leave_the_rest_in_order() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c", "d"] {
        bench.push(change(key, 10));
    }
    let limits = Limits {
        count_max: 2,
        ..LIMITS
    };
    let group = Group::select(&mut bench.queue, &bench.routes, limits);
    assert_eq!(
        (keys(&group), queued(&bench)),
        (vec!["a", "b"], vec!["c", "d"])
    );
    assert_eq!(bench.gate.count(), 4);
    drop(group);
    let limits = Limits {
        bytes_max: 1,
        ..LIMITS
    };
    let group = Group::select(&mut bench.queue, &bench.routes, limits);
    assert_eq!(keys(&group), ["c"], "one goes, however large");
    drop(group);
    assert_eq!(
        bench.gate.count(),
        1,
        "places are free again once their group is gone"
    );
}
