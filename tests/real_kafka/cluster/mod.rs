//! Three real nodes that misbehave, one fault after the other, while records come all the time.
//!
//! What each fault costs is printed and never judged: from when it struck until every partition has delivered a
//! record that was produced afterwards, and how often the group was joined anew meanwhile. What is judged is the whole,
//! in the end. Every fault befalls `forebay` in each [`Way`]; those that the suite has no time for are in `slow`.
//!
//! Invariant: nothing is lost, each partition's order holds, and no two calls of one are ever open.

mod moving;
mod nodes;
mod slow;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use forebay_tests::rig::{
    Cluster, Cut, Forebay, Load, NODES, Producer, Rig, Settings, Sink, Site, await_all, unix_millis,
};

use super::say;

/// By the classic protocol, in plain text.
const CLASSIC: Way = Way {
    name: "classic",
    group_protocol: "classic",
    is_secure: false,
};

/// By the consumer protocol (KIP-848), in plain text.
const CONSUMER: Way = Way {
    name: "consumer",
    group_protocol: "consumer",
    is_secure: false,
};

/// By the classic protocol, and SASL over TLS with sessions that end.
const SECURE: Way = Way {
    name: "secure",
    group_protocol: "classic",
    is_secure: true,
};

/// Both at once.
const SECURE_CONSUMER: Way = Way {
    name: "secure consumer",
    group_protocol: "consumer",
    is_secure: true,
};

/// Each node leads as many.
const PARTITIONS: u32 = 6;

const RATE: u64 = 300;

/// How long a fault lasts that ends by itself.
const LASTS: Duration = Duration::from_secs(12);

/// A recovery that takes longer than this is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// How `forebay` is a member of its group, and how it reaches the nodes.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    group_protocol: &'static str,
    is_secure: bool,
}

impl Way {
    async fn cluster(self, rig: &Rig, site: Site<'_>) -> Cluster {
        let is_secure = self.is_secure;
        Cluster::start(rig, Site { is_secure, ..site }).await
    }

    fn settings(self, cluster: &Cluster, topic: &str, function_port: u16) -> Settings {
        Settings {
            group_protocol: self.group_protocol,
            ..cluster.settings(topic, function_port)
        }
    }
}

/// A cluster, a `forebay` and a load.
struct Trial {
    way: Way,
    cluster: Cluster,
    topic: &'static str,
    sink: Sink,
    forebay: Forebay,
    load: Option<Load>,
    partitions: u32,
    /// Calls that were looked at.
    seen: usize,
    /// How often it had joined its group.
    joined: usize,
}

impl Trial {
    async fn start(way: Way, rig: &Rig, site: Site<'_>, topic: &'static str) -> Self {
        Self::start_with(way, rig, site, topic, None).await
    }

    /// Such a trial that finds this in place of `/etc/hosts`.
    async fn start_with(
        way: Way,
        rig: &Rig,
        site: Site<'_>,
        topic: &'static str,
        hosts: Option<PathBuf>,
    ) -> Self {
        let mut cluster = way.cluster(rig, site).await;
        let replicas = NODES;
        let create = format!("create {topic} {PARTITIONS} {replicas}");
        cluster.ask(&create).await;
        let sink = Sink::new();
        sink.set_delay(Duration::from_millis(20));
        let settings = Settings {
            hosts,
            ..way.settings(&cluster, topic, sink.listen().await)
        };
        let forebay = Forebay::start(&cluster.direct, &settings);
        let load = cluster.direct.load(Producer::Java, topic, 1, RATE);
        let mut trial = Self {
            way,
            cluster,
            topic,
            sink,
            forebay,
            load: Some(load),
            partitions: PARTITIONS,
            seen: 0,
            joined: 0,
        };
        trial.recovers("the start", unix_millis()).await;
        trial
    }

    /// Waits until every partition has delivered a record that was produced after `since`; says how long it took.
    async fn recovers(&mut self, from: &str, since: u64) {
        let mut fresh = BTreeSet::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while fresh.len() < self.partitions as usize {
            if tokio::time::Instant::now() > deadline {
                let log = self.forebay.keep_log(self.topic);
                panic!(
                    "{}: {from}: only {fresh:?} go on; see {}",
                    self.way.name,
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let calls = &self.sink.ledger().calls;
            for call in &calls[self.seen..] {
                fresh.extend(partitions_since(&call.body, since));
            }
            self.seen = calls.len();
        }
        let took = Duration::from_millis(unix_millis() - since);
        let joined = self.forebay.times_logged("Joined the group");
        let rebalances = joined - std::mem::replace(&mut self.joined, joined);
        let way = self.way.name;
        say(&format!(
            "{way}: {from}: delivering again after {took:.1?}, rebalances: {rebalances}"
        ));
        self.forebay.assert_running();
    }

    /// A node that leads partitions.
    async fn leader(&mut self) -> usize {
        self.cluster.leaders(self.topic).await[0]
    }

    /// The node that is the group's coordinator.
    async fn coordinator(&mut self) -> usize {
        self.cluster.coordinator(self.topic).await
    }

    async fn tell(&mut self, command: &str) {
        self.cluster.tell(command).await;
    }

    /// Each node leads its share again, and every replica is in sync.
    async fn settle(&mut self) {
        let (topic, leaders) = (self.topic, self.cluster.leaders(self.topic).await);
        let mut nodes = leaders.clone();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() < NODES {
            self.cluster.ask(&format!("spread {topic}")).await;
        }
    }

    async fn killed(&mut self, what: &str, node: usize) {
        let since = unix_millis();
        self.tell(&format!("kill {node}")).await;
        self.recovers(what, since).await;
        self.tell(&format!("start {node}")).await;
        self.settle().await;
    }

    async fn frozen(&mut self, what: &str, node: usize) {
        let since = unix_millis();
        self.tell(&format!("freeze {node}")).await;
        self.recovers(what, since).await;
        self.tell(&format!("thaw {node}")).await;
        self.settle().await;
        self.recovers("and thawed", unix_millis()).await;
    }

    async fn cut(&mut self, what: &str, node: usize, cut: Cut) {
        self.cluster.cut(node, cut);
        tokio::time::sleep(LASTS).await;
        let since = unix_millis();
        self.cluster.cut(node, Cut::default());
        self.recovers(what, since).await;
    }

    /// Everything that was produced has arrived, as the rules have it.
    async fn ends(mut self) {
        let load = self.load.take().expect("the load runs");
        let produced = load.stop().await;
        let expected = self.cluster.direct.expected(self.topic).await;
        assert_eq!(expected.records(), produced.committed);
        let verdict = await_all(&mut self.sink, &expected, PATIENCE).await;
        let again = verdict.records_again();
        let (way, records) = (self.way.name, expected.records());
        say(&format!("{way}: {records} records, {again} of them again"));
        verdict.assert_sound();
        let partitions = self.partitions as usize;
        self.cluster
            .direct
            .await_no_lag(self.topic, partitions)
            .await;
        self.forebay.assert_running();
    }
}

/// The partitions of which a call carries a record that was produced after that.
fn partitions_since(body: &[u8], since: u64) -> BTreeSet<i64> {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let lanes = event["records"].as_object();
    let records = lanes.into_iter().flat_map(|lanes| lanes.values());
    let records = records.filter_map(|lane| lane.as_array()).flatten();
    let fresh = records.filter(|record| record["timestamp"].as_u64() >= Some(since));
    fresh.filter_map(|it| it["partition"].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_die_freeze_and_are_cut_off_lose_nothing() {
    nodes::misbehave(CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_die_and_freeze_lose_nothing_of_a_secure_member_of_the_consumer_protocol() {
    nodes::die_and_freeze(SECURE_CONSUMER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_change_under_us_are_read_as_they_are() {
    topics::change(CLASSIC).await;
}
