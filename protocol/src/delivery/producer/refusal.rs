//! What a broker says instead of an acknowledgement, and what to do about it.

use crate::kafka::error::ErrorCode;

/// Whether an error says that another broker leads by now.
pub(super) fn is_stale_view(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NETWORK_EXCEPTION
    )
}

/// Whether an error says that the broker is not ready yet, as after its start.
pub(super) fn is_starting(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::REQUEST_TIMED_OUT
    )
}

/// Whether an error says that our numbers mean nothing to the broker.
pub(super) fn forgets_us(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
    )
}

/// Why the topic takes nothing, and what to do about it.
pub(super) fn refusal(topic: &str, error: ErrorCode, message: Option<&str>) -> String {
    let advice = match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {
            return format!("topic {topic} does not exist; create it, or name another destination");
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "grant the mapping's user WRITE and DESCRIBE on that topic"
        }
        ErrorCode::MESSAGE_TOO_LARGE => {
            return format!(
                "topic {topic} takes no record of that size, not even without its event; raise its max.message.bytes"
            );
        }
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "it has fewer replicas in sync than its min.insync.replicas; look at its brokers"
        }
        ErrorCode::INVALID_RECORD => {
            "look at its configuration: where it is compacted, it takes no record without a key"
        }
        _ => "it is tried again",
    };
    let words = message
        .map(|words| format!(", \"{words}\""))
        .unwrap_or_default();
    format!("topic {topic} was not written to: {error}{words}; {advice}")
}
