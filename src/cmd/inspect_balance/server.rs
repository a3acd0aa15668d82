//! Asks the ReadService.

use anyhow::Result;
use axs::core::{
    config::Settings,
    proto::{
        BalanceKey, GetAccountRequest, GetBalancesRequest, ListEntriesRequest,
        balance_snapshot::Origin, read_service_client::ReadServiceClient,
    },
    submit,
    types::Timestamp,
};
use tonic::{Code, Status};

use super::{
    Args, Exit, Failure, Found, Sourced, Verdict, Wanted, away, no_version, not_found, show::time,
    unknown_asset,
};

pub async fn find(args: &Args, settings: &Settings) -> Result<Found> {
    let server = &settings.client.server;
    let no_server = |error: &tonic::transport::Error| {
        away(&format!("the server at {server}"), &submit::reason(error))
            .hint("start one with `axs dev`, or set postgres.url to look there")
    };
    let endpoint = submit::endpoint(server).map_err(|error| no_server(&error))?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| no_server(&error))?;
    let mut client = ReadServiceClient::new(channel);
    let failed = |status: Status| failure(args, &status);

    let request = GetAccountRequest {
        account_id: args.account,
    };
    let account = client
        .get_account(request)
        .await
        .map_err(failed)?
        .into_inner();
    let account = account.account.ok_or_else(|| not_found(args.account))?;
    let request = GetBalancesRequest {
        keys: vec![BalanceKey {
            account_id: args.account,
            asset: args.asset.clone().unwrap_or_default(),
        }],
        at: args.at.map(Timestamp::to_proto),
        at_version: args.version,
        ..GetBalancesRequest::default()
    };
    let snapshots = client
        .get_balances(request)
        .await
        .map_err(failed)?
        .into_inner()
        .balances;

    let mut balances = Vec::new();
    let mut entries = Vec::new();
    let wanted = args.wanted();
    if matches!(wanted, Wanted::History(Some(_))) {
        let message = "--from-version needs PostgreSQL: the server's pages begin at the last entry";
        return Err(Failure::new(Exit::Usage, message)
            .hint("set postgres.url, or raise --limit")
            .into());
    }
    for snapshot in snapshots {
        let source = match snapshot.origin() {
            Origin::Cache => "cache",
            Origin::Store => "store",
            Origin::Unspecified => "-",
        };
        let as_of = time(snapshot.as_of.as_ref());
        let balance = snapshot.balance.unwrap_or_default();
        let size = match wanted {
            Wanted::Now => args.entries,
            Wanted::History(_) => args.limit,
            Wanted::At(_) | Wanted::Version(_) => 0,
        };
        if balance.version > 0 && size > 0 {
            let request = ListEntriesRequest {
                account_id: args.account,
                asset: balance.asset.clone(),
                page_size: size,
                ..ListEntriesRequest::default()
            };
            let page = client.list_entries(request).await.map_err(failed)?;
            entries.extend(page.into_inner().entries);
        }
        if matches!(wanted, Wanted::History(_)) {
            continue;
        }
        balances.push(Sourced {
            balance,
            source,
            as_of,
        });
    }
    Ok(Found {
        account,
        balances,
        entries,
        verdict: Verdict::Single(format!("the server at {server}")),
        drift: Vec::new(),
        next_version: None,
    })
}

fn failure(args: &Args, status: &Status) -> Failure {
    match (status.code(), &args.asset) {
        (Code::NotFound, Some(_)) if status.message().contains("version") => {
            no_version(args, args.version.unwrap_or_default())
        }
        (Code::NotFound, _) => not_found(args.account),
        (Code::InvalidArgument, Some(asset)) if status.message().contains("asset") => {
            unknown_asset(asset)
        }
        (Code::Unavailable | Code::DeadlineExceeded, _) => away("the server", &status.message()),
        (code, _) => Failure::new(Exit::Failure, format!("{code:?}: {}", status.message())),
    }
}
