//! One connection of a consumer, and what is said of it.
//!
//! Invariant: a connection that is down has nothing in flight.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, Session};
use crate::delivery::{ConnectionId, Disconnect, Effect, Endpoint, Fault};
use crate::kafka::connection::{Connection, ConnectionError, CorrelationId};
use crate::kafka::messages::{Request, Response};
use crate::kafka::sasl::{SaslCredentials, SaslError};
use crate::kafka::stranger::{CLOSES_ON_VERSIONS, WANTS_SASL};
use crate::limits;
use crate::random::Random;
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
    /// Produce and InitProducerId, at that broker.
    Produce(i32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed => f.write_str("seed"),
            Self::Join => f.write_str("join"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Fetch(node) => write!(f, "fetch-{node}"),
            Self::Produce(node) => write!(f, "produce-{node}"),
        }
    }
}

/// An answer, with the ticket of its request.
#[derive(Debug)]
pub(in crate::delivery) struct Answer<T> {
    pub(in crate::delivery) ticket: T,
    pub(in crate::delivery) response: Response,
    pub(in crate::delivery) role: Role,
    /// For how long the broker wants nothing more to be asked.
    pub(in crate::delivery) throttle: Duration,
}

/// What a connection's end leaves behind.
#[derive(Debug)]
pub(in crate::delivery) struct Broken<T> {
    pub(in crate::delivery) role: Role,
    pub(in crate::delivery) endpoint: Endpoint,
    /// Whether the peer had answered before.
    pub(in crate::delivery) was_open: bool,
    /// The broker was reached, and is of no use.
    pub(in crate::delivery) refusal: Option<Refusal>,
    pub(in crate::delivery) reason: String,
    /// The reason says what to change.
    pub(in crate::delivery) advises: bool,
    /// How many ends there were since one was last worth a line; `None` while this is not.
    pub(in crate::delivery) worth_saying: Option<u32>,
    /// The requests that will not be answered.
    pub(in crate::delivery) tickets: Vec<T>,
}

/// Why a broker that was reached is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::delivery) enum Refusal {
    /// We are not let in, or do not trust it.
    Access,
    /// We have no version in common.
    Versions,
}

impl Refusal {
    pub(super) fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Incompatible(_) => Self::Versions,
            _ => Self::Access,
        }
    }
}

#[derive(Debug)]
pub(super) struct Asked<T> {
    pub(super) correlation: CorrelationId,
    pub(super) ticket: T,
    pub(super) deadline: Instant,
    /// From then on its broker is suspected.
    pub(super) late_at: Instant,
}

#[derive(Debug)]
pub(super) enum State<T> {
    Down,
    Connecting {
        id: ConnectionId,
        deadline: Instant,
        late_at: Instant,
    },
    /// Connected; ready once the versions are known and the broker has let us in.
    Open {
        id: ConnectionId,
        connection: Box<Connection>,
        asked: VecDeque<Asked<T>>,
        /// When it must be ready.
        handshake: Instant,
        late_at: Instant,
        /// What it authenticates with, or did last.
        credentials: Option<Arc<SaslCredentials>>,
        /// When its last step was said: a session counts from there at the latest.
        said_at: Instant,
        /// `None` until it was ready.
        session: Option<Session>,
    },
}

#[derive(Debug)]
pub(super) struct Link<T> {
    pub(super) endpoint: Endpoint,
    pub(super) state: State<T>,
    pub(super) failures: u32,
    /// How often in a row our credentials were refused.
    pub(super) refusals: u32,
    /// Until the broker can be used.
    pub(super) refusal: Option<(Instant, Fault)>,
    /// Since when it could not be used, and why it failed last.
    pub(super) failing: Option<(Instant, String)>,
    /// No connecting and no sending before then (back-off, or the broker's throttle, KIP-219).
    pub(super) not_before: Instant,
}

impl<T> Link<T> {
    pub(super) fn new(endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            endpoint: endpoint.clone(),
            state: State::Down,
            failures: 0,
            refusals: 0,
            refusal: None,
            failing: None,
            not_before: now,
        }
    }

    /// Begins to connect; it must be down.
    pub(super) fn connect(
        &mut self,
        next_id: &mut u64,
        patience: Duration,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) {
        let id = ConnectionId(*next_id);
        *next_id += 1;
        effects.push_back(Effect::Connect(id, self.endpoint.clone()));
        self.state = State::Connecting {
            id,
            deadline: now + patience,
            late_at: now + limits::ANSWER_EXPECTED,
        };
    }

    /// From when on its broker owes something for longer than it should.
    pub(super) fn late_at(&self) -> Option<Instant> {
        match &self.state {
            State::Down => None,
            State::Connecting { late_at, .. } => Some(*late_at),
            State::Open {
                connection,
                asked,
                late_at,
                ..
            } => {
                let asked = asked.front().map(|front| front.late_at);
                asked.or((!connection.is_ready()).then_some(*late_at))
            }
        }
    }

    /// Whether the connection that stands was made in a way that is not the newest.
    pub(super) fn is_outdated(&self, access: &Access) -> bool {
        matches!(self.state, State::Open { id, .. } if access.is_outdated(id))
    }

    /// Whether the broker has answered anything on the connection that stands.
    pub(super) fn has_answered(&self) -> bool {
        matches!(&self.state, State::Open { connection, .. } if connection.has_answered())
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Open { session, .. } => session.as_ref(),
            State::Down | State::Connecting { .. } => None,
        }
    }

    /// Whether we were not let in when it was last tried, not long ago.
    pub(super) fn is_refused(&self, now: Instant) -> bool {
        let since = self.refusal.as_ref().map(|(since, _)| *since);
        since.is_some_and(|since| now.saturating_since(since) <= limits::REFUSAL_SHOWN_MAX)
    }

    /// Whether something is in flight.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Open { asked, .. } if !asked.is_empty())
    }

    /// How long nothing is tried after another failure: half of it is fixed, so that a broker that refuses is
    /// never asked in a tight loop.
    pub(super) fn back_off(&mut self, random: &mut Random) -> Duration {
        let cap = limits::RECONNECT_BACKOFF * 2u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let cap = cap.min(limits::RECONNECT_BACKOFF_MAX) / 2;
        cap + random.jitter(cap)
    }

    /// The same after our credentials were refused.
    pub(super) fn back_off_refused(&mut self, random: &mut Random) -> Duration {
        let cap = limits::AUTHENTICATION_BACKOFF * 2u32.saturating_pow(self.refusals.min(10));
        self.refusals = self.refusals.saturating_add(1);
        let cap = cap.min(limits::AUTHENTICATION_BACKOFF_MAX);
        cap + random.jitter(cap / 2)
    }
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// It says what to change.
    pub(super) advises: bool,
    pub(super) refusal: Option<Fault>,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            advises: false,
            refusal: None,
        }
    }

    pub(super) fn of_error(error: &ConnectionError, endpoint: &Endpoint) -> Self {
        let refusal = match error {
            ConnectionError::Sasl(sasl) => Some(authentication_failed(sasl, endpoint)),
            ConnectionError::Unsupported(misfit) => {
                let Endpoint { host, port } = endpoint;
                Some(Fault::Incompatible(format!(
                    "broker {host}:{port}: {misfit}"
                )))
            }
            _ => None,
        };
        Self {
            reason: error.to_string(),
            advises: false,
            refusal,
        }
    }

    /// The connection to `endpoint` ended by itself.
    pub(super) fn of_end<T>(end: &Disconnect, endpoint: &Endpoint, state: &State<T>) -> Self {
        let mut reason = without_address(describe(end), endpoint).to_owned();
        let (open, is_anonymous) = match state {
            State::Open {
                connection,
                credentials,
                ..
            } => (Some(&**connection), credentials.is_none()),
            State::Down | State::Connecting { .. } => (None, false),
        };
        let mut advises = matches!(end, Disconnect::Protocol(_));
        if let (Some(connection), Disconnect::Closed(_)) = (open, end) {
            if connection.awaits_versions() {
                reason = format!("{reason} {CLOSES_ON_VERSIONS}");
            } else if is_anonymous && connection.awaits_first_answer() {
                reason = format!("{reason} {WANTS_SASL}");
                advises = true;
            }
        }
        let said = || format!("broker {}:{}: {reason}", endpoint.host, endpoint.port);
        let refusal = match end {
            Disconnect::ServerNotTrusted(_) => Some(Fault::ServerNotTrusted(said())),
            Disconnect::ClientNotTrusted(_) => Some(Fault::ClientNotTrusted(said())),
            Disconnect::Closed(_) => open
                .and_then(Connection::refused_by_closing)
                .map(|sasl| authentication_failed(&sasl, endpoint)),
            Disconnect::Unresolved(_) | Disconnect::Unreachable(_) | Disconnect::Protocol(_) => {
                None
            }
        };
        Self {
            reason,
            advises,
            refusal,
        }
    }
}

fn authentication_failed(error: &SaslError, endpoint: &Endpoint) -> Fault {
    let Endpoint { host, port } = endpoint;
    Fault::AuthenticationFailed(format!("broker {host}:{port}: {error}"))
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
        Request::Produce(produce) => produce.timeout_ms,
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
        Response::Heartbeat(r) => r.throttle_ms,
        Response::LeaveGroup(r) => r.throttle_ms,
        Response::OffsetFetch(r) => r.throttle_ms,
        Response::OffsetCommit(r) => r.throttle_ms,
        Response::ListOffsets(r) => r.throttle_ms,
        Response::OffsetForLeaderEpoch(r) => r.throttle_ms,
        Response::Fetch(r) => r.throttle_ms,
        Response::ConsumerGroupHeartbeat(r) => r.throttle_ms,
        Response::Produce(r) => r.throttle_ms,
        Response::InitProducerId(r) => r.throttle_ms,
        Response::DescribeGroups(r) => r.throttle_ms,
        Response::ConsumerGroupDescribe(r) => r.throttle_ms,
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

fn describe(reason: &Disconnect) -> &str {
    match reason {
        Disconnect::Unresolved(text)
        | Disconnect::Unreachable(text)
        | Disconnect::Closed(text)
        | Disconnect::Protocol(text)
        | Disconnect::ServerNotTrusted(text)
        | Disconnect::ClientNotTrusted(text) => text,
    }
}
