//! ReadService: committed state for readers. Cache first, else the store; every answer says where
//! it is from and of when. Nothing in here decides about money.
//!
//! - `balances`: now; `history`: at a time or version, and entries by page; `page`: page tokens;
//! - `command`: one command; `watch`: every result from a position on.

use std::{pin::Pin, time::Duration};

use futures::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    status::Failure,
    terms::{self, ANSWER_MARGIN},
};
use crate::core::{
    assets::Asset,
    cache::Cache,
    outcomes::{Known, Outcomes, Waited},
    proto::{
        self, GetAccountRequest, GetAccountResponse, GetBalancesRequest, GetBalancesResponse,
        GetCommandRequest, GetCommandResponse, ListEntriesRequest, ListEntriesResponse,
        WatchResultsRequest, WatchResultsResponse, read_service_server,
    },
    registry::Registry,
    store::Store,
    types::{AccountId, CommandId, Position, Timestamp},
    writer::routes::Routes,
};

mod balances;
mod command;
mod history;
mod page;
mod watch;

/// A read that names an earlier write waits at most so long for its result.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// Answers reads. Cheap to clone.
#[derive(Clone)]
pub struct ReadService {
    store: Store,
    cache: Option<Cache>,
    registry: Registry,
    outcomes: Outcomes,
    routes: Routes,
    shards: u16,
    drain: CancellationToken,
    fills: balances::Fills,
    watches: watch::Watches,
}

impl ReadService {
    /// Reads by these parts until `drain`.
    pub fn new(parts: &super::Parts, drain: CancellationToken) -> Self {
        // Of a counter that begins at 1 nobody sees the rise.
        metrics::counter!("axs_cache_read_failures_total").increment(0);
        Self {
            store: parts.store.clone(),
            cache: parts.cache.clone(),
            registry: parts.registry.clone(),
            outcomes: parts.outcomes.clone(),
            routes: parts.writer.routes().clone(),
            shards: parts.writer.shards(),
            drain,
            fills: balances::Fills::default(),
            watches: watch::Watches::default(),
        }
    }

    async fn account(&self, request: GetAccountRequest) -> Result<GetAccountResponse, Failure> {
        let id = account_id("account_id", request.account_id)?;
        let found = self.store.balances(&[id]).await?.pop().flatten();
        let found = found.ok_or_else(|| unknown_account(id))?;
        Ok(GetAccountResponse {
            account: Some(proto::Account {
                account_id: id.0,
                user_id: found.account.user,
                status: found.account.status.into(),
                shard_id: found.shard.0.into(),
                opened_at: Some(found.account.opened_at.to_proto()),
            }),
        })
    }

    /// The asset of a code in this field; read again from the store if it is not known here.
    async fn asset(&self, field: impl FnOnce() -> String, code: &str) -> Result<Asset, Failure> {
        if let Some(asset) = self.registry.assets().by_code(code) {
            return Ok(asset.clone());
        }
        if let Some(asset) = self.registry.refresh().await.by_code(code) {
            return Ok(asset.clone());
        }
        let text = format!("must be an asset of the registry, which has no `{code}`");
        Err(Failure::invalid(field(), text))
    }

    /// Where the result of an earlier write stands; waits for it if it is not there yet.
    async fn position_of(
        &self,
        id: CommandId,
        deadline: Option<Instant>,
    ) -> Result<Position, Failure> {
        if let Some(result) = self.outcomes.recent(id) {
            return Ok(Position(result.position));
        }
        if self.store.commands(&[id]).await?.pop().flatten().is_none() {
            return Err(Failure::NotFound(format!("there is no command {id}")));
        }
        let text = "too many calls wait already; try again";
        let slot = self.outcomes.reserve(1);
        let _slot = slot.ok_or_else(|| Failure::Overloaded(text.into()))?;
        let longest = Instant::now() + READ_WAIT_MAX;
        let by = deadline.map_or(longest, |deadline| longest.min(deadline - ANSWER_MARGIN));
        match self.outcomes.wait(id, Known::Before, by).await {
            Some(Waited::Outcome(result)) => Ok(Position(result.position)),
            Some(Waited::Parked(reason)) => {
                let text = format!("command {id} is parked and has no result: {reason}");
                Err(Failure::Precondition(text))
            }
            None => {
                let text = format!("the result of command {id} is not known yet; read again");
                Err(Failure::TooLate(text))
            }
        }
    }
}

fn account_id(field: &str, raw: u64) -> Result<AccountId, Failure> {
    match raw {
        0 => Err(Failure::invalid(field, "must be set")),
        raw => Ok(AccountId(raw)),
    }
}

fn command_id(field: &str, raw: u64) -> Result<CommandId, Failure> {
    let text = "must be the id of a command, as its acceptance answered it";
    CommandId::parse(raw).ok_or_else(|| Failure::invalid(field, text))
}

fn time(field: &str, raw: &prost_types::Timestamp) -> Result<Timestamp, Failure> {
    let text = "must be a time of the years 1 to 9999";
    Timestamp::from_proto(raw).ok_or_else(|| Failure::invalid(field, text))
}

fn unknown_account(id: AccountId) -> Failure {
    Failure::NotFound(format!("account {id} was never opened"))
}

#[tonic::async_trait]
impl read_service_server::ReadService for ReadService {
    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        Ok(Response::new(self.account(request.into_inner()).await?))
    }

    async fn get_balances(
        &self,
        request: Request<GetBalancesRequest>,
    ) -> Result<Response<GetBalancesResponse>, Status> {
        let deadline = terms::deadline(request.metadata(), Instant::now());
        let request = request.into_inner();
        Ok(Response::new(self.balances(request, deadline).await?))
    }

    async fn get_command(
        &self,
        request: Request<GetCommandRequest>,
    ) -> Result<Response<GetCommandResponse>, Status> {
        Ok(Response::new(self.command(request.into_inner()).await?))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        Ok(Response::new(self.entries(request.into_inner()).await?))
    }

    type WatchResultsStream =
        Pin<Box<dyn Stream<Item = Result<WatchResultsResponse, Status>> + Send>>;

    async fn watch_results(
        &self,
        request: Request<WatchResultsRequest>,
    ) -> Result<Response<Self::WatchResultsStream>, Status> {
        let results = self.watch(request.into_inner()).await?;
        Ok(Response::new(Box::pin(results)))
    }
}
