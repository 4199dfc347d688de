//! A shard: one pinned thread with one ring, which runs the consumers that the plan gives it.
//!
//! [`spawn`] is the only way in; everything after that comes over the wires of `contract.rs`.
//!
//! Invariant: nothing on a shard blocks, and no shard knows of another.

mod broker;
mod consumer;
mod diverting;
mod driver;
mod exchange;
mod frames;
mod hashing;
mod invoker;
mod keys;
mod pool;
mod queue;
mod receiving;
mod reconcile;
mod turn;
mod worker;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_protocol::delivery::Budget;
use tracing::{info, warn};

use crate::contract::{Credentials, Request, ShardWires, mpsc, watch};
use crate::metrics::ShardMetrics;
pub use driver::{Driver, DriverError, Flag};
use hashing::Hashing;
use pool::Pool;
use receiving::Receiving;
use turn::Turns;

/// What the tasks of one shard share.
struct Shard {
    requests: mpsc::Sender<Request>,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    metrics: Arc<ShardMetrics>,
    budget: Budget,
    receiving: Rc<Receiving>,
    status_interval: Duration,
    turns: Turns,
    hashing: Hashing,
    pool: Pool,
}

/// Starts a shard on its own thread, pinned to `cpu` if given. It ends when its plan wire is closed and
/// every consumer has ended.
///
/// # Panics
/// If the thread cannot be started, the machine has no descriptors or memory left for a ring, or the environment
/// asks for a [`Driver`] that is not to be had.
pub fn spawn(wires: ShardWires, cpu: Option<usize>) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(format!("shard-{}", wires.shard))
        .spawn(move || {
            if let Some(cpu) = cpu {
                pin(wires.shard, cpu);
            }
            let driver = Driver::of_environment().map_err(io::Error::other);
            let mut runtime = match driver.and_then(|driver| driver.runtime()) {
                Ok(runtime) => runtime,
                Err(error) => panic!("shard {} cannot have a ring: {error}", wires.shard),
            };
            runtime.block_on(run(wires));
        })
        .expect("the system starts one thread per core")
}

async fn run(wires: ShardWires) {
    let ShardWires {
        shard,
        plan,
        credentials,
        status,
        requests,
        metrics,
        consumer_bytes,
        receive_bytes,
        status_interval,
    } = wires;
    info!(shard, "Shard started");
    let turns = Turns::default();
    let pump = monoio::spawn({
        let turns = turns.clone();
        async move { turns.pump().await }
    });
    let hashing = Hashing::default();
    let worker = monoio::spawn({
        let (hashing, turns, metrics) = (hashing.clone(), turns.clone(), Arc::clone(&metrics));
        async move { hashing.work(&turns, &metrics).await }
    });
    let receiving = Rc::new(Receiving::new(receive_bytes));
    let doorkeeper = monoio::spawn({
        let (receiving, turns) = (Rc::clone(&receiving), turns.clone());
        async move { receiving.work(&turns).await }
    });
    let shared = Rc::new(Shard {
        requests,
        credentials,
        metrics,
        budget: Budget::new(consumer_bytes),
        receiving: Rc::clone(&receiving),
        status_interval,
        turns: turns.clone(),
        hashing: hashing.clone(),
        pool: Pool::default(),
    });
    reconcile::run(shared, plan, status).await;
    hashing.end();
    worker.await;
    receiving.end();
    doorkeeper.await;
    turns.end();
    pump.await
        .expect("a shard that cannot make a pair of sockets cannot run");
    info!(shard, "Shard ended");
}

fn pin(shard: usize, cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    if cpu < rustix::thread::CpuSet::MAX_CPU {
        set.set(cpu);
    }
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        warn!(shard, cpu, %error, "Shard is not pinned");
    }
}

#[cfg(test)]
mod tests {
    use forebay_protocol::delivery::{
        Endpoint, GroupProtocol, OnOversized, RetryPolicy, StartingPosition,
    };
    use forebay_protocol::limits::BODY_BYTES_LIMIT;
    use uuid::Uuid;

    use super::*;
    use crate::contract::{Plan, ShardStatus};
    use crate::mapping::{
        Access, Function, FunctionKey, InvokeTarget, KafkaSettings, Mapping, Signing,
    };

    /// A mapping whose cluster and function refuse every connection.
    pub(in crate::shard) fn mapping() -> Mapping {
        let second = Duration::from_secs(1);
        let uuid = Uuid::new_v4();
        Mapping {
            uuid,
            function: Function {
                name: "f".to_owned(),
                arn: "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
                tls: false,
                ca_bundle: None,
                host: "127.0.0.1".to_owned(),
                port: 1,
                host_header: "127.0.0.1:1".to_owned(),
                target: InvokeTarget {
                    path: "/2015-03-31/functions/f/invocations".to_owned(),
                    query: String::new(),
                },
                signing: Signing::None,
                role_arn: None,
                timeout: None,
                max_in_flight: None,
                key: FunctionKey {
                    host: "127.0.0.1".to_owned(),
                    port: 1,
                    region: None,
                    account: None,
                    name: "f".to_owned(),
                },
            },
            bootstrap: vec![Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 1,
            }],
            access: Access::default(),
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            topic: "t".to_owned(),
            group_id: uuid.to_string(),
            starting_position: StartingPosition::TrimHorizon,
            batch_size: 100,
            window_seconds: Some(0),
            enabled: true,
            pollers: None,
            retry: RetryPolicy::default(),
            destination: None,
            drop_undelivered: false,
            filters: Arc::default(),
            on_oversized: OnOversized::Halt,
            body_limit: BODY_BYTES_LIMIT,
            kafka: KafkaSettings {
                client_rack: String::new(),
                read_committed: true,
                group_protocol: GroupProtocol::Classic,
                session_timeout: 45 * second,
                heartbeat_interval: 3 * second,
                rebalance_timeout: 300 * second,
                request_timeout: 30 * second,
                node_id: None,
            },
        }
    }

    /// A shard for tests of its parts: what it asks of control comes out of the receiver.
    pub(in crate::shard) fn shard() -> (Rc<Shard>, mpsc::Receiver<Request>) {
        let (wires, Ends { asked, .. }) = wires();
        let turns = Turns::default();
        let shard = Shard {
            requests: wires.requests,
            credentials: wires.credentials,
            metrics: wires.metrics,
            budget: Budget::new(wires.consumer_bytes),
            receiving: Rc::new(Receiving::new(wires.receive_bytes)),
            status_interval: wires.status_interval,
            turns,
            hashing: Hashing::default(),
            pool: Pool::default(),
        };
        (Rc::new(shard), asked)
    }

    /// Control's ends of a shard's wires.
    struct Ends {
        plan: watch::Sender<Arc<Plan>>,
        statuses: watch::Receiver<Arc<ShardStatus>>,
        asked: mpsc::Receiver<Request>,
    }

    fn wires() -> (ShardWires, Ends) {
        let (plan, plans) = watch::channel(Arc::default());
        let (_, credentials) = watch::channel(None);
        let (status, statuses) = watch::channel(Arc::default());
        let (requests, asked) = mpsc::channel(4);
        let wires = ShardWires {
            shard: 0,
            plan: plans,
            credentials,
            status,
            requests,
            metrics: Arc::default(),
            consumer_bytes: 64 * 1024 * 1024,
            receive_bytes: 8 * 1024 * 1024,
            status_interval: Duration::from_secs(1),
        };
        let ends = Ends {
            plan,
            statuses,
            asked,
        };
        (wires, ends)
    }

    /// Never delete this test: without monoio's feature `sync` the first wake from another thread aborts
    /// the process, and nothing else in the build says so.
    #[test]
    fn the_plan_wire_wakes_a_shard_from_another_thread() {
        let (
            wires,
            Ends {
                plan,
                mut statuses,
                asked: _asked,
            },
        ) = wires();
        let shard = spawn(wires, Some(0));
        let control = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for generation in 1..200 {
            plan.send_replace(Arc::new(Plan {
                generation,
                ..Plan::default()
            }));
            let applied = statuses.wait_for(|status| status.generation == generation);
            control.block_on(applied).unwrap();
        }
        drop(plan);
        shard.join().unwrap();
    }
}
