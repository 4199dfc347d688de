//! The configuration file as written: raw TOML, every value with the place it stands at.
//!
//! [`super::Config`] turns it into checked values; nothing else reads it.
//!
//! Invariant: an unknown key is an error, so a misspelt key never silently keeps its default.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// All of the keys. Each is documented with its default in `systemd/forebay.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) mappings_dir: Option<Spanned<String>>,
    pub(super) state_dir: Option<Spanned<String>>,
    pub(super) runtime_dir: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) account_id: Option<Spanned<String>>,
    pub(super) endpoint_url: Option<Spanned<String>>,
    pub(super) use_fips_endpoint: Option<bool>,
    pub(super) use_dualstack_endpoint: Option<bool>,
    pub(super) ca_bundle: Option<Spanned<String>>,
    pub(super) grace_ms: Option<Spanned<u64>>,
    pub(super) memory_bytes: Option<Spanned<u64>>,
    pub(super) shards: Option<Spanned<u64>>,
    pub(super) log_format: Option<Spanned<String>>,
    pub(super) log_level: Option<Spanned<String>>,
    pub(super) client_rack: Option<Spanned<String>>,
    pub(super) isolation_level: Option<Spanned<String>>,
    pub(super) group_protocol: Option<Spanned<String>>,
    pub(super) session_timeout_ms: Option<Spanned<u64>>,
    pub(super) heartbeat_interval_ms: Option<Spanned<u64>>,
    pub(super) rebalance_timeout_ms: Option<Spanned<u64>>,
    pub(super) request_timeout_ms: Option<Spanned<u64>>,
    pub(super) node_id: Option<Spanned<String>>,
    pub(super) tls_bootstrap_servers: Option<Vec<Spanned<String>>>,
    pub(super) body_limit_bytes: Option<Spanned<u64>>,
    pub(super) on_oversized_record: Option<Spanned<String>>,
    pub(super) on_destination_failure: Option<Spanned<String>>,
    pub(super) filters_max: Option<Spanned<u64>>,
    pub(super) endpoint_urls: Option<EndpointUrlsFile>,
    #[serde(default)]
    pub(super) functions: BTreeMap<String, FunctionFile>,
}

/// `[endpoint_urls]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointUrlsFile {
    pub(super) secrets_manager: Option<Spanned<String>>,
    pub(super) sts: Option<Spanned<String>>,
    pub(super) sqs: Option<Spanned<String>>,
    pub(super) sns: Option<Spanned<String>>,
    pub(super) s3: Option<Spanned<String>>,
}

/// One `[functions.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionFile {
    pub(super) endpoint_url: Option<Spanned<String>>,
    pub(super) ca_bundle: Option<Spanned<String>>,
    pub(super) invoke_as: Option<Spanned<String>>,
    pub(super) role_arn: Option<Spanned<String>>,
    pub(super) signing: Option<Spanned<String>>,
    pub(super) max_in_flight: Option<Spanned<u64>>,
    pub(super) timeout_seconds: Option<Spanned<u64>>,
}
