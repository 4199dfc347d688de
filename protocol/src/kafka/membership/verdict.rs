//! What a coordinator's error code means for a member.
//!
//! Source: Java's AbstractCoordinator and GroupMetadataManager, for which codes may come and why.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::kafka::error::ErrorCode;

/// A coordinator's answer, by who must do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Accepted,
    /// Join again with the member id that came along (KIP-394).
    MemberIdRequired,
    /// Whoever we asked is not the coordinator, or not any more: look for it.
    StaleCoordinator,
    /// The group is being rebalanced: join again.
    Rebalancing,
    /// Our generation is over.
    IllegalGeneration,
    /// The coordinator does not know us.
    UnknownMember,
    /// Another process has taken our static identity.
    Fenced,
    /// The members share no assignor with us.
    Inconsistent,
    /// The group is full, and we are not in it.
    GroupFull,
    /// An operator must act.
    Refused,
    /// The same again later: the coordinator loads the group, or something unforeseen.
    Later,
}

impl Verdict {
    /// Reads a code. What is not listed here is unforeseen and tried again.
    pub(super) fn of(error: ErrorCode) -> Self {
        match error {
            ErrorCode::NONE => Self::Accepted,
            ErrorCode::MEMBER_ID_REQUIRED => Self::MemberIdRequired,
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                Self::StaleCoordinator
            }
            ErrorCode::REBALANCE_IN_PROGRESS => Self::Rebalancing,
            ErrorCode::ILLEGAL_GENERATION => Self::IllegalGeneration,
            ErrorCode::UNKNOWN_MEMBER_ID => Self::UnknownMember,
            ErrorCode::FENCED_INSTANCE_ID => Self::Fenced,
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL => Self::Inconsistent,
            ErrorCode::GROUP_MAX_SIZE_REACHED => Self::GroupFull,
            ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::INVALID_GROUP_ID
            | ErrorCode::INVALID_SESSION_TIMEOUT
            | ErrorCode::UNSUPPORTED_VERSION => Self::Refused,
            _ => Self::Later,
        }
    }
}
