//! Forebay beside the consumers that a good engineer of each ecosystem would write, on a real Kafka.
//!
//! The same topic, the same function, the same event, in one run, in rounds that interleave the consumers; CPU
//! time is that of the consumer's process alone. What the consumers are is in `bench/peers/README.md`.
//!
//! Invariant: who is measured has shown before that it delivers every record, once, in order, signed, and
//! commits it; and a run in which one was missing, came twice or out of order gives no figure.

mod cluster;
mod goals;
mod latency;
mod proof;
mod roster;
mod throughput;
mod workshop;

use std::path::PathBuf;
use std::process::ExitCode;

use forebay_tests::node::Node;
use serde::{Deserialize, Serialize};

use self::cluster::Cluster;
use self::roster::{Contestant, FOREBAY, PEERS, Peer};
use crate::goal::Goal;
use crate::plot::Plot;
use crate::results::{Figures, Output};
use crate::table::Table;
use crate::{results, say};

/// Options of `peers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The peers beside Forebay; all if left out.
    #[arg(long = "peer", value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
    /// Only build the peers.
    #[arg(long)]
    prepare: bool,
    /// Bytes of a value, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024, 10 * 1024])]
    value_bytes: Vec<usize>,
    /// Records in a call at most.
    #[arg(long, default_value_t = 10_000)]
    batch_size: u32,
    /// Partitions.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Forebay's shards.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Megabytes of values in each run (of the smallest values fewer, else it takes long).
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure how long a record takes instead of what it costs.
    #[arg(long)]
    latency: bool,
    /// With `--latency`: records a second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// With `--latency`: bytes of a value.
    #[arg(long, default_value_t = 1024)]
    latency_value_bytes: usize,
    /// With `--latency`: seconds of a run that count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    /// Another build of the appliance, measured beside it; then without peers, unless some are named.
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Who was measured, and of what it was made.
#[derive(Debug, Serialize, Deserialize)]
struct Consumer {
    name: String,
    toolchain: String,
    libraries: Vec<String>,
}

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Kafka's version.
    kafka: String,
    consumers: Vec<Consumer>,
    /// Peers that were left out, with the reason.
    left_out: Vec<String>,
    throughput: Vec<throughput::Measured>,
    latency: Vec<latency::Measured>,
}

impl Figures for Found {
    const COMMAND: &'static str = "peers";

    fn tables(&self) -> Vec<Table> {
        let throughput = (!self.throughput.is_empty()).then(|| throughput::table(&self.throughput));
        let latency = (!self.latency.is_empty()).then(|| latency::table(&self.latency));
        throughput.into_iter().chain(latency).collect()
    }

    fn plots(&self) -> Vec<Plot> {
        let throughput = (!self.throughput.is_empty()).then(|| throughput::plot(&self.throughput));
        let latency = (!self.latency.is_empty()).then(|| latency::plot(&self.latency));
        throughput.into_iter().chain(latency).collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = goals::judged(&self.throughput);
        goals.extend(goals::of_latency(&self.latency));
        goals
    }

    fn notes(&self) -> Vec<String> {
        let made_of = |it: &Consumer| match it.toolchain.as_str() {
            "" => format!("{}: {}", it.name, it.libraries.join(", ")),
            toolchain => format!("{}: {}; {toolchain}", it.name, it.libraries.join(", ")),
        };
        let kafka = format!("Apache Kafka {}", self.kafka);
        let left_out = self.left_out.iter();
        let left_out = left_out.map(|reason| format!("LEFT OUT: {reason}"));
        let consumers = self.consumers.iter().map(made_of);
        std::iter::once(kafka)
            .chain(consumers)
            .chain(left_out)
            .collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.prepare {
        return match built(&arguments.peers) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                say(&error);
                ExitCode::FAILURE
            }
        };
    }
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Found, String> {
    let (peers, left_out) = match arguments.beside.is_empty() || !arguments.peers.is_empty() {
        true => built(&arguments.peers)?,
        false => (Vec::new(), Vec::new()),
    };
    if peers.is_empty() && arguments.beside.is_empty() {
        return Err("no peer can be built here".to_owned());
    }
    let builds = builds(arguments)?;
    let contestants: Vec<Contestant> = builds
        .into_iter()
        .chain(peers.iter().copied().map(Contestant::Peer))
        .collect();
    let cluster = Cluster::start()?;
    proof::of_all(&cluster, &contestants)?;
    let mut found = Found {
        kafka: cluster::VERSION.to_owned(),
        consumers: contestants.iter().map(consumer).collect::<Result<_, _>>()?,
        left_out,
        throughput: Vec::new(),
        latency: Vec::new(),
    };
    if arguments.latency {
        found.latency = latency::measure_all(arguments, &cluster, &contestants)?;
    } else {
        found.throughput = throughput::measure_all(arguments, &cluster, &contestants)?;
    }
    Ok(found)
}

/// The appliance, and the other builds of it, under names of their own.
fn builds(arguments: &Arguments) -> Result<Vec<Contestant>, String> {
    let files = std::iter::once(arguments.forebay.as_deref())
        .chain(arguments.beside.iter().map(|file| Some(file.as_path())));
    let build = |(at, file)| {
        let name = match at {
            0 => FOREBAY.to_owned(),
            _ => format!("{FOREBAY}-{}", at + 1),
        };
        Ok(Contestant::Forebay {
            name,
            program: Node::program(file)?,
            shards: arguments.shards,
        })
    };
    files.enumerate().map(build).collect()
}

/// The chosen peers that can be built here, and why the others cannot.
fn built(names: &[String]) -> Result<(Vec<&'static Peer>, Vec<String>), String> {
    let chosen: Vec<&Peer> = if names.is_empty() {
        PEERS.iter().collect()
    } else {
        names
            .iter()
            .map(|name| Peer::named(name))
            .collect::<Result<_, _>>()?
    };
    let (mut peers, mut left_out) = (Vec::new(), Vec::new());
    for peer in chosen {
        if let Some(program) = peer.toolchain.missing() {
            let reason = format!("{}, for there is no `{program}` here", peer.name);
            say(&format!("LEFT OUT: {reason}"));
            left_out.push(reason);
        } else {
            workshop::build(peer)?;
            peers.push(peer);
        }
    }
    Ok((peers, left_out))
}

fn consumer(contestant: &Contestant) -> Result<Consumer, String> {
    let (toolchain, libraries) = match contestant {
        Contestant::Forebay { name, program, .. } => {
            let made_of = match name.as_str() {
                FOREBAY => format!("{FOREBAY} {}", env!("CARGO_PKG_VERSION")),
                _ => program.display().to_string(),
            };
            (String::new(), vec![made_of])
        }
        Contestant::Peer(peer) => (peer.toolchain.version(), workshop::libraries(peer)?),
    };
    Ok(Consumer {
        name: contestant.name().to_owned(),
        toolchain,
        libraries,
    })
}
