//! One node: its shards, and its end.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_tests::rig::{Broker, Forebay, Producer, Settings, Sink, await_all, eventually};

use super::{NEWEST, PARTITIONS, rig};

/// Each shard carries some of the partitions, and burns CPU for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_share_eight_partitions_and_both_work() {
    let Some(rig) = rig("two shards") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("shards", PARTITIONS, &[]).await;
    broker
        .produce(Producer::Librdkafka, "shards", 60_000, 4)
        .await;
    let expected = broker.expected("shards").await;
    let mut sink = Sink::new();
    let settings = Settings {
        shards: 2,
        ..Settings::new("shards", "shards", sink.listen().await)
    };
    let mut forebay = Forebay::start(&broker, &settings);
    await_all(&mut sink, &expected, Duration::from_secs(120))
        .await
        .assert_sound();

    let members = members(&broker, "shards").await;
    assert_eq!(members.len(), 2, "two members: {members:?}");
    assert!(
        members.values().all(|owned| *owned == 4),
        "four each: {members:?}"
    );
    // What was there at first may have been read by whoever joined first.
    broker.produce(Producer::Java, "shards", 20_000, 2).await;
    let expected = broker.expected("shards").await;
    await_all(&mut sink, &expected, Duration::from_secs(120))
        .await
        .assert_sound();
    let busy = shard_ticks(forebay.id());
    assert_eq!(busy.len(), 2, "two shard threads: {busy:?}");
    assert!(
        busy.values().all(|ticks| *ticks > 0),
        "both have worked: {busy:?}"
    );
    forebay.assert_running();
}

/// SIGTERM under load: what was answered is committed, nothing more; the group is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_commits_what_was_answered_leaves_the_group_and_exits_with_0() {
    let Some(rig) = rig("SIGTERM") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("ended", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "ended", 5, 2000);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(200));
    let settings = Settings::new("ended", "ended", sink.listen().await);
    let forebay = Forebay::start(&broker, &settings);
    eventually("calls are made", Duration::from_secs(60), async || {
        (sink.ledger().calls.len() > 50).then_some(())
    })
    .await;
    let (status, log) = forebay.terminate(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0), "{log}");
    load.stop().await;

    let expected = broker.expected("ended").await;
    let calls = &sink.ledger().calls;
    assert!(
        calls.iter().all(|call| call.answered),
        "no call was cut off: {log}"
    );
    let verdict = expected.judge(calls, &[]);
    assert!(verdict.open_at_once.is_empty() && verdict.out_of_order.is_empty());
    assert_eq!(verdict.records_again(), 0);
    let claims = broker.describe("ended").await;
    assert!(
        claims.iter().all(|claim| claim.member.is_none()),
        "left: {claims:?}"
    );
    for claim in claims {
        let next = verdict.next_offset[&claim.partition];
        let committed = claim.committed.unwrap_or(0);
        // Control records and aborted ones after the last delivered may be counted in (decision 35).
        let above = expected.next_at_or_above(claim.partition, next);
        assert!(
            (next..=above).contains(&committed),
            "partition {}: committed {committed}, delivered up to {next}, next record {above}",
            claim.partition
        );
    }
}

/// How many partitions each member owns, as Kafka's own tool sees it.
async fn members(broker: &Broker, group: &str) -> BTreeMap<String, usize> {
    let mut members = BTreeMap::new();
    for claim in broker.describe(group).await {
        *members.entry(claim.member.unwrap_or_default()).or_default() += 1;
    }
    members
}

/// CPU ticks that each shard thread has used.
fn shard_ticks(process: u32) -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).ok();
    tasks
        .flatten()
        .filter_map(stat)
        .filter_map(|stat| {
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let fields: Vec<&str> = rest.split(' ').collect();
            let ticks =
                fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            name.starts_with("shard-").then(|| (name.to_owned(), ticks))
        })
        .collect()
}
