//! The simulator: real consumers against a simulated cluster, function, network and clock, one seeded
//! schedule at a time, in virtual time.
//!
//! A [`Schedule`] is drawn from a seed: how many nodes and partitions, how records come, what fails and
//! when. [`World::run`] plays it: faults for a while, then everything heals, and within bounded virtual time
//! every record must have been processed and committed. The [`Ledger`] checks the delivery rules at every
//! step. A [`Mutation`] breaks the shell on purpose, to show that the rules would notice.
//!
//! Invariant: the same seed plays the same schedule, byte for byte.

mod chaos;
mod destination;
mod endings;
mod function;
mod guarding;
mod ledger;
mod network;
mod report;
mod schedule;
mod skipping;
mod topic;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{
    Budget, CallId, ConnectionId, Consumer, ConsumerConfig, DeliverySettings, DiversionId, Duty,
    Effect, Endpoint, GroupProtocol, Input, OnOversized, RetryPolicy, StartingPosition,
};
use forebay_protocol::random::Random;
use forebay_protocol::time::Instant;

pub use self::endings::Ending;
pub use self::ledger::{Delivered, Ledger, Violation};
pub use self::report::{Failure, Report};
pub use self::schedule::{GivingUp, Mutation, Schedule};
use crate::fake_kafka::{self, FakeKafka, GroupChange};

const TOPIC: &str = "orders";
/// What Unix time it is at the beginning, in milliseconds.
const UNIX_ORIGIN_MS: i64 = 1_700_000_000_000;

const GROUP: &str = "orders-group";

/// What happens next.
#[derive(Debug)]
enum Event {
    Connect {
        node: NodeRef,
        id: ConnectionId,
        endpoint: Endpoint,
    },
    ToBroker {
        node: NodeRef,
        id: ConnectionId,
        frame: Bytes,
    },
    ToNode {
        node: NodeRef,
        input: Input,
    },
    /// The node learns the newest password.
    Password {
        node: NodeRef,
    },
    Wake {
        node: NodeRef,
    },
    BrokerWake,
    CallArrives {
        node: NodeRef,
        call: CallId,
        body: Vec<Bytes>,
        deadline: Instant,
        twin: bool,
    },
    CallReturns {
        key: function::CallKey,
    },
    CallGivenUp {
        key: function::CallKey,
    },
    Written {
        node: NodeRef,
        id: DiversionId,
        records: Vec<Delivered>,
    },
    Diverted {
        node: NodeRef,
        id: DiversionId,
        records: Vec<Delivered>,
        is_refused: bool,
    },
    Produce,
    Chaos,
    Retention,
    Skip,
    Start {
        node: usize,
    },
    Heal,
}

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NodeRef {
    node: usize,
    life: u32,
}

#[derive(Debug)]
struct Node {
    life: u32,
    consumer: Option<Consumer>,
    links: BTreeMap<ConnectionId, network::Link>,
    wake: Option<Instant>,
    /// What it was told while it was busy.
    inbox: Vec<Input>,
    /// It does nothing before then (SIGSTOP).
    frozen_until: Instant,
    /// No broker can be reached before then.
    cut_until: Instant,
    /// It is being drained and comes back afterwards.
    stopping: bool,
}

/// One schedule in play.
#[derive(Debug)]
pub struct World {
    schedule: Schedule,
    random: Random,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    kafka: FakeKafka,
    nodes: Vec<Node>,
    function: function::Function,
    ledger: Ledger,
    endings: endings::Endings,
    operator: skipping::Operator,
    turns: turns::Turns,
    /// How often the destination has refused a record that a node wrote, by partition and offset.
    refused: HashMap<(NodeRef, i32, i64), u32>,
    topic_seen: topic::Seen,
    commits_seen: usize,
    group_events_seen: usize,
    broker_wake: Option<Instant>,
    /// How often the password has changed.
    passwords: u64,
    healed: bool,
    report: Report,
}

impl World {
    /// The schedule of that seed.
    pub fn new(schedule: Schedule) -> Self {
        let mut config = fake_kafka::Config::new(schedule.brokers);
        config.consumer_session_timeout = Duration::from_secs(10);
        config.consumer_heartbeat_interval = Duration::from_secs(2);
        config.sasl = guarding::sasl(&schedule);
        let mut kafka = FakeKafka::new(config);
        kafka.create_topic(TOPIC, schedule.partitions);
        let nodes = (0..schedule.nodes)
            .map(|_| Node {
                life: 0,
                consumer: None,
                links: BTreeMap::new(),
                wake: None,
                inbox: Vec::new(),
                frozen_until: Instant::ZERO,
                cut_until: Instant::ZERO,
                stopping: false,
            })
            .collect();
        let mut world = Self {
            random: Random::new(schedule.seed),
            now: Instant::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            kafka,
            nodes,
            function: function::Function::default(),
            ledger: Ledger::default(),
            endings: endings::Endings::default(),
            operator: skipping::Operator::new(schedule.seed),
            turns: turns::Turns::new(schedule.seed),
            refused: HashMap::new(),
            topic_seen: topic::Seen::new(),
            commits_seen: 0,
            group_events_seen: 0,
            broker_wake: None,
            passwords: 0,
            healed: false,
            report: Report::default(),
            schedule,
        };
        for partition in 0..world.schedule.partitions {
            let gives_up = world.schedule.giving_up.is_some();
            world.ledger.declare(partition, gives_up);
        }
        world.prepare_topic();
        for node in 0..world.schedule.nodes {
            let after = world.random_micros(0, 3_000_000);
            world.after(after, Event::Start { node });
        }
        world.after(Duration::ZERO, Event::Produce);
        world.after(Duration::from_secs(2), Event::Chaos);
        if world.schedule.retention {
            world.after(Duration::from_secs(3), Event::Retention);
        }
        if world.schedule.has_operator {
            world.after(Duration::from_secs(4), Event::Skip);
        }
        let heal = world.schedule.chaos_for;
        world.after(heal, Event::Heal);
        world
    }

    /// Plays the schedule to its end.
    ///
    /// # Errors
    ///
    /// The first rule that was broken.
    pub fn run(mut self) -> Result<Report, Failure> {
        let seed = self.schedule.seed;
        match self.play() {
            Ok(()) => Ok(self.report),
            Err(violation) => {
                let nodes = self.describe_nodes();
                Err(Failure {
                    seed,
                    at: self.now,
                    violation,
                    nodes,
                })
            }
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        let deadline = Instant::ZERO + self.schedule.chaos_for + self.schedule.settle_for;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            self.report.steps += 1;
            self.step(event)?;
            self.observe_broker()?;
            if self.healed && self.function.is_idle() && self.ledger.is_complete() {
                self.report.authentications = self.kafka.authentications();
                self.report.refusals = self.kafka.refusals();
                return Ok(());
            }
            if self.now > deadline {
                break;
            }
        }
        self.ledger.stuck().map_or(Ok(()), Err)
    }

    fn describe_nodes(&self) -> String {
        let lines = self
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| match &node.consumer {
                Some(consumer) => format!("  node {at}: {:?}", consumer.status()),
                None => format!("  node {at}: down"),
            });
        let events = self.kafka.group_events().iter().rev().take(12).rev();
        let events = events.map(|event| format!("  {:?} {:?}", event.at, event.change));
        lines.chain(events).collect::<Vec<_>>().join("\n")
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Connect { node, id, endpoint } => self.connect(node, id, &endpoint),
            Event::ToBroker { node, id, frame } => self.reach_broker(node, id, frame),
            Event::ToNode { node, input } => self.hand_to_node(node, input),
            Event::Password { node } => self.tell_password(node),
            Event::Wake { node } => self.wake(node),
            Event::BrokerWake => {
                if self.broker_wake.is_some_and(|at| at <= self.now) {
                    self.broker_wake = None;
                    self.kafka.handle_timeout(self.now);
                }
                Ok(())
            }
            Event::CallArrives {
                node,
                call,
                body,
                deadline,
                twin,
            } => self.call_arrives(node, call, &body, deadline, twin),
            Event::CallReturns { key } => self.call_returns(key),
            Event::CallGivenUp { key } => self.call_given_up(key),
            Event::Written { node, id, records } => {
                self.written(node, id, records);
                Ok(())
            }
            Event::Diverted {
                node,
                id,
                records,
                is_refused,
            } => self.diverted(node, id, records, is_refused),
            Event::Produce => {
                self.produce();
                Ok(())
            }
            Event::Chaos => self.chaos(),
            Event::Retention => {
                self.retain();
                Ok(())
            }
            Event::Skip => self.operate(),
            Event::Start { node } => self.start(node),
            Event::Heal => self.heal(),
        }
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        let config = self.consumer_config(node);
        let budget = Budget::new(self.schedule.shared_bytes);
        let life = &mut self.nodes[node];
        if life.consumer.is_some() {
            return Ok(());
        }
        life.life += 1;
        life.stopping = false;
        life.links.clear();
        life.inbox.clear();
        let of = NodeRef {
            node,
            life: life.life,
        };
        let now = self.node_now(node);
        let mut consumer = Consumer::new(config, budget, now);
        let along = self.schedule.seed.is_multiple_of(2);
        consumer.handle(self.credentials(), now);
        consumer.handle(Input::HashAlong(along), now);
        consumer.handle(Input::UnixTime(UNIX_ORIGIN_MS), now);
        self.nodes[node].consumer = Some(consumer);
        self.wake(of)
    }

    fn consumer_config(&self, node: usize) -> ConsumerConfig {
        let schedule = &self.schedule;
        // The protocol of consumer groups makes a member's id of its seed.
        let life = match schedule.group_protocol {
            GroupProtocol::Classic => 0,
            GroupProtocol::Consumer => u64::from(self.nodes[node].life),
        };
        ConsumerConfig {
            bootstrap: (1..=schedule.brokers)
                .map(|id| Endpoint {
                    host: format!("fake-{id}"),
                    port: 9092,
                })
                .collect(),
            bootstrap_servers: "fake-1:9092".to_owned(),
            topic: TOPIC.to_owned(),
            group_id: GROUP.to_owned(),
            client_id: format!("node-{node}"),
            rack_id: String::new(),
            duty: Duty::Serve,
            group_protocol: schedule.group_protocol,
            group_instance_id: schedule
                .has_static_members
                .then(|| format!("instance-{node}")),
            starting_position: StartingPosition::TrimHorizon,
            body_limit: schedule.body_limit,
            delivery: DeliverySettings {
                batch_size: schedule.batch_size,
                window: schedule.window,
                on_oversized: OnOversized::Halt,
                retry: schedule
                    .giving_up
                    .as_ref()
                    .map_or_else(RetryPolicy::default, |it| it.retry.clone()),
                destination: self.destination(),
                drop_undelivered: schedule
                    .giving_up
                    .as_ref()
                    .is_some_and(|it| it.drop_undelivered),
                filters: schedule.filters(),
            },
            read_committed: true,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(1),
            request_timeout: Duration::from_secs(5),
            call_deadline: Duration::from_secs(15),
            max_in_flight: 4,
            nonce_key: self.nonce_key(node),
            seed: schedule.seed ^ (node as u64) << 32 ^ life << 48,
        }
    }

    fn execute(&mut self, of: NodeRef, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Connect(id, endpoint) => {
                let after = self.latency();
                self.after(
                    after,
                    Event::Connect {
                        node: of,
                        id,
                        endpoint,
                    },
                );
            }
            Effect::Send(id, frame) | Effect::Fetch(id, frame, _) => {
                self.send_to_broker(of, id, frame);
            }
            Effect::Close(id) => self.close(of, id),
            Effect::Derive(id, derivation) => {
                let input = Input::Derived(id, derivation.run());
                let after = self.delay_a_little();
                self.after(after, Event::ToNode { node: of, input });
            }
            Effect::Invoke(call, invocation) => self.invoke(of, call, invocation)?,
            Effect::CancelCall(call) => self.cancel_call(of, call),
            Effect::Divert(id, diversion) => self.divert(of, id, &diversion)?,
            Effect::Stopped => {}
        }
        Ok(())
    }

    fn check_memory(&mut self, of: NodeRef) -> Result<(), Violation> {
        let limit = self.schedule.memory_limit();
        let Some(consumer) = self.living(of) else {
            return Ok(());
        };
        let bytes = consumer.status().memory_bytes;
        if bytes > limit {
            return Err(Violation::TooMuchMemory {
                node: of.node,
                bytes,
            });
        }
        Ok(())
    }

    /// Carries the broker's answers, and checks what it accepted.
    fn observe_broker(&mut self) -> Result<(), Violation> {
        self.carry_outputs();
        self.observe_topic()?;
        let fresh: Vec<(i32, i64)> = self.kafka.commits()[self.commits_seen..]
            .iter()
            .map(|commit| (commit.partition, commit.offset))
            .collect();
        self.commits_seen += fresh.len();
        for (partition, offset) in fresh {
            self.ledger.committed(partition, offset)?;
        }
        // A member that the coordinator gave up may still have a call open: nobody can take it back.
        let events = self.kafka.group_events();
        let expelled: Vec<usize> = events[self.group_events_seen..]
            .iter()
            .filter_map(|event| match &event.change {
                GroupChange::Left { member, .. } => node_of(member),
                _ => None,
            })
            .collect();
        self.group_events_seen = events.len();
        for node in expelled {
            self.ledger.killed(node);
        }
        if let Some(at) = self.kafka.poll_timeout()
            && self.broker_wake.is_none_or(|set| at < set)
        {
            self.broker_wake = Some(at);
            self.at(at.max(self.now), Event::BrokerWake);
        }
        Ok(())
    }

    fn living(&mut self, of: NodeRef) -> Option<&mut Consumer> {
        let node = &mut self.nodes[of.node];
        node.consumer.as_mut().filter(|_| node.life == of.life)
    }

    fn is_frozen(&self, node: usize) -> bool {
        self.now < self.nodes[node].frozen_until
    }

    /// What the node's clock shows; a mutation makes it fall behind.
    fn node_now(&self, node: usize) -> Instant {
        self.now - self.node_drift(node)
    }

    fn node_drift(&self, node: usize) -> Duration {
        if node == 0 && self.schedule.mutation == Some(Mutation::OverlongLease) {
            self.now.saturating_since(Instant::ZERO) / 20 * 19
        } else {
            Duration::ZERO
        }
    }

    fn after(&mut self, after: Duration, event: Event) {
        self.at(self.now + after, event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn latency(&mut self) -> Duration {
        self.random_micros(50, 5_000)
    }

    fn random_micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.random.below(to - from + 1))
    }

    /// True once in `one_in` times.
    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }
}

/// Our member ids begin with the client id.
fn node_of(member: &str) -> Option<usize> {
    member
        .strip_prefix("node-")?
        .split('-')
        .next()?
        .parse()
        .ok()
}
