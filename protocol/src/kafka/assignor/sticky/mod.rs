//! `cooperative-sticky`: balanced, moves as little as possible, and hands over in two steps.
//!
//! First a target is made: everybody keeps what it validly claims, free partitions go to the member
//! with the least, and then single partitions are shifted from the fullest member towards an emptier
//! one until no shift helps. A shift may run over members in between where subscriptions differ. Then
//! the target is made safe: a partition that anybody else still claims is withheld. Its old owner sees
//! that it is gone, gives it up and joins again, and the next generation hands it out.
//!
//! A claim is valid if no other member claims the same partition in the same or a later generation.
//! Java's assignor hands out a partition whose outdated claim lost; here any other member's claim
//! withholds it, however old, because whoever claims it may still be working on it.
//!
//! Sources: Java's AbstractStickyAssignor and CooperativeStickyAssignor; KIP-54, KIP-429. The shifts
//! are the cost-reducing paths of Harvey, Ladner, Lovász and Tamir, "Semi-matchings for bipartite
//! graphs and load balancing" (2003): when there is none left, the balance is optimal.
//!
//! Invariant: a partition that one member claims is never assigned to another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Member, Share};

/// Everybody's share, in the order of `members`.
pub(super) fn assign(members: &[Member], counts: &BTreeMap<String, i32>) -> Vec<Share> {
    let topics = Topic::read_all(members, counts);
    let mut target = Target::of_valid_claims(members.len(), &topics);
    target.hand_out_the_rest();
    target.balance();
    target.into_shares()
}

/// One topic with at least one subscriber.
#[derive(Debug)]
struct Topic<'a> {
    name: &'a str,
    subscribers: Vec<usize>,
    claims: Vec<Claims>,
}

/// Who says that a partition is theirs.
#[derive(Clone, Debug, Default)]
struct Claims {
    claimants: Vec<(usize, i32)>,
}

/// Who gets what, while it is being worked out. Members and topics are numbers here.
struct Target<'a> {
    topics: &'a [Topic<'a>],
    holdings: Vec<BTreeMap<usize, Holding>>,
    loads: Vec<usize>,
}

/// What one member gets of one topic.
#[derive(Clone, Debug, Default)]
struct Holding {
    /// Validly claimed by this member.
    kept: BTreeSet<usize>,
    /// New to this member.
    fresh: BTreeSet<usize>,
}

impl<'a> Topic<'a> {
    fn read_all(members: &[Member], counts: &'a BTreeMap<String, i32>) -> Vec<Self> {
        let mut topics: Vec<Self> = counts
            .iter()
            .map(|(name, count)| Self {
                name,
                subscribers: (0..members.len())
                    .filter(|at| members[*at].subscribes_to(name))
                    .collect(),
                claims: vec![Claims::default(); usize::try_from(*count).unwrap_or(0)],
            })
            .filter(|topic| !topic.subscribers.is_empty())
            .collect();
        for (at, member) in members.iter().enumerate() {
            let generation = member.subscription.claimed_generation().unwrap_or(-1);
            for owned in &member.subscription.owned {
                let Ok(topic) = topics.binary_search_by(|topic| topic.name.cmp(&owned.topic))
                else {
                    continue;
                };
                let existing = owned
                    .partitions
                    .iter()
                    .filter_map(|partition| usize::try_from(*partition).ok());
                for partition in existing {
                    if let Some(claims) = topics[topic].claims.get_mut(partition) {
                        claims.add(at, generation);
                    }
                }
            }
        }
        topics
    }

    /// The owner, if it still wants the topic.
    fn keeper(&self, claims: &Claims) -> Option<usize> {
        let wants = |owner: &usize| self.subscribers.binary_search(owner).is_ok();
        claims.owner().filter(wants)
    }
}

impl Claims {
    fn add(&mut self, member: usize, generation: i32) {
        if self.claimants.iter().all(|(known, _)| *known != member) {
            self.claimants.push((member, generation));
        }
    }

    /// The one member whose claim is of the latest generation.
    fn owner(&self) -> Option<usize> {
        let latest = self.claimants.iter().map(|(_, generation)| *generation);
        let latest = latest.max()?;
        let mut owners = self.claimants.iter().filter(|claim| claim.1 == latest);
        match (owners.next(), owners.next()) {
            (Some((owner, _)), None) => Some(*owner),
            _ => None,
        }
    }

    /// Whether `member` may have the partition at once.
    fn lets_in(&self, member: usize) -> bool {
        self.owner() == Some(member) || self.claimants.iter().all(|(other, _)| *other == member)
    }
}

impl<'a> Target<'a> {
    fn of_valid_claims(members: usize, topics: &'a [Topic<'a>]) -> Self {
        let mut target = Self {
            topics,
            holdings: vec![BTreeMap::new(); members],
            loads: vec![0; members],
        };
        for (at, topic) in topics.iter().enumerate() {
            for (partition, claims) in topic.claims.iter().enumerate() {
                if let Some(keeper) = topic.keeper(claims) {
                    target.give(keeper, at, partition);
                }
            }
        }
        target
    }

    /// Gives each partition that nobody validly claims to the subscriber with the least; topics that
    /// few members want come first.
    fn hand_out_the_rest(&mut self) {
        let topics = self.topics;
        let mut order: Vec<usize> = (0..topics.len()).collect();
        order.sort_by_key(|at| (topics[*at].subscribers.len(), topics[*at].name));
        for at in order {
            let topic = &topics[at];
            let mut by_load: BTreeSet<(usize, usize)> = topic
                .subscribers
                .iter()
                .map(|member| (self.loads[*member], *member))
                .collect();
            for (partition, claims) in topic.claims.iter().enumerate() {
                if topic.keeper(claims).is_some() {
                    continue;
                }
                let (load, least) = by_load.pop_first().expect("a topic has a subscriber");
                self.give(least, at, partition);
                by_load.insert((load + 1, least));
            }
        }
    }

    /// Shifts partitions until no shift makes it more even.
    ///
    /// It ends: each shift takes one from a member and gives it to one that has at least two less, so
    /// the sum of the squared loads falls each time.
    fn balance(&mut self) {
        loop {
            let mut candidates: BTreeSet<(usize, usize)> = self
                .loads
                .iter()
                .enumerate()
                .map(|(member, load)| (*load, member))
                .collect();
            let mut shifted = false;
            // The fullest first: with equal subscriptions this moves no partition too many.
            while let Some((load, fullest)) = candidates.pop_last() {
                if let Some(path) = self.improving_path(fullest) {
                    let emptier = path.last().expect("a path has an end").to;
                    if candidates.remove(&(self.loads[emptier], emptier)) {
                        candidates.insert((self.loads[emptier] + 1, emptier));
                    }
                    candidates.insert((load - 1, fullest));
                    self.shift(fullest, &path);
                    shifted = true;
                }
            }
            if !shifted {
                return;
            }
        }
    }

    /// The shortest way to pass partitions on, from that member to one that has at least two less.
    fn improving_path(&self, from: usize) -> Option<Vec<Step>> {
        let enough = self.loads[from].checked_sub(2)?;
        if self.loads.iter().all(|load| *load > enough) {
            return None;
        }
        let mut reached: Vec<Option<(usize, Step)>> = vec![None; self.loads.len()];
        let mut passed_on = vec![false; self.topics.len()];
        let mut level = vec![from];
        while !level.is_empty() {
            let mut next = Vec::new();
            for member in level {
                for topic in self.topics_of(member) {
                    if std::mem::replace(&mut passed_on[topic], true) {
                        continue;
                    }
                    for to in self.topics[topic].subscribers.iter().copied() {
                        if to != from && reached[to].is_none() {
                            reached[to] = Some((member, Step { topic, to }));
                            next.push(to);
                        }
                    }
                }
            }
            let emptiest = next.iter().copied().min_by_key(|at| (self.loads[*at], *at));
            if let Some(end) = emptiest.filter(|end| self.loads[*end] <= enough) {
                return Some(trace(&reached, from, end));
            }
            level = next;
        }
        None
    }

    fn topics_of(&self, member: usize) -> impl Iterator<Item = usize> {
        let holdings = self.holdings[member].iter();
        holdings
            .filter(|(_, holding)| !(holding.kept.is_empty() && holding.fresh.is_empty()))
            .map(|(topic, _)| *topic)
    }

    /// Passes one partition over each step of the path.
    fn shift(&mut self, from: usize, path: &[Step]) {
        let mut giver = from;
        for step in path {
            let partition = self.take(giver, step);
            self.give(step.to, step.topic, partition);
            giver = step.to;
        }
    }

    fn give(&mut self, member: usize, topic: usize, partition: usize) {
        let holding = self.holdings[member].entry(topic).or_default();
        if self.topics[topic].claims[partition].owner() == Some(member) {
            holding.kept.insert(partition);
        } else {
            holding.fresh.insert(partition);
        }
        self.loads[member] += 1;
    }

    /// Takes the partition that is best moved: one that goes back to its owner, else one that moves
    /// anyway, else the last one.
    fn take(&mut self, giver: usize, step: &Step) -> usize {
        let claims = &self.topics[step.topic].claims;
        let holding = self.holdings[giver].get_mut(&step.topic);
        let holding = holding.expect("a step passes on a topic that the giver holds");
        let returning = holding
            .fresh
            .iter()
            .copied()
            .find(|partition| claims[*partition].owner() == Some(step.to));
        let taken = returning.or_else(|| holding.fresh.last().copied());
        self.loads[giver] -= 1;
        match taken {
            Some(partition) => {
                holding.fresh.remove(&partition);
                partition
            }
            None => holding
                .kept
                .pop_last()
                .expect("a step passes on a topic that the giver holds"),
        }
    }

    /// The shares, without what must be given up first.
    fn into_shares(self) -> Vec<Share> {
        let topics = self.topics;
        let share = |(member, holdings): (usize, BTreeMap<usize, Holding>)| {
            let entry = |(topic, holding): (usize, Holding)| {
                let topic = &topics[topic];
                let partitions = holding.kept.into_iter().chain(holding.fresh);
                let free = partitions
                    .filter(|partition| topic.claims[*partition].lets_in(member))
                    .map(|partition| i32::try_from(partition).expect("counts are 32 bits"));
                (topic.name.to_owned(), free.collect::<BTreeSet<_>>())
            };
            holdings.into_iter().map(entry).collect()
        };
        self.holdings.into_iter().enumerate().map(share).collect()
    }
}

/// Passing one partition of a topic on to a member.
#[derive(Clone, Copy, Debug)]
struct Step {
    topic: usize,
    to: usize,
}

/// The steps that lead from one member to another, in order.
fn trace(reached: &[Option<(usize, Step)>], from: usize, end: usize) -> Vec<Step> {
    let mut steps = VecDeque::new();
    let mut at = end;
    while at != from {
        let (giver, step) = reached[at].expect("the search came this way");
        steps.push_front(step);
        at = giver;
    }
    steps.into()
}

#[cfg(test)]
mod tests;
