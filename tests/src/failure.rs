//! A failure as consumers hand it over, for tests of who writes it.

use forebay_protocol::delivery::Diversion;
use forebay_protocol::lambda::failure::{
    Condition, FailedLane, Failure, FunctionResponse, RecordPosition,
};

/// Of so many partitions of `orders` two records each, with an event in two pieces.
pub fn diversion(partitions: i32) -> Diversion {
    let lane = |partition| FailedLane {
        topic: "orders".into(),
        partition,
        records: 2,
        first: RecordPosition {
            offset: 41,
            timestamp: 1_709_287_199_000,
        },
        last: RecordPosition {
            offset: 42,
            timestamp: 1_709_287_199_500,
        },
    };
    Diversion {
        failure: Failure {
            condition: Condition::RetryAttemptsExhausted,
            request_id: "0b1".to_owned(),
            invoke_count: 4,
            response: Some(FunctionResponse {
                status: 200,
                executed_version: "$LATEST".to_owned(),
                function_error: Some("Unhandled".to_owned()),
            }),
            at_unix_ms: 1_709_287_200_123,
            event_bytes: 13,
            lanes: (0..partitions).map(lane).collect(),
        },
        event: vec!["{\"records\"".into(), ":{}}".into()],
    }
}
