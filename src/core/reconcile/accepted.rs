//! Accepted commands, outcomes and the applied set of a shard, and the routes of its accounts.

use super::{
    Error, age,
    finding::{Finding, Kind},
    numbers::{Numbers, Ranges},
    shard::{Head, ShardReport, Work},
};
use crate::core::types::{CommandId, Sequence};

/// Differing contents of commands are looked up in so many ranges of numbers, at most.
const SUSPECTS_MAX: usize = 16;
/// Of each kind of number that should not be, so many ranges get a place.
const RANGES_MAX: usize = 1_000;

impl Work<'_> {
    /// Reads every accepted command; counts what waits.
    pub(super) async fn commands(
        &self,
        head: &Head,
        numbers: &mut Numbers,
        report: &mut ShardReport,
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT seq, content_hash, accepted_at FROM command WHERE shard = {} ORDER BY seq",
            self.shard
        );
        let mut rows = self.snapshot.rows(&sql).await?;
        let mut oldest: Option<i64> = None;
        while let Some(mut row) = rows.next().await? {
            let number = row.number::<i64>()?.unsigned_abs();
            numbers.command(number, &row.hash()?);
            if head.applied.contains(number) {
                continue;
            }
            let id = CommandId::new(self.shard, Sequence(number));
            if head.parked.contains_key(&id.0) {
                report.parked += 1;
                continue;
            }
            report.pending += 1;
            let accepted_at: i64 = row.number()?;
            oldest = Some(oldest.map_or(accepted_at, |oldest| oldest.min(accepted_at)));
        }
        report.oldest_pending = oldest.map(|oldest| age(head.now, oldest));
        Ok(())
    }

    /// Compares the sets of numbers.
    pub(super) async fn numbers(&self, head: &Head, numbers: &Numbers) -> Result<(), Error> {
        let applied = &head.applied;
        for (first, last) in taken(numbers.forged()) {
            let stored = text(first, last, "applied, and no command");
            let finding = self.of_numbers(Kind::Command, first, stored, "an accepted command");
            let position = self.position_of(first).await?;
            self.found(finding.position(position)).await;
        }
        for (first, last) in taken(numbers.not_applied(applied)) {
            let stored = text(first, last, "not in the applied set");
            let finding = self.of_numbers(Kind::Applied, first, stored, "in it: has an outcome");
            let position = self.position_of(first).await?;
            self.found(finding.position(position)).await;
        }
        for (first, last) in taken(numbers.lost(applied)) {
            let stored = text(first, last, "accepted and in the applied set");
            let finding = self.of_numbers(Kind::Applied, first, stored, "an outcome");
            self.found(finding).await;
        }
        for (first, last) in taken(numbers.sealed(applied)) {
            let why = match () {
                () if last >= head.next_number => "no block has this number",
                () if head.open.overlaps_range(first, last) => "its block is in use",
                () => continue,
            };
            let stored = text(first, last, "in the applied set");
            let finding = self.of_numbers(Kind::Applied, first, stored, why);
            self.found(finding).await;
        }
        for (first, last) in numbers.suspects().into_iter().take(SUSPECTS_MAX) {
            self.contents(first, last).await?;
        }
        for (&id, &position) in &head.parked {
            let number = CommandId(id).sequence().0;
            let is_ours = CommandId(id).shard() == self.shard;
            if !is_ours || !numbers.commands.contains(number) {
                let stored = format!("a dead letter parks number {number}");
                let finding = self.of_numbers(Kind::Parked, number, stored, "an accepted command");
                self.found(finding.position(position)).await;
            }
        }
        Ok(())
    }

    fn of_numbers(&self, kind: Kind, first: u64, stored: String, expected: &str) -> Finding {
        let id = CommandId::new(self.shard, Sequence(first));
        Finding::new(kind, self.shard, stored, expected).command(id)
    }

    /// Of the outcome with this number; -1: it cannot be found by its number.
    async fn position_of(&self, number: u64) -> Result<i64, Error> {
        let sql = "SELECT position FROM axs_outcome(axs_command_id($1, $2))";
        let number = number.cast_signed();
        let rows = self
            .snapshot
            .query(sql, &[&self.shard_sql(), &number])
            .await?;
        Ok(rows.first().map_or(-1, |row| row.get(0)))
    }

    /// Compares the contents of outcomes and commands in a range of numbers, one by one.
    async fn contents(&self, first: u64, last: u64) -> Result<(), Error> {
        let sql = "SELECT c.seq, o.position, encode(o.content_hash, 'hex'),
                encode(c.content_hash, 'hex')
            FROM command c CROSS JOIN LATERAL axs_outcome(axs_command_id(c.shard, c.seq)) AS o
            WHERE c.shard = $1 AND c.seq BETWEEN $2 AND $3 AND c.content_hash <> o.content_hash";
        let (first, last) = (first.cast_signed(), last.cast_signed());
        let rows = self
            .snapshot
            .query(sql, &[&self.shard_sql(), &first, &last])
            .await?;
        for row in rows {
            let number = row.get::<_, i64>(0).unsigned_abs();
            let (outcome, command): (String, String) = (row.get(2), row.get(3));
            let (stored, expected) = (
                format!("outcome of content {outcome}"),
                format!("accepted content {command}"),
            );
            let finding = self.of_numbers(Kind::Command, number, stored, &expected);
            self.found(finding.position(row.get(1))).await;
        }
        Ok(())
    }

    /// Accounts that no acceptance would find in this shard.
    pub(super) async fn routes(&self) -> Result<(), Error> {
        let sql = format!(
            "SELECT a.account_id, coalesce(r.shard, -1::smallint) FROM account a
             LEFT JOIN account_route r ON r.account_id = a.account_id
             WHERE a.shard = {shard} AND r.shard IS DISTINCT FROM {shard}",
            shard = self.shard
        );
        let mut rows = self.snapshot.rows(&sql).await?;
        while let Some(mut row) = rows.next().await? {
            let account = row.number::<i64>()?.unsigned_abs();
            let stored = match row.number::<i16>()? {
                -1 => "no route".into(),
                shard => format!("route to shard {shard}"),
            };
            let expected = format!("route to shard {}", self.shard);
            let finding = Finding::new(Kind::Route, self.shard, stored, expected);
            self.found(finding.account(account)).await;
        }
        Ok(())
    }
}

fn taken(ranges: Ranges) -> impl Iterator<Item = (u64, u64)> {
    ranges.into_iter().take(RANGES_MAX)
}

fn text(first: u64, last: u64, what: &str) -> String {
    match first == last {
        true => format!("number {first} {what}"),
        false => format!("numbers {first} to {last} {what}"),
    }
}
