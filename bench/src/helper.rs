//! This program once more, as a process of its own: it is asked by a line and answers by a line of JSON.
//!
//! Invariant: it ends with its standard input, so it never outlives who asked.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The asking side. The process ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this program with those arguments.
    pub(crate) fn start(arguments: &[String]) -> Result<Self, String> {
        Self::start_with(arguments, &[])
    }

    /// Starts this program with those arguments, and those variables beside what is set here.
    pub(crate) fn start_with(
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(arguments)
            // It keeps what memory it has had, and takes it by pages: in a virtual machine 2 MiB afresh may take 6 ms, for
            // which all others wait.
            .env("MIMALLOC_PURGE_DELAY", "-1")
            .env("MIMALLOC_ALLOW_THP", "0")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{arguments:?} does not start: {error}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or("a helper has no pipes")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T, String> {
        writeln!(self.stdin, "{question}")
            .map_err(|error| format!("a helper has ended: {error}"))?;
        self.hear()
    }

    /// Waits for a line.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .map_err(|error| format!("a helper cannot be heard: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("a helper said {line:?}: {error}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The other side's answer.
pub(crate) fn tell(what: &impl Serialize) -> Result<(), String> {
    let line = serde_json::to_string(what).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}"))
}
