//! A consumer or two against a fake cluster and a function, step by step in virtual time: for what must happen
//! in an order that no random schedule would find.
//!
//! The network has no latency of its own, so that nothing happens but what the story tells: answers are
//! kept back by [`Fault::Delay`](crate::fake_kafka::Fault), calls by [`Story::hold_calls`].
//!
//! Invariant: the same story is told the same way each time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{
    Budget, CallId, ConnectionId, Consumer, ConsumerConfig, DeliverySettings, Disconnect,
    Diversion, DiversionId, Duty, Effect, Endpoint, GroupProtocol, Input, Notice, OnOversized,
    RetryPolicy, StartingPosition, Taken, Undelivered,
};
use forebay_protocol::kafka::sasl::NonceKey;
use forebay_protocol::lambda::invoke::{Execution, Outcome};
use forebay_protocol::limits;
use forebay_protocol::time::Instant;

use crate::fake_kafka::batch::NewRecord;
use crate::fake_kafka::{self, FakeKafka, Output};
use crate::fake_lambda::event::{self, SeenRecord};

/// The topic of a story.
pub const TOPIC: &str = "orders";

/// The group of a story.
pub const GROUP: &str = "orders-group";

/// How long [`Story::until`] waits at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// An open call.
#[derive(Debug)]
pub struct Call {
    member: usize,
    id: CallId,
    /// The records that it carries.
    pub records: Vec<SeenRecord>,
    /// The size of its body.
    pub body_bytes: usize,
}

/// A writing to the destination.
#[derive(Debug)]
pub struct OpenDiversion {
    /// Whose it is.
    pub member: usize,
    id: DiversionId,
    /// What is to be written.
    pub diversion: Diversion,
}

/// What answers calls.
pub type Function = Box<dyn FnMut(&Call) -> Outcome>;

/// How connections to an endpoint end before they stand, if they do.
pub type Refusal = Box<dyn FnMut(&Endpoint) -> Option<Disconnect>>;

/// Whether connections to an endpoint neither come about nor end.
pub type Stalling = Box<dyn FnMut(&Endpoint) -> bool>;

/// What changes an answer on its way, which is shown without its length.
pub type Tamper = Box<dyn FnMut(fake_kafka::ConnectionId, &mut Vec<u8>)>;

/// Consumers of one group, their cluster and their function.
pub struct Story {
    /// The cluster.
    pub kafka: FakeKafka,
    /// Records of calls that succeeded, in the order of their ends.
    pub delivered: Vec<SeenRecord>,
    /// What the consumers had to say.
    pub notices: Vec<Notice>,
    /// Calls that wait for [`Story::end_call`].
    pub open_calls: VecDeque<Call>,
    /// Writings to the destination that wait for [`Story::end_diversion`].
    pub open_diversions: VecDeque<OpenDiversion>,
    /// How much brokers were said to have ready, of each fetch of which anything was known.
    pub ready: Vec<usize>,
    /// Keys that consumers had derived.
    pub derivations: u64,
    /// The fewest connections that stood after one was closed by a consumer.
    pub fewest_connections: usize,
    members: Vec<Member>,
    now: Instant,
    refuses: Refusal,
    stalls: Stalling,
    tamper: Tamper,
    function: Option<Function>,
}

struct Member {
    consumer: Consumer,
    links: BTreeMap<ConnectionId, fake_kafka::ConnectionId>,
    /// Brokers told it something that it has not acted on.
    has_heard: bool,
    /// It has stopped or was killed.
    has_ended: bool,
}

/// The configuration of a story's consumer.
pub fn consumer_config() -> ConsumerConfig {
    ConsumerConfig {
        bootstrap: vec![Endpoint {
            host: "fake-1".to_owned(),
            port: 9092,
        }],
        bootstrap_servers: "fake-1:9092".to_owned(),
        topic: TOPIC.to_owned(),
        group_id: GROUP.to_owned(),
        client_id: "story".to_owned(),
        rack_id: String::new(),
        duty: Duty::Serve,
        group_protocol: GroupProtocol::Classic,
        group_instance_id: None,
        starting_position: StartingPosition::TrimHorizon,
        body_limit: limits::BODY_BYTES_LIMIT,
        delivery: DeliverySettings {
            batch_size: 100,
            window: Duration::ZERO,
            on_oversized: OnOversized::Halt,
            retry: RetryPolicy::default(),
            destination: None,
            drop_undelivered: false,
            filters: Arc::default(),
        },
        read_committed: true,
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(30),
        heartbeat_interval: Duration::from_secs(1),
        request_timeout: Duration::from_secs(30),
        call_deadline: Duration::from_secs(60),
        max_in_flight: 4,
        nonce_key: NonceKey::new([1; 32]),
        seed: 1,
    }
}

impl Story {
    /// A consumer of a topic with so many partitions, on a cluster of so many brokers.
    pub fn new(partitions: i32, brokers: i32) -> Self {
        let mut story = Self::of_cluster(partitions, brokers);
        story.join(consumer_config(), Budget::new(64 << 20));
        story
    }

    /// The cluster alone.
    pub fn of_cluster(partitions: i32, brokers: i32) -> Self {
        Self::of_cluster_with(fake_kafka::Config::new(brokers), partitions)
    }

    /// Such a cluster alone.
    pub fn of_cluster_with(config: fake_kafka::Config, partitions: i32) -> Self {
        let mut kafka = FakeKafka::new(config);
        kafka.create_topic(TOPIC, partitions);
        Self {
            kafka,
            delivered: Vec::new(),
            notices: Vec::new(),
            open_calls: VecDeque::new(),
            open_diversions: VecDeque::new(),
            ready: Vec::new(),
            derivations: 0,
            fewest_connections: usize::MAX,
            members: Vec::new(),
            now: Instant::ZERO,
            refuses: Box::new(|_| None),
            stalls: Box::new(|_| false),
            tamper: Box::new(|_, _| {}),
            function: Some(Box::new(|_| succeeded())),
        }
    }

    /// One more consumer; its number.
    pub fn join(&mut self, config: ConsumerConfig, budget: Budget) -> usize {
        self.join_told(config, budget, [])
    }

    /// The same, told something before all else.
    pub fn join_told(
        &mut self,
        config: ConsumerConfig,
        budget: Budget,
        first: impl IntoIterator<Item = Input>,
    ) -> usize {
        let consumer = Consumer::new(config, budget, self.now);
        self.members.push(Member {
            consumer,
            links: BTreeMap::new(),
            has_heard: false,
            has_ended: false,
        });
        let member = self.members.len() - 1;
        for input in first {
            self.members[member].consumer.handle(input, self.now);
        }
        self.members[member].consumer.handle_timeout(self.now);
        self.settle();
        member
    }

    /// SIGKILL.
    pub fn kill(&mut self, member: usize) {
        let killed = &mut self.members[member];
        killed.has_ended = true;
        for broker in std::mem::take(&mut killed.links).into_values() {
            self.kafka.disconnect(broker);
        }
        self.open_calls.retain(|call| call.member != member);
        self.open_diversions.retain(|it| it.member != member);
    }

    /// Ends the oldest writing that is open, and tells what was to be written.
    ///
    /// # Panics
    /// If none is.
    pub fn end_diversion(&mut self, result: Result<Taken, &str>) -> Diversion {
        let ended = self.open_diversions.pop_front();
        let ended = ended.expect("a writing is open");
        let result = result.map_err(|reason| Undelivered {
            reason: reason.to_owned(),
        });
        let input = Input::Diverted(ended.id, result);
        self.members[ended.member].consumer.handle(input, self.now);
        self.settle();
        ended.diversion
    }

    /// From now on calls stay open until the story ends them.
    pub fn hold_calls(&mut self) {
        self.function = None;
    }

    /// From now on this answers calls.
    pub fn answer_calls(&mut self, function: impl FnMut(&Call) -> Outcome + 'static) {
        self.function = Some(Box::new(function));
    }

    /// From now on connections for which this says so are refused.
    pub fn refuse(&mut self, mut refuses: impl FnMut(&Endpoint) -> bool + 'static) {
        self.refuse_with(move |endpoint| {
            let reason = || Disconnect::Unreachable("connection refused".to_owned());
            refuses(endpoint).then(reason)
        });
    }

    /// The same, with what each comes to.
    pub fn refuse_with(&mut self, refuses: impl FnMut(&Endpoint) -> Option<Disconnect> + 'static) {
        self.refuses = Box::new(refuses);
    }

    /// From now on connections for which this says so are waited for in vain, like those under TLS to a broker that is
    /// frozen.
    pub fn stall(&mut self, stalls: impl FnMut(&Endpoint) -> bool + 'static) {
        self.stalls = Box::new(stalls);
    }

    /// From now on this changes what brokers answer.
    pub fn tamper(&mut self, tamper: impl FnMut(fake_kafka::ConnectionId, &mut Vec<u8>) + 'static) {
        self.tamper = Box::new(tamper);
    }

    /// Appends one record with that value as a batch of its own; its offset.
    pub fn produce(&mut self, partition: i32, value: &str) -> i64 {
        let record = NewRecord::value(Bytes::copy_from_slice(value.as_bytes()));
        self.kafka.append(TOPIC, partition, &[record])
    }

    /// Ends the oldest open call.
    pub fn end_call(&mut self, outcome: Outcome) {
        let call = self.open_calls.pop_front().expect("a call is open");
        self.conclude(call, outcome);
        self.settle();
    }

    /// Tells a consumer something.
    pub fn tell(&mut self, member: usize, input: Input) {
        self.members[member].consumer.handle(input, self.now);
        self.settle();
    }

    /// The broker's end of a connection closes.
    pub fn close(&mut self, broker: fake_kafka::ConnectionId) {
        self.kafka.disconnect(broker);
        self.carry(Output::Close(broker));
        self.settle();
    }

    /// A consumer.
    pub fn consumer(&self, member: usize) -> &Consumer {
        &self.members[member].consumer
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether a consumer has ended.
    pub fn has_ended(&self, member: usize) -> bool {
        self.members[member].has_ended
    }

    /// The partitions that a consumer owns.
    pub fn owned(&self, member: usize) -> Vec<i32> {
        let status = self.members[member].consumer.status();
        status.partitions.iter().map(|p| p.partition).collect()
    }

    /// The values delivered from one partition, in order.
    pub fn values(&self, partition: i32) -> Vec<String> {
        self.delivered
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| {
                String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
            })
            .collect()
    }

    /// The group's commit.
    pub fn committed(&self, partition: i32) -> Option<i64> {
        self.kafka
            .committed(GROUP, TOPIC, partition)
            .map(|committed| committed.offset)
    }

    /// Whether somebody said that.
    pub fn was_said(&self, message: &str) -> bool {
        self.notices.iter().any(|notice| notice.message == message)
    }

    /// Lets that much time pass.
    pub fn play(&mut self, time: Duration) {
        let until = self.now + time;
        self.settle();
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.advance(at);
        }
        self.now = until;
    }

    /// Plays until that holds.
    ///
    /// # Panics
    ///
    /// When it does not come to hold.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = self.now + PATIENCE;
        self.settle();
        while !holds(self) {
            let next = self.next_event().filter(|at| *at <= deadline);
            let Some(at) = next else {
                let members = self.members.iter().map(|member| member.consumer.status());
                panic!(
                    "never came to hold: {what}\n{:#?}\n{:#?}",
                    members.collect::<Vec<_>>(),
                    self.notices
                );
            };
            self.advance(at);
        }
    }

    fn next_event(&self) -> Option<Instant> {
        self.members
            .iter()
            .filter(|member| !member.has_ended)
            .filter_map(|member| member.consumer.poll_timeout())
            .chain(self.kafka.poll_timeout())
            .min()
    }

    fn advance(&mut self, at: Instant) {
        self.now = self.now.max(at);
        let now = self.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.kafka.poll_timeout()) {
            self.kafka.handle_timeout(now);
        }
        for member in &mut self.members {
            if !member.has_ended && is_due(member.consumer.poll_timeout()) {
                member.consumer.handle_timeout(now);
            }
        }
        self.settle();
    }

    /// Carries everything to and fro until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for at in 0..self.members.len() {
                is_quiet &= self.settle_member(at);
            }
            while let Some(output) = self.kafka.poll_output() {
                is_quiet = false;
                self.carry(output);
            }
            if is_quiet {
                return;
            }
        }
    }

    /// True when it had nothing to do.
    fn settle_member(&mut self, at: usize) -> bool {
        let now = self.now;
        let member = &mut self.members[at];
        if member.has_ended {
            return true;
        }
        if std::mem::take(&mut member.has_heard) {
            member.consumer.handle_timeout(now);
        }
        let more = member.consumer.work(now);
        let effects: Vec<Effect> = std::iter::from_fn(|| member.consumer.poll_effect()).collect();
        self.notices
            .extend(std::iter::from_fn(|| member.consumer.poll_notice()));
        let is_quiet = effects.is_empty() && !more;
        for effect in effects {
            self.execute(at, effect);
        }
        is_quiet
    }

    fn send(&mut self, at: usize, id: ConnectionId, frame: &Bytes) {
        if let Some(broker) = self.members[at].links.get(&id) {
            self.kafka.handle(*broker, frame.slice(4..), self.now);
        }
    }

    fn execute(&mut self, at: usize, effect: Effect) {
        let member = &mut self.members[at];
        match effect {
            Effect::Connect(id, endpoint) => self.connect(at, id, &endpoint),
            Effect::Send(id, frame) => self.send(at, id, &frame),
            Effect::Fetch(id, frame, ready) => {
                self.ready.push(ready);
                self.send(at, id, &frame);
            }
            Effect::Close(id) => {
                if let Some(broker) = member.links.remove(&id) {
                    self.kafka.disconnect(broker);
                    let standing = self.kafka.connections();
                    self.fewest_connections = self.fewest_connections.min(standing);
                }
            }
            Effect::Derive(id, derivation) => {
                self.derivations += 1;
                let key = Input::Derived(id, derivation.run());
                member.consumer.handle(key, self.now);
            }
            Effect::Invoke(id, invocation) => {
                let body = invocation.pieces.concat();
                let call = Call {
                    member: at,
                    id,
                    records: event::read(&body).expect("the body is an event"),
                    body_bytes: body.len(),
                };
                let outcome = self.function.as_mut().map(|function| function(&call));
                match outcome {
                    Some(outcome) => self.conclude(call, outcome),
                    None => self.open_calls.push_back(call),
                }
            }
            Effect::CancelCall(id) => {
                let is_it = |call: &Call| call.member == at && call.id == id;
                if let Some(found) = self.open_calls.iter().position(is_it)
                    && let Some(call) = self.open_calls.remove(found)
                {
                    let reason = "closed by the caller".to_owned();
                    self.conclude(call, Outcome::Broken { reason });
                }
            }
            Effect::Divert(id, diversion) => self.open_diversions.push_back(OpenDiversion {
                member: at,
                id,
                diversion,
            }),
            Effect::Stopped => member.has_ended = true,
        }
    }

    fn connect(&mut self, at: usize, id: ConnectionId, endpoint: &Endpoint) {
        if (self.stalls)(endpoint) {
            return;
        }
        let refused = (self.refuses)(endpoint);
        let broker = self
            .kafka
            .broker_at(&endpoint.host, endpoint.port)
            .filter(|_| refused.is_none())
            .and_then(|node| self.kafka.connect(node));
        let member = &mut self.members[at];
        let input = match broker {
            Some(broker) => {
                member.links.insert(id, broker);
                Input::Connected(id)
            }
            None => {
                let nobody = || Disconnect::Unreachable("connection refused".to_owned());
                Input::Disconnected(id, refused.unwrap_or_else(nobody))
            }
        };
        member.consumer.handle(input, self.now);
    }

    fn carry(&mut self, output: Output) {
        let (Output::Frame(broker, _) | Output::Close(broker)) = &output;
        for member in &mut self.members {
            let found = member.links.iter().find(|(_, of)| *of == broker);
            let Some(id) = found.map(|(id, _)| *id) else {
                continue;
            };
            let input = match output {
                Output::Frame(broker, mut frame) => {
                    frame.drain(..4);
                    (self.tamper)(broker, &mut frame);
                    Input::Frame(id, Bytes::from(frame))
                }
                Output::Close(_) => {
                    member.links.remove(&id);
                    Input::Disconnected(id, Disconnect::Closed("closed by the broker".to_owned()))
                }
            };
            member.consumer.hear(input, self.now);
            member.has_heard = true;
            return;
        }
    }

    fn conclude(&mut self, call: Call, outcome: Outcome) {
        if matches!(outcome, Outcome::Success { .. }) {
            self.delivered.extend(call.records);
        }
        self.members[call.member]
            .consumer
            .handle(Input::CallEnded(call.id, outcome), self.now);
    }
}

/// The function's success.
pub fn succeeded() -> Outcome {
    answered("null")
}

/// The function's own answer.
pub fn answered(body: &str) -> Outcome {
    Outcome::Success {
        body: Bytes::copy_from_slice(body.as_bytes()),
        execution: execution(),
    }
}

/// The function's error.
pub fn failed() -> Outcome {
    Outcome::FunctionError {
        kind: "Unhandled".to_owned(),
        body: Bytes::new(),
        execution: execution(),
    }
}

fn execution() -> Execution {
    Execution {
        status: 200,
        request_id: "0b1".to_owned(),
        executed_version: "$LATEST".to_owned(),
    }
}
