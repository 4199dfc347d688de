//! ApiVersions (key 18): what a broker speaks. KIP-35, KIP-511.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::{EncodeError, put};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// The versions of one API that a broker speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API's wire key; may be one that Forebay does not know.
    pub api_key: i16,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

/// What a broker speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiVersionsResponse {
    /// `UNSUPPORTED_VERSION` means: ask again in version 0 (the ranges may still be filled in).
    pub error: ErrorCode,
    /// One entry for each API.
    pub ranges: Vec<ApiRange>,
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
}

/// Asks a broker what it speaks. Brokers take letters, digits, `-` and `.` in the name and version (KIP-511).
pub(super) fn encode(version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("forebay"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    put(&request, version, out)
}

impl ApiVersionsResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let error = ErrorCode(reader.i16("error_code")?);
        let ranges = reader.array("api_keys", 6, |reader| {
            let range = ApiRange {
                api_key: reader.i16("api_key")?,
                min: reader.i16("min_version")?,
                max: reader.i16("max_version")?,
            };
            reader.skip_tags("api_keys")?;
            Ok(range)
        })?;
        let throttled = version >= 1 && error != ErrorCode::UNSUPPORTED_VERSION;
        let throttle_ms = if throttled {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        reader.skip_tags("ApiVersionsResponse")?;
        Ok(Self {
            error,
            ranges,
            throttle_ms,
        })
    }
}

/// A reader of the answer to a request in that version. The header has no tagged fields in any version,
/// and a broker that lacks the version says so in version 0 (KIP-511).
pub(super) fn body_reader(version: i16, body: Bytes) -> Result<Reader, DecodeError> {
    let error = ErrorCode(Reader::new(body.clone(), false).i16("error_code")?);
    let flexible = version >= 3 && error != ErrorCode::UNSUPPORTED_VERSION;
    Ok(Reader::new(body, flexible))
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::ApiVersionsResponse as WireResponse;
    use kafka_protocol::messages::api_versions_response::{ApiVersion, SupportedFeatureKey};
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::ApiVersions;

    prop_compose! {
        fn any_response()(
            error in error_code(),
            ranges in few(any::<(i16, i16, i16)>()),
            throttle_ms in any::<i32>(),
        ) -> ApiVersionsResponse {
            let ranges = ranges.into_iter().map(|(api_key, min, max)| ApiRange { api_key, min, max });
            ApiVersionsResponse { error, ranges: ranges.collect(), throttle_ms }
        }
    }

    fn wire(told: &ApiVersionsResponse, version: i16) -> WireResponse {
        let range = |range: &ApiRange| {
            ApiVersion::default()
                .with_api_key(range.api_key)
                .with_min_version(range.min)
                .with_max_version(range.max)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let wire = WireResponse::default()
            .with_error_code(told.error.0)
            .with_api_keys(told.ranges.iter().map(range).collect())
            .with_throttle_time_ms(told.throttle_ms);
        if version < 3 {
            return wire;
        }
        wire.with_supported_features(vec![SupportedFeatureKey::default()])
            .with_finalized_features_epoch(3)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |mut response| {
                if response.error == ErrorCode::UNSUPPORTED_VERSION {
                    response.error = ErrorCode::NONE;
                }
                answer(API, version, &wire(&response, version))
            })
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(mut response in any_response()) {
            prop_assume!(response.error != ErrorCode::UNSUPPORTED_VERSION);
            for version in versions(API).rev() {
                if version < 1 {
                    response.throttle_ms = 0;
                }
                let read = read(API, version, &wire(&response, version));
                prop_assert_eq!(read, Response::ApiVersions(response.clone()), "version {}", version);
            }
        }

        #[test]
        fn refusal_is_read_in_version_0(mut response in any_response(), version in 0_i16..=4) {
            response.error = ErrorCode::UNSUPPORTED_VERSION;
            response.throttle_ms = 0;
            let body = answer(API, 0, &wire(&response, 0));
            let read = Response::decode(&asked(API, version), body);
            prop_assert_eq!(read, Ok(Response::ApiVersions(response)));
        }
    }

    #[test]
    fn request_tells_our_name_from_version_3_on() {
        for version in versions(API) {
            let read: ApiVersionsRequest = written(&Request::ApiVersions, version);
            let name = if version >= 3 { "forebay" } else { "" };
            assert_eq!(&*read.client_software_name, name);
        }
    }
}
