//! `forebay check`: what is wrong with the world around a configuration, line by line.
//!
//! Invariant: it changes nothing out there: no group is joined, no topic created, no function called; and nothing is
//! written to destinations but by [`probe`], which is asked for.

mod destination;
mod failed_topic;
mod node;
mod running;
mod secrets;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Endpoint;
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, MetadataResponse,
    PartitionMetadata, Request, Response,
};

use super::access::{self, Read};
use super::aws::{Aws, Keys, Settings, credentials};
use super::destinations::Writer;
use super::function::{self, Answer};
use super::probe::{Kind, Probe, Unfit};
use crate::config::Config;
use crate::contract::{Access, Credentials};
use crate::mapping::{Declared, Function, Mapping, Signing};

pub use destination::probe;

/// A broker that is still electing a coordinator is asked this often, a second apart.
const COORDINATOR_TRIES: u32 = 10;
const COORDINATOR_WAIT: Duration = Duration::from_secs(1);

/// What is said of who answers nobody without keys; that there are none is said by itself.
const WITHOUT_KEYS: &str = "not asked, for want of credentials";

/// Mappings that a line names one by one.
const NAMES_MAX: usize = 5;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    subject: String,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Right,
    Note,
    Problem,
}

impl Finding {
    /// Whether an operator must act.
    pub fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Right => "right",
            Severity::Note => "note",
            Severity::Problem => "problem",
        };
        write!(f, "{severity}: {}: {}", self.subject, self.message)
    }
}

/// Collects the lines.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    /// Takes over what another says of these mappings.
    fn take(&mut self, of: &[&str], other: Self) {
        let of = match of {
            [one] => format!("mapping {one}"),
            [first, .., last] if of.len() > NAMES_MAX => {
                format!("{} mappings, {first} to {last}", of.len())
            }
            several => format!("mappings {}", several.join(", ")),
        };
        self.0.extend(other.0.into_iter().map(|finding| Finding {
            subject: format!("{of}: {}", finding.subject),
            ..finding
        }));
    }

    fn add(&mut self, severity: Severity, subject: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding {
            severity,
            subject: subject.into(),
            message: message.into(),
        });
    }
}

/// What the files say that is right and has no effect, and what the secrets of this machine hold. Nobody is asked.
pub async fn inside(config: &Config, set: &[Declared]) -> Vec<Finding> {
    let mut report = Report::default();
    node::files(config, set, &mut report);
    let aws = Aws::new(Settings::of(config), Keys::fixed(None));
    for declared in needed(set).filter(|declared| !declared.mapping.access.is_managed()) {
        let mut own = Report::default();
        let read = access::read(&declared.mapping, &aws).await;
        secrets::of_mapping(&declared.mapping, &read, &mut own);
        report.take(&[&declared.name()], own);
    }
    report.0
}

/// Asks brokers, endpoints, AWS and its credentials chain, and tries the node's own address. What this machine has is
/// left to [`inside`].
pub async fn outside(config: &Config, set: &[Declared]) -> Vec<Finding> {
    let mut report = Report::default();
    node::listen(config.listen, &mut report).await;
    running::compare(config, set, &mut report).await;
    let settings = Settings::of(config);
    let enabled = || set.iter().filter(|declared| declared.mapping.enabled);
    let signs = enabled().any(|declared| declared.mapping.function.signing != Signing::None);
    if let (true, Some(region)) = (signs, &config.region) {
        let message = format!("{}, from {}", region.name, region.source);
        report.add(Severity::Right, "region", message);
    }
    let managed = needed(set).any(|declared| declared.mapping.access.is_managed());
    let writes = set
        .iter()
        .any(|declared| declared.mapping.writes_to_service());
    let keys = match signs || managed || writes {
        true => keys(&settings, &mut report).await,
        false => None,
    };
    let aws = Arc::new(Aws::new(settings, Keys::fixed(keys.clone())));
    let writer = Writer::over(Arc::clone(&aws));
    for declared in needed(set) {
        let mut own = Report::default();
        let read = access::read(&declared.mapping, &aws).await;
        if declared.mapping.access.is_managed() {
            secrets::of_mapping(&declared.mapping, &read, &mut own);
        }
        kafka(&declared.mapping, &read, &mut own).await;
        if declared.mapping.writes_to_service() {
            destination::look(&writer, keys.is_some(), &declared.mapping, &mut own).await;
        }
        report.take(&[&declared.name()], own);
    }
    let mut functions: BTreeMap<_, (&Function, Vec<String>)> = BTreeMap::new();
    for declared in enabled() {
        let function = &declared.mapping.function;
        let entry = functions.entry(function::id(function));
        let (_, names) = entry.or_insert((function, Vec::new()));
        names.push(declared.name());
    }
    for (function, names) in functions.values() {
        let mut own = Report::default();
        ask_function(function, keys.as_ref(), &mut own).await;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        report.take(&names, own);
    }
    report.0
}

/// The mappings that have a use for brokers.
fn needed(set: &[Declared]) -> impl Iterator<Item = &Declared> {
    set.iter().filter(|declared| declared.mapping.runs())
}

async fn keys(settings: &Settings, report: &mut Report) -> Option<Credentials> {
    match credentials::fetch(settings).await {
        Ok((keys, _)) => {
            report.add(Severity::Right, "credentials", "found");
            Some(keys)
        }
        Err(error) => {
            report.add(Severity::Problem, "credentials", error.to_string());
            None
        }
    }
}

async fn ask_function(function: &Function, keys: Option<&Credentials>, report: &mut Report) {
    let subject = format!("function {} at {}", function.name, function.host_header);
    if keys.is_none() && function.signing != Signing::None {
        report.add(Severity::Note, subject, WITHOUT_KEYS);
        return;
    }
    let client = match function::client(function).await {
        Ok(client) => client,
        Err(error) => {
            let message = format!("its endpoint cannot be asked ({error}); correct ca_bundle");
            report.add(Severity::Problem, subject, message);
            return;
        }
    };
    let answer = function::ask(&client, function, keys).await;
    if let Answer::Known { .. } | Answer::Denied(_) = answer
        && function.signing != Signing::None
        && let Some(reason) = function::refusal(&client, function, keys).await
    {
        let message = format!(
            "may not be called ({reason}); allow lambda:InvokeFunction on it to the node's principal, and mend the keys if they are refused"
        );
        report.add(Severity::Problem, subject.clone(), message);
    }
    function_answer(function, subject, answer, report);
}

fn function_answer(function: &Function, subject: String, answer: Answer, report: &mut Report) {
    match answer {
        Answer::Known { timeout, allowed } if timeout > allowed => {
            let message = format!(
                "its timeout of {} s is over the {} s that an event source mapping allows; lower it",
                timeout.as_secs(),
                allowed.as_secs()
            );
            report.add(Severity::Problem, subject, message);
        }
        Answer::Known { timeout, .. } => {
            let message = format!("exists, timeout {} s", timeout.as_secs());
            report.add(Severity::Right, subject, message);
        }
        Answer::Missing => {
            let message = "Function does not exist; create it or correct FunctionName";
            report.add(Severity::Problem, subject, message);
        }
        Answer::Denied(reason) => {
            let message = format!(
                "its configuration may not be read ({reason}); allow lambda:GetFunctionConfiguration on it to the node's principal, \
                 or give its timeout_seconds"
            );
            report.add(Severity::Note, subject, message);
        }
        Answer::Unable(reason) => {
            let message =
                format!("accepted unseen, the endpoint does not say whether it exists ({reason})");
            report.add(Severity::Note, subject, message);
        }
        Answer::Untrusted(reason) => {
            let (ours, place) = match &function.ca_bundle {
                Some(bundle) => (format!("ca_bundle {}", bundle.display()), "there"),
                None => (
                    "the system's roots".to_owned(),
                    "into a PEM file, and name that as ca_bundle",
                ),
            };
            let message = format!(
                "its certificate is not trusted ({reason}); it is held against {ours}: put the root of its issuer {place} \
                 (forebay.toml: for the node, or under [functions.NAME]), or correct endpoint_url"
            );
            report.add(Severity::Problem, subject, message);
        }
        Answer::Misfit(reason) => report.add(Severity::Problem, subject, reason),
        Answer::Unreachable(reason) => {
            let message =
                format!("endpoint not reached ({reason}); start it or correct endpoint_url");
            report.add(Severity::Problem, subject, message);
        }
    }
}

async fn kafka(mapping: &Mapping, read: &[Read], report: &mut Report) {
    // What is wrong with them is said by itself.
    let Ok(access) = access::of_brokers(mapping, read) else {
        let subject = format!("brokers of topic {}", mapping.topic);
        report.add(Severity::Note, subject, "not asked, for want of a secret");
        return;
    };
    let way = Way {
        access: &access,
        timeout: mapping.kafka.request_timeout,
    };
    let mut first = None;
    for endpoint in &mapping.bootstrap {
        match way.open(endpoint).await {
            Ok(probe) => {
                report.add(Severity::Right, broker(endpoint), "reached");
                first = first.or(Some((probe, endpoint)));
            }
            Err(error) => {
                let message = match error.kind {
                    Kind::Refusal => format!(
                        "is of no use ({error}); mend SourceAccessConfigurations or what they name"
                    ),
                    Kind::Misfit => format!("is of no use ({error})"),
                    Kind::Unreachable => format!(
                        "cannot be reached ({error}); start it, open the way to it, or correct KAFKA_BOOTSTRAP_SERVERS"
                    ),
                };
                report.add(Severity::Problem, broker(endpoint), message);
            }
        }
    }
    let Some((mut probe, endpoint)) = first else {
        return;
    };
    match probe.metadata(&mapping.topic).await {
        Ok(metadata) => {
            topic(mapping, &metadata, report);
            failed_topic::look(mapping, &mut probe, report).await;
            advertised(mapping, way, &metadata, report).await;
            start::at_timestamp(mapping, way, &mut probe, &metadata, report).await;
        }
        Err(error) => {
            // Nothing more comes over that connection.
            let message = format!("is of no use ({error})");
            report.add(Severity::Problem, broker(endpoint), message);
            return;
        }
    }
    group(mapping, way, &mut probe, report).await;
}

/// How a mapping's brokers are reached.
#[derive(Clone, Copy)]
struct Way<'a> {
    access: &'a Access,
    timeout: Duration,
}

impl Way<'_> {
    async fn open(self, endpoint: &Endpoint) -> Result<Probe, Unfit> {
        Probe::open(endpoint, self.access, self.timeout).await
    }
}

/// A partition of that topic and its leader: all have the topic's settings, so one speaks for all.
fn led<'a>(
    metadata: &'a MetadataResponse,
    topic: &str,
) -> Option<(&'a PartitionMetadata, Endpoint)> {
    let topic = metadata.topics.iter().find(|it| it.name == topic)?;
    topic.partitions.iter().find_map(|partition| {
        let mut brokers = metadata.brokers.iter();
        let leader = brokers.find(|broker| broker.node_id == partition.leader)?;
        let endpoint = Endpoint {
            host: leader.host.clone(),
            port: leader.port,
        };
        Some((partition, endpoint))
    })
}

fn topic(mapping: &Mapping, metadata: &MetadataResponse, report: &mut Report) {
    let subject = format!("topic {}", mapping.topic);
    let found = metadata
        .topics
        .iter()
        .find(|topic| topic.name == mapping.topic);
    let error = found.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
    let partitions = found.map_or(0, |topic| topic.partitions.len());
    match error {
        ErrorCode::NONE => {
            report.add(Severity::Right, subject, format!("{partitions} partitions"));
        }
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            let message = "does not exist; create it or correct Topics";
            report.add(Severity::Problem, subject, message);
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            let message = "is not allowed; grant Describe and Read on it";
            report.add(Severity::Problem, subject, message);
        }
        error => report.add(
            Severity::Problem,
            subject,
            format!("the broker says {error}"),
        ),
    }
}

/// The addresses that brokers advertise are those that records come from.
async fn advertised(
    mapping: &Mapping,
    way: Way<'_>,
    metadata: &MetadataResponse,
    report: &mut Report,
) {
    let known: BTreeSet<&Endpoint> = mapping.bootstrap.iter().collect();
    for told in &metadata.brokers {
        let endpoint = Endpoint {
            host: told.host.clone(),
            port: told.port,
        };
        if known.contains(&endpoint) {
            continue;
        }
        if let Err(error) = way.open(&endpoint).await {
            let message = format!(
                "cannot be reached ({error}), but broker {} advertises it; correct its advertised.listeners or open the way",
                told.node_id
            );
            report.add(Severity::Problem, broker(&endpoint), message);
        }
    }
}

async fn group(mapping: &Mapping, way: Way<'_>, probe: &mut Probe, report: &mut Report) {
    let subject = format!("group {}", mapping.group_id);
    let outcome = match coordinator(mapping, probe).await {
        Ok(found) if found.error.is_ok() => heartbeat(mapping, way, &found).await,
        Ok(found) => Ok(found.error),
        Err(error) => Err(error),
    };
    match outcome {
        // A member that nobody knows: whoever is told so may use the group.
        Ok(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::NONE) => {
            report.add(Severity::Right, subject, "allowed");
        }
        Ok(ErrorCode::GROUP_AUTHORIZATION_FAILED) => {
            let message = "is not allowed; grant Describe and Read on it";
            report.add(Severity::Problem, subject, message);
        }
        Ok(error) => report.add(
            Severity::Problem,
            subject,
            format!("the broker says {error}"),
        ),
        Err(error) => report.add(Severity::Problem, subject, error),
    }
}

pub(super) async fn coordinator(
    mapping: &Mapping,
    probe: &mut Probe,
) -> Result<FindCoordinatorResponse, String> {
    let request = Request::FindCoordinator(FindCoordinatorRequest {
        group_id: mapping.group_id.clone(),
    });
    let mut tries = 0;
    loop {
        tries += 1;
        let Response::FindCoordinator(found) = probe.ask(&request).await? else {
            return Err("another answer than FindCoordinator".to_owned());
        };
        let passing = matches!(
            found.error,
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        );
        if !passing || tries == COORDINATOR_TRIES {
            return Ok(found);
        }
        tokio::time::sleep(COORDINATOR_WAIT).await;
    }
}

async fn heartbeat(
    mapping: &Mapping,
    way: Way<'_>,
    found: &FindCoordinatorResponse,
) -> Result<ErrorCode, String> {
    let endpoint = Endpoint {
        host: found.host.clone(),
        port: found.port,
    };
    let mut probe = way.open(&endpoint).await.map_err(|error| {
        format!(
            "its coordinator {} cannot be reached ({error})",
            broker(&endpoint)
        )
    })?;
    let request = Request::Heartbeat(HeartbeatRequest {
        group_id: mapping.group_id.clone(),
        generation_id: 0,
        member_id: "forebay-check".to_owned(),
        group_instance_id: None,
    });
    let mut tries = 0;
    loop {
        tries += 1;
        let Response::Heartbeat(answer) = probe.ask(&request).await? else {
            return Err("another answer than Heartbeat".to_owned());
        };
        if answer.error != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS || tries == COORDINATOR_TRIES {
            return Ok(answer.error);
        }
        tokio::time::sleep(COORDINATOR_WAIT).await;
    }
}

fn broker(endpoint: &Endpoint) -> String {
    match endpoint.host.contains(':') {
        true => format!("broker [{}]:{}", endpoint.host, endpoint.port),
        false => format!("broker {}:{}", endpoint.host, endpoint.port),
    }
}
