//! Three real nodes that misbehave, one fault after the other, while records come all the time.
//!
//! What each fault costs is printed and never judged: from when it struck until every partition has delivered a
//! record that was produced afterwards. What is judged is the whole, in the end.
//!
//! Invariant: nothing is lost, each partition's order holds, and no two calls of one are ever open.

mod slow;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use forebay_tests::rig::{
    Cluster, Cut, Forebay, Load, NODES, Producer, Settings, Sink, await_all, unix_millis,
};

use super::{NEWEST, rig, say};

/// Each node leads as many.
const PARTITIONS: u32 = 6;

const RATE: u64 = 300;

/// How long a fault lasts that ends by itself.
const LASTS: Duration = Duration::from_secs(12);

/// A recovery that takes longer than this is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster, a `forebay` and a load.
struct Trial {
    cluster: Cluster,
    topic: &'static str,
    sink: Sink,
    forebay: Forebay,
    load: Option<Load>,
    partitions: u32,
    /// Calls that were looked at.
    seen: usize,
}

impl Trial {
    async fn start(cluster: Cluster, topic: &'static str) -> Self {
        Self::start_with(cluster, topic, None).await
    }

    async fn start_with(mut cluster: Cluster, topic: &'static str, hosts: Option<PathBuf>) -> Self {
        let replicas = NODES;
        let create = format!("create {topic} {PARTITIONS} {replicas}");
        cluster.ask(&create).await;
        let sink = Sink::new();
        sink.set_delay(Duration::from_millis(20));
        let settings = Settings {
            bootstrap: Some(cluster.fronts.join(",")),
            hosts,
            ..Settings::new(topic, topic, sink.listen().await)
        };
        let forebay = Forebay::start(&cluster.direct, &settings);
        let load = cluster.direct.load(Producer::Java, topic, 1, RATE);
        let mut trial = Self {
            cluster,
            topic,
            sink,
            forebay,
            load: Some(load),
            partitions: PARTITIONS,
            seen: 0,
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
                panic!("{from}: only {fresh:?} go on; see {}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let calls = &self.sink.ledger().calls;
            for call in &calls[self.seen..] {
                fresh.extend(partitions_since(&call.body, since));
            }
            self.seen = calls.len();
        }
        let took = Duration::from_millis(unix_millis() - since);
        say(&format!("{from}: delivering again after {took:.1?}"));
        self.forebay.assert_running();
    }

    /// A node that leads partitions.
    async fn leader(&mut self) -> usize {
        self.cluster.leaders(self.topic).await[0]
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
        say(&format!(
            "{} records, {again} of them again",
            expected.records()
        ));
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
    let Some(rig) = rig("nodes that misbehave") else {
        return;
    };
    let cluster = Cluster::start(&rig, NEWEST, &[]).await;
    let mut trial = Trial::start(cluster, "faults").await;
    let since = unix_millis();
    trial.cluster.ask("lead faults 2").await;
    trial.recovers("all leaders moved", since).await;
    trial.settle().await;
    let node = trial.leader().await;
    trial.killed("a leader killed", node).await;
    let node = trial.cluster.coordinator("faults").await;
    trial.killed("the coordinator killed", node).await;
    let node = trial.leader().await;
    trial.frozen("a leader frozen", node).await;
    let node = trial.cluster.coordinator("faults").await;
    trial.frozen("the coordinator frozen", node).await;
    for (what, there, back) in [
        ("cut off on the way there", true, false),
        ("cut off on the way back", false, true),
        ("cut off both ways", true, true),
    ] {
        let node = trial.leader().await;
        trial.cut(what, node, Cut { there, back }).await;
    }
    trial.ends().await;
}
