//! One connection to a broker, without the socket: version negotiation, authentication, correlation, order of
//! answers.
//!
//! ```text
//! Fresh --open()--> Opening --ApiVersions answered--> Open, ready
//!                    |   ^            \                 |  ^  send() / receive()
//!                    +---+             +--> Open, logging in
//!     UNSUPPORTED_VERSION: asked again,     (SaslHandshake, then the mechanism's messages; once more on
//!     once, in a version that the broker has   authenticate_again())
//! ```
//!
//! An error of [`receive`](Connection::receive) ends the connection: the caller closes the socket. A broker
//! answers in the order of the requests (Kafka protocol guide, "Network"), and is held to that.
//!
//! Invariant: at most [`REQUESTS_IN_FLIGHT_MAX`] requests wait for an answer.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod authentication;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use zeroize::{Zeroize, Zeroizing};

use self::authentication::Login;
use super::error::ErrorCode;
use super::frame;
use super::messages::{ApiKey, ApiVersionsResponse, Asked, EncodeError, Request, Response};
use super::sasl::{Derivation, Exchange, SaslError};
use super::versions::{self, BrokerVersions, Misfit};
use super::wire::DecodeError;
use crate::limits::REQUESTS_IN_FLIGHT_MAX;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    client_id: StrBytes,
    phase: Phase,
    /// What the broker granted at the last authentication; `None` is for ever.
    session_lifetime: Option<Duration>,
    next_correlation: i32,
    in_flight: VecDeque<(CorrelationId, Asked)>,
    /// Whether a request of the caller's was answered.
    has_answered: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was said; how we shall authenticate, if at all.
    Fresh(Option<Exchange>),
    Opening {
        asked_again: bool,
        exchange: Option<Exchange>,
    },
    /// The broker's versions are known. While we log in nothing else may be said.
    Open {
        broker: BrokerVersions,
        login: Option<Box<Login>>,
    },
}

/// Joins an answer to its request; counts up on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CorrelationId(pub i32);

/// What a frame brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The broker's versions are known, and we are authenticated where we want to be (again): requests may be
    /// sent.
    Ready,
    /// Send this frame: ApiVersions once more, in a version that the broker has, or a step of the
    /// authentication.
    Send(Bytes),
    /// Derive this key and give it to [`Connection::derived`].
    Derive(Derivation),
    /// The answer to a request.
    Response {
        /// As `send` gave it.
        correlation: CorrelationId,
        /// The answer.
        response: Response,
    },
}

/// Why a connection cannot go on, or a request cannot be sent on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The broker is too old, or too new, for the request.
    #[error("{0}")]
    Unsupported(Misfit),
    /// The broker refuses to tell its versions.
    #[error("ApiVersions: the broker answers {0}")]
    Refused(ErrorCode),
    /// An answer that cannot be read.
    #[error("answer to {api} version {version}: {error}")]
    Decode {
        /// The API.
        api: ApiKey,
        /// The version it was asked in.
        version: i16,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A request that cannot be written.
    #[error("{api} version {version}: {error}")]
    Encode {
        /// The API.
        api: ApiKey,
        /// The version chosen.
        version: i16,
        /// What is wrong with it.
        error: EncodeError,
    },
    /// An answer out of order, or to nothing we asked.
    #[error("correlation id {found} where {expected} is due")]
    UnexpectedCorrelation {
        /// The id of the oldest request in flight.
        expected: i32,
        /// The id of the answer.
        found: i32,
    },
    /// An answer while no request is in flight.
    #[error("an answer of {bytes} bytes although nothing was asked")]
    NothingAsked {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// We are not authenticated.
    #[error("SASL authentication failed: {0}")]
    Sasl(#[from] SaslError),
    /// A frame too short for a correlation id.
    #[error("frame: {0}")]
    Frame(DecodeError),
    /// The caller has to wait for answers first.
    #[error("{REQUESTS_IN_FLIGHT_MAX} requests wait for their answers")]
    TooManyInFlight,
}

impl Connection {
    /// A connection on which nothing was said. `client_id`, at most 32,767 bytes, names us in the broker's
    /// logs and quotas; with an `exchange` we authenticate.
    pub fn new(client_id: &str, exchange: Option<Exchange>) -> Self {
        assert!(
            i16::try_from(client_id.len()).is_ok(),
            "a client id fits its length"
        );
        Self {
            client_id: StrBytes::from_string(client_id.to_owned()),
            phase: Phase::Fresh(exchange),
            session_lifetime: None,
            next_correlation: 0,
            in_flight: VecDeque::new(),
            has_answered: false,
        }
    }

    /// The first frame to send. Called once, before anything else.
    pub fn open(&mut self) -> Bytes {
        let Phase::Fresh(exchange) = &mut self.phase else {
            panic!("a connection is opened once");
        };
        self.phase = Phase::Opening {
            asked_again: false,
            exchange: exchange.take(),
        };
        self.ask_versions(versions::spoken(ApiKey::ApiVersions).max)
    }

    /// The frame of that request, and the id by which its answer will be known.
    ///
    /// Asserts that the connection is ready.
    pub fn send(&mut self, request: &Request) -> Result<(CorrelationId, Bytes), ConnectionError> {
        let Phase::Open {
            broker,
            login: None,
        } = &self.phase
        else {
            panic!("a request before the connection is ready");
        };
        let (api, needed) = (request.api(), versions::able(request));
        let Some(version) = broker.choose(api, needed) else {
            let offered = broker.offered(api);
            return Err(ConnectionError::Unsupported(Misfit {
                api,
                offered,
                needed,
            }));
        };
        if self.in_flight.len() >= REQUESTS_IN_FLIGHT_MAX {
            return Err(ConnectionError::TooManyInFlight);
        }
        self.put(request, version)
    }

    /// Takes one frame, without its length prefix.
    pub fn receive(&mut self, frame: Bytes) -> Result<Received, ConnectionError> {
        if self.awaits_raw_token() {
            return self.handle_challenge(&frame);
        }
        let bytes = frame.len();
        let (found, rest) = frame::take_correlation(frame).map_err(ConnectionError::Frame)?;
        let Some((correlation, asked)) = self.in_flight.pop_front() else {
            return Err(ConnectionError::NothingAsked { bytes });
        };
        if found != correlation.0 {
            return Err(ConnectionError::UnexpectedCorrelation {
                expected: correlation.0,
                found,
            });
        }
        let response = Response::decode(&asked, rest).map_err(|error| ConnectionError::Decode {
            api: asked.api,
            version: asked.version,
            error,
        })?;
        match response {
            // No caller asks for these.
            Response::ApiVersions(told) => self.handle_versions(&told),
            Response::SaslHandshake(told) => self.handle_handshake(&told),
            Response::SaslAuthenticate(told) => self.handle_authenticate(&told),
            response => {
                self.has_answered = true;
                Ok(Received::Response {
                    correlation,
                    response,
                })
            }
        }
    }

    /// Whether the broker's versions are known and no authentication is under way, so that requests may be sent.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Open { login: None, .. })
    }

    /// The highest version of that API that both sides speak; `None` when there is none, or before the
    /// broker's versions are known. A request may go out in a lower one (a Fetch without topic id in 12 at most).
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        match &self.phase {
            Phase::Open { broker, .. } => broker.choose(api, versions::spoken(api)),
            Phase::Fresh(_) | Phase::Opening { .. } => None,
        }
    }

    /// Whether the broker has not told its versions yet.
    pub fn awaits_versions(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. })
    }

    /// Whether the first of the caller's requests waits for its answer: what a broker wants that only lets
    /// certain clients in, it says by closing then.
    pub fn awaits_first_answer(&self) -> bool {
        self.is_ready() && !self.has_answered && !self.in_flight.is_empty()
    }

    /// Whether a request of the caller's was answered.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Requests that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn handle_versions(&mut self, told: &ApiVersionsResponse) -> Result<Received, ConnectionError> {
        let Phase::Opening {
            asked_again,
            exchange,
        } = &mut self.phase
        else {
            unreachable!("versions are asked for while opening alone");
        };
        if told.error == ErrorCode::UNSUPPORTED_VERSION && !*asked_again {
            *asked_again = true;
            // Brokers from 2.4 on name the versions of ApiVersions in that answer; all have version 0.
            let broker = BrokerVersions::new(&told.ranges);
            let spoken = versions::spoken(ApiKey::ApiVersions);
            let version = broker.choose(ApiKey::ApiVersions, spoken).unwrap_or(0);
            return Ok(Received::Send(self.ask_versions(version)));
        }
        if !told.error.is_ok() {
            return Err(ConnectionError::Refused(told.error));
        }
        let exchange = exchange.take();
        let broker = BrokerVersions::new(&told.ranges);
        for api in ApiKey::ALL {
            let needed = versions::spoken(api);
            if broker.choose(api, needed).is_none() && !versions::is_optional(api) {
                return Err(ConnectionError::Unsupported(Misfit {
                    api,
                    offered: broker.offered(api),
                    needed,
                }));
            }
        }
        self.phase = Phase::Open {
            broker,
            login: None,
        };
        match exchange {
            Some(exchange) => Ok(Received::Send(self.authenticate_again(exchange)?)),
            None => Ok(Received::Ready),
        }
    }

    fn ask_versions(&mut self, version: i16) -> Bytes {
        let (_, frame) = self
            .put(&Request::ApiVersions, version)
            .expect("a client id fits its length, and the body is two short constants");
        frame
    }

    /// Writes a request's frame and notes that its answer is due.
    fn put(
        &mut self,
        request: &Request,
        version: i16,
    ) -> Result<(CorrelationId, Bytes), ConnectionError> {
        let api = request.api();
        let correlation = self.next_correlation;
        let failed = |error| ConnectionError::Encode {
            api,
            version,
            error,
        };
        let mut out = BytesMut::with_capacity(self.room_for(request));
        out.put_bytes(0, frame::PREFIX_BYTES);
        frame::put_request_header(api, version, correlation, &self.client_id, &mut out)
            .map_err(failed)?;
        request.encode(version, &mut out).map_err(failed)?;
        frame::finish(&mut out).map_err(failed)?;
        self.next_correlation = correlation.wrapping_add(1);
        let correlation = CorrelationId(correlation);
        self.in_flight
            .push_back((correlation, request.asked(version)));
        let frame = match request {
            Request::SaslAuthenticate(_) => sealed(out),
            _ => out.freeze(),
        };
        Ok((correlation, frame))
    }

    fn room_for(&self, request: &Request) -> usize {
        match request {
            // What grows leaves copies of what it held behind.
            Request::SaslAuthenticate(request) => [256, self.client_id.len()]
                .into_iter()
                .fold(request.token.bytes().len(), usize::saturating_add),
            _ => 256,
        }
    }
}

/// A frame whose memory is overwritten once it was sent.
fn sealed(mut frame: BytesMut) -> Bytes {
    let copy = Zeroizing::new(frame.to_vec());
    frame.as_mut().zeroize();
    Bytes::from_owner(copy)
}

#[cfg(test)]
mod tests;
