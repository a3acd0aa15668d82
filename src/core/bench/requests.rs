//! A workload's commands as messages of the API, and one call with them.

use std::time::Duration;

use tonic::transport::Channel;

use super::{Workload, workload::Operation};
use crate::core::{
    proto::{
        Change, Command, CommandKind, CommandStatus, SubmitOutcome, SubmitRequest, WaitFor,
        submit_error::Code, write_service_client::WriteServiceClient,
    },
    testbed::{Error, ground},
    writer::BATCH_COUNT_MAX,
};

/// A caller who was refused because of overload comes back after so long.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);
/// And so often, before the run fails.
const OVERLOADS_MAX: u32 = 1_500;
/// Servers learn the routes of so many accounts before a run.
const ROUTES_LEARNED_MAX: u64 = 100_000;
/// Service name of all commands.
const SOURCE: &str = "axs.bench";

/// Makes the messages of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    workload: Workload,
}

/// What became of a call's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// New ones, stored.
    pub accepted: u64,
    /// Their ids, where they have any.
    pub ids: Vec<u64>,
    /// Stored before.
    pub duplicates: u64,
    /// Times that the call had to be made again because of overload.
    pub overloads: u64,
}

impl Answered {
    /// Adds another's.
    pub fn join(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.overloads += other.overloads;
    }
}

impl Requests {
    /// Of this workload.
    pub fn new(workload: Workload) -> Self {
        Self { workload }
    }

    /// An operation of a caller.
    pub fn command(&self, caller: u64, operation: &Operation) -> Command {
        let change = |&(asset, delta): &(usize, i64)| change(asset, delta);
        Command {
            idempotency_key: format!("{caller}:{}", operation.number),
            source: SOURCE.into(),
            account_id: self.workload.account(operation.account).0,
            kind: CommandKind::Change.into(),
            changes: operation.changes().iter().map(change).collect(),
            ..Command::default()
        }
    }
}

fn change(asset: usize, delta: i64) -> Change {
    let (code, scale) = ground::ASSETS[asset];
    Change {
        asset: code.into(),
        available_delta: decimal(delta, scale),
        ..Change::default()
    }
}

/// Minor units as the API takes them.
fn decimal(minor: i64, scale: u8) -> String {
    let unit = 10_u64.pow(u32::from(scale));
    let (sign, amount) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    let (whole, part) = (amount / unit, amount % unit);
    format!("{sign}{whole}.{part:0width$}", width = usize::from(scale))
}

/// Who calls on a connection.
pub fn client(channel: Channel) -> WriteServiceClient<Channel> {
    WriteServiceClient::new(channel).max_decoding_message_size(16 << 20)
}

/// Lets each of these servers learn where the accounts are, up to a bound: a server looks the route of an
/// account up with its first command, and never again. Each account gets a command that is applied when
/// this returns.
pub async fn learn_routes(channels: &[Channel], workload: &Workload) -> Result<(), Error> {
    let accounts = workload.accounts.min(ROUTES_LEARNED_MAX);
    for (server, channel) in channels.iter().enumerate() {
        let mut client = client(channel.clone());
        let command = |number| Command {
            idempotency_key: format!("route:{server}:{number}"),
            source: SOURCE.into(),
            account_id: workload.account(number).0,
            kind: CommandKind::Change.into(),
            changes: vec![change(0, 1)],
            ..Command::default()
        };
        for first in (0..accounts).step_by(BATCH_COUNT_MAX) {
            let behind = accounts.min(first + BATCH_COUNT_MAX as u64);
            submit(&mut client, (first..behind).map(command).collect(), true).await?;
        }
    }
    Ok(())
}

/// One call, again while it is refused for overload. Any other error fails the run: then the
/// figures would be of something else.
pub async fn submit(
    client: &mut WriteServiceClient<Channel>,
    mut commands: Vec<Command>,
    wait_applied: bool,
) -> Result<Answered, Error> {
    let wait_for = match wait_applied {
        true => WaitFor::Applied,
        false => WaitFor::Accepted,
    };
    let mut answered = Answered::default();
    loop {
        // Only a call that was refused needs its commands again: a copy is not for every one.
        let request = SubmitRequest {
            commands: commands.clone(),
            wait_for: wait_for.into(),
            wait_at_most: None,
        };
        match client.submit(request).await {
            Ok(response) => {
                let mut outcomes = response.into_inner().outcomes.into_iter();
                commands = take(&mut answered, commands, &mut outcomes)?;
            }
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {}
            Err(status) => return Err(Error::Failed(format!("a call failed: {status}"))),
        }
        if commands.is_empty() {
            return Ok(answered);
        }
        answered.overloads += 1;
        if answered.overloads > u64::from(OVERLOADS_MAX) {
            return Err(Error::Failed("the server is overloaded for good".into()));
        }
        tokio::time::sleep(OVERLOAD_PAUSE).await;
    }
}

/// Counts outcomes; the commands that were refused for overload.
fn take(
    answered: &mut Answered,
    commands: Vec<Command>,
    outcomes: &mut dyn Iterator<Item = SubmitOutcome>,
) -> Result<Vec<Command>, Error> {
    let mut refused = Vec::new();
    for command in commands {
        let outcome = outcomes
            .next()
            .ok_or_else(|| Error::Failed("an answer has too few outcomes".into()))?;
        if !count(answered, &outcome)? {
            refused.push(command);
        }
    }
    Ok(refused)
}

/// Counts an outcome; false: refused for overload.
pub fn count(answered: &mut Answered, outcome: &SubmitOutcome) -> Result<bool, Error> {
    if let Some(error) = &outcome.error {
        return match error.code() {
            Code::Overloaded => Ok(false),
            _ => Err(Error::Failed(format!(
                "a command failed: {}",
                error.message
            ))),
        };
    }
    match outcome.status() {
        CommandStatus::Accepted | CommandStatus::Applied => {}
        other => {
            return Err(Error::Failed(format!(
                "a command is {}",
                other.as_str_name()
            )));
        }
    }
    match outcome.duplicate {
        true => answered.duplicates += 1,
        false => {
            answered.accepted += 1;
            answered.ids.push(outcome.command_id);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_their_asset_s_scale() {
        for (minor, scale, text) in [
            (1, 2, "0.01"),
            (-12_345, 2, "-123.45"),
            (1_000_000_000_000, 8, "10000.00000000"),
        ] {
            assert_eq!(decimal(minor, scale), text);
        }
    }
}
