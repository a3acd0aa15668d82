//! A row per reject code, and the order of checks: of two failures the earlier one is reported.

use super::check;

#[test]
fn shape_100() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("unspecified 1", "100 leg 0 1"),
        ("change 1", "100 leg 0 1"),
        ("change 1 A:1*65", "100 leg 0 1"),
        ("transfer 1 A:0", "100 leg 0 1"),
        ("transfer 1 A:0*65", "100 leg 0 1"),
        ("open 2 A:0*65", "100 leg 0 2"),
        ("block 1 A:1", "100 leg 0 1"),
        ("unblock 1 A:1", "100 leg 0 1"),
        ("close 1 A:1", "100 leg 0 1"),
        ("reverse 1 #1 A:1", "100 leg 0 1"),
        ("reverse 1", "100 leg 0 1"),
        ("change 1 A:1 #1", "100 leg 0 1"),
        ("change 1 A:1 user=7", "100 leg 0 1"),
        ("change 1 A:1 pin=3", "100 leg 0 1"),
        ("change 0 1.A:1", "100 leg 0 0"),
        (
            "change 9223372036854775808 1.A:1",
            "100 leg 0 9223372036854775808",
        ),
        ("change c4 1.A:1", "100 leg 0 c4"),
        ("open c3", "100 leg 0 c3"),
        ("block c3", "100 leg 0 c3"),
        ("unblock c3", "100 leg 0 c3"),
        ("close c3", "100 leg 0 c3"),
        ("change 1 A:1 0.A:1", "100 leg 1 0"),
        ("change 1 A:1 c4.A:1", "100 leg 1 c4"),
        ("change 1 A:1 _:1", "100 leg 1 1"),
        ("change 1 A:1|_:1", "100 leg 0 1"),
        ("transfer 1 A:1 A:-1|B:-1", "100 leg 1 1"),
        ("open 2 A:1 1.A:1", "100 leg 1 1"),
        ("change 1 A:1*64 #1", "100 leg 0 1"),
        ("change 1 A:1", "ok 1.A=6/0 v2"),
    ]);
}

#[test]
fn transfer_not_balanced_103() {
    check(&[
        ("open 1 A:9 B:9", "ok 1.A=9/0 v1 1.B=9/0 v1"),
        ("open 2", "ok"),
        ("transfer 1 A:-3 2.A:2", "103 leg 0 1.A had -1 needed 0"),
        ("transfer 1 A:-3 2.B:3", "103 leg 0 1.A had -3 needed 0"),
        (
            "transfer 1 A:-3 2.B:3 2.A:3",
            "103 leg 0 1.B had 3 needed 0",
        ),
        ("transfer 1 A:-3:1 2.A:1:1", "ok 1.A=6/1 v2 2.A=1/1 v1"),
        // Sums beyond 128 bits are neither cut to zero nor refused by accident.
        (
            "transfer 1 A:max:max A:max:max",
            "103 leg 0 1.A had max needed 0",
        ),
        (
            "transfer 1 A:min:min A:min:min",
            "103 leg 0 1.A had min needed 0",
        ),
        (
            "transfer 1 A:max:max A:min:min",
            "402 leg 0 1.A had 6 needed max",
        ),
        (
            "transfer 1 A:max*32 A:min*31",
            "103 leg 0 1.A had max needed 0",
        ),
        // 2^128 as a sum of deltas is not zero.
        (
            "transfer 1 A:85070591730234615865843651857942052864:85070591730234615865843651857942052864 \
             A:85070591730234615865843651857942052864:85070591730234615865843651857942052864",
            "103 leg 0 1.A had max needed 0",
        ),
    ]);
}

#[test]
fn accounts_200_to_204() {
    check(&[
        ("change 1 A:1", "200 leg 0 1"),
        ("open 1 A:5:6 B:7", "ok 1.A=5/6 v1 1.B=7/0 v1"),
        ("change 1 A:1 1.A:1 2.A:1 3.A:1", "200 leg 2 2"),
        ("open 1", "201 leg 0 1"),
        ("close 1", "204 leg 0 1.A had 5 needed 0"),
        ("change 1 A:-5", "ok 1.A=0/6 v2"),
        ("close 1", "204 leg 0 1.A had 6 needed 0"),
        ("change 1 A:0:-6", "ok 1.A=0/0 v3"),
        ("close 1", "204 leg 0 1.B had 7 needed 0"),
        ("block 1", "ok"),
        ("change 1 A:1", "202 leg 0 1"),
        ("open 1", "201 leg 0 1"),
        ("close 1", "202 leg 0 1"),
        ("open 2", "ok"),
        ("change 2 A:1 A:1 1.A:1", "202 leg 2 1"),
        ("unblock 1", "ok"),
        ("change 1 B:-7", "ok 1.B=0/0 v2"),
        ("close 1", "ok"),
        ("change 1 A:1", "203 leg 0 1"),
        ("change 2 A:1 1.A:1", "203 leg 1 1"),
        ("close 1", "203 leg 0 1"),
        ("block 1", "203 leg 0 1"),
        ("unblock 1", "203 leg 0 1"),
        ("open 1", "201 leg 0 1"),
        ("block 9", "200 leg 0 9"),
        ("unblock 9", "200 leg 0 9"),
        ("close 9", "200 leg 0 9"),
        ("reverse 9 #2", "200 leg 0 9"),
    ]);
}

#[test]
fn conditions_300_and_301() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("change 1 A:1?v=0", "300 leg 0 1.A had 1 needed 0"),
        ("change 1 A:1?v=2", "300 leg 0 1.A had 1 needed 2"),
        ("change 1 A:1?v=1", "ok 1.A=6/0 v2"),
        ("change 1 A:1 A:1?v=2", "300 leg 1 1.A had 3 needed 2"),
        ("change 1 A:1?v=2 A:1?v=3", "ok 1.A=7/0 v3 1.A=8/0 v4"),
        ("change 1 B:1?v=0", "ok 1.B=1/0 v1"),
        ("change 1 A:1?min=9", "301 leg 0 1.A had 8 needed 9"),
        ("change 1 A:1?min=8", "ok 1.A=9/0 v5"),
        ("change 1 A:-1 A:1?min=9", "301 leg 1 1.A had 8 needed 9"),
        ("change 1 C:1?min=1", "301 leg 0 1.C had 0 needed 1"),
        ("change 1 C:1?min=min", "ok 1.C=1/0 v1"),
        (
            "change 1 A:1?v=18446744073709551615",
            "300 leg 0 1.A had 5 needed 18446744073709551615",
        ),
        // A condition is the primary's; no fallback helps when it does not hold.
        ("change 1 A:-99|B:1?v=1", "300 leg 0 1.A had 5 needed 1"),
        ("change 1 A:-99|B:1?v=5", "ok 1.B=2/0 v2~"),
        // The version first.
        ("change 1 A:1?v=1?min=99", "300 leg 0 1.A had 5 needed 1"),
    ]);
}

#[test]
fn funds_400_to_402() {
    check(&[
        ("open 1 A:5:5", "ok 1.A=5/5 v1"),
        ("change 1 A:-6", "400 leg 0 1.A had 5 needed 6"),
        ("change 1 A:0:-6", "401 leg 0 1.A had 5 needed 6"),
        ("change 1 A:-6:-6", "400 leg 0 1.A had 5 needed 6"),
        ("change 1 A:max", "402 leg 0 1.A had 5 needed max"),
        ("change 1 A:0:max", "402 leg 0 1.A had 5 needed max"),
        ("change 1 A:min", "400 leg 0 1.A had 5 needed max"),
        ("change 1 A:-6:max", "402 leg 0 1.A had 5 needed max"),
        // Each change on the balance as the earlier ones left it, all or nothing.
        ("change 1 A:-5 A:-1", "400 leg 1 1.A had 0 needed 1"),
        (
            "change 1 A:-5:5 A:0:-10 A:1",
            "ok 1.A=0/10 v2 1.A=0/0 v3 1.A=1/0 v4",
        ),
        ("change 1 A:0", "ok 1.A=1/0 v5"),
        ("change 1 B:max B:0:max", "ok 1.B=max/0 v1 1.B=max/max v2"),
        ("change 1 B:1", "402 leg 0 1.B had max needed 1"),
        ("change 1 B:min:min", "ok 1.B=0/0 v3"),
        // What is not enough at first is not made good by a later change.
        ("change 1 A:-2 A:2", "400 leg 0 1.A had 1 needed 2"),
    ]);
}

#[test]
fn reversal_500_and_501() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        ("open 2", "ok"),
        ("change 1 A:2 2.A:1", "ok 1.A=7/0 v2 2.A=1/0 v1"),
        ("change 1 A:-99", "400 leg 0 1.A had 7 needed 99"),
        ("reverse 1 #99", "500 leg 0 1"),
        ("reverse 1 #6", "500 leg 0 1"),
        ("reverse 1 #4/3", "500 leg 0 1"),
        ("reverse 2 #3", "500 leg 0 2"),
        ("reverse 1 #4", "500 leg 0 1"),
        ("reverse 1 #1", "500 leg 0 1"),
        ("reverse 1 #3", "ok 2.A=0/0 v2 1.A=5/0 v3"),
        ("reverse 1 #3", "501 leg 0 1"),
        ("reverse 1 #11", "500 leg 0 1"),
    ]);
}

/// A command that fails two checks reports the earlier, step by step.
#[test]
fn order_of_checks() {
    check(&[
        ("open 1 A:5", "ok 1.A=5/0 v1"),
        // Duplicate before shape.
        ("change 0", "100 leg 0 0"),
        ("again #2", "skipped"),
        // INVALID in any change before TRANSFER_NOT_BALANCED, that before existence.
        ("transfer 9 A:1 0.A:1", "100 leg 1 0"),
        ("transfer 9 A:1 A:1", "103 leg 0 9.A had 2 needed 0"),
        ("open 1 _:1", "100 leg 0 1"),
        // Existence of every account before the reversal and before any status.
        ("reverse 9 #99", "200 leg 0 9"),
        ("open 2", "ok"),
        ("block 2", "ok"),
        ("change 2 9.A:1", "200 leg 0 9"),
        // Reversal before status; the target's rejection before a second reversal.
        ("reverse 2 #99", "500 leg 0 2"),
        ("open 3 A:1", "ok 3.A=1/0 v1"),
        ("change 3 A:5", "ok 3.A=6/0 v2"),
        ("reverse 3 #13", "ok 3.A=1/0 v3"),
        ("block 3", "ok"),
        ("reverse 3 #13", "501 leg 0 3"),
        // Status in order of first mention, own account first, whatever the codes.
        ("change 1 A:-1", "ok 1.A=4/0 v2"),
        ("open 4", "ok"),
        ("close 4", "ok"),
        ("change 1 4.A:1 2.A:1", "203 leg 0 4"),
        ("change 1 2.A:1 4.A:1", "202 leg 0 2"),
        ("change 2 4.A:1", "202 leg 0 2"),
        ("change 4 2.A:1", "203 leg 0 4"),
        // Status before emptiness.
        ("close 3", "202 leg 0 3"),
        // Status of a later change before the condition of an earlier one.
        ("change 1 A:1?v=99 2.A:1", "202 leg 1 2"),
        // Change by change: an earlier change's funds before a later change's condition.
        ("change 1 A:-9 A:1?v=99", "400 leg 0 1.A had 4 needed 9"),
        // Condition before overflow before available before frozen.
        ("change 1 A:max?v=99", "300 leg 0 1.A had 2 needed 99"),
        ("change 1 A:max?min=99", "301 leg 0 1.A had 4 needed 99"),
        ("change 1 A:-9?min=99", "301 leg 0 1.A had 4 needed 99"),
        ("change 1 A:0:2", "ok 1.A=4/2 v3"),
        ("change 1 A:-9:max", "402 leg 0 1.A had 2 needed max"),
        ("change 1 A:max:-9", "402 leg 0 1.A had 4 needed max"),
        ("change 1 A:-9:-9", "400 leg 0 1.A had 4 needed 9"),
        ("change 1 A:-4:-9", "401 leg 0 1.A had 2 needed 9"),
    ]);
}
