//! One connection to a broker, without the socket: version negotiation, correlation, order of answers.
//!
//! ```text
//! Fresh --open()--> Opening --ApiVersions answered--> Ready
//!                    |   ^                              send() / receive()
//!                    +---+ UNSUPPORTED_VERSION: asked again, once, in a version that the broker has
//! ```
//!
//! An error of [`receive`](Connection::receive) ends the connection: the caller closes the socket. A broker
//! answers in the order of the requests (Kafka protocol guide, "Network"), and is held to that.
//!
//! Invariant: at most [`REQUESTS_IN_FLIGHT_MAX`] requests wait for an answer.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::error::ErrorCode;
use super::frame;
use super::messages::{ApiKey, ApiVersionsResponse, Asked, EncodeError, Request, Response};
use super::versions::{self, BrokerVersions, VersionRange};
use super::wire::DecodeError;
use crate::limits::REQUESTS_IN_FLIGHT_MAX;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    client_id: StrBytes,
    phase: Phase,
    next_correlation: i32,
    in_flight: VecDeque<(CorrelationId, Asked)>,
}

#[derive(Debug)]
enum Phase {
    Fresh,
    Opening { asked_again: bool },
    Ready(BrokerVersions),
}

/// Joins an answer to its request; counts up on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CorrelationId(pub i32);

/// What a frame brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The broker's versions are known; requests may be sent.
    Ready,
    /// Send this frame: ApiVersions once more, in a version that the broker has.
    Send(Bytes),
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
    #[error("{api}: the broker offers {}, {needed} is needed", Offered(*.offered))]
    Unsupported {
        /// The API.
        api: ApiKey,
        /// The versions that the broker offers; `None` when it lacks the API.
        offered: Option<VersionRange>,
        /// The versions that would do.
        needed: VersionRange,
    },
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
    /// A frame too short for a correlation id.
    #[error("frame: {0}")]
    Frame(DecodeError),
    /// The caller has to wait for answers first.
    #[error("{REQUESTS_IN_FLIGHT_MAX} requests wait for their answers")]
    TooManyInFlight,
}

impl Connection {
    /// A connection on which nothing was said. `client_id`, at most 32,767 bytes, names us in the broker's
    /// logs and quotas.
    pub fn new(client_id: &str) -> Self {
        assert!(
            i16::try_from(client_id.len()).is_ok(),
            "a client id fits its length"
        );
        Self {
            client_id: StrBytes::from_string(client_id.to_owned()),
            phase: Phase::Fresh,
            next_correlation: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// The first frame to send. Called once, before anything else.
    pub fn open(&mut self) -> Bytes {
        assert!(
            matches!(self.phase, Phase::Fresh),
            "a connection is opened once"
        );
        self.phase = Phase::Opening { asked_again: false };
        self.ask_versions(versions::spoken(ApiKey::ApiVersions).max)
    }

    /// The frame of that request, and the id by which its answer will be known.
    ///
    /// Asserts that the connection is ready.
    pub fn send(&mut self, request: &Request) -> Result<(CorrelationId, Bytes), ConnectionError> {
        let Phase::Ready(broker) = &self.phase else {
            panic!("a request before the broker's versions are known");
        };
        let (api, needed) = (request.api(), versions::able(request));
        let Some(version) = broker.choose(api, needed) else {
            let offered = broker.offered(api);
            return Err(ConnectionError::Unsupported {
                api,
                offered,
                needed,
            });
        };
        if self.in_flight.len() >= REQUESTS_IN_FLIGHT_MAX {
            return Err(ConnectionError::TooManyInFlight);
        }
        self.put(request, version)
    }

    /// Takes one frame, without its length prefix.
    pub fn receive(&mut self, frame: Bytes) -> Result<Received, ConnectionError> {
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
        match (&self.phase, response) {
            (Phase::Opening { asked_again }, Response::ApiVersions(told)) => {
                self.handle_versions(*asked_again, &told)
            }
            (_, response) => Ok(Received::Response {
                correlation,
                response,
            }),
        }
    }

    /// Whether the broker's versions are known, so that requests may be sent.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// The highest version of that API that both sides speak; `None` when there is none, or before the
    /// connection is ready. A request may go out in a lower one (a Fetch without topic id in 12 at most).
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        match &self.phase {
            Phase::Ready(broker) => broker.choose(api, versions::spoken(api)),
            Phase::Fresh | Phase::Opening { .. } => None,
        }
    }

    /// Requests that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn handle_versions(
        &mut self,
        asked_again: bool,
        told: &ApiVersionsResponse,
    ) -> Result<Received, ConnectionError> {
        if told.error == ErrorCode::UNSUPPORTED_VERSION && !asked_again {
            self.phase = Phase::Opening { asked_again: true };
            // Brokers from 2.4 on name the versions of ApiVersions in that answer; all have version 0.
            let broker = BrokerVersions::new(&told.ranges);
            let spoken = versions::spoken(ApiKey::ApiVersions);
            let version = broker.choose(ApiKey::ApiVersions, spoken).unwrap_or(0);
            return Ok(Received::Send(self.ask_versions(version)));
        }
        if !told.error.is_ok() {
            return Err(ConnectionError::Refused(told.error));
        }
        let broker = BrokerVersions::new(&told.ranges);
        for api in ApiKey::ALL {
            let needed = versions::spoken(api);
            if broker.choose(api, needed).is_none() && !versions::is_optional(api) {
                return Err(ConnectionError::Unsupported {
                    api,
                    offered: broker.offered(api),
                    needed,
                });
            }
        }
        self.phase = Phase::Ready(broker);
        Ok(Received::Ready)
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
        let mut out = BytesMut::with_capacity(256);
        out.put_bytes(0, frame::PREFIX_BYTES);
        frame::put_request_header(api, version, correlation, &self.client_id, &mut out)
            .map_err(failed)?;
        request.encode(version, &mut out).map_err(failed)?;
        frame::finish(&mut out).map_err(failed)?;
        self.next_correlation = correlation.wrapping_add(1);
        let correlation = CorrelationId(correlation);
        self.in_flight
            .push_back((correlation, request.asked(version)));
        Ok((correlation, out.freeze()))
    }
}

/// Says what a broker offers.
struct Offered(Option<VersionRange>);

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(range) => write!(f, "version {range}"),
            None => f.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        ApiVersionsRequest, ApiVersionsResponse as WireVersions, HeartbeatResponse, RequestHeader,
        api_versions_response::ApiVersion,
    };
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::kafka::messages::{FetchRequest, HeartbeatRequest, JoinGroupRequest};

    const MODERN: i16 = i16::MAX;

    /// A broker's answer to ApiVersions: each API up to `max`, and none below its own first.
    fn versions(max: i16) -> WireVersions {
        let api = |api: ApiKey| {
            ApiVersion::default()
                .with_api_key(api as i16)
                .with_max_version(max.min(20))
        };
        WireVersions::default().with_api_keys(ApiKey::ALL.map(api).to_vec())
    }

    fn frame(correlation: i32, header_tags: bool, version: i16, body: &impl Encodable) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i32(correlation);
        if header_tags {
            out.put_u8(0);
        }
        body.encode(&mut out, version).unwrap();
        out.freeze()
    }

    fn ready(told: &WireVersions) -> Connection {
        let mut connection = Connection::new("a-0");
        connection.open();
        let received = connection.receive(frame(0, false, 4, told));
        assert_eq!(received, Ok(Received::Ready));
        connection
    }

    fn heartbeat() -> Request {
        Request::Heartbeat(HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 3,
            member_id: "m".into(),
            group_instance_id: None,
        })
    }

    fn fetch(topic_id: uuid::Uuid) -> Request {
        Request::Fetch(FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1000,
            read_committed: true,
            topic: "t".into(),
            topic_id,
            partitions: Vec::new(),
            rack_id: String::new(),
        })
    }

    /// The header's version field of a frame that we send.
    fn version_of(frame: &Bytes) -> i16 {
        i16::from_be_bytes([frame[6], frame[7]])
    }

    #[test]
    fn opens_with_the_newest_api_versions_and_our_name() {
        let mut connection = Connection::new("a-0");
        let mut sent = BytesMut::from(connection.open());
        let mut sent = frame::split_frame(&mut sent).unwrap().unwrap();
        let header = RequestHeader::decode(&mut sent, 2).unwrap();
        assert_eq!(header.request_api_key, 18);
        assert_eq!(header.request_api_version, 4);
        assert_eq!(header.client_id.as_deref(), Some("a-0"));
        let body = ApiVersionsRequest::decode(&mut sent, 4).unwrap();
        assert_eq!(&*body.client_software_name, "forebay");
        assert_eq!(&*body.client_software_version, env!("CARGO_PKG_VERSION"));
        assert!(!connection.is_ready());
        assert_eq!(connection.version(ApiKey::Fetch), None);
    }

    #[test]
    fn old_broker_is_asked_again_in_version_0() {
        let mut connection = Connection::new("a-0");
        connection.open();
        let refusal = WireVersions::default().with_error_code(35);
        let Ok(Received::Send(again)) = connection.receive(frame(0, false, 0, &refusal)) else {
            panic!("not asked again");
        };
        assert_eq!(version_of(&again), 0);
        let received = connection.receive(frame(1, false, 0, &versions(5)));
        assert_eq!(received, Ok(Received::Ready));
        assert_eq!(connection.version(ApiKey::Fetch), Some(5));
    }

    #[test]
    fn broker_that_names_its_api_versions_is_asked_again_in_the_highest() {
        let mut connection = Connection::new("a-0");
        connection.open();
        let own = ApiVersion::default().with_api_key(18).with_max_version(3);
        let refusal = WireVersions::default()
            .with_error_code(35)
            .with_api_keys(vec![own]);
        let Ok(Received::Send(again)) = connection.receive(frame(0, false, 0, &refusal)) else {
            panic!("not asked again");
        };
        assert_eq!(version_of(&again), 3);
        let received = connection.receive(frame(1, false, 3, &versions(MODERN)));
        assert_eq!(received, Ok(Received::Ready));
    }

    #[test]
    fn second_refusal_ends_the_connection() {
        let mut connection = Connection::new("a-0");
        connection.open();
        let refusal = WireVersions::default().with_error_code(35);
        connection.receive(frame(0, false, 0, &refusal)).unwrap();
        let received = connection.receive(frame(1, false, 0, &refusal));
        let refused = ConnectionError::Refused(ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(received, Err(refused));
    }

    #[test]
    fn highest_common_version_is_chosen() {
        let connection = ready(&versions(MODERN));
        assert_eq!(connection.version(ApiKey::Fetch), Some(18));
        assert_eq!(connection.version(ApiKey::OffsetCommit), Some(9));
        assert_eq!(ready(&versions(3)).version(ApiKey::Fetch), Some(3));
    }

    #[test]
    fn broker_without_a_common_version_is_refused_with_both_sides() {
        let mut connection = Connection::new("a-0");
        connection.open();
        let error = connection
            .receive(frame(0, false, 4, &versions(1)))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Fetch: the broker offers version 0 to 1, 2 to 18 is needed"
        );
        let mut connection = Connection::new("a-0");
        connection.open();
        let error = connection
            .receive(frame(0, false, 4, &WireVersions::default()))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Fetch: the broker offers nothing, 2 to 18 is needed"
        );
    }

    #[test]
    fn broker_without_leader_epochs_will_do() {
        let mut told = versions(MODERN);
        told.api_keys.retain(|api| api.api_key != 23);
        assert_eq!(ready(&told).version(ApiKey::OffsetForLeaderEpoch), None);
    }

    #[test]
    fn fetch_without_topic_id_goes_by_name() {
        let mut connection = ready(&versions(MODERN));
        let (_, by_name) = connection.send(&fetch(uuid::Uuid::nil())).unwrap();
        assert_eq!(version_of(&by_name), 12);
        let (_, by_id) = connection.send(&fetch(uuid::Uuid::max())).unwrap();
        assert_eq!(version_of(&by_id), 18);
    }

    #[test]
    fn static_member_never_joins_as_a_dynamic_one() {
        let mut connection = ready(&versions(4));
        let join = Request::JoinGroup(JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            member_id: String::new(),
            group_instance_id: Some("i".into()),
            protocols: Vec::new(),
            reason: None,
        });
        let error = connection.send(&join).unwrap_err();
        assert_eq!(
            error.to_string(),
            "JoinGroup: the broker offers version 0 to 4, 5 to 9 is needed"
        );
        assert_eq!(connection.in_flight(), 0);
    }

    #[test]
    fn answers_come_in_order_with_their_ids() {
        let mut connection = ready(&versions(MODERN));
        let (first, _) = connection.send(&heartbeat()).unwrap();
        let (second, _) = connection.send(&heartbeat()).unwrap();
        assert_eq!(connection.in_flight(), 2);
        let body = HeartbeatResponse::default().with_error_code(27);
        let received = connection.receive(frame(first.0, true, 4, &body));
        assert_eq!(
            received,
            Ok(Received::Response {
                correlation: first,
                response: Response::Heartbeat(ErrorCode::REBALANCE_IN_PROGRESS),
            })
        );
        let error = ConnectionError::UnexpectedCorrelation {
            expected: second.0,
            found: first.0,
        };
        assert_eq!(
            connection.receive(frame(first.0, true, 4, &body)),
            Err(error)
        );
    }

    #[test]
    fn answer_to_nothing_is_refused() {
        let mut connection = ready(&versions(MODERN));
        let body = HeartbeatResponse::default();
        let error = ConnectionError::NothingAsked { bytes: 12 };
        assert_eq!(connection.receive(frame(1, true, 4, &body)), Err(error));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut connection = ready(&versions(MODERN));
        let (correlation, _) = connection.send(&heartbeat()).unwrap();
        let mut bytes =
            BytesMut::from(frame(correlation.0, true, 4, &HeartbeatResponse::default()));
        bytes.put_u8(0);
        let error = connection.receive(bytes.freeze()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "answer to Heartbeat version 4: answer: 1 bytes follow its end"
        );
    }

    #[test]
    fn requests_in_flight_are_bounded() {
        let mut connection = ready(&versions(MODERN));
        for _ in 0..REQUESTS_IN_FLIGHT_MAX {
            connection.send(&heartbeat()).unwrap();
        }
        let error = connection.send(&heartbeat()).unwrap_err();
        assert_eq!(error, ConnectionError::TooManyInFlight);
    }

    #[test]
    fn unwritable_request_leaves_the_connection_as_it_was() {
        let mut connection = ready(&versions(3));
        let Request::Heartbeat(mut beat) = heartbeat() else {
            unreachable!()
        };
        beat.group_id = "g".repeat(40_000);
        let error = connection.send(&Request::Heartbeat(beat)).unwrap_err();
        assert!(matches!(error, ConnectionError::Encode { .. }), "{error}");
        assert_eq!(connection.in_flight(), 0);
        connection.send(&heartbeat()).unwrap();
    }
}
