//! The real appliance between a fake cluster and a fake Lambda, all in this process, files in a
//! temporary directory.
//!
//! [`Stage::new`] starts the fakes, [`Stage::site`] makes a node's directory, [`Site::declare`] writes a
//! mapping into it and [`Site::start`] starts a node there. Several nodes may run at once.
//!
//! Invariant: nothing here waits a fixed time; [`eventually!`](crate::eventually) has a deadline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::config::{Config, Machine, Surroundings};
use forebay::{Appliance, Listeners};
use tempfile::TempDir;

use crate::fake_kafka::server::FakeKafkaServer;
use crate::fake_kafka::{Config as Cluster, FakeKafka};
use crate::fake_lambda::{FakeLambda, Functions};
use crate::secure::Identity;

/// How long [`eventually!`](crate::eventually) waits when nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, and fails with its text when it does not in time.
#[macro_export]
macro_rules! eventually {
    (within $deadline:expr, $condition:expr) => {{
        let ends = tokio::time::Instant::now() + $deadline;
        while !$condition {
            assert!(
                tokio::time::Instant::now() < ends,
                "not within {:?}: {}",
                $deadline,
                stringify!($condition)
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }};
    ($condition:expr) => {
        $crate::eventually!(within $crate::harness::DEADLINE, $condition)
    };
}

/// So that no function's configuration is asked for.
const FUNCTION_TIMEOUT: &str = "timeout_seconds = 60";

/// The two fakes.
#[derive(Debug)]
pub struct Stage {
    /// The cluster.
    pub kafka: FakeKafkaServer,
    /// The functions.
    pub lambda: FakeLambda,
    /// Who both are, under TLS.
    identity: Option<Identity>,
}

/// A mapping to declare, with AWS's defaults.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The file's stem.
    pub name: String,
    /// `FunctionName`.
    pub function: String,
    /// The one topic.
    pub topic: String,
    /// `ConsumerGroupId`.
    pub group: String,
    /// `StartingPosition`.
    pub starting_position: String,
    /// More members, as TOML lines at the top level.
    pub members: String,
    /// Brokers other than the stage's.
    pub bootstrap: Option<String>,
}

impl Declared {
    /// A mapping of `topic` to the function of the same name, in a group of the same name, from the
    /// beginning, without a window.
    pub fn new(topic: &str) -> Self {
        Self {
            name: topic.to_owned(),
            function: topic.to_owned(),
            topic: topic.to_owned(),
            group: topic.to_owned(),
            starting_position: "TRIM_HORIZON".to_owned(),
            members: "MaximumBatchingWindowInSeconds = 0\n".to_owned(),
            bootstrap: None,
        }
    }

    /// The same with those members (TOML lines) instead.
    pub fn with(mut self, members: &str) -> Self {
        members.clone_into(&mut self.members);
        self
    }

    /// The same from another position.
    pub fn starting(mut self, position: &str) -> Self {
        position.clone_into(&mut self.starting_position);
        self
    }

    fn text(&self, bootstrap: &str, access: &str) -> String {
        let bootstrap = self.bootstrap.as_deref().unwrap_or(bootstrap);
        let servers: Vec<_> = bootstrap
            .split(',')
            .map(|server| format!("{server:?}"))
            .collect();
        format!(
            "FunctionName = {:?}\nTopics = [{:?}]\nStartingPosition = {:?}\n{access}{}\n\
             [SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [{}]\n\
             [SelfManagedKafkaEventSourceConfig]\nConsumerGroupId = {:?}\n",
            self.function,
            self.topic,
            self.starting_position,
            self.members,
            servers.join(", "),
            self.group,
        )
    }
}

/// One node's directory.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    bootstrap: String,
    keys: String,
    functions: String,
    /// How its mappings reach their brokers, as a member of theirs.
    access: String,
}

impl Stage {
    /// A cluster of one broker, and an endpoint that keeps a ledger.
    pub fn new() -> Self {
        Self::with_cluster(Cluster::new(1))
    }

    /// The same with another cluster.
    pub fn with_cluster(cluster: Cluster) -> Self {
        Self {
            kafka: FakeKafkaServer::start(cluster).expect("loopback has free ports"),
            lambda: FakeLambda::start().expect("loopback has free ports"),
            identity: None,
        }
    }

    /// A cluster of one broker and an endpoint that keeps a ledger, both under TLS.
    pub fn secure() -> Self {
        let identity = Identity::new();
        let kafka = FakeKafkaServer::start_secure(Cluster::new(1), &identity);
        let lambda = FakeLambda::start_secure(&identity);
        Self {
            kafka: kafka.expect("loopback has free ports"),
            lambda: lambda.expect("loopback has free ports"),
            identity: Some(identity),
        }
    }

    /// Who both are, under TLS.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// A directory for a node that finds both fakes; one shard, short timeouts, unsigned calls.
    pub fn site(&self) -> Site {
        let site = Site::new(&self.kafka.bootstrap(), &self.lambda.url());
        match &self.identity {
            Some(identity) => site.trusting(&identity.root_pem),
            None => site,
        }
    }

    /// Asks or changes the cluster.
    pub async fn on_kafka<R, F>(&self, f: F) -> R
    where
        R: Send + 'static,
        F: FnOnce(&mut FakeKafka) -> R + Send + 'static,
    {
        self.kafka.with(f).await
    }

    /// Asks or changes the functions.
    pub async fn on_lambda<R, F>(&self, f: F) -> R
    where
        R: Send + 'static,
        F: FnOnce(&mut Functions) -> R + Send + 'static,
    {
        self.lambda.with(f).await
    }

    /// What a group has committed; -1 for nothing.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> i64 {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.on_kafka(move |kafka| {
            let committed = kafka.committed(&group, &topic, partition);
            committed.map_or(-1, |committed| committed.offset)
        })
        .await
    }

    /// How many different records of a topic were delivered.
    pub async fn delivered(&self, topic: &str) -> usize {
        let topic = topic.to_owned();
        self.on_lambda(move |functions| functions.ledger().distinct(&topic))
            .await
    }

    /// Fails when the endpoint saw what must never be.
    pub async fn assert_no_violation(&self) {
        let violations = self
            .on_lambda(|functions| functions.ledger().violations().to_vec())
            .await;
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Site {
    /// A directory for a node between those two.
    pub fn new(bootstrap: &str, endpoint_url: &str) -> Self {
        let dir = TempDir::new().expect("the temporary directory is writable");
        std::fs::create_dir(dir.path().join("mappings.d")).expect("the directory is new");
        let keys = format!(
            "mappings_dir = \"mappings.d\"\nstate_dir = \"state\"\nlisten = \"127.0.0.1:0\"\n\
             region = \"eu-west-1\"\nendpoint_url = {endpoint_url:?}\nshards = 1\n\
             session_timeout_ms = 6000\nheartbeat_interval_ms = 200\nrebalance_timeout_ms = 20000\n\
             grace_ms = 5000\n"
        );
        Self {
            dir,
            bootstrap: bootstrap.to_owned(),
            keys,
            functions: String::new(),
            access: String::new(),
        }
    }

    /// One more key; it replaces the same key's earlier value.
    pub fn key(mut self, key: &str, value: &str) -> Self {
        let prefix = format!("{key} = ");
        let kept = self.keys.lines().filter(|line| !line.starts_with(&prefix));
        let mut keys: String = kept.flat_map(|line| [line, "\n"]).collect();
        keys.push_str(&format!("{key} = {value}\n"));
        self.keys = keys;
        self
    }

    /// The same, where that root (PEM) vouches for brokers and endpoint: both are reached under TLS.
    pub fn trusting(mut self, root_pem: &str) -> Self {
        let secret = serde_json::json!({ "certificate": root_pem }).to_string();
        let [pem, json] = [("root.pem", root_pem), ("root.json", &secret)].map(|(name, text)| {
            let file = self.dir.path().join(name);
            std::fs::write(&file, text).expect("the directory is writable");
            file
        });
        self.access = format!(
            "SourceAccessConfigurations = [{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file:{}\" }}]\n",
            json.display()
        );
        self.key("ca_bundle", &format!("{pem:?}"))
    }

    /// How the mappings that are declared from now on reach their brokers: a member of theirs, as a line of TOML.
    pub fn reach_brokers(&mut self, access: &str) {
        access.clone_into(&mut self.access);
    }

    /// The same, where every function declared so far has that timeout.
    pub fn function_timeout(mut self, seconds: u64) -> Self {
        let given = format!("timeout_seconds = {seconds}");
        self.functions = self.functions.replace(FUNCTION_TIMEOUT, &given);
        self
    }

    /// One more key of a function that was declared.
    pub fn function_key(&mut self, function: &str, key: &str, value: &str) {
        let header = format!("[functions.{function:?}]\n");
        let with_key = format!("{header}{key} = {value}\n");
        self.functions = self.functions.replace(&header, &with_key);
    }

    /// Writes a mapping's file. Its function is called unsigned.
    pub fn declare(&mut self, mapping: &Declared) {
        self.declare_with("", mapping);
    }

    /// The same, where the function has an endpoint of its own.
    pub fn declare_at(&mut self, endpoint_url: &str, mapping: &Declared) {
        self.declare_with(&format!("endpoint_url = {endpoint_url:?}\n"), mapping);
    }

    fn declare_with(&mut self, keys: &str, mapping: &Declared) {
        let header = format!("[functions.{:?}]\n", mapping.function);
        if !self.functions.contains(&header) {
            let section = format!("{header}{keys}signing = \"none\"\n{FUNCTION_TIMEOUT}\n");
            self.functions.push_str(&section);
        }
        self.declare_signed(mapping);
    }

    /// Writes a mapping's file. Its function is called with a signature, unless it was declared before.
    pub fn declare_signed(&self, mapping: &Declared) {
        self.write_mapping(&mapping.name, &mapping.text(&self.bootstrap, &self.access));
    }

    /// Writes any text as a mapping's file.
    pub fn write_mapping(&self, name: &str, text: &str) {
        let file = self.mapping_file(name);
        std::fs::write(file, text).expect("the directory is writable");
    }

    /// Removes a mapping's file.
    pub fn withdraw(&self, name: &str) {
        std::fs::remove_file(self.mapping_file(name)).expect("the mapping was declared");
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration's file; its path.
    pub fn config_file(&self) -> PathBuf {
        let path = self.dir.path().join("forebay.toml");
        let text = format!("{}{}", self.keys, self.functions);
        std::fs::write(&path, text).expect("the directory is writable");
        path
    }

    /// The configuration as the binary would read it.
    pub fn config(&self) -> Config {
        let text = format!("{}{}", self.keys, self.functions);
        let around = Surroundings::without_environment(Machine::here());
        let path = self.dir.path().join("forebay.toml");
        Config::parse(&text, &path, &around).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Starts a node here.
    pub async fn start(&self) -> Appliance {
        let started = Appliance::start(self.config(), Listeners::default()).await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    fn mapping_file(&self, name: &str) -> PathBuf {
        self.dir
            .path()
            .join("mappings.d")
            .join(format!("{name}.toml"))
    }
}

/// One plain HTTP GET: the status and the body.
pub async fn get(address: std::net::SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or(0), body.to_owned()))
}
