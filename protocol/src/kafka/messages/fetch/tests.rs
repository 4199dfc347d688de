//! Fetch, held against `kafka-protocol`, and its old versions against the guide and real brokers.

use kafka_protocol::messages::{FetchResponse as WireResponse, fetch_response as schema};
use proptest::prelude::*;

use super::*;
use crate::kafka::frame;
use crate::kafka::messages::testing::*;
use crate::kafka::messages::{ApiKey, Request, Response};
use crate::kafka::records::{Decompressor, RecordReader, TimestampType};

const API: ApiKey = ApiKey::Fetch;

prop_compose! {
    fn any_partition()(
        (partition, error) in (any::<i32>(), error_code()),
        (high_watermark, last_stable_offset, log_start_offset) in any::<(i64, i64, i64)>(),
        aborted in few(any::<(i64, i64)>()),
        preferred_read_replica in -1..9,
        diverging_epoch in proptest::option::of((0..i32::MAX, any::<i64>())),
        current_leader in proptest::option::of((0..i32::MAX, 0..i32::MAX)),
        records in blob(),
    ) -> FetchedPartition {
        let aborted = aborted.into_iter().map(|(producer_id, first_offset)| {
            AbortedTransaction { producer_id, first_offset }
        });
        FetchedPartition {
            partition,
            error,
            high_watermark,
            last_stable_offset,
            log_start_offset,
            aborted_transactions: aborted.collect(),
            preferred_read_replica,
            diverging_epoch,
            current_leader,
            records,
        }
    }
}

prop_compose! {
    fn any_response()(
        throttle_ms in any::<i32>(),
        error in error_code(),
        partitions in few(any_partition()),
    ) -> FetchResponse {
        FetchResponse { throttle_ms, error, partitions }
    }
}

/// What of it that version carries.
fn told(mut response: FetchResponse, version: i16) -> FetchResponse {
    if version < 7 {
        response.error = ErrorCode::NONE;
    }
    for partition in &mut response.partitions {
        if version < 5 {
            partition.log_start_offset = -1;
        }
        if version < 11 {
            partition.preferred_read_replica = -1;
        }
        if version < 12 {
            partition.diverging_epoch = None;
            partition.current_leader = None;
        }
    }
    response
}

fn wire_partition(told: &FetchedPartition) -> schema::PartitionData {
    let aborted = |aborted: &AbortedTransaction| {
        schema::AbortedTransaction::default()
            .with_producer_id(aborted.producer_id.into())
            .with_first_offset(aborted.first_offset)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    };
    let aborted: Vec<_> = told.aborted_transactions.iter().map(aborted).collect();
    let mut data = schema::PartitionData::default()
        .with_partition_index(told.partition)
        .with_error_code(told.error.0)
        .with_high_watermark(told.high_watermark)
        .with_last_stable_offset(told.last_stable_offset)
        .with_log_start_offset(told.log_start_offset)
        .with_aborted_transactions((!aborted.is_empty()).then_some(aborted))
        .with_preferred_read_replica(told.preferred_read_replica.into())
        .with_records((!told.records.is_empty()).then(|| told.records.clone()))
        .with_snapshot_id(
            schema::SnapshotId::default()
                .with_epoch(9)
                .with_end_offset(9),
        )
        .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
    if let Some((epoch, end)) = told.diverging_epoch {
        data.diverging_epoch = schema::EpochEndOffset::default()
            .with_epoch(epoch)
            .with_end_offset(end)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
    }
    if let Some((leader, epoch)) = told.current_leader {
        data.current_leader = schema::LeaderIdAndEpoch::default()
            .with_leader_id(leader.into())
            .with_leader_epoch(epoch)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
    }
    data
}

fn wire(told: &FetchResponse, version: i16) -> WireResponse {
    let topic = schema::FetchableTopicResponse::default()
        .with_topic(TopicName(wire_text(TOPIC)))
        .with_topic_id(TOPIC_ID)
        .with_partitions(told.partitions.iter().map(wire_partition).collect())
        .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
    let node = schema::NodeEndpoint::default()
        .with_host(wire_text("elsewhere"))
        .with_port(9092);
    WireResponse::default()
        .with_throttle_time_ms(told.throttle_ms)
        .with_error_code(told.error.0)
        .with_session_id(if version >= 7 { 77 } else { 0 })
        .with_responses(vec![topic])
        .with_node_endpoints(vec![node])
        .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
}

/// The same in version 2 or 3, written by hand.
fn old_wire(told: &FetchResponse) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(told.throttle_ms);
    out.put_i32(1);
    out.put_i16(i16::try_from(TOPIC.len()).unwrap());
    out.put_slice(TOPIC.as_bytes());
    out.put_i32(i32::try_from(told.partitions.len()).unwrap());
    for partition in &told.partitions {
        out.put_i32(partition.partition);
        out.put_i16(partition.error.0);
        out.put_i64(partition.high_watermark);
        out.put_i32(i32::try_from(partition.records.len()).unwrap());
        out.put_slice(&partition.records);
    }
    out.freeze()
}

pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
    any_response()
        .prop_map(move |response| {
            let told = told(response, version);
            if version < 4 {
                old_wire(&told)
            } else {
                answer(API, version, &wire(&told, version))
            }
        })
        .boxed()
}

proptest! {
    #[test]
    fn answer_is_read_in_every_version(response in any_response()) {
        for version in versions(API).filter(|version| *version >= 4) {
            let told = told(response.clone(), version);
            let read = read(API, version, &wire(&told, version));
            prop_assert_eq!(read, Response::Fetch(told), "version {}", version);
        }
    }

    #[test]
    fn old_answer_is_read(response in any_response(), version in 2_i16..=3) {
        let mut told = told(response, version);
        for partition in &mut told.partitions {
            partition.last_stable_offset = -1;
            partition.aborted_transactions.clear();
        }
        let read = Response::decode(&asked(API, version), old_wire(&told));
        prop_assert_eq!(read, Ok(Response::Fetch(told)));
    }

    #[test]
    fn request_is_written_in_every_version(
        (max_wait_ms, min_bytes, max_bytes) in any::<(i32, i32, i32)>(),
        read_committed in any::<bool>(),
        partitions in few(any::<(i32, i32, i64, i32, i32)>()),
        rack_id in label(),
    ) {
        let partitions = partitions.iter().map(|partition| FetchPartition {
            partition: partition.0,
            current_leader_epoch: partition.1,
            fetch_offset: partition.2,
            last_fetched_epoch: partition.3,
            max_bytes: partition.4,
        });
        let request = FetchRequest {
            max_wait_ms,
            min_bytes,
            max_bytes,
            read_committed,
            topic: TOPIC.to_owned(),
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
            rack_id,
        };
        for version in versions(API).filter(|version| *version >= 4) {
            let read: WireRequest = written(&Request::Fetch(request.clone()), version);
            compare_request(&read, &request, version);
        }
    }
}

fn compare_request(read: &WireRequest, request: &FetchRequest, version: i16) {
    assert_eq!(read.replica_id.0, -1);
    assert_eq!(read.max_wait_ms, request.max_wait_ms);
    assert_eq!(read.min_bytes, request.min_bytes);
    assert_eq!(read.max_bytes, request.max_bytes);
    assert_eq!(read.isolation_level, i8::from(request.read_committed));
    // A full fetch that asks for no session: id 0, final epoch.
    assert_eq!((read.session_id, read.session_epoch), (0, -1));
    assert!(read.forgotten_topics_data.is_empty());
    let rack_id = if version >= 11 { &*request.rack_id } else { "" };
    assert_eq!(&*read.rack_id, rack_id);
    assert_eq!(read.topics.len(), 1);
    let topic = &read.topics[0];
    if version >= 13 {
        assert_eq!(topic.topic_id, request.topic_id);
    } else {
        assert_eq!(&*topic.topic.0, &*request.topic);
    }
    assert_eq!(topic.partitions.len(), request.partitions.len());
    for (read, asked) in topic.partitions.iter().zip(&request.partitions) {
        let current = if version >= 9 {
            asked.current_leader_epoch
        } else {
            -1
        };
        let last = if version >= 12 {
            asked.last_fetched_epoch
        } else {
            -1
        };
        assert_eq!(read.partition, asked.partition);
        assert_eq!(read.current_leader_epoch, current);
        assert_eq!(read.fetch_offset, asked.fetch_offset);
        assert_eq!(read.last_fetched_epoch, last);
        assert_eq!(read.partition_max_bytes, asked.max_bytes);
    }
}

fn old_request() -> Request {
    Request::Fetch(FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 0x0010_0000,
        read_committed: true,
        topic: "ab".to_owned(),
        topic_id: TOPIC_ID,
        partitions: vec![FetchPartition {
            partition: 3,
            current_leader_epoch: 1,
            fetch_offset: 258,
            last_fetched_epoch: 1,
            max_bytes: 4096,
        }],
        rack_id: "r".to_owned(),
    })
}

/// By the Kafka protocol guide: Fetch Request (Version: 2) and (Version: 3).
#[test]
fn old_requests_are_written_as_the_guide_has_them() {
    let head = [0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0xf4, 0, 0, 0, 1];
    let max_bytes = [0, 0x10, 0, 0];
    let topics = [
        &[0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 1][..],
        &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0x10, 0],
    ]
    .concat();
    let mut out = BytesMut::new();
    old_request().encode(2, &mut out).unwrap();
    assert_eq!(&out[..], [&head[..], &topics].concat());
    out.clear();
    old_request().encode(3, &mut out).unwrap();
    assert_eq!(&out[..], [&head[..], &max_bytes, &topics].concat());
}

/// By the Kafka protocol guide: Fetch Response (Version: 2), one partition with a null record set.
#[test]
fn old_answer_is_read_as_the_guide_has_it() {
    let body = [
        &[0, 0, 0, 7][..],
        &[0, 0, 0, 1, 0, 5],
        b"topic",
        &[0, 0, 0, 1, 0, 0, 0, 3, 0, 6, 0, 0, 0, 0, 0, 0, 1, 2],
        &[0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let read = Response::decode(&asked(API, 2), body.into()).unwrap();
    let Response::Fetch(read) = read else {
        panic!("{read:?}")
    };
    assert_eq!((read.throttle_ms, read.error), (7, ErrorCode::NONE));
    let partition = &read.partitions[0];
    assert_eq!((partition.partition, partition.high_watermark), (3, 258));
    assert_eq!(partition.error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(partition.records, Bytes::new());
}

/// As brokers took and gave it: see `tests/vectors/fetch/README.md`.
#[test]
fn old_versions_are_spoken_as_brokers_speak_them() {
    for broker in ["0.10.1.0", "2.8.2"] {
        for (version, offset) in [(2, 0), (2, 3), (3, 0), (3, 3)] {
            let name = format!("{broker}-v{version}-from-{offset}");
            let request = captured_request(offset);
            let mut written = BytesMut::zeroed(frame::PREFIX_BYTES);
            frame::put_request_header(API, version, 7, &wire_text("forebay"), &mut written)
                .unwrap();
            request.encode(version, &mut written).unwrap();
            frame::finish(&mut written).unwrap();
            assert_eq!(written, captured(&name, "request"), "{name}");

            let mut arrived = captured(&name, "response");
            let whole = frame::split_frame(&mut arrived).unwrap().unwrap();
            assert!(arrived.is_empty(), "{name}");
            let (correlation, rest) = frame::take_correlation(whole).unwrap();
            assert_eq!(correlation, 7, "{name}");
            match Response::decode(&request.asked(version), rest) {
                Ok(Response::Fetch(read)) => check_captured(&name, offset, &read),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

fn captured(name: &str, direction: &str) -> BytesMut {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/fetch");
    let bytes = std::fs::read(format!("{folder}/{name}.{direction}")).unwrap();
    BytesMut::from(&bytes[..])
}

fn captured_request(offset: i64) -> Request {
    let partition = |partition, fetch_offset| FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        max_bytes: 4096,
    };
    Request::Fetch(FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        read_committed: true,
        topic: TOPIC.to_owned(),
        topic_id: Uuid::nil(),
        partitions: vec![partition(0, offset), partition(1, 0)],
        rack_id: String::new(),
    })
}

fn check_captured(name: &str, offset: i64, read: &FetchResponse) {
    assert_eq!((read.throttle_ms, read.error), (0, ErrorCode::NONE));
    let find = |partition| read.partitions.iter().find(|p| p.partition == partition);
    assert_eq!(read.partitions.len(), 2, "{name}");
    let missing = find(1).unwrap();
    assert_eq!(missing.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!((missing.high_watermark, missing.records.len()), (-1, 0));
    let there = find(0).unwrap();
    assert_eq!((there.error, there.high_watermark), (ErrorCode::NONE, 5));

    let mut decompressor = Decompressor::with_limit(4096);
    let mut reader = RecordReader::new(there.records.clone(), offset, Vec::new(), true);
    let mut found = Vec::new();
    while let Some(record) = reader.next(&mut decompressor).unwrap() {
        assert_eq!(record.timestamp_type, TimestampType::CreateTime);
        assert!(record.timestamp > 1_700_000_000_000);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let value = text(record.value.unwrap());
        found.push((record.offset, record.key.map(text), value));
    }
    let mut expected = vec![
        (0, None, "plain 0".to_owned()),
        (1, None, "plain 1".to_owned()),
        (2, Some("k2".to_owned()), "gzip 2".to_owned()),
        (3, Some("k3".to_owned()), "gzip 3".to_owned()),
        (4, Some(String::new()), String::new()),
    ];
    expected.retain(|record| record.0 >= offset);
    assert_eq!(found, expected, "{name}");
}

#[test]
fn records_are_a_slice_of_the_frame() {
    let response = FetchResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        partitions: Vec::new(),
    };
    let mut wire = wire(&response, 17);
    let data = schema::PartitionData::default().with_records(Some(Bytes::from(vec![7; 100])));
    wire.responses[0].partitions.push(data);
    let frame = answer(API, 17, &wire);
    let read = Response::decode(&asked(API, 17), frame.clone()).unwrap();
    let Response::Fetch(read) = read else {
        panic!("{read:?}")
    };
    let at = read.partitions[0].records.as_ptr();
    assert!(frame.as_ptr_range().contains(&at));
}

#[test]
fn another_topic_is_refused() {
    for (version, field) in [(12, "topic"), (13, "topic_id")] {
        let topic = schema::FetchableTopicResponse::default()
            .with_topic(TopicName(wire_text("other")))
            .with_topic_id(Uuid::max());
        let body = answer(
            API,
            version,
            &WireResponse::default().with_responses(vec![topic]),
        );
        let error = Response::decode(&asked(API, version), body).unwrap_err();
        assert!(matches!(error, DecodeError::NotAsked { field: at, .. } if at == field));
    }
}
