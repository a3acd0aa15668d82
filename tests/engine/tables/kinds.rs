//! What each kind does when nothing is wrong, and its finer points.

use super::check;

#[test]
fn a_repeated_number_does_nothing_even_after_a_rejection() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("change 1 A:-6", "400 leg 0 1.A had 5 needed 6"),
        ("change 1 A:1", "ok 1.A=6/0 v2"),
        ("again #2", "skipped"),
        ("again #3", "skipped"),
        ("again #1", "skipped"),
        ("change 1 A:-6", "ok 1.A=0/0 v3"),
    ]);
}

#[test]
fn operations_are_pairs_of_deltas() {
    check(&[
        ("open 1 user=7 A:10", "ok 1.A=10/0 v1"),
        ("change 1 A:-4:4", "ok 1.A=6/4 v2"),
        ("change 1 A:1:-1", "ok 1.A=7/3 v3"),
        ("change 1 A:0:-3", "ok 1.A=7/0 v4"),
        ("change 1 A:-7", "ok 1.A=0/0 v5"),
        ("change 1 B:0:3", "ok 1.B=0/3 v1"),
    ]);
}

#[test]
fn opening_balances_follow_the_rules_of_changes() {
    check(&[
        ("open 1 A:-1", "400 leg 0 1.A had 0 needed 1"),
        ("change 1 A:1", "200 leg 0 1"),
        ("open 1 A:1?v=1", "300 leg 0 1.A had 0 needed 1"),
        (
            "open 1 A:-1|B:2 A:3 A:-3:3",
            "ok 1.B=2/0 v1~ 1.A=3/0 v1 1.A=0/3 v2",
        ),
        ("open 1 A:1", "201 leg 0 1"),
    ]);
}

#[test]
fn fallbacks() {
    check(&[
        ("open 1 A:5 B:5", "ok 1.A=5/0 v1 1.B=5/0 v1"),
        ("open 2 A:1 B:9", "ok 2.A=1/0 v1 2.B=9/0 v1"),
        ("change 1 A:-5|B:-5", "ok 1.A=0/0 v2"),
        ("change 1 A:-5|B:-5", "ok 1.B=0/0 v2~"),
        ("change 1 A:-5|B:-4", "400 leg 0 1.A had 0 needed 5"),
        ("change 1 A:0:-5|B:-4", "401 leg 0 1.A had 0 needed 5"),
        ("change 1 A:-5|B:0:-4", "400 leg 0 1.A had 0 needed 5"),
        // On the change's own account.
        ("change 1 2.A:-2|B:-2", "ok 2.B=7/0 v2~"),
        // The same asset, smaller.
        ("change 2 A:-2|A:-1", "ok 2.A=0/0 v2~"),
        // Overflow is not short of funds; an overflowing fallback fails like any other.
        ("change 1 A:1", "ok 1.A=1/0 v3"),
        ("change 1 A:max|B:1", "402 leg 0 1.A had 1 needed max"),
        ("change 1 B:1", "ok 1.B=1/0 v3"),
        ("change 1 A:-5|B:max", "400 leg 0 1.A had 1 needed 5"),
        // A failed primary leaves nothing behind, not even a version.
        ("change 1 C:-1|A:1 C:1?v=0", "ok 1.A=2/0 v4~ 1.C=1/0 v1"),
    ]);
}

#[test]
fn several_accounts_change_together_or_not_at_all() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("open 2 A:5", "ok 2.A=5/0 v1"),
        ("change 1 A:1 2.A:1 2.A:-9", "400 leg 2 2.A had 6 needed 9"),
        (
            "change 1 A:1 2.A:1 1.A:1",
            "ok 1.A=6/0 v2 2.A=6/0 v2 1.A=7/0 v3",
        ),
        ("change 1 2.A:-6", "ok 2.A=0/0 v3"),
        ("transfer 1 A:-7 2.A:7", "ok 1.A=0/0 v4 2.A=7/0 v4"),
    ]);
}

#[test]
fn reversal_takes_entries_back_backwards() {
    check(&[
        ("open 1 A:5 B:1", "ok 1.A=5/0 v1 1.B=1/0 v1"),
        ("open 2", "ok"),
        // Forwards it would be short of funds at once.
        (
            "change 1 A:-5:5 A:0:-5 2.A:5",
            "ok 1.A=0/5 v2 1.A=0/0 v3 2.A=5/0 v1",
        ),
        ("reverse 1 #3", "ok 2.A=0/0 v2 1.A=0/5 v4 1.A=5/0 v5"),
        ("change 1 A:-6|B:-1", "ok 1.B=0/0 v2~"),
        ("reverse 1 #5", "ok 1.B=1/0 v3~"),
        ("transfer 1 A:-5 2.A:5", "ok 1.A=0/0 v6 2.A=5/0 v3"),
        ("change 2 A:-1", "ok 2.A=4/0 v4"),
        ("reverse 1 #7", "400 leg 1 2.A had 4 needed 5"),
        // Rejected is not reversed: it may be tried again.
        ("change 2 A:1", "ok 2.A=5/0 v5"),
        ("block 2", "ok"),
        ("reverse 1 #7", "202 leg 1 2"),
        ("unblock 2", "ok"),
        ("reverse 1 #7", "ok 2.A=0/0 v6 1.A=5/0 v7"),
        ("reverse 1 #7", "501 leg 0 1"),
        // A reversal is not a CHANGE.
        ("reverse 1 #14", "500 leg 0 1"),
        // Nor is opening.
        ("reverse 1 #1", "500 leg 0 1"),
        ("change 1 A:0", "ok 1.A=5/0 v8"),
        ("reverse 1 #18", "ok 1.A=5/0 v9"),
    ]);
}

#[test]
fn block_unblock_close() {
    check(&[
        ("open 1", "ok"),
        ("unblock 1", "ok"),
        ("block 1", "ok"),
        ("block 1", "ok"),
        ("change 1 A:1", "202 leg 0 1"),
        ("unblock 1", "ok"),
        ("change 1 A:1 A:-1", "ok 1.A=1/0 v1 1.A=0/0 v2"),
        ("close 1", "ok"),
        ("change 1 A:0", "203 leg 0 1"),
    ]);
}

/// A clearing account needs no opening and has no floor; only its bounds hold it.
#[test]
fn clearing_account_of_the_own_shard() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("transfer 1 A:-5 c3.A:5", "ok 1.A=0/0 v2 c3.A=5/0 v1"),
        ("transfer 1 A:9 c3.A:-9", "ok 1.A=9/0 v3 c3.A=-4/0 v2"),
        ("change c3 A:0:-7", "ok c3.A=-4/-7 v3"),
        ("change c3 A:min", "402 leg 0 c3.A had -4 needed min"),
        ("change c3 A:0:-7?min=-4", "ok c3.A=-4/-14 v4"),
        ("change c3 A:0?min=-3", "301 leg 0 c3.A had -4 needed -3"),
        ("reverse c3 #6", "ok c3.A=-4/-7 v5"),
    ]);
}
