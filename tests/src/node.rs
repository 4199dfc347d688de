//! The real `forebay` as a process, and what it takes: CPU time and memory.
//!
//! Invariant: what is measured is the binary that users run, with a configuration file.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::Site;
use crate::process::Process;

/// A running `forebay`; it is killed when this is dropped.
#[derive(Debug)]
pub struct Node(Process);

impl Node {
    /// The binary beside the running one.
    pub fn program(named: Option<&Path>) -> Result<PathBuf, String> {
        if let Some(program) = named {
            return Ok(program.to_owned());
        }
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
        Self::start_with(program, site, &[])
    }

    /// The same with those environment variables.
    pub fn start_with(
        program: &Path,
        site: &Site,
        variables: &[(&str, String)],
    ) -> Result<Self, String> {
        let mut command = Self::command(program, site);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Process::start("the appliance", &mut command).map(Self)
    }

    /// How it is started.
    pub fn command(program: &Path, site: &Site) -> Command {
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--config")
            .arg(site.config_file())
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .stderr(Stdio::null())
            .process_group(0);
        command
    }

    /// CPU time of all its threads so far.
    pub fn cpu_time(&mut self) -> Result<Duration, String> {
        self.0.cpu_time()
    }

    /// How often one of its threads had nothing to do.
    pub fn waits(&self) -> u64 {
        self.0.waits()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> Result<usize, String> {
        self.0.descriptors()
    }

    /// The memory that it holds.
    pub fn resident_bytes(&self) -> Result<u64, String> {
        self.0.resident_bytes()
    }

    /// The most memory that it has held.
    pub fn peak_bytes(&self) -> Result<u64, String> {
        self.0.peak_bytes()
    }
}

/// The keys that calls are signed with: nobody's.
pub const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
/// The other half.
pub const SECRET_ACCESS_KEY: &str = "not-a-secret";
