//! FindCoordinator (key 10), v0 to v6. v4 several keys at once (KIP-699).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, FakeKafka};

pub(super) fn refuse(
    request: &FindCoordinatorRequest,
    version: i16,
    code: i16,
) -> FindCoordinatorResponse {
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(BrokerId(-1))
            .with_port(-1);
    }
    let keys = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
    });
    FindCoordinatorResponse::default().with_coordinators(keys.collect())
}

impl FakeKafka {
    pub(super) fn find_coordinator(&mut self, call: Call, request: FindCoordinatorRequest) {
        let response = if call.version < 4 {
            let found = self.coordinator(&request.key);
            FindCoordinatorResponse::default()
                .with_error_code(found.error_code)
                .with_node_id(found.node_id)
                .with_host(found.host)
                .with_port(found.port)
        } else {
            let keys = request.coordinator_keys.iter();
            let found = keys.map(|key| self.coordinator(key));
            FindCoordinatorResponse::default().with_coordinators(found.collect())
        };
        self.answer(&call, &response);
    }

    /// The node that coordinates `group`.
    pub fn coordinator_of(&self, group: &str) -> i32 {
        if let Some(node) = self.coordinators.get(group) {
            return *node;
        }
        let sum: usize = group.bytes().map(usize::from).sum();
        let brokers = &self.config.brokers;
        brokers[sum % brokers.len()].id
    }

    fn coordinator(&self, key: &StrBytes) -> Coordinator {
        let node = self.coordinator_of(key);
        let broker = self
            .config
            .brokers
            .iter()
            .find(|broker| broker.id == node && broker.is_up);
        match broker {
            Some(broker) => Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(node))
                .with_host(StrBytes::from_string(broker.host.clone()))
                .with_port(i32::from(broker.port)),
            None => Coordinator::default()
                .with_key(key.clone())
                .with_error_code(ErrorCode::COORDINATOR_NOT_AVAILABLE.0)
                .with_node_id(BrokerId(-1))
                .with_port(-1),
        }
    }
}
