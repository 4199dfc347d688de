//! SIGINT, SIGTERM and SIGHUP, heard while waiting: what was started is then ended in order.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its making on, these signals no longer end the process.
pub(crate) struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let entered = runtime.enter();
        let hear = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
        let (interrupt, terminate) = (
            hear(SignalKind::interrupt())?,
            hear(SignalKind::terminate())?,
        );
        let hangup = hear(SignalKind::hangup())?;
        drop(entered);
        Ok(Self {
            runtime,
            interrupt,
            terminate,
            hangup,
        })
    }

    /// Waits so long, or until a signal; whether it was a signal.
    pub(crate) fn pause(&mut self, time: Duration) -> bool {
        let Self {
            runtime,
            interrupt,
            terminate,
            hangup,
        } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }

    /// Waits for something else.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}
