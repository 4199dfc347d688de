//! The real `forebay` as a process, with a configuration and one mapping in a folder of its own.

use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use forebay_protocol::delivery::StartingPosition;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{Broker, eventually};

/// What a test may choose; the rest has the appliance's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topic and group.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The port of the function's endpoint.
    pub function_port: u16,
    /// `StartingPosition`.
    pub starting_position: StartingPosition,
    /// `BatchSize`.
    pub batch_size: u32,
    /// `MaximumBatchingWindowInSeconds`.
    pub window_seconds: Option<u32>,
    /// The one pattern of `FilterCriteria`.
    pub filter: Option<&'static str>,
    /// The topic of the same cluster that records go to with their first failure; the function may report which of a
    /// batch have failed.
    pub failed_topic: Option<&'static str>,
    /// `BisectBatchOnFunctionError`, where records go to a topic.
    pub bisects: bool,
    /// Whether calls are signed.
    pub signed: bool,
    /// How many shards.
    pub shards: u32,
    /// How many consumers; `None` lets the appliance choose.
    pub pollers: Option<u32>,
    /// `group_protocol`.
    pub group_protocol: &'static str,
    /// `node_id`, for static members.
    pub node_id: Option<&'static str>,
    /// `session_timeout_ms`.
    pub session_timeout: Duration,
    /// `SourceAccessConfigurations`: types, and where their secrets are.
    pub access: Vec<(&'static str, String)>,
    /// More variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Where brokers are, if not at their plaintext listener: one or more, joined by commas.
    pub bootstrap: Option<String>,
    /// What it finds in place of `/etc/hosts`.
    pub hosts: Option<PathBuf>,
}

/// A running `forebay`. It is killed when this is dropped.
pub struct Forebay {
    program: PathBuf,
    dir: TempDir,
    child: Child,
    pid: Pid,
    metrics_port: u16,
}

impl Settings {
    /// Small batches, no window, one shard.
    pub fn new(topic: &str, group: &str, function_port: u16) -> Self {
        Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
            function_port,
            starting_position: StartingPosition::TrimHorizon,
            batch_size: 100,
            window_seconds: Some(0),
            filter: None,
            failed_topic: None,
            bisects: true,
            signed: false,
            shards: 1,
            pollers: None,
            group_protocol: "classic",
            node_id: None,
            session_timeout: Duration::from_secs(10),
            access: Vec::new(),
            environment: Vec::new(),
            bootstrap: None,
            hosts: None,
        }
    }

    fn node(&self, metrics_port: u16) -> String {
        let session = self.session_timeout.as_millis();
        let node_id = self
            .node_id
            .map_or_else(String::new, |id| format!("node_id = \"{id}\"\n"));
        let mut toml = format!(
            "mappings_dir = \"mappings.d\"\nstate_dir = \"state\"\nlisten = \"127.0.0.1:{metrics_port}\"\n\
             region = \"eu-central-1\"\nlog_level = \"debug\"\nmemory_bytes = 268435456\nshards = {}\n\
             group_protocol = \"{}\"\nsession_timeout_ms = {session}\nheartbeat_interval_ms = {}\n{}\
             [functions.sink]\nendpoint_url = \"http://127.0.0.1:{}\"\ntimeout_seconds = 60\n",
            self.shards,
            self.group_protocol,
            session / 10,
            node_id,
            self.function_port,
        );
        if !self.signed {
            toml.push_str("signing = \"none\"\n");
        }
        toml
    }

    fn mapping(&self, bootstrap: &str) -> String {
        let mut toml = format!(
            "FunctionName = \"sink\"\nTopics = [\"{}\"]\nBatchSize = {}\n",
            self.topic, self.batch_size,
        );
        let position = match self.starting_position {
            StartingPosition::TrimHorizon => "\"TRIM_HORIZON\"".to_owned(),
            StartingPosition::Latest => "\"LATEST\"".to_owned(),
            StartingPosition::AtTimestamp(millis) => format!(
                "\"AT_TIMESTAMP\"\nStartingPositionTimestamp = {}.{:03}",
                millis / 1000,
                millis % 1000
            ),
        };
        writeln!(toml, "StartingPosition = {position}").expect("a string takes all");
        if let Some(seconds) = self.window_seconds {
            writeln!(toml, "MaximumBatchingWindowInSeconds = {seconds}")
                .expect("a string takes all");
        }
        if let Some(pattern) = self.filter {
            let filters = format!("Filters = [{{ Pattern = '{pattern}' }}]");
            writeln!(toml, "FilterCriteria = {{ {filters} }}").expect("a string takes all");
        }
        if let Some(topic) = self.failed_topic {
            writeln!(
                toml,
                "MaximumRetryAttempts = 0\nBisectBatchOnFunctionError = {}\n\
                 FunctionResponseTypes = [\"ReportBatchItemFailures\"]\n\
                 DestinationConfig.OnFailure.Destination = \"kafka://{topic}\"",
                self.bisects
            )
            .expect("a string takes all");
        }
        if let Some(pollers) = self.pollers {
            let config = format!("MinimumPollers = {pollers}, MaximumPollers = {pollers}");
            writeln!(toml, "ProvisionedPollerConfig = {{ {config} }}").expect("a string takes all");
        }
        let entries = self
            .access
            .iter()
            .map(|(kind, secret)| format!("{{ Type = \"{kind}\", URI = \"{secret}\" }}"));
        let entries: Vec<String> = entries.collect();
        writeln!(
            toml,
            "SourceAccessConfigurations = [{}]",
            entries.join(", ")
        )
        .expect("a string takes all");
        let servers = self.bootstrap.as_deref().unwrap_or(bootstrap).split(',');
        let servers: Vec<String> = servers.map(|server| format!("\"{server}\"")).collect();
        write!(
            toml,
            "[SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [{}]\n\
             [SelfManagedKafkaEventSourceConfig]\nConsumerGroupId = \"{}\"\n",
            servers.join(", "),
            self.group
        )
        .expect("a string takes all");
        toml
    }
}

impl Forebay {
    /// Starts it, without waiting for anything.
    pub fn start(broker: &Broker, settings: &Settings) -> Self {
        let dir = TempDir::with_prefix("forebay-process-").expect("a folder");
        let metrics_port = free_port();
        let write = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).expect("the folder takes files");
        };
        std::fs::create_dir_all(dir.path().join("mappings.d")).expect("a folder");
        std::fs::create_dir_all(dir.path().join("state")).expect("a folder");
        write("forebay.toml", settings.node(metrics_port));
        write(
            "mappings.d/mapping.toml",
            settings.mapping(&broker.bootstrap),
        );
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        // Why setpriv: the kernel ends the process with the test, however the test ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(hosts) = &settings.hosts {
            // A mount of its own, which takes no privilege; `exec` keeps the process id.
            let mounts = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
            command.args(["unshare", "--map-root-user", "--mount", "sh", "-c", mounts]);
            command.arg(hosts);
        }
        let child = command
            .arg(&broker.rig.forebay)
            .args(["run", "--config"])
            .arg(dir.path().join("forebay.toml"))
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(
                settings
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("forebay runs");
        let id = child.id().expect("it has just started");
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        Self {
            program: broker.rig.forebay.clone(),
            dir,
            child,
            pid: pid.expect("a process id is positive"),
            metrics_port,
        }
    }

    /// What `forebay check` says of its configuration.
    pub async fn check(&self) -> String {
        let mut command = Command::new(&self.program);
        command
            .args(["check", "--config"])
            .arg(self.dir.path().join("forebay.toml"));
        let done = command.output().await.expect("forebay runs");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is ours and not waited for");
    }

    /// SIGKILL, and the end of it.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// SIGTERM; returns how it ended, within a time.
    pub async fn terminate(mut self, within: Duration) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        let log = self.log();
        let status = ended
            .unwrap_or_else(|_| panic!("it has not ended within {within:?}:\n{log}"))
            .expect("it can be waited for");
        (status, log)
    }

    /// Whether it still runs.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("it can be asked") {
            panic!("forebay has ended with {status}:\n{}", self.log());
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has logged that.
    pub fn has_logged(&self, text: &str) -> bool {
        self.times_logged(text) > 0
    }

    /// How often it has logged that.
    pub fn times_logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log"));
        log.map_or(0, |log| log.matches(text).count())
    }

    /// The end of what it has logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Keeps its log for whoever looks into a failure.
    pub fn keep_log(&self, name: &str) -> PathBuf {
        let to = std::env::temp_dir().join(format!("forebay-{name}-{}.log", self.id()));
        std::fs::copy(self.dir.path().join("log"), &to).expect("the log can be copied");
        to
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let port = self.metrics_port;
        eventually("/metrics answers", Duration::from_secs(20), async || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            let request = b"GET /metrics HTTP/1.1\r\nHost: rig\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            text.starts_with("HTTP/1.1 200").then_some(text)
        })
        .await
    }
}

/// Shows the end of its log where a test has failed.
impl Drop for Forebay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = format!("forebay's log ends:\n{}\n", self.log());
            std::io::stderr().write_all(log.as_bytes()).ok();
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
