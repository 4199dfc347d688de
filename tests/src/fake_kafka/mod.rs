//! A Kafka cluster without sockets, threads or a clock: one file for each API, as in franz-go's kfake.
//!
//! Connect with [`FakeKafka::connect`], give each frame to [`FakeKafka::handle`], drain
//! [`FakeKafka::poll_output`], and call [`FakeKafka::handle_timeout`] when [`FakeKafka::poll_timeout`]
//! has come. [`server`] puts it behind real sockets.
//!
//! Requests are decoded and answers encoded by the `kafka-protocol` crate, so Forebay's own decoders
//! never check themselves. Like a real broker, it serves one request of a connection at a time: while
//! one waits (a fetch, a join), those behind it wait too.
//!
//! Invariant: the same calls at the same instants give the same outputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::time::Instant;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange,
};
use uuid::Uuid;

mod api_versions;
pub mod batch;
mod cluster;
mod consumer_group;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod describe_groups;
mod events;
mod faults;
mod fetch;
mod find_coordinator;
mod group;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_offsets;
mod log;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl;
mod sasl_authenticate;
mod sasl_handshake;
mod scram;
pub mod server;
mod sync_group;
mod topic;

pub use events::{Commit, GroupChange, GroupEvent};
pub use faults::{Fault, Hook, Seen};
pub use log::Offsets;
pub use offset_commit::Committed;
pub use sasl::{Lie, Sasl};

/// Names one connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One broker of the cluster.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it runs.
    pub is_up: bool,
}

/// How the cluster is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The brokers; at least one.
    pub brokers: Vec<Broker>,
    /// Newest version by API key, where it is not the crate's.
    pub max_versions: BTreeMap<i16, i16>,
    /// What is told of an API's versions, by API key, whatever the crate's are.
    pub told_versions: BTreeMap<i16, VersionRange>,
    /// API keys that this cluster does not know.
    pub hidden_apis: BTreeSet<i16>,
    /// `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
    pub session_timeout_bounds: (Duration, Duration),
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// Whether consumers may read from followers, and are sent to the one in their rack.
    pub follower_fetching: bool,
    /// Whether what any group has committed is deleted, and no commit remembered: for runs of hours, with
    /// one group.
    pub forgets_committed: bool,
    /// Who may come in; without it nobody is asked.
    pub sasl: Option<Sasl>,
}

impl Config {
    /// A cluster of that many brokers, with node ids from 1, at `fake-N:9092`.
    pub fn new(brokers: i32) -> Self {
        let broker = |id| Broker {
            id,
            host: format!("fake-{id}"),
            port: 9092,
            rack: None,
            is_up: true,
        };
        Self {
            brokers: (1..=brokers).map(broker).collect(),
            max_versions: BTreeMap::new(),
            told_versions: BTreeMap::new(),
            hidden_apis: BTreeSet::new(),
            session_timeout_bounds: (Duration::from_millis(100), Duration::from_secs(1800)),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            initial_rebalance_delay: Duration::ZERO,
            follower_fetching: false,
            forgets_committed: false,
            sasl: None,
        }
    }

    /// The same, where `api` ends at that version.
    pub fn with_max_version(mut self, api: ApiKey, version: i16) -> Self {
        self.max_versions.insert(api as i16, version);
        self
    }

    /// The same without that API.
    pub fn without(mut self, api: ApiKey) -> Self {
        self.hidden_apis.insert(api as i16);
        self
    }
}

/// What the cluster wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame, length prefix included.
    Frame(ConnectionId, Vec<u8>),
    /// Close the connection; `disconnect` need not be called for it.
    Close(ConnectionId),
}

/// The cluster.
#[derive(Debug)]
pub struct FakeKafka {
    config: Config,
    now: Instant,
    topics: BTreeMap<String, topic::Topic>,
    /// The same topics' names.
    topic_names: BTreeMap<Uuid, String>,
    groups: BTreeMap<StrBytes, group::Group>,
    consumer_groups: BTreeMap<StrBytes, consumer_group::ConsumerGroup>,
    /// Coordinators that a test has moved.
    coordinators: BTreeMap<String, i32>,
    connections: BTreeMap<ConnectionId, Connection>,
    fetches: Vec<fetch::ParkedFetch>,
    /// Answers that a fault keeps back, by the time they are due.
    delayed: BTreeMap<(Instant, u64), Delayed>,
    faults: faults::Faults,
    doors: sasl::Doors,
    outputs: VecDeque<Output>,
    /// Answered connections with more requests waiting.
    unblocked: Vec<ConnectionId>,
    events: Vec<GroupEvent>,
    commits: Vec<Commit>,
    auto_creations_asked: u64,
    requests: BTreeMap<i16, u64>,
    /// Something changed that may end a fetch's wait.
    dirty: bool,
    connection_sequence: u64,
    topic_sequence: u64,
    member_sequence: u64,
    producer_sequence: i64,
    delay_sequence: u64,
}

#[derive(Debug)]
struct Connection {
    node: i32,
    is_busy: bool,
    waiting: VecDeque<Bytes>,
    login: sasl::Login,
}

/// One request on its way to an answer.
#[derive(Clone, Debug)]
struct Call {
    connection: ConnectionId,
    node: i32,
    version: i16,
    correlation: i32,
    client_id: String,
    delay: Duration,
    /// The silence that its answer asks for, if not what the fake's answers say: none.
    throttle: Option<Duration>,
    drops_answer: bool,
}

#[derive(Debug)]
struct Delayed {
    connection: ConnectionId,
    frame: Vec<u8>,
}

impl FakeKafka {
    /// A cluster without topics.
    pub fn new(config: Config) -> Self {
        assert!(!config.brokers.is_empty(), "a cluster has brokers");
        Self {
            config,
            now: Instant::ZERO,
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            groups: BTreeMap::new(),
            consumer_groups: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            connections: BTreeMap::new(),
            fetches: Vec::new(),
            delayed: BTreeMap::new(),
            faults: faults::Faults::default(),
            doors: sasl::Doors::default(),
            outputs: VecDeque::new(),
            unblocked: Vec::new(),
            events: Vec::new(),
            commits: Vec::new(),
            auto_creations_asked: 0,
            requests: BTreeMap::new(),
            dirty: false,
            connection_sequence: 0,
            topic_sequence: 0,
            member_sequence: 0,
            producer_sequence: 0,
            delay_sequence: 0,
        }
    }

    /// Opens a connection to that broker; `None` when it is down or unknown.
    pub fn connect(&mut self, node: i32) -> Option<ConnectionId> {
        self.config
            .brokers
            .iter()
            .find(|broker| broker.id == node && broker.is_up)?;
        self.connection_sequence += 1;
        let id = ConnectionId(self.connection_sequence);
        let connection = Connection {
            node,
            is_busy: false,
            waiting: VecDeque::new(),
            login: sasl::Login::default(),
        };
        self.connections.insert(id, connection);
        Some(id)
    }

    /// The connection is gone. What it asked goes on; the answers go nowhere.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.fetches
            .retain(|parked| parked.call.connection != connection);
    }

    /// One whole frame arrived, without its length prefix.
    pub fn handle(&mut self, connection: ConnectionId, frame: Bytes, now: Instant) {
        self.advance(now);
        if let Some(open) = self.connections.get_mut(&connection) {
            open.waiting.push_back(frame);
            self.serve_next(connection);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let Delayed { connection, frame } = entry.remove();
            self.emit(connection, frame);
        }
        let due: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| group.next_deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.group(&id).handle_timeout(now);
            self.flush_group(&id);
        }
        self.expire_consumer_groups();
        self.expire_fetches();
    }

    /// The next thing to send or close; drain it after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        if std::mem::take(&mut self.dirty) {
            self.settle_fetches();
        }
        // What waits behind an answered request is served here and not in `emit`, so that a long
        // queue does not become a deep stack.
        while let Some(connection) = self.unblocked.pop() {
            self.serve_next(connection);
        }
        self.outputs.pop_front()
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        let groups = self.groups.values().filter_map(group::Group::next_deadline);
        let fetches = self.fetches.iter().map(|parked| parked.deadline);
        let consumer_groups = self.consumer_groups.values();
        let consumer_groups =
            consumer_groups.filter_map(consumer_group::ConsumerGroup::next_deadline);
        let groups = groups.chain(consumer_groups);
        delayed.into_iter().chain(groups).chain(fetches).min()
    }

    /// Queues faults for the next requests of `api`.
    pub fn script(&mut self, api: ApiKey, faults: impl IntoIterator<Item = Fault>) {
        self.faults.script(api, faults);
    }

    /// Lets `hook` decide over every request that no script speaks for.
    pub fn set_hook(&mut self, hook: Option<Hook>) {
        self.faults.set_hook(hook);
    }

    /// No more faults.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.disconnect(connection);
        self.outputs.push_back(Output::Close(connection));
    }

    fn serve_next(&mut self, id: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(&id)
            && !connection.is_busy
            && let Some(frame) = connection.waiting.pop_front()
        {
            connection.is_busy = true;
            let node = connection.node;
            self.serve(id, node, frame);
        }
    }

    /// Reads the header, asks for a fault, and hands the body to its API.
    fn serve(&mut self, connection: ConnectionId, node: i32, mut frame: Bytes) {
        if self.speaks_raw(connection) {
            return self.raw_token(connection, &frame);
        }
        if frame.len() < 8 {
            return self.close(connection);
        }
        let (key, version) = ((&frame[0..2]).get_i16(), (&frame[2..4]).get_i16());
        let correlation = (&frame[4..8]).get_i32();
        let Ok(api) = ApiKey::try_from(key) else {
            return self.close(connection);
        };
        let mut call = Call {
            connection,
            node,
            version,
            correlation,
            client_id: String::new(),
            delay: Duration::ZERO,
            throttle: None,
            drops_answer: false,
        };
        *self.requests.entry(key).or_default() += 1;
        if !self.lets_through(connection, api) {
            return self.close(connection);
        }
        let spoken = self.spoken(api);
        if !spoken.is_some_and(|range| (range.min..=range.max).contains(&version)) {
            return match api {
                ApiKey::ApiVersions => self.api_versions_too_new(call),
                _ => self.close(connection),
            };
        }
        let header_version = api.request_header_version(version);
        let Ok(header) = RequestHeader::decode(&mut frame, header_version) else {
            return self.close(connection);
        };
        call.client_id = header.client_id.as_deref().unwrap_or("").to_owned();
        let fault = self.faults.decide(Seen {
            api,
            version,
            node,
            connection,
            client_id: &call.client_id,
            body: &frame,
        });
        let mut refusal = None;
        match fault {
            Fault::Serve => {}
            Fault::Error(code) => refusal = Some(code),
            Fault::Delay(delay) => call.delay = delay,
            Fault::Until(at) => call.delay = at.saturating_since(self.now),
            Fault::Throttle(silence) => call.throttle = Some(silence),
            Fault::Drop => return self.close(connection),
            Fault::DropAnswer => call.drops_answer = true,
            Fault::Silence => return,
            Fault::Garbage(bytes) => {
                let mut frame = vec![0; 4];
                frame.put_i32(correlation);
                frame.extend_from_slice(&bytes);
                return self.send(&call, frame);
            }
        }
        self.dispatch(api, call, frame, refusal);
    }

    fn dispatch(&mut self, api: ApiKey, call: Call, body: Bytes, refusal: Option<i16>) {
        macro_rules! serve {
            ($module:ident) => {
                self.decode(call, body, refusal, $module::refuse, Self::$module)
            };
        }
        match api {
            ApiKey::ApiVersions => serve!(api_versions),
            ApiKey::Metadata => serve!(metadata),
            ApiKey::FindCoordinator => serve!(find_coordinator),
            ApiKey::JoinGroup => serve!(join_group),
            ApiKey::SyncGroup => serve!(sync_group),
            ApiKey::Heartbeat => serve!(heartbeat),
            ApiKey::LeaveGroup => serve!(leave_group),
            ApiKey::OffsetCommit => serve!(offset_commit),
            ApiKey::OffsetFetch => serve!(offset_fetch),
            ApiKey::ListOffsets => serve!(list_offsets),
            ApiKey::OffsetForLeaderEpoch => serve!(offset_for_leader_epoch),
            ApiKey::ConsumerGroupHeartbeat => serve!(consumer_group_heartbeat),
            ApiKey::Fetch => serve!(fetch),
            ApiKey::Produce => serve!(produce),
            ApiKey::SaslHandshake => serve!(sasl_handshake),
            ApiKey::SaslAuthenticate => serve!(sasl_authenticate),
            ApiKey::InitProducerId => serve!(init_producer_id),
            ApiKey::DescribeGroups => serve!(describe_groups),
            ApiKey::ConsumerGroupDescribe => serve!(consumer_group_describe),
            _ => self.close(call.connection),
        }
    }

    fn decode<R: Request>(
        &mut self,
        call: Call,
        mut body: Bytes,
        refusal: Option<i16>,
        refuse: fn(&R, i16, i16) -> R::Response,
        handle: fn(&mut Self, Call, R),
    ) {
        match R::decode(&mut body, call.version) {
            Err(_) => self.close(call.connection),
            Ok(request) => match refusal {
                Some(code) => {
                    let response = refuse(&request, call.version, code);
                    self.answer(&call, &response);
                }
                None => handle(self, call, request),
            },
        }
    }

    /// Whether this broker coordinates a group of that name.
    fn check_group(&self, call: &Call, group: &StrBytes) -> ErrorCode {
        if group.is_empty() {
            ErrorCode::INVALID_GROUP_ID
        } else if self.coordinator_of(group) != call.node {
            ErrorCode::NOT_COORDINATOR
        } else {
            ErrorCode::NONE
        }
    }

    fn group(&mut self, id: &StrBytes) -> &mut group::Group {
        let delay = self.config.initial_rebalance_delay;
        self.groups
            .entry(id.clone())
            .or_insert_with(|| group::Group::new(delay))
    }

    /// Sends what a group has to say, and keeps what happened to it.
    fn flush_group(&mut self, id: &StrBytes) {
        let group = self.group(id);
        let answers = std::mem::take(&mut group.answers);
        let changes = std::mem::take(&mut group.changes);
        for change in changes {
            self.events.push(GroupEvent {
                at: self.now,
                group: id.to_string(),
                change,
            });
        }
        for answer in answers {
            match answer {
                group::GroupAnswer::Join(call, response) => self.answer(&call, &response),
                group::GroupAnswer::Sync(call, response) => self.answer(&call, &response),
            }
        }
    }

    fn answer<R: Encodable + HeaderVersion>(&mut self, call: &Call, response: &R) {
        let encoded = "the fake fills in what the version has";
        let header = ResponseHeader::default().with_correlation_id(call.correlation);
        let size = response.compute_size(call.version).expect(encoded);
        let mut frame = Vec::with_capacity(size + 16);
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(call.version))
            .expect(encoded);
        let body = frame.len();
        response.encode(&mut frame, call.version).expect(encoded);
        if let Some(silence) = call.throttle {
            let millis = i32::try_from(silence.as_millis()).expect("a silence is bounded");
            frame[body..body + 4].copy_from_slice(&millis.to_be_bytes());
        }
        self.send(call, frame);
    }

    fn send(&mut self, call: &Call, mut frame: Vec<u8>) {
        let length = i32::try_from(frame.len() - 4).expect("a frame is below 2 GiB");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        if call.drops_answer {
            return self.close(call.connection);
        }
        if call.delay.is_zero() {
            return self.emit(call.connection, frame);
        }
        self.delay_sequence += 1;
        let key = (self.now + call.delay, self.delay_sequence);
        let connection = call.connection;
        self.delayed.insert(key, Delayed { connection, frame });
    }

    /// The request needs no answer: the next one may be served.
    fn finish(&mut self, call: &Call) {
        if let Some(connection) = self.connections.get_mut(&call.connection) {
            connection.is_busy = false;
        }
    }

    fn emit(&mut self, id: ConnectionId, frame: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_busy = false;
            self.outputs.push_back(Output::Frame(id, frame));
            if !connection.waiting.is_empty() {
                self.unblocked.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
