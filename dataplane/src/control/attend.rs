//! Attends to one shard: hears its status, answers its requests.
//!
//! Invariant: a slow answer holds up no other answer.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::contract::{Request, ShardStatus, mpsc, watch};

/// Raises `news` for each status, and when the shard has ended.
pub(super) async fn status(mut status: watch::Receiver<Arc<ShardStatus>>, news: Arc<Notify>) {
    while status.changed().await.is_ok() {
        status.mark_unchanged();
        news.notify_one();
    }
    news.notify_one();
}

/// Answers requests until the shard has ended. What is being answered at once is bounded by the
/// consumers of the shard, since each waits for its answer.
pub(super) async fn requests(mut requests: mpsc::Receiver<Request>, refresh: Arc<Notify>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Resolve { host, port, answer }) => {
                    answering.spawn(async move {
                        // Whoever asked may have given up; then nobody needs the answer.
                        answer.send(resolve(&host, port).await).unwrap_or_default();
                    });
                }
                Some(Request::RefreshCredentials) => refresh.notify_one(),
                None => break,
            },
            Some(_) = answering.join_next() => {}
        }
    }
}

/// All addresses of a name, in the resolver's order. The system's resolver blocks, so tokio asks it on
/// its pool.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| error.to_string())?
        .collect();
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn localhost_has_an_address_and_nonsense_has_none() {
        block_on(async {
            assert!(!resolve("localhost", 9092).await.unwrap().is_empty());
            assert!(resolve("no such name", 9092).await.is_err());
        });
    }
}
