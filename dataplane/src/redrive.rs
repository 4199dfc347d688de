//! `forebay redrive`: the command line of it, and its signals.
//!
//! Invariant: without `--execute` nothing is sent, written or removed.

use std::path::PathBuf;
use std::process::ExitCode;

use forebay::config::Config;
use forebay::contract::watch;
use forebay::control::redrive::{Order, Refusal, Target, redrive};
use tokio::signal::unix::{SignalKind, signal};

use crate::{EX_CONFIG, EX_USAGE, complain, print};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The mapping, by its file's name without the ending or by its UUID.
    mapping: String,
    /// Where failed records are: s3://BUCKET/PREFIX, the ARN of a queue, or kafka://TOPIC. Default: the mapping's own
    /// destination.
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// Where they go: to the function, or back to the topic that they came from.
    #[arg(long, value_name = "WHERE", default_value = "function")]
    to: To,
    /// Do it. Without this it is only told what would be done.
    #[arg(long)]
    execute: bool,
    /// Remove each document of which everything has succeeded.
    #[arg(long, requires = "execute")]
    remove: bool,
    /// What was done is noted there, and the next redrive goes on from it. Default: a file in redrive/ of state_dir.
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
    /// So many documents at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum To {
    Function,
    Topic,
}

/// Does it. 0: everything has succeeded.
pub(crate) async fn run(config: Config, asked: Asked) -> ExitCode {
    let set = match forebay::control::load(&config) {
        Ok(set) => set,
        Err(problems) => {
            complain(&problems);
            return EX_CONFIG.into();
        }
    };
    let order = Order {
        mapping: asked.mapping,
        from: asked.from,
        to: match asked.to {
            To::Function => Target::Function,
            To::Topic => Target::Topic,
        },
        execute: asked.execute,
        remove: asked.remove,
        progress: asked.progress,
        limit: asked.limit,
    };
    let (told, stop) = watch::channel(false);
    let mut tell = print;
    let done = tokio::select! {
        done = redrive(&config, &set, &order, stop, &mut tell) => done,
        () = second_signal(told) => return ExitCode::FAILURE,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(refusal) => {
            complain(&format_args!("forebay: {refusal}"));
            match refusal {
                Refusal::Usage(_) => EX_USAGE.into(),
                Refusal::Unable(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// The first signal ends it between two calls, the second at once.
async fn second_signal(told: watch::Sender<bool>) {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        // They end the process as ever.
        return std::future::pending().await;
    };
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    complain(&"forebay: ends after this call; a second signal ends it at once");
    told.send_replace(true);
    next().await;
}
