//! What the Kafka client is told, with Kafka's names.
//!
//! Invariant: a heartbeat that is lost twice still leaves time within the session.

use std::time::Duration;

use forebay_protocol::delivery::{Endpoint, GroupProtocol};

use toml::Spanned;

use super::file::ConfigFile;
use super::value::{choice, node_id, number};
use super::{Findings, server};

/// Settings of the Kafka client, with Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `client.rack`; empty for none.
    pub client_rack: String,
    /// `isolation.level`.
    pub read_committed: bool,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// `session.timeout.ms`.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// The rebalance timeout; `None` follows the call's deadline.
    pub rebalance_timeout: Option<Duration>,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// Makes members static.
    pub node_id: Option<String>,
    /// Brokers that are reached under TLS, whatever their mappings say.
    pub tls_servers: Vec<Endpoint>,
}

pub(super) fn kafka(file: &ConfigFile, findings: &mut Findings<'_>) -> KafkaConfig {
    let mut millis = |key, value: &Option<Spanned<u64>>, range, default| {
        Duration::from_millis(number(key, value.clone(), range, default, findings))
    };
    let session_timeout = millis(
        "session_timeout_ms",
        &file.session_timeout_ms,
        1_000..=3_600_000,
        45_000,
    );
    let heartbeat_interval = millis(
        "heartbeat_interval_ms",
        &file.heartbeat_interval_ms,
        100..=1_200_000,
        3_000,
    );
    let request_timeout = millis(
        "request_timeout_ms",
        &file.request_timeout_ms,
        1_000..=600_000,
        30_000,
    );
    let rebalance_timeout = file.rebalance_timeout_ms.is_some().then(|| {
        millis(
            "rebalance_timeout_ms",
            &file.rebalance_timeout_ms,
            1_000..=86_400_000,
            0,
        )
    });
    check_heartbeat(file, heartbeat_interval, session_timeout, findings);
    KafkaConfig {
        client_rack: file
            .client_rack
            .as_ref()
            .map(|rack| rack.get_ref().clone())
            .unwrap_or_default(),
        read_committed: choice(
            "isolation_level",
            file.isolation_level.clone(),
            &[("read_committed", true), ("read_uncommitted", false)],
            findings,
        ),
        group_protocol: choice(
            "group_protocol",
            file.group_protocol.clone(),
            &[
                ("classic", GroupProtocol::Classic),
                ("consumer", GroupProtocol::Consumer),
            ],
            findings,
        ),
        session_timeout,
        heartbeat_interval,
        rebalance_timeout,
        request_timeout,
        node_id: node_id(file.node_id.as_ref(), findings),
        tls_servers: server::servers(
            "tls_bootstrap_servers",
            file.tls_bootstrap_servers.clone(),
            findings,
        ),
    }
}

/// Why a third: the lease must survive two lost heartbeats, as Kafka advises for the same pair.
fn check_heartbeat(
    file: &ConfigFile,
    heartbeat_interval: Duration,
    session_timeout: Duration,
    findings: &mut Findings<'_>,
) {
    if heartbeat_interval * 3 > session_timeout {
        let key = "heartbeat_interval_ms";
        let message = format!(
            "must be at most a third of session_timeout_ms ({}); lower it or raise the other",
            session_timeout.as_millis()
        );
        match &file.heartbeat_interval_ms {
            Some(given) => findings.at(given.span(), key, given.get_ref(), message),
            None => findings.missing(key, message),
        }
    }
}
