//! One Apache Kafka broker, run by `tests/rig/kafka.py` in a folder of its own, or our fake in its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Rig;

/// Listeners that ask for more than a connection, and keys and secrets for them (`tests/rig/secure.py`).
struct Secure {
    listeners: BTreeMap<String, String>,
    keys: PathBuf,
}

/// A broker that takes requests. It ends when this is dropped.
pub struct Broker {
    pub(super) rig: Rig,
    pub(super) version: &'static str,
    /// The version of the clients that write and read.
    pub(super) clients: String,
    lacks: Vec<String>,
    /// Where it listens: `127.0.0.1:port`.
    pub bootstrap: String,
    /// Its other listeners, and the secrets for them.
    secure: Option<Secure>,
    /// What runs it; `None` for what somebody else runs.
    _script: Option<Child>,
}

impl Broker {
    /// Starts a broker of that version and waits until it is accepted.
    pub async fn start(rig: &Rig, version: &'static str) -> Self {
        Self::start_with(rig, version, &[]).await
    }

    /// Such a broker that also listens with TLS, with mutual TLS, and with SASL over TLS.
    pub async fn start_secure(rig: &Rig, version: &'static str) -> Self {
        Self::start_with(rig, version, &["--secure"]).await
    }

    /// Such a broker whose listeners with TLS ask for a certificate, if it has one kind of them only.
    pub async fn start_mutual(rig: &Rig, version: &'static str) -> Self {
        Self::start_with(rig, version, &["--mutual"]).await
    }

    /// Such a broker that creates whatever topic is asked for by name.
    pub async fn start_creating(rig: &Rig, version: &'static str) -> Self {
        Self::start_with(rig, version, &["--set", "auto.create.topics.enable=true"]).await
    }

    /// Such a broker that lets whoever comes by SASL do nothing, and everybody else all.
    pub async fn start_guarded(rig: &Rig, version: &'static str) -> Self {
        let authorizer =
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        let options = [
            "--secure",
            "--set",
            authorizer,
            "--set",
            "super.users=User:ANONYMOUS",
        ];
        Self::start_with(rig, version, &options).await
    }

    /// Such a broker that ends the sessions of whoever does not authenticate again in time (KIP-368).
    pub async fn start_with_sessions(rig: &Rig, version: &'static str, of: Duration) -> Self {
        let lifetime = format!("connections.max.reauth.ms={}", of.as_millis());
        Self::start_with(rig, version, &["--secure", "--set", &lifetime]).await
    }

    async fn start_with(rig: &Rig, version: &'static str, options: &[&str]) -> Self {
        let mut script = Command::new("python3")
            .arg(rig.scripts.join("kafka.py"))
            .arg(version)
            .args(options)
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
            clients: said["clients"].as_str().expect("a version").to_owned(),
            lacks: serde_json::from_value(said["lacks"].clone()).expect("names"),
            bootstrap: said["bootstrap"].as_str().expect("an address").to_owned(),
            secure: said["keys"].as_str().map(|keys| Secure {
                listeners: serde_json::from_value(said["listeners"].clone()).expect("addresses"),
                keys: keys.into(),
            }),
            _script: Some(script),
        }
    }

    /// The fake that listens there, for the clients of that version.
    pub fn fake(rig: &Rig, version: &'static str, bootstrap: String) -> Self {
        Self::at(rig, version, bootstrap)
    }

    /// What somebody else runs there; several addresses are joined by commas.
    pub(super) fn at(rig: &Rig, version: &'static str, bootstrap: String) -> Self {
        Self {
            rig: rig.clone(),
            version,
            clients: version.to_owned(),
            // The fake has no transactions over the wire, and on a cluster that misbehaves they may time out.
            lacks: vec!["transactions".to_owned(), "patience".to_owned()],
            bootstrap,
            secure: None,
            _script: None,
        }
    }

    /// What records cannot have here: `headers`, `transactions`, `zstd`; and `patience`, where producers are not to wait
    /// for a broker that is silent.
    pub fn lacks(&self) -> Vec<&str> {
        self.lacks.iter().map(String::as_str).collect()
    }

    /// Whether its own clients are too old to write every kind of record, so that others do.
    pub fn has_older_clients(&self) -> bool {
        self.clients != self.version
    }

    /// Where it listens in that way: `TLS`, `MTLS` or `SASL`.
    pub fn listener(&self, name: &str) -> &str {
        let secure = self.secure.as_ref().expect("the broker was started secure");
        &secure.listeners[name]
    }

    /// The file of that secret: `root`, `stranger`, `client`, `second`, `user` or `wrong`.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.json"))
    }

    /// As a mapping names that file.
    pub fn secret_uri(&self, name: &str) -> String {
        file_uri(&self.secret(name))
    }

    /// Where its keys and certificates are: `root.pem` and `root.key` sign what it trusts.
    pub fn keys(&self) -> &Path {
        let secure = self.secure.as_ref().expect("the broker was started secure");
        &secure.keys
    }
}

/// A secret's file, as a mapping names it.
pub fn file_uri(path: &Path) -> String {
    format!("file:{}", path.display())
}
