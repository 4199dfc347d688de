//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup (keys 11, 14, 12, 13): the classic group protocol.
//! KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member id required), KIP-559.

use bytes::Bytes;

use crate::kafka::error::ErrorCode;

/// One way of assigning that a member offers, with its subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProtocol {
    /// The assignor's name.
    pub name: String,
    /// The encoded subscription (`ConsumerProtocolSubscription`).
    pub metadata: Bytes,
}

/// Asks to become, or to stay, a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupRequest {
    /// The group.
    pub group_id: String,
    /// After how long without a heartbeat the coordinator gives the member up, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the coordinator waits for members to rejoin, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Our id; empty the first time.
    pub member_id: String,
    /// Our static identity, if any (v5).
    pub group_instance_id: Option<String>,
    /// The assignors we offer, the preferred first.
    pub protocols: Vec<GroupProtocol>,
    /// Why we join, for the broker's log (v8).
    pub reason: Option<String>,
}

/// One member, as told to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its static identity, if any.
    pub group_instance_id: Option<String>,
    /// Its subscription, encoded.
    pub metadata: Bytes,
}

/// A membership for one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why we are not in.
    pub error: ErrorCode,
    /// The generation; -1 with an error.
    pub generation_id: i32,
    /// The assignor that the group chose.
    pub protocol_name: String,
    /// The leader's member id.
    pub leader: String,
    /// Our member id.
    pub member_id: String,
    /// All members, if we lead and have to assign; else empty.
    pub members: Vec<GroupMember>,
    /// We lead, but a static member's return changed nothing and the broker keeps the assignment (v9).
    pub skip_assignment: bool,
}

/// One member's share, as the leader sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAssignment {
    /// The member.
    pub member_id: String,
    /// Its encoded assignment (`ConsumerProtocolAssignment`).
    pub assignment: Bytes,
}

/// Asks for our share, and brings everybody's if we lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupRequest {
    /// The group.
    pub group_id: String,
    /// The generation we joined.
    pub generation_id: i32,
    /// Our id.
    pub member_id: String,
    /// Our static identity, if any.
    pub group_instance_id: Option<String>,
    /// The assignor that the group chose (v5).
    pub protocol_name: String,
    /// Everybody's share, if we lead.
    pub assignments: Vec<GroupAssignment>,
}

/// Our share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The encoded assignment; empty means none.
    pub assignment: Bytes,
}

/// Keeps the membership alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The generation we joined.
    pub generation_id: i32,
    /// Our id.
    pub member_id: String,
    /// Our static identity, if any.
    pub group_instance_id: Option<String>,
}

/// Ends the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group_id: String,
    /// Our id.
    pub member_id: String,
    /// Why we leave, for the broker's log (v5).
    pub reason: Option<String>,
}
