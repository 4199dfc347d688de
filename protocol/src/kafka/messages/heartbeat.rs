//! Heartbeat (key 12): keeps a membership alive, and tells of a rebalance. KIP-345.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{GroupId, HeartbeatRequest as WireRequest};

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

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

/// Whether the membership lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// What has become of the membership.
    pub error: ErrorCode,
}

impl HeartbeatRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_generation_id(self.generation_id)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.group_instance_id.as_deref().map(text));
        put(&request, version, out)
    }
}

impl HeartbeatResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 1 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let error = ErrorCode(reader.i16("error_code")?);
        reader.skip_tags("HeartbeatResponse")?;
        Ok(Self { throttle_ms, error })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::HeartbeatResponse as WireResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::Heartbeat;

    prop_compose! {
        fn told()(throttle_ms in any::<i32>(), error in error_code()) -> HeartbeatResponse {
            HeartbeatResponse { throttle_ms, error }
        }
    }

    fn wire(told: &HeartbeatResponse) -> WireResponse {
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_error_code(told.error.0)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        told()
            .prop_map(move |told| answer(API, version, &wire(&told)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(mut told in told()) {
            for version in versions(API).rev() {
                if version < 1 {
                    told.throttle_ms = 0;
                }
                let read = read(API, version, &wire(&told));
                prop_assert_eq!(read, Response::Heartbeat(told.clone()), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            generation_id in any::<i32>(),
            member_id in label(),
            group_instance_id in proptest::option::of(label()),
        ) {
            let group_id = GROUP.to_owned();
            let mut request = HeartbeatRequest { group_id, generation_id, member_id, group_instance_id };
            for version in versions(API).rev() {
                if version < 3 {
                    request.group_instance_id = None;
                }
                let read: WireRequest = written(&Request::Heartbeat(request.clone()), version);
                prop_assert_eq!((&*read.group_id.0, read.generation_id), (GROUP, generation_id));
                prop_assert_eq!(&*read.member_id, &*request.member_id);
                prop_assert_eq!(read.group_instance_id.as_deref(), request.group_instance_id.as_deref());
            }
        }
    }
}
