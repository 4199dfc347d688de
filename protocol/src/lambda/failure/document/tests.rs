use std::sync::Arc;

use serde_json::Value;

use super::super::RecordPosition;
use super::*;

const ORIGIN: Origin<'_> = Origin {
    function_arn: "arn:aws:lambda:eu-west-1:111122223333:function:f",
    bootstrap_servers: "k1.example.net:9094",
};

const EVENT: &str = r#"{"eventSource":"SelfManagedKafka","records":{"orders-0":[{"value":"\\"}]}}"#;

const MAPPING: Uuid = Uuid::from_u128(0x11111111_2222_3333_4444_555555555555);

fn position(offset: i64, timestamp: i64) -> RecordPosition {
    RecordPosition { offset, timestamp }
}

/// A record of partition 3 of the topic `orders`.
fn record(offset: i64, timestamp: i64) -> FailedLane {
    FailedLane {
        topic: Arc::from("orders"),
        partition: 3,
        records: 1,
        first: position(offset, timestamp),
        last: position(offset, timestamp),
    }
}

fn lane(topic: &str, partition: i32, records: usize, offsets: (i64, i64)) -> FailedLane {
    FailedLane {
        topic: Arc::from(topic),
        partition,
        records,
        first: position(offsets.0, 1_709_287_199_000),
        last: position(offsets.1, 1_709_287_199_500),
    }
}

/// The contract's example.
pub(in crate::lambda::failure) fn failure() -> Failure {
    Failure {
        condition: Condition::RetryAttemptsExhausted,
        request_id: "0b1".to_owned(),
        invoke_count: 4,
        response: Some(FunctionResponse {
            status: 200,
            executed_version: "$LATEST".to_owned(),
            function_error: Some("Unhandled".to_owned()),
        }),
        at_unix_ms: 1_709_287_200_123,
        event_bytes: 512,
        lanes: vec![lane("orders", 0, 2, (41, 42))],
    }
}

/// The event in pieces that cut it anywhere.
fn pieces() -> Vec<Bytes> {
    let cut = EVENT.as_bytes().chunks(7);
    cut.map(Bytes::copy_from_slice).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn check(failure: &Failure, pointer: &str, expected: Value) {
    let document = parsed(&failure.invocation_record(ORIGIN));
    assert_eq!(document.pointer(pointer), Some(&expected), "{document}");
}

#[test]
fn the_example_of_the_contract_comes_out_byte_for_byte() {
    let expected = concat!(
        r#"{"requestContext":{"requestId":"0b1","functionArn":"arn:aws:lambda:eu-west-1:111122223333:function:f","#,
        r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":4},"#,
        r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"#,
        r#""version":"1.0","timestamp":"2024-03-01T10:00:00.123Z","#,
        r#""KafkaBatchInfo":{"batchSize":2,"bootstrapServers":"k1.example.net:9094","payloadSize":512,"#,
        r#""recordsInfo":{"orders-0":{"firstRecordOffset":"41","lastRecordOffset":"42","#,
        r#""firstRecordTimestamp":"2024-03-01T09:59:59.000Z","lastRecordTimestamp":"2024-03-01T09:59:59.500Z"}}}}"#,
    );
    assert_eq!(failure().invocation_record(ORIGIN), expected);
}

#[test]
fn each_row_of_the_contract_has_its_value() {
    let one = failure();
    check(&one, "/requestContext/requestId", "0b1".into());
    check(
        &one,
        "/requestContext/functionArn",
        ORIGIN.function_arn.into(),
    );
    check(
        &one,
        "/requestContext/condition",
        "RetryAttemptsExhausted".into(),
    );
    check(&one, "/requestContext/approximateInvokeCount", 4.into());
    check(&one, "/responseContext/statusCode", 200.into());
    check(&one, "/responseContext/executedVersion", "$LATEST".into());
    check(&one, "/responseContext/functionError", "Unhandled".into());
    check(&one, "/version", "1.0".into());
    check(&one, "/timestamp", "2024-03-01T10:00:00.123Z".into());
    check(&one, "/KafkaBatchInfo/batchSize", 2.into());
    check(
        &one,
        "/KafkaBatchInfo/bootstrapServers",
        ORIGIN.bootstrap_servers.into(),
    );
    check(&one, "/KafkaBatchInfo/payloadSize", 512.into());
    let lane = "/KafkaBatchInfo/recordsInfo/orders-0";
    check(&one, &format!("{lane}/firstRecordOffset"), "41".into());
    check(&one, &format!("{lane}/lastRecordOffset"), "42".into());
    let times = ["2024-03-01T09:59:59.000Z", "2024-03-01T09:59:59.500Z"];
    check(
        &one,
        &format!("{lane}/firstRecordTimestamp"),
        times[0].into(),
    );
    check(
        &one,
        &format!("{lane}/lastRecordTimestamp"),
        times[1].into(),
    );
    let document = parsed(&one.invocation_record(ORIGIN));
    assert_eq!(document.pointer("/KafkaBatchInfo/eventSourceArn"), None);
    assert_eq!(document.get("payload"), None);
}

#[test]
fn the_response_is_told_as_the_condition_wants_it() {
    let answered = failure().response;
    let told = |condition, response: &Option<FunctionResponse>| {
        let failure = Failure {
            condition,
            response: response.clone(),
            ..failure()
        };
        parsed(&failure.invocation_record(ORIGIN))
            .get("responseContext")
            .cloned()
    };
    for response in [&answered, &None] {
        let oversized = told(Condition::MaximumPayloadSizeExceeded, response);
        assert_eq!(oversized, Some(Value::Null));
        assert_eq!(told(Condition::RecordAgeExceeded, response), None);
    }
    assert_eq!(told(Condition::SkippedByOperator, &None), None);
    for condition in [
        Condition::RetryAttemptsExhausted,
        Condition::SkippedByOperator,
    ] {
        let response = told(condition, &answered);
        assert_eq!(response.unwrap()["functionError"], "Unhandled");
    }
}

#[test]
fn reported_items_leave_no_function_error() {
    let response = FunctionResponse {
        status: 200,
        executed_version: "7".to_owned(),
        function_error: None,
    };
    let reported = Failure {
        response: Some(response),
        ..failure()
    };
    check(&reported, "/responseContext/functionError", Value::Null);
    check(&reported, "/responseContext/executedVersion", "7".into());
}

#[test]
fn a_bucket_gets_the_event_as_a_string() {
    let text = failure().invocation_record_with(ORIGIN, &pieces());
    let document = parsed(&text);
    assert_eq!(document["payload"], EVENT);
    let bare = failure().invocation_record(ORIGIN);
    let payload = bare.len() + PAYLOAD.len() + "\"\"".len() + text_bytes(&pieces());
    assert_eq!(text.len(), payload, "what the event takes is foretold");
    assert!(text.starts_with(bare.trim_end_matches('}')));
}

#[test]
fn partitions_stand_in_their_order_and_halve() {
    let lanes: Vec<_> = (8..11).map(|it| lane("orders", it, 2, (1, 2))).collect();
    let joint = Failure { lanes, ..failure() };
    let text = joint.invocation_record(ORIGIN);
    let places = [8, 9, 10].map(|it| text.find(&format!("\"orders-{it}\"")).unwrap());
    assert!(places.is_sorted(), "{text}");
    check(&joint, "/KafkaBatchInfo/batchSize", 6.into());
    let [first, second] = joint.halves().unwrap();
    assert_eq!(first.halves(), None);
    check(&first, "/KafkaBatchInfo/batchSize", 2.into());
    check(&second, "/KafkaBatchInfo/batchSize", 4.into());
    check(&second, "/KafkaBatchInfo/payloadSize", 512.into());
    assert_eq!([first.lanes, second.lanes].concat(), joint.lanes);
}

#[test]
fn texts_from_outside_break_no_json() {
    let hostile = Failure {
        request_id: "\"}\u{0}é".to_owned(),
        ..failure()
    };
    check(&hostile, "/requestContext/requestId", "\"}\u{0}é".into());
}

#[test]
fn a_topic_gets_each_record_by_itself() {
    let text = failure().record_document(ORIGIN, &record(42, -1), EVENT.len(), &pieces());
    let expected = format!(
        "{}{}{}{EVENT}}}",
        concat!(
            r#"{"requestContext":{"requestId":"0b1","functionArn":"arn:aws:lambda:eu-west-1:111122223333:function:f:$LATEST","#,
            r#""condition":"RetriesExhausted","approximateInvokeCount":4},"#,
            r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"#,
            r#""version":"1.0","timestamp":"2024-03-01T10:00:00.123Z","#,
        ),
        format_args!(
            r#""KafkaBatchInfo":{{"batchSize":1,"bootstrapServers":"k1.example.net:9094","payloadSize":{},"#,
            EVENT.len()
        ),
        r#""recordInfo":{"offset":"42","timestamp":"1969-12-31T23:59:59.999Z"}},"payload":"#,
    );
    assert_eq!(text, expected);
    assert_eq!(parsed(&text)["payload"], parsed(EVENT));
}

#[test]
fn a_topic_spells_one_condition_differently_and_keeps_a_qualifier() {
    for (condition, name) in [
        (Condition::RetryAttemptsExhausted, "RetriesExhausted"),
        (
            Condition::MaximumPayloadSizeExceeded,
            "MaximumPayloadSizeExceeded",
        ),
        (Condition::RecordAgeExceeded, "RecordAgeExceeded"),
        (Condition::SkippedByOperator, "SkippedByOperator"),
    ] {
        let failure = Failure {
            condition,
            ..failure()
        };
        let live = format!("{}:live", ORIGIN.function_arn);
        let origin = Origin {
            function_arn: &live,
            ..ORIGIN
        };
        let text = failure.record_document(origin, &record(1, 2), 9, &pieces());
        let document = parsed(&text);
        assert_eq!(document["requestContext"]["condition"], name);
        assert_eq!(document["requestContext"]["functionArn"], live);
    }
}

#[test]
fn a_record_that_its_topic_cannot_hold_leaves_where_it_stood() {
    let text = failure().record_document(ORIGIN, &record(42, 7), 30_000_000, &[]);
    let document = parsed(&text);
    assert_eq!(document["KafkaBatchInfo"]["payloadSize"], 30_000_000);
    assert_eq!(document["KafkaBatchInfo"]["recordInfo"]["offset"], "42");
    let place = &document["KafkaBatchInfo"]["recordsInfo"]["orders-3"];
    assert_eq!(
        (&place["firstRecordOffset"], &place["lastRecordOffset"]),
        (&"42".into(), &"42".into())
    );
    assert!(document.get("payload").is_none());
}

#[test]
fn an_object_is_named_by_its_first_partition_and_time() {
    let unique = Uuid::from_u128(7);
    assert_eq!(
        failure().object_key(MAPPING, unique),
        "aws/lambda/11111111-2222-3333-4444-555555555555/orders-0/2024/03/01/2024-03-01T10.00.00-\
         00000000-0000-0000-0000-000000000007"
    );
    assert_eq!(
        probe_key(MAPPING, 0, unique),
        "aws/lambda/11111111-2222-3333-4444-555555555555/probe/1970/01/01/1970-01-01T00.00.00-\
         00000000-0000-0000-0000-000000000007"
    );
}

#[test]
fn a_probe_has_the_shape_of_a_failure_and_tells_of_none() {
    let document = parsed(&probe(ORIGIN, "1", 0));
    let real = parsed(&failure().invocation_record(ORIGIN));
    let members = |of: &Value| -> Vec<String> {
        let names = of.as_object().unwrap().keys();
        names
            .filter(|it| *it != "responseContext")
            .cloned()
            .collect()
    };
    assert_eq!(members(&document), members(&real));
    assert_eq!(document["requestContext"]["condition"], "Probe");
    assert_eq!(document["KafkaBatchInfo"]["batchSize"], 0);
    assert_eq!(
        document["KafkaBatchInfo"]["recordsInfo"],
        serde_json::json!({})
    );
}
