//! Any bytes as a pattern and an event, with a zero byte between them. What the pattern says of the event as a document,
//! read to its end, is what it says of a record's value, which is left as soon as the matter is decided; and whatever
//! is no JSON passes.
#![no_main]

use forebay_protocol::filter::{Filter, FilterSet, Format, Rule, Scratch, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |it| *it == 0);
    let (Some(pattern), Some(event)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(pattern) = std::str::from_utf8(pattern) else {
        return;
    };
    let mut scratch = Scratch::default();
    let rule = Rule::compile(pattern);
    if let Ok(filter) = Filter::compile(pattern) {
        assert!(rule.is_ok());
        filter.explain(&subject(event));
    }
    let of_value = Filter::compile(&format!("{{\"value\":{pattern}}}"));
    let (Ok(rule), Ok(filter)) = (rule, of_value) else {
        return;
    };
    let outcome = filter.explain(&subject(event)).passes;
    let set = FilterSet::new(vec![filter]);
    let passes = set.passes(&subject(event), &mut scratch);
    assert_eq!(passes, outcome);
    match rule.matches(event, &mut scratch) {
        Ok(matched) => assert_eq!(passes, matched),
        Err(_) => assert!(passes || Format::of(Some(event)) == Format::Json),
    }
    assert_eq!(passes, set.passes(&subject(event), &mut scratch));
});

fn subject(value: &[u8]) -> Subject<'_> {
    Subject {
        topic: "orders",
        partition: 0,
        offset: 0,
        timestamp: -1,
        timestamp_type: "NO_TIMESTAMP_TYPE",
        key: None,
        value: Some(value),
    }
}
