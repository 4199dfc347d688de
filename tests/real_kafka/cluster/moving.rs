//! Nodes that come back as others: of a newer version, or at other addresses.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use forebay_tests::rig::{NODES, Site, unix_millis};

use super::super::{NEWEST, rig};
use super::{Trial, Way};

/// The name behind which addresses change.
const NAME: &str = "kafka.rig.test";

/// Where a rolling restart begins.
const OLDER: &str = "4.0.2";

/// A rolling restart from one version to the next.
pub(super) async fn restarts(way: Way) {
    let Some(rig) = rig("rolling restart") else {
        return;
    };
    let mut trial = Trial::start(way, &rig, Site::new(OLDER), "rolling").await;
    for node in 1..=NODES {
        let since = unix_millis();
        trial.tell(&format!("stop {node}")).await;
        trial
            .recovers(&format!("node {node} of {OLDER} stopped"), since)
            .await;
        trial.tell(&format!("start {node} {NEWEST}")).await;
        trial.settle().await;
        let since = unix_millis();
        trial
            .recovers(&format!("and started as {NEWEST}"), since)
            .await;
    }
    trial.ends().await;
}

/// Addresses that change behind a name.
pub(super) async fn addresses(way: Way) {
    let Some(rig) = rig("addresses behind a name") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let hosts = dir.path().join("hosts");
    name(&hosts, Ipv4Addr::LOCALHOST);
    let site = Site {
        host: NAME,
        ..Site::new(NEWEST)
    };
    let mut trial = Trial::start_with(way, &rig, site, "named", Some(hosts.clone())).await;
    for last in 2..5 {
        let address = Ipv4Addr::new(127, 0, 0, last);
        for node in 1..=NODES {
            trial.cluster.place(node, Some(address));
        }
        // The name follows later, as it does.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let since = unix_millis();
        name(&hosts, address);
        trial
            .recovers(&format!("all nodes at {address} behind their name"), since)
            .await;
    }
    trial.ends().await;
}

/// Writes into the file that is there: its mount is of that file.
fn name(hosts: &Path, address: Ipv4Addr) {
    let text = format!("127.0.0.1 localhost\n{address} {NAME}\n");
    std::fs::write(hosts, text).expect("the file can be written");
}
