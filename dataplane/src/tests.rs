use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{Machine, Surroundings};
use crate::contract::{Plan, ShardWires};

fn config(dir: &Path) -> Config {
    let text = "mappings_dir = \"mappings.d\"\nstate_dir = \"state\"\nlisten = \"127.0.0.1:0\"\nshards = 1\ngrace_ms = 2000\n\
                endpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n";
    let around = Surroundings::without_environment(Machine::here());
    Config::parse(text, &dir.join("forebay.toml"), &around).unwrap()
}

fn declare(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir.join("mappings.d")).unwrap();
    std::fs::write(dir.join("mappings.d").join(name), text).unwrap();
}

const ORDERS: &str = "FunctionName = \"f\"\nTopics = [\"orders\"]\n\
                      SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n";

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_appliance_starts_serves_its_metrics_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    declare(dir.path(), "orders.toml", ORDERS);
    let appliance = Appliance::start(config(dir.path()), Listeners::default())
        .await
        .unwrap();
    let addr = appliance.metrics_addr();
    let ready = get(addr, "/readyz").await;
    assert!(ready.ends_with("ready\n"), "{ready}");
    assert!(get(addr, "/healthz").await.ends_with("ok\n"));
    let metrics = get(addr, "/metrics").await;
    assert!(
        metrics.contains("forebay_polled_records_total{mapping="),
        "{metrics}"
    );
    let report = appliance.shutdown().await;
    assert_eq!(report, ShutdownReport::default());
}

#[tokio::test]
async fn a_wrong_mapping_refuses_the_start_but_not_the_reading_again() {
    let dir = tempfile::tempdir().unwrap();
    declare(
        dir.path(),
        "orders.toml",
        "FunctionName = \"f\"\nTags = {}\n",
    );
    let refused = Appliance::start(config(dir.path()), Listeners::default()).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("orders.toml:2: Tags"), "{message}");
    declare(dir.path(), "orders.toml", ORDERS);
    let appliance = Appliance::start(config(dir.path()), Listeners::default())
        .await
        .unwrap();
    declare(
        dir.path(),
        "orders.toml",
        "FunctionName = \"f\"\nTags = {}\n",
    );
    appliance.reload();
    appliance.reloaded().await;
    let metrics = get(appliance.metrics_addr(), "/metrics").await;
    assert!(
        metrics.contains("forebay_calls_total{mapping="),
        "{metrics}"
    );
    assert_eq!(reload_success(&metrics), Some("0.0"), "{metrics}");
    std::fs::remove_file(dir.path().join("mappings.d/orders.toml")).unwrap();
    appliance.reload();
    appliance.reloaded().await;
    let metrics = get(appliance.metrics_addr(), "/metrics").await;
    assert!(
        !metrics.contains("forebay_calls_total{mapping="),
        "{metrics}"
    );
    assert_eq!(reload_success(&metrics), Some("1.0"), "{metrics}");
    appliance.give_up();
    assert!(appliance.shutdown().await.gave_up);
}

/// What the metric of that name says.
fn reload_success(metrics: &str) -> Option<&str> {
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("forebay_config_reload_success"))?;
    line.rsplit(' ').next()
}

/// A shard that never has its plan.
fn dies_at_once(wires: ShardWires, _cpu: Option<usize>) -> JoinHandle<()> {
    std::thread::spawn(move || drop(wires))
}

#[tokio::test]
async fn a_node_whose_shard_has_no_plan_has_not_started() {
    let dir = tempfile::tempdir().unwrap();
    declare(dir.path(), "orders.toml", ORDERS);
    let started =
        Appliance::start_with(config(dir.path()), Listeners::default(), dies_at_once).await;
    assert!(matches!(started, Err(StartError::Shard)), "{started:?}");
}

/// The first shard dies of its second plan, by an assertion on a mapping without brokers.
fn first_dies(mut wires: ShardWires, cpu: Option<usize>) -> JoinHandle<()> {
    if wires.shard > 0 {
        return shard::spawn(wires, cpu);
    }
    let (plan, plan_end) = watch::channel(Arc::default());
    let mut real = std::mem::replace(&mut wires.plan, plan_end);
    let mut status = wires.status.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut deadly = Plan::clone(&real.wait_for(|plan| plan.generation > 0).await.unwrap());
            plan.send_replace(Arc::new(Plan {
                consumers: Vec::new(),
                ..deadly.clone()
            }));
            let started = status.wait_for(|status| status.generation > 0);
            started.await.unwrap();
            deadly.generation += 1;
            for consumer in &mut deadly.consumers {
                Arc::make_mut(&mut consumer.mapping).bootstrap.clear();
            }
            plan.send_replace(Arc::new(deadly));
            plan.closed().await;
        });
    });
    shard::spawn(wires, cpu)
}

#[tokio::test]
async fn a_shard_that_dies_ends_the_node_and_the_others_drain() {
    let dir = tempfile::tempdir().unwrap();
    declare(dir.path(), "orders.toml", ORDERS);
    let config = Config {
        shards: 2,
        ..config(dir.path())
    };
    let appliance = Appliance::start_with(config, Listeners::default(), first_dies)
        .await
        .unwrap();
    appliance.ending().await;
    let report = appliance.shutdown().await;
    assert!(report.failed && !report.gave_up, "{report:?}");
}
