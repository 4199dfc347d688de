//! From the mappings to what each shard shall run (decisions 36 and 37).
//!
//! [`Planner::plan`] takes what is demanded and yields the plans that changed;
//! [`Planner::acknowledge`] takes how far a shard has come, after which plans may change again.
//!
//! Invariant: the permits that shards may hold for one function, by any plan that they may still act on,
//! never add up to more than its `max_in_flight`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Skip;
use forebay_protocol::limits::{CONSUMER_BODY_BYTES_MIN, CONSUMER_FETCH_BYTES_MIN};
use uuid::Uuid;

use super::memory::ShardMemory;
use crate::config::{Config, Problem};
use crate::contract::{Access, ConsumerPlan, Plan};
use crate::mapping::{Declared, FunctionKey, Mapping};

/// Consumers that an on-demand mapping starts with at most (decision 36).
const ON_DEMAND_CONSUMERS_MAX: usize = 16;

/// Calls in flight of one consumer whose function has no limit of its own: AWS's default concurrency of
/// an account and region.
const PERMITS_UNCAPPED: u32 = 1_000;

/// What one consumer needs of the memory budget: one body and one fetch.
const CONSUMER_BYTES_MIN: usize = CONSUMER_BODY_BYTES_MIN + CONSUMER_FETCH_BYTES_MIN;

/// A mapping that shall be served.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) mapping: Arc<Mapping>,
    /// How long a call may take, as far as is known.
    pub(crate) call_deadline: Duration,
    /// How connections are made.
    pub(crate) access: Arc<Access>,
    /// How many partitions the topic has, if that is known.
    pub(crate) partitions: Option<u32>,
    /// What operators want passed over.
    pub(crate) skips: Arc<[Skip]>,
}

/// Deals consumers over shards, and remembers who may hold what.
#[derive(Debug)]
pub(crate) struct Planner {
    shards: Vec<Shard>,
    /// Where each consumer runs. It stays there as long as it is wanted.
    placed: BTreeMap<Key, usize>,
}

/// A mapping's consumer.
type Key = (Uuid, u32);

/// Which consumer keeps the place of a mapping that is not enabled: the same that serves it then, so that one
/// begins after the other has ended.
const KEEPER: u32 = 0;

#[derive(Debug, Default)]
struct Shard {
    plan: Plan,
    /// What the plans from the acknowledged one to the newest grant, by generation.
    grants: VecDeque<(u64, Grants)>,
}

/// The permits of one plan, and whose they are.
type Grants = BTreeMap<Key, (FunctionKey, u32)>;

impl Planner {
    /// A planner for that many shards, none of which has a plan.
    pub(crate) fn new(shards: usize) -> Self {
        assert!(shards > 0, "a node has a shard");
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            placed: BTreeMap::new(),
        }
    }

    /// The plans that changed, by shard.
    pub(crate) fn plan(&mut self, demands: &[Demand]) -> Vec<(usize, Plan)> {
        let counts = consumer_counts(demands, self.shards.len());
        self.place(demands, &counts);
        self.place_keepers(demands);
        let permits = self.permits(demands, &counts);
        let mut consumers: Vec<Vec<ConsumerPlan>> = vec![Vec::new(); self.shards.len()];
        for (demand, count) in demands.iter().zip(&counts) {
            if demand.mapping.keeps_place() {
                let shard = self.placed[&(demand.mapping.uuid, KEEPER)];
                consumers[shard].push(ConsumerPlan {
                    mapping: Arc::clone(&demand.mapping),
                    ordinal: KEEPER,
                    permits: 0,
                    call_deadline: demand.call_deadline,
                    access: Arc::clone(&demand.access),
                    skips: Arc::clone(&demand.skips),
                });
            }
            for ordinal in 0..*count {
                let key = (demand.mapping.uuid, ordinal);
                // A consumer without a permit waits for one that another has to give back.
                let Some(permits) = permits.get(&key).copied().filter(|it| *it > 0) else {
                    continue;
                };
                consumers[self.placed[&key]].push(ConsumerPlan {
                    mapping: Arc::clone(&demand.mapping),
                    ordinal,
                    permits,
                    call_deadline: demand.call_deadline,
                    access: Arc::clone(&demand.access),
                    skips: Arc::clone(&demand.skips),
                });
            }
        }
        self.publish(consumers, false)
    }

    /// The plans that end everything: what is in flight may end, or is given up at once.
    pub(crate) fn drain(&mut self, give_up: bool) -> Vec<(usize, Plan)> {
        let nothing = vec![Vec::new(); self.shards.len()];
        self.publish(nothing, give_up)
    }

    /// A shard says that it has applied `generation`: older grants are over.
    pub(crate) fn acknowledge(&mut self, shard: usize, generation: u64) {
        let grants = &mut self.shards[shard].grants;
        while grants.get(1).is_some_and(|(next, _)| *next <= generation) {
            grants.pop_front();
        }
    }

    /// The newest generation of a shard's plan.
    pub(crate) fn generation(&self, shard: usize) -> u64 {
        self.shards[shard].plan.generation
    }

    /// Gives every wanted consumer a shard: of its mapping's the fewest, then of all the fewest.
    fn place(&mut self, demands: &[Demand], counts: &[u32]) {
        let wanted: BTreeSet<Key> = demands
            .iter()
            .zip(counts)
            .flat_map(|(demand, count)| (0..*count).map(|ordinal| (demand.mapping.uuid, ordinal)))
            .collect();
        let keepers = demands.iter().filter(|it| it.mapping.keeps_place());
        let keepers: BTreeSet<Key> = keepers.map(|it| (it.mapping.uuid, KEEPER)).collect();
        // A consumer that is not wanted any more keeps its place while its shard may still run it: wanted
        // again, it goes back there, behind its predecessor, and never runs on two shards at once.
        let shards = &self.shards;
        self.placed.retain(|key, shard| {
            let grants = &shards[*shard].grants;
            let kept = wanted.contains(key) || keepers.contains(key);
            kept || grants.iter().any(|(_, grants)| grants.contains_key(key))
        });
        let mut loads = vec![0_usize; self.shards.len()];
        let mut siblings: BTreeMap<(Uuid, usize), usize> = BTreeMap::new();
        let busy = self.placed.iter().filter(|(key, _)| !keepers.contains(key));
        for ((uuid, _), shard) in busy {
            loads[*shard] += 1;
            *siblings.entry((*uuid, *shard)).or_default() += 1;
        }
        for key in wanted {
            let Entry::Vacant(place) = self.placed.entry(key) else {
                continue;
            };
            let load = |shard: usize| {
                let siblings = siblings.get(&(key.0, shard)).copied();
                (siblings.unwrap_or(0), loads[shard], shard)
            };
            let shard = (0..loads.len()).min_by_key(|shard| load(*shard));
            let shard = *place.insert(shard.unwrap_or(0));
            loads[shard] += 1;
            *siblings.entry((key.0, shard)).or_default() += 1;
        }
    }

    /// One that keeps a place weighs nothing: it goes to the shard that its number names, if it has none.
    fn place_keepers(&mut self, demands: &[Demand]) {
        let shards = self.shards.len();
        for demand in demands.iter().filter(|it| it.mapping.keeps_place()) {
            let uuid = demand.mapping.uuid;
            let home = uuid.as_u128() % shards as u128;
            let home = usize::try_from(home).unwrap_or(0);
            self.placed.entry((uuid, KEEPER)).or_insert(home);
        }
    }

    /// What each consumer is granted now: its share, as far as nobody else may still hold it.
    fn permits(&self, demands: &[Demand], counts: &[u32]) -> BTreeMap<Key, u32> {
        let mut granted = BTreeMap::new();
        let mut capped: BTreeMap<FunctionKey, (u32, Vec<Key>)> = BTreeMap::new();
        for (demand, count) in demands.iter().zip(counts) {
            let keys = (0..*count).map(|ordinal| (demand.mapping.uuid, ordinal));
            match demand.mapping.function.max_in_flight {
                None => granted.extend(keys.map(|key| (key, PERMITS_UNCAPPED))),
                Some(cap) => capped
                    .entry(demand.mapping.function.key.clone())
                    .or_insert((cap, Vec::new()))
                    .1
                    .extend(keys),
            }
        }
        for (function, (cap, keys)) in capped {
            let held = self.held(&function);
            let mut free = cap.saturating_sub(held.values().sum());
            let consumers = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            for (index, key) in (0..consumers).zip(keys) {
                let share = cap / consumers + u32::from(index < cap % consumers);
                let holds = held.get(&key).copied().unwrap_or(0);
                let more = share.saturating_sub(holds).min(free);
                free -= more;
                granted.insert(key, share.min(holds + more));
            }
        }
        granted
    }

    /// The most that each consumer may hold of a function by any plan that may still be acted on.
    fn held(&self, function: &FunctionKey) -> BTreeMap<Key, u32> {
        let mut held: BTreeMap<Key, u32> = BTreeMap::new();
        for shard in &self.shards {
            let mut here: BTreeMap<Key, u32> = BTreeMap::new();
            for (key, (owner, permits)) in shard.grants.iter().flat_map(|(_, grants)| grants) {
                if owner == function {
                    let most = here.entry(*key).or_default();
                    *most = (*most).max(*permits);
                }
            }
            for (key, permits) in here {
                *held.entry(key).or_default() += permits;
            }
        }
        held
    }

    fn publish(&mut self, consumers: Vec<Vec<ConsumerPlan>>, give_up: bool) -> Vec<(usize, Plan)> {
        let mut changed = Vec::new();
        for (index, (shard, consumers)) in self.shards.iter_mut().zip(consumers).enumerate() {
            let same = shard.plan.generation > 0
                && shard.plan.consumers == consumers
                && shard.plan.give_up == give_up;
            if same {
                continue;
            }
            shard.plan = Plan {
                generation: shard.plan.generation + 1,
                consumers,
                give_up,
            };
            let grants = shard.plan.consumers.iter().map(|consumer| {
                let key = (consumer.mapping.uuid, consumer.ordinal);
                (
                    key,
                    (consumer.mapping.function.key.clone(), consumer.permits),
                )
            });
            let grants = (shard.plan.generation, grants.collect());
            shard.grants.push_back(grants);
            changed.push((index, shard.plan.clone()));
        }
        changed
    }
}

/// What the mappings ask for that the node cannot give: memory, or permits of a function.
pub fn capacity(config: &Config, set: &[Declared]) -> Vec<Problem> {
    let demands: Vec<Demand> = set
        .iter()
        .map(|declared| Demand {
            mapping: Arc::clone(&declared.mapping),
            call_deadline: Duration::ZERO,
            access: Arc::default(),
            partitions: None,
            skips: Arc::default(),
        })
        .collect();
    let mut problems = Vec::new();
    let mut callers: BTreeMap<FunctionKey, (u32, Vec<&Declared>)> = BTreeMap::new();
    for declared in set.iter().filter(|declared| declared.mapping.enabled) {
        let function = &declared.mapping.function;
        if let Some(cap) = function.max_in_flight {
            let (_, callers) = callers
                .entry(function.key.clone())
                .or_insert((cap, Vec::new()));
            callers.push(declared);
        }
    }
    for (cap, callers) in callers.values() {
        for declared in callers
            .iter()
            .skip(usize::try_from(*cap).unwrap_or(usize::MAX))
        {
            let message = format!(
                "{} mappings call it but its max_in_flight is {cap}, and each needs one; raise \
                 max_in_flight in {} or set Enabled = false",
                callers.len(),
                config.file.display(),
            );
            problems.push(Problem {
                key: "FunctionName".to_owned(),
                value: declared.mapping.function.name.clone(),
                ..Problem::of_file(&declared.file, message)
            });
        }
    }
    let mut planner = Planner::new(config.shards);
    let counts = consumer_counts(&demands, config.shards);
    planner.place(&demands, &counts);
    let crowded = (0..config.shards)
        .map(|shard| planner.placed.values().filter(|it| **it == shard).count())
        .max()
        .unwrap_or(0);
    let minimum = ShardMemory::node_bytes(crowded * CONSUMER_BYTES_MIN, config.shards);
    if minimum > config.memory_bytes {
        let message = format!(
            "is too little: up to {crowded} consumers on each of {} shards need {CONSUMER_BYTES_MIN} \
             bytes each, and receive buffers some more; set at least {minimum}, or run fewer mappings, pollers or shards",
            config.shards,
        );
        problems.push(Problem {
            key: "memory_bytes".to_owned(),
            value: config.memory_bytes.to_string(),
            ..Problem::of_file(&config.file, message)
        });
    }
    problems
}

/// How many consumers each mapping has. A capped function has no more than it has permits.
fn consumer_counts(demands: &[Demand], shards: usize) -> Vec<u32> {
    let mut counts = vec![0; demands.len()];
    let mut left: BTreeMap<FunctionKey, u32> = BTreeMap::new();
    // One consumer a round for each mapping that wants more, so that a small cap is shared fairly.
    let mut grew = true;
    while grew {
        grew = false;
        for (demand, count) in demands.iter().zip(&mut counts) {
            if *count >= wanted_consumers(demand, shards) {
                continue;
            }
            let function = &demand.mapping.function;
            if let Some(cap) = function.max_in_flight {
                let left = left.entry(function.key.clone()).or_insert(cap);
                if *left == 0 {
                    continue;
                }
                *left -= 1;
            }
            *count += 1;
            grew = true;
        }
    }
    counts
}

fn wanted_consumers(demand: &Demand, shards: usize) -> u32 {
    if !demand.mapping.enabled {
        return 0;
    }
    if let Some((minimum, _)) = demand.mapping.pollers {
        return minimum;
    }
    let most = u32::try_from(shards.min(ON_DEMAND_CONSUMERS_MAX)).unwrap_or(u32::MAX);
    // A topic that is missing has no partitions; one consumer stays to see it appear.
    demand.partitions.map_or(most, |it| it.clamp(1, most))
}

#[cfg(test)]
mod tests;
