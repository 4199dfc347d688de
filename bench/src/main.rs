//! Forebay's benchmark suite; each sub-command measures one thing and has a file of its own.
//!
//! Invariant: what is compared is measured in the same run, in interleaved rounds, in CPU time.

mod codec;
mod cpu;
mod sample;

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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Codec(arguments) => codec::run(&arguments),
    }
}
