//! Which version of an API is spoken with a broker: the highest that both sides have. KIP-35.
//!
//! Our floor is what a broker 0.10.1.0 offers, our ceiling what `kafka-protocol` can encode; a request may
//! narrow that further by what it carries (a topic id, a static member).
//!
//! Invariant: a version outside of what a broker offered is never used.

use std::fmt;

use super::messages::{ApiKey, ApiRange, Request};

/// Versions of one API, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl VersionRange {
    /// From `min` up to and including `max`.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// The versions that are in both; `None` if there are none.
    fn common(self, other: Self) -> Option<Self> {
        let both = Self::new(self.min.max(other.min), self.max.min(other.max));
        (both.min <= both.max).then_some(both)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => write!(f, "{}", self.min),
            false => write!(f, "{} to {}", self.min, self.max),
        }
    }
}

/// A broker and Forebay have no version of an API in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The API.
    pub api: ApiKey,
    /// The versions that the broker offers; `None` when it lacks the API.
    pub offered: Option<VersionRange>,
    /// The versions that would do.
    pub needed: VersionRange,
}

/// Says of the broker what it speaks, and what is needed.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            api,
            offered,
            needed,
        } = self;
        let release = release(*api, needed.min);
        match offered {
            None => write!(
                f,
                "it does not have {api}, whose version {needed} is needed; Kafka has it from {release} on"
            ),
            Some(offered) if offered.min > needed.max => write!(
                f,
                "it is too new: of {api} it speaks version {offered}, and Forebay {needed}; a newer Forebay is needed"
            ),
            Some(offered) => write!(
                f,
                "it is too old: of {api} it speaks version {offered}, and {needed} is needed; Kafka has it from {release} on"
            ),
        }
    }
}

/// The Kafka that brought the version of an API that we need at least.
const fn release(api: ApiKey, least: i16) -> &'static str {
    match (api, least) {
        (ApiKey::JoinGroup, 5)
        | (ApiKey::SyncGroup | ApiKey::Heartbeat, 3)
        | (ApiKey::OffsetCommit, 7) => "2.3",
        _ => OLDEST,
    }
}

/// The oldest Kafka whose versions will do.
pub const OLDEST: &str = "0.10.1";

/// What a broker told of the APIs that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerVersions([Option<VersionRange>; ApiKey::ALL.len()]);

impl BrokerVersions {
    /// Keeps what concerns us; of an API that is listed twice the last entry counts.
    pub(super) fn new(told: &[ApiRange]) -> Self {
        Self(ApiKey::ALL.map(|api| {
            let found = told
                .iter()
                .rev()
                .find(|range| range.api_key == api as i16)?;
            Some(VersionRange::new(found.min, found.max))
        }))
    }

    /// What the broker speaks of that API.
    pub(super) fn offered(&self, api: ApiKey) -> Option<VersionRange> {
        let at = ApiKey::ALL.iter().position(|known| *known == api)?;
        self.0.get(at).copied().flatten()
    }

    /// The highest version that the broker offers within `wanted`.
    pub(super) fn choose(&self, api: ApiKey, wanted: VersionRange) -> Option<i16> {
        let common = self.offered(api)?.common(wanted)?;
        Some(common.max)
    }
}

/// The versions of an API that Forebay speaks.
pub const fn spoken(api: ApiKey) -> VersionRange {
    match api {
        // From 13 on a topic goes by its id.
        ApiKey::Produce => VersionRange::new(2, 12),
        ApiKey::InitProducerId => VersionRange::new(0, 5),
        ApiKey::Fetch => VersionRange::new(2, 18),
        ApiKey::ListOffsets => VersionRange::new(1, 10),
        ApiKey::Metadata => VersionRange::new(1, 13),
        ApiKey::OffsetCommit => VersionRange::new(2, 9),
        ApiKey::OffsetFetch => VersionRange::new(1, 9),
        ApiKey::FindCoordinator => VersionRange::new(0, 6),
        ApiKey::JoinGroup => VersionRange::new(1, 9),
        ApiKey::Heartbeat | ApiKey::ApiVersions => VersionRange::new(0, 4),
        ApiKey::LeaveGroup | ApiKey::SyncGroup => VersionRange::new(0, 5),
        ApiKey::OffsetForLeaderEpoch => VersionRange::new(2, 4),
        ApiKey::ConsumerGroupHeartbeat | ApiKey::ConsumerGroupDescribe | ApiKey::SaslHandshake => {
            VersionRange::new(0, 1)
        }
        ApiKey::DescribeGroups => VersionRange::new(0, 6),
        ApiKey::SaslAuthenticate => VersionRange::new(0, 2),
    }
}

/// The versions that can carry that request.
pub(super) fn able(request: &Request) -> VersionRange {
    let VersionRange { mut min, mut max } = spoken(request.api());
    match request {
        // From 13 on a topic goes by its id.
        Request::Fetch(fetch) if fetch.topic_id.is_nil() => max = 12,
        // Below these a static member would join as a dynamic one, and be taken for another.
        Request::JoinGroup(join) if join.group_instance_id.is_some() => min = 5,
        Request::SyncGroup(sync) if sync.group_instance_id.is_some() => min = 3,
        Request::Heartbeat(beat) if beat.group_instance_id.is_some() => min = 3,
        Request::OffsetCommit(commit) if commit.group_instance_id.is_some() => min = 7,
        Request::ApiVersions
        | Request::Metadata(_)
        | Request::FindCoordinator(_)
        | Request::JoinGroup(_)
        | Request::SyncGroup(_)
        | Request::Heartbeat(_)
        | Request::LeaveGroup(_)
        | Request::OffsetFetch(_)
        | Request::OffsetCommit(_)
        | Request::ListOffsets(_)
        | Request::OffsetForLeaderEpoch(_)
        | Request::Fetch(_)
        | Request::ConsumerGroupHeartbeat(_)
        | Request::SaslHandshake(_)
        | Request::SaslAuthenticate(_)
        | Request::Produce(_)
        | Request::InitProducerId
        | Request::DescribeGroups(_)
        | Request::ConsumerGroupDescribe(_) => {}
    }
    VersionRange { min, max }
}

/// Whether Forebay does without the API when a broker lacks it.
pub const fn is_optional(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::OffsetForLeaderEpoch
            | ApiKey::Produce
            | ApiKey::InitProducerId
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::DescribeGroups
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::SaslHandshake
            | ApiKey::SaslAuthenticate
    )
}
