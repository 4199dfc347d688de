//! The real appliance on a [`Stage`]: the broker, the function and the appliance, each in a process of its own
//! (the first two share one).
//!
//! Invariant: the appliance has the defaults of its configuration, but for what a run is about.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_tests::clock;
use forebay_tests::harness::{Declared, Site};
use forebay_tests::node::Node;
use serde::{Deserialize, Serialize};

use crate::stage::{Arrived, Filling, Stage, topic};
use crate::wait::{pause, since};

/// How often is looked whether something has come.
const POLL: Duration = Duration::from_millis(5);

/// A run in which nothing arrives for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is set of the appliance's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The binary.
    pub(crate) program: PathBuf,
    /// `shards`.
    pub(crate) shards: u32,
    /// `memory_bytes`; the default if left out.
    pub(crate) memory_bytes: Option<u64>,
    /// `MaximumBatchingWindowInSeconds`, in milliseconds.
    pub(crate) window_millis: u32,
    /// `BatchSize`.
    pub(crate) batch_size: u32,
    /// Mappings of the stage's first topics.
    pub(crate) mappings: usize,
    /// How their calls are signed.
    pub(crate) signing: Signing,
    /// What they filter by.
    pub(crate) filter: Filtering,
    /// `heartbeat_interval_ms`.
    pub(crate) heartbeat_millis: u32,
    /// Environment variables of the process.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// Whether calls are signed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signing {
    /// As AWS wants it: every body is hashed.
    #[default]
    Sigv4,
    /// As an endpoint of one's own may have it: no body is.
    None,
}

impl Display for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sigv4 => "sigv4",
            Self::None => "none",
        })
    }
}

/// By what records are filtered; all of them pass.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filtering {
    /// Nothing.
    #[default]
    None,
    /// Their topic.
    Topic,
    /// Members at the end of their values, which are JSON: each is read whole.
    Value,
}

impl Filtering {
    /// Whether values must be JSON.
    pub(crate) fn reads_values(self) -> bool {
        self == Self::Value
    }

    /// The mapping's members.
    fn members(self) -> String {
        let pattern = match self {
            Self::None => return String::new(),
            Self::Topic => r#"{"topic":[{"prefix":"bench"}]}"#,
            Self::Value => {
                r#"{"value":{"source":{"host":[{"cidr":"10.0.0.0/8"}]},"flags":{"vip":[false]}}}"#
            }
        };
        format!("FilterCriteria = {{ Filters = [{{ Pattern = '{pattern}' }}] }}\n")
    }
}

impl Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Topic => "topic",
            Self::Value => "value",
        })
    }
}

impl Setup {
    /// That binary, or the one beside this one, with one shard and without a window.
    pub(crate) fn of(program: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            program: Node::program(program)?,
            shards: 1,
            memory_bytes: None,
            window_millis: 0,
            batch_size: 10_000,
            mappings: 1,
            signing: Signing::Sigv4,
            filter: Filtering::None,
            heartbeat_millis: 3000,
            variables: Vec::new(),
        })
    }

    /// A node's directory with a mapping for each of the stage's topics.
    pub(crate) fn site(&self, stage: &Stage) -> Result<Site, String> {
        let mut site = Site::new(&stage.addresses.bootstrap, &stage.addresses.url)
            .key("shards", &self.shards.to_string())
            .key("heartbeat_interval_ms", &self.heartbeat_millis.to_string())
            .key("session_timeout_ms", "45000");
        if let Some(root) = &stage.addresses.root {
            site = site.trusting(root);
        }
        if let Some(bytes) = self.memory_bytes {
            site = site.key("memory_bytes", &bytes.to_string());
        }
        let window = window(self.window_millis)?;
        let filter = self.filter.members();
        let members = format!("{window}BatchSize = {}\n{filter}", self.batch_size);
        for topic in (0..self.mappings).map(topic) {
            let mapping = Declared::new(&topic).with(&members);
            match self.signing {
                Signing::Sigv4 => site.declare_signed(&mapping),
                Signing::None => site.declare(&mapping),
            }
        }
        Ok(site)
    }
}

/// A window as a mapping's member: AWS counts whole seconds, and has 500 ms where nothing is said.
fn window(millis: u32) -> Result<String, String> {
    match millis {
        500 => Ok(String::new()),
        _ if millis.is_multiple_of(1000) => Ok(format!(
            "MaximumBatchingWindowInSeconds = {}\n",
            millis / 1000
        )),
        _ => Err(format!(
            "a window of {millis} ms: it is 500 ms, or whole seconds"
        )),
    }
}

/// A stage with an appliance.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) stage: Stage,
    pub(crate) node: Node,
    /// When the appliance was started, in microseconds on the monotonic clock.
    pub(crate) started_micros: u64,
    /// Its directory lives as long as the appliance.
    _site: Site,
}

impl Rig {
    /// Fills the topic, then starts the appliance and waits for nothing.
    pub(crate) fn start(filling: &Filling, setup: &Setup) -> Result<Self, String> {
        let stage = Stage::start(filling)?;
        let site = setup.site(&stage)?;
        let started_micros = clock::monotonic_micros();
        let node = Node::start_with(&setup.program, &site, &setup.variables)?;
        Ok(Self {
            stage,
            node,
            started_micros,
            _site: site,
        })
    }

    /// What has arrived by now. An appliance that has ended is an error.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        self.node.cpu_time()?;
        self.stage.arrived()
    }

    /// Waits until that many records have arrived, those that came again not counted.
    pub(crate) fn wait_for(&mut self, records: u64) -> Result<Arrived, String> {
        let (mut heard, mut last) = (clock::monotonic_micros(), 0);
        loop {
            let arrived = self.arrived()?;
            let different = arrived.records - arrived.duplicates;
            if different >= records {
                return Ok(arrived);
            }
            if different > last {
                (last, heard) = (different, clock::monotonic_micros());
            } else if since(heard) > PATIENCE {
                return Err(format!("{last} of {records} records arrived, then nothing"));
            }
            pause(POLL);
        }
    }

    /// The same, each of them once and in order, and no more than that.
    pub(crate) fn wait_for_clean(&mut self, records: u64) -> Result<Arrived, String> {
        let arrived = self.wait_for(records)?;
        arrived.must_be_clean()?;
        if arrived.records != records {
            return Err(format!("{} records arrived of {records}", arrived.records));
        }
        Ok(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_what_a_mapping_can_say() {
        assert_eq!(window(500), Ok(String::new()));
        assert_eq!(
            window(2000),
            Ok("MaximumBatchingWindowInSeconds = 2\n".to_owned())
        );
        assert!(window(0).unwrap().ends_with("= 0\n"));
        assert!(window(300).is_err());
    }
}
