//! The cache in Redis: keys and scripts. All keys of a shard carry its number as hash tag, so that
//! a script finds them on one node of a cluster.
//!
//! - `<prefix>{<shard>}:balance:<account>`: a snapshot, see `value`.
//! - `<prefix>{<shard>}:epoch`: the greatest epoch that wrote snapshots, in 20 digits.
//! - `<prefix>{<shard>}:pulse`: epoch and number of the leader's last write, in 20 digits each.
//! - `<prefix>{<shard>}:gate`: who should try to lead the shard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use redis::Script;

use super::{Error, Pulse, Snapshot, Written};
use crate::core::{
    config,
    types::{AccountId, Epoch, ShardId},
};

mod link;
mod value;

use link::Link;

/// Most accounts of one call: Redis serves nobody else meanwhile.
const CALL_ACCOUNTS_MAX: usize = 250;
/// Most calls of one write or read that are under way.
const CALLS_MAX: usize = 4;
/// What the script answers when the writer's epoch is over.
const EPOCH_OVER: i64 = -1;

const WRITE: &str = include_str!("write.lua");
const GATE_ENTER: &str = include_str!("gate_enter.lua");
const GATE_LEAVE: &str = include_str!("gate_leave.lua");

/// Redis, for this process. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    prefix: String,
    write: Script,
    gate_enter: Script,
    gate_leave: Script,
}

impl Cache {
    /// Reads the settings. Redis may be away: the first call connects.
    pub fn connect(settings: &config::Redis) -> Result<Self, Error> {
        if settings.key_prefix.contains(['{', '}']) {
            return Err(Error(format!(
                "`redis.key_prefix` = `{}` has a brace, and the shard's number must be the only \
                 part in braces",
                settings.key_prefix
            )));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                link: Link::new(settings)?,
                prefix: settings.key_prefix.clone(),
                write: Script::new(WRITE),
                gate_enter: Script::new(GATE_ENTER),
                gate_leave: Script::new(GATE_LEAVE),
            }),
        })
    }

    /// See [`super::Cache::write`].
    pub async fn write(
        &self,
        shard: ShardId,
        epoch: Epoch,
        pulse: Option<Pulse>,
        snapshots: &[Snapshot],
    ) -> Result<Written, Error> {
        let mut chunks: Vec<_> = snapshots.chunks(CALL_ACCOUNTS_MAX).collect();
        if chunks.is_empty() && pulse.is_some() {
            chunks.push(&[]);
        }
        // The first call must find what was acknowledged, the others what the first one left.
        let mut known = pulse;
        let calls: Vec<_> = chunks
            .into_iter()
            .map(|chunk| {
                let next = known.map(|Pulse { number, .. }| Pulse {
                    number,
                    acknowledged: Some(number),
                });
                self.write_chunk(shard, epoch, std::mem::replace(&mut known, next), chunk)
            })
            .collect();
        // In order: of two snapshots of one account the second call sees what the first wrote.
        let mut answers = stream::iter(calls).buffered(CALLS_MAX);
        let mut written = Written::default();
        while let Some((newer, lost)) = answers.try_next().await? {
            if newer == EPOCH_OVER {
                break;
            }
            written.newer += usize::try_from(newer).unwrap_or_default();
            written.is_lost |= lost == 1;
        }
        Ok(written)
    }

    fn write_chunk(
        &self,
        shard: ShardId,
        epoch: Epoch,
        pulse: Option<Pulse>,
        chunk: &[Snapshot],
    ) -> impl Future<Output = Result<(i64, i64), Error>> + use<> {
        let mut keys = vec![self.key(shard, "epoch"), self.key(shard, "pulse")];
        let text = |number: Option<u64>| {
            number.map_or_else(String::new, |number| value::pulse(epoch, number))
        };
        let mut arguments = vec![
            value::epoch(epoch),
            text(pulse.map(|pulse| pulse.number)),
            text(pulse.and_then(|pulse| pulse.acknowledged)),
        ];
        for snapshot in chunk {
            keys.push(self.balance_key(shard, snapshot.account));
            arguments.push(value::render(snapshot));
        }
        let inner = Arc::clone(&self.inner);
        async move {
            inner
                .link
                .eval(&inner.write, WRITE, &keys, &arguments)
                .await
        }
    }

    /// See [`super::Cache::read`].
    pub async fn read(
        &self,
        keys: &[(ShardId, AccountId)],
    ) -> Result<Vec<Option<Snapshot>>, Error> {
        // A cluster answers for the keys of one slot at a time.
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (index, (shard, _)) in keys.iter().enumerate() {
            by_shard.entry(*shard).or_default().push(index);
        }
        let mut calls = Vec::new();
        for (shard, indexes) in by_shard {
            for chunk in indexes.chunks(CALL_ACCOUNTS_MAX) {
                let accounts: Vec<AccountId> = chunk.iter().map(|&index| keys[index].1).collect();
                calls.push(self.read_chunk(shard, chunk.to_vec(), accounts));
            }
        }
        let mut answers = stream::iter(calls).buffer_unordered(CALLS_MAX);
        let mut found = vec![None; keys.len()];
        while let Some(answer) = answers.try_next().await? {
            for (index, snapshot) in answer {
                found[index] = snapshot;
            }
        }
        Ok(found)
    }

    /// Snapshots beside the places that they were asked for.
    fn read_chunk(
        &self,
        shard: ShardId,
        places: Vec<usize>,
        accounts: Vec<AccountId>,
    ) -> impl Future<Output = Result<Vec<(usize, Option<Snapshot>)>, Error>> + use<> {
        let mut command = redis::cmd("MGET");
        for account in &accounts {
            command.arg(self.balance_key(shard, *account));
        }
        let inner = Arc::clone(&self.inner);
        async move {
            let values: Vec<Option<Vec<u8>>> = inner.link.call(&command).await?;
            let snapshots = values
                .into_iter()
                .zip(accounts)
                .map(|(value, account)| value::parse(account, &value?));
            Ok(places.into_iter().zip(snapshots).collect())
        }
    }

    /// See [`super::Cache::forget`].
    pub async fn forget(&self, shard: ShardId, account: AccountId) -> Result<(), Error> {
        let mut command = redis::cmd("DEL");
        command.arg(self.balance_key(shard, account));
        self.inner.link.call::<i64>(&command).await.map(drop)
    }

    /// See [`super::Cache::epoch`].
    pub async fn epoch(&self, shard: ShardId) -> Result<Option<Epoch>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(shard, "epoch"));
        let digits: Option<String> = self.inner.link.call(&command).await?;
        Ok(digits.and_then(|digits| digits.parse().ok()).map(Epoch))
    }

    /// See [`super::Cache::gate_enter`].
    pub async fn gate_enter(
        &self,
        shard: ShardId,
        who: &str,
        ttl: Duration,
    ) -> Result<bool, Error> {
        // Redis knows no time to live of zero.
        let ttl = ttl.as_millis().max(1).to_string();
        let keys = [self.key(shard, "gate")];
        let arguments = [who.to_owned(), ttl];
        let script = &self.inner.gate_enter;
        let entered: i64 = self
            .inner
            .link
            .eval(script, GATE_ENTER, &keys, &arguments)
            .await?;
        Ok(entered == 1)
    }

    /// See [`super::Cache::gate_leave`].
    pub async fn gate_leave(&self, shard: ShardId, who: &str) -> Result<(), Error> {
        let keys = [self.key(shard, "gate")];
        let arguments = [who.to_owned()];
        let script = &self.inner.gate_leave;
        self.inner
            .link
            .eval::<i64>(script, GATE_LEAVE, &keys, &arguments)
            .await
            .map(drop)
    }

    /// See [`super::Cache::ping`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner
            .link
            .call::<String>(&redis::cmd("PING"))
            .await
            .map(drop)
    }

    fn key(&self, shard: ShardId, name: &str) -> String {
        format!("{}{{{shard}}}:{name}", self.inner.prefix)
    }

    fn balance_key(&self, shard: ShardId, account: AccountId) -> String {
        format!("{}{{{shard}}}:balance:{account}", self.inner.prefix)
    }
}
