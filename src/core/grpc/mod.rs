//! The gRPC API: WriteService, ReadService, AckService, health and reflection.
//!
//! - `write`, `stream`: commands in; `submit`: one command to its answer; `terms`: how long;
//! - `read`: committed state out; `ack`: a later version's;
//! - `status`: the one place where errors become a status.
//!
//! It decides nothing about money and touches no table.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::core::{
    cache::Cache,
    config,
    outcomes::Outcomes,
    proto::{
        FILE_DESCRIPTOR_SET, ack_service_server::AckServiceServer,
        read_service_server::ReadServiceServer, write_service_server::WriteServiceServer,
    },
    registry::Registry,
    store::Store,
    writer::WriterHandle,
};

mod ack;
mod read;
mod status;
mod stream;
mod submit;
mod terms;
mod write;

/// HTTP/2 flow control of one stream: a batch fits.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// HTTP/2 flow control of one connection.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Most bytes of a call's headers.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// A connection whose calls were given up before they were even begun, so many times as it may have
/// calls at a time, is closed (rapid reset). A client that gives all of its calls up at once
/// because of a deadline is not.
const RESETS_PER_STREAM_MAX: usize = 4;
/// A connection without a word is asked this often whether it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// And closed when it does not answer for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are under way at shutdown are cut off after so long.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Why the API does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`: {source}\nhint: set grpc.listen to a free address")]
    Listen {
        /// As set.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("the gRPC server failed: {0}")]
    Serve(#[source] tonic::transport::Error),
    /// The descriptors of the contract are broken: a bug of the build.
    #[error("reflection is not available: {0}")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// What the API is made of. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// For reads.
    pub store: Store,
    /// For balances, if there is one.
    pub cache: Option<Cache>,
    /// For commands.
    pub writer: WriterHandle,
    /// For waits.
    pub outcomes: Outcomes,
    /// For asset codes.
    pub registry: Registry,
}

/// Listens; callers may connect, and are answered once [`serve`] runs.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })
}

/// Serves until `shutdown`; then says NOT_SERVING, takes no more connections, ends streams once
/// what is in flight is answered, and returns. The writer goes on: what it has taken is stored.
pub async fn serve(
    listener: TcpListener,
    settings: &config::Grpc,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let bytes_max = settings.message_bytes_max;
    let write = WriteServiceServer::new(write::WriteService {
        submitter: submit::Submitter {
            writer: parts.writer.clone(),
            outcomes: parts.outcomes.clone(),
            registry: parts.registry.clone(),
            drain: shutdown.clone(),
        },
        in_flight_max: settings.stream_in_flight_max,
    })
    .max_decoding_message_size(bytes_max);
    let read = ReadServiceServer::new(read::ReadService::new(&parts, shutdown.clone()))
        .max_decoding_message_size(bytes_max);
    let ack = AckServiceServer::new(ack::AckService).max_decoding_message_size(bytes_max);
    let (health, health_server) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let drained = shutdown.clone();
    let signal = async move {
        drained.cancelled().await;
        set_health(&health, ServingStatus::NotServing).await;
    };
    let server = limited(settings)
        .add_service(health_server)
        .add_service(reflection().build_v1().map_err(Error::Reflection)?)
        .add_service(reflection().build_v1alpha().map_err(Error::Reflection)?)
        .add_service(write)
        .add_service(read)
        .add_service(ack)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), signal);
    let too_late = async {
        shutdown.cancelled().await;
        sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = server => served.map_err(Error::Serve),
        () = too_late => {
            tracing::warn!("calls were still under way when the drain ended");
            Ok(())
        }
    }
}

/// Of the process and of each service.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", "axs.v1.WriteService", "axs.v1.ReadService"] {
        health.set_service_status(service, status).await;
    }
}

/// A server with its limits: what one connection may ask of us.
fn limited(settings: &config::Grpc) -> Server {
    let streams_max = usize::try_from(settings.streams_max).unwrap_or(usize::MAX);
    let resets_max = streams_max.saturating_mul(RESETS_PER_STREAM_MAX);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(settings.streams_max)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(resets_max))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// What reflection knows: the contract, health and itself.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
