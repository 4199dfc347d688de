//! What `check` finds of the node itself: its address, its state directory, sections without effect.
//!
//! Invariant: nothing is written, and an address is let go of at once.

use std::io;
use std::net::SocketAddr;

use super::{Report, Severity};
use crate::config::{Config, advice};
use crate::control::http;
use crate::crash;
use crate::listen_advice;
use crate::mapping::{self, Declared};
use crate::metrics;

/// What the files say to whoever reads them together.
pub(super) fn files(config: &Config, set: &[Declared], report: &mut Report) {
    for (name, advice) in mapping::unused_functions(config, set) {
        let subject = format!("{}: [functions.{name}]", config.file.display());
        report.add(Severity::Note, subject, advice);
    }
    for declared in set {
        let mapping = &declared.mapping;
        let gives_up = mapping.retry.max_attempts.is_some() || mapping.retry.max_age.is_some();
        if gives_up && mapping.destination.is_none() {
            let message = "records are discarded once they have reached its limits, since no DestinationConfig says where they go";
            report.add(
                Severity::Note,
                format!("mapping {}", declared.name()),
                message,
            );
        }
    }
    if let Some(message) = crash::unnotable(config) {
        let subject = format!("state_dir {}", config.state_dir.display());
        report.add(Severity::Note, subject, message);
    }
    if let Err(error) = config.runtime_dir_writable() {
        let subject = format!("runtime_dir {}", config.runtime_dir.display());
        let message = format!(
            "cannot be written ({error}), so `forebay status` would find no node; {}",
            advice(&error, "correct it")
        );
        report.add(Severity::Note, subject, message);
    }
}

/// Whether the metrics' address can be served.
pub(super) async fn listen(addr: SocketAddr, report: &mut Report) {
    let subject = format!("listen {addr}");
    match tokio::net::TcpListener::bind(addr).await {
        Ok(_) => report.add(Severity::Right, subject, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_ours(addr).await => {
            let message = "a node of Forebay serves it already; a second one needs another";
            report.add(Severity::Note, subject, message);
        }
        Err(error) => {
            let message = format!("cannot be bound: {error}; {}", listen_advice(&error));
            report.add(Severity::Problem, subject, message);
        }
    }
}

/// Whether a node answers there: then `check` was asked before a reload, and all is well.
async fn is_ours(addr: SocketAddr) -> bool {
    let Ok(client) = http::endpoint_client(None) else {
        return false;
    };
    let asked = http::exchange(client.get(format!("http://{addr}/metrics"))).await;
    let ours = metrics::MEMORY_BUDGET.name;
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.body).contains(ours))
}
