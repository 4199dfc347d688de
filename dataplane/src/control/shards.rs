//! Control's ends of the shards' wires: starts the shards, sends them plans, reads what they say, and
//! waits for their ends.
//!
//! Invariant: a shard's number is its place here and in the planner.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::error;

use super::memory::ShardMemory;
use super::plan::Planner;
use crate::config::Config;
use crate::contract::{Credentials, Plan, Request, ShardStatus, ShardWires, mpsc, watch};
use crate::metrics::ShardMetrics;

/// How often a shard says how it stands when nothing changes.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long shards may take to end after they were told to give up; then they are left behind.
pub(crate) const GIVE_UP_WAIT: Duration = Duration::from_secs(10);

/// How often a shard's thread is looked at while it ends.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

/// How a shard is started: `shard::spawn`, but for tests of its death.
pub(crate) type SpawnShard = fn(ShardWires, Option<usize>) -> JoinHandle<()>;

/// The shards; none before the start, and none after the end.
#[derive(Default)]
pub(super) struct Shards(Vec<ShardEnd>);

/// Control's ends of one shard's wires.
struct ShardEnd {
    plan: watch::Sender<Arc<Plan>>,
    status: watch::Receiver<Arc<ShardStatus>>,
    metrics: Arc<ShardMetrics>,
    thread: JoinHandle<()>,
}

impl Shards {
    /// Starts as many as are configured. They have no plan yet.
    pub(super) fn start(
        config: &Config,
        spawn: SpawnShard,
        credentials: &watch::Sender<Option<Arc<Credentials>>>,
        requests: &mpsc::Sender<Request>,
    ) -> Self {
        let memory = ShardMemory::of(config.memory_bytes, config.shards);
        let start = |shard: usize| {
            let (plan, plan_end) = watch::channel(Arc::new(Plan::default()));
            let (status_end, status) = watch::channel(Arc::new(ShardStatus::default()));
            let metrics = Arc::new(ShardMetrics::default());
            let wires = ShardWires {
                shard,
                plan: plan_end,
                credentials: credentials.subscribe(),
                status: status_end,
                requests: requests.clone(),
                metrics: Arc::clone(&metrics),
                consumer_bytes: memory.consumer_bytes,
                receive_bytes: memory.receive_bytes,
                status_interval: STATUS_INTERVAL,
            };
            let cpu = config.cpus.get(shard % config.cpus.len());
            ShardEnd {
                plan,
                status,
                metrics,
                thread: spawn(wires, cpu.copied()),
            }
        };
        Self((0..config.shards).map(start).collect())
    }

    pub(super) fn send(&self, plans: Vec<(usize, Plan)>) {
        for (shard, plan) in plans {
            self.0[shard].plan.send_replace(Arc::new(plan));
        }
    }

    /// What the shards say, each to be waited for.
    pub(super) fn watches(&self) -> Vec<watch::Receiver<Arc<ShardStatus>>> {
        self.0.iter().map(|shard| shard.status.clone()).collect()
    }

    /// The newest words of each shard.
    pub(super) fn statuses(&self) -> Vec<Arc<ShardStatus>> {
        let shards = self.0.iter();
        shards
            .map(|shard| Arc::clone(&shard.status.borrow()))
            .collect()
    }

    /// The counters of each shard.
    pub(super) fn metrics(&self) -> impl Iterator<Item = Arc<ShardMetrics>> {
        self.0.iter().map(|shard| Arc::clone(&shard.metrics))
    }

    /// The generation that each shard has applied.
    pub(super) fn applied(&self) -> impl Iterator<Item = (usize, u64)> {
        let shards = self.0.iter().enumerate();
        shards.map(|(index, shard)| (index, shard.status.borrow().generation))
    }

    /// Whether every shard runs its first plan.
    pub(super) fn have_started(&self) -> bool {
        self.applied().all(|(_, generation)| generation > 0)
    }

    /// Whether every shard runs its newest plan, and nothing else any more.
    pub(super) fn have_applied(&self, planner: &Planner) -> bool {
        self.applied()
            .all(|(shard, generation)| generation >= planner.generation(shard))
    }

    /// The same of those that live.
    pub(super) fn have_drained(&self, planner: &Planner) -> bool {
        let mut shards = self.0.iter().zip(self.applied());
        shards.all(|(end, (shard, generation))| {
            end.thread.is_finished() || generation >= planner.generation(shard)
        })
    }

    /// A shard that has ended though its wires stand.
    pub(super) fn dead(&self) -> Option<usize> {
        let mut threads = self.0.iter().map(|shard| &shard.thread);
        threads.position(JoinHandle::is_finished)
    }

    /// Takes the plans away, without which shards end, and waits for them: their last words, and false if
    /// one has died or did not end in time.
    pub(super) async fn end(self) -> (Vec<Arc<ShardStatus>>, bool) {
        let (statuses, threads): (Vec<_>, _) = self
            .0
            .into_iter()
            .map(|shard| (shard.status, shard.thread))
            .unzip();
        let ended = join(threads).await;
        let last = statuses.iter().map(|status| Arc::clone(&status.borrow()));
        (last.collect(), ended)
    }
}

/// Waits for the threads; false if one died or did not end in time.
async fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let deadline = tokio::time::Instant::now() + GIVE_UP_WAIT;
    let mut ended = true;
    for (shard, thread) in threads.into_iter().enumerate() {
        while !thread.is_finished() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
        if !thread.is_finished() {
            error!(shard, "Shard did not end in time and is left behind");
            ended = false;
        } else if thread.join().is_err() {
            error!(shard, "Shard died by a panic");
            ended = false;
        }
    }
    ended
}
