//! Measures a running server from outside: CALLERS independent callers, each with one `Submit` of
//! one command at a time that waits until it is applied.
//!
//! ```text
//! cargo run --release --example submit_latency -- http://127.0.0.1:7250 [CALLERS [SECONDS [SEED]]]
//! ```
//!
//! Each caller credits an account of its own. Closed loop: a caller sends when it is answered, so
//! that latency is that of an unhurried caller and throughput is what so many callers reach.

use std::time::{Duration, Instant};

use axs::core::proto::{
    Change, Command, CommandKind, CommandStatus, SubmitRequest, WaitFor,
    write_service_client::WriteServiceClient,
};
use tonic::transport::{Channel, Endpoint};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| match arguments.get(index) {
        Some(text) => text.parse(),
        None => Ok(default),
    };
    let server = arguments
        .first()
        .map_or("http://127.0.0.1:7250", String::as_str);
    let (callers, seconds, seed) = (number(1, 1)?, number(2, 10)?, number(3, 1)?);
    let channel = Endpoint::from_shared(server.to_owned())?
        .tcp_nodelay(true)
        .connect()
        .await?;
    let until = Duration::from_secs(seconds);
    let run = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| tokio::spawn(call(channel.clone(), seed, caller, run, until)))
        .collect();
    let mut micros = Vec::new();
    for task in tasks {
        micros.extend(task.await??);
    }
    let elapsed = run.elapsed();
    micros.sort_unstable();
    let percentile =
        |percent: usize| micros[(micros.len() * percent / 1_000).min(micros.len() - 1)];
    println!(
        "{} commands, {callers} callers, seed {seed}: {:.0} commands/s, p50 {} µs, p99 {} µs, p99.9 {} µs",
        micros.len(),
        micros.len() as f64 / elapsed.as_secs_f64(),
        percentile(500),
        percentile(990),
        percentile(999),
    );
    Ok(())
}

async fn call(
    channel: Channel,
    seed: u64,
    caller: u64,
    run: Instant,
    until: Duration,
) -> Result<Vec<u64>, tonic::Status> {
    let mut client = WriteServiceClient::new(channel);
    let account_id = seed * 1_000_000 + caller + 1;
    let mut micros = Vec::new();
    let mut kind = CommandKind::OpenAccount;
    for number in 0.. {
        if run.elapsed() >= until {
            break;
        }
        let command = Command {
            idempotency_key: format!("latency:{seed}:{caller}:{number}"),
            source: "latency".into(),
            account_id,
            kind: kind.into(),
            changes: vec![Change {
                asset: "USDT".into(),
                available_delta: "1.5".into(),
                ..Change::default()
            }],
            ..Command::default()
        };
        let sent = Instant::now();
        let request = SubmitRequest {
            commands: vec![command],
            wait_for: WaitFor::Applied.into(),
            wait_at_most: None,
        };
        let answer = client.submit(request).await?.into_inner();
        if answer.outcomes[0].status() != CommandStatus::Applied {
            return Err(tonic::Status::aborted(format!(
                "not applied: {:?}",
                answer.outcomes[0]
            )));
        }
        // The opening of the account is not measured.
        if kind == CommandKind::Change {
            micros.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        kind = CommandKind::Change;
    }
    Ok(micros)
}
