//! The real `forebay` as a process, and what it takes: CPU time and memory.
//!
//! Invariant: what is measured is the binary that users run, with a configuration file.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::Site;

/// A running `forebay`; it is killed when this is dropped.
#[derive(Debug)]
pub struct Node(Child);

impl Node {
    /// The binary beside the running one.
    pub fn program() -> Result<PathBuf, String> {
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

    /// Starts it, without waiting for anything. Calls are signed with keys that are nobody's.
    pub fn start(program: &Path, site: &Site) -> Result<Self, String> {
        Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(site.config_file())
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|error| format!("{} does not start: {error}", program.display()))
    }

    /// CPU time of all its threads so far.
    pub fn cpu_time(&mut self) -> Result<Duration, String> {
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

    /// The memory that it holds.
    pub fn resident_bytes(&self) -> Result<u64, String> {
        self.memory("VmRSS:")
    }

    /// The most memory that it has held.
    pub fn peak_bytes(&self) -> Result<u64, String> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kilobytes = text.lines().find_map(|line| {
            let line = line.strip_prefix(name)?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        let bytes = kilobytes.map(|kilobytes| kilobytes * 1024);
        bytes.ok_or_else(|| format!("{path} does not tell {name}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
