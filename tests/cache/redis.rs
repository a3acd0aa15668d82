//! What stands in Redis, as other programs see it and spoil it.

use axs::core::{cache::redis, config};

use crate::{
    fixture::{Fixture, PATIENCE, SHARD, snapshot},
    outage::Server,
};

#[tokio::test]
async fn a_person_can_read_what_stands_in_redis() {
    let on = Fixture::redis();
    on.beat(7, 3, None, &[snapshot(17, 7, 12_345)]).await;
    assert!(on.enter("one", PATIENCE).await);
    let mut plain = on.plain();
    let mut get = |rest: &str| -> String {
        ::redis::cmd("GET")
            .arg(on.key(rest))
            .query(&mut plain)
            .expect("a text")
    };
    assert_eq!(
        get("{3}:balance:17"),
        "00000000000000000007 00000000000000012345 v1 2026-03-01T02:03:04.567890Z \
         | asset 1 available 12345 frozen 7 version 3 position 12345"
    );
    assert_eq!(get("{3}:epoch"), "00000000000000000007");
    assert_eq!(
        get("{3}:pulse"),
        "00000000000000000007 00000000000000000003"
    );
    assert_eq!(get("{3}:gate"), "one");
    let left: i64 = ::redis::cmd("PTTL")
        .arg(on.key("{3}:gate"))
        .query(&mut plain)
        .expect("a time");
    assert!((1..=20_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_damaged_value_is_a_miss_and_is_replaced() {
    let on = Fixture::redis();
    let mut plain = on.plain();
    for garbage in [
        "",
        "zzz",
        "999999999999999999999999999999999999999999999 x",
        "\u{0}\u{1}",
    ] {
        let key = on.key("{3}:balance:1");
        ::redis::cmd("SET")
            .arg(&key)
            .arg(garbage)
            .exec(&mut plain)
            .expect("set");
        assert_eq!(on.read(1).await, None, "{garbage:?}");
        assert_eq!(on.write(1, &[snapshot(1, 1, 1)]).await, 1, "{garbage:?}");
        assert_eq!(on.read(1).await, Some(snapshot(1, 1, 1)));
    }
    // Keys of another type, the epoch and the gate among them.
    for rest in ["{3}:balance:1", "{3}:epoch", "{3}:pulse", "{3}:gate"] {
        let key = on.key(rest);
        ::redis::cmd("DEL")
            .arg(&key)
            .exec(&mut plain)
            .expect("deleted");
        ::redis::cmd("LPUSH")
            .arg(&key)
            .arg("x")
            .exec(&mut plain)
            .expect("pushed");
    }
    assert_eq!(on.read(1).await, None);
    assert_eq!(on.write(1, &[snapshot(1, 1, 1)]).await, 1);
    assert!(on.beat(1, 2, Some(1), &[]).await, "no pulse is a lost one");
    assert!(!on.beat(1, 3, None, &[]).await);
    assert!(on.enter("a", PATIENCE).await);
    ::redis::cmd("SET")
        .arg(on.key("{3}:epoch"))
        .arg("zzz")
        .exec(&mut plain)
        .expect("set");
    assert_eq!(on.write(1, &[snapshot(1, 1, 2)]).await, 1);
    assert_eq!(
        on.write(0, &[snapshot(1, 0, 3)]).await,
        0,
        "the epoch is known again"
    );
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_sent_again() {
    // Of its own: forgetting is for all who use a server.
    let server = Server::start(&[]);
    let on = Fixture::at(server.url());
    for position in 1..4 {
        ::redis::cmd("SCRIPT")
            .arg("FLUSH")
            .exec(&mut on.plain())
            .expect("flushed");
        assert_eq!(on.write(1, &[snapshot(1, 1, position)]).await, 1);
        assert!(on.enter("a", PATIENCE).await);
        on.cache.gate_leave(SHARD, "a").await.expect("left");
    }
}

#[tokio::test]
async fn a_leader_notices_that_redis_was_emptied() {
    let server = Server::start(&[]);
    let on = Fixture::at(server.url());
    assert!(!on.beat(1, 1, None, &[snapshot(1, 1, 1)]).await);
    ::redis::cmd("FLUSHALL")
        .exec(&mut on.plain())
        .expect("flushed");
    // A late write of somebody else finds nothing that is newer.
    assert_eq!(on.write(1, &[snapshot(1, 1, 0)]).await, 1);
    assert!(on.beat(1, 2, Some(1), &[]).await);
    assert!(on.beat(1, 3, Some(1), &[]).await, "the answer was lost");
    assert!(!on.beat(1, 4, None, &[]).await);
    assert!(!on.beat(1, 5, Some(4), &[]).await);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (change, sentence) in [
        (
            config::Redis {
                url: None,
                ..config::Redis::default()
            },
            "set `redis.url`",
        ),
        (
            config::Redis {
                url: Some("postgres://x".into()),
                ..config::Redis::default()
            },
            "`redis.url` does not work",
        ),
        (
            config::Redis {
                url: Some("redis://localhost".into()),
                key_prefix: "a{b}".into(),
                ..config::Redis::default()
            },
            "has a brace",
        ),
    ] {
        let error = redis::Cache::connect(&change)
            .map(drop)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(sentence), "{error}");
    }
}
