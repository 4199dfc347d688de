//! Random patterns on random events, by the filter and by the naive matcher.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use super::naive::{self, Json};
use super::{Filter, FilterSet, Rule, Scratch, Subject};

const TEXTS: [&str; 18] = [
    "",
    "a",
    "b",
    "ab",
    "abc",
    "aab",
    "A",
    "aB",
    "ß",
    "SS",
    "ss",
    "10.0.0.1",
    "010.0.0.1",
    "::1",
    "0:0:0:0:0:0:0:1",
    "300",
    "a*b",
    "😀",
];

const NUMBERS: [&str; 14] = [
    "0",
    "-0",
    "0.0",
    "1",
    "1.0",
    "10e-1",
    "-1",
    "2",
    "300",
    "3.0e2",
    "0.1",
    "12345678901234567890",
    "5e-324",
    "1e400",
];

/// Those that a double carries.
const CARRIED: [&str; 11] = [
    "0", "-0", "0.0", "1", "1.0", "10e-1", "-1", "2", "300", "3.0e2", "0.1",
];

const WILDCARDS: [&str; 9] = ["*", "a*", "*b", "a*b", "*a*", "a\\*b", "*b*c", "", "aab"];

fn text() -> impl Strategy<Value = Json> {
    select(&TEXTS[..]).prop_map(Json::Text)
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Boolean),
        select(&NUMBERS[..]).prop_map(Json::Number),
        text(),
    ]
}

fn object(
    name: &'static str,
    argument: impl Strategy<Value = Json> + 'static,
) -> BoxedStrategy<Json> {
    argument
        .prop_map(move |it| Json::Object(vec![(name, it)]))
        .boxed()
}

fn one_or_many(one: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Json> {
    let one = one.boxed();
    let many = prop::collection::vec(one.clone(), 1..4).prop_map(Json::Array);
    prop_oneof![one, many].boxed()
}

fn numeric() -> impl Strategy<Value = Json> {
    let number = || select(&CARRIED[..]);
    let one = (select(&["=", "<", "<=", ">", ">="][..]), number())
        .prop_map(|(relation, it)| vec![Json::Text(relation), Json::Number(it)]);
    let range = (
        select(&[">", ">="][..]),
        select(&["<", "<="][..]),
        number(),
        number(),
    );
    let two = range
        .prop_filter("the bottom is below the top", |(_, _, bottom, top)| {
            bottom.parse::<f64>().unwrap() < top.parse::<f64>().unwrap()
        })
        .prop_map(|(above, below, bottom, top)| {
            let terms = [
                Json::Text(above),
                Json::Number(bottom),
                Json::Text(below),
                Json::Number(top),
            ];
            terms.to_vec()
        });
    prop_oneof![one, two].prop_map(Json::Array)
}

/// An operator, or a value that stands for itself.
fn element() -> impl Strategy<Value = Json> {
    let carried = || select(&CARRIED[..]).prop_map(Json::Number);
    let full = || text().prop_filter("it says something", |it| *it != Json::Text(""));
    let wildcard = || select(&WILDCARDS[..]).prop_map(Json::Text);
    let folded = || object("equals-ignore-case", text());
    let networks = select(&["10.0.0.0/24", "::/64"][..]).prop_map(Json::Text);
    Union::new(vec![
        scalar().boxed(),
        scalar().boxed(),
        object("exists", any::<bool>().prop_map(Json::Boolean)),
        object("exactly", text()),
        object("prefix", text()),
        object("prefix", folded()),
        object("suffix", text()),
        object("suffix", folded()),
        folded(),
        object("wildcard", wildcard()),
        object("cidr", networks),
        object("numeric", numeric()),
        object("anything-but", one_or_many(text())),
        object("anything-but", one_or_many(carried())),
        object("anything-but", object("prefix", one_or_many(full()))),
        object("anything-but", object("suffix", one_or_many(full()))),
        object("anything-but", object("wildcard", one_or_many(wildcard()))),
        object(
            "anything-but",
            object("equals-ignore-case", one_or_many(text())),
        ),
    ])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&["a", "a", "b", "b", "c", "a.b", "ä"][..])
}

/// A pattern's object.
fn pattern() -> impl Strategy<Value = Json> {
    let array = prop::collection::vec(element(), 1..3).prop_map(Json::Array);
    let members = prop::collection::vec((name(), array), 1..4).prop_map(Json::Object);
    members.prop_recursive(3, 12, 3, |inner| {
        let or = prop::collection::vec(inner.clone(), 2..4).prop_map(|it| ("$or", Json::Array(it)));
        let array = prop::collection::vec(element(), 1..3).prop_map(Json::Array);
        let member = prop_oneof![
            2 => (name(), array),
            2 => (name(), inner),
            1 => or,
        ];
        prop::collection::vec(member, 1..4).prop_map(Json::Object)
    })
}

/// Any value.
fn value() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((name(), inner), 0..4).prop_map(apart),
        ]
    })
}

fn event() -> impl Strategy<Value = Json> {
    prop::collection::vec((name(), value()), 0..5).prop_map(apart)
}

/// An object whose members do not meet on any path; `tests.rs` has those that do.
fn apart(members: Vec<(&'static str, Json)>) -> Json {
    let mut seen = Vec::new();
    let is_new = |(name, value): (&'static str, Json)| {
        let first = name.split('.').next();
        let new = !seen.contains(&first);
        seen.push(first);
        new.then_some((name, value))
    };
    Json::Object(members.into_iter().filter_map(is_new).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn one_operator_says_what_the_contract_says(element in element(), value in scalar()) {
        let pattern = Json::Object(vec![("a", Json::Array(vec![element.clone()]))]);
        let event = Json::Object(vec![("a", value.clone())]);
        let rule = Rule::compile(&pattern.to_text()).unwrap();
        let expected = match element == naive::exists(false) {
            true => false,
            false => naive::element(&element, &value),
        };
        let matched = rule.matches(event.to_text().as_bytes(), &mut Scratch::default());
        prop_assert_eq!(matched, Ok(expected), "{} {}", pattern.to_text(), event.to_text());
    }

    #[test]
    fn patterns_match_as_the_contract_says(pattern in pattern(), events in prop::collection::vec(event(), 1..6)) {
        let Ok(rule) = Rule::compile(&pattern.to_text()) else {
            // Too many combinations; all else that is generated compiles.
            prop_assert!(pattern.to_text().contains("\\u0024or"));
            return Ok(());
        };
        let mut scratch = Scratch::default();
        for event in events {
            let expected = naive::matches(&pattern, &event);
            let matched = rule.matches(event.to_text().as_bytes(), &mut scratch);
            prop_assert_eq!(matched, Ok(expected), "{}\n{}", pattern.to_text(), event.to_text());
        }
    }

    #[test]
    fn a_record_is_a_document_of_its_members(pattern in pattern(), event in event()) {
        // What the pattern says of the value's members is what it says of the document.
        let wrapped = format!("{{\"value\":{}}}", pattern.to_text());
        let (Ok(rule), Ok(filter)) = (Rule::compile(&pattern.to_text()), Filter::compile(&wrapped)) else {
            return Ok(());
        };
        let event = event.to_text();
        let mut scratch = Scratch::default();
        let expected = rule.matches(event.as_bytes(), &mut scratch).unwrap();
        let passes = FilterSet::new(vec![filter]).passes(&subject(event.as_bytes()), &mut scratch);
        prop_assert_eq!(passes, expected, "{} {}", wrapped, event);
    }

    #[test]
    fn any_bytes_give_an_answer(pattern in pattern(), event in event(), cut in any::<prop::sample::Index>(), byte: u8) {
        let wrapped = format!("{{\"value\":{}}}", pattern.to_text());
        let Ok(filter) = Filter::compile(&wrapped) else {
            return Ok(());
        };
        let set = FilterSet::new(vec![filter]);
        let mut event = event.to_text().into_bytes();
        let at = cut.index(event.len());
        event[at] = byte;
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&event).is_ok()
            && event.iter().find(|it| !it.is_ascii_whitespace()) == Some(&b'{');
        let passes = set.passes(&subject(&event), &mut Scratch::default());
        prop_assert!(is_json || passes, "what is no JSON passes: {}", event.escape_ascii());
    }
}

fn subject(value: &[u8]) -> Subject<'_> {
    Subject {
        topic: "orders",
        partition: 3,
        offset: 41,
        timestamp: 1_700_000_000_000,
        timestamp_type: "CREATE_TIME",
        key: None,
        value: Some(value),
    }
}
