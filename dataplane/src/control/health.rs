//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Each answer comes from the control task itself, so a control that hangs is seen as unhealthy.
//!
//! Invariant: serves nothing that changes the node.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

use super::scrape;
use super::skips::Begun;
use super::snapshot::Snapshot;
use crate::command::{self, Outcome};
use crate::contract::{mpsc, oneshot};

/// What is asked of the control task.
pub(super) enum Ask {
    /// Whether every shard runs its first plan, and the node does not end.
    Ready(oneshot::Sender<bool>),
    /// The node as it stands.
    Snapshot(oneshot::Sender<Box<Snapshot>>),
    /// To pass over what is in the way.
    Skip(command::Skip, oneshot::Sender<Result<Begun, Outcome>>),
}

/// Questions that may wait at once; more are answered with 503.
pub(super) const ASKS_MAX: usize = 16;

/// The control task answers within this, or is unhealthy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener, asks: mpsc::Sender<Ask>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(asks);
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "Metrics are no longer served");
    }
}

async fn metrics(State(asks): State<mpsc::Sender<Ask>>) -> Response {
    let Some(snapshot) = ask(&asks, Ask::Snapshot).await else {
        return unhealthy();
    };
    // Ten thousand partitions take a while to write down.
    match tokio::task::spawn_blocking(move || scrape::render(*snapshot)).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => unhealthy(),
    }
}

async fn healthz(State(asks): State<mpsc::Sender<Ask>>) -> Response {
    match ask(&asks, Ask::Ready).await {
        Some(_) => "ok\n".into_response(),
        None => unhealthy(),
    }
}

async fn readyz(State(asks): State<mpsc::Sender<Ask>>) -> Response {
    match ask(&asks, Ask::Ready).await {
        Some(true) => "ready\n".into_response(),
        Some(false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
        None => unhealthy(),
    }
}

fn unhealthy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "control does not answer\n").into_response()
}

/// Asks the control task; `None` if it does not answer in time.
pub(super) async fn ask<T>(
    asks: &mpsc::Sender<Ask>,
    question: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Option<T> {
    let (answer_end, answer) = oneshot::channel();
    asks.try_send(question(answer_end)).ok()?;
    tokio::time::timeout(ANSWER_TIMEOUT, answer)
        .await
        .ok()?
        .ok()
}
