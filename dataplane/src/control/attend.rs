//! Attends to the shards: hears their statuses, answers their requests.
//!
//! Invariant: a slow answer holds up no other answer.

use std::sync::Arc;

use tokio::sync::Notify;

use super::names::Names;
use crate::clock;
use crate::contract::{Request, ShardStatus, mpsc, watch};

/// Raises `news` for each status, until the shard has ended.
pub(super) async fn status(mut status: watch::Receiver<Arc<ShardStatus>>, news: Arc<Notify>) {
    while status.changed().await.is_ok() {
        status.mark_unchanged();
        news.notify_one();
    }
}

/// Answers the requests of all shards, until the last has ended.
pub(super) async fn requests(mut requests: mpsc::Receiver<Request>, refresh: Arc<Notify>) {
    let mut names = Names::default();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Resolve { host, port, answer }) => {
                    names.ask(host, (port, answer), clock::now());
                }
                Some(Request::RefreshCredentials) => refresh.notify_one(),
                None => break,
            },
            () = names.answer_next() => {}
        }
    }
}
