//! One connection of a consumer, and what is said of it.
//!
//! Invariant: a connection that is down has nothing in flight.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::delivery::{ConnectionId, Disconnect, Endpoint};
use crate::kafka::connection::{Connection, CorrelationId};
use crate::kafka::messages::{Request, Response};
use crate::time::Instant;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::delivery) enum Role {
    /// Metadata and coordinator look-ups, at any broker.
    Seed,
    /// JoinGroup and SyncGroup, at the coordinator: it holds them for as long as a rebalance takes.
    Join,
    /// Heartbeat, LeaveGroup, OffsetFetch and OffsetCommit, at the coordinator.
    Coordinator,
    /// Fetch and ListOffsets, at that broker.
    Fetch(i32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed => f.write_str("seed"),
            Self::Join => f.write_str("join"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Fetch(node) => write!(f, "fetch-{node}"),
        }
    }
}

/// An answer, with the ticket of its request.
#[derive(Debug)]
pub(in crate::delivery) struct Answer<T> {
    pub(in crate::delivery) ticket: T,
    pub(in crate::delivery) response: Response,
}

/// What a connection's end leaves behind.
#[derive(Debug)]
pub(in crate::delivery) struct Broken<T> {
    pub(in crate::delivery) role: Role,
    pub(in crate::delivery) endpoint: Endpoint,
    /// Whether the peer had answered before.
    pub(in crate::delivery) was_open: bool,
    pub(in crate::delivery) reason: String,
    /// How many ends there were since one was last worth a line; `None` while this is not.
    pub(in crate::delivery) worth_saying: Option<u32>,
    /// The requests that will not be answered.
    pub(in crate::delivery) tickets: Vec<T>,
}

#[derive(Debug)]
pub(super) struct Asked<T> {
    pub(super) correlation: CorrelationId,
    pub(super) ticket: T,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) enum State<T> {
    Down,
    Connecting {
        id: ConnectionId,
        deadline: Instant,
    },
    /// Connected; ready once the versions are known.
    Open {
        id: ConnectionId,
        connection: Box<Connection>,
        asked: VecDeque<Asked<T>>,
        handshake: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Link<T> {
    pub(super) endpoint: Endpoint,
    pub(super) state: State<T>,
    pub(super) failures: u32,
    /// No connecting and no sending before then (back-off, or the broker's throttle).
    pub(super) not_before: Instant,
}

pub(super) fn take_down<T>(state: &mut State<T>) -> Option<(ConnectionId, Vec<T>)> {
    match std::mem::replace(state, State::Down) {
        State::Down => None,
        State::Connecting { id, .. } => Some((id, Vec::new())),
        State::Open { id, asked, .. } => {
            Some((id, asked.into_iter().map(|asked| asked.ticket).collect()))
        }
    }
}

/// What a request may take beyond the request timeout, because the broker waits on purpose.
pub(super) fn extra_time(request: &Request) -> Duration {
    let millis = match request {
        Request::JoinGroup(join) => join.rebalance_timeout_ms.max(join.session_timeout_ms),
        Request::Fetch(fetch) => fetch.max_wait_ms,
        _ => 0,
    };
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(super) fn throttle(response: &Response) -> Duration {
    let millis = match response {
        Response::ApiVersions(r) => r.throttle_ms,
        Response::Metadata(r) => r.throttle_ms,
        Response::FindCoordinator(r) => r.throttle_ms,
        Response::JoinGroup(r) => r.throttle_ms,
        Response::SyncGroup(r) => r.throttle_ms,
        Response::Heartbeat(_) | Response::LeaveGroup(_) => 0,
        Response::OffsetFetch(r) => r.throttle_ms,
        Response::OffsetCommit(r) => r.throttle_ms,
        Response::ListOffsets(r) => r.throttle_ms,
        Response::OffsetForLeaderEpoch(r) => r.throttle_ms,
        Response::Fetch(r) => r.throttle_ms,
        Response::ConsumerGroupHeartbeat(r) => r.throttle_ms,
        Response::SaslHandshake(_) | Response::SaslAuthenticate(_) => 0,
    };
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The address that stands before a reason is the endpoint's own, which is said beside it.
pub(super) fn without_address<'a>(reason: &'a str, endpoint: &Endpoint) -> &'a str {
    let Endpoint { host, port } = endpoint;
    [format!("{host}:{port}: "), format!("[{host}]:{port}: ")]
        .iter()
        .find_map(|address| reason.strip_prefix(address))
        .unwrap_or(reason)
}

pub(super) fn describe(reason: &Disconnect) -> String {
    match reason {
        Disconnect::Unresolved(text)
        | Disconnect::Unreachable(text)
        | Disconnect::Closed(text)
        | Disconnect::Protocol(text)
        | Disconnect::ServerNotTrusted(text)
        | Disconnect::ClientNotTrusted(text) => text.clone(),
    }
}
