//! Forebay's benchmark suite; each sub-command measures one thing and has a file of its own.
//!
//! Invariant: what is compared is measured in the same run, in interleaved rounds, in CPU time.

mod codec;
mod cpu;
mod filter;
mod floor;
mod function;
mod goal;
mod helper;
mod hop;
mod latency;
mod load;
mod machine;
mod memory;
mod peers;
mod pipeline;
mod plot;
mod producer;
mod report;
mod results;
mod rig;
mod runtime;
mod sample;
mod scale;
mod signals;
mod sink;
mod soak;
mod stage;
mod still;
mod table;
mod tape;
mod tool;
mod trial;
mod wait;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Forebay.
#[derive(Debug, Parser)]
#[command(name = "forebay-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Decode, encode and hash against the hash alone: the gate of the hot path.
    Codec(codec::Arguments),
    /// What a filter costs a record, over simd-json's tape of the same value.
    Filter(filter::Arguments),
    /// The least that a record can cost: a bare loop, beside which the others are judged.
    Floor(floor::Arguments),
    /// The real appliance between an embedded broker and function: what a record costs it.
    Pipeline(pipeline::Arguments),
    /// Whether a record costs the same with more shards and more mappings, and what an idle node costs.
    Scale(scale::Arguments),
    /// What io_uring, the flags of its ring and mimalloc are worth to the real appliance.
    Runtime(runtime::Arguments),
    /// Forebay beside the consumers that others would write, on a real Kafka.
    Peers(peers::Arguments),
    /// How long a record takes through the real appliance, and how long its start takes.
    Latency(latency::Arguments),
    /// What the real appliance holds of memory: by partitions, by budget, before a slow function, at rest.
    Memory(memory::Arguments),
    /// Hours of steady load on the real appliance, with faults if wanted; exits 1 if anything grows.
    Soak(soak::Arguments),
    /// The real appliance on your own Kafka and function, which WILL BE CALLED with the topic's records.
    ///
    /// The records are read from the beginning by a fresh consumer group, which stays behind: the output tells its
    /// name. Credentials and region come from where forebay takes them, the environment or the AWS profile.
    Trial(trial::Arguments),
    /// A function that counts what it is called with, to stand in for yours.
    Function(function::Arguments),
    /// Makes a page with plots of results that were kept with --json.
    Report(report::Arguments),
    /// A case of `codec` in a process of its own, for this program's own use.
    #[command(hide = true)]
    CodecCase(codec::Case),
    /// The broker and function of a run, for this program's own use.
    #[command(hide = true)]
    Stage(stage::Filling),
    /// The function of a run alone, for this program's own use.
    #[command(hide = true)]
    Sink,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Codec(arguments) => codec::run(&arguments),
        Command::Filter(arguments) => filter::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Pipeline(arguments) => pipeline::run(&arguments),
        Command::Scale(arguments) => scale::run(&arguments),
        Command::Runtime(arguments) => runtime::run(&arguments),
        Command::Peers(arguments) => peers::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Trial(arguments) => trial::run(&arguments),
        Command::Function(arguments) => served("function", function::serve(&arguments)),
        Command::Report(arguments) => report::run(&arguments),
        Command::CodecCase(case) => served("codec-case", codec::serve(&case)),
        Command::Stage(filling) => served("stage", stage::serve(&filling)),
        Command::Sink => served("sink", sink::serve()),
    }
}

/// How a process that others ask has ended. Its standard output is theirs.
fn served(name: &str, outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "{name}: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// A line of the table. A reader that has gone away is no error of ours.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
