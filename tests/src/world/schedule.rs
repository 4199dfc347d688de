//! What a seed stands for.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{GroupProtocol, RetryPolicy};
use forebay_protocol::filter::{Filter, FilterSet};
use forebay_protocol::kafka::sasl::Mechanism;
use forebay_protocol::limits;
use forebay_protocol::random::Random;

/// A deliberate fault of the shell, to show that the rules notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Commits carry an offset that is too high by one.
    CommitEarly,
    /// An invocation is sent twice at once.
    DeliverTwice,
    /// A fetch asks for one record later than it should.
    SkipGap,
    /// Commits carry the group's newest generation and member, whoever sends them, and an old offset.
    OldGeneration,
    /// A node's clock falls behind, so that its lease lasts too long.
    OverlongLease,
    /// The destination's refusals are told as acknowledgements.
    FalseAcknowledgement,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CommitEarly,
        Self::DeliverTwice,
        Self::SkipGap,
        Self::OldGeneration,
        Self::OverlongLease,
        Self::FalseAcknowledgement,
    ];
}

/// One schedule's parameters, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// Brokers of the cluster.
    pub brokers: i32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Forebay processes.
    pub nodes: usize,
    /// `BatchSize`.
    pub batch_size: u32,
    /// The batching window.
    pub window: Duration,
    /// A body stays below it; small ones make records close batches by size.
    pub body_limit: usize,
    /// The shared part of each node's memory.
    pub shared_bytes: usize,
    /// Batches produced while faults strike.
    pub produced_batches: u64,
    /// Faults strike at most this often.
    pub chaos_every: Duration,
    /// Until then faults strike.
    pub chaos_for: Duration,
    /// How long everything may take once it is healed.
    pub settle_for: Duration,
    /// One call in so many fails.
    pub call_fails_one_in: u64,
    /// Retention takes records while faults strike, read or not. One schedule in five.
    pub retention: bool,
    /// How the nodes are members: by the protocol of consumer groups in one schedule of five.
    pub group_protocol: GroupProtocol,
    /// The members are static. Half of the schedules with consumer groups.
    pub has_static_members: bool,
    /// How brokers know who is there, and for how long: one schedule in six. Passwords change among the faults, and
    /// brokers let nobody in.
    pub sasl: Option<(Mechanism, Option<Duration>)>,
    /// Calls vanish now and then: nobody tells their end, nor notices their deadline. One schedule in eleven.
    pub is_forgetful: bool,
    /// Records that the function cannot digest, and what the mapping does with them. Two schedules in seven.
    pub giving_up: Option<GivingUp>,
    /// No fault strikes the one node nor its cluster. A quarter of the schedules that give up.
    pub is_calm: bool,
    /// Somebody has records passed over. A third of the schedules that give up.
    pub has_operator: bool,
    /// The mapping has filters, and some records are not wanted. One schedule in four.
    pub is_filtered: bool,
    /// A deliberate fault of the shell.
    pub mutation: Option<Mutation>,
}

/// What a mapping does with records that fail.
#[derive(Clone, Debug)]
pub struct GivingUp {
    /// How often, and how long, they are tried.
    pub retry: RetryPolicy,
    /// The function cannot digest one record in so many.
    pub poison_one_in: u64,
    /// The destination refuses one writing in so many.
    pub destination_fails_one_in: u64,
    /// Records that it refuses too often are dropped.
    pub drop_undelivered: bool,
    /// It is a topic of the same cluster, and nothing is dropped.
    pub to_topic: bool,
}

impl GivingUp {
    fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6ea7);
        let mut below = |bound| random.below(bound);
        let to_topic = seed.is_multiple_of(2);
        Self {
            retry: RetryPolicy {
                max_attempts: [None, Some(0), Some(1), Some(4)][below(4) as usize],
                max_age: (below(3) == 0).then_some(Duration::from_secs(60)),
                bisect: below(2) == 0,
                report_item_failures: below(2) == 0,
            },
            poison_one_in: [3, 10, 50][below(3) as usize],
            destination_fails_one_in: [2, 4, 1_000][below(3) as usize],
            drop_undelivered: below(4) == 0 && !to_topic,
            to_topic,
        }
    }
}

/// What the filters of a schedule want.
const PATTERNS: [&str; 2] = [
    r#"{"value":{"send":["yes"]}}"#,
    r#"{"value":{"send":[{"exists":false}]}}"#,
];

impl Schedule {
    /// The schedule of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xf0_7eba);
        let mut pick = |choices: &[u64]| {
            choices[usize::try_from(random.below(choices.len() as u64)).unwrap_or(0)]
        };
        let gives_up = matches!(seed % 7, 1 | 5);
        let is_calm = gives_up && (seed / 7).is_multiple_of(4);
        let nodes = if is_calm { &[1][..] } else { &[1, 1, 2, 3] };
        Self {
            seed,
            brokers: i32::try_from(pick(&[1, 2, 3])).unwrap_or(1),
            partitions: i32::try_from(pick(&[1, 2, 3, 5])).unwrap_or(1),
            nodes: usize::try_from(pick(nodes)).unwrap_or(1),
            batch_size: u32::try_from(pick(&[1, 2, 5, 100])).unwrap_or(1),
            window: Duration::from_millis(pick(&[0, 0, 100, 500, 2000])),
            body_limit: usize::try_from(pick(&[2_000, 10_000, limits::BODY_BYTES_LIMIT as u64]))
                .unwrap_or(limits::BODY_BYTES_LIMIT),
            shared_bytes: usize::try_from(pick(&[0, 1 << 20, 1 << 26])).unwrap_or(0),
            produced_batches: pick(&[5, 15, 30]),
            chaos_every: Duration::from_millis(pick(&[500, 2_000, 8_000, 60_000])),
            chaos_for: Duration::from_secs(pick(&[5, 15, 40])),
            settle_for: Duration::from_secs(900),
            call_fails_one_in: pick(&[2, 5, 20, 1_000]),
            retention: seed % 5 == 1,
            group_protocol: if seed % 5 == 2 {
                GroupProtocol::Consumer
            } else {
                GroupProtocol::Classic
            },
            has_static_members: seed % 10 == 7,
            sasl: (seed % 6 == 4).then(|| sasl(seed / 6)),
            is_forgetful: seed % 11 == 5,
            giving_up: gives_up.then(|| GivingUp::from_seed(seed)),
            is_calm,
            has_operator: gives_up && seed.is_multiple_of(3),
            is_filtered: seed % 4 == 3,
            mutation: None,
        }
    }

    /// The same schedule with a shell that is broken on purpose.
    #[must_use]
    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    /// The mapping's filters.
    pub(super) fn filters(&self) -> Arc<FilterSet> {
        if !self.is_filtered {
            return Arc::default();
        }
        let filters = PATTERNS.map(|it| Filter::compile(it).expect("a pattern"));
        Arc::new(FilterSet::new(filters.into()))
    }

    /// What a machine may hold: its own minimum, the shared part, and what a fetch may bring beyond what was
    /// asked for.
    pub fn memory_limit(&self) -> usize {
        limits::CONSUMER_FETCH_BYTES_MIN
            + limits::CONSUMER_BODY_BYTES_MIN
            + self.shared_bytes
            + 2 * limits::FETCH_PARTITION_BYTES_MAX
    }
}

fn sasl(seed: u64) -> (Mechanism, Option<Duration>) {
    // Hashing passwords is most of the work of a schedule that does.
    let mechanism = match seed % 8 {
        0 => Mechanism::ScramSha256,
        4 => Mechanism::ScramSha512,
        _ => Mechanism::Plain,
    };
    let lifetimes = [2, 5, 20, 3600].map(Duration::from_secs);
    let at = usize::try_from(seed / 8 % 5).unwrap_or(0);
    (mechanism, lifetimes.get(at).copied())
}
