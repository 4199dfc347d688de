//! Makes the shard's consumers what the newest plan says, and says how far that is.
//!
//! Update, delete, scale, drain and restart are this one path: whatever the plan leaves out, or has
//! changed, is told to stop; whatever it has and nobody serves is started.
//!
//! Invariant: at most one consumer runs for each (mapping, ordinal); a changed mapping's old consumer has
//! ended, group left and calls closed, before its new one starts.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use uuid::Uuid;

use super::Shard;
use super::consumer::Running;
use super::queue::Queue;
use crate::contract::{ConsumerPlan, Plan, RunningConsumer, ShardStatus, watch};

type Key = (Uuid, u32);

/// Runs until the plan wire is closed and the last consumer has ended.
pub(super) async fn run(
    shard: Rc<Shard>,
    mut plans: watch::Receiver<Arc<Plan>>,
    status: watch::Sender<Arc<ShardStatus>>,
) {
    let news = Queue::new(1);
    let mut closed = false;
    let mut reconciler = Reconciler {
        plan: Arc::clone(&plans.borrow_and_update()),
        applied: 0,
        running: BTreeMap::new(),
        news: news.clone(),
        shard,
    };
    loop {
        reconciler.reap().await;
        reconciler.reconcile();
        reconciler.note_applied();
        status.send_replace(Arc::new(reconciler.status()));
        if closed && reconciler.running.is_empty() {
            return;
        }
        let interval = reconciler.shard.status_interval;
        let mut tick = pin!(monoio::time::sleep(interval));
        monoio::select! {
            changed = plans.changed(), if !closed => match changed {
                Ok(()) => reconciler.plan = Arc::clone(&plans.borrow_and_update()),
                Err(_) => {
                    closed = true;
                    reconciler.plan = Arc::new(drained(&reconciler.plan));
                }
            },
            _ = news.next() => {}
            () = &mut tick => {}
        }
    }
}

/// What a closed wire means: the same as an empty plan.
fn drained(last: &Plan) -> Plan {
    Plan {
        generation: last.generation + 1,
        consumers: Vec::new(),
        give_up: last.give_up,
    }
}

struct Reconciler {
    plan: Arc<Plan>,
    /// The newest generation that was seen to be in force.
    applied: u64,
    running: BTreeMap<Key, Running>,
    news: Queue<()>,
    shard: Rc<Shard>,
}

impl Reconciler {
    /// Forgets the consumers that have ended.
    async fn reap(&mut self) {
        for (_, consumer) in self
            .running
            .extract_if(.., |_, consumer| consumer.has_ended())
        {
            consumer.join().await;
        }
    }

    fn reconcile(&mut self) {
        let plan = Arc::clone(&self.plan);
        let wanted: BTreeMap<Key, &ConsumerPlan> =
            plan.consumers.iter().map(|c| (key(c), c)).collect();
        for (key, running) in &self.running {
            if plan.give_up {
                running.abort();
            } else if !wanted.get(key).is_some_and(|plan| serves(running, plan)) {
                running.stop();
            }
        }
        if plan.give_up {
            return;
        }
        for (key, plan) in wanted {
            match self.running.get(&key) {
                Some(running) if serves(running, plan) => running.adjust(plan),
                // Its predecessor is still ending.
                Some(_) => {}
                None => {
                    let started = Running::start(plan, Rc::clone(&self.shard), self.news.clone());
                    self.running.insert(key, started);
                }
            }
        }
    }

    /// A generation is in force when whatever it left out has ended, and no consumer has more calls open
    /// than it permits: control gives those permits to others only then.
    fn note_applied(&mut self) {
        let in_force = self
            .running
            .values()
            .all(|running| !running.is_stopping() && running.keeps_permits());
        if in_force {
            self.applied = self.plan.generation;
        }
    }

    fn status(&self) -> ShardStatus {
        let consumers = self
            .running
            .iter()
            .filter_map(|(&(uuid, ordinal), running)| {
                let status = running.status()?;
                Some(RunningConsumer {
                    uuid,
                    ordinal,
                    status,
                })
            });
        ShardStatus {
            generation: self.applied,
            consumers: consumers.collect(),
        }
    }
}

fn key(plan: &ConsumerPlan) -> Key {
    (plan.mapping.uuid, plan.ordinal)
}

/// Whether that consumer is what the plan means, but for what may change while it runs.
fn serves(running: &Running, plan: &ConsumerPlan) -> bool {
    !running.is_stopping()
        && (Arc::ptr_eq(&running.mapping, &plan.mapping) || running.mapping == plan.mapping)
}
