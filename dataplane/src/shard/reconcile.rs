//! Makes the shard's consumers what the newest plan says, and says how far that is.
//!
//! Update, delete, scale, drain and restart are this one path: whatever the plan leaves out, or has
//! changed, is told to stop; whatever it has and nobody serves is started.
//!
//! Invariant: at most one consumer runs for each (mapping, ordinal). Where a mapping has changed in more than how records
//! are delivered, its old consumer has ended, group left and calls closed, before its new one starts.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::limits::{CONSUMER_BODY_BYTES_MIN, CONSUMER_FETCH_BYTES_MIN};
use uuid::Uuid;

use super::Shard;
use super::consumer::Running;
use super::queue::Queue;
use crate::clock;
use crate::contract::{ConsumerPlan, Plan, RunningConsumer, ShardStatus, Unfinished, watch};
use crate::metrics::{self, Totals};

type Key = (Uuid, u32);

/// Reports of transitions are at least that far apart.
const NEWS_INTERVAL: Duration = Duration::from_millis(5);

/// What each consumer has of the memory budget for itself alone.
const CONSUMER_BYTES: usize = CONSUMER_FETCH_BYTES_MIN + CONSUMER_BODY_BYTES_MIN;

/// Runs until the plan wire is closed and the last consumer has ended.
pub(super) async fn run(
    shard: Rc<Shard>,
    mut plans: watch::Receiver<Arc<Plan>>,
    status: watch::Sender<Arc<ShardStatus>>,
) {
    let news = Queue::new(1);
    let mut closed = false;
    let plan = Arc::clone(&plans.borrow_and_update());
    let mut reconciler = Reconciler::new(plan, news.clone(), shard);
    loop {
        reconciler.reap().await;
        reconciler.reconcile();
        reconciler.set_aside();
        reconciler.note_applied();
        let now = clock::now();
        reconciler.shard.pool.sweep(now);
        reconciler.shard.budget.let_go_of_idle(now);
        status.send_replace(Arc::new(reconciler.status()));
        if closed && reconciler.running.is_empty() {
            reconciler.shard.pool.clear();
            return;
        }
        let interval = reconciler.shard.status_interval;
        let mut tick = pin!(monoio::time::sleep(interval));
        monoio::select! {
            changed = plans.changed(), if !closed => match changed {
                Ok(()) => reconciler.take(Arc::clone(&plans.borrow_and_update())),
                Err(_) => {
                    closed = true;
                    reconciler.plan = Arc::new(drained(&reconciler.plan));
                }
            },
            // Transitions come in swarms, and each report is of all consumers: let a swarm gather.
            _ = news.next() => monoio::time::sleep(NEWS_INTERVAL).await,
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
    /// Bytes taken out of the shared budget for what consumers have for themselves.
    set_aside: usize,
    running: BTreeMap<Key, Running>,
    /// What consumers that have ended counted, and what they left unfinished.
    ended: Arc<BTreeMap<Uuid, Totals>>,
    /// Where they left their partitions.
    ended_at: Arc<BTreeMap<Uuid, BTreeMap<i32, i64>>>,
    unfinished: Vec<Unfinished>,
    news: Queue<()>,
    shard: Rc<Shard>,
}

impl Reconciler {
    fn new(plan: Arc<Plan>, news: Queue<()>, shard: Rc<Shard>) -> Self {
        Self {
            plan,
            applied: 0,
            set_aside: 0,
            running: BTreeMap::new(),
            ended: Arc::default(),
            ended_at: Arc::default(),
            unfinished: Vec::new(),
            news,
            shard,
        }
    }

    fn take(&mut self, plan: Arc<Plan>) {
        if !plan.consumers.is_empty() {
            self.unfinished.clear();
        }
        self.plan = plan;
    }

    /// Keeps of the consumers that have ended what they counted and left unfinished.
    async fn reap(&mut self) {
        for ((uuid, _), consumer) in self
            .running
            .extract_if(.., |_, consumer| consumer.has_ended())
        {
            let (last, unfinished) = consumer.join().await;
            let ended = Arc::make_mut(&mut self.ended).entry(uuid).or_default();
            metrics::add(ended, &metrics::totals(&last.counters));
            let committed = last.partitions.iter().filter(|it| it.committed_offset >= 0);
            let ended_at = Arc::make_mut(&mut self.ended_at).entry(uuid).or_default();
            ended_at.extend(committed.map(|it| (it.partition, it.committed_offset)));
            self.unfinished.extend(unfinished);
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
                    if plan.mapping.enabled {
                        self.forget_ends(key.0);
                    }
                    let started = Running::start(plan, Rc::clone(&self.shard), self.news.clone());
                    self.running.insert(key, started);
                }
            }
        }
    }

    /// Where a mapping's consumers were once says nothing of where those are that run now.
    fn forget_ends(&mut self, mapping: Uuid) {
        let mut running = self.running.keys();
        if !running.any(|(uuid, _)| *uuid == mapping) && self.ended_at.contains_key(&mapping) {
            Arc::make_mut(&mut self.ended_at).remove(&mapping);
        }
    }

    /// Keeps every consumer's own bytes out of the shared budget. A consumer that starts while others hold
    /// all of it starts nevertheless: what is missing is taken as they give it back.
    fn set_aside(&mut self) {
        let budget = &self.shard.budget;
        // One that keeps a place fetches nothing.
        let serving = self.running.values().filter(|it| it.mapping().enabled);
        let wanted = serving.count() * CONSUMER_BYTES;
        if wanted < self.set_aside {
            budget.give(self.set_aside - wanted);
            self.set_aside = wanted;
        } else {
            let more = (wanted - self.set_aside).min(budget.available());
            if budget.take(more) {
                self.set_aside += more;
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
            ended: Arc::clone(&self.ended),
            ended_at: Arc::clone(&self.ended_at),
            unfinished: self.unfinished.clone(),
        }
    }
}

fn key(plan: &ConsumerPlan) -> Key {
    (plan.mapping.uuid, plan.ordinal)
}

/// Whether that consumer is what the plan means, but for what may change while it runs.
fn serves(running: &Running, plan: &ConsumerPlan) -> bool {
    let mapping = running.mapping();
    !running.is_stopping()
        && (Arc::ptr_eq(&mapping, &plan.mapping) || mapping.can_become(&plan.mapping))
}

#[cfg(test)]
mod tests {
    use forebay_protocol::limits::CALL_DEADLINE_DEFAULT;

    use super::*;
    use crate::mapping::Mapping;
    use crate::net::trial::on_each_driver;
    use crate::shard::tests::{mapping, shard};
    use crate::shard::turn::tests::pumping;

    fn plan(generation: u64, mappings: &[&Arc<Mapping>]) -> Arc<Plan> {
        let consumers = mappings.iter().map(|mapping| ConsumerPlan {
            mapping: Arc::clone(mapping),
            ordinal: 0,
            permits: 1,
            call_deadline: CALL_DEADLINE_DEFAULT,
            access: Arc::default(),
            skips: Arc::default(),
        });
        Arc::new(Plan {
            generation,
            consumers: consumers.collect(),
            give_up: false,
        })
    }

    fn uuids(status: &ShardStatus) -> Vec<Uuid> {
        status
            .consumers
            .iter()
            .map(|running| running.uuid)
            .collect()
    }

    #[test]
    fn consumers_follow_the_plan_and_end_with_it() {
        on_each_driver(async || {
            let (shard, _asked) = shard();
            let budget = shard.budget.available();
            let pump = pumping(&shard.turns);
            let (first, second) = (Arc::new(mapping()), Arc::new(mapping()));
            let (plans, plans_end) = watch::channel(plan(1, &[&first]));
            let (status_end, mut statuses) = watch::channel(Arc::default());
            let task = monoio::spawn(run(Rc::clone(&shard), plans_end, status_end));
            let seen = statuses.wait_for(|status| uuids(status) == [first.uuid]);
            assert_eq!(seen.await.unwrap().generation, 1);
            assert_eq!(shard.budget.available(), budget - CONSUMER_BYTES);

            plans.send_replace(plan(2, &[&first, &second]));
            let seen = statuses.wait_for(|status| status.consumers.len() == 2);
            assert_eq!(seen.await.unwrap().generation, 2);

            plans.send_replace(plan(3, &[&second]));
            let seen = statuses.wait_for(|status| status.generation == 3);
            assert_eq!(uuids(&seen.await.unwrap()), [second.uuid]);

            drop(plans);
            let seen = statuses.wait_for(|status| status.consumers.is_empty());
            seen.await.unwrap();
            task.await;
            assert_eq!(shard.budget.available(), budget);
            shard.turns.end();
            pump.await;
        });
    }

    #[test]
    fn a_changed_mapping_is_served_by_a_new_consumer_after_the_old_one() {
        on_each_driver(async || {
            let (shard, _asked) = shard();
            let mut reconciler = Reconciler::new(plan(1, &[]), Queue::new(1), shard);
            let old = Arc::new(mapping());
            let new = Arc::new(Mapping {
                topic: "others".to_owned(),
                ..Mapping::clone(&old)
            });
            reconciler.plan = plan(1, &[&old]);
            reconciler.reconcile();
            reconciler.plan = plan(2, &[&new]);
            reconciler.reconcile();
            reconciler.reconcile();
            reconciler.note_applied();
            let running = &reconciler.running[&(old.uuid, 0)];
            assert!(running.is_stopping() && running.mapping() == old);
            assert_eq!(reconciler.applied, 0);
            while !reconciler.running[&(old.uuid, 0)].has_ended() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            reconciler.reap().await;
            reconciler.reconcile();
            reconciler.note_applied();
            let running = &reconciler.running[&(old.uuid, 0)];
            assert!(!running.is_stopping() && running.mapping() == new);
            assert_eq!(reconciler.applied, 2);
            reconciler.plan = plan(3, &[]);
            reconciler.reconcile();
            while !reconciler.running[&(old.uuid, 0)].has_ended() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn a_mapping_that_delivers_otherwise_is_served_by_the_same_consumer() {
        on_each_driver(async || {
            let (shard, _asked) = shard();
            let mut reconciler = Reconciler::new(plan(1, &[]), Queue::new(1), shard);
            let old = Arc::new(mapping());
            let new = Arc::new(Mapping {
                batch_size: old.batch_size + 1,
                ..Mapping::clone(&old)
            });
            reconciler.plan = plan(1, &[&old]);
            reconciler.reconcile();
            reconciler.plan = plan(2, &[&new]);
            reconciler.reconcile();
            reconciler.note_applied();
            let key = (old.uuid, 0);
            let running = &reconciler.running[&key];
            assert!(!running.is_stopping() && running.mapping() == new);
            assert_eq!(reconciler.applied, 0, "its loop has not taken it yet");
            while !reconciler.running[&key].keeps_permits() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            reconciler.note_applied();
            assert_eq!(reconciler.applied, 2);
            reconciler.plan = plan(3, &[]);
            reconciler.reconcile();
            while !reconciler.running[&key].has_ended() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
}
