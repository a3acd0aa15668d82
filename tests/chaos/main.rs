//! `axs chaos` of the built binary against real servers: its verdict is the assertion. Each of these
//! runs for less than a minute, one after the other; long runs are made by hand, see
//! docs/reliability.md.
//!
//! `AXS_TEST_SEED` repeats the load and the faults of a run that failed.

#[expect(dead_code, reason = "stacks need only some of it")]
#[path = "../support/member.rs"]
mod member;
#[expect(dead_code, reason = "stacks need only some of it")]
#[path = "../support/process.rs"]
mod process;
#[expect(dead_code, reason = "servers are killed by hooks here")]
#[path = "../support/stack.rs"]
mod stack;
#[expect(dead_code, reason = "processes name its reports")]
#[path = "../support/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;

mod run;
mod watchers;

use run::{Run, hooks, own_servers};

#[test]
fn services_are_killed_stopped_and_cut_off() {
    let run = Run::start(
        &["--minutes", "0.5", "--faults", "kill,stop,cut,redis"],
        None,
    );
    let report = run.finish();
    report.holds();
    for (what, least) in [
        ("kill -9", 5),
        ("SIGSTOP, SIGCONT", 5),
        ("connection cut at any byte", 10),
        ("redis: all keys lost", 1),
    ] {
        assert!(report.faults(what) >= least, "{what}: {report:?}");
    }
    assert!(report.number("take_overs") > 4, "{report:?}");
}

#[test]
fn every_server_is_restarted_and_everything_else_breaks_too() {
    let stack = own_servers();
    let hooks = hooks(&stack);
    let mut arguments = vec!["--minutes", "0.7", "--every", "kafka=15s"];
    arguments.extend(["--every", "postgres=10s"]);
    arguments.extend(hooks.iter().flat_map(|hook| ["--hook", hook]));
    let report = Run::start(&arguments, Some(&stack)).finish();
    report.holds();
    for server in ["postgres: restarted", "kafka: restarted"] {
        assert!(report.faults(server) > 0, "{server}: {report:?}");
    }
}

#[test]
fn another_process_goes_on_after_a_kill_and_after_a_hand_over() {
    for (how, strikes) in [("kill", "3"), ("term", "8")] {
        let rate = ["--rate", "200", "--clients", "4"];
        let arguments = ["failover", "--how", how, "--kills", strikes];
        let report = Run::start(&[&arguments[..], &rate[..]].concat(), None).finish();
        report.holds();
        assert_eq!(report.number("not_taken_over"), 0, "{report:?}");
        if how == "term" {
            assert_eq!(report.number("bad_exits"), 0, "{report:?}");
            assert_eq!(report.number("errors_seen_by_clients"), 0, "{report:?}");
        }
    }
}

#[test]
fn a_database_that_is_away_is_caught_up_with() {
    let arguments = ["outage", "--of", "postgres", "--minutes", "0.2"];
    let report = Run::start(&arguments, None).finish();
    report.holds();
    assert!(report.number("during_refusals") > 0, "{report:?}");
    assert_ne!(report.text("caught_up_after"), "-", "{report:?}");
}
