//! Where a member stands; each state owns what has a meaning only in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::kafka::messages::{GroupAssignment, GroupMember};
use crate::time::Instant;

#[derive(Debug)]
pub(super) enum State {
    /// A JoinGroup is to be sent.
    Unjoined(Unjoined),
    /// A JoinGroup is out.
    Joining(Joining),
    /// In the generation, without its assignment.
    Syncing(Syncing),
    /// In the generation, with its assignment.
    Stable(Stable),
    /// Saying goodbye.
    Leaving(Leaving),
    /// Another process is this static member now. Only a restart ends it.
    Fenced,
    /// Gone.
    Left,
}

#[derive(Debug)]
pub(super) struct Unjoined {
    /// Before it nothing is sent; `None` when that is over.
    pub(super) not_before: Option<Instant>,
    /// Eager: when to join although something has not been released.
    pub(super) drain_by: Option<Instant>,
    /// Why we join, for the broker's log.
    pub(super) reason: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Joining {
    pub(super) sent: Instant,
    /// What the leader will believe that we hold.
    pub(super) claimed: BTreeSet<i32>,
}

#[derive(Debug)]
pub(super) struct Syncing {
    /// What the leader believes that we hold.
    pub(super) claimed: BTreeSet<i32>,
    /// No generation went by without us, so that the leader cannot have passed over our claims.
    pub(super) claims_stand: bool,
    pub(super) lead: Option<Lead>,
    pub(super) step: SyncStep,
}

#[derive(Debug)]
pub(super) enum SyncStep {
    /// We lead, and need to know how many partitions there are.
    AwaitCounts(AwaitCounts),
    /// A SyncGroup is to be sent.
    Send(Vec<GroupAssignment>),
    /// A SyncGroup is out.
    Sent(Instant),
}

#[derive(Debug)]
pub(super) struct AwaitCounts {
    pub(super) members: Vec<GroupMember>,
    /// An answer that lacked some topics: taken when nothing better has come by `ask_again`.
    pub(super) partial: Option<BTreeMap<String, i32>>,
    pub(super) ask_again: Instant,
}

/// What only the leader keeps.
#[derive(Debug)]
pub(super) struct Lead {
    /// What the members subscribe to, ascending.
    pub(super) topics: Vec<String>,
    /// The partition counts that the assignment was made from. A topic that is missing takes the
    /// first count we hear: a returning static leader did not assign (KIP-814).
    pub(super) counts: BTreeMap<String, i32>,
}

#[derive(Debug)]
pub(super) struct Stable {
    pub(super) lead: Option<Lead>,
    /// Something was released: when to join without it.
    pub(super) rejoin_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) by: Instant,
    pub(super) step: LeaveStep,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum LeaveStep {
    /// A first JoinGroup is out: only its answer tells our id.
    AwaitMemberId,
    Send,
    Sent,
}

impl Lead {
    pub(super) fn of(topics: Vec<String>) -> Self {
        let counts = BTreeMap::new();
        Self { topics, counts }
    }

    /// Takes counts in; true if one differs from what the assignment was made from.
    pub(super) fn counts_differ(&mut self, counts: &BTreeMap<String, i32>) -> bool {
        let mut differ = false;
        for topic in &self.topics {
            if let Some(count) = counts.get(topic) {
                let known = self.counts.entry(topic.clone()).or_insert(*count);
                differ |= known != count;
            }
        }
        differ
    }
}
