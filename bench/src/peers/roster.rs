//! Who is measured: Forebay, and the consumers under `bench/peers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forebay_protocol::limits;
use forebay_tests::harness::{Declared, Site};
use forebay_tests::node::{ACCESS_KEY_ID, Node, SECRET_ACCESS_KEY};
use forebay_tests::process::Process;

use super::workshop::{self, Toolchain};

/// The function's name.
pub(crate) const FUNCTION: &str = "bench";

/// Where calls are signed for: the region of [`Site`].
pub(crate) const REGION: &str = "eu-west-1";

/// Forebay's name in tables and data.
pub(crate) const FOREBAY: &str = "forebay";

/// Whether that is the name of the appliance, or of another build of it.
pub(crate) fn is_build(name: &str) -> bool {
    let rest = name.strip_prefix(FOREBAY);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// How its JSON comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// As most would.
    Idiomatic,
    /// By hand.
    ByHand,
}

/// A consumer as a good engineer of an ecosystem would write it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) json: Json,
    pub(crate) toolchain: Toolchain,
    /// The folder below `bench/peers`.
    pub(crate) folder: &'static str,
    /// The file in it that pins the versions.
    pub(crate) lock: &'static str,
    /// What it is made of, as the lock file calls it.
    pub(crate) libraries: &'static [&'static str],
}

/// All of them, in the order of tables.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "go-by-hand",
        json: Json::ByHand,
        toolchain: Toolchain::Go,
        folder: "go",
        lock: "go.mod",
        libraries: &[
            "github.com/twmb/franz-go",
            "github.com/aws/aws-sdk-go-v2/service/lambda",
            "github.com/segmentio/asm",
        ],
    },
    Peer {
        name: "go",
        json: Json::Idiomatic,
        toolchain: Toolchain::Go,
        folder: "go",
        lock: "go.mod",
        libraries: &[
            "github.com/twmb/franz-go",
            "github.com/aws/aws-sdk-go-v2/service/lambda",
        ],
    },
    Peer {
        name: "rust-by-hand",
        json: Json::ByHand,
        toolchain: Toolchain::Cargo,
        folder: "rust",
        lock: "Cargo.toml",
        libraries: &["rdkafka", "aws-sdk-lambda", "base64-simd", "mimalloc"],
    },
    Peer {
        name: "rust",
        json: Json::Idiomatic,
        toolchain: Toolchain::Cargo,
        folder: "rust",
        lock: "Cargo.toml",
        libraries: &["rdkafka", "aws-sdk-lambda", "serde_json", "base64"],
    },
    Peer {
        name: "python",
        json: Json::Idiomatic,
        toolchain: Toolchain::Python,
        folder: "python",
        lock: "requirements.txt",
        libraries: &["confluent-kafka", "boto3", "orjson", "pybase64"],
    },
    Peer {
        name: "java",
        json: Json::Idiomatic,
        toolchain: Toolchain::Maven,
        folder: "java",
        lock: "pom.xml",
        libraries: &["kafka-clients", "lambda", "apache-client", "jackson-core"],
    },
];

impl Peer {
    /// One peer by its name.
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        let found = PEERS.iter().find(|peer| peer.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            format!("there is no peer {name}; there are {}", names.join(", "))
        })
    }

    /// Where its source is.
    pub(crate) fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("peers")
            .join(self.folder)
    }
}

/// Someone who is measured.
#[derive(Clone, Debug)]
pub(crate) enum Contestant {
    /// The appliance: its name in tables, its binary, and how many shards it has.
    Forebay {
        name: String,
        program: PathBuf,
        shards: u32,
    },
    /// A peer that was built.
    Peer(&'static Peer),
}

/// What a consumer is to do.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) url: &'a str,
    pub(crate) batch_size: u32,
}

/// A consumer at work; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Forebay's directory.
    _site: Option<Site>,
}

impl Contestant {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Forebay { name, .. } => name,
            Self::Peer(peer) => peer.name,
        }
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn start(&self, task: &Task<'_>) -> Result<Running, String> {
        let (mut command, site) = match self {
            Self::Forebay {
                program, shards, ..
            } => {
                let site = site(task, *shards);
                (Node::command(program, &site), Some(site))
            }
            Self::Peer(peer) => (peer_command(peer, task)?, None),
        };
        Ok(Running {
            process: Process::start(self.name(), &mut command)?,
            _site: site,
        })
    }

    /// Where to look when it fails.
    pub(crate) fn log(&self) -> String {
        match self {
            Self::Forebay { .. } => "see its log with `forebay run`".to_owned(),
            Self::Peer(peer) => match workshop::log(peer) {
                Ok(log) => format!("see {}", log.display()),
                Err(error) => error,
            },
        }
    }
}

/// A node with one mapping whose calls are signed, and with the appliance's own timeouts, which the peers'
/// libraries have as well.
fn site(task: &Task<'_>, shards: u32) -> Site {
    let site = Site::new(task.bootstrap, task.url)
        .key("shards", &shards.to_string())
        .key("session_timeout_ms", "45000")
        .key("heartbeat_interval_ms", "3000");
    let mut declared = Declared::new(task.topic).with(&format!(
        "MaximumBatchingWindowInSeconds = 0\nBatchSize = {}\n",
        task.batch_size
    ));
    FUNCTION.clone_into(&mut declared.function);
    task.group.clone_into(&mut declared.group);
    site.declare_signed(&declared);
    site
}

fn peer_command(peer: &Peer, task: &Task<'_>) -> Result<Command, String> {
    let log = workshop::log(peer)?;
    let log = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let stdout = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = workshop::command(peer)?;
    command
        .env("PEER_BOOTSTRAP", task.bootstrap)
        .env("PEER_TOPIC", task.topic)
        .env("PEER_GROUP", task.group)
        .env("PEER_ENDPOINT_URL", task.url)
        .env("PEER_FUNCTION", FUNCTION)
        .env("PEER_BATCH_SIZE", task.batch_size.to_string())
        // Lambda takes a body below its limit.
        .env(
            "PEER_BODY_LIMIT",
            (limits::BODY_BYTES_LIMIT - 1).to_string(),
        )
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .env("AWS_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(log));
    Ok(command)
}
