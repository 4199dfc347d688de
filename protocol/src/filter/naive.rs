//! The rule language again, as the contract tells it (8.5, 8.6), on trees instead of text: slow, and without a thought
//! for anything but the words. What the filter says is compared with this.

use std::collections::BTreeMap;

/// A JSON value, with numbers as they are spelt and members as often as they are given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    Number(&'static str),
    Text(&'static str),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

use Json::{Array, Boolean, Null, Number, Object, Text};

impl Json {
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Null => out.push_str("null"),
            Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Number(text) => out.push_str(text),
            Text(text) => write_text(text, out),
            Array(elements) => {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    element.write(out);
                }
                out.push(']');
            }
            Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { " ,\n" });
                    write_text(name, out);
                    out.push_str(" : ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for (at, unit) in text.encode_utf16().enumerate() {
        match u8::try_from(unit) {
            // Some characters are escaped though they need not be.
            Ok(byte) if byte.is_ascii_alphanumeric() && at != 1 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
}

/// One branch of a pattern: what must hold at each path.
type Branch = BTreeMap<String, Vec<Json>>;

/// A value of an event: its path, and the places in arrays that lead to it.
struct Field<'e> {
    path: String,
    value: &'e Json,
    places: Places,
}

/// For each array on the way, by the order of its beginning, the number of the element.
type Places = BTreeMap<usize, usize>;

pub(super) fn matches(pattern: &Json, event: &Json) -> bool {
    let mut branches = vec![Branch::new()];
    compile(pattern, "", &mut branches);
    let mut fields = Vec::new();
    flatten(event, "", &Places::new(), &mut 0, &mut fields);
    branches.iter().any(|branch| {
        let clauses: Vec<_> = branch.iter().collect();
        satisfied(&clauses, &[], &Places::new(), &fields)
    })
}

fn compile(pattern: &Json, path: &str, branches: &mut Vec<Branch>) {
    let Object(members) = pattern else {
        panic!("a pattern is made of objects");
    };
    for (name, value) in members {
        if *name == "$or" {
            let Array(alternatives) = value else {
                panic!("$or is an array");
            };
            let given = std::mem::take(branches);
            for alternative in alternatives {
                let mut more = given.clone();
                compile(alternative, path, &mut more);
                branches.extend(more);
            }
            continue;
        }
        let path = joined(path, name);
        match value {
            Array(elements) => {
                for branch in &mut *branches {
                    branch.insert(path.clone(), elements.clone());
                }
            }
            _ => compile(value, &path, branches),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

fn flatten<'e>(
    value: &'e Json,
    path: &str,
    places: &Places,
    arrays: &mut usize,
    fields: &mut Vec<Field<'e>>,
) {
    match value {
        Object(members) => {
            for (name, value) in members {
                flatten(value, &joined(path, name), places, arrays, fields);
            }
        }
        Array(elements) => {
            let array = *arrays;
            *arrays += 1;
            for (at, element) in elements.iter().enumerate() {
                let mut places = places.clone();
                // A value that is itself the element is bound to no place.
                if matches!(element, Object(_) | Array(_)) {
                    places.insert(array, at);
                }
                flatten(element, path, &places, arrays, fields);
            }
        }
        _ => fields.push(Field {
            path: path.to_owned(),
            value,
            places: places.clone(),
        }),
    }
}

/// Whether values can be chosen for all clauses so that no array gives two elements, and none is where there shall
/// be none.
fn satisfied(
    clauses: &[(&String, &Vec<Json>)],
    absent: &[&String],
    chosen: &Places,
    fields: &[Field<'_>],
) -> bool {
    let Some(((path, elements), rest)) = clauses.split_first() else {
        return absent.iter().all(|path| {
            !fields
                .iter()
                .any(|it| it.path == **path && agree(chosen, &it.places))
        });
    };
    if elements.contains(&exists(false)) {
        let absent = [absent, &[*path]].concat();
        if satisfied(rest, &absent, chosen, fields) {
            return true;
        }
    }
    fields.iter().any(|field| {
        field.path == **path
            && agree(chosen, &field.places)
            && elements.iter().any(|it| element(it, field.value))
            && {
                let mut chosen = chosen.clone();
                chosen.extend(&field.places);
                satisfied(rest, absent, &chosen, fields)
            }
    })
}

fn agree(one: &Places, other: &Places) -> bool {
    one.iter()
        .all(|(array, at)| other.get(array).is_none_or(|it| it == at))
}

pub(super) fn exists(wanted: bool) -> Json {
    Object(vec![("exists", Boolean(wanted))])
}

/// Whether a value satisfies an element of a pattern's array.
pub(super) fn element(wanted: &Json, value: &Json) -> bool {
    match (wanted, value) {
        (Object(members), _) => {
            let [(name, argument)] = members.as_slice() else {
                panic!("an operator has one member");
            };
            operator(name, argument, value)
        }
        (Text(wanted), Text(value)) => match (address(wanted), address(value)) {
            (Some(wanted), Some(value)) => wanted == value,
            _ => wanted == value,
        },
        (Number(wanted), Number(value)) => {
            wanted == value || (double(wanted).is_some() && double(wanted) == double(value))
        }
        _ => wanted == value,
    }
}

fn operator(name: &str, argument: &Json, value: &Json) -> bool {
    match (name, argument, value) {
        ("exists", argument, _) => *argument == Boolean(true),
        ("anything-but", Object(members), _) => {
            let [(name, argument)] = members.as_slice() else {
                panic!("an operator has one member");
            };
            !list(argument).iter().any(|it| operator(name, it, value))
        }
        ("anything-but", argument, _) => !list(argument).iter().any(|it| match (it, value) {
            (Number(it), Number(value)) => double(it) == double(value),
            _ => it == value,
        }),
        ("numeric", Array(terms), Number(value)) => terms.chunks(2).all(|term| {
            let [Text(relation), Number(bound)] = term else {
                panic!("a term has two elements");
            };
            let (Some(value), Some(bound)) = (double(value), double(bound)) else {
                return false;
            };
            match *relation {
                "=" => value == bound,
                "<" => value < bound,
                "<=" => value <= bound,
                ">" => value > bound,
                _ => value >= bound,
            }
        }),
        ("prefix", Object(members), Text(value)) => {
            let (_, Text(argument)) = &members[0] else {
                panic!("a prefix is text");
            };
            (0..=value.len())
                .filter_map(|end| value.get(..end))
                .any(|it| same_folded(argument, it))
        }
        ("suffix", Object(members), Text(value)) => {
            let (_, Text(argument)) = &members[0] else {
                panic!("a suffix is text");
            };
            (0..=value.len())
                .filter_map(|start| value.get(start..))
                .any(|it| same_folded(argument, it))
        }
        ("exactly", Text(argument), Text(value)) => argument == value,
        ("prefix", Text(argument), Text(value)) => value.starts_with(argument),
        ("suffix", Text(argument), Text(value)) => value.ends_with(argument),
        ("equals-ignore-case", Text(argument), Text(value)) => same_folded(argument, value),
        ("wildcard", Text(argument), Text(value)) => like(argument, value),
        ("cidr", Text(argument), Text(value)) => match *argument {
            "10.0.0.0/24" => address(value) == Some("10.0.0.1"),
            "::/64" => address(value) == Some("::1"),
            other => panic!("{other} is not among the networks"),
        },
        _ => false,
    }
}

fn list(argument: &Json) -> &[Json] {
    match argument {
        Array(elements) => elements,
        one => std::slice::from_ref(one),
    }
}

/// The one spelling of the addresses that tests use.
fn address(text: &str) -> Option<&'static str> {
    match text {
        "10.0.0.1" | "010.0.0.1" => Some("10.0.0.1"),
        "::1" | "0:0:0:0:0:0:0:1" => Some("::1"),
        _ => None,
    }
}

/// The doubles of the numbers that tests use.
fn double(text: &str) -> Option<f64> {
    let too_long = ["12345678901234567890", "5e-324", "1e400"];
    (!too_long.contains(&text)).then(|| text.parse().unwrap())
}

fn same_folded(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let rest = pattern.get(first.len_utf8()..).unwrap_or_default();
    [
        first.to_lowercase().to_string(),
        first.to_uppercase().to_string(),
    ]
    .iter()
    .any(|it| {
        text.strip_prefix(it.as_str())
            .is_some_and(|text| same_folded(rest, text))
    })
}

fn like(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len())
            .filter_map(|at| text.get(at..))
            .any(|text| like(characters.as_str(), text)),
        Some('\\') => {
            let escaped = characters.next().unwrap();
            text.strip_prefix(escaped)
                .is_some_and(|text| like(characters.as_str(), text))
        }
        Some(other) => text
            .strip_prefix(other)
            .is_some_and(|text| like(characters.as_str(), text)),
    }
}
