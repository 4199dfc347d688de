//! SIGKILL at random moments under load.

use std::time::Duration;

use forebay_tests::rig::{
    Broker, Forebay, Producer, Settings, Sink, await_all, eventually, unix_millis,
};

use super::{NEWEST, PARTITIONS, rig, say};

const KILLS: usize = 30;

/// What may come again after a kill: the calls in flight, and those that had ended less than this before
/// it. A commit is asked for 100 ms after the one before at the latest (decision 35); the rest is the
/// broker's answer and a machine with two busy cores.
const AWAITING_COMMIT: Duration = Duration::from_millis(1500);

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// 0 lost, 0 out of order, and nothing comes again that had been committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_little_comes_again_when_killed_thirty_times() {
    let Some(rig) = rig("kill") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("killed", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Java, "killed", 3, 1500);
    let mut sink = Sink::new();
    sink.set_delay(Duration::from_millis(20));
    let mut settings = Settings {
        session_timeout: Duration::from_secs(2),
        ..Settings::new("killed", "killed", 0)
    };

    let mut kills = Vec::new();
    for round in 0..KILLS as u64 {
        settings.function_port = sink.listen().await;
        let before = sink.ledger().calls.len();
        let mut forebay = Forebay::start(&broker, &settings);
        eventually("calls after a start", Duration::from_secs(60), async || {
            forebay.assert_running();
            (sink.ledger().calls.len() > before).then_some(())
        })
        .await;
        // From at once to two seconds later, spread evenly.
        let after = (round * 7919 + unix_millis()) % 2000;
        tokio::time::sleep(Duration::from_millis(after)).await;
        forebay.assert_running();
        kills.push((settings.function_port, unix_millis() * 1000));
        forebay.kill().await;
    }
    settings.function_port = sink.listen().await;
    let mut forebay = Forebay::start(&broker, &settings);
    let produced = load.stop().await;
    let expected = broker.expected("killed").await;
    assert_eq!(expected.records(), produced.committed);
    let verdict = await_all(&mut sink, &expected, Duration::from_secs(120)).await;
    say(&format!(
        "killed {KILLS} times: {} records, {} of them again",
        expected.records(),
        verdict.records_again()
    ));
    verdict.assert_sound();
    for again in &verdict.again {
        // Each process has a port of its own. Whose call it was before need not be the last that was killed: whoever
        // comes after a kill may be killed in its first call.
        let killed = kills
            .iter()
            .find(|(port, _)| Some(*port) == again.before_port && *port != again.port);
        let (_, kill) =
            killed.unwrap_or_else(|| panic!("delivered again without a kill: {again:?}"));
        if let Some(closed) = again.before_closed {
            assert!(
                closed + micros(AWAITING_COMMIT) >= *kill,
                "had time to be committed before the kill at {kill}: {again:?}"
            );
        }
    }
    broker.await_no_lag("killed", PARTITIONS as usize).await;
    forebay.assert_running();
}
