//! The `forebay` binary: reads the command line, starts the node, hears signals.
//!
//! Invariant: a wrong command line exits 64 and a wrong configuration 78, before any port is bound.

mod filter;
mod log;
mod redrive;
mod show;
mod skip;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use forebay::config::{Config, LogFormat, Problems};
use forebay::shard::{Driver, DriverError};
use forebay::{Appliance, GiveUp, Listeners, ShutdownReport, StartError, clock, crash};
use log::Log;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// sysexits.h: the command line was wrong.
const EX_USAGE: u8 = 64;
/// sysexits.h: the metrics' address, the status's socket or the state directory is not to be had, or no node answers.
const EX_UNAVAILABLE: u8 = 69;
/// sysexits.h: the kernel refuses the ring that the environment asks for.
const EX_OSERR: u8 = 71;
/// sysexits.h: the configuration was wrong.
const EX_CONFIG: u8 = 78;

/// How long the process waits at its end for its last lines to be read.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// Carries Kafka records into Lambda functions.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what is wrong with the configuration and with the world around it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only read the files; ask nobody.
        #[arg(long)]
        offline: bool,
        /// Also write to the destinations of failed records: a document whose condition is "Probe", which tells of no record.
        #[arg(long, conflicts_with = "offline")]
        probe: bool,
    },
    /// Show how the node that runs stands, and what needs attention.
    Status(show::Question),
    /// Send what failed to the function again, or back to its topic; a dry run, unless --execute is given.
    Redrive(redrive::Asked),
    /// Pass over one record, or one batch, that holds up its partition: send it to the mapping's destination, or discard it.
    Skip(skip::Wish),
    /// Try a pattern of FilterCriteria: whether it compiles, and what it does with a record.
    Filter(filter::Trial),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nowhere is left to complain to if the terminal is gone.
            error.print().unwrap_or_default();
            return if wrong {
                EX_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match arguments.command {
        Command::Run { config } => with_config(&config, complain, run),
        // What it finds is what it was asked for, also where that refuses a start.
        Command::Check {
            config,
            offline,
            probe,
        } => with_config(&config, print, |config| check(config, offline, probe)),
        Command::Redrive(asked) => {
            let config = asked.config.clone();
            with_config(&config, complain, |config| redrive::run(config, asked))
        }
        Command::Status(question) => show::run(question),
        Command::Skip(wish) => skip::run(wish),
        Command::Filter(trial) => filter::run(&trial),
    }
}

/// Loads the configuration and runs `command` on the control thread; `tell` hears why it cannot.
fn with_config<F>(
    path: &Path,
    tell: fn(&dyn Display),
    command: impl FnOnce(Config) -> F,
) -> ExitCode
where
    F: Future<Output = ExitCode>,
{
    let refuse = |problems: &Problems| {
        tell(problems);
        ExitCode::from(EX_CONFIG)
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if let Err(error) = Driver::of_environment().and_then(|driver| driver.check()) {
        tell(&format_args!("forebay: {error}"));
        return match error {
            DriverError::Unknown { .. } => EX_CONFIG.into(),
            DriverError::Refused { .. } => EX_OSERR.into(),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("blocking")
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(async {
                match forebay::control::with_region(config).await {
                    Ok(config) => command(config).await,
                    Err(problems) => refuse(&problems),
                }
            });
            // A name that is being resolved must not hold up the exit.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format_args!(
                "forebay: the control thread cannot be started: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(problems);
    EX_CONFIG.into()
}

/// Says it on stderr; nowhere is left to complain to if that is gone.
fn complain(text: &dyn Display) {
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}

/// Says it on stdout. Who reads may have seen enough: the exit code is still the answer.
fn print(text: &dyn Display) {
    writeln!(io::stdout(), "{text}").unwrap_or_default();
}

async fn check(config: Config, offline: bool, probe: bool) -> ExitCode {
    let set = match forebay::control::load(&config) {
        Ok(set) => set,
        Err(problems) => {
            print(&problems);
            return EX_CONFIG.into();
        }
    };
    let (file, mappings_dir) = (config.file.display(), config.mappings_dir.display());
    match set.len() {
        0 => print(&format_args!(
            "{file}: right, but {mappings_dir} has no mapping (a file *.toml)"
        )),
        1 => print(&format_args!("{file}: right, 1 mapping")),
        mappings => print(&format_args!("{file}: right, {mappings} mappings")),
    }
    let mut findings = forebay::control::check::inside(&config, &set).await;
    if !offline {
        findings.extend(forebay::control::check::outside(&config, &set).await);
    }
    if probe {
        findings.extend(forebay::control::check::probe(&config, &set).await);
    }
    for finding in &findings {
        print(finding);
    }
    match findings.iter().any(|finding| finding.is_problem()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

async fn run(config: Config) -> ExitCode {
    let log = match start_log(&config) {
        Ok(log) => log,
        Err(error) => {
            complain(&format_args!("forebay: the log cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = run_node(config).await;
    log.flush(FLUSH_WAIT);
    code
}

async fn run_node(config: Config) -> ExitCode {
    let grace = config.grace;
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(terminate), Ok(interrupt), Ok(hangup)) = signals else {
        error!("Signals cannot be heard");
        return ExitCode::FAILURE;
    };
    let mut ends = Ends {
        terminate,
        interrupt,
    };
    let appliance = match Appliance::start(config, Listeners::default()).await {
        Ok(appliance) => appliance,
        Err(StartError::Config(problems)) => return refuse(&problems),
        Err(
            error @ (StartError::Listen { .. } | StartError::Status(_) | StartError::State { .. }),
        ) => {
            complain(&error);
            return EX_UNAVAILABLE.into();
        }
        Err(error @ StartError::Shard) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        metrics = %appliance.metrics_addr(),
        "Started"
    );
    notify(&[NotifyState::Ready]);
    serve(&appliance, &mut ends, hangup).await;
    notify(&[NotifyState::Stopping]);
    info!(
        grace_ms = grace.as_millis() as u64,
        "Stopping; a second signal gives up at once"
    );
    let give_up = appliance.give_up_handle();
    let report = tokio::select! {
        report = appliance.shutdown() => report,
        never = second_signal(&mut ends, &give_up) => match never {},
    };
    say(&report);
    match report.failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The signals that end the node.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reads the mappings again at each SIGHUP, until a signal or a death ends the node.
async fn serve(appliance: &Appliance, ends: &mut Ends, mut hangup: Signal) {
    loop {
        tokio::select! {
            () = ends.next() => return,
            () = appliance.ending() => return,
            _ = hangup.recv() => {
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => notify(&[NotifyState::Reloading, now]),
                    Err(error) => warn!(%error, "The service manager is not told of the reading"),
                }
                appliance.reload();
                appliance.reloaded().await;
                notify(&[NotifyState::Ready]);
            }
        }
    }
}

async fn second_signal(ends: &mut Ends, give_up: &GiveUp) -> std::convert::Infallible {
    loop {
        ends.next().await;
        give_up.now();
    }
}

fn say(report: &ShutdownReport) {
    for unfinished in &report.unfinished {
        warn!(
            mapping = %unfinished.mapping,
            function = unfinished.function,
            topic = unfinished.topic,
            partition = unfinished.partition,
            committed_offset = unfinished.committed_offset,
            "Records will come again, from the committed offset or else the starting position"
        );
    }
    info!(gave_up = report.gave_up, "Ended");
}

fn start_log(config: &Config) -> io::Result<Arc<Log>> {
    let log = Arc::new(Log::start(io::stderr(), |dropped_lines| {
        warn!(
            dropped_lines,
            "Log lines were dropped: nobody reads them as fast as they come"
        );
    })?);
    // RUST_LOG refines the level by module, as usual in Rust.
    let mut filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(config.log_level.into())
        .from_env_lossy();
    // What the SDK says at length, control says in a sentence.
    if !std::env::var("RUST_LOG").is_ok_and(|wanted| wanted.contains("aws_")) {
        for module in ["aws_config", "aws_runtime", "aws_smithy_runtime"] {
            let quiet = format!("{module}=error").parse();
            filter = filter.add_directive(quiet.expect("a module and a level"));
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Arc::clone(&log))
        .with_ansi(io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    log_panics(Arc::clone(&log), config.state_dir.clone());
    Ok(log)
}

/// Panics go the log's way, since the usual one waits for the reader, and abort only once they and what was
/// said before are written.
fn log_panics(log: Arc<Log>, state_dir: PathBuf) {
    // Several shards may die at once of the same mapping: that is one death of the process.
    let noted = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let captured = backtrace.status() == BacktraceStatus::Captured;
        error!(
            thread = thread.name(),
            location = panic.location().map(tracing::field::display),
            reason = panic.payload_as_str(),
            backtrace = captured.then(|| tracing::field::display(&backtrace)),
            "Panicked"
        );
        if let Some(mapping) = crash::whose_turn()
            && !noted.swap(true, Ordering::Relaxed)
            && let Err(error) = crash::note(&state_dir, mapping, clock::unix_now())
        {
            error!(%mapping, %error, "The mapping that was at work cannot be kept for the next start");
        }
        log.flush(FLUSH_WAIT);
    }));
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "The service manager cannot be told");
    }
}
