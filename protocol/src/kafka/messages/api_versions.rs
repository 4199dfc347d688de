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
