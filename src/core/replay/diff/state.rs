//! Balances, accounts, hash and applied set as one snapshot of PostgreSQL has them, beside a replay
//! that stands where the snapshot's row does.

use super::{
    Account, AccountId, BTreeSet, Diff, Finding, IntervalSet, Kind, Position, Replay, StateCounts,
    balance_of,
};
use crate::core::{
    config,
    engine::{AccountStatus, Balance},
    reconcile::{Error, session::Snapshot},
    types::{Anchor, AssetId, Money, Timestamp},
};

/// 2000-01-01, where PostgreSQL counts from, in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// Ranges of numbers that a look into the accepted commands is worth.
const RANGES_MAX: usize = 1_000;

/// A snapshot, and where the shard's row stands in it.
pub struct Stand {
    snapshot: Snapshot,
    /// Of the row.
    pub next_position: Position,
    state_hash: u128,
    anchor: Option<Anchor>,
    applied: IntervalSet,
}

impl Diff {
    /// Begins a snapshot of the shard.
    ///
    /// # Errors
    ///
    /// PostgreSQL did not answer.
    pub async fn stand(&self, settings: &config::Postgres) -> Result<Stand, Error> {
        let snapshot = Snapshot::begin(settings).await?;
        let shard = i16::try_from(self.shard.0).expect("a shard's number is small");
        let sql = "SELECT next_position, state_hash, anchor FROM shard_position WHERE shard = $1";
        let rows = snapshot.query(sql, &[&shard]).await?;
        let Some(row) = rows.first() else {
            return Err(Error::Failed(format!("there is no shard {shard}")));
        };
        let bytes = |bytes: &[u8]| -> Result<[u8; 16], Error> {
            let bytes = bytes.try_into();
            bytes.map_err(|_| Error::Failed("a hash has not 16 bytes".into()))
        };
        let anchor: Option<&[u8]> = row.get(2);
        let sql = "SELECT lower(r), upper(r) - 1 FROM shard_position p, unnest(p.applied) AS r
            WHERE p.shard = $1";
        let mut applied = IntervalSet::new();
        for row in snapshot.query(sql, &[&shard]).await? {
            let (first, last): (i64, i64) = (row.get(0), row.get(1));
            applied.insert_range(first.unsigned_abs(), last.unsigned_abs());
        }
        Ok(Stand {
            next_position: Position(row.get(0)),
            state_hash: u128::from_be_bytes(bytes(row.get(1))?),
            anchor: anchor.map(bytes).transpose()?.map(Anchor),
            applied,
            snapshot,
        })
    }

    /// Compares a replay that stands where the snapshot does.
    ///
    /// # Errors
    ///
    /// PostgreSQL did not answer.
    pub async fn state(&mut self, replay: &Replay, stand: &Stand) -> Result<(), Error> {
        assert!(
            replay.next_position() == stand.next_position,
            "only what stands at one place can be compared"
        );
        let mut counts = StateCounts::default();
        self.balances(replay, &stand.snapshot, &mut counts).await?;
        self.accounts(replay, &stand.snapshot, &mut counts).await?;
        if stand.state_hash != replay.state_hash() {
            let (was, is) = (stand.state_hash, replay.state_hash());
            let text = |hash| format!("state hash {hash:032x}");
            let finding = Finding::new(Kind::StateHash, self.shard, text(was), text(is));
            self.found(finding.position(stand.next_position.0));
        }
        if let Some(anchor) = stand.anchor
            && replay.is_anchored_by(anchor) == Some(false)
        {
            let stored = "the last record applied was another one".to_owned();
            let finding = self.at(stand.next_position, stored, "the log's record".into());
            self.found(finding);
        }
        self.applied(replay, stand).await?;
        self.state = Some(counts);
        Ok(())
    }

    async fn balances(
        &mut self,
        replay: &Replay,
        snapshot: &Snapshot,
        counts: &mut StateCounts,
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT account_id, asset_id, available, frozen, version, last_position FROM balance
                WHERE shard = {}",
            self.shard
        );
        let mut seen = BTreeSet::new();
        let mut rows = snapshot.rows(&sql).await?;
        while let Some(mut row) = rows.next().await? {
            let stored = Balance {
                account: AccountId(row.number::<i64>()?.unsigned_abs()),
                asset: AssetId(row.number::<i32>()?.unsigned_abs()),
                available: money(row.number()?)?,
                frozen: money(row.number()?)?,
                version: row.number::<i64>()?.unsigned_abs(),
                last_position: Position(row.number()?),
            };
            counts.balances += 1;
            seen.insert((stored.account, stored.asset));
            let replayed = replay.balance(stored.account, stored.asset);
            if replayed != Some(stored) {
                let replayed = replayed.map(|it| balance_of(&self.assets, &it));
                let stored_text = balance_of(&self.assets, &stored);
                self.of_balance(&stored, stored_text, replayed.unwrap_or("none".into()));
            }
        }
        for account in replay.accounts() {
            for replayed in replay.balances_of(account.id) {
                if !seen.contains(&(replayed.account, replayed.asset)) {
                    let text = balance_of(&self.assets, &replayed);
                    self.of_balance(&replayed, "none".into(), text);
                }
            }
        }
        Ok(())
    }

    fn of_balance(&mut self, balance: &Balance, stored: String, expected: String) {
        let finding = Finding::new(Kind::Balance, self.shard, stored, expected);
        self.found(finding.balance(balance.account.0, balance.asset.0));
    }

    async fn accounts(
        &mut self,
        replay: &Replay,
        snapshot: &Snapshot,
        counts: &mut StateCounts,
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT account_id, user_id, status, opened_at FROM account WHERE shard = {}",
            self.shard
        );
        let mut seen = BTreeSet::new();
        let mut rows = snapshot.rows(&sql).await?;
        while let Some(mut row) = rows.next().await? {
            let id = AccountId(row.number::<i64>()?.unsigned_abs());
            let user = u64::try_from(row.number::<i128>()?);
            let status = AccountStatus::try_from(i32::from(row.number::<i16>()?));
            let stored = Account {
                id,
                user: user.map_err(|_| Error::Failed("a user id is beyond 2^64".into()))?,
                status: status.map_err(|_| Error::Failed("a status is not known".into()))?,
                opened_at: Timestamp(row.number::<i64>()? + POSTGRES_EPOCH),
            };
            counts.accounts += 1;
            seen.insert(id);
            let replayed = replay.account(id);
            if replayed != Some(stored) {
                let replayed = replayed.map_or("none".into(), |it| account_of(&it));
                self.of_account(id, account_of(&stored), replayed);
            }
        }
        for account in replay.accounts() {
            if account.id.clearing_shard().is_none() && !seen.contains(&account.id) {
                self.of_account(account.id, "none".into(), account_of(&account));
            }
        }
        Ok(())
    }

    fn of_account(&mut self, account: AccountId, stored: String, expected: String) {
        let finding = Finding::new(Kind::Account, self.shard, stored, expected);
        self.found(finding.account(account.0));
    }

    /// Numbers of the row that the replay does not have are right only where the replay began with
    /// the journal, which knows no seals, and nobody was given a command with that number.
    async fn applied(&mut self, replay: &Replay, stand: &Stand) -> Result<(), Error> {
        let (stored, replayed) = (&stand.applied, replay.applied());
        for (first, last) in missing(stored, replayed) {
            self.of_numbers(first, last, "not in the applied set", "decided by the log");
        }
        let more = missing(replayed, stored);
        let is_whole = replay.began().from_journal.is_none();
        for (index, (first, last)) in more.into_iter().enumerate() {
            let is_sealed = !is_whole && index < RANGES_MAX && {
                let sql =
                    "SELECT 1 FROM command WHERE shard = $1 AND seq BETWEEN $2 AND $3 LIMIT 1";
                let shard = i16::try_from(self.shard.0).expect("a shard's number is small");
                let range = (first.cast_signed(), last.cast_signed());
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&shard, &range.0, &range.1];
                stand.snapshot.query(sql, &parameters).await?.is_empty()
            };
            if !is_sealed {
                self.of_numbers(
                    first,
                    last,
                    "in the applied set",
                    "nothing of the log says so",
                );
            }
        }
        Ok(())
    }

    fn of_numbers(&mut self, first: u64, last: u64, stored: &str, expected: &str) {
        let stored = format!("numbers {first}-{last} {stored}");
        self.found(Finding::new(Kind::Applied, self.shard, stored, expected));
    }
}

/// What the second set has and the first has not.
fn missing(set: &IntervalSet, other: &IntervalSet) -> Vec<(u64, u64)> {
    let gaps = other.iter().map(|(first, last)| set.gaps(first, last));
    gaps.flatten().collect()
}

fn money(minor_units: i128) -> Result<Money, Error> {
    let money = Money::new(minor_units);
    money.ok_or_else(|| Error::Failed("an amount is beyond 38 digits".into()))
}

fn account_of(account: &Account) -> String {
    format!(
        "user {}, {}, opened at {}",
        account.user,
        account
            .status
            .as_str_name()
            .trim_start_matches("ACCOUNT_STATUS_"),
        account.opened_at
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_set_has_more_is_told_by_ranges() {
        let set = |numbers: &[u64]| numbers.iter().copied().collect::<IntervalSet>();
        let (left, right) = (set(&[1, 2, 3, 7, 9]), set(&[2, 3, 4, 5, 9, 11]));
        assert_eq!(missing(&left, &right), [(4, 5), (11, 11)]);
        assert_eq!(missing(&right, &left), [(1, 1), (7, 7)]);
        assert_eq!(missing(&left, &left), []);
    }
}
