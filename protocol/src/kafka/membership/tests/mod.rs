//! The member against a coordinator played by hand, and several against one that works.

mod coordinator;
mod failing;
mod group;
mod joining;
mod rebalancing;
mod script;
mod world;

use super::*;

const TOPIC: &str = "t";

fn config(rack: &str) -> MembershipConfig {
    MembershipConfig {
        group_id: "g".to_owned(),
        topic: TOPIC.to_owned(),
        group_instance_id: None,
        rack_id: rack.to_owned(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(30),
        heartbeat_interval: Duration::from_secs(1),
        request_timeout: Duration::from_secs(3),
    }
}
