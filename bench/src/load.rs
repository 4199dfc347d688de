//! One run of a load: the `forebay` binary between an embedded broker and embedded functions.
//!
//! [`Begun::new`] starts all and returns when each partition's first record has arrived and the groups have come
//! to rest: from then on every mapping is at work. [`Begun::carry`] fills the topics, in one step in which the
//! broker answers nobody, and takes the CPU time of the appliance from just before it until the last record has
//! arrived. So a start (its connections, its joins) is in no figure, and all work for the records is, also what
//! was done ahead. A load of a third goes before, so that memory is there: the kernel clears a page once.
//!
//! Invariant: a run in which a record was missing, came twice or out of order gives no figure.

use std::path::Path;
use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use crate::floor;
use crate::rig::{Filtering, Rig, Setup, Signing};
use crate::stage::{Arrived, Filling, More};
use crate::wait::{pause, since};

/// How often is looked whether the groups have come to rest, and how long they may take.
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// A node is at rest so long after its last work: buffers that nobody needs are kept for up to 4 s.
const SETTLE: Duration = Duration::from_secs(5);

/// The most records of a run: of small values that is long enough.
const RECORDS_MAX: usize = 1_000_000;

/// A member learns at its next heartbeat that another has joined. Where a group has several, they come often, so
/// that the group is soon at rest; elsewhere as often as they do by default.
const HEARTBEAT_OF_SEVERAL_MILLIS: u32 = 500;

/// What the budget has to have for each consumer at least, and what a node has by default.
const CONSUMER_BYTES: u64 = 16 << 20;
const MEMORY_BYTES: u64 = 512 << 20;

/// What is carried, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) value_bytes: usize,
    /// Records in a call at most.
    pub(crate) batch_size: u32,
    /// Each with a topic, a group and a function of its own.
    #[serde(default = "one")]
    pub(crate) mappings: usize,
    /// Of each topic.
    pub(crate) partitions: i32,
    pub(crate) shards: u32,
    #[serde(default)]
    pub(crate) signing: Signing,
    /// Broker and function are reached under TLS.
    #[serde(default)]
    pub(crate) tls: bool,
    /// By what is filtered.
    #[serde(default)]
    pub(crate) filter: Filtering,
}

/// Of data that were kept before there was a choice.
fn one() -> usize {
    1
}

/// The appliance that carries it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Appliance<'a> {
    /// The binary beside this one if left out.
    pub(crate) program: Option<&'a Path>,
    /// Environment variables that choose how it runs.
    pub(crate) variables: &'a [(&'static str, String)],
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) records: u64,
    pub(crate) calls: u64,
    /// How often a thread of the appliance had nothing to do.
    pub(crate) waits: u64,
    pub(crate) peak_bytes: u64,
}

impl Cost {
    pub(crate) fn cpu_microseconds_per_record(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }

    pub(crate) fn records_per_call(&self) -> f64 {
        self.records as f64 / self.calls as f64
    }
}

/// A cost to test with: of a hundred records.
#[cfg(test)]
pub(crate) fn cost_to_test_with(microseconds_per_record: u64) -> Cost {
    Cost {
        cpu: Duration::from_micros(microseconds_per_record * 100),
        wall: Duration::from_secs(1),
        records: 100,
        calls: 10,
        waits: 20,
        peak_bytes: 1_000_000,
    }
}

/// A node whose mappings are all at work, and have nothing to do yet.
#[derive(Debug)]
pub(crate) struct Begun {
    rig: Rig,
    /// What has arrived so far.
    before: Arrived,
    /// To be carried.
    more: More,
}

impl Begun {
    /// Starts everything; `per_batch` records are a batch of the source, `megabytes` of values are meant.
    pub(crate) fn new(
        load: &Load,
        megabytes: usize,
        per_batch: usize,
        appliance: &Appliance<'_>,
    ) -> Result<Self, String> {
        let mut filling = Filling {
            value_bytes: load.value_bytes,
            partitions: load.partitions,
            mappings: load.mappings,
            // One record each.
            batch_bytes: 1,
            tls: load.tls,
            json_values: load.filter.reads_values(),
            ..Filling::default()
        };
        filling.records = filling.lanes();
        let mut rig = Rig::start(&filling, &load.setup(appliance)?)?;
        let before = rig.wait_for_clean(rig.stage.addresses.records)?;
        if load.shards > 1 {
            rest(&mut rig)?;
        }
        let records = megabytes * 1_000_000 / load.value_bytes.max(1);
        Ok(Self {
            rig,
            before,
            more: More {
                records: records.clamp(1, RECORDS_MAX),
                per_batch,
            },
        })
    }

    /// The CPU time that it takes to have nothing to do for so long.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<Duration, String> {
        // What comes after work, the commit and the giving back of buffers, is no part of it.
        pause(SETTLE);
        let before = self.rig.node.cpu_time()?;
        pause(time);
        Ok(self.rig.node.cpu_time()? - before)
    }

    /// Carries all records, after a third as many that do not count.
    pub(crate) fn carry(mut self) -> Result<Cost, String> {
        let third = More {
            records: self.more.records.div_ceil(3),
            ..self.more
        };
        self.carry_some(third)?;
        self.carry_some(self.more)
    }

    /// Fills the topics, and waits until everything has arrived.
    fn carry_some(&mut self, more: More) -> Result<Cost, String> {
        let Rig { stage, node, .. } = &mut self.rig;
        let (cpu, waits) = (node.cpu_time()?, node.waits());
        let records = stage.fill(more)?;
        let began = clock::monotonic_micros();
        let arrived = self.rig.wait_for_clean(self.before.records + records)?;
        let cost = Cost {
            cpu: self.rig.node.cpu_time()? - cpu,
            wall: since(began),
            records,
            calls: arrived.calls - self.before.calls,
            waits: self.rig.node.waits().saturating_sub(waits),
            peak_bytes: self.rig.node.peak_bytes()?,
        };
        self.before = arrived;
        Ok(cost)
    }
}

impl Load {
    /// What the bare loop knows of it.
    pub(crate) fn bare(&self) -> floor::Case {
        floor::Case {
            value_bytes: self.value_bytes,
            batch_size: self.batch_size as usize,
            signing: self.signing,
            tls: self.tls,
            parses_values: self.filter.reads_values(),
        }
    }

    fn setup(&self, appliance: &Appliance<'_>) -> Result<Setup, String> {
        let setup = Setup::of(appliance.program)?;
        let consumers = self.mappings as u64 * u64::from(self.shards);
        let needed = consumers * CONSUMER_BYTES;
        Ok(Setup {
            shards: self.shards,
            memory_bytes: (needed > MEMORY_BYTES).then_some(needed),
            batch_size: self.batch_size,
            mappings: self.mappings,
            signing: self.signing,
            filter: self.filter,
            heartbeat_millis: match self.shards {
                0 | 1 => setup.heartbeat_millis,
                _ => HEARTBEAT_OF_SEVERAL_MILLIS,
            },
            variables: appliance.variables.to_vec(),
            ..setup
        })
    }
}

/// Waits until no group has changed for two heartbeats.
fn rest(rig: &mut Rig) -> Result<(), String> {
    let heartbeats = Duration::from_millis(u64::from(HEARTBEAT_OF_SEVERAL_MILLIS) * 2);
    let began = clock::monotonic_micros();
    let (mut changes, mut changed) = (rig.stage.group_changes()?, began);
    while since(changed) < heartbeats {
        if since(began) > PATIENCE {
            return Err("the groups do not come to rest".to_owned());
        }
        pause(POLL);
        let now = rig.stage.group_changes()?;
        if now != changes {
            (changes, changed) = (now, clock::monotonic_micros());
        }
    }
    Ok(())
}
