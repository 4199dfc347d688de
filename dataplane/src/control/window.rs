//! The status document for whoever connects to the node's socket: read to its end, it is one JSON document.
//!
//! Invariant: whoever reads slowly, or not at all, holds up nobody: so many clients at once, each for so long,
//! and all of one second share one document.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::warn;

use super::document;
use super::health::{Ask, ask};
use crate::clock;
use crate::contract::mpsc;
use crate::status::socket::Guard;

/// Clients that are answered at once; others wait in the socket's backlog.
const CLIENTS_MAX: usize = 8;

/// A client reads its document within this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A document is given away as long as this, for shards do not speak more often.
const FRESH: Duration = Duration::from_secs(1);

/// Where nothing can be accepted, it is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The newest document, and when it was made.
type Newest = Arc<Mutex<Option<(Instant, Bytes)>>>;

/// Serves until it is aborted; then the socket is taken away.
pub(super) async fn serve((listener, _guard): (UnixListener, Guard), asks: mpsc::Sender<Ask>) {
    let newest = Newest::default();
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        if clients.len() >= CLIENTS_MAX {
            clients.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.spawn(answer(stream, Arc::clone(&newest), asks.clone()));
            }
            Err(error) => {
                warn!(%error, "Status is not served for a moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, newest: Newest, asks: mpsc::Sender<Ask>) {
    let Some(document) = fresh(&newest, &asks).await else {
        warn!("Status was asked for, and control did not answer");
        return;
    };
    let written = async {
        stream.write_all(&document).await?;
        stream.shutdown().await
    };
    // Who has gone, or does not read, wants no more.
    tokio::time::timeout(WRITE_TIMEOUT, written)
        .await
        .map(Result::unwrap_or_default)
        .unwrap_or_default();
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
