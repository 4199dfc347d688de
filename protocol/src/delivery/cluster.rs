//! The cluster as we last saw it: brokers, and the leader of each of our topic's partitions.
//!
//! A stale view is repaired, not retried against: whoever finds it wrong calls [`Cluster::invalidate`]
//! with the view's number, so that a late complaint cannot throw away a fresh view.
//!
//! Invariant: a view is replaced whole; leader epochs never go back while the topic stays the same.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::Endpoint;
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{MetadataResponse, TopicMetadata};
use crate::time::Instant;

/// A view is asked for again after this long, to see new partitions and brokers.
const METADATA_MAX_AGE: Duration = Duration::from_secs(300);

/// Between two requests for a view, at least.
const METADATA_BACKOFF: Duration = Duration::from_millis(100);

/// Between two requests for a view while the topic is missing or has no leader.
const METADATA_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Leaders of older epochs are believed when so many views in a row name them,
const OLDER_VIEWS_MIN: u32 = 5;

/// and for so long.
const OLDER_FOR_MIN: Duration = Duration::from_secs(10);

/// Who leads one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: i32,
    /// -1 when unknown.
    pub(super) epoch: i32,
}

/// The leader of each partition. Lanes look theirs up all the time, so each stands at its own number, as a topic's partitions
/// are numbered from 0 without a gap; where a broker says otherwise, it is searched for.
#[derive(Debug, Default)]
struct Leaders {
    /// Ascending by partition.
    known: Vec<(i32, Leader)>,
}

impl FromIterator<(i32, Leader)> for Leaders {
    fn from_iter<I: IntoIterator<Item = (i32, Leader)>>(leaders: I) -> Self {
        let mut known: Vec<(i32, Leader)> = leaders.into_iter().collect();
        known.sort_by_key(|(partition, _)| *partition);
        known.dedup_by_key(|(partition, _)| *partition);
        Self { known }
    }
}

impl Leaders {
    fn iter(&self) -> impl Iterator<Item = &(i32, Leader)> {
        self.known.iter()
    }

    fn get(&self, partition: i32) -> Option<&Leader> {
        self.place(partition).map(|at| &self.known[at].1)
    }

    fn get_mut(&mut self, partition: i32) -> Option<&mut Leader> {
        self.place(partition).map(|at| &mut self.known[at].1)
    }

    fn place(&self, partition: i32) -> Option<usize> {
        let is_there = |at: &usize| self.known.get(*at).is_some_and(|(of, _)| *of == partition);
        let search = || self.known.binary_search_by_key(&partition, |(of, _)| *of);
        let own = usize::try_from(partition).ok().filter(is_there);
        own.or_else(|| search().ok())
    }
}

/// What a new view showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The topic, with its number of partitions.
    Topic {
        partitions: i32,
        /// The number grew since the last view.
        grew: bool,
        /// The topic was created anew: its id differs from the last view's.
        recreated: bool,
    },
    /// No such topic (or, on brokers before 1.1, no right to see it).
    Missing,
    /// We may not describe the topic.
    Denied,
    /// The broker could not tell; asked again.
    Failed(ErrorCode),
}

/// The view.
#[derive(Debug)]
pub(super) struct Cluster {
    bootstrap: Vec<Endpoint>,
    brokers: BTreeMap<i32, Endpoint>,
    leaders: Leaders,
    /// Partitions that have no leader, and since when.
    leaderless: BTreeMap<i32, Instant>,
    topic_id: Uuid,
    partitions: i32,
    /// Counts the views; 0 before the first.
    view: u64,
    /// When the newest was taken.
    viewed_at: Instant,
    /// Views in a row that knew older leaders than we do, since when.
    going_back: Option<(u32, Instant)>,
    stale: bool,
    asked: bool,
    next_refresh: Instant,
    failures: u32,
    seed: usize,
}

impl Cluster {
    pub(super) fn new(bootstrap: Vec<Endpoint>, now: Instant) -> Self {
        assert!(
            !bootstrap.is_empty(),
            "a mapping has at least one bootstrap server"
        );
        Self {
            bootstrap,
            brokers: BTreeMap::new(),
            leaders: Leaders::default(),
            leaderless: BTreeMap::new(),
            topic_id: Uuid::nil(),
            partitions: 0,
            view: 0,
            viewed_at: now,
            going_back: None,
            stale: true,
            asked: false,
            next_refresh: now,
            failures: 0,
            seed: 0,
        }
    }

    /// Whether a view is to be asked for now.
    pub(super) fn wants_refresh(&self, now: Instant) -> bool {
        !self.asked && now >= self.next_refresh
    }

    /// A request for a view is under way.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// The request for a view came to nothing: another broker is asked.
    pub(super) fn failed(&mut self, now: Instant) {
        self.asked = false;
        self.back_off(now);
    }

    /// The broker that answers for the seed role could not be used.
    pub(super) fn rotate_seed(&mut self) {
        self.seed = self.seed.wrapping_add(1);
    }

    /// Which broker to ask for views: the configured ones first, then those that we know.
    pub(super) fn seed(&self) -> Endpoint {
        let at = self.seed.checked_rem(self.seeds()).unwrap_or(0);
        let seed = self.candidates().nth(at).unwrap_or(&self.bootstrap[0]);
        seed.clone()
    }

    /// How many brokers the seed role can choose from.
    pub(super) fn seeds(&self) -> usize {
        self.candidates().count()
    }

    /// Each once: one that is silent must not be asked twice in a row.
    fn candidates(&self) -> impl Iterator<Item = &Endpoint> {
        let known = self.brokers.values();
        let others = known.filter(|broker| !self.bootstrap.contains(broker));
        self.bootstrap.iter().chain(others)
    }

    /// The view of that number is wrong; newer ones are not touched.
    pub(super) fn invalidate(&mut self, view: u64, now: Instant) {
        if view == self.view && !self.stale {
            self.stale = true;
            self.next_refresh = self.next_refresh.min(now + METADATA_BACKOFF);
        }
    }

    /// Takes an answer for our topic.
    pub(super) fn apply(&mut self, response: &MetadataResponse, topic: &str, now: Instant) -> Seen {
        self.asked = false;
        self.view += 1;
        self.viewed_at = now;
        self.brokers = response
            .brokers
            .iter()
            .map(|b| {
                (
                    b.node_id,
                    Endpoint {
                        host: b.host.clone(),
                        port: b.port,
                    },
                )
            })
            .collect();
        let seen = match response.topics.iter().find(|t| t.name == topic) {
            None => Seen::Missing,
            Some(t) => match t.error {
                ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => self.take_topic(t, now),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {
                    Seen::Missing
                }
                ErrorCode::TOPIC_AUTHORIZATION_FAILED => Seen::Denied,
                other => Seen::Failed(other),
            },
        };
        if matches!(seen, Seen::Topic { .. }) && self.leaderless.is_empty() {
            self.stale = false;
            self.failures = 0;
            self.next_refresh = now + METADATA_MAX_AGE;
        } else {
            self.back_off(now);
        }
        seen
    }

    /// Whether the newest view still holds and was taken at that time or later.
    pub(super) fn is_seen_since(&self, at: Instant) -> bool {
        !self.stale && self.viewed_at >= at
    }

    /// Whether leaders of older epochs than ours are to be believed. A broker that lags behind names them for a
    /// moment; but the epochs of a topic that was created anew begin anew, and without ids (before Kafka 2.8) nothing
    /// else tells: then every broker names them, again and again.
    fn believes_older(&mut self, topic: &TopicMetadata, now: Instant) -> bool {
        let is_older = topic.partitions.iter().any(|p| {
            let known = self.leaders.get(p.partition).map(|old| old.epoch);
            p.leader_epoch >= 0 && known > Some(p.leader_epoch)
        });
        if !is_older {
            self.going_back = None;
            return false;
        }
        let (views, since) = self.going_back.unwrap_or((0, now));
        self.going_back = Some((views.saturating_add(1), since));
        // Another broker is asked next.
        self.rotate_seed();
        let is_certain = views >= OLDER_VIEWS_MIN && now.saturating_since(since) >= OLDER_FOR_MIN;
        if is_certain {
            self.going_back = None;
        }
        is_certain
    }

    fn take_topic(&mut self, topic: &TopicMetadata, now: Instant) -> Seen {
        let recreated =
            !self.topic_id.is_nil() && !topic.topic_id.is_nil() && self.topic_id != topic.topic_id;
        if recreated || self.believes_older(topic, now) {
            self.leaders = Leaders::default();
        }
        self.topic_id = topic.topic_id;
        let leaders = topic.partitions.iter().map(|p| {
            let leader = Leader {
                node: p.leader,
                epoch: p.leader_epoch,
            };
            let kept = match self.leaders.get(p.partition) {
                // A broker that lags behind may still name the leader of an older epoch.
                Some(old) if old.epoch > leader.epoch && leader.epoch >= 0 => *old,
                _ => leader,
            };
            (p.partition, kept)
        });
        self.leaders = leaders.collect();
        let known = std::mem::take(&mut self.leaderless);
        let without = self.leaders.iter().filter(|(_, leader)| leader.node < 0);
        self.leaderless = without
            .map(|(partition, _)| (*partition, *known.get(partition).unwrap_or(&now)))
            .collect();
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let grew = self.partitions > 0 && count > self.partitions;
        self.partitions = count;
        Seen::Topic {
            partitions: count,
            grew,
            recreated,
        }
    }

    /// A broker told the leader along with an error (KIP-951).
    pub(super) fn learn_leader(&mut self, partition: i32, node: i32, epoch: i32) {
        if let Some(leader) = self.leaders.get_mut(partition)
            && epoch > leader.epoch
            && self.brokers.contains_key(&node)
        {
            *leader = Leader { node, epoch };
        }
    }

    pub(super) fn view(&self) -> u64 {
        self.view
    }

    pub(super) fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The number of partitions; 0 while unknown.
    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The leader of a partition, if it has one.
    pub(super) fn leader(&self, partition: i32) -> Option<Leader> {
        self.leaders
            .get(partition)
            .copied()
            .filter(|leader| leader.node >= 0)
    }

    /// Whether the newest view has that partition.
    pub(super) fn has(&self, partition: i32) -> bool {
        self.leaders.get(partition).is_some()
    }

    /// Since when a partition has no leader.
    pub(super) fn leaderless_since(&self, partition: i32) -> Option<Instant> {
        self.leaderless.get(&partition).copied()
    }

    pub(super) fn broker(&self, node: i32) -> Option<&Endpoint> {
        self.brokers.get(&node)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.asked).then_some(self.next_refresh)
    }

    fn back_off(&mut self, now: Instant) {
        let wait = METADATA_BACKOFF * 2u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.next_refresh = now + wait.min(METADATA_BACKOFF_MAX);
        self.stale = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::messages::{Broker, PartitionMetadata};

    fn answer(leader: i32, epoch: i32) -> MetadataResponse {
        MetadataResponse {
            throttle_ms: 0,
            error: ErrorCode::NONE,
            brokers: vec![Broker {
                node_id: 1,
                host: "b".to_owned(),
                port: 1,
                rack: None,
            }],
            cluster_id: None,
            topics: vec![TopicMetadata {
                error: ErrorCode::NONE,
                name: "t".to_owned(),
                topic_id: Uuid::nil(),
                partitions: vec![PartitionMetadata {
                    error: ErrorCode::NONE,
                    partition: 0,
                    leader,
                    leader_epoch: epoch,
                    replicas: vec![],
                }],
            }],
        }
    }

    #[test]
    fn leader_is_found_however_partitions_are_numbered() {
        let check = |numbers: &[i32]| {
            let leader = |partition: i32| Leader {
                node: partition.wrapping_mul(3),
                epoch: 1,
            };
            let leaders: Leaders = numbers.iter().map(|it| (*it, leader(*it))).collect();
            for it in numbers {
                assert_eq!(leaders.get(*it), Some(&leader(*it)), "{numbers:?}");
            }
            for other in [-2, 4, 6, i32::MAX - 1] {
                assert_eq!(leaders.get(other), None, "{numbers:?}");
            }
        };
        check(&[]);
        check(&[0, 1, 2, 3]);
        check(&[2, 0, 3, 1, 2]);
        check(&[5, 7, i32::MAX, -1, i32::MIN]);
    }

    fn cluster() -> Cluster {
        Cluster::new(
            vec![Endpoint {
                host: "a".to_owned(),
                port: 1,
            }],
            Instant::ZERO,
        )
    }

    #[test]
    fn late_complaint_does_not_discard_a_fresh_view() {
        let mut cluster = cluster();
        cluster.apply(&answer(1, 5), "t", Instant::ZERO);
        let old = cluster.view();
        cluster.apply(&answer(1, 6), "t", Instant::ZERO);
        cluster.invalidate(old, Instant::ZERO);
        assert!(!cluster.wants_refresh(Instant::ZERO + METADATA_BACKOFF));
        cluster.invalidate(cluster.view(), Instant::ZERO);
        assert!(cluster.wants_refresh(Instant::ZERO + METADATA_BACKOFF));
    }

    #[test]
    fn older_epoch_does_not_replace_a_newer_leader() {
        let mut cluster = cluster();
        cluster.apply(&answer(1, 5), "t", Instant::ZERO);
        cluster.apply(&answer(2, 4), "t", Instant::ZERO);
        assert_eq!(cluster.leader(0), Some(Leader { node: 1, epoch: 5 }));
    }

    #[test]
    fn leaderless_partition_is_asked_for_again_soon() {
        let mut cluster = cluster();
        cluster.apply(&answer(-1, 5), "t", Instant::ZERO);
        assert_eq!(cluster.leader(0), None);
        assert!(cluster.wants_refresh(Instant::ZERO + METADATA_BACKOFF));
    }
}
