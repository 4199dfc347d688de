//! Members that come and go under load: other Forebay processes, Kafka's own client, librdkafka.

use std::time::Duration;

use forebay_tests::rig::{
    Broker, Expected, Forebay, Member, Producer, Said, Settings, Sink, Verdict, eventually,
    unix_millis,
};
use rustix::process::Signal;

use super::{NEWEST, OLDER, OLDEST, PARTITIONS, rig, say};

pub(super) const GRACE: Duration = Duration::from_secs(30);
const SESSION: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_three_kinds_join_and_leave_and_nothing_is_lost_on_4_4_0() {
    mixed_group(NEWEST, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_three_kinds_join_and_leave_and_nothing_is_lost_on_2_8_2() {
    mixed_group(OLDER, 1).await;
}

/// A second and a third Forebay, then a Java and a librdkafka member, come and go `rounds` times.
async fn mixed_group(version: &'static str, rounds: usize) {
    let Some(rig) = rig(&format!("rebalance on {version}")) else {
        return;
    };
    let broker = Broker::start(&rig, version).await;
    broker.topic("shared", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "shared", 6, 1500);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(50));
    let mut first = start(&broker, &sink).await;
    await_calls_after(&mut sink, 0, first.1).await;

    let mut foreign = Vec::new();
    for _ in 0..rounds {
        let second = start(&broker, &sink).await;
        await_calls_of(&mut sink, second.1).await;
        let third = start(&broker, &sink).await;
        await_calls_of(&mut sink, third.1).await;
        let mut java = broker.member(Producer::Java, "shared", "shared", SESSION);
        await_processed(&mut java).await;
        let mut librdkafka = broker.member(Producer::Librdkafka, "shared", "shared", SESSION);
        await_processed(&mut librdkafka).await;
        leave(third.0).await;
        foreign.extend(java.leave().await);
        leave(second.0).await;
        foreign.extend(librdkafka.leave().await);
        let now = sink.ledger().calls.len();
        await_calls_after(&mut sink, now, first.1).await;
    }
    load.stop().await;
    first.0.assert_running();
    let expected = broker.expected("shared").await;
    let verdict = await_all_with(&mut sink, &expected, &foreign).await;
    say(&format!(
        "{version}: {} records, {} by calls ({} again), {} stretches by foreign members",
        expected.records(),
        verdict.delivered,
        verdict.records_again(),
        foreign
            .iter()
            .filter(|said| said.event == "processed")
            .count()
    ));
    verdict.assert_sound();
    broker.await_no_lag("shared", PARTITIONS as usize).await;
    first.0.assert_running();
}

/// What a group of that age is like: its member knows range alone, and revokes all at once. Two of ours join it, and
/// stay when it has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_know_range_alone_are_joined_and_nothing_is_lost_on_0_10_1_0() {
    let Some(rig) = rig("range alone") else {
        return;
    };
    let broker = Broker::start(&rig, OLDEST).await;
    broker.topic("range", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "range", 8, 1000);
    let mut range = broker.range_member("range", "range", SESSION);
    await_processed(&mut range).await;
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(50));
    let settings = settings("range");
    let mut first = start_by(&broker, &sink, &settings).await;
    await_calls_of(&mut sink, first.1).await;
    let second = start_by(&broker, &sink, &settings).await;
    await_calls_of(&mut sink, second.1).await;
    leave(second.0).await;
    let foreign = range.leave().await;
    let now = sink.ledger().calls.len();
    await_calls_after(&mut sink, now, first.1).await;
    load.stop().await;
    let expected = broker.expected("range").await;
    let verdict = await_all_with(&mut sink, &expected, &foreign).await;
    say(&format!(
        "range alone: {} records, {} by calls ({} again)",
        expected.records(),
        verdict.delivered,
        verdict.records_again(),
    ));
    verdict.assert_sound();
    broker.await_no_lag("range", PARTITIONS as usize).await;
    first.0.assert_running();
}

/// A process that slept through its session starts no call for what it lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_frozen_for_a_minute_starts_no_call_for_what_it_lost() {
    frozen_for_a_minute("classic").await;
}

/// Kafka 4.4.0 expels a member of the consumer protocol after 45 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_consumer_protocol_frozen_for_a_minute_starts_no_call_either() {
    frozen_for_a_minute("consumer").await;
}

async fn frozen_for_a_minute(group_protocol: &'static str) {
    let Some(rig) = rig(&format!("frozen, {group_protocol}")) else {
        return;
    };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("frozen", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Librdkafka, "frozen", 7, 500);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(50));
    let settings = Settings {
        group_protocol,
        ..settings("frozen")
    };
    let mut frozen = start_by(&broker, &sink, &settings).await;
    let mut other = start_by(&broker, &sink, &settings).await;
    await_calls_of(&mut sink, frozen.1).await;
    await_calls_of(&mut sink, other.1).await;
    frozen.0.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = sink.ledger().calls.len();
    let woken = unix_millis() * 1000;
    frozen.0.signal(Signal::CONT);
    await_calls_after(&mut sink, before, frozen.1).await;
    load.stop().await;

    let expected = broker.expected("frozen").await;
    let verdict = await_all_with(&mut sink, &expected, &[]).await;
    verdict.assert_sound();
    let stale: Vec<_> = verdict
        .again
        .iter()
        .filter(|again| again.port == frozen.1 && again.opened >= woken)
        .collect();
    assert!(
        stale.is_empty(),
        "the woken process delivered what it had lost: {stale:#?}"
    );
    frozen.0.assert_running();
    other.0.assert_running();
}

async fn start(broker: &Broker, sink: &Sink) -> (Forebay, u16) {
    start_by(broker, sink, &settings("shared")).await
}

/// Those of a process in the group that has the topic's name.
pub(super) fn settings(topic: &str) -> Settings {
    Settings {
        session_timeout: SESSION,
        ..Settings::new(topic, topic, 0)
    }
}

/// A process, and the function's port that is its own.
pub(super) async fn start_by(broker: &Broker, sink: &Sink, settings: &Settings) -> (Forebay, u16) {
    let port = sink.listen().await;
    let settings = Settings {
        function_port: port,
        ..settings.clone()
    };
    (Forebay::start(broker, &settings), port)
}

pub(super) async fn leave(forebay: Forebay) {
    let (status, log) = forebay.terminate(GRACE).await;
    assert_eq!(status.code(), Some(0), "{log}");
}

pub(super) async fn await_calls_of(sink: &mut Sink, port: u16) {
    await_calls_after(sink, 0, port).await;
}

pub(super) async fn await_calls_after(sink: &mut Sink, after: usize, port: u16) {
    eventually(
        "a process makes calls",
        Duration::from_secs(60),
        async || {
            let calls = &sink.ledger().calls[after..];
            (calls.iter().filter(|call| call.port == port).count() > 5).then_some(())
        },
    )
    .await;
}

pub(super) async fn await_processed(member: &mut Member) {
    eventually(
        "a foreign member has its share",
        Duration::from_secs(60),
        async || (member.processed() > 5).then_some(()),
    )
    .await;
}

/// As `await_all`, counting what foreign members processed.
pub(super) async fn await_all_with(
    sink: &mut Sink,
    expected: &Expected,
    foreign: &[Said],
) -> Verdict {
    eventually(
        "every record was processed",
        Duration::from_secs(120),
        async || {
            tokio::time::sleep(Duration::from_millis(950)).await;
            let verdict = expected.judge(&sink.ledger().calls, foreign);
            (verdict.lost == 0).then_some(verdict)
        },
    )
    .await
}
