//! `forebay skip` as far as the node's socket: what holds up a partition is passed over, by the node that owns it.

use std::time::Duration;

use forebay::Appliance;
use forebay::command::{Outcome, Skip, ask};
use forebay::status::socket;
use forebay_tests::eventually;
use forebay_tests::fake_aws::Account;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::{Invocation, Reply};
use forebay_tests::harness::{Declared, Site, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::destinations::{QUEUE, QUEUE_PATH, aws, site as site_with};
use crate::secrets::is_inside;
use crate::status::metric;

fn wish(partition: i32, offset: i64, discard: bool) -> Skip {
    Skip {
        mapping: "orders".to_owned(),
        topic: "orders".to_owned(),
        partition,
        offset,
        discard,
        wait_seconds: 30,
    }
}

async fn skip(site: &Site, wish: Skip) -> Outcome {
    let path = socket::commands_path(&site.config().runtime_dir);
    let asked = ask::skip(&path, wish).await;
    asked.unwrap_or_else(|error| panic!("{error}"))
}

/// A topic of so many partitions, with three records in each, of which the function cannot digest the second.
async fn poisoned(stage: &Stage, partitions: i32) {
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", partitions);
            for partition in 0..partitions {
                let records = ["a", "b", "c"].map(NewRecord::value);
                kafka.append("orders", partition, &records);
            }
        })
        .await;
    let hook = move |call: &Invocation| {
        let mut partitions = 0..partitions;
        match partitions.any(|it| call.offsets("orders", it).contains(&1)) {
            true => Reply::function_error(),
            false => Reply::ok(),
        }
    };
    stage
        .on_lambda(move |functions| functions.set_hook(Some(Box::new(hook))))
        .await;
}

async fn fails(node: &Appliance) {
    let series = "forebay_function_errors_total{";
    eventually!(metric(node, series).await.is_some_and(|it| it > 0.0));
}

#[tokio::test]
async fn a_record_is_sent_to_the_destination_once() {
    let test = "skipping::a_record_is_sent_to_the_destination_once";
    if !is_inside(test, &[]) {
        return;
    }
    let (aws, stage) = (aws().await, Stage::new());
    poisoned(&stage, 1).await;
    let site = site_with(&aws, &stage, QUEUE);
    let node = site.start().await;
    fails(&node).await;
    let sent = skip(&site, wish(0, 1, false)).await;
    let destination = QUEUE.to_owned();
    assert_eq!(sent, Outcome::Sent { destination });
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(skip(&site, wish(0, 1, false)).await, Outcome::Past);
    let texts = aws
        .with(|Account { destinations, .. }| destinations.queues[QUEUE_PATH].clone())
        .await;
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].contains(r#""condition":"SkippedByOperator""#),
        "{texts:?}"
    );
    assert!(texts[0].contains(r#""firstRecordOffset":"1","lastRecordOffset":"1""#));
    eventually!(metric(&node, "forebay_destination_delivered_records_total{").await == Some(1.0));
    stage.assert_no_violation().await;
    node.shutdown().await;
}

/// A node whose function fails for ever, without a destination.
async fn stuck(stage: &Stage) -> (Site, Appliance) {
    poisoned(stage, 1).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    fails(&node).await;
    (site, node)
}

#[tokio::test]
async fn without_a_destination_it_is_discarded_where_that_is_asked_for() {
    let stage = Stage::new();
    let (site, node) = stuck(&stage).await;
    let instead = Outcome::NotBlocking {
        processed_offset: 0,
        first_offset: Some(0),
        last_offset: Some(2),
    };
    assert_eq!(skip(&site, wish(0, 7, true)).await, instead);
    assert_eq!(skip(&site, wish(0, 1, false)).await, Outcome::NoDestination);
    let discarded = Outcome::Discarded { last_offset: 1 };
    assert_eq!(skip(&site, wish(0, 1, true)).await, discarded);
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(skip(&site, wish(0, 1, true)).await, Outcome::Past);
    eventually!(metric(&node, "forebay_dropped_records_total{").await == Some(1.0));
    node.shutdown().await;
}

#[tokio::test]
async fn what_was_waited_for_in_vain_is_withdrawn() {
    let stage = Stage::new();
    let (site, node) = stuck(&stage).await;
    // The next call is open for longer than anybody waits.
    let slowly = |_: &Invocation| Reply::function_error().after(Duration::from_secs(4));
    let calls = async || {
        let counted = stage.on_lambda(|functions| functions.ledger().calls().len());
        counted.await
    };
    stage
        .on_lambda(move |functions| functions.set_hook(Some(Box::new(slowly))))
        .await;
    let open = async || {
        let open = stage.on_lambda(|functions| functions.ledger().open_calls());
        open.await
    };
    eventually!(open().await == 1);
    // Who hangs up is not waited for.
    let mut stream = connected(&site).await;
    let command = forebay::command::Command {
        format: forebay::command::FORMAT,
        skip: wish(0, 0, true),
    };
    let line = serde_json::to_string(&command).unwrap() + "\n";
    stream.write_all(line.as_bytes()).await.unwrap();
    drop(stream);
    let short = Skip {
        wait_seconds: 1,
        ..wish(0, 1, true)
    };
    let Outcome::Waited { reason } = skip(&site, short).await else {
        panic!("its call has not ended");
    };
    assert!(
        reason.contains("a call that carries it is open"),
        "{reason}"
    );
    let before = calls().await;
    eventually!(calls().await > before);
    eventually!(open().await == 1);
    assert_eq!(
        metric(&node, "forebay_dropped_records_total{").await,
        Some(0.0)
    );
    node.give_up();
    node.shutdown().await;
}

#[tokio::test]
async fn who_asks_the_wrong_node_is_told_which_is_the_right_one() {
    for protocol in ["classic", "consumer"] {
        let stage = Stage::new();
        poisoned(&stage, 2).await;
        let orders = Declared::new("orders");
        let mut sites = [stage.site(), stage.site()].map(|site| {
            site.key("group_protocol", &format!("{protocol:?}"))
                .key("shards", "1")
        });
        let mut nodes = Vec::new();
        for site in &mut sites {
            site.declare(&orders);
            nodes.push(site.start().await);
        }
        let owned = async |site: &Site| {
            let path = socket::path(&site.config().runtime_dir);
            let asked = forebay::status::ask::ask(&path).await;
            let document = asked.unwrap_or_else(|error| panic!("{error}"));
            let partitions = document.mappings[0].partitions.iter();
            partitions.map(|it| it.partition).collect::<Vec<_>>()
        };
        eventually!(within Duration::from_secs(60), {
            owned(&sites[0]).await.len() == 1 && owned(&sites[1]).await.len() == 1
        });
        let foreign = owned(&sites[1]).await[0];
        let Outcome::NotOwned { owner, unknown } = skip(&sites[0], wish(foreign, 1, true)).await
        else {
            panic!("it is another's");
        };
        let owner = owner.unwrap_or_else(|| panic!("{protocol}: {unknown:?}"));
        assert!(owner.client_id.ends_with("-0"), "{owner:?}");
        assert_eq!(owner.host, "/127.0.0.1");
        let nobody = skip(&sites[0], wish(9, 1, true)).await;
        let unknown = "topic orders has 2 partitions and none of that number".to_owned();
        let expected = Outcome::NotOwned {
            owner: None,
            unknown: Some(unknown),
        };
        assert_eq!(nobody, expected);
        fails(&nodes[1]).await;
        eventually!(
            skip(&sites[1], wish(foreign, 1, true)).await == Outcome::Discarded { last_offset: 1 }
        );
        for node in nodes {
            node.shutdown().await;
        }
    }
}

async fn connected(site: &Site) -> UnixStream {
    let path = socket::commands_path(&site.config().runtime_dir);
    let stream = UnixStream::connect(&path).await;
    stream.expect("the node serves it")
}

/// What the node says to a line.
async fn said(site: &Site, line: &str) -> String {
    let mut stream = connected(site).await;
    let written = stream.write_all(line.as_bytes()).await;
    written.expect("the node reads it");
    let mut text = String::new();
    let read = stream.read_to_string(&mut text).await;
    read.expect("the node answers");
    text
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused() {
    let stage = Stage::new();
    let (site, node) = stuck(&stage).await;
    let refused = async |change: fn(&mut Skip)| {
        let mut of = wish(0, 1, true);
        change(&mut of);
        match skip(&site, of).await {
            Outcome::Refused { reason } => reason,
            other => panic!("{other:?}"),
        }
    };
    let unknown = refused(|it| it.mapping = "bills".to_owned()).await;
    assert_eq!(unknown, "the node has no mapping bills; it has orders");
    let topic = refused(|it| it.topic = "bills".to_owned()).await;
    assert!(topic.contains("reads topic orders, not bills"), "{topic}");
    let nonsense = said(&site, "GET / HTTP/1.1\r\n").await;
    assert!(nonsense.contains("that is no command"), "{nonsense}");
    let newer = said(&site, "{\"format\":2,\"skip\":{}}\n").await;
    assert!(newer.contains("no command"), "{newer}");
    // More than a command may have is not read, whatever it is.
    let mut endless = connected(&site).await;
    while endless.write_all(&[b'x'; 1000]).await.is_ok() {}
    let still = said(&site, "\n").await;
    assert!(still.contains("that is no command"), "{still}");
    node.shutdown().await;
}
