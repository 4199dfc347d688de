//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Invariant: serves nothing that changes the node.

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener) {
    let router = Router::new().route("/healthz", get(async || "ok\n"));
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "Metrics are no longer served");
    }
}
