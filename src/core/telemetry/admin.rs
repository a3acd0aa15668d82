//! The admin port: `/healthz` (alive, looks at no server), `/readyz` (every check, 503 while
//! draining), `/metrics` (Prometheus text), `/version`. Plain HTTP, for the operator's network.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    http::{Response, StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    Error,
    health::{Health, Report},
};

/// What `/version` says.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Of the program.
    pub version: &'static str,
    /// It was built from.
    pub commit: &'static str,
    /// Of the database schema it works with.
    pub schema_version: &'static str,
}

/// The admin port of this process; it serves until the process ends.
pub struct Admin {
    /// Where it listens: with the port that the system chose, if 0 was configured.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    /// Listens and serves from now on.
    pub async fn start(
        address: SocketAddr,
        health: Health,
        metrics: PrometheusHandle,
        version: Version,
    ) -> Result<Self, Error> {
        let listen = |cause| Error::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let router = router(health, metrics, version);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin port stopped");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(health: Health, metrics: PrometheusHandle, version: Version) -> Router {
    let (live, measured) = (health.clone(), health.clone());
    Router::new()
        .route(
            "/healthz",
            get(move || async move { report(live.liveness()) }),
        )
        .route(
            "/readyz",
            get(move || async move { report(health.readiness()) }),
        )
        .route(
            "/metrics",
            get(move || async move {
                measure(&measured.readiness());
                answer(
                    StatusCode::OK,
                    "text/plain; version=0.0.4",
                    metrics.render(),
                )
            }),
        )
        .route(
            "/version",
            get(move || async move { json(StatusCode::OK, &version) }),
        )
}

/// What `/readyz` says, for who looks at metrics only: of this very moment.
fn measure(report: &Report) {
    let figure = |ok: bool| f64::from(u8::from(ok));
    metrics::gauge!("axs_ready").set(figure(report.ok));
    for (name, check) in &report.checks {
        metrics::gauge!("axs_check_ok", "check" => *name).set(figure(check.ok));
    }
}

fn report(report: Report) -> Response<Body> {
    let status = match report.ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &report)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(body).expect("reports are plain data");
    answer(status, "application/json", text)
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .body(Body::from(body))
        .expect("a constant header")
}
