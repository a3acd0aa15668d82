//! A cache of a test's own, in memory or in Redis, and what is written to it.

use std::time::Duration;

use axs::core::{
    cache::{Cache, Pulse, Snapshot, memory, redis},
    config,
    engine::Balance,
    types::{AccountId, AssetId, Epoch, Money, Position, ShardId, Timestamp},
};

use crate::support::{required, unique};

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SHARD: ShardId = ShardId(3);

/// A cache that nobody else writes to.
pub struct Fixture {
    pub cache: Cache,
    pub settings: Option<config::Redis>,
}

impl Fixture {
    pub fn memory() -> Self {
        Self {
            cache: Cache::Memory(memory::Cache::new()),
            settings: None,
        }
    }

    pub fn redis() -> Self {
        Self::at(required("AXS_TEST_REDIS_URL"))
    }

    pub fn at(url: String) -> Self {
        let settings = config::Redis {
            url: Some(url),
            key_prefix: format!("{}:", unique("axs-test")),
            // A busy machine is no outage; the tests of outages say what they expect.
            timeout: Duration::from_secs(5),
            ..config::Redis::default()
        };
        Self::with(settings)
    }

    pub fn with(settings: config::Redis) -> Self {
        let cache = redis::Cache::connect(&settings).expect("the settings work");
        Self {
            cache: Cache::Redis(cache),
            settings: Some(settings),
        }
    }

    /// A plain client, as `redis-cli` is one.
    pub fn plain(&self) -> ::redis::Connection {
        plain(self.url()).expect("Redis answers")
    }

    pub fn url(&self) -> &str {
        self.settings
            .as_ref()
            .and_then(|settings| settings.url.as_deref())
            .expect("of Redis")
    }

    pub fn key(&self, rest: &str) -> String {
        format!(
            "{}{rest}",
            self.settings.as_ref().expect("of Redis").key_prefix
        )
    }

    pub async fn write(&self, epoch: u64, snapshots: &[Snapshot]) -> usize {
        let written = self.cache.write(SHARD, Epoch(epoch), None, snapshots).await;
        written.expect("written").newer
    }

    /// As the leader does, which knows what the cache acknowledged; whether that is lost.
    pub async fn beat(&self, epoch: u64, number: u64, known: Option<u64>, of: &[Snapshot]) -> bool {
        let pulse = Pulse {
            number,
            acknowledged: known,
        };
        let written = self.cache.write(SHARD, Epoch(epoch), Some(pulse), of).await;
        written.expect("written").is_lost
    }

    pub async fn read(&self, account: u64) -> Option<Snapshot> {
        let read = self.cache.read(&[(SHARD, AccountId(account))]).await;
        read.expect("read").pop().expect("an answer for each key")
    }

    pub async fn enter(&self, who: &str, ttl: Duration) -> bool {
        self.cache
            .gate_enter(SHARD, who, ttl)
            .await
            .expect("answered")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let Some(settings) = &self.settings else {
            return;
        };
        // The server may be gone: then so are the keys.
        let Ok(mut connection) = plain(self.url()) else {
            return;
        };
        let pattern = format!("{}*", settings.key_prefix);
        let mut scan = ::redis::cmd("SCAN");
        let keys = scan
            .cursor_arg(0)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(10_000);
        let keys: Vec<String> = match keys.clone().iter(&mut connection) {
            Ok(keys) => keys.filter_map(Result::ok).collect(),
            Err(_) => return,
        };
        for key in keys {
            let _ = ::redis::cmd("DEL").arg(key).exec(&mut connection);
        }
    }
}

pub fn plain(url: &str) -> ::redis::RedisResult<::redis::Connection> {
    ::redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(2))
}

pub fn snapshot(account: u64, epoch: u64, position: i64) -> Snapshot {
    Snapshot {
        account: AccountId(account),
        epoch: Epoch(epoch),
        position: Position(position),
        as_of: Timestamp(1_772_330_584_567_890),
        balances: vec![Balance {
            account: AccountId(account),
            asset: AssetId(1),
            available: Money::from(position),
            frozen: Money::from(7),
            version: 3,
            last_position: Position(position),
        }],
    }
}
