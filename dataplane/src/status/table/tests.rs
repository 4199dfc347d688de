use std::collections::BTreeMap;

use super::super::{Consumer, FORMAT, Halted, JOINING, Node, Reload, Retry, Secret, Shard};
use super::*;

fn partition(number: i32) -> Partition {
    Partition {
        partition: number,
        consumer: 0,
        committed_offset: Some(7),
        processed_offset: 7,
        fetched_offset: 12,
        high_watermark: Some(12),
        high_watermark_age_seconds: Some(0.4),
        log_start_offset: Some(0),
        lag_records: Some(5),
        in_flight: false,
        call: None,
        halted: None,
        retry: None,
    }
}

fn document(partitions: Vec<Partition>) -> Document {
    Document {
        format: FORMAT,
        time: 1000.0,
        node: Node {
            version: "0.1.0".to_owned(),
            pid: 42,
            node_id: None,
            lifecycle: "running".to_owned(),
            started: 0.0,
            uptime_seconds: 1000.0,
            memory_budget_bytes: 512 << 20,
            memory_used_bytes: 3 << 20,
            reload: Reload {
                success: true,
                problems: Vec::new(),
                succeeded: 0.0,
            },
            shards: vec![Shard {
                shard: 0,
                generation: 1,
                planned_generation: 1,
                consumers: 1,
                memory_used_bytes: 3 << 20,
            }],
        },
        mappings: vec![Mapping {
            uuid: "u".to_owned(),
            function_arn: "arn".to_owned(),
            source: None,
            topics: vec!["orders".to_owned()],
            starting_position: None,
            starting_position_timestamp: None,
            consumer_group_id: "u".to_owned(),
            state: "Enabled".to_owned(),
            state_transition_reason: "USER_INITIATED".to_owned(),
            last_processing_result: "OK".to_owned(),
            last_modified: 940.0,
            name: "orders".to_owned(),
            file: "mappings.d/orders.toml".to_owned(),
            detail: None,
            counters: BTreeMap::new(),
            consumers: vec![Consumer {
                consumer: 0,
                shard: 0,
                phase: "stable".to_owned(),
                generation: Some(3),
                partitions: partitions.len(),
                memory_bytes: 0,
                fault: None,
            }],
            partitions,
            certificates: Vec::new(),
            secrets: Vec::new(),
        }],
    }
}

#[test]
fn what_is_well_is_a_line_for_each_mapping() {
    let mut lagging = partition(1);
    lagging.lag_records = Some(10_005);
    let text = overview(&document(vec![partition(0), lagging]));
    let expected = "node: Forebay 0.1.0, running, up 16 min 40 s, process 42, 3 MiB of 512 MiB in use on 1 shard\n\
                    \n\
                    MAPPING  STATE    CONSUMERS  PARTITIONS    LAG  RETRYING  HALTED  RESULT\n\
                    orders   Enabled          1           2  10010         0       0  OK\n";
    assert_eq!(text, expected);
}

#[test]
fn what_needs_attention_stands_below_with_what_to_know() {
    let mut document = document(vec![
        Partition {
            retry: Some(Retry {
                offset: 7,
                last_offset: 11,
                attempts: 3,
                function_errors: 3,
                failed_calls: 4,
                leaving: None,
                error: "function failing: Unhandled: KeyError".to_owned(),
                since: 870.0,
                age_seconds: 130.0,
                next_try: Some(1004.5),
            }),
            ..partition(0)
        },
        Partition {
            halted: Some(Halted {
                offset: 9,
                reason: "too \u{1b}[31mlarge".to_owned(),
                next_try: 1030.0,
            }),
            ..partition(1)
        },
    ]);
    document.mappings[0].secrets.push(Secret {
        secret: "file:/s.json".to_owned(),
        error: "cannot be read".to_owned(),
        since: 880.0,
    });
    document.mappings[0].certificates.push(Certificate {
        kind: "client".to_owned(),
        secret: "file:/s.json".to_owned(),
        subject: "CN=forebay".to_owned(),
        not_after: 90_000.0,
        expires_in_seconds: 89_000.0,
    });
    let text = overview(&document);
    for expected in [
        "\norders\n",
        "  file:/s.json: cannot be read; since 2 min 0 s\n",
        "  client certificate CN=forebay of file:/s.json expires in 1 day 0 h\n",
        "  partition 1 stands at offset 9, next look in 30 s: too ?[31mlarge\n",
        "  partition 0 retries offsets 7 to 11 for 2 min 10 s now, 4 failed calls (3 errors of the function), \
         next call in 4 s: function failing: Unhandled: KeyError\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let text = details(&document);
    let cells = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let row = cells("0 0 7 7 12 12 5 waits to retry");
    assert!(text.lines().any(|line| cells(line) == row), "{text}");
}

#[test]
fn many_partitions_in_trouble_are_counted() {
    let halted = |number| Partition {
        halted: Some(Halted {
            offset: 9,
            reason: "r".to_owned(),
            next_try: 0.0,
        }),
        ..partition(number)
    };
    let text = overview(&document((0..500).map(halted).collect()));
    assert!(text.contains("and 490 more halted partitions"), "{text}");
    assert!(text.lines().count() < 20, "{text}");
}

#[test]
fn a_call_that_is_open_is_told_with_its_age_and_its_end_and_a_long_one_needs_attention() {
    let called = |number, age_seconds: f64| Partition {
        in_flight: true,
        call: Some(Call {
            since: 1000.0 - age_seconds,
            age_seconds,
            deadline: 1910.0 - age_seconds,
        }),
        ..partition(number)
    };
    let document = document(vec![called(0, 3.0), called(1, 250.0)]);
    let text = details(&document);
    assert!(
        text.contains("in flight for 3 s, 15 min 7 s more at most\n"),
        "{text}"
    );
    let text = overview(&document);
    let long =
        "  partition 1 waits for a call that is open for 4 min 10 s, 11 min 0 s more at most\n";
    assert!(text.ends_with(&format!("\norders\n{long}")), "{text}");
}

#[test]
fn a_lag_that_is_old_says_so() {
    let old = Partition {
        high_watermark_age_seconds: Some(250.0),
        ..partition(1)
    };
    let document = document(vec![partition(0), old]);
    let text = overview(&document);
    assert!(text.contains(" 10 (4 min 10 s ago) "), "{text}");
    let text = details(&document);
    let said = "  5  end and lag of 4 min 10 s ago\n";
    assert_eq!(text.matches(said).count(), 1, "{text}");
}

#[test]
fn what_is_said_already_is_not_said_again() {
    let check = |change: fn(&mut Mapping), expected: &str| {
        let mut document = document(vec![partition(0)]);
        change(&mut document.mappings[0]);
        let text = overview(&document);
        let below = text.split_once("\norders\n").map(|(_, below)| below);
        assert_eq!(below, Some(expected), "{text}");
    };
    check(
        |orders| {
            let error = "file:/s.json cannot be read: No such file".to_owned();
            orders.detail = Some(error.clone());
            orders.secrets.push(Secret {
                secret: "file:/s.json".to_owned(),
                error,
                since: 880.0,
            });
        },
        "  file:/s.json cannot be read: No such file; since 2 min 0 s\n",
    );
    check(
        |orders| orders.consumers[0].phase = JOINING.to_owned(),
        "  joins its group: where a node was killed before, brokers wait for that member first, up to its session_timeout_ms\n",
    );
    check(
        |orders| {
            orders.last_processing_result = "PROBLEM: partition 0 at offset 9: r.".to_owned();
            orders.detail = Some("partition 0 at offset 9: r".to_owned());
            orders.partitions[0].halted = Some(Halted {
                offset: 9,
                reason: "r".to_owned(),
                next_try: 1030.0,
            });
        },
        "  partition 0 stands at offset 9, next look in 30 s: r\n",
    );
    check(
        |orders| {
            orders.detail = Some("Unhandled: KeyError".to_owned());
            orders.partitions[0].retry = Some(Retry {
                offset: 7,
                last_offset: 11,
                attempts: 3,
                function_errors: 3,
                failed_calls: 3,
                leaving: None,
                error: "function failing: Unhandled: KeyError".to_owned(),
                since: 870.0,
                age_seconds: 130.0,
                next_try: Some(1004.5),
            });
        },
        "  Unhandled: KeyError\n  partition 0 retries offsets 7 to 11 for 2 min 10 s now, 3 failed calls (3 errors of the \
         function), next call in 4 s\n",
    );
    check(
        |orders| orders.detail = Some("broker b:9092: refused".to_owned()),
        "  broker b:9092: refused\n",
    );
}

#[test]
fn records_that_are_given_up_are_told_with_why_and_what_the_destination_says() {
    let given_up = Partition {
        retry: Some(Retry {
            offset: 7,
            last_offset: 11,
            attempts: 3,
            function_errors: 3,
            failed_calls: 3,
            leaving: Some("RetryAttemptsExhausted".to_owned()),
            error: "AccessDenied: sqs:SendMessage".to_owned(),
            since: 870.0,
            age_seconds: 130.0,
            next_try: Some(1004.5),
        }),
        ..partition(0)
    };
    let mut document = document(vec![given_up]);
    let text = overview(&document);
    let said = "  partition 0 gives up offsets 7 to 11 (RetryAttemptsExhausted) for 2 min 10 s now, next writing in 4 s: \
                AccessDenied: sqs:SendMessage\n";
    assert!(text.contains(said), "{text}");
    let text = details(&document);
    assert!(text.contains("waits for its destination\n"), "{text}");
    assert!(!text.contains("given up "), "none is yet: {text}");
    let counters = &mut document.mappings[0].counters;
    counters.insert("destination_delivered_records".to_owned(), 3);
    counters.insert("dropped_records".to_owned(), 1);
    let text = details(&document);
    let said = "given up  3 delivered to the destination, 1 dropped\n";
    assert!(text.contains(said), "{text}");
}
