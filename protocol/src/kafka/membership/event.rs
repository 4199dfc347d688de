//! What a membership tells its caller.

use crate::kafka::error::ErrorCode;

/// What a membership has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipEvent {
    /// A rebalance is over: we are a member of that generation. Heals any `Halt`. `Revoke` and
    /// `Assigned` follow where something changed.
    Joined {
        /// The generation.
        generation: i32,
    },
    /// These partitions are ours from now on, in addition.
    Assigned {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// Start no call of these any more, end the one in flight, commit, then call `released` for
    /// each. Under an eager assignor these are all that we own. If it takes longer than the group
    /// can wait, `Lost` follows.
    Revoke {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// These are no longer ours: nothing of them may start a call or commit. Do not release them.
    Lost {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// Whoever we took for the coordinator is not, or does not answer: look for it anew. All that
    /// was outstanding is void, and answers that still come must not be handed in.
    CoordinatorStale,
    /// We lead: answer with `set_partition_counts`. Said again when no answer comes.
    NeedPartitionCounts {
        /// Ascending; at least our own.
        topics: Vec<String>,
    },
    /// The coordinator does not serve the protocol of consumer groups: be a classic member.
    ConsumerProtocolUnsupported,
    /// An operator must act; `Joined` heals it.
    Halt(MembershipFault),
}

/// Why we are not let into the group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipFault {
    /// The group is denied to us.
    #[error("not authorized to access group {0}")]
    NotAuthorized(String),
    /// The members share no assignor with us.
    #[error("the members of group {0} offer neither cooperative-sticky nor range")]
    NoCommonAssignor(String),
    /// Another process has taken our static identity; we stay out until we are started anew.
    #[error(
        "another member of group {group} has taken the instance id {instance}: two nodes have one node_id, or one state_dir; give each its own, and restart this one"
    )]
    Fenced {
        /// The group.
        group: String,
        /// The static identity.
        instance: String,
    },
    /// The group has `group.max.size` members.
    #[error("group {0} has reached its maximum size")]
    GroupFull(String),
    /// The broker does not allow our session timeout.
    #[error("the broker refuses a session timeout of {0} ms")]
    SessionTimeout(u128),
    /// The coordinator keeps our static identity for a member that did not say goodbye.
    #[error("group {group} still holds the instance id {instance} for another member")]
    Unreleased {
        /// The group.
        group: String,
        /// The static identity.
        instance: String,
    },
    /// The members speak the classic protocol, and the broker does not migrate the group.
    #[error("group {0} has classic members, and the broker does not migrate it")]
    ClassicGroup(String),
    /// The coordinator refuses for another reason that does not pass.
    #[error("the coordinator of group {group} answers {error}")]
    Refused {
        /// The group.
        group: String,
        /// Its answer.
        error: ErrorCode,
    },
}
