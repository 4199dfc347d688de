//! Connections to function endpoints that wait for the next call.
//!
//! Invariant: a connection is lent to one call at a time, and only if it was open, silent and young when
//! it was taken out.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::TcpStream;
use std::sync::Arc;

use forebay_protocol::delivery::Endpoint;
use forebay_protocol::limits::{IDLE_CONNECTION_AGE_MAX, IDLE_CONNECTIONS_MAX};
use forebay_protocol::time::Instant;
use rustls::ClientConfig;

use crate::net::stream::Stream;
use crate::net::tcp::{self, Handle};

/// The idle connections of a shard.
#[derive(Default)]
pub(super) struct Pool {
    /// Oldest first.
    idle: RefCell<HashMap<Endpoint, VecDeque<Idle>>>,
}

struct Idle {
    /// The configuration by which its peer was trusted.
    tls: Option<Arc<ClientConfig>>,
    stream: Stream,
    socket: TcpStream,
    since: Instant,
}

impl Pool {
    /// The youngest good connection to `endpoint`, now in the care of `handle`. One that was made by another
    /// configuration is not good: what that trusted may be trusted no more.
    pub(super) fn take(
        &self,
        endpoint: &Endpoint,
        tls: Option<&Arc<ClientConfig>>,
        handle: &Handle,
        now: Instant,
    ) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(endpoint)?;
        while let Some(Idle {
            tls: made_by,
            stream,
            socket,
            since,
        }) = connections.pop_back()
        {
            let is_same = made_by.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr);
            if is_same && !is_old(since, now) && tcp::is_idle_and_open(&socket) {
                handle.attach(socket);
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end, unless `handle` was cut.
    pub(super) fn put(
        &self,
        endpoint: &Endpoint,
        tls: Option<Arc<ClientConfig>>,
        stream: Stream,
        handle: &Handle,
        now: Instant,
    ) {
        let Some(socket) = handle.detach() else {
            return;
        };
        let mut idle = self.idle.borrow_mut();
        if !idle.contains_key(endpoint) {
            idle.insert(endpoint.clone(), VecDeque::new());
        }
        let Some(connections) = idle.get_mut(endpoint) else {
            return;
        };
        if connections.len() >= IDLE_CONNECTIONS_MAX {
            connections.pop_front();
        }
        connections.push_back(Idle {
            tls,
            stream,
            socket,
            since: now,
        });
    }

    /// Closes what has waited too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, connections| {
            while connections
                .front()
                .is_some_and(|idle| is_old(idle.since, now))
            {
                connections.pop_front();
            }
            !connections.is_empty()
        });
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.saturating_since(since) >= IDLE_CONNECTION_AGE_MAX
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::net::trial::{on_each_driver, pair};

    fn endpoint() -> Endpoint {
        Endpoint {
            host: "function.test".to_owned(),
            port: 80,
        }
    }

    #[test]
    fn the_youngest_good_connection_is_taken() {
        on_each_driver(async || {
            let (pool, now) = (Pool::default(), Instant::ZERO);
            let mut peers = Vec::new();
            for _ in 0..3 {
                let (stream, handle, peer) = pair().await;
                pool.put(&endpoint(), None, stream, &handle, now);
                peers.push(peer);
            }
            // The youngest was closed, the next says something unasked: the oldest is left.
            peers.pop();
            peers[1]
                .write_all(b"HTTP/1.1 408 Request Timeout\r\n")
                .unwrap();
            let handle = Handle::default();
            assert!(pool.take(&endpoint(), None, &handle, now).is_some());
            let taken = handle.detach().unwrap();
            assert_eq!(taken.peer_addr().unwrap(), peers[0].local_addr().unwrap());
            assert!(pool.take(&endpoint(), None, &handle, now).is_none());
        });
    }

    #[test]
    fn an_old_connection_is_neither_lent_nor_kept() {
        on_each_driver(async || {
            let (pool, late) = (Pool::default(), Instant::ZERO + IDLE_CONNECTION_AGE_MAX);
            let (stream, handle, _peer) = pair().await;
            pool.put(&endpoint(), None, stream, &handle, Instant::ZERO);
            assert!(
                pool.take(&endpoint(), None, &Handle::default(), late)
                    .is_none()
            );
            let (stream, handle, _peer) = pair().await;
            pool.put(&endpoint(), None, stream, &handle, Instant::ZERO);
            pool.sweep(late - Duration::from_micros(1));
            assert_eq!(pool.idle.borrow().len(), 1);
            pool.sweep(late);
            assert!(pool.idle.borrow().is_empty());
        });
    }

    #[test]
    fn a_connection_that_was_cut_is_not_kept() {
        on_each_driver(async || {
            let pool = Pool::default();
            let (stream, handle, _peer) = pair().await;
            handle.cut();
            pool.put(&endpoint(), None, stream, &handle, Instant::ZERO);
            assert!(pool.idle.borrow().is_empty());
        });
    }
}
