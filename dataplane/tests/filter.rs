//! `forebay filter`, as people and scripts use it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The exit code, and all that is said.
fn run(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("filter")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that asks for no input may be gone already.
    stdin.write_all(input.as_bytes()).unwrap_or_default();
    drop(stdin);
    let output = child.wait_with_output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("the directory is writable");
    path
}

/// Tries that pattern on that event, with more arguments.
fn tried(pattern: &str, event: &str, more: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let pattern = file(dir.path(), "pattern.json", pattern);
    let event = file(dir.path(), "event.json", event);
    let mut arguments = vec!["--pattern", pattern.to_str().expect("a path in ASCII")];
    arguments.extend(["--event", event.to_str().expect("a path in ASCII")]);
    arguments.extend(more);
    run(&arguments, "")
}

/// What is said of a pattern alone.
fn compiled(pattern: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let pattern = file(dir.path(), "pattern.json", pattern);
    run(
        &["--pattern", pattern.to_str().expect("a path in ASCII")],
        "",
    )
}

#[test]
fn a_pattern_compiles_or_the_place_is_told() {
    let (code, text) = compiled("{\"value\": {\"a\": [1]}}\n");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("pattern.json: compiles\n"), "{text}");
    let (code, text) = compiled("{\n  \"value\": {\"a\": 1}\n}");
    assert_eq!(code, Some(65), "{text}");
    let expected = "pattern.json:2:18: Invalid filter pattern definition. what value.a must be";
    assert!(text.contains(expected), "{text}");
    let (code, text) = run(&["--pattern", "/nowhere/pattern.json"], "");
    assert_eq!(code, Some(66), "{text}");
    assert_eq!(run(&[], "").0, Some(64));
}

#[test]
fn the_criteria_of_awss_command_line_are_taken_whole() {
    let criteria =
        r#"{"Filters":[{"Pattern":"{\"partition\":[1]}"},{"Pattern":"{\"partition\":[2]}"}]}"#;
    let (code, text) = compiled(criteria);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(r#"filter 2 of 2 compiles: {"partition":[2]}"#),
        "{text}"
    );
    let (code, text) = tried(criteria, r#"{"partition":2}"#, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("filter 1 does not match") && text.contains("filter 2 matches"),
        "{text}"
    );
    let (code, text) = compiled(r#"{"Filters":[{"Pattern":"{}"}]}"#);
    assert_eq!(code, Some(65), "{text}");
    assert!(
        text.contains("filter 1: Invalid filter pattern definition. an object may not"),
        "{text}"
    );
}

#[test]
fn a_record_matches_or_the_clause_that_does_not_hold_is_told() {
    let pattern = r#"{"value":{"a":[1],"b":[{"prefix":"x"}]}}"#;
    // {"a":1,"b":"yz"}
    let record =
        r#"{"topic":"orders","partition":3,"offset":7,"value":"eyJhIjoxLCJiIjoieXoifQ=="}"#;
    let (code, text) = tried(pattern, record, &[]);
    assert_eq!(code, Some(1), "{text}");
    let expected = "orders-3 offset 7: does not match: it is filtered out\n  its value is JSON, its key null\n    \
                    value.a [1]: holds\n    value.b [{\"prefix\":\"x\"}]: does not hold\n";
    assert_eq!(text, expected);
    let (code, text) = tried(pattern, r#"{"value":{"a":1.0,"b":"xyz"}}"#, &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = tried(pattern, r#"{"value":"plain text"}"#, &["--plain"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("passes, since it does not fit that format"),
        "{text}"
    );
    let (code, text) = tried(pattern, r#"{"value":"plain text"}"#, &[]);
    assert_eq!(code, Some(65), "{text}");
    assert!(
        text.contains("value is not base64; --plain takes it as text"),
        "{text}"
    );
    let apart = r#"{"value":[{"a":1},{"b":"x"}]}"#;
    let (code, text) = tried(pattern, apart, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("not together in one element of an array"),
        "{text}"
    );
}

#[test]
fn an_event_of_the_function_is_tried_record_by_record() {
    let event = r#"{"eventSource":"SelfManagedKafka","bootstrapServers":"k:9092","records":{"orders-0":[
        {"topic":"orders","partition":0,"offset":1,"timestamp":1,"timestampType":"CREATE_TIME","value":"YQ==","headers":[]},
        {"topic":"orders","partition":0,"offset":2,"timestamp":1,"timestampType":"CREATE_TIME","value":"Yg==","headers":[]}]}}"#;
    let (code, text) = tried(r#"{"value":["b"]}"#, event, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("offset 1: does not match") && text.contains("offset 2: matches"),
        "{text}"
    );
    let (code, text) = tried(r#"{"value":["b"]}"#, "[1]", &[]);
    assert_eq!(code, Some(65), "{text}");
}

#[test]
fn lines_are_answered_in_order() {
    let line = |pattern: &str, event: &str| {
        serde_json::json!({ "pattern": pattern, "event": event }).to_string() + "\n"
    };
    let input = [
        line(r#"{"a":[300]}"#, r#"{"a":3.0e2}"#),
        line(r#"{"a":[300]}"#, r#"{"a":"300"}"#),
        line(r#"{"a":300}"#, "{}"),
        line(r#"{"a":[300]}"#, "[]"),
        "nonsense\n".to_owned(),
        line(r#"{"a":[1]}"#, r#"{"a":2,"a":1}"#),
    ];
    let (code, text) = run(&["--jsonl"], &input.concat());
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], r#"{"valid":true,"match":true}"#);
    assert_eq!(lines[1], r#"{"valid":true,"match":false}"#);
    assert!(
        lines[2].starts_with(
            r#"{"valid":false,"match":null,"error":"Invalid filter pattern definition. "#
        ),
        "{}",
        lines[2]
    );
    assert_eq!(
        lines[3],
        r#"{"valid":true,"match":null,"error":"the event is not a JSON object"}"#
    );
    assert!(
        lines[4].starts_with(r#"{"valid":false,"match":null,"error":"the line is no question"#),
        "{}",
        lines[4]
    );
    assert_eq!(lines[5], r#"{"valid":true,"match":true}"#);
    assert_eq!(lines.len(), 6);
}
