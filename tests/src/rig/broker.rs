//! One Apache Kafka broker, run by `tests/rig/kafka.py` in a folder of its own, or our fake in its place.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Rig;

/// A broker that takes requests. It ends when this is dropped.
pub struct Broker {
    pub(super) rig: Rig,
    pub(super) version: &'static str,
    /// Where it listens: `127.0.0.1:port`.
    pub bootstrap: String,
    /// `None` for the fake.
    pub(super) script: Option<Child>,
}

impl Broker {
    /// Starts a broker of that version and waits until it is accepted.
    pub async fn start(rig: &Rig, version: &'static str) -> Self {
        let mut script = Command::new("python3")
            .arg(rig.scripts.join("kafka.py"))
            .arg(version)
            .env("FOREBAY_RIG", &rig.fetched)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdout = script.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .await
            .expect("the script says where the broker listens");
        let said: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("Kafka {version} did not start"));
        // Why the child is kept without a kill: it ends its broker when its standard input closes.
        Self {
            rig: rig.clone(),
            version,
            bootstrap: said["bootstrap"].as_str().expect("an address").to_owned(),
            script: Some(script),
        }
    }

    /// The fake that listens there, for the clients of that version.
    pub fn fake(rig: &Rig, version: &'static str, bootstrap: String) -> Self {
        Self {
            rig: rig.clone(),
            version,
            bootstrap,
            script: None,
        }
    }
}
