//! One file of `mappings.d`, checked against AWS's bounds (contract 7.3) with AWS's messages (7.8).
//!
//! Invariant: a mapping that comes out of here can be served as it stands.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use forebay_protocol::delivery::{Endpoint, StartingPosition};
use forebay_protocol::limits::{BATCH_SIZE_MAX, CALL_DEADLINE_DEFAULT, CALL_DEADLINE_MARGIN};
use toml::{Spanned, Value};
use uuid::Uuid;

use super::constraint::{integer, length_constraint, list, null, violation};
use super::file::{EventSourceFile, MappingFile, PollersFile};
use super::{
    Access, Destination, Function, KafkaSettings, Mapping, access, destination, filters, function,
    retry, timestamp,
};
use crate::clock;
use crate::config::{Config, Findings, Problem, bootstrap_server, without_userinfo};

/// Files without a `UUID` member get version 5 of their stem in this namespace (decision 30).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2b_0f5c_9b1d_4c9e_8a57_3d0c_f04e_ba11);

/// Where the members are documented.
const REFERENCE: &str = "members are those of AWS's CreateEventSourceMapping, spelt as there; systemd/mapping.toml has them all";

const BATCH_SIZE_DEFAULT: u32 = 100;
const WINDOW_SECONDS_MAX: i64 = 300;
const POLLERS_DEFAULT: (u32, u32) = (1, 200);
const MINIMUM_POLLERS_MAX: i64 = 200;
const MAXIMUM_POLLERS_MAX: i64 = 2_000;
const ENDPOINTS_MAX: usize = 10;
const GROUP_ID_LENGTH_MAX: usize = 200;
const TOPIC_LENGTH_MAX: usize = 249;

/// A rebalance may always take this long, and a call's deadline plus [`REBALANCE_MARGIN`] if that is
/// longer (decision 34).
const REBALANCE_TIMEOUT_MIN: Duration = Duration::from_secs(300);
const REBALANCE_MARGIN: Duration = Duration::from_secs(30);

/// Checks the text of the file at `path`.
pub(super) fn parse(text: &str, path: &Path, config: &Config) -> Result<Mapping, Vec<Problem>> {
    let mut findings = Findings::new(path, text);
    let mapping = match toml::from_str::<MappingFile>(text) {
        Ok(file) => build(&file, path, config, &mut findings),
        Err(error) => {
            findings.toml(&error, REFERENCE);
            None
        }
    };
    match mapping {
        Some(mapping) if findings.problems.is_empty() => Ok(mapping),
        _ => Err(findings.problems),
    }
}

/// `None` only if something was found.
fn build(
    file: &MappingFile,
    path: &Path,
    config: &Config,
    findings: &mut Findings<'_>,
) -> Option<Mapping> {
    for refused in file.refused() {
        let value = refused.value.map(Value::to_string).unwrap_or_default();
        findings.at(refused.span, refused.member, value, refused.message);
    }
    let uuid = uuid(file.uuid.as_ref(), path, findings);
    let function = function_of(file.function_name.as_ref(), config, findings);
    let bootstrap = bootstrap(file.self_managed_event_source.as_ref(), findings);
    let tls = bootstrap
        .iter()
        .flatten()
        .any(|server| config.kafka.tls_servers.contains(server));
    let access = access_of(file, function.as_ref(), tls, findings);
    let topic = topic(file.topics.as_ref(), findings);
    let starting_position = starting_position(file, findings);
    let batch_size = integer(
        "BatchSize",
        file.batch_size.as_ref(),
        1..=i64::from(BATCH_SIZE_MAX),
        findings,
    );
    let window = integer(
        "MaximumBatchingWindowInSeconds",
        file.maximum_batching_window_in_seconds.as_ref(),
        0..=WINDOW_SECONDS_MAX,
        findings,
    );
    let destination = destination_of(file, function.as_ref(), topic.as_deref(), config, findings);
    let retry = retry::policy(file, destination.is_some(), findings);
    let pollers = pollers(file.provisioned_poller_config.as_ref(), findings);
    let filters = filters::filters(file.filter_criteria.as_ref(), config.filters_max, findings);
    let group_id = group_id_or(file.consumer_group_id(), uuid, findings);
    let (function, bootstrap, topic) = (function?, bootstrap?, topic?);
    let call_deadline = initial_call_deadline(&function);
    Some(Mapping {
        uuid: uuid?,
        bootstrap_servers: servers_text(&bootstrap),
        bootstrap,
        access,
        topic,
        group_id,
        starting_position,
        batch_size: batch_size.map_or(BATCH_SIZE_DEFAULT, |size| size.unsigned_abs() as u32),
        window_seconds: window.map(|seconds| seconds.unsigned_abs() as u16),
        filters,
        enabled: file.enabled.unwrap_or(true),
        pollers,
        retry,
        destination,
        drop_undelivered: config.drop_undelivered,
        on_oversized: config.on_oversized,
        body_limit: config.body_limit,
        kafka: kafka_settings(config, call_deadline),
        function,
    })
}

/// What the node's configuration says to the mapping's consumers.
fn kafka_settings(config: &Config, call_deadline: Duration) -> KafkaSettings {
    KafkaSettings {
        client_rack: config.kafka.client_rack.clone(),
        read_committed: config.kafka.read_committed,
        group_protocol: config.kafka.group_protocol,
        session_timeout: config.kafka.session_timeout,
        heartbeat_interval: config.kafka.heartbeat_interval,
        rebalance_timeout: config
            .kafka
            .rebalance_timeout
            .unwrap_or(REBALANCE_TIMEOUT_MIN.max(call_deadline + REBALANCE_MARGIN)),
        request_timeout: config.kafka.request_timeout,
        node_id: config.kafka.node_id.clone(),
    }
}

fn destination_of(
    file: &MappingFile,
    function: Option<&Function>,
    topic: Option<&str>,
    config: &Config,
    findings: &mut Findings<'_>,
) -> Option<Destination> {
    let beside = destination::Beside {
        config,
        topic,
        region: function.and_then(|function| function.key.region.as_deref()),
    };
    destination::destination(file.destination_config.as_ref(), beside, findings)
}

/// `tls`: the node's configuration asks for it.
fn access_of(
    file: &MappingFile,
    function: Option<&Function>,
    tls: bool,
    findings: &mut Findings<'_>,
) -> Access {
    let entries = file.source_access_configurations.as_ref();
    let role_arn = function.and_then(|function| function.role_arn.as_deref());
    access::access(entries, tls, role_arn, findings)
}

/// The deadline of calls until the endpoint has told the function's timeout.
pub fn initial_call_deadline(function: &Function) -> Duration {
    function.timeout.map_or(CALL_DEADLINE_DEFAULT, |timeout| {
        timeout + CALL_DEADLINE_MARGIN
    })
}

fn uuid(given: Option<&Spanned<String>>, path: &Path, findings: &mut Findings<'_>) -> Option<Uuid> {
    let Some(given) = given else {
        let stem = path.file_stem().unwrap_or_default();
        return Some(Uuid::new_v5(&NAMESPACE, stem.as_encoded_bytes()));
    };
    let uuid = Uuid::try_parse(given.get_ref()).ok();
    if uuid.is_none() || given.get_ref().len() != 36 {
        let message =
            "must be a UUID of 36 characters; leave it out to derive it from the file's name";
        findings.at(given.span(), "UUID", given.get_ref(), message);
    }
    uuid
}

fn function_of(
    given: Option<&Spanned<String>>,
    config: &Config,
    findings: &mut Findings<'_>,
) -> Option<Function> {
    let Some(given) = given else {
        findings.missing("FunctionName", null("functionName"));
        return None;
    };
    function::resolve(given.get_ref(), config)
        .inspect_err(|message| {
            findings.at(given.span(), "FunctionName", given.get_ref(), message);
        })
        .ok()
}

fn bootstrap(
    source: Option<&EventSourceFile>,
    findings: &mut Findings<'_>,
) -> Option<Vec<Endpoint>> {
    let member = "SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS";
    let Some(source) = source else {
        let message = "Unrecognized event source. Give KAFKA_BOOTSTRAP_SERVERS = [\"host:port\"] under \
                       [SelfManagedEventSource.Endpoints]";
        findings.missing("SelfManagedEventSource", message);
        return None;
    };
    let servers = &source.endpoints.kafka_bootstrap_servers;
    let count = servers.get_ref().len();
    if count == 0 || count > ENDPOINTS_MAX {
        let constraint = length_constraint(count, 1, ENDPOINTS_MAX);
        let message = violation(
            &list(
                servers
                    .get_ref()
                    .iter()
                    .map(|it| without_userinfo(it.get_ref())),
            ),
            "selfManagedEventSource.endpoints",
            &constraint,
        );
        findings.at(servers.span(), member, format!("{count} entries"), message);
        return None;
    }
    let mut endpoints = Vec::with_capacity(count);
    for server in servers.get_ref() {
        match bootstrap_server(server.get_ref()) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(message) => findings.at(server.span(), member, server.get_ref(), message),
        }
    }
    (endpoints.len() == count).then_some(endpoints)
}

fn servers_text(servers: &[Endpoint]) -> String {
    let texts: Vec<_> = servers
        .iter()
        .map(|Endpoint { host, port }| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        })
        .collect();
    texts.join(",")
}

fn topic(topics: Option<&Spanned<Vec<String>>>, findings: &mut Findings<'_>) -> Option<String> {
    let Some(topics) = topics else {
        findings.missing("Topics", null("topics"));
        return None;
    };
    let [topic] = topics.get_ref().as_slice() else {
        let constraint = length_constraint(topics.get_ref().len(), 1, 1);
        let text = list(topics.get_ref());
        let message = violation(&text, "topics", &constraint);
        findings.at(topics.span(), "Topics", &text, message);
        return None;
    };
    // AWS's pattern wants two characters and allows anything but a dot first; Kafka allows these only.
    let valid = (2..=TOPIC_LENGTH_MAX).contains(&topic.len())
        && !topic.starts_with('.')
        && topic
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !valid {
        let text = list([topic]);
        let message = violation(
            &text,
            "topics",
            "Member must satisfy constraint: [Member must have length less than or equal to 249, \
             Member must have length greater than or equal to 1, Member must satisfy regular \
             expression pattern: [^.]([a-zA-Z0-9\\-_.]+)]",
        );
        findings.at(topics.span(), "Topics", text, message);
    }
    valid.then(|| topic.clone())
}

fn starting_position(file: &MappingFile, findings: &mut Findings<'_>) -> StartingPosition {
    let key = "StartingPositionTimestamp";
    let at = file.starting_position_timestamp.as_ref();
    let position = match file.starting_position.as_ref() {
        None => StartingPosition::TrimHorizon,
        Some(given) => match given.get_ref().as_str() {
            "TRIM_HORIZON" => StartingPosition::TrimHorizon,
            "LATEST" => StartingPosition::Latest,
            "AT_TIMESTAMP" => return at_timestamp(given.span(), at, findings),
            other => {
                let message = violation(
                    other,
                    "startingPosition",
                    "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]",
                );
                findings.at(given.span(), "StartingPosition", other, message);
                StartingPosition::TrimHorizon
            }
        },
    };
    if let Some(at) = at {
        let message = "is for StartingPosition = \"AT_TIMESTAMP\" only; set that or remove this";
        findings.at(at.span(), key, at.get_ref(), message);
    }
    position
}

fn at_timestamp(
    position: Range<usize>,
    given: Option<&Spanned<Value>>,
    findings: &mut Findings<'_>,
) -> StartingPosition {
    let key = "StartingPositionTimestamp";
    let Some(given) = given else {
        let message = "needs StartingPositionTimestamp: seconds since 1970, or a TOML date-time with an offset";
        findings.at(position, "StartingPosition", "AT_TIMESTAMP", message);
        return StartingPosition::TrimHorizon;
    };
    let now = i64::try_from(clock::unix_now().as_millis()).unwrap_or(i64::MAX);
    match timestamp::unix_millis(given.get_ref()) {
        Some(millis) if (0..=now).contains(&millis) => StartingPosition::AtTimestamp(millis),
        Some(_) => {
            let message = "must not be in the future nor before 1970";
            findings.at(given.span(), key, given.get_ref(), message);
            StartingPosition::TrimHorizon
        }
        None => {
            let message = "must be seconds since 1970, or a TOML date-time with an offset such as 2026-01-31T12:00:00Z";
            findings.at(given.span(), key, given.get_ref(), message);
            StartingPosition::TrimHorizon
        }
    }
}

fn group_id_or(
    given: Option<&Spanned<String>>,
    uuid: Option<Uuid>,
    findings: &mut Findings<'_>,
) -> String {
    let Some(given) = given else {
        return uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
    };
    let valid = (1..=GROUP_ID_LENGTH_MAX).contains(&given.get_ref().len())
        && given.get_ref().bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b' ' | b'-' | b'/' | b'*' | b':' | b'_' | b'+' | b'=' | b'.' | b'@'
                )
        });
    if !valid {
        let member = "SelfManagedKafkaEventSourceConfig.ConsumerGroupId";
        let message = violation(
            given.get_ref(),
            "selfManagedKafkaEventSourceConfig.consumerGroupId",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9-\\/*:_+=.@-]* and have length \
             between 1 and 200",
        );
        findings.at(given.span(), member, given.get_ref(), message);
    }
    given.get_ref().clone()
}

fn pollers(file: Option<&PollersFile>, findings: &mut Findings<'_>) -> Option<(u32, u32)> {
    let file = file?;
    let mut one = |key, value: Option<&Spanned<i64>>, max| {
        integer(key, value, 1..=max, findings).map(|count| count.unsigned_abs() as u32)
    };
    let minimum = one(
        "ProvisionedPollerConfig.MinimumPollers",
        file.minimum_pollers.as_ref(),
        MINIMUM_POLLERS_MAX,
    );
    let maximum = one(
        "ProvisionedPollerConfig.MaximumPollers",
        file.maximum_pollers.as_ref(),
        MAXIMUM_POLLERS_MAX,
    );
    // AWS: an empty ProvisionedPollerConfig is on demand.
    if minimum.is_none() && maximum.is_none() {
        return None;
    }
    let minimum = minimum.unwrap_or(POLLERS_DEFAULT.0);
    let highest = maximum.unwrap_or(POLLERS_DEFAULT.1);
    if let (true, Some(given)) = (highest != minimum, &file.maximum_pollers) {
        let message = if highest < minimum {
            format!("must be at least MinimumPollers ({minimum})")
        } else {
            format!(
                "this version does not scale by itself: set it to MinimumPollers ({minimum}), or leave it out"
            )
        };
        let key = "ProvisionedPollerConfig.MaximumPollers";
        findings.at(given.span(), key, given.get_ref(), message);
    }
    Some((minimum, highest))
}
