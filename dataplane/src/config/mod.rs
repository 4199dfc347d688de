//! The node's configuration, checked once: what comes after never sees a value that is half right.
//!
//! [`Config::load`] reads the file, [`Config::parse`] a text; both take what the environment and the
//! machine say as a value, so a test can say it for them. The keys and their defaults are documented in
//! `systemd/forebay.toml`.
//!
//! Invariant: a `Config` that exists is valid in itself; only the mappings are checked later.

mod endpoint;
mod file;
mod kafka;
mod machine;
mod node_id;
mod partition;
mod problem;
pub(crate) mod region;
mod role;
mod runtime_dir;
mod server;
mod service;
mod value;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_protocol::delivery::OnOversized;
use forebay_protocol::limits::BODY_BYTES_LIMIT;
use toml::Spanned;

pub use endpoint::EndpointUrl;
pub(crate) use endpoint::url;
use file::{ConfigFile, FunctionFile};
pub use kafka::KafkaConfig;
use kafka::kafka;
pub use machine::Machine;
pub use partition::Flavour;
pub(crate) use partition::Partition;
pub(crate) use problem::{Findings, advice, without_userinfo};
pub use problem::{Problem, Problems};
pub use region::Region;
use role::role_arn;
pub use runtime_dir::default as default_runtime_dir;
pub(crate) use server::bootstrap_server;
pub use service::{EndpointUrls, Service};
use value::{account_id, choice, listen, number, to_usize};
pub(crate) use words::nearest;

/// The node's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Where mappings are declared.
    pub mappings_dir: PathBuf,
    /// Where the node keeps what must outlive it.
    pub state_dir: PathBuf,
    /// Where the node keeps what ends with it: the socket that its status is read from.
    pub runtime_dir: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// The region of functions that do not name one.
    pub region: Option<Region>,
    /// The account of functions that do not name one.
    pub account_id: Option<String>,
    /// The Lambda endpoint of functions without one of their own; AWS's own, if there is none.
    pub endpoint: Option<EndpointUrl>,
    /// Which of AWS's own endpoints.
    pub flavour: Flavour,
    /// Endpoints that stand in for AWS's own, of the services beside Lambda.
    pub endpoint_urls: EndpointUrls,
    /// The roots of endpoints that are reached under TLS; the system's, if there is none.
    pub ca_bundle: Option<PathBuf>,
    /// How long calls in flight may go on after SIGTERM.
    pub grace: Duration,
    /// Memory for records and bodies, over all shards.
    pub memory_bytes: usize,
    /// How many shards run.
    pub shards: usize,
    /// The CPUs that shards are pinned to, in turn.
    pub cpus: Vec<usize>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// The least severe level that is written.
    pub log_level: tracing::Level,
    /// What the Kafka client is told.
    pub kafka: KafkaConfig,
    /// An event's body stays strictly below this many bytes.
    pub body_limit: usize,
    /// What becomes of a record that no body can hold.
    pub on_oversized: OnOversized,
    /// Whether failed records that their destination does not take are dropped, instead of kept until it does.
    pub drop_undelivered: bool,
    /// How many filters a mapping may have.
    pub filters_max: usize,
    /// Functions that need settings of their own, by the name that mappings use.
    pub functions: BTreeMap<String, FunctionConfig>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[functions.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionConfig {
    /// Its own endpoint.
    pub endpoint: Option<EndpointUrl>,
    /// The roots of that.
    pub ca_bundle: Option<PathBuf>,
    /// The name to call it by.
    pub invoke_as: Option<String>,
    /// The role as which its secrets are read and its failed records written; the node itself does, if there is none.
    pub role_arn: Option<String>,
    /// Whether calls are signed.
    pub unsigned: bool,
    /// Calls in flight at once, over all shards.
    pub max_in_flight: Option<u32>,
    /// Its timeout, where the endpoint cannot be asked for it.
    pub timeout: Option<Duration>,
}

/// What the process's environment and machine say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// What may be used of the machine.
    pub machine: Machine,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`: which of them, and what it says.
    pub region: Option<(&'static str, String)>,
    /// `AWS_ENDPOINT_URL_LAMBDA`, else `AWS_ENDPOINT_URL`: which of them, and what it says.
    pub endpoint_url: Option<(String, String)>,
    /// The same of the other services.
    pub endpoint_urls: BTreeMap<Service, (String, String)>,
    /// `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`.
    pub flavour: Flavour,
    /// `AWS_CA_BUNDLE`.
    pub ca_bundle: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY`: what systemd has made for the unit.
    pub runtime_dir: Option<PathBuf>,
}

/// AWS allows a function in an event source mapping to run this long (contract 3.4).
pub const FUNCTION_TIMEOUT_MAX: Duration = Duration::from_secs(840);

const GRACE_MS_DEFAULT: u64 = 60_000;
const MAPPINGS_DIR_DEFAULT: &str = "/etc/forebay/mappings.d";
const STATE_DIR_DEFAULT: &str = "/var/lib/forebay";
const SHARDS_MAX: u64 = 1024;
const FILTERS_MAX_DEFAULT: u64 = 5;
/// One part of so many of the machine's memory is the default budget: the rest is for the kernel's page
/// cache and socket buffers, and for what is outside the budget (receive buffers, decompression).
const MEMORY_SHARE: u64 = 2;
/// And no more than this: it keeps a thousand partitions busy, and leaves a large machine to its owner.
const MEMORY_DEFAULT_MAX: u64 = 512 * 1024 * 1024;
/// Or, with many shards, than so much for each: a dozen mappings with a consumer on every shard.
const MEMORY_DEFAULT_SHARD: u64 = 128 * 1024 * 1024;

impl Surroundings {
    /// That machine, and an environment that says nothing.
    pub fn without_environment(machine: Machine) -> Self {
        Self {
            machine,
            region: None,
            endpoint_url: None,
            endpoint_urls: BTreeMap::new(),
            flavour: Flavour::default(),
            ca_bundle: None,
            runtime_dir: None,
        }
    }

    /// Asks the environment and the kernel.
    pub fn here() -> Self {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .find_map(|name| Some((name, said(name)?)));
        let endpoint_url = |variable: String| {
            [variable, "AWS_ENDPOINT_URL".to_owned()]
                .into_iter()
                .find_map(|name| said(&name).map(|url| (name, url)))
        };
        let endpoint_urls = Service::ALL
            .into_iter()
            .filter_map(|service| Some((service, endpoint_url(service.variable())?)));
        let is_true =
            |name| std::env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        Self {
            flavour: Flavour {
                fips: is_true("AWS_USE_FIPS_ENDPOINT"),
                dual_stack: is_true("AWS_USE_DUALSTACK_ENDPOINT"),
            },
            ca_bundle: std::env::var_os("AWS_CA_BUNDLE")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            runtime_dir: runtime_dir::of_environment(),
            machine: Machine::here(),
            region,
            endpoint_url: endpoint_url("AWS_ENDPOINT_URL_LAMBDA".to_owned()),
            endpoint_urls: endpoint_urls.collect(),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let advice = advice(&error, "give the path with --config");
            let message = format!("cannot be read: {error}; {advice}");
            Problems(vec![Problem::of_file(path, message)])
        })?;
        Self::parse(&text, path, &Surroundings::here())
    }

    /// Checks `text`, which stands in the file at `path`. Relative paths in it start from there.
    pub fn parse(text: &str, path: &Path, around: &Surroundings) -> Result<Self, Problems> {
        let mut findings = Findings::new(path, text);
        let file: ConfigFile = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                findings.toml(&error, "systemd/forebay.toml has every key");
                return Err(Problems(findings.problems));
            }
        };
        let config = build(file, path, around, &mut findings);
        if findings.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(findings.problems))
        }
    }

    /// The name of the region of functions that do not name one.
    pub fn region_name(&self) -> Option<&str> {
        Some(&self.region.as_ref()?.name)
    }
}

fn build(
    file: ConfigFile,
    path: &Path,
    around: &Surroundings,
    findings: &mut Findings<'_>,
) -> Config {
    let base = path.parent().unwrap_or(Path::new(""));
    let dir = |value: Option<Spanned<String>>, default: &str| {
        base.join(value.map_or_else(|| default.to_owned(), Spanned::into_inner))
    };
    let shards_default = around.machine.shards() as u64;
    let memory_default = (around.machine.memory_bytes / MEMORY_SHARE)
        .min(MEMORY_DEFAULT_MAX.max(shards_default * MEMORY_DEFAULT_SHARD));
    let body_limit_max = BODY_BYTES_LIMIT as u64;
    let kafka = kafka(&file, findings);
    let state_dir = dir(file.state_dir, STATE_DIR_DEFAULT);
    let runtime_dir = file.runtime_dir;
    Config {
        file: path.to_owned(),
        mappings_dir: dir(file.mappings_dir, MAPPINGS_DIR_DEFAULT),
        runtime_dir: runtime_dir::of_node(runtime_dir, base, &state_dir, around, findings),
        state_dir,
        listen: listen(file.listen, findings),
        region: region::of_node(file.region, around, findings),
        account_id: account_id(file.account_id, findings),
        endpoint: endpoint::of_node(file.endpoint_url, around, findings),
        flavour: Flavour {
            fips: file.use_fips_endpoint.unwrap_or(around.flavour.fips),
            dual_stack: file
                .use_dualstack_endpoint
                .unwrap_or(around.flavour.dual_stack),
        },
        endpoint_urls: service::endpoint_urls(file.endpoint_urls, around, findings),
        ca_bundle: match file.ca_bundle {
            Some(path) => Some(base.join(path.into_inner())),
            None => around.ca_bundle.clone(),
        },
        grace: Duration::from_millis(number(
            "grace_ms",
            file.grace_ms,
            0..=3_600_000,
            GRACE_MS_DEFAULT,
            findings,
        )),
        memory_bytes: to_usize(number(
            "memory_bytes",
            file.memory_bytes,
            1..=isize::MAX as u64,
            memory_default,
            findings,
        )),
        shards: to_usize(number(
            "shards",
            file.shards,
            1..=SHARDS_MAX,
            shards_default,
            findings,
        )),
        cpus: around.machine.cpus.clone(),
        log_format: choice(
            "log_format",
            file.log_format,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            findings,
        ),
        log_level: choice(
            "log_level",
            file.log_level,
            &[
                ("info", tracing::Level::INFO),
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ],
            findings,
        ),
        kafka,
        body_limit: to_usize(number(
            "body_limit_bytes",
            file.body_limit_bytes,
            4096..=body_limit_max,
            body_limit_max,
            findings,
        )),
        on_oversized: choice(
            "on_oversized_record",
            file.on_oversized_record,
            &[
                ("halt", OnOversized::Halt),
                ("discard", OnOversized::Discard),
            ],
            findings,
        ),
        drop_undelivered: choice(
            "on_destination_failure",
            file.on_destination_failure,
            &[("retry", false), ("drop", true)],
            findings,
        ),
        filters_max: to_usize(number(
            "filters_max",
            file.filters_max,
            1..=10,
            FILTERS_MAX_DEFAULT,
            findings,
        )),
        functions: file
            .functions
            .into_iter()
            .map(|(name, raw)| {
                let function = function(&name, raw, base, findings);
                (name, function)
            })
            .collect(),
    }
}

fn function(
    name: &str,
    raw: FunctionFile,
    base: &Path,
    findings: &mut Findings<'_>,
) -> FunctionConfig {
    let key = |member: &str| format!("functions.{name}.{member}");
    let endpoint = raw
        .endpoint_url
        .and_then(|url| endpoint::parse(&key("endpoint_url"), &url, findings));
    let invoke_as = raw.invoke_as.and_then(|given| {
        let valid = !given.get_ref().is_empty() && given.get_ref().len() <= 256;
        if !valid {
            let message = "must be 1 to 256 characters: the name that the endpoint knows";
            findings.at(given.span(), &key("invoke_as"), given.get_ref(), message);
        }
        valid.then(|| given.into_inner())
    });
    let signing = raw.signing.clone();
    let unsigned = choice(
        &key("signing"),
        raw.signing,
        &[("sigv4", false), ("none", true)],
        findings,
    );
    if let (true, Some(signing), Some(endpoint)) = (unsigned, signing, &endpoint)
        && endpoint.is_aws()
    {
        let message =
            "AWS's own hosts check signatures; leave the key out or give another endpoint_url";
        findings.at(signing.span(), &key("signing"), "none", message);
    }
    FunctionConfig {
        endpoint,
        ca_bundle: raw.ca_bundle.map(|path| base.join(path.into_inner())),
        invoke_as,
        role_arn: role_arn(&key("role_arn"), raw.role_arn, findings),
        unsigned,
        max_in_flight: raw.max_in_flight.map(|given| {
            let permits = number(&key("max_in_flight"), Some(given), 1..=10_000, 1, findings);
            u32::try_from(permits).unwrap_or(u32::MAX)
        }),
        timeout: raw.timeout_seconds.map(|given| {
            let range = 1..=FUNCTION_TIMEOUT_MAX.as_secs();
            Duration::from_secs(number(
                &key("timeout_seconds"),
                Some(given),
                range,
                1,
                findings,
            ))
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
