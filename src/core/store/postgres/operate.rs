//! What operators do to a shard. Each act leaves a row in `audit`.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    error::Effect,
    numeric::{big, code_to_sql, shard_to_sql, time_to_sql},
    registry::first,
    statement::statement,
};
use crate::core::{
    command::{Command, hash::key_hash, record},
    store::{Act, Error, Known, Recovery},
    types::{Nonce, Position, ShardId},
};

statement! {
    /// Lets nobody lead.
    Pause { shard: i16 => SmallInt, operator: String => Text, reason: String => Text } -> (Bool) =
    "SELECT axs_pause($1, $2, $3)"
}

statement! {
    /// Lets it be led again.
    Resume { shard: i16 => SmallInt, operator: String => Text, reason: String => Text } -> (Bool) =
    "SELECT axs_resume($1, $2, $3)"
}

statement! {
    /// Ends the lease of a paused shard.
    Fence {
        shard: i16 => SmallInt, nonce: i64 => BigInt, operator: String => Text,
        reason: String => Text,
    } -> (Bool) =
    "SELECT axs_fence($1, $2, $3, $4) IS NOT NULL"
}

statement! {
    /// Goes on at a position of a later generation.
    Rebase {
        shard: i16 => SmallInt, from: i64 => BigInt, to: i64 => BigInt, nonce: i64 => BigInt,
        operator: String => Text, reason: String => Text,
    } -> (Bool) =
    "SELECT axs_rebase($1, $2, $3, $4, $5, $6)"
}

statement! {
    /// Skips what may have been used.
    Recover {
        shard: i16 => SmallInt, epoch: i64 => BigInt, next: i64 => BigInt, nonce: i64 => BigInt,
        operator: String => Text, reason: String => Text,
    } -> (Bool) =
    "SELECT axs_recover($1, $2, $3, $4, $5, $6) IS NOT NULL"
}

statement! {
    /// What is known of commands.
    AskKnown {
        shard: i16 => SmallInt,
        command_id: Vec<i64> => Array<BigInt>,
        key_hash: Vec<Vec<u8>> => Array<Binary>,
        content_hash: Vec<Vec<u8>> => Array<Binary>,
    } -> (Array<SmallInt>) =
    "SELECT coalesce(axs_unknown($1, $2, $3, $4), '{}')"
}

statement! {
    /// Stores commands of which nothing is known.
    Adopt {
        shard: i16 => SmallInt,
        key_hash: Vec<Vec<u8>> => Array<Binary>,
        content_hash: Vec<Vec<u8>> => Array<Binary>,
        command_id: Vec<i64> => Array<BigInt>,
        account_id: Vec<i64> => Array<BigInt>,
        kind: Vec<i16> => Array<SmallInt>,
        source: Vec<String> => Array<Text>,
        idempotency_key: Vec<String> => Array<Text>,
        reference: Vec<String> => Array<Text>,
        created_at: Vec<Option<PgTimestamp>> => Array<Nullable<Timestamptz>>,
        accepted_at: Vec<PgTimestamp> => Array<Timestamptz>,
        body: Vec<Vec<u8>> => Array<Binary>,
    } -> (Array<SmallInt>) =
    "SELECT coalesce(axs_adopt($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12), '{}')"
}

statement! {
    /// The positions are of another log.
    MoveLog {
        prefix: String => Text, id: Option<String> => Nullable<Text>, operator: String => Text,
        reason: String => Text,
    } -> (Bool) =
    "SELECT axs_move_log($1, $2, $3, $4) IS NOT NULL"
}

statement! {
    /// The cluster is on this server.
    AdoptServer { operator: String => Text, reason: String => Text } -> (Bool) =
    "SELECT axs_adopt_server($1, $2)"
}

statement! {
    /// Processes that take part in the cluster and hold a connection now: `host:pid:nonce`.
    Connected {} -> (Text) =
    "SELECT DISTINCT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND application_name ~ '^.+:[0-9]+:[0-9a-f]{8}$'
        ORDER BY application_name"
}

impl Store {
    /// The positions are of the topics with this prefix from now on, and of this Kafka cluster,
    /// where it is known.
    pub async fn move_log(&self, prefix: &str, id: Option<String>, act: &Act) -> Result<(), Error> {
        let moving = MoveLog {
            prefix: prefix.to_owned(),
            id,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let _: Vec<(bool,)> = self.control.run(Effect::Writes, moving).await?;
        Ok(())
    }

    /// The cluster is on this server from now on. False: it was already.
    pub async fn adopt_server(&self, act: &Act) -> Result<bool, Error> {
        let adopt = AdoptServer {
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let rows: Vec<(bool,)> = self.control.run(Effect::Writes, adopt).await?;
        Ok(first(rows)?.0)
    }

    /// Names of the processes that hold a connection to the database now.
    pub async fn connected(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self.readers.run(Connected {}).await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// See [`super::super::Store::pause`].
    pub async fn pause(&self, shard: ShardId, act: &Act) -> Result<bool, Error> {
        let pause = Pause {
            shard: shard_to_sql(shard)?,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let rows: Vec<(bool,)> = self.control.run(Effect::Writes, pause).await?;
        Ok(first(rows)?.0)
    }

    /// See [`super::super::Store::resume`].
    pub async fn resume(&self, shard: ShardId, act: &Act) -> Result<bool, Error> {
        let resume = Resume {
            shard: shard_to_sql(shard)?,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let rows: Vec<(bool,)> = self.control.run(Effect::Writes, resume).await?;
        Ok(first(rows)?.0)
    }

    /// See [`super::super::Store::fence`].
    pub async fn fence(&self, shard: ShardId, nonce: Nonce, act: &Act) -> Result<(), Error> {
        let fence = Fence {
            shard: shard_to_sql(shard)?,
            nonce: nonce.0,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let _: Vec<(bool,)> = self.control.run(Effect::Writes, fence).await?;
        Ok(())
    }

    /// See [`super::super::Store::rebase`].
    pub async fn rebase(
        &self,
        shard: ShardId,
        from: Position,
        to: Position,
        nonce: Nonce,
        act: &Act,
    ) -> Result<bool, Error> {
        let rebase = Rebase {
            shard: shard_to_sql(shard)?,
            from: from.0,
            to: to.0,
            nonce: nonce.0,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let rows: Vec<(bool,)> = self.control.run(Effect::Writes, rebase).await?;
        Ok(first(rows)?.0)
    }

    /// See [`super::super::Store::known`].
    pub async fn known(&self, shard: ShardId, commands: &[Command]) -> Result<Vec<Known>, Error> {
        let ask = AskKnown {
            shard: shard_to_sql(shard)?,
            command_id: ids(commands),
            key_hash: key_hashes(commands),
            content_hash: content_hashes(commands),
        };
        answers(self.readers.run(ask).await?, commands.len())
    }

    /// See [`super::super::Store::adopt`].
    pub async fn adopt(&self, shard: ShardId, commands: &[Command]) -> Result<Vec<Known>, Error> {
        let accounts = commands.iter().map(|command| big(command.account.0));
        let each = |text: fn(&Command) -> &str| {
            commands
                .iter()
                .map(|command| text(command).to_owned())
                .collect()
        };
        let adopt = Adopt {
            shard: shard_to_sql(shard)?,
            key_hash: key_hashes(commands),
            content_hash: content_hashes(commands),
            command_id: ids(commands),
            account_id: accounts.collect::<Result<_, _>>()?,
            kind: (commands.iter())
                .map(|command| code_to_sql(command.kind as i32))
                .collect(),
            source: each(|command| &command.source),
            idempotency_key: each(|command| &command.idempotency_key),
            reference: each(|command| &command.reference),
            created_at: (commands.iter())
                .map(|command| command.created_at.map(time_to_sql))
                .collect(),
            accepted_at: (commands.iter())
                .map(|command| time_to_sql(command.accepted_at))
                .collect(),
            body: commands.iter().map(record::encode_body).collect(),
        };
        answers(
            self.control.run(Effect::Writes, adopt).await?,
            commands.len(),
        )
    }

    /// See [`super::super::Store::recover`].
    pub async fn recover(
        &self,
        shard: ShardId,
        recovery: Recovery,
        nonce: Nonce,
        act: &Act,
    ) -> Result<(), Error> {
        let recover = Recover {
            shard: shard_to_sql(shard)?,
            epoch: big(recovery.epoch.0)?,
            next: big(recovery.next.0)?,
            nonce: nonce.0,
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let _: Vec<(bool,)> = self.control.run(Effect::Writes, recover).await?;
        Ok(())
    }
}

fn ids(commands: &[Command]) -> Vec<i64> {
    let id = |command: &Command| command.id.expect("a logged command has an id");
    commands.iter().map(|it| id(it).0.cast_signed()).collect()
}

fn key_hashes(commands: &[Command]) -> Vec<Vec<u8>> {
    let hash = |command: &Command| key_hash(&command.source, &command.idempotency_key);
    commands.iter().map(|it| hash(it).0.to_vec()).collect()
}

fn content_hashes(commands: &[Command]) -> Vec<Vec<u8>> {
    let hashes = commands.iter().map(|command| command.content_hash);
    hashes.map(|hash| hash.0.to_vec()).collect()
}

fn answers(rows: Vec<(Vec<i16>,)>, count: usize) -> Result<Vec<Known>, Error> {
    let known = first(rows)?.0.into_iter().map(|known| match known {
        0 => Ok(Known::Nothing),
        1 => Ok(Known::Accepted),
        2 => Ok(Known::OtherContent),
        3 => Ok(Known::OtherCommand),
        other => Err(Error::Mismatch(format!("a command is known as {other}"))),
    });
    let known: Vec<Known> = known.collect::<Result<_, _>>()?;
    match known.len() == count {
        true => Ok(known),
        false => Err(Error::Mismatch(
            "the database answers for other commands than were asked for".into(),
        )),
    }
}
