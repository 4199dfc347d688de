//! The `forebay` binary of a trial: checked, started, asked for its metrics, heard and stopped.
//!
//! It has the environment of whoever tries it, so credentials come from where they do in service.
//!
//! Invariant: it is stopped by SIGTERM, so that what was delivered is committed and the group is left.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use forebay_tests::clock;
use forebay_tests::harness::get;
use forebay_tests::process::Process;

use super::files::Files;
use super::scrape::Scrape;
use crate::signals::Signals;
use crate::wait::since;

/// How long the process may take to say that it has started, and to answer for its metrics.
const START_PATIENCE: Duration = Duration::from_secs(30);
const SCRAPE_PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(20);

/// What of the log is shown at most.
const LINES_MAX: usize = 12;

/// A running appliance.
#[derive(Debug)]
pub(super) struct Appliance {
    pub(super) process: Process,
    log: PathBuf,
    metrics: SocketAddr,
}

/// Asks the binary what is wrong with the files and with what they name; what it notes if nothing is.
pub(super) fn check(program: &Path, files: &Files) -> Result<Vec<String>, String> {
    let done = Command::new(program)
        .arg("check")
        .arg("--config")
        .arg(files.config())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let said = [done.stdout, done.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    let lines = said.iter().flat_map(|text| text.lines());
    if done.status.success() {
        let notes = lines.filter(|line| line.starts_with("note: "));
        return Ok(notes.map(str::to_owned).collect());
    }
    // What is right is of no interest now, nor is where the files are for a moment.
    let is_right = |line: &&str| line.starts_with("right: ") || line.contains(": right, ");
    let lines: Vec<&str> = lines.filter(|line| !is_right(line)).collect();
    let lines = lines.join("\n  ").replace(&files.prefix(), "");
    Err(format!("`forebay check` says\n  {lines}"))
}

impl Appliance {
    /// Starts it and waits until it runs.
    pub(super) fn start(
        program: &Path,
        files: &Files,
        signals: &mut Signals,
    ) -> Result<Self, String> {
        let log = files.log();
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--config")
            .arg(files.config())
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(file)
            // A terminal's Ctrl-C is ours to hear: the appliance would take our SIGTERM for a second one.
            .process_group(0);
        let mut process = Process::start("forebay", &mut command)?;
        let began = clock::monotonic_micros();
        loop {
            if let Some(metrics) = address(&fs::read_to_string(&log).unwrap_or_default()) {
                return Ok(Self {
                    process,
                    log,
                    metrics,
                });
            }
            let is_over = signals.pause(POLL);
            let status = process.ended()?;
            if is_over || status.is_some() || since(began) > START_PATIENCE {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("forebay does not start\n  {}", said.trim_end()));
            }
        }
    }

    pub(super) fn scrape(&self, signals: &Signals) -> Result<Scrape, String> {
        let asked = signals.block_on(async {
            tokio::time::timeout(SCRAPE_PATIENCE, get(self.metrics, "/metrics")).await
        });
        match asked {
            Ok(Ok((200, text))) => Ok(Scrape::read(&text)),
            Ok(Ok((status, _))) => Err(format!("/metrics answers {status}")),
            Ok(Err(error)) => Err(format!("/metrics: {error}")),
            Err(_) => Err("/metrics does not answer".to_owned()),
        }
    }

    /// Stops it, and takes the counts for as long as it tells them. A second signal gives up what is in flight.
    pub(super) fn stop(
        mut self,
        signals: &mut Signals,
        counted: &mut Scrape,
    ) -> Result<ExitStatus, String> {
        self.process.terminate()?;
        loop {
            if let Some(status) = self.process.ended()? {
                return Ok(status);
            }
            // It answers until its end, which may come in the middle of an answer.
            if let Ok(scrape) = self.scrape(signals)
                && scrape.calls >= counted.calls
            {
                *counted = scrape;
            }
            if signals.pause(POLL) {
                self.process.terminate()?;
            }
        }
    }

    /// What its log complains of.
    pub(super) fn complaints(&self) -> Vec<String> {
        complaints(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// Where the log says that metrics are served.
fn address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("Started"))?;
    let rest = line.split("metrics=").nth(1)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The errors of a log; its warnings if it has none.
fn complaints(log: &str) -> Vec<String> {
    let of = |level: &str| -> Vec<String> {
        let lines = log.lines();
        let lines = lines.filter(|line| line.split_whitespace().nth(1) == Some(level));
        lines.take(LINES_MAX).map(str::to_owned).collect()
    };
    let errors = of("ERROR");
    match errors.is_empty() {
        true => of("WARN"),
        false => errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00.000001Z  INFO forebay: Started version=\"0.1.0\" metrics=127.0.0.1:4711
2026-01-01T00:00:00.000002Z  WARN forebay::control::function: Function's timeout is not known
2026-01-01T00:00:01.000001Z ERROR forebay::control::observe: Mapping has a problem detail=\"404\"
";

    #[test]
    fn log_tells_where_metrics_are() {
        assert_eq!(address(LOG), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(address("2026 INFO forebay: Starting"), None);
    }

    #[test]
    fn errors_hide_warnings() {
        assert_eq!(complaints(LOG).len(), 1);
        assert!(complaints(LOG)[0].contains("404"));
        let before: Vec<&str> = LOG.lines().take(2).collect();
        assert!(complaints(&before.join("\n"))[0].contains("timeout"));
    }
}
