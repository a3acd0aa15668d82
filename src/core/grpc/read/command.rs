//! One command: its outcome, or what is known of it before.

use super::{Failure, ReadService, command_id};
use crate::core::{
    command::hash,
    proto::{
        CommandResult, CommandStatus, GetCommandRequest, GetCommandResponse,
        get_command_request::By,
    },
    store::StoredCommand,
    types::{CommandId, Timestamp},
};

impl ReadService {
    pub(super) async fn command(
        &self,
        request: GetCommandRequest,
    ) -> Result<GetCommandResponse, Failure> {
        let id = match request.by {
            None => return Err(Failure::invalid("by", "must be command_id or key")),
            Some(By::CommandId(raw)) => command_id("command_id", raw)?,
            Some(By::Key(key)) => {
                let hash = hash::key_hash(&key.source, &key.idempotency_key);
                self.store.command_of_key(hash).await?.ok_or_else(|| {
                    Failure::NotFound("there is no command with this source and key".into())
                })?
            }
        };
        let result = self.result_of(id).await?;
        let unknown = || Failure::NotFound(format!("there is no command {id}"));
        Ok(GetCommandResponse {
            result: Some(result.ok_or_else(unknown)?),
        })
    }

    async fn result_of(&self, id: CommandId) -> Result<Option<CommandResult>, Failure> {
        if let Some(recent) = self.outcomes.recent(id) {
            return Ok(Some((*recent).clone()));
        }
        if let Some(stored) = self.store.outcomes(&[id]).await?.pop().flatten() {
            return Ok(Some(self.outcomes.render(&stored).await));
        }
        let stored = self.store.commands(&[id]).await?.pop().flatten();
        Ok(stored.map(|stored| pending(id, stored)))
    }
}

fn pending(id: CommandId, stored: StoredCommand) -> CommandResult {
    let status = match stored.parked {
        None => CommandStatus::Accepted,
        Some(_) => CommandStatus::Parked,
    };
    let command = stored.command;
    CommandResult {
        command_id: id.0,
        idempotency_key: command.idempotency_key.to_string(),
        source: command.source.to_string(),
        status: status.into(),
        reject_reason: stored.parked.unwrap_or_default(),
        shard_id: id.shard().0.into(),
        created_at: command.created_at.map(Timestamp::to_proto),
        reference: command.reference.to_string(),
        account_id: command.account.0,
        kind: command.kind.into(),
        ..Default::default()
    }
}
