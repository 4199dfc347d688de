//! What a connection does with a broker of `kafka-protocol`.

use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse as WireVersions, HeartbeatResponse as WireHeartbeat,
    RequestHeader, api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::*;
use crate::kafka::messages::{FetchRequest, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest};

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
    let mut connection = Connection::new("a-0", None);
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
    let mut connection = Connection::new("a-0", None);
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
    let mut connection = Connection::new("a-0", None);
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
    let mut connection = Connection::new("a-0", None);
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
    let mut connection = Connection::new("a-0", None);
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
    let mut newer = versions(MODERN);
    newer.api_keys[0].min_version = 19;
    for (told, said) in [
        (
            versions(1),
            "it is too old: of Fetch it speaks version 0 to 1, and 2 to 18 is needed; Kafka has it from 0.10.1 on",
        ),
        (
            newer,
            "it is too new: of Fetch it speaks version 19 to 20, and Forebay 2 to 18; a newer Forebay is needed",
        ),
        (
            WireVersions::default(),
            "it does not have Fetch, whose version 2 to 18 is needed; Kafka has it from 0.10.1 on",
        ),
    ] {
        let mut connection = Connection::new("a-0", None);
        connection.open();
        let error = connection.receive(frame(0, false, 4, &told)).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
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
        "it is too old: of JoinGroup it speaks version 0 to 4, and 5 to 9 is needed; Kafka has it from 2.3 on"
    );
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn answers_come_in_order_with_their_ids() {
    let mut connection = ready(&versions(MODERN));
    let (first, _) = connection.send(&heartbeat()).unwrap();
    let (second, _) = connection.send(&heartbeat()).unwrap();
    assert_eq!(connection.in_flight(), 2);
    let body = WireHeartbeat::default().with_error_code(27);
    let received = connection.receive(frame(first.0, true, 4, &body));
    assert_eq!(
        received,
        Ok(Received::Response {
            correlation: first,
            response: Response::Heartbeat(HeartbeatResponse {
                throttle_ms: 0,
                error: ErrorCode::REBALANCE_IN_PROGRESS,
            }),
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
    let body = WireHeartbeat::default();
    let error = ConnectionError::NothingAsked { bytes: 12 };
    assert_eq!(connection.receive(frame(1, true, 4, &body)), Err(error));
}

#[test]
fn trailing_bytes_are_refused() {
    let mut connection = ready(&versions(MODERN));
    let (correlation, _) = connection.send(&heartbeat()).unwrap();
    let mut bytes = BytesMut::from(frame(correlation.0, true, 4, &WireHeartbeat::default()));
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
