#![doc = include_str!("../ARCHITECTURE.md")]

pub mod clock;
pub mod command;
pub mod config;
pub mod contract;
pub mod control;
pub mod crash;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod lock;
pub mod mapping;
pub mod metrics;
pub mod net;
pub mod shard;
pub mod status;
mod trust;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use config::{Config, Problems};
pub use contract::Unfinished;
use contract::watch;
pub use control::ShutdownReport;
use control::{Control, Doors, Lifecycle, Orders, Progress, SpawnShard};
use lock::Lock;
use status::socket::{Doors as UnixDoors, NodeSockets, SocketError};
use tracing::warn;

/// The whole node, running: tests, the bench and the binary start the same one.
///
/// Several may run in one process. Dropping it without [`shutdown`](Self::shutdown) gives up what is in
/// flight.
#[derive(Debug)]
pub struct Appliance {
    metrics_addr: SocketAddr,
    orders: watch::Sender<Orders>,
    progress: watch::Receiver<Progress>,
    control: tokio::task::JoinHandle<ShutdownReport>,
}

/// Sockets that the caller has bound already; what is missing is bound as the configuration says.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Serves `/metrics`, `/healthz` and `/readyz`.
    pub metrics: Option<std::net::TcpListener>,
}

/// Why the node did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or the mappings are wrong. No port was bound.
    #[error("{0}")]
    Config(Problems),
    /// The metrics address cannot be served.
    #[error(
        "listen = {addr}: cannot be bound: {source}; {}",
        listen_advice(source)
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another node serves its status where this one would.
    #[error("runtime_dir: {0}")]
    Status(SocketError),
    /// Another node keeps its state where this one would.
    #[error(
        "state_dir: {dir}: another node that runs keeps its state there; give this one a state_dir of its own, or end that one"
    )]
    State {
        /// The directory.
        dir: PathBuf,
    },
    /// A shard has died before it had its plan.
    #[error("a shard has died before the node had started; its last words stand above")]
    Shard,
}

/// What to do where the metrics' address cannot be served.
pub(crate) fn listen_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process serves it (ss -ltnp says which): end that, or choose another address"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: choose one of its own"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023",
        _ => "choose another address",
    }
}

impl Appliance {
    /// Starts the node on the caller's tokio runtime, which runs its control side, and on threads of its
    /// own for the shards. Returns once every shard runs its first plan; the outside world may be down.
    pub async fn start(config: Config, listeners: Listeners) -> Result<Self, StartError> {
        Self::start_with(config, listeners, shard::spawn).await
    }

    async fn start_with(
        mut config: Config,
        listeners: Listeners,
        spawn_shard: SpawnShard,
    ) -> Result<Self, StartError> {
        config.settle_node_id().map_err(StartError::Config)?;
        let set = control::load(&config).map_err(StartError::Config)?;
        let addr = config.listen;
        let listen = |source| StartError::Listen { addr, source };
        let listener = match listeners.metrics {
            Some(listener) => {
                listener.set_nonblocking(true).map_err(listen)?;
                tokio::net::TcpListener::from_std(listener).map_err(listen)?
            }
            None => tokio::net::TcpListener::bind(addr).await.map_err(listen)?,
        };
        let metrics_addr = listener.local_addr().map_err(listen)?;
        let doors = Doors {
            metrics: listener,
            unix: unix_doors(&config)?,
        };
        let lock = state_lock(&config)?;
        let (orders, orders_end) = watch::channel(Orders::default());
        let (progress_end, mut progress) = watch::channel(Progress::default());
        let control = Control::new(config, set, spawn_shard, orders_end, progress_end);
        let control = tokio::spawn(async move {
            let report = control.run(doors).await;
            drop(lock);
            report
        });
        let settled = progress.wait_for(|progress| progress.started || progress.ending);
        let started = settled.await.is_ok_and(|progress| progress.started);
        let appliance = Self {
            metrics_addr,
            orders,
            progress,
            control,
        };
        if started {
            Ok(appliance)
        } else {
            appliance.shutdown().await;
            Err(StartError::Shard)
        }
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    /// Reads the mappings again, soon.
    pub fn reload(&self) {
        self.orders.send_modify(|orders| orders.reloads += 1);
    }

    /// Waits until every reading that was asked for has been done.
    pub async fn reloaded(&self) {
        let asked = self.orders.borrow().reloads;
        let mut progress = self.progress.clone();
        // An error means that control has ended: nothing is read any more.
        progress
            .wait_for(|progress| progress.reloads >= asked)
            .await
            .map(|_| ())
            .unwrap_or_default();
    }

    /// Waits until the node ends by itself, because a part of it has died.
    /// [`shutdown`](Self::shutdown) still has to be awaited.
    pub async fn ending(&self) {
        let mut progress = self.progress.clone();
        // An error means that control is gone, which is an end as well.
        progress
            .wait_for(|progress| progress.ending)
            .await
            .map(|_| ())
            .unwrap_or_default();
    }

    /// Gives up what is in flight: commits what has ended, leaves the groups, and ends.
    /// [`shutdown`](Self::shutdown) still has to be awaited.
    pub fn give_up(&self) {
        self.orders
            .send_modify(|orders| orders.lifecycle = Lifecycle::GiveUp);
    }

    /// Drains: starts no call, lets those in flight end up to the configured grace, commits, leaves.
    /// Get a [`give_up_handle`](Self::give_up_handle) first to cut it short.
    pub async fn shutdown(self) -> ShutdownReport {
        self.orders.send_if_modified(|orders| {
            let runs = orders.lifecycle == Lifecycle::Run;
            if runs {
                orders.lifecycle = Lifecycle::Drain;
            }
            runs
        });
        match self.control.await {
            Ok(report) => report,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Calls [`give_up`](Self::give_up) while `shutdown` holds the node.
    pub fn give_up_handle(&self) -> GiveUp {
        GiveUp(self.orders.clone())
    }
}

/// The sockets for the status and for commands. A node that cannot make them serves its mappings all the same.
fn unix_doors(config: &Config) -> Result<Option<UnixDoors>, StartError> {
    let made = NodeSockets::bind(&config.runtime_dir).and_then(|sockets| {
        let path = status::socket::path(&config.runtime_dir);
        let doors = sockets.into_doors();
        doors.map_err(|source| SocketError::Unusable { path, source })
    });
    match made {
        Ok(doors) => Ok(Some(doors)),
        Err(taken @ SocketError::Taken { .. }) => Err(StartError::Status(taken)),
        Err(error @ SocketError::Unusable { .. }) => {
            warn!(%error, "Status is not served and no command is taken; correct runtime_dir and restart");
            Ok(None)
        }
    }
}

/// Keeps the state directory for this node: two with one node id would put each other out of their groups again and
/// again. Where nothing can be written there, nothing is kept, and control says so.
fn state_lock(config: &Config) -> Result<Option<Lock>, StartError> {
    let dir = &config.state_dir;
    if config.state_dir_writable().is_err() {
        return Ok(None);
    }
    let taken = std::fs::create_dir_all(dir).and_then(|()| Lock::take(&dir.join("node.lock")));
    match taken {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(StartError::State { dir: dir.clone() }),
        Err(error) => {
            let dir = dir.display();
            warn!(state_dir = %dir, %error, "State directory cannot be kept from other nodes; see that each has its own");
            Ok(None)
        }
    }
}

/// See [`Appliance::give_up_handle`].
#[derive(Clone, Debug)]
pub struct GiveUp(watch::Sender<Orders>);

impl GiveUp {
    /// Gives up what is in flight.
    pub fn now(&self) {
        self.0
            .send_modify(|orders| orders.lifecycle = Lifecycle::GiveUp);
    }
}

#[cfg(test)]
mod tests;
