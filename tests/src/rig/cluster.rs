//! A cluster of Apache Kafka nodes, run by `tests/rig/cluster.py`, with a proxy of ours before each of them.
//!
//! Clients of others reach the nodes themselves; `forebay` is given the proxies, which the nodes advertise at a
//! listener of their own. So the network between the two can be cut, for anybody and without privileges.
//!
//! Invariant: a cut loses no byte. What is under way waits, as TCP would keep sending it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OnceCell, watch};

use super::{Broker, Rig, Settings, file_uri};

/// How many nodes a cluster has.
pub const NODES: usize = 3;

/// Of which version the clients of others are, whatever the nodes are.
const CLIENTS: &str = "4.4.0";

/// A cluster that takes requests. It ends when this is dropped.
pub struct Cluster {
    /// For the clients of others: each node where it listens itself.
    pub direct: Broker,
    /// The proxies, in the order of the nodes: `host:port` each.
    pub fronts: Vec<String>,
    /// What whoever comes by the proxies has to show.
    access: Vec<(&'static str, String)>,
    proxies: Vec<Proxy>,
    nodes: Talk,
    control: Talk,
}

/// What a cluster is like.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Of its nodes.
    pub version: &'a str,
    /// Where its proxies are advertised.
    pub host: &'a str,
    /// Whether its proxies are before listeners with SASL over TLS, whose sessions end after 20 s.
    pub is_secure: bool,
    /// What its nodes are told besides.
    pub settings: &'a [&'a str],
}

/// What a proxy holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// What goes to the node.
    pub there: bool,
    /// What comes from it.
    pub back: bool,
}

impl Cluster {
    /// Starts the nodes and waits until each is accepted.
    pub async fn start(rig: &Rig, site: Site<'_>) -> Self {
        let mut proxies = Vec::new();
        for _ in 0..NODES {
            proxies.push(Proxy::listen().await);
        }
        let ports: Vec<String> = proxies.iter().map(|it| it.port.to_string()).collect();
        let mut nodes = Talk::start(site.script(rig, &ports));
        let said: serde_json::Value = serde_json::from_str(&nodes.hear().await)
            .unwrap_or_else(|_| panic!("a cluster of Kafka {} did not start", site.version));
        let listed = said["nodes"].as_array().expect("a list of nodes");
        let address = |node: &serde_json::Value, name: &str| {
            node[name].as_str().expect("an address").to_owned()
        };
        for (proxy, node) in proxies.iter().zip(listed) {
            proxy.serve(address(node, "front"));
        }
        let direct: Vec<String> = listed.iter().map(|node| address(node, "direct")).collect();
        let direct = Broker::at(rig, CLIENTS, direct.join(","));
        let keys = said["keys"].as_str().map(Path::new);
        Self {
            fronts: ports
                .iter()
                .map(|it| format!("{}:{it}", site.host))
                .collect(),
            access: keys.map_or_else(Vec::new, access),
            control: Talk::start(control(rig, &direct.bootstrap)),
            direct,
            proxies,
            nodes,
        }
    }

    /// For a `forebay` that reaches the cluster by its proxies; its topic and its group have the same name.
    pub fn settings(&self, topic: &str, function_port: u16) -> Settings {
        Settings {
            bootstrap: Some(self.fronts.join(",")),
            access: self.access.clone(),
            ..Settings::new(topic, topic, function_port)
        }
    }

    /// Tells `cluster.py` to do something to a node: `kill 2`.
    pub async fn tell(&mut self, command: &str) {
        let said = self.nodes.ask(command).await;
        assert!(said.contains("done"), "{command}: {said}");
    }

    /// Asks the administrator, `cluster/Control.java`.
    pub async fn ask(&mut self, command: &str) -> String {
        let said = self.control.ask(command).await;
        assert!(!said.starts_with("error"), "{command}: {said}");
        said
    }

    /// The node that is a group's coordinator.
    pub async fn coordinator(&mut self, group: &str) -> usize {
        let said = self.ask(&format!("coordinator {group}")).await;
        said.parse().expect("a node's number")
    }

    /// The node that leads each partition of a topic; 0 where none does.
    pub async fn leaders(&mut self, topic: &str) -> Vec<usize> {
        let said = self.ask(&format!("leaders {topic}")).await;
        let numbers = said
            .split(' ')
            .map(|it| it.parse().expect("a node's number"));
        numbers.collect()
    }

    /// A node's proxy listens at that address from now on, or nowhere; what stood ends.
    pub fn place(&self, node: usize, at: Option<Ipv4Addr>) {
        self.proxies[node - 1].place.send_replace(at);
    }

    /// Cuts the network between `forebay` and a node, or mends it.
    pub fn cut(&self, node: usize, cut: Cut) {
        self.proxies[node - 1].cut.send_replace(cut);
    }
}

impl<'a> Site<'a> {
    /// Nodes of that version, and nothing else about them.
    pub fn new(version: &'a str) -> Self {
        Self {
            version,
            host: "127.0.0.1",
            is_secure: false,
            settings: &[],
        }
    }

    fn script(&self, rig: &Rig, ports: &[String]) -> Command {
        let mut script = Command::new("python3");
        script
            .arg(rig.scripts.join("cluster.py"))
            .arg(self.version)
            .args(["--host", self.host, "--advertised", &ports.join(",")])
            .args(self.is_secure.then_some("--secure"))
            .args(self.settings.iter().flat_map(|it| ["--set", it]))
            .env("FOREBAY_RIG", &rig.fetched);
        script
    }
}

/// A root, and a user of SCRAM.
fn access(keys: &Path) -> Vec<(&'static str, String)> {
    let secrets = [
        ("SERVER_ROOT_CA_CERTIFICATE", "root.json"),
        ("SASL_SCRAM_512_AUTH", "user.json"),
    ];
    let uris = secrets.map(|(kind, file)| (kind, file_uri(&keys.join(file))));
    uris.to_vec()
}

fn control(rig: &Rig, bootstrap: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(rig.archived(CLIENTS))
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp"])
        .arg(format!("{}/jars/kafka-{CLIENTS}/*", rig.fetched.display()))
        .arg(rig.scripts.join("cluster/Control.java"))
        .arg(bootstrap);
    command
}

/// A program that answers each line with a line.
struct Talk {
    /// Why the child is kept without a kill: it ends what it has started when its standard input closes.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let output = child.stdout.take().expect("stdout is piped");
        Self {
            input: child.stdin.take().expect("stdin is piped"),
            output: BufReader::new(output).lines(),
            _child: child,
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        let line = format!("{line}\n");
        let sent = self.input.write_all(line.as_bytes()).await;
        sent.expect("the program listens");
        self.hear().await
    }

    async fn hear(&mut self) -> String {
        let line = self.output.next_line().await;
        line.expect("it can be read").unwrap_or_default()
    }
}

/// Carries bytes between whoever connects and one node.
struct Proxy {
    port: u16,
    target: Arc<OnceCell<String>>,
    cut: watch::Sender<Cut>,
    /// Where it listens, if anywhere.
    place: watch::Sender<Option<Ipv4Addr>>,
}

impl Proxy {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let target = Arc::new(OnceCell::new());
        let (cut, is_cut) = watch::channel(Cut::default());
        let (place, placed) = watch::channel(Some(Ipv4Addr::LOCALHOST));
        tokio::spawn(accept(listener, Arc::clone(&target), is_cut, placed));
        Self {
            port,
            target,
            cut,
            place,
        }
    }

    fn serve(&self, target: String) {
        self.target.set(target).expect("a proxy has one target");
    }
}

/// Takes connections where it is placed.
async fn accept(
    mut listener: TcpListener,
    target: Arc<OnceCell<String>>,
    cut: watch::Receiver<Cut>,
    mut place: watch::Receiver<Option<Ipv4Addr>>,
) {
    let port = listener.local_addr().expect("a bound address").port();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let (Ok((stream, _)), Some(target)) = (accepted, target.get()) {
                    let carrying = carry(stream, String::clone(target), cut.clone());
                    let mut place = place.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = carrying => {}
                            _ = place.changed() => {}
                        }
                    });
                }
            }
            _ = place.changed() => {
                drop(listener);
                let Ok(at) = place.wait_for(Option::is_some).await.map(|at| *at) else {
                    return;
                };
                let at = (at.expect("it was waited for"), port);
                listener = TcpListener::bind(at).await.expect("the port is still free");
            }
        }
    }
}

/// Carries one connection until either side has ended, or cannot be reached: then the other ends too.
async fn carry(client: TcpStream, target: String, mut cut: watch::Receiver<Cut>) {
    // The way there and back: else there is no hand-shake.
    let whole = cut.wait_for(|cut| *cut == Cut::default()).await.is_ok();
    if !whole {
        return;
    }
    let Ok(node) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    tokio::select! {
        () = pump(from_client, to_node, cut.clone(), |cut| cut.there) => {}
        () = pump(from_node, to_client, cut.clone(), |cut| cut.back) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<Cut>,
    holds: fn(&Cut) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if cut.wait_for(|cut| !holds(cut)).await.is_err() {
            return;
        }
        match read {
            Ok(bytes @ 1..) if to.write_all(&buffer[..bytes]).await.is_ok() => {}
            _ => return,
        }
    }
}
