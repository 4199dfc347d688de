//! Whoever connects to a Unix socket of the node.
//!
//! Invariant: so many at once, the others wait in the socket's backlog; who does not read holds up nobody.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::warn;

/// Clients of one socket that are served at once.
const CLIENTS_MAX: usize = 8;

/// A client says what it has to say within this, and reads its answer within this.
pub(super) const TALK_TIMEOUT: Duration = Duration::from_secs(10);

/// Where nothing can be accepted, it is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves each client by `attend`, until it is aborted. `failing` is what is said while none can be accepted.
pub(super) async fn serve<F>(
    listener: &UnixListener,
    failing: &'static str,
    mut attend: impl FnMut(UnixStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        if clients.len() >= CLIENTS_MAX {
            clients.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.spawn(attend(stream));
            }
            Err(error) => {
                warn!(%error, "{failing}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives an answer, and ends it.
pub(super) async fn say(to: &mut (impl AsyncWrite + Unpin), answer: &[u8]) {
    let written = async {
        to.write_all(answer).await?;
        to.shutdown().await
    };
    // Who has gone, or does not read, wants no more.
    tokio::time::timeout(TALK_TIMEOUT, written)
        .await
        .map(Result::unwrap_or_default)
        .unwrap_or_default();
}
