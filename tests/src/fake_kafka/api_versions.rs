//! ApiVersions (key 18), v0 to v4. A version that is too new is answered in v0 with UNSUPPORTED_VERSION
//! and all the ranges (KIP-511).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::VersionRange;

use super::{Call, FakeKafka};

/// What this broker can speak at most: where the crate's request and response schemas both reach.
const SPOKEN: [ApiKey; 19] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ApiVersions,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
];

pub(super) fn refuse(_: &ApiVersionsRequest, _: i16, code: i16) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(code)
}

impl FakeKafka {
    /// The versions of `api` that this broker speaks, if any.
    pub(super) fn spoken(&self, api: ApiKey) -> Option<VersionRange> {
        if !SPOKEN.contains(&api) || self.config.hidden_apis.contains(&(api as i16)) {
            return None;
        }
        if let Some(told) = self.config.told_versions.get(&(api as i16)) {
            return Some(*told);
        }
        let mut range = api.valid_versions();
        // OffsetFetch and OffsetCommit requests end at v9 in the crate, their answers at v10.
        if matches!(api, ApiKey::OffsetFetch | ApiKey::OffsetCommit) {
            range.max = range.max.min(9);
        }
        if let Some(max) = self.config.max_versions.get(&(api as i16)) {
            range.max = range.max.min(*max);
        }
        (range.min <= range.max).then_some(range)
    }

    pub(super) fn api_versions(&mut self, call: Call, _: ApiVersionsRequest) {
        let response = self.ranges();
        self.answer(&call, &response);
    }

    pub(super) fn api_versions_too_new(&mut self, mut call: Call) {
        call.version = 0;
        let response = self
            .ranges()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
        self.answer(&call, &response);
    }

    fn ranges(&self) -> ApiVersionsResponse {
        let ranges = SPOKEN.iter().filter_map(|api| {
            let range = self.spoken(*api)?;
            Some(
                ApiVersion::default()
                    .with_api_key(*api as i16)
                    .with_min_version(range.min)
                    .with_max_version(range.max),
            )
        });
        ApiVersionsResponse::default().with_api_keys(ranges.collect())
    }
}
