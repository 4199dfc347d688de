//! The cluster as a client sees it: requests encoded and answers decoded by the crate, in virtual time.

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest,
    SyncGroupResponse, TopicName,
};

use super::batch::NewRecord;
use super::*;

const TOPIC: &str = "orders";

/// A client with one connection.
struct Client {
    connection: ConnectionId,
}

struct Story {
    kafka: FakeKafka,
    now: Instant,
    frames: Vec<(ConnectionId, Bytes)>,
}

impl Story {
    fn new(brokers: i32) -> Self {
        let mut kafka = FakeKafka::new(Config::new(brokers));
        kafka.create_topic(TOPIC, 2);
        Self {
            kafka,
            now: Instant::from_micros(1),
            frames: Vec::new(),
        }
    }

    fn client(&mut self, node: i32) -> Client {
        let connection = self.kafka.connect(node).unwrap();
        Client { connection }
    }

    fn send<R: Request>(&mut self, client: &Client, version: i16, request: &R) {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("client")));
        header
            .encode(&mut frame, R::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        self.kafka
            .handle(client.connection, frame.freeze(), self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.kafka.poll_output() {
            if let Output::Frame(connection, frame) = output {
                self.frames
                    .push((connection, Bytes::from(frame).slice(4..)));
            }
        }
    }

    fn receive<R: Decodable + HeaderVersion>(
        &mut self,
        client: &Client,
        version: i16,
    ) -> Option<R> {
        let at = self
            .frames
            .iter()
            .position(|(to, _)| *to == client.connection)?;
        let (_, mut frame) = self.frames.remove(at);
        let header = ResponseHeader::decode(&mut frame, R::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 7);
        Some(R::decode(&mut frame, version).unwrap())
    }

    fn ask<R: Request>(&mut self, client: &Client, version: i16, request: &R) -> R::Response {
        self.send(client, version, request);
        self.receive(client, version).expect("answered at once")
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.kafka.handle_timeout(self.now);
        self.collect();
    }
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(StrBytes::from_string(member.to_owned()))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

fn sync(member: &StrBytes, generation: i32, assigned: &[&StrBytes]) -> SyncGroupRequest {
    let assignments = assigned.iter().map(|id| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*id).clone())
            .with_assignment(Bytes::from(id.as_bytes().to_vec()))
    });
    SyncGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(assignments.collect())
}

fn beat(member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id(generation)
        .with_member_id(member.clone())
}

fn commit(member: &StrBytes, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member.clone())
        .with_topics(vec![topic])
}

fn commit_code(response: &OffsetCommitResponse) -> ErrorCode {
    ErrorCode(response.topics[0].partitions[0].error_code)
}

fn fetch(offset: i64, max_bytes: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_topics(vec![topic])
}

/// Joins as a dynamic member does, with the id that the broker requires; its id.
fn enter(story: &mut Story, client: &Client) -> StrBytes {
    let refused = story.ask(client, 9, &join(""));
    assert_eq!(ErrorCode(refused.error_code), ErrorCode::MEMBER_ID_REQUIRED);
    story.send(client, 9, &join(&refused.member_id));
    refused.member_id
}

#[test]
fn version_that_is_too_new_is_answered_in_version_0() {
    let mut story = Story::new(1);
    let client = story.client(1);
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(7);
    story
        .kafka
        .handle(client.connection, frame.freeze(), story.now);
    story.collect();
    let response: ApiVersionsResponse = story.receive(&client, 0).unwrap();
    assert_eq!(
        ErrorCode(response.error_code),
        ErrorCode::UNSUPPORTED_VERSION
    );
    assert!(!response.api_keys.is_empty());
    let again = story.ask(&client, 0, &ApiVersionsRequest::default());
    assert_eq!(again.error_code, 0);
}

#[test]
fn every_version_in_reach_is_answered_in_that_version() {
    let mut story = Story::new(2);
    let client = story.client(1);
    story.kafka.append(TOPIC, 0, &[NewRecord::value("a")]);
    for version in 0..=13 {
        // In v0 an empty list means all topics, from v1 on null does.
        let all = MetadataRequest::default().with_topics((version == 0).then(Vec::new));
        let response: MetadataResponse = story.ask(&client, version, &all);
        assert_eq!(response.topics.len(), 1, "version {version}");
    }
    let id = story.kafka.topic_id(TOPIC);
    for version in 4..=18 {
        let mut request = fetch(0, 1000);
        request.topics[0].topic_id = id;
        if version >= 13 {
            request.topics[0].topic = TopicName::default();
        }
        let response = story.ask(&client, version, &request);
        let records = response.responses[0].partitions[0].records.clone();
        assert!(!records.unwrap().is_empty(), "version {version}");
    }
}

#[test]
fn group_goes_from_join_to_rebalance_to_session_timeout() {
    let mut story = Story::new(1);
    let (first, second) = (story.client(1), story.client(1));

    let a = enter(&mut story, &first);
    let joined: JoinGroupResponse = story.receive(&first, 9).unwrap();
    assert_eq!((joined.generation_id, &joined.leader), (1, &a));
    assert_eq!(joined.members.len(), 1);
    let synced = story.ask(&first, 5, &sync(&a, 1, &[&a]));
    assert_eq!(synced.assignment, a.as_bytes());

    // A second member: the first is told by its heartbeat, and may still commit.
    let b = enter(&mut story, &second);
    let told = story.ask(&first, 4, &beat(&a, 1));
    assert_eq!(ErrorCode(told.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    let committed = story.ask(&first, 8, &commit(&a, 1, 5));
    assert!(commit_code(&committed).is_ok());
    assert!(story.receive::<JoinGroupResponse>(&second, 9).is_none());
    let rejoined = story.ask(&first, 9, &join(&a));
    assert_eq!((rejoined.generation_id, rejoined.members.len()), (2, 2));
    let follower: JoinGroupResponse = story.receive(&second, 9).unwrap();
    assert_eq!((follower.generation_id, follower.members.len()), (2, 0));

    // Between join and sync: commits are put off, the old generation is refused.
    let early = story.ask(&first, 8, &commit(&a, 2, 6));
    assert_eq!(commit_code(&early), ErrorCode::REBALANCE_IN_PROGRESS);
    let stale = story.ask(&first, 8, &commit(&a, 1, 6));
    assert_eq!(commit_code(&stale), ErrorCode::ILLEGAL_GENERATION);
    story.send(&second, 5, &sync(&b, 2, &[]));
    assert!(story.receive::<SyncGroupResponse>(&second, 5).is_none());
    story.send(&first, 5, &sync(&a, 2, &[&a, &b]));
    let synced: SyncGroupResponse = story.receive(&second, 5).unwrap();
    assert_eq!(synced.assignment, b.as_bytes());
    story.frames.clear();

    // The first falls silent; the second learns of it and is alone.
    story.pass(6_000);
    assert_eq!(story.ask(&second, 4, &beat(&b, 2)).error_code, 0);
    story.pass(6_000);
    let told = story.ask(&second, 4, &beat(&b, 2));
    assert_eq!(ErrorCode(told.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    let alone = story.ask(&second, 9, &join(&b));
    assert_eq!((alone.generation_id, &alone.leader), (3, &b));
    let late = story.ask(&first, 8, &commit(&a, 2, 7));
    assert_eq!(commit_code(&late), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(story.kafka.committed("g", TOPIC, 0).unwrap().offset, 5);
}

#[test]
fn member_that_does_not_rejoin_in_time_is_dropped() {
    let mut story = Story::new(1);
    let (first, second) = (story.client(1), story.client(1));
    let a = enter(&mut story, &first);
    story.receive::<JoinGroupResponse>(&first, 9).unwrap();
    story.ask(&first, 5, &sync(&a, 1, &[&a]));
    enter(&mut story, &second);
    for _ in 0..5 {
        story.pass(6_000);
        story.send(&first, 4, &beat(&a, 1));
        story.frames.retain(|(to, _)| *to == second.connection);
    }
    let joined: JoinGroupResponse = story.receive(&second, 9).unwrap();
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    let told = story.ask(&first, 4, &beat(&a, 1));
    assert_eq!(ErrorCode(told.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn member_without_a_common_assignor_is_refused() {
    let mut story = Story::new(1);
    let (first, second) = (story.client(1), story.client(1));
    enter(&mut story, &first);
    let mut other = join("");
    other.protocols[0].name = StrBytes::from_static_str("cooperative-sticky");
    let refused = story.ask(&second, 9, &other);
    let code = ErrorCode(refused.error_code);
    assert_eq!(code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn static_member_comes_back_without_a_rebalance_and_fences_its_ghost() {
    let mut story = Story::new(1);
    let (first, second) = (story.client(1), story.client(1));
    let named = |member: &str| join(member).with_group_instance_id(Some("i".into()));
    let joined = story.ask(&first, 9, &named(""));
    let a = joined.member_id;
    story.ask(
        &first,
        5,
        &sync(&a, 1, &[&a]).with_group_instance_id(Some("i".into())),
    );
    let back = story.ask(&second, 9, &named(""));
    assert_eq!((back.error_code, back.generation_id), (0, 1));
    assert!(back.skip_assignment);
    let ghost = beat(&a, 1).with_group_instance_id(Some("i".into()));
    let fenced: HeartbeatResponse = story.ask(&first, 4, &ghost);
    assert_eq!(ErrorCode(fenced.error_code), ErrorCode::FENCED_INSTANCE_ID);
    let kept = story.ask(
        &second,
        5,
        &sync(&back.member_id, 1, &[]).with_group_instance_id(Some("i".into())),
    );
    assert_eq!(kept.assignment, a.as_bytes());
}

#[test]
fn fetch_waits_for_bytes_or_for_its_time() {
    let mut story = Story::new(1);
    let client = story.client(1);
    story.send(&client, 12, &fetch(0, 1000));
    assert!(story.receive::<FetchResponse>(&client, 12).is_none());
    story.kafka.append(TOPIC, 0, &[NewRecord::value("a")]);
    story.collect();
    let got: FetchResponse = story.receive(&client, 12).unwrap();
    assert_eq!(got.responses[0].partitions[0].high_watermark, 1);

    story.send(&client, 12, &fetch(1, 1000));
    assert_eq!(
        story.kafka.poll_timeout(),
        Some(story.now + Duration::from_millis(500))
    );
    story.pass(500);
    let empty: FetchResponse = story.receive(&client, 12).unwrap();
    let data = &empty.responses[0].partitions[0];
    assert_eq!((data.error_code, data.high_watermark), (0, 1));
}

#[test]
fn fetch_outside_the_log_or_at_the_wrong_broker_is_told() {
    let mut story = Story::new(2);
    let client = story.client(1);
    story.kafka.append(TOPIC, 0, &[NewRecord::value("a")]);
    let code = |response: &FetchResponse| ErrorCode(response.responses[0].partitions[0].error_code);
    let beyond = story.ask(&client, 11, &fetch(2, 1000));
    assert_eq!(code(&beyond), ErrorCode::OFFSET_OUT_OF_RANGE);
    story.kafka.move_leader(TOPIC, 0, Some(2));
    let moved = story.ask(&client, 16, &{
        let mut request = fetch(0, 1000);
        request.topics[0].topic_id = story.kafka.topic_id(TOPIC);
        request
    });
    assert_eq!(code(&moved), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let leader = &moved.responses[0].partitions[0].current_leader;
    assert_eq!((leader.leader_id.0, leader.leader_epoch), (2, 1));
    assert_eq!(moved.node_endpoints.len(), 1);
}

#[test]
fn requests_behind_a_waiting_one_wait_too() {
    let mut story = Story::new(1);
    let client = story.client(1);
    story.send(&client, 12, &fetch(0, 1000));
    story.send(&client, 1, &MetadataRequest::default());
    assert!(story.frames.is_empty());
    story.pass(500);
    story.receive::<FetchResponse>(&client, 12).unwrap();
    story.receive::<MetadataResponse>(&client, 1).unwrap();
}

#[test]
fn script_is_followed_once_for_each_request() {
    let mut story = Story::new(1);
    let client = story.client(1);
    let busy = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let delay = Duration::from_millis(50);
    let faults = [Fault::Error(busy.0), Fault::Delay(delay), Fault::DropAnswer];
    story.kafka.script(ApiKey::Heartbeat, faults);
    let request = beat(&StrBytes::from_static_str("m"), 1);
    assert_eq!(ErrorCode(story.ask(&client, 4, &request).error_code), busy);
    story.send(&client, 4, &request);
    assert!(story.frames.is_empty());
    story.pass(50);
    story.receive::<HeartbeatResponse>(&client, 4).unwrap();
    story.send(&client, 4, &request);
    assert_eq!(story.kafka.connections(), 0);
}

#[test]
fn what_is_committed_may_be_forgotten() {
    let mut story = Story::new(1);
    story.kafka.config.forgets_committed = true;
    let client = story.client(1);
    for value in ["a", "b", "c"] {
        story.kafka.append(TOPIC, 0, &[NewRecord::value(value)]);
    }
    let outside = commit(&StrBytes::default(), -1, 2);
    let done: OffsetCommitResponse = story.ask(&client, 7, &outside);
    assert!(commit_code(&done).is_ok());
    assert_eq!(story.kafka.bounds(TOPIC, 0), (2, 3));
    assert!(story.kafka.commits().is_empty());
}
