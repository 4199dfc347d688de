//! Why a record passes a filter or does not, for people. Slow: each clause is tried by itself.
//!
//! Invariant: the outcome is that of [`FilterSet::passes`](super::FilterSet::passes).

use super::compile::{Branch, Clause};
use super::record::{Filter, Subject, is_container, is_json, satisfies};
use super::{FilterSet, Scratch};

/// What becomes of a record, by one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it passes.
    pub passes: bool,
    /// The ways to pass that the pattern has: `$or` and `exists` make more than one.
    pub ways: Vec<Way>,
}

/// Clauses that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether they do, together: where there are arrays, in one element.
    pub holds: bool,
    /// Each of them.
    pub clauses: Vec<ClauseOutcome>,
}

/// What a pattern says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseOutcome {
    /// Names joined by dots.
    pub path: String,
    /// What must be there, as the pattern has it.
    pub wanted: String,
    /// Whether it is.
    pub holds: bool,
    /// Whether the format of the value or key lets every record through.
    pub waived: bool,
}

/// What a value or key is, to a filter (contract 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// There is none.
    Null,
    /// A JSON object or array.
    Json,
    /// Text, numbers and the like included.
    Text,
    /// Not UTF-8.
    Binary,
}

impl Format {
    /// The format of those bytes.
    pub fn of(bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => Self::Null,
            Some(bytes) if std::str::from_utf8(bytes).is_err() => Self::Binary,
            Some(bytes) if is_container(bytes) && is_json(bytes) => Self::Json,
            Some(_) => Self::Text,
        }
    }
}

impl Filter {
    /// What becomes of the record, and why.
    pub fn explain(&self, subject: &Subject<'_>) -> Outcome {
        let mut scratch = Scratch::default();
        let branches = &self.pattern().branches;
        let ways = branches
            .iter()
            .map(|branch| self.way(branch, subject, &mut scratch));
        Outcome {
            ways: ways.collect(),
            passes: FilterSet::new(vec![self.clone()]).passes(subject, &mut scratch),
        }
    }

    fn way(&self, branch: &Branch, subject: &Subject<'_>, scratch: &mut Scratch) -> Way {
        let clauses = branch.iter().map(|(path, clause)| {
            let alone = Branch::from([(path.clone(), *clause)]);
            ClauseOutcome {
                path: String::from_utf8_lossy(path).into_owned(),
                wanted: self.wanted(*clause),
                holds: satisfies(self.pattern(), &alone, subject, scratch),
                waived: is_waived(path, subject),
            }
        });
        Way {
            clauses: clauses.collect(),
            holds: satisfies(self.pattern(), branch, subject, scratch),
        }
    }

    fn wanted(&self, clause: Clause) -> String {
        match clause {
            Clause::Absent(_) => r#"[{"exists":false}]"#.to_owned(),
            Clause::Value(array) => {
                let array = self.pattern().arrays.get(array);
                let text = array.and_then(|it| self.text().get(it.span.clone()));
                text.unwrap_or_default().to_owned()
            }
        }
    }
}

fn is_waived(path: &[u8], subject: &Subject<'_>) -> bool {
    for (name, bytes) in [(b"value".as_slice(), subject.value), (b"key", subject.key)] {
        let fits = match path.strip_prefix(name) {
            Some(b"") => Format::Text,
            Some([b'.', ..]) => Format::Json,
            _ => continue,
        };
        let format = Format::of(bytes);
        return format != Format::Null && format != fits;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clause_of_each_way_has_its_outcome() {
        let pattern = r#"{"topic":["orders"],"$or":[{"value":{"a":[1]}},{"key":["k", "l"]}]}"#;
        let filter = Filter::compile(pattern).unwrap();
        let subject = Subject {
            topic: "orders",
            partition: 0,
            offset: 0,
            timestamp: -1,
            timestamp_type: "NO_TIMESTAMP_TYPE",
            key: Some(b"l"),
            value: Some(b"text"),
        };
        let outcome = filter.explain(&subject);
        assert!(outcome.passes);
        let shown: Vec<_> = outcome.ways[1].clauses.iter().collect();
        assert_eq!(shown[0].path, "key");
        assert_eq!(shown[0].wanted, r#"["k", "l"]"#);
        assert!(shown[0].holds && !shown[0].waived);
        assert!(outcome.ways[0].clauses[1].waived, "the value is no JSON");
        let other = Subject {
            value: Some(br#"{"a":2}"#),
            key: None,
            ..subject
        };
        let outcome = filter.explain(&other);
        assert!(!outcome.passes);
        let holds = |way: usize| -> Vec<bool> {
            let clauses = &outcome.ways[way].clauses;
            clauses.iter().map(|it| it.holds).collect()
        };
        assert_eq!([holds(0), holds(1)], [vec![true, false], vec![false, true]]);
    }

    #[test]
    fn clauses_that_hold_apart_may_fail_together() {
        let filter = Filter::compile(r#"{"value":{"a":{"b":[1],"c":[2]}}}"#).unwrap();
        let subject = Subject {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: 0,
            timestamp_type: "CREATE_TIME",
            key: None,
            value: Some(br#"{"a":[{"b":1},{"c":2}]}"#),
        };
        let outcome = filter.explain(&subject);
        assert!(outcome.ways[0].clauses.iter().all(|it| it.holds));
        assert!(!outcome.ways[0].holds && !outcome.passes);
    }
}
