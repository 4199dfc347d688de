//! What the broker remembers for assertions: changes of groups, and every commit.
//!
//! Invariant: nothing is ever taken out; the order is that of time. A cluster that forgets what is committed
//! remembers no commit.

use forebay_protocol::time::Instant;

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// When.
    pub at: Instant,
    /// Which group.
    pub group: String,
    /// What.
    pub change: GroupChange,
}

/// What may happen to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// A member came.
    Joined {
        /// Its id.
        member: String,
        /// Its instance id, if it is static.
        instance: Option<String>,
    },
    /// A static member came back under a new id.
    Replaced {
        /// The id that is fenced now.
        old: String,
        /// The id that stands now.
        new: String,
    },
    /// A rebalance began.
    Rebalancing {
        /// Why.
        reason: &'static str,
    },
    /// Everyone has joined: a new generation.
    Generation {
        /// Its number.
        generation: i32,
        /// The assignor.
        protocol: String,
        /// Its members.
        members: Vec<String>,
    },
    /// The leader has assigned.
    Assigned {
        /// The generation.
        generation: i32,
    },
    /// A member is gone.
    Left {
        /// Its id.
        member: String,
        /// Why.
        reason: &'static str,
    },
    /// Nobody is left.
    Emptied,
}

/// One accepted commit of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When.
    pub at: Instant,
    /// The group.
    pub group: String,
    /// Who.
    pub member: String,
    /// In which generation; -1 from outside the group's membership.
    pub generation: i32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The epoch that went with it; -1 for none.
    pub leader_epoch: i32,
    /// The text that went with it.
    pub metadata: String,
}
