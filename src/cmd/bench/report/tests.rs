//! The page is well-formed whatever is in it, and loads nothing.

use std::time::Duration;

use axs::core::bench::{Recorder, Stage};
use serde_json::json;
use tokio::time::Instant;

use super::*;

fn figures(latencies_us: &[u64]) -> Figures {
    let now = Instant::now();
    let mut seen = Recorder::new(now);
    for latency in latencies_us {
        seen.done(now - Duration::from_micros(*latency), 1);
    }
    let mut more = Map::new();
    more.insert("rate".into(), json!(1000));
    more.insert(
        "steps".into(),
        json!({"accept": {"p50_us": 1.5, "p99_us": 2}, "log": {"p50_us": 3, "p99_us": 4}}),
    );
    Figures {
        bench: "engine",
        workload: json!({"shape": "<b>&\"'\u{1}", "accounts": 1_000_000})
            .as_object()
            .expect("an object")
            .clone(),
        seconds: 1.0,
        seen,
        latency_of: "a call of <1> command".into(),
        cpu_seconds: 0.5,
        peak_rss_bytes: 3 << 20,
        stages: vec![
            Stage {
                name: "serve-grpc-with-a-name-that-does-not-fit".into(),
                cpu_seconds: 0.4,
            },
            Stage {
                name: "redis".into(),
                cpu_seconds: 0.0,
            },
        ],
        more,
    }
}

/// What a page without samples, with one, and with many has in common.
fn check(figures: &Figures) -> String {
    let page = page(figures);
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a document");
    let document =
        roxmltree::Document::parse(body).unwrap_or_else(|error| panic!("{error} in\n{page}"));
    let elements = || document.descendants().filter(roxmltree::Node::is_element);
    for element in elements() {
        let name = element.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object"].contains(&name));
        assert!(element.attribute("src").is_none() && element.attribute("href").is_none());
        for attribute in element.attributes() {
            let value = attribute.value();
            assert!(
                !value.contains("NaN") && !value.contains("inf"),
                "{name} {value}"
            );
        }
    }
    for of_network in ["http://", "https://", "@import", "url("] {
        assert!(!page.contains(of_network), "{of_network}");
    }
    for plot in elements().filter(|it| it.has_tag_name("svg")) {
        let named = |name| {
            let child = plot.children().find(|child| child.has_tag_name(name));
            child.and_then(|child| child.text()).is_some()
        };
        assert!(named("title") && named("desc"), "a plot is read out");
    }
    let ids: Vec<_> = elements().filter_map(|it| it.attribute("id")).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "an id names one element");
    page
}

#[test]
fn a_page_is_well_formed_and_loads_nothing() {
    let many: Vec<u64> = (1..2_000).map(|n| n * n).collect();
    for latencies in [&[][..], &[0], &[700], &[5, 5, 5], &many] {
        let page = check(&figures(latencies));
        assert!(
            page.contains("&lt;b&gt;&amp;&quot;&#39;\u{fffd}"),
            "text is text"
        );
        assert!(page.contains("prefers-color-scheme: dark"));
    }
    let mut bare = figures(&[]);
    bare.stages.clear();
    bare.more.clear();
    bare.workload.clear();
    check(&bare);
}

#[test]
fn figures_stand_in_the_page() {
    let page = check(&figures(&[2_000; 40]));
    for expected in [
        "40 were measured",
        "serve-grpc-with-a-n…",
        "p50 us",
        "1,000,000",
        "3 MiB",
    ] {
        assert!(page.contains(expected), "{expected} in\n{page}");
    }
}

#[test]
fn axes_have_round_steps_that_hold_every_value() {
    let labels = |scale: &Scale| {
        let labels = scale.labels();
        labels.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(labels(&Scale::linear(9.0, "")), "0 2 4 6 8 10");
    assert_eq!(
        labels(&Scale::linear(1_234.0, "")),
        "0 250 500 750 1 k 1.25 k"
    );
    assert_eq!(labels(&Scale::linear(0.0, "")), "0 0.2 0.4 0.6 0.8 1");
    assert_eq!(
        labels(&Scale::log_micros(900.0, 9_000.0)),
        "500 µs 1 ms 2 ms 5 ms 10 ms"
    );
    assert_eq!(labels(&Scale::log_micros(1_000.0, 1_000.0)), "1 ms 2 ms");
    assert_eq!(labels(&Scale::nines(3.2)), "0 % 50 % 90 % 99 % 99.9 %");
}

#[test]
fn what_cannot_be_written_is_told_and_a_check_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    super::check(&page).expect("it can be written");
    assert!(!page.exists());
    let error = super::check(&folder.path().join("none/page.html")).expect_err("no such folder");
    assert!(error.to_string().starts_with("cannot write `"), "{error}");
    fs::write(&page, "before").expect("a file");
    super::check(&page).expect("it can be written");
    assert_eq!(fs::read_to_string(&page).expect("a file"), "before");
    write(&page, &figures(&[1])).expect("it can be written");
    assert!(
        fs::read_to_string(&page)
            .expect("a file")
            .starts_with("<!DOCTYPE html>")
    );
}
