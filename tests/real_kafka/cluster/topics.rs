//! What happens to topics and their logs, on three real nodes: they are created anew, grow, are overtaken by retention
//! and by unclean leaders, are hard to reach and slow.
//!
//! Invariant: whatever Kafka's own consumer can still read has been delivered, in order, and what cannot is named.

use std::net::Ipv4Addr;
use std::time::Duration;

use forebay_tests::rig::{
    Cluster, Expected, Forebay, NODES, Producer, Settings, Sink, Site, await_all, eventually,
    skips, unix_millis,
};

use super::super::{NEWEST, rig, say};
use super::Way;

const WITHIN: Duration = Duration::from_secs(60);

/// One topic, its `forebay` and its function.
struct Trial<'a> {
    way: Way,
    cluster: &'a mut Cluster,
    topic: &'static str,
    sink: Sink,
    settings: Settings,
    seed: u64,
}

impl<'a> Trial<'a> {
    async fn new(way: Way, cluster: &'a mut Cluster, topic: &'static str, creation: &str) -> Self {
        cluster.ask(&format!("create {topic} {creation}")).await;
        let sink = Sink::new();
        let settings = way.settings(cluster, topic, sink.listen().await);
        Self {
            way,
            cluster,
            topic,
            sink,
            settings,
            seed: 1,
        }
    }

    fn start(&self) -> Forebay {
        Forebay::start(&self.cluster.direct, &self.settings)
    }

    /// Stops it, so that its commits are made and its place in the group is free.
    async fn stop(forebay: Forebay) {
        let (status, log) = forebay.terminate(WITHIN).await;
        assert!(status.success(), "{log}");
    }

    async fn ask(&mut self, command: &str) -> String {
        self.cluster.ask(command).await
    }

    /// Writes so many records, never the same.
    async fn produce(&mut self, count: u64) {
        self.seed += 1;
        let kafka = &self.cluster.direct;
        kafka
            .produce(Producer::Java, self.topic, count, self.seed)
            .await;
    }

    async fn expected(&self) -> Expected {
        self.cluster.direct.expected(self.topic).await
    }

    /// What the log holds by now has been delivered, whatever came before; says how long that took.
    async fn delivers_the_log(&mut self, forebay: &mut Forebay, what: &str) {
        let since = unix_millis();
        let expected = self.expected().await;
        let (topic, sink) = (self.topic, &mut self.sink);
        let deadline = tokio::time::Instant::now() + WITHIN;
        loop {
            let missing = expected.missing(&sink.ledger().calls);
            if missing == 0 {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                let log = forebay.keep_log(topic);
                panic!(
                    "{}: {what}: {missing} records are missing; see {}",
                    self.way.name,
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let took = Duration::from_millis(unix_millis() - since);
        let (way, records) = (self.way.name, expected.records());
        let joined = forebay.times_logged("Joined the group");
        say(&format!(
            "{way}: {what}: {records} records after {took:.1?}, times joined: {joined}"
        ));
        forebay.assert_running();
    }

    /// Node 3 comes back, without what node 2 alone had, and leads in its place.
    async fn have_3_lead_instead_of_2(&mut self, topic: &str) {
        self.cluster.tell("kill 2").await;
        self.cluster.tell("start 3").await;
        eventually("an unclean leader", WITHIN, async || {
            self.cluster.ask(&format!("unclean {topic}")).await;
            let leaders = self.cluster.leaders(topic).await;
            (leaders == [3]).then_some(())
        })
        .await;
    }

    /// Its log is what it always was, and all of it has come by the rules.
    async fn ends(&mut self) {
        let expected = self.expected().await;
        let verdict = await_all(&mut self.sink, &expected, WITHIN).await;
        verdict.assert_sound();
    }

    /// Its log has been another, and what came of each came in order.
    fn ends_in_order(&mut self) {
        let skips = skips(&self.sink.ledger().calls);
        assert!(skips.is_empty(), "{}: {skips:#?}", self.topic);
    }

    /// The value of one of its counters.
    async fn counter(&self, forebay: &Forebay, name: &str) -> u64 {
        eventually(name, WITHIN, async || {
            let metrics = forebay.metrics().await;
            let line = metrics.lines().find(|line| line.starts_with(name))?;
            let value = line.rsplit(' ').next()?.split('.').next()?;
            value.parse().ok()
        })
        .await
    }

    async fn counts(&self, forebay: &Forebay, name: &str, wanted: impl Fn(u64) -> bool) {
        eventually(name, WITHIN, async || {
            wanted(self.counter(forebay, name).await).then_some(())
        })
        .await;
    }

    async fn says(&self, forebay: &Forebay, text: &str) {
        eventually(text, WITHIN, async || {
            forebay.has_logged(text).then_some(())
        })
        .await;
    }
}

/// All that happens to topics.
pub(super) async fn change(way: Way) {
    let Some(rig) = rig("topics that change") else {
        return;
    };
    let settings = ["min.insync.replicas=1", "offsets.topic.num.partitions=1"];
    let site = Site {
        settings: &settings,
        ..Site::new(NEWEST)
    };
    let mut cluster = way.cluster(&rig, site).await;
    created_anew_and_grown(way, &mut cluster).await;
    overtaken_by_retention(way, &mut cluster).await;
    dead_entries_come_first(way, &mut cluster).await;
    advertised_where_it_cannot_be_reached(way, &mut cluster).await;
    throttled(way, &mut cluster).await;
    overwritten_by_an_unclean_leader(way, &mut cluster).await;
    offsets_that_are_offline(way, &mut cluster).await;
    group_that_is_forgotten(way, &mut cluster).await;
}

async fn created_anew_and_grown(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "anew", "4 3").await;
    let mut forebay = trial.start();
    trial.produce(2_000).await;
    trial.delivers_the_log(&mut forebay, "a new topic").await;

    trial.ask("delete anew").await;
    trial.says(&forebay, "Topic does not exist").await;
    trial.ask("create anew 4 3").await;
    trial.produce(1_000).await;
    trial.delivers_the_log(&mut forebay, "created anew").await;

    trial.ask("grow anew 6").await;
    trial.produce(1_000).await;
    // Views are a few minutes old at most; a leader that moves makes a new one.
    trial.ask("lead anew 1").await;
    trial
        .delivers_the_log(&mut forebay, "two partitions added")
        .await;

    Trial::stop(forebay).await;
    trial.ask("delete anew").await;
    trial.ask("create anew 4 3").await;
    trial.produce(500).await;
    let mut forebay = trial.start();
    trial
        .delivers_the_log(&mut forebay, "created anew while we were down")
        .await;
    let kafka = &trial.cluster.direct;
    kafka.await_no_lag("anew", 4).await;
    trial.ends_in_order();
}

async fn overtaken_by_retention(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "overtaken", "1 3").await;
    let forebay = trial.start();
    trial.produce(100).await;
    trial.cluster.direct.await_no_lag("overtaken", 1).await;
    Trial::stop(forebay).await;
    trial.produce(300).await;
    let start: u64 = trial
        .ask("trim overtaken 0 -1")
        .await
        .parse()
        .expect("an offset");
    trial.produce(50).await;
    let mut forebay = trial.start();
    trial
        .delivers_the_log(&mut forebay, "overtaken by retention")
        .await;
    trial
        .says(&forebay, "Retention removed records before they were read")
        .await;
    let lost = "forebay_retention_lost_records_total";
    trial
        .counts(&forebay, lost, |lost| lost == start - 100)
        .await;

    // Under a call that is tried again.
    trial.sink.set_failing(true);
    let dropped = "forebay_dropped_records_total";
    trial.produce(20).await;
    trial.says(&forebay, "Function calls fail").await;
    trial.ask("trim overtaken 0 -1").await;
    trial
        .says(
            &forebay,
            "Records expired while their call was being tried again",
        )
        .await;
    trial.sink.set_failing(false);
    trial.produce(20).await;
    trial
        .delivers_the_log(&mut forebay, "overtaken while being tried")
        .await;
    trial.counts(&forebay, dropped, |dropped| dropped > 0).await;
}

async fn dead_entries_come_first(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "dead", "3 3").await;
    let alive = trial.cluster.fronts[0].clone();
    trial.settings.bootstrap = Some(format!(
        "127.0.0.1:1,nobody.invalid:9092,127.0.0.1:2,{alive}"
    ));
    trial.produce(200).await;
    let mut forebay = trial.start();
    trial
        .delivers_the_log(&mut forebay, "three dead entries before the living")
        .await;
    trial.ends().await;
}

async fn advertised_where_it_cannot_be_reached(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "advertised", "3 3").await;
    trial.ask("spread advertised").await;
    // The group's coordinator stays within reach.
    let coordinator = trial.cluster.leaders("__consumer_offsets").await[0];
    let shut = 1 + coordinator % NODES;
    trial.cluster.place(shut, None);
    trial.produce(200).await;
    let address = trial.cluster.fronts[shut - 1].clone();
    let mut forebay = trial.start();
    let said = format!("broker {address}, as the cluster advertises the leader of some partitions");
    trial.says(&forebay, &said).await;
    trial
        .counts(&forebay, "forebay_mapping_faults", |faults| faults == 1)
        .await;
    trial.cluster.place(shut, Some(Ipv4Addr::LOCALHOST));
    trial
        .delivers_the_log(
            &mut forebay,
            "an advertised address that can be reached again",
        )
        .await;
    trial.ends().await;
}

async fn throttled(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "throttled", "3 3").await;
    // No large ones: they would have it silent for a minute.
    trial.produce(2_400).await;
    // Less than the first fetches bring, over the ten seconds that Kafka looks at.
    trial.ask("throttle - 5000").await;
    let mut forebay = trial.start();
    trial
        .says(&forebay, "Broker throttles; its connection is left alone")
        .await;
    trial
        .counts(&forebay, "forebay_broker_throttles_total", |it| it > 0)
        .await;
    trial.ask("throttle - 0").await;
    trial.produce(300).await;
    trial.delivers_the_log(&mut forebay, "a quota").await;
    let restarted = trial
        .counter(&forebay, "forebay_restarted_partitions_total")
        .await;
    assert_eq!(restarted, 0);
    trial.ends().await;
}

/// The only replica in sync dies with what it alone has, and who takes over writes other records in their place.
async fn overwritten_by_an_unclean_leader(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "unclean", "1 3").await;
    trial.ask("place unclean 2,3").await;
    trial.ask("lead unclean 2").await;
    trial.produce(100).await;
    let mut forebay = trial.start();
    trial
        .delivers_the_log(&mut forebay, "before an unclean election")
        .await;
    trial.cluster.tell("kill 3").await;
    trial.produce(200).await;
    trial
        .delivers_the_log(&mut forebay, "what one replica alone has")
        .await;
    trial.cluster.direct.await_no_lag("unclean", 1).await;
    Trial::stop(forebay).await;
    trial.have_3_lead_instead_of_2("unclean").await;
    trial.produce(400).await;
    let mut forebay = trial.start();
    trial
        .delivers_the_log(&mut forebay, "overwritten by an unclean leader")
        .await;
    trial
        .says(&forebay, "Log was truncated below what was read")
        .await;
    trial.ends_in_order();
    trial.cluster.tell("start 2").await;
}

/// The group's offsets have one replica, and it is gone for a while.
async fn offsets_that_are_offline(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "offline", "2 3").await;
    trial.ask("place __consumer_offsets 3").await;
    trial.ask("place offline 1,2").await;
    let mut forebay = trial.start();
    trial.produce(200).await;
    trial
        .delivers_the_log(&mut forebay, "with the offsets on one node")
        .await;
    trial.cluster.tell("kill 3").await;
    trial.produce(200).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    trial.cluster.tell("start 3").await;
    trial
        .delivers_the_log(&mut forebay, "the offsets back online")
        .await;
    trial.cluster.direct.await_no_lag("offline", 2).await;
    trial.ends().await;
}

/// The only replica in sync of the group's offsets dies, and who takes over has heard neither of the group nor of its
/// commits.
async fn group_that_is_forgotten(way: Way, cluster: &mut Cluster) {
    let mut trial = Trial::new(way, cluster, "forgotten", "2 3").await;
    trial.ask("place __consumer_offsets 2,3").await;
    trial.ask("lead __consumer_offsets 2").await;
    trial.ask("place forgotten 1").await;
    trial.cluster.tell("kill 3").await;
    let mut forebay = trial.start();
    trial.produce(200).await;
    trial
        .delivers_the_log(&mut forebay, "with a group that one replica alone has")
        .await;
    trial.cluster.direct.await_no_lag("forgotten", 2).await;
    trial.have_3_lead_instead_of_2("__consumer_offsets").await;
    trial.produce(200).await;
    trial
        .delivers_the_log(&mut forebay, "forgotten by the group's coordinator")
        .await;
    trial.cluster.direct.await_no_lag("forgotten", 2).await;
    let said = "Group has lost the commit of a partition; going on where it was";
    assert_eq!(forebay.times_logged(said), 2);
    trial.ends().await;
    trial.cluster.tell("start 2").await;
}
