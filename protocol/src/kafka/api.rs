//! The APIs that Forebay calls, by name and number.
//!
//! Sources: Kafka protocol guide, "Api Keys"; KIP-482 (flexible versions).
//!
//! Invariant: knows nothing of what an API carries.

use std::fmt;

/// The APIs that Forebay calls, by their wire key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "the names are Kafka's own")]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    SaslHandshake = 17,
    ApiVersions = 18,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    SaslAuthenticate = 36,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
}

impl ApiKey {
    /// All of them; the fuzzer's seeds name them by their place.
    pub const ALL: [Self; 19] = [
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::FindCoordinator,
        Self::JoinGroup,
        Self::Heartbeat,
        Self::LeaveGroup,
        Self::SyncGroup,
        Self::ApiVersions,
        Self::OffsetForLeaderEpoch,
        Self::ConsumerGroupHeartbeat,
        Self::SaslHandshake,
        Self::SaslAuthenticate,
        Self::Produce,
        Self::InitProducerId,
        Self::DescribeGroups,
        Self::ConsumerGroupDescribe,
    ];

    /// Whether that version has compact lengths and tagged fields.
    pub(super) const fn is_flexible(self, version: i16) -> bool {
        let first = match self {
            Self::Fetch => 12,
            Self::Produce | Self::Metadata => 9,
            Self::OffsetCommit => 8,
            Self::ListOffsets | Self::OffsetFetch | Self::JoinGroup => 6,
            Self::Heartbeat | Self::LeaveGroup | Self::SyncGroup | Self::OffsetForLeaderEpoch => 4,
            Self::DescribeGroups => 5,
            Self::FindCoordinator | Self::ApiVersions => 3,
            Self::SaslAuthenticate | Self::InitProducerId => 2,
            Self::ConsumerGroupHeartbeat | Self::ConsumerGroupDescribe => 0,
            // Whoever reads it does not know yet what the other side speaks (KIP-482).
            Self::SaslHandshake => i16::MAX,
        };
        version >= first
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
