//! The contract's tables, a case for each row, and what comes from people who mean harm.

use super::{Filter, FilterSet, NotAnObject, Rule, Scratch, Subject};
use crate::limits::{FILTER_BRANCHES_MAX, JSON_DEPTH_MAX};

fn rule(pattern: &str) -> Rule {
    Rule::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// A pattern, what matches it and what does not.
fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    let rule = rule(pattern);
    let mut scratch = Scratch::default();
    let mut matches = |event: &str| rule.matches(event.as_bytes(), &mut scratch);
    for event in matching {
        assert_eq!(matches(event), Ok(true), "{pattern} {event}");
    }
    for event in others {
        assert_eq!(matches(event), Ok(false), "{pattern} {event}");
    }
}

fn refused(pattern: &str, character: usize, reason: &str) {
    let error = Rule::compile(pattern).expect_err(pattern);
    assert!(error.reason.contains(reason), "{pattern}: {error}");
    assert_eq!(error.character, character, "{pattern}: {error}");
}

const SUBJECT: Subject<'_> = Subject {
    topic: "orders",
    partition: 3,
    offset: 41,
    timestamp: 1_700_000_000_123,
    timestamp_type: "CREATE_TIME",
    key: Some(b"k1"),
    value: Some(b"plain"),
};

fn passes(patterns: &[&str], subject: &Subject<'_>) -> bool {
    let filters = patterns.iter().map(|it| Filter::compile(it).unwrap());
    FilterSet::new(filters.collect()).passes(subject, &mut Scratch::default())
}

/// Whether a record of that value passes that pattern.
fn passes_value(pattern: &str, value: &[u8]) -> bool {
    let subject = Subject {
        value: Some(value),
        ..SUBJECT
    };
    passes(&[pattern], &subject)
}

#[test]
fn a_format_that_does_not_fit_lets_the_record_through() {
    const TEXT: &str = r#"{"value":["yes"]}"#;
    const JSON: &str = r#"{"value":{"a":["yes"]}}"#;
    // 8.3, row by row; each with a clause on metadata that holds and one that does not.
    let rows: [(&[u8], &str, bool); 22] = [
        (b"yes", TEXT, true),
        (b"no", TEXT, false),
        (b"no", "{}", true),
        (b"no", JSON, true),
        (br#"{"a":"no"}"#, TEXT, true),
        (br#"{"a":"no"}"#, "{}", true),
        (br#"{"a":"yes"}"#, JSON, true),
        (br#"{"a":"no"}"#, JSON, false),
        (b"\xff", TEXT, true),
        (b"\xff", JSON, true),
        (b"{\"a\":\"no\xff\"}", JSON, true),
        (b"{\"a\":\"no\xff\"}", TEXT, true),
        // Only objects and arrays are JSON; all else is plain text (decision 31).
        (b"\"yes\"", TEXT, false),
        (b"\"yes\"", JSON, true),
        (b"1", JSON, true),
        (b"null", JSON, true),
        (b"", TEXT, false),
        (b"", JSON, true),
        (br#"{"a":"no""#, JSON, true),
        (
            br#"{"a":"no"}"#,
            r#"{"value":["yes"],"value.a":["no"]}"#,
            true,
        ),
        (br#" [{"a":"no"},{"a":"yes"}] "#, JSON, true),
        (br#"[{"a":"no"}]"#, JSON, false),
    ];
    for (value, pattern, expected) in rows {
        let with = |clause: &str| match pattern {
            "{}" => format!("{{{clause}}}"),
            _ => format!("{{{clause},{}", pattern.strip_prefix('{').unwrap()),
        };
        let shown = value.escape_ascii();
        let holds = with(r#""topic":["orders"]"#);
        assert_eq!(passes_value(&holds, value), expected, "{holds} {shown}");
        let fails = with(r#""topic":["payments"]"#);
        assert!(!passes_value(&fails, value), "{fails} {shown}");
    }
}

#[test]
fn a_null_value_is_absent() {
    let null = Subject {
        value: None,
        ..SUBJECT
    };
    for (pattern, expected) in [
        (r#"{"value":["x"]}"#, false),
        (r#"{"value":[null]}"#, false),
        (r#"{"value":[{"exists":true}]}"#, false),
        (r#"{"value":[{"exists":false}]}"#, true),
        (r#"{"value":{"a":[1]}}"#, false),
        (r#"{"value":{"a":[{"exists":false}]}}"#, true),
        (r#"{"key":["k1"]}"#, true),
    ] {
        assert_eq!(passes(&[pattern], &null), expected, "{pattern}");
    }
}

#[test]
fn keys_and_metadata_can_be_matched() {
    let json = Subject {
        key: Some(br#"{"id":7}"#),
        ..SUBJECT
    };
    for (pattern, subject, expected) in [
        (r#"{"key":[{"prefix":"k"}]}"#, &SUBJECT, true),
        (r#"{"key":["other"]}"#, &SUBJECT, false),
        (r#"{"key":{"id":[7]}}"#, &json, true),
        (r#"{"key":{"id":[8]}}"#, &json, false),
        (r#"{"key.id":[7]}"#, &json, true),
        (r#"{"topic":[{"suffix":"ers"}]}"#, &SUBJECT, true),
        (r#"{"partition":[3]}"#, &SUBJECT, true),
        (r#"{"partition":["3"]}"#, &SUBJECT, false),
        (
            r#"{"offset":[{"numeric":[">=",41,"<",42]}]}"#,
            &SUBJECT,
            true,
        ),
        (r#"{"offset":[{"numeric":["<",41]}]}"#, &SUBJECT, false),
        (r#"{"timestamp":[1700000000123]}"#, &SUBJECT, true),
        (r#"{"timestampType":["CREATE_TIME"]}"#, &SUBJECT, true),
        (r#"{"timestampType":["LOG_APPEND_TIME"]}"#, &SUBJECT, false),
        (r#"{"headers":["x"]}"#, &SUBJECT, false),
        (r#"{"headers":[{"exists":false}]}"#, &SUBJECT, true),
        (r#"{"topic":{"name":["orders"]}}"#, &SUBJECT, false),
        (
            r#"{"$or":[{"partition":[9]},{"key":["k1"]}]}"#,
            &SUBJECT,
            true,
        ),
        (
            r#"{"$or":[{"partition":[9]},{"value":{"a":[1]}}]}"#,
            &SUBJECT,
            true,
        ),
    ] {
        assert_eq!(passes(&[pattern], subject), expected, "{pattern}");
    }
}

#[test]
fn one_filter_of_several_is_enough() {
    let none: [&str; 0] = [];
    assert!(passes(&none, &SUBJECT));
    assert!(passes(
        &[r#"{"partition":[9]}"#, r#"{"partition":[3]}"#],
        &SUBJECT
    ));
    assert!(!passes(
        &[r#"{"partition":[9]}"#, r#"{"partition":[8]}"#],
        &SUBJECT
    ));
}

#[test]
fn more_branches_than_a_mask_has_bits() {
    let or = |from: usize| {
        let objects: Vec<_> = (from..from + 20)
            .map(|it| format!(r#"{{"a":[{it}]}}"#))
            .collect();
        objects.join(",")
    };
    let pattern = format!(r#"{{"$or":[{}],"b":{{"$or":[{}]}}}}"#, or(0), or(100));
    check(
        &pattern,
        &[r#"{"a":19,"b":{"a":119}}"#, r#"{"a":0,"b":{"a":100}}"#],
        &[r#"{"a":19,"b":{"a":120}}"#, r#"{"a":20,"b":{"a":119}}"#],
    );
}

#[test]
fn what_does_not_compile_says_where_and_why() {
    // 8.5, row by row.
    refused("", 0, "must be a JSON object");
    refused("null", 0, "must be a JSON object");
    refused("\"x\"", 0, "must be a JSON object");
    refused("[]", 0, "must be a JSON object");
    refused("{}", 1, "an object may not be empty");
    refused(r#"{"a":{}}"#, 6, "an object may not be empty");
    refused(
        r#"{"eventSource":"aws:sqs"}"#,
        15,
        "stands in an object or an array",
    );
    refused(r#"{"eventSource":[]}"#, 16, "an array may not be empty");
    refused(r#"{"a":[1],}"#, 9, "a member's name is missing");
    refused(r#"{"a":[1]"#, 8, "a } is missing");
    refused(r#"{"a":[1,]}"#, 8, "a value or an operator is missing");
    refused(r#"{"a":[[1]]}"#, 6, "not arrays");
    refused(r#"{"a":[01]}"#, 7, "a ] is missing");
    refused(r#"{"ä":[tru]}"#, 6, "no JSON");
    refused(r#"{"a":[1]} x"#, 10, "nothing may follow");
    refused(r#"{"a":[{}]}"#, 7, "name is missing");
    refused(
        r#"{"a":[{"prefix":"x","suffix":"y"}]}"#,
        19,
        "one member only",
    );
    refused(r#"{"a":[{"Prefix":"x"}]}"#, 7, "no operator Prefix");
    refused(r#"{"a":[{"exists":"true"}]}"#, 16, "true or false");
    refused(r#"{"a":[{"prefix":1}]}"#, 16, "prefix takes a string");
    refused(
        r#"{"a":[{"suffix":{"wildcard":"x"}}]}"#,
        17,
        "equals-ignore-case",
    );
    refused(r#"{"a":[{"exactly":1}]}"#, 17, "takes a string");
    refused(
        r#"{"a":[{"equals-ignore-case":["x"]}]}"#,
        28,
        "takes a string",
    );
    refused(r#"{"a":[{"wildcard":"a**"}]}"#, 18, "two wildcards");
    refused(r#"{"a":[{"wildcard":"a\\b"}]}"#, 18, "a wildcard has a \\");
    refused(r#"{"a":[{"cidr":"10.0.0.0/32"}]}"#, 14, "31 bits at most");
    refused(r#"{"a":[{"cidr":"::/128"}]}"#, 14, "127 bits at most");
    refused(r#"{"a":[{"cidr":"::ffff:a00:0/120"}]}"#, 14, "maps IPv4");
}

#[test]
fn numbers_that_cannot_be_compared_do_not_compile() {
    let numeric = |terms: &str| format!(r#"{{"a":[{{"numeric":{terms}}}]}}"#);
    for (terms, character, reason) in [
        ("5", 17, "numeric takes"),
        ("[]", 18, "numeric takes"),
        (r#"["=="  ,5]"#, 18, "numeric takes"),
        (r#"["=","5"]"#, 22, "no JSON number"),
        (r#"["<",5,">",1]"#, 24, "numeric takes"),
        (r#"["=",5,"<",9]"#, 24, "numeric takes"),
        (r#"[">",1,">",2]"#, 24, "numeric takes"),
        (r#"[">",1,"<",2,"<",3]"#, 29, "numeric takes"),
        (r#"[">",5,"<=",5]"#, 17, "below its top"),
        (r#"[">=",1,"<=",1]"#, 17, "below its top"),
        (
            r#"["=",12345678901234567890]"#,
            22,
            "more digits than a double",
        ),
        (r#"["<",5e-324]"#, 22, "more digits than a double"),
    ] {
        refused(&numeric(terms), character, reason);
    }
    let but = |argument: &str| format!(r#"{{"a":[{{"anything-but":{argument}}}]}}"#);
    for (argument, character, reason) in [
        ("null", 22, "anything-but takes"),
        ("true", 22, "anything-but takes"),
        ("[]", 23, "anything-but takes"),
        ("[null]", 23, "anything-but takes"),
        (r#"["x",1]"#, 22, "strings alone or of numbers alone"),
        ("[12345678901234567890]", 23, "more digits than a double"),
        (r#"{"prefix":""}"#, 32, "may not be empty"),
        (r#"{"suffix":["x",""]}"#, 37, "may not be empty"),
        (r#"{"exists":true}"#, 23, "knows no exists"),
        (r#"{"prefix":1}"#, 32, "takes a string"),
        (r#"{"wildcard":"**"}"#, 34, "two wildcards"),
    ] {
        refused(&but(argument), character, reason);
    }
}

#[test]
fn an_or_that_is_none_is_a_name() {
    // Reserved names, one object, or no array: then the engine takes it for a member.
    check(
        r#"{"$or":[{"prefix":"a"},{"prefix":"b"}]}"#,
        &[r#"{"$or":"ax"}"#, r#"{"$or":["x","bx"]}"#],
        &[r#"{"a":1}"#, r#"{"$or":"x"}"#],
    );
    check(
        r#"{"$or":{"a":[1]}}"#,
        &[r#"{"$or":{"a":1}}"#],
        &[r#"{"a":1}"#],
    );
    check(r#"{"$or":["x"]}"#, &[r#"{"$or":"x"}"#], &["{}"]);
    refused(r#"{"$or":[]}"#, 8, "two objects or more");
    refused(r#"{"$or":[{"a":[1]}]}"#, 7, "two objects or more");
    refused(
        r#"{"$or":[{"a":[1]},{"b":{"numeric":[1]}}]}"#,
        24,
        "operator's name, numeric",
    );
    let or: String = (0..11)
        .map(|it| format!(r#""x{it}":{{"$or":[{{"a":[1]}},{{"b":[1]}}]}},"#))
        .collect();
    let many = format!("{{{or}\"z\":[1]}}");
    let error = Rule::compile(&many).unwrap_err();
    assert!(
        error.reason.contains(&FILTER_BRANCHES_MAX.to_string()),
        "{error}"
    );
}

#[test]
fn paths_are_exact_and_a_dot_is_a_nesting() {
    check(
        r#"{"a":[1]}"#,
        &[r#"{"a":1}"#],
        &[r#"{"A":1}"#, "{}", r#"{"b":{"a":1}}"#],
    );
    check(
        r#"{"a":{"b":[1]}}"#,
        &[r#"{"a":{"b":1}}"#],
        &[r#"{"b":1}"#, r#"{"a":1}"#],
    );
    for pattern in [r#"{"a.b":[1],"a.c":[2]}"#, r#"{"a":{"b":[1],"c":[2]}}"#] {
        check(
            pattern,
            &[
                r#"{"a":{"b":1,"c":2}}"#,
                r#"{"a.b":1,"a.c":2}"#,
                r#"{"a.b":1,"a":{"c":2}}"#,
                r#"{"a":{"b":1},"a":{"c":2}}"#,
            ],
            &[r#"{"a.b":1}"#, r#"{"a.b":1,"c":2}"#],
        );
    }
    check(r#"{"a":[1],"a":[2]}"#, &[r#"{"a":2}"#], &[r#"{"a":1}"#]);
    check(
        r#"{"a":{"b":[1]},"a.b":[2]}"#,
        &[r#"{"a":{"b":2}}"#],
        &[r#"{"a.b":1}"#],
    );
    check(r#"{"a\u002eb":[1]}"#, &[r#"{"a":{"\u0062":1}}"#], &[]);
}

#[test]
fn arrays_stand_for_their_elements() {
    check(
        r#"{"a":[1]}"#,
        &[
            r#"{"a":[2,1]}"#,
            r#"{"a":[[2],[[1]]]}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
        ],
        &[r#"{"a":[]}"#, r#"{"a":[[]]}"#, r#"{"a":["1"]}"#],
    );
    check(
        r#"{"a":{"b":[1],"c":[2]}}"#,
        &[
            r#"{"a":[{"b":1,"c":3},{"b":1,"c":2}]}"#,
            r#"{"a":[[{"b":1,"c":2}]]}"#,
        ],
        &[
            r#"{"a":[{"b":1},{"c":2}]}"#,
            r#"{"a":[{"b":1,"c":3},{"b":3,"c":2}]}"#,
        ],
    );
    check(
        r#"{"a":{"b":[1],"c":{"d":[2],"e":[3]}}}"#,
        &[r#"{"a":[{"b":1,"c":[{"d":2},{"d":2,"e":3}]}]}"#],
        &[
            r#"{"a":[{"b":1,"c":[{"d":2},{"e":3}]}]}"#,
            r#"{"a":[{"b":1},{"c":{"d":2,"e":3}}]}"#,
        ],
    );
    check(
        r#"{"a":[{"exists":true}]}"#,
        &[r#"{"a":[null]}"#],
        &[r#"{"a":[]}"#, r#"{"a":{}}"#],
    );
    check(
        r#"{"a":[null]}"#,
        &[r#"{"a":null}"#],
        &[r#"{"a":[]}"#, r#"{"a":"null"}"#],
    );
}

#[test]
fn absence_is_of_values() {
    check(
        r#"{"a":{"b":[{"exists":false}]}}"#,
        &[
            "{}",
            r#"{"a":1}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"b":{"c":1}}}"#,
            r#"{"a":{"b":[]}}"#,
        ],
        &[
            r#"{"a":{"b":null}}"#,
            r#"{"a":[{"c":1},{"b":1}]}"#,
            r#"{"a.b":1}"#,
        ],
    );
    check(
        r#"{"a":{"b":[{"exists":false}],"c":[1]}}"#,
        &[r#"{"a":[{"b":1},{"c":1}]}"#, r#"{"a":{"c":1}}"#],
        &[r#"{"a":[{"b":1,"c":1}]}"#, r#"{"a":[{"c":2}]}"#],
    );
    check(
        r#"{"a":[{"exists":false}],"a.b":[1]}"#,
        &[r#"{"a":{"b":1}}"#, r#"{"a":[{"b":1},[2]]}"#],
        &[r#"{"a":[{"b":1},2]}"#, r#"{"a":[[{"b":1},2]]}"#],
    );
    check(
        r#"{"a":[{"exists":false},5]}"#,
        &["{}", r#"{"a":5}"#, r#"{"a":[6,5]}"#],
        &[r#"{"a":6}"#, r#"{"a":[6]}"#],
    );
}

#[test]
fn values_compare_as_the_contract_says() {
    check(
        r#"{"a":[300]}"#,
        &[r#"{"a":300.0}"#, r#"{"a":3.0e2}"#, r#"{"a":300}"#],
        &[r#"{"a":"300"}"#, r#"{"a":301}"#],
    );
    check(
        r#"{"a":[12345678901234567890]}"#,
        &[r#"{"a":12345678901234567890}"#],
        &[
            r#"{"a":12345678901234567891}"#,
            r#"{"a":12345678901234567890.0}"#,
        ],
    );
    check(
        r#"{"a":[{"numeric":[">",0]}]}"#,
        &[r#"{"a":0.5}"#, r#"{"a":[-1,1]}"#],
        &[
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            r#"{"a":12345678901234567890}"#,
            r#"{"a":0}"#,
        ],
    );
    check(
        r#"{"a":[{"anything-but":["x"]}]}"#,
        &[
            r#"{"a":"y"}"#,
            r#"{"a":null}"#,
            r#"{"a":1}"#,
            r#"{"a":["x","y"]}"#,
        ],
        &[r#"{"a":"x"}"#, "{}", r#"{"a":{}}"#, r#"{"a":["x"]}"#],
    );
    check(
        r#"{"a":[{"anything-but":[1,2]}]}"#,
        &[r#"{"a":"1"}"#, r#"{"a":3}"#],
        &[r#"{"a":1.0}"#],
    );
}

#[test]
fn texts_and_addresses_compare_as_the_contract_says() {
    check(
        r#"{"a":["é"]}"#,
        &[r#"{"a":"\u00e9"}"#],
        &[r#"{"a":"e\u0301"}"#],
    );
    check(
        r#"{"a":["\ud800"]}"#,
        &[r#"{"a":"\uD800"}"#],
        &[r#"{"a":"\ud801"}"#, r#"{"a":"?"}"#],
    );
    check(
        r#"{"a":["{\"b\":1}"]}"#,
        &[r#"{"a":"{\"b\":1}"}"#],
        &[r#"{"a":{"b":1}}"#],
    );
    check(
        r#"{"a":["::1"]}"#,
        &[r#"{"a":"0:0:0:0:0:0:0:1"}"#],
        &[r#"{"a":"::2"}"#],
    );
    check(
        r#"{"a":["10.0.0.1"]}"#,
        &[r#"{"a":"010.0.0.1"}"#],
        &[r#"{"a":"10.0.0.2"}"#],
    );
    check(
        r#"{"a":[{"anything-but":"10.0.0.1"}]}"#,
        &[r#"{"a":"010.0.0.1"}"#],
        &[r#"{"a":"10.0.0.1"}"#],
    );
    check(
        r#"{"a":[{"cidr":"10.0.0.0/24"}]}"#,
        &[r#"{"a":"10.0.0.255"}"#],
        &[r#"{"a":"10.0.1.0"}"#, r#"{"a":10}"#],
    );
    check(
        r#"{"a":[{"equals-ignore-case":"ß"}]}"#,
        &[r#"{"a":"SS"}"#],
        &[r#"{"a":"ss"}"#],
    );
    check(
        r#"{"a":[{"prefix":""}]}"#,
        &[r#"{"a":""}"#, r#"{"a":"x"}"#],
        &[r#"{"a":1}"#],
    );
    check(
        r#"{"a":[true]}"#,
        &[r#"{"a":true}"#],
        &[r#"{"a":"true"}"#, r#"{"a":false}"#],
    );
}

#[test]
fn a_bare_event_is_an_object() {
    let rule = rule(r#"{"a":[1]}"#);
    for event in [
        "",
        "1",
        "[{\"a\":1}]",
        "{\"a\":1",
        "{\"a\":1} x",
        "{\"a\":1,\"b\":}",
    ] {
        let matched = rule.matches(event.as_bytes(), &mut Scratch::default());
        assert_eq!(matched, Err(NotAnObject), "{event}");
    }
    let broken = rule.matches(b"{\"a\":1,\"b\":\"\xff\"}", &mut Scratch::default());
    assert_eq!(broken, Err(NotAnObject));
}

#[test]
fn hostile_values_are_bounded() {
    const PATTERN: &str = r#"{"value":{"a":{"b":[1],"c":[2]}}}"#;
    let nested = |open: &str, close: &str, depth: usize| {
        [open.repeat(depth), "1".to_owned(), close.repeat(depth)].concat()
    };
    for (open, close) in [
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"x\":", "}"),
        ("{\"a\":[", "]}"),
    ] {
        // Deeper than we read: no JSON, so the clause does not count.
        let deep = nested(open, close, 1_000_000);
        assert!(passes_value(PATTERN, deep.as_bytes()), "{open}");
        let levels = open.matches(['[', '{']).count();
        let shallow = nested(open, close, JSON_DEPTH_MAX / levels);
        assert!(!passes_value(PATTERN, shallow.as_bytes()), "{open}");
        let unclosed = open.repeat(1_000_000);
        assert!(passes_value(PATTERN, unclosed.as_bytes()), "{open}");
    }
    let long = "x".repeat(100_000_000);
    let long = format!(r#"{{"{long}":"{long}","a":{{"b":1,"c":3}}}}"#);
    assert!(!passes_value(PATTERN, long.as_bytes()));
    let members = r#""a":{"b":1},"#.repeat(1_000_000);
    let members = format!(r#"{{{members}"a":{{"c":3}}}}"#);
    assert!(!passes_value(PATTERN, members.as_bytes()));
    let digits = "7".repeat(100_000);
    let number = format!(r#"{{"a":{{"b":{digits},"c":2}}}}"#);
    assert!(!passes_value(PATTERN, number.as_bytes()));
}
