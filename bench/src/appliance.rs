//! The real appliance as a process, and the CPU time that it takes.
//!
//! Invariant: what is measured is the binary that users run, with a configuration file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay_tests::harness::Site;

/// A running `forebay`; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Appliance(Child);

impl Appliance {
    /// The binary beside this one.
    pub(crate) fn program() -> Result<PathBuf, String> {
        let here = std::env::current_exe().map_err(|error| error.to_string())?;
        let program = here.with_file_name("forebay");
        if program.is_file() {
            return Ok(program);
        }
        let path = program.display();
        Err(format!(
            "{path} is missing; build it with `cargo build --release --workspace --bins`, or name one with --forebay"
        ))
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn start(program: &Path, site: &Site) -> Result<Self, String> {
        Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(site.config_file())
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| format!("{} does not start: {error}", program.display()))
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu_time(&mut self) -> Result<Duration, String> {
        if let Ok(Some(status)) = self.0.try_wait() {
            return Err(format!("the appliance has ended: {status}"));
        }
        let tasks = format!("/proc/{}/task", self.0.id());
        let tasks = std::fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        let nanoseconds = tasks
            .flatten()
            // A thread may end between the two reads; its share is small and past.
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The most memory that it has held.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1024)
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
