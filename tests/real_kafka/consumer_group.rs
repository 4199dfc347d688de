//! Members of the consumer protocol (KIP-848): among themselves and with Kafka's own client, static ones that
//! come back, a group that moves to it while it works, and a broker that does not know it.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_tests::rig::{Broker, Producer, Settings, Sink, eventually};

use super::rebalance::{
    GRACE, await_all_with, await_calls_after, await_calls_of, await_processed, leave, settings,
    start_by,
};
use super::{NEWEST, OLDER, PARTITIONS, rig, say};

const FALLBACK: &str = "Coordinator does not serve consumer groups; the classic protocol is used";

/// Two processes and a Java member join and leave under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_the_consumer_protocol_join_and_leave_and_nothing_is_lost() {
    let Some(rig) = rig("consumer protocol") else {
        return;
    };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("next", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "next", 8, 1000);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(50));
    let mut first = start_by(&broker, &sink, &consumer("next")).await;
    await_calls_of(&mut sink, first.1).await;

    let mut foreign = Vec::new();
    for _ in 0..2 {
        let second = start_by(&broker, &sink, &consumer("next")).await;
        await_calls_of(&mut sink, second.1).await;
        let mut java = broker.consumer_member("next", "next");
        await_processed(&mut java).await;
        leave(second.0).await;
        foreign.extend(java.leave().await);
        let now = sink.ledger().calls.len();
        await_calls_after(&mut sink, now, first.1).await;
    }
    load.stop().await;
    let expected = broker.expected("next").await;
    let verdict = await_all_with(&mut sink, &expected, &foreign).await;
    say(&format!(
        "consumer protocol: {} records, {} by calls ({} again)",
        expected.records(),
        verdict.delivered,
        verdict.records_again(),
    ));
    verdict.assert_sound();
    broker.await_no_lag("next", PARTITIONS as usize).await;
    first.0.assert_running();
    assert!(!first.0.has_logged(FALLBACK));
    leave(first.0).await;
    let owners = owners(&broker, "next").await;
    assert!(owners.is_empty(), "the last member has left: {owners:?}");
}

/// A static member that stops and comes back finds what it had, and moves nobody else's; one that is killed
/// waits until the session of the one before it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_members_come_back() {
    let Some(rig) = rig("static members") else {
        return;
    };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("static", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "static", 11, 300);
    let mut sink = Sink::new();
    let named = Settings {
        node_id: Some("node-1"),
        ..consumer("static")
    };
    let first = start_by(&broker, &sink, &named).await;
    await_calls_of(&mut sink, first.1).await;
    let mut other = start_by(&broker, &sink, &consumer("static")).await;
    await_calls_of(&mut sink, other.1).await;
    let before = shares(&broker, "static").await;
    let (status, log) = first.0.terminate(GRACE).await;
    assert_eq!(status.code(), Some(0), "{log}");

    let back = start_by(&broker, &sink, &named).await;
    await_calls_of(&mut sink, back.1).await;
    let after = shares(&broker, "static").await;
    let kept = before.iter().filter(|(id, _)| after.contains_key(*id));
    assert_eq!(kept.count(), 1, "only the other has its id still");
    let sets = |shares: &BTreeMap<String, Vec<i32>>| {
        let mut sets: Vec<Vec<i32>> = shares.values().cloned().collect();
        sets.sort();
        sets
    };
    assert_eq!(sets(&before), sets(&after), "nothing has moved");

    back.0.kill().await;
    let mut again = start_by(&broker, &sink, &named).await;
    let waits = "still holds the instance id node-1";
    eventually(
        "it says why it waits",
        Duration::from_secs(20),
        async || again.0.has_logged(waits).then_some(()),
    )
    .await;
    await_calls_of(&mut sink, again.1).await;
    load.stop().await;
    let expected = broker.expected("static").await;
    let verdict = await_all_with(&mut sink, &expected, &[]).await;
    verdict.assert_sound();
    broker.await_no_lag("static", PARTITIONS as usize).await;
    again.0.assert_running();
    other.0.assert_running();
}

/// A group of classic members moves to the consumer protocol and back, process by process, and goes on
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moves_to_the_consumer_protocol_and_back_while_it_works() {
    let Some(rig) = rig("live roll") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("roll", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "roll", 12, 1000);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(50));
    let classic = Settings {
        group_protocol: "classic",
        ..consumer("roll")
    };
    let first = start_by(&broker, &sink, &classic).await;
    await_calls_of(&mut sink, first.1).await;
    let second = start_by(&broker, &sink, &consumer("roll")).await;
    await_calls_of(&mut sink, second.1).await;
    let now = sink.ledger().calls.len();
    await_calls_after(&mut sink, now, first.1).await;
    leave(first.0).await;
    let mut first = start_by(&broker, &sink, &consumer("roll")).await;
    await_calls_of(&mut sink, first.1).await;
    let now = sink.ledger().calls.len();
    await_calls_after(&mut sink, now, second.1).await;
    assert!(!second.0.has_logged(FALLBACK));
    leave(second.0).await;
    let mut second = start_by(&broker, &sink, &classic).await;
    await_calls_of(&mut sink, second.1).await;
    let now = sink.ledger().calls.len();
    await_calls_after(&mut sink, now, first.1).await;
    load.stop().await;
    let expected = broker.expected("roll").await;
    let verdict = await_all_with(&mut sink, &expected, &[]).await;
    say(&format!(
        "live roll: {} records ({} again)",
        expected.records(),
        verdict.records_again(),
    ));
    verdict.assert_sound();
    broker.await_no_lag("roll", PARTITIONS as usize).await;
    assert!(!first.0.has_logged(FALLBACK));
    first.0.assert_running();
    second.0.assert_running();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_know_the_consumer_protocol_has_classic_members() {
    let Some(rig) = rig("fall-back") else { return };
    let broker = Broker::start(&rig, OLDER).await;
    broker.topic("older", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "older", 13, 300);
    let mut sink = Sink::new();
    let first = start_by(&broker, &sink, &consumer("older")).await;
    await_calls_of(&mut sink, first.1).await;
    load.stop().await;
    let expected = broker.expected("older").await;
    let verdict = await_all_with(&mut sink, &expected, &[]).await;
    verdict.assert_sound();
    broker.await_no_lag("older", PARTITIONS as usize).await;
    assert!(first.0.has_logged(FALLBACK));
    leave(first.0).await;
}

/// A process of the group that has the topic's name.
fn consumer(topic: &str) -> Settings {
    Settings {
        group_protocol: "consumer",
        ..settings(topic)
    }
}

/// By partition, the member that owns it.
async fn owners(broker: &Broker, group: &str) -> BTreeMap<i32, String> {
    let claims = broker.describe(group).await.into_iter();
    claims
        .filter_map(|claim| Some((claim.partition, claim.member?)))
        .collect()
}

/// What each member owns, once everything is owned by two.
async fn shares(broker: &Broker, group: &str) -> BTreeMap<String, Vec<i32>> {
    eventually(
        "two members share everything",
        Duration::from_secs(60),
        async || {
            let mut shares = BTreeMap::<String, Vec<i32>>::new();
            for (partition, member) in owners(broker, group).await {
                shares.entry(member).or_default().push(partition);
            }
            let all = shares.values().map(Vec::len).sum::<usize>();
            (all == PARTITIONS as usize && shares.len() == 2).then_some(shares)
        },
    )
    .await
}
