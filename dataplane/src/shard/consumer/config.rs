//! From a plan to what the machine is told once.
//!
//! Invariant: no two consumers have the same seed, or make the same nonces.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{self, ConsumerConfig, DeliverySettings, Duty, TopicDestination};
use forebay_protocol::kafka::sasl::NonceKey;
use forebay_protocol::limits::DEFAULT_WINDOW;
use uuid::Uuid;

use crate::contract::ConsumerPlan;
use crate::mapping::{Destination, Mapping};

/// What that plan's consumer is told once.
pub(super) fn config(plan: &ConsumerPlan) -> ConsumerConfig {
    let mapping = &*plan.mapping;
    let kafka = &mapping.kafka;
    let name = format!("{}-{}", mapping.uuid, plan.ordinal);
    ConsumerConfig {
        bootstrap: mapping.bootstrap.clone(),
        bootstrap_servers: mapping.bootstrap_servers.clone(),
        topic: mapping.topic.clone(),
        group_id: mapping.group_id.clone(),
        group_instance_id: kafka.node_id.as_ref().map(|node| format!("{node}-{name}")),
        client_id: name,
        rack_id: kafka.client_rack.clone(),
        duty: match mapping.enabled {
            true => Duty::Serve,
            false => Duty::KeepPlace,
        },
        starting_position: mapping.starting_position,
        body_limit: mapping.body_limit,
        delivery: settings(mapping),
        read_committed: kafka.read_committed,
        group_protocol: kafka.group_protocol,
        session_timeout: kafka.session_timeout,
        rebalance_timeout: kafka.rebalance_timeout,
        heartbeat_interval: kafka.heartbeat_interval,
        request_timeout: kafka.request_timeout,
        call_deadline: plan.call_deadline,
        max_in_flight: plan.permits,
        nonce_key: NonceKey::new(random()),
        seed: Uuid::new_v4().as_u64_pair().0,
    }
}

/// What of it a mapping may change while its consumers run.
pub(super) fn settings(mapping: &Mapping) -> DeliverySettings {
    DeliverySettings {
        batch_size: mapping.batch_size,
        window: mapping.window_seconds.map_or(DEFAULT_WINDOW, |seconds| {
            Duration::from_secs(u64::from(seconds))
        }),
        on_oversized: mapping.on_oversized,
        retry: mapping.retry.clone(),
        destination: mapping.destination.as_ref().map(|to| match to {
            Destination::Topic(topic) => delivery::Destination::Topic(TopicDestination {
                topic: topic.clone(),
                function_arn: mapping.function.arn.clone(),
            }),
            Destination::Queue(_) | Destination::Notifications(_) | Destination::Bucket(_) => {
                delivery::Destination::Service
            }
        }),
        drop_undelivered: mapping.drop_undelivered,
        filters: Arc::clone(&mapping.filters),
    }
}

/// 244 random bits, and a few that say how they were made.
fn random() -> [u8; 32] {
    let mut random = [0; 32];
    let (first, second) = random.split_at_mut(16);
    first.copy_from_slice(Uuid::new_v4().as_bytes());
    second.copy_from_slice(Uuid::new_v4().as_bytes());
    random
}
