//! What happens to nodes: leaders and coordinators move, die and freeze, and the network to them is cut.

use forebay_tests::rig::{Cut, Site, unix_millis};

use super::super::{NEWEST, rig};
use super::{Trial, Way};

/// Every fault of a node.
pub(super) async fn misbehave(way: Way) {
    let Some(rig) = rig("nodes that misbehave") else {
        return;
    };
    let mut trial = Trial::start(way, &rig, Site::new(NEWEST), "faults").await;
    let since = unix_millis();
    trial.cluster.ask("lead faults 2").await;
    trial.recovers("all leaders moved", since).await;
    trial.settle().await;
    let node = trial.leader().await;
    trial.killed("a leader killed", node).await;
    let node = trial.coordinator().await;
    trial.killed("the coordinator killed", node).await;
    let node = trial.leader().await;
    trial.frozen("a leader frozen", node).await;
    let node = trial.coordinator().await;
    trial.frozen("the coordinator frozen", node).await;
    for (what, there, back) in [
        ("cut off on the way there", true, false),
        ("cut off on the way back", false, true),
        ("cut off both ways", true, true),
    ] {
        let node = trial.leader().await;
        trial.cut(what, node, Cut { there, back }).await;
    }
    trial.ends().await;
}

/// Those of them that a way has most to do with, for every run.
pub(super) async fn die_and_freeze(way: Way) {
    let Some(rig) = rig("nodes that die and freeze") else {
        return;
    };
    let mut trial = Trial::start(way, &rig, Site::new(NEWEST), "faults").await;
    let node = trial.leader().await;
    trial.killed("a leader killed", node).await;
    let node = trial.coordinator().await;
    trial.killed("the coordinator killed", node).await;
    let node = trial.coordinator().await;
    trial.frozen("the coordinator frozen", node).await;
    trial.ends().await;
}
