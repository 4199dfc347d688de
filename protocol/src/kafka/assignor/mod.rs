//! How a group shares out partitions: what members tell each other, and the assignors of a leader.
//!
//! The broker carries two blobs that only members read: a [`Subscription`] from each member to the
//! leader, an [`Assignment`] from the leader to each member. [`Assignor::assign`] is what a leader
//! does with them.
//!
//! Sources: KIP-54 and KIP-341 (sticky), KIP-429 (cooperative), KIP-792 (generation in the
//! subscription), KIP-881 (rack id; carried, but not assigned by).
//!
//! Invariant: another member's bytes are hostile: they never panic, never make us reserve more than
//! has arrived, and a member that cannot be read gets nothing instead of failing the group.

mod consumer_protocol;
mod range;
mod sticky;

pub use consumer_protocol::{Assignment, ConsumerProtocolError, Subscription, TopicPartitions};

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{GroupAssignment, GroupMember};

/// A way of sharing out partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Balanced, moves as little as possible, and moves in two steps: the old owner gives a partition
    /// up in one generation, the new one gets it in the next.
    CooperativeSticky,
    /// Consecutive partitions of each topic; eager: everybody gives all up before each rebalance.
    Range,
}

impl Assignor {
    /// The name that members agree on.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
        }
    }

    /// Whether a member keeps its partitions through a rebalance.
    pub const fn is_cooperative(self) -> bool {
        match self {
            Self::CooperativeSticky => true,
            Self::Range => false,
        }
    }

    /// Everybody's share. `counts` says how many partitions each topic has; a topic that is not in it
    /// does not exist.
    pub fn assign(
        self,
        members: &[GroupMember],
        counts: &BTreeMap<String, i32>,
    ) -> Vec<GroupAssignment> {
        let members = Member::read_all(members);
        let shares = match self {
            Self::CooperativeSticky => sticky::assign(&members, counts),
            Self::Range => range::assign(&members, counts),
        };
        assert_eq!(shares.len(), members.len(), "one share for each member");
        let encode = |(member, share): (&Member, Share)| GroupAssignment {
            member_id: member.id.clone(),
            assignment: Assignment::of(share).encode(),
        };
        members.iter().zip(shares).map(encode).collect()
    }
}

/// The topics that the members subscribe to, ascending.
pub fn subscribed_topics(members: &[GroupMember]) -> Vec<String> {
    let mut topics = BTreeSet::new();
    for member in Member::read_all(members) {
        topics.extend(member.subscription.topics);
    }
    topics.into_iter().collect()
}

/// One member as the leader sees it.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance_id: Option<String>,
    subscription: Subscription,
}

/// The partitions of one member, by topic.
type Share = BTreeMap<String, BTreeSet<i32>>;

impl Member {
    /// Reads every member's subscription, ascending by member id.
    fn read_all(members: &[GroupMember]) -> Vec<Self> {
        let read = |member: &GroupMember| Self {
            id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
            subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
        };
        let mut members: Vec<_> = members.iter().map(read).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members.dedup_by(|a, b| a.id == b.id);
        members
    }

    fn subscribes_to(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|name| name == topic)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn member(id: &str, metadata: Bytes) -> GroupMember {
        GroupMember {
            member_id: id.to_owned(),
            group_instance_id: None,
            metadata,
        }
    }

    fn subscribed(topics: &[&str]) -> Bytes {
        Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
            ..Subscription::default()
        }
        .encode()
    }

    #[test]
    fn a_member_that_cannot_be_read_gets_nothing() {
        let members = [
            member("a", Bytes::from_static(&[0, 0, 0x7f])),
            member("b", subscribed(&["t"])),
        ];
        let counts = BTreeMap::from([("t".to_owned(), 2)]);
        for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
            let shares = assignor.assign(&members, &counts);
            let read = |at: usize| Assignment::decode(&shares[at].assignment).unwrap();
            assert_eq!(read(0).partitions, []);
            assert_eq!(read(1).partitions[0].partitions, [0, 1]);
        }
    }

    #[test]
    fn topics_of_all_members_are_gathered() {
        let members = [
            member("a", subscribed(&["t", "u"])),
            member("b", subscribed(&["s", "t"])),
        ];
        assert_eq!(subscribed_topics(&members), ["s", "t", "u"]);
    }
}
