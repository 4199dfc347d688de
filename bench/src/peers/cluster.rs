//! A real Kafka: one broker, by the suite's own rig (`tests/rig`), which fetches it where it is missing.
//!
//! Invariant: it ends when this is dropped, with its folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::wire::Wire;
use crate::{say, stage};

/// The version that everyone is measured on.
pub(crate) const VERSION: &str = "4.4.0";

/// A running broker.
#[derive(Debug)]
pub(crate) struct Cluster {
    rig: Child,
    pub(crate) bootstrap: String,
}

/// What the rig says when the broker takes requests.
#[derive(Deserialize)]
struct Said {
    bootstrap: String,
}

impl Cluster {
    /// Fetches the broker if need be, and starts it.
    pub(crate) fn start() -> Result<Self, String> {
        fetch()?;
        let mut rig = Command::new("python3")
            .arg(scripts().join("kafka.py"))
            .args([VERSION, "--lasting"])
            .env("FOREBAY_RIG", fetched())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3 does not run: {error}"))?;
        let stdout = rig.stdout.take().ok_or("the rig has no pipe")?;
        let mut line = String::new();
        let heard = BufReader::new(stdout).read_line(&mut line);
        let said = heard
            .map_err(|error| error.to_string())
            .and_then(|_| serde_json::from_str(&line).map_err(|error| error.to_string()));
        match said {
            Ok(Said { bootstrap }) => Ok(Self { rig, bootstrap }),
            Err(error) => {
                // It has said why, on standard error.
                rig.wait().ok();
                Err(format!("Kafka {VERSION} does not start: {error}"))
            }
        }
    }

    pub(crate) fn connect(&self) -> Result<Wire, String> {
        Wire::connect(&self.bootstrap)
    }

    /// Makes a topic and fills it with whole batches of at least so many records; how many there are.
    pub(crate) fn fill(
        &self,
        topic: &str,
        partitions: i32,
        value_bytes: usize,
        records: usize,
    ) -> Result<u64, String> {
        let mut wire = self.connect()?;
        wire.create_topic(topic, partitions)?;
        let (batch, per_batch) = stage::batch(value_bytes);
        let batches = records.div_ceil(per_batch);
        for (_, partition) in (0..batches).zip((0..partitions).cycle()) {
            wire.produce(topic, partition, &batch)?;
        }
        Ok((batches * per_batch) as u64)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.rig.stdin.take());
        // It removes the broker's folder before it ends; how it ends changes nothing here.
        self.rig.wait().ok();
    }
}

fn fetch() -> Result<(), String> {
    let jars = format!("kafka-{VERSION}");
    if fetched().join("jars").join(&jars).is_dir() {
        return Ok(());
    }
    say(&format!(
        "Kafka {VERSION} is missing: it is fetched by Maven, once"
    ));
    let script = format!("import fetch; fetch.java(); fetch.jars({jars:?})");
    let status = Command::new("python3")
        .args(["-c", &script])
        .current_dir(scripts())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("python3 does not run: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("Kafka {VERSION} cannot be fetched: {status}"))
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rig")
}

/// Where the rig's scripts keep what they fetch; they go by the same variable.
fn fetched() -> PathBuf {
    let named = std::env::var_os("FOREBAY_RIG").filter(|named| !named.is_empty());
    named.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/.rig"),
        PathBuf::from,
    )
}
