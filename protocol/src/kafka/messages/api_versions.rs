//! ApiVersions (key 18): what a broker speaks. KIP-35, KIP-511.

use crate::kafka::error::ErrorCode;

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
