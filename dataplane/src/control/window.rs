//! The status document for whoever connects to the node's socket: read to its end, it is one JSON document.
//!
//! Invariant: whoever reads slowly, or not at all, holds up nobody: so many clients at once, each for so long,
//! and all of one second share one document.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::time::Instant;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tracing::warn;

use super::health::{Ask, ask};
use super::{clients, document};
use crate::clock;
use crate::contract::mpsc;
use crate::status::socket::Guard;

/// A document is given away as long as this, for shards do not speak more often.
const FRESH: Duration = Duration::from_secs(1);

/// The newest document, and when it was made.
type Newest = Arc<Mutex<Option<(Instant, Bytes)>>>;

/// Serves until it is aborted; then the socket is taken away.
pub(super) async fn serve((listener, _guard): (UnixListener, Guard), asks: mpsc::Sender<Ask>) {
    let newest = Newest::default();
    let attend = |stream| answer(stream, Arc::clone(&newest), asks.clone());
    clients::serve(&listener, "Status is not served for a moment", attend).await;
}

async fn answer(mut stream: UnixStream, newest: Newest, asks: mpsc::Sender<Ask>) {
    let Some(document) = fresh(&newest, &asks).await else {
        warn!("Status was asked for, and control did not answer");
        return;
    };
    clients::say(&mut stream, &document).await;
}

/// One makes it, and those that ask meanwhile wait for it.
async fn fresh(newest: &Newest, asks: &mpsc::Sender<Ask>) -> Option<Bytes> {
    let mut newest = newest.lock().await;
    if let Some((at, document)) = &*newest
        && clock::now().saturating_since(*at) < FRESH
    {
        return Some(document.clone());
    }
    let snapshot = ask(asks, Ask::Snapshot).await?;
    let at = snapshot.at.since_boot;
    let text = tokio::task::spawn_blocking(move || {
        let mut text = serde_json::to_vec(&document::of(&snapshot));
        if let Ok(text) = &mut text {
            text.push(b'\n');
        }
        text
    });
    let document = Bytes::from(text.await.ok()?.ok()?);
    *newest = Some((at, document.clone()));
    Some(document)
}
