//! Patterns against Kafka records: what of a record they address, and which clauses count (contract 8.3).
//!
//! | value or key | clause on its members | clause on its text |
//! |---|---|---|
//! | a JSON object or array | counts | passes |
//! | other text | passes | counts |
//! | not UTF-8 | passes | passes |
//! | null | counts, as absent | counts, as absent |
//!
//! Invariant: a format that does not fit a clause lets the record through; it never holds it back.

use std::fmt;

use super::compile::{Branch, Pattern};
use super::error::PatternError;
use super::json::Cursor;
use super::operator::{Number, Scalar};
use super::tree::{BRANCHES, Frame, NodeId, Slots, Tree};
use super::walk::{Walk, Walked};
use super::{Scratch, branches_of};

/// Names that no member can have, since they are not UTF-8: clauses on the text as a whole stand apart from those on
/// members.
const TEXT_OF_VALUE: &[u8] = b"\xffvalue";
const TEXT_OF_KEY: &[u8] = b"\xffkey";

/// The members of a record that a pattern can speak of (decision 31).
pub const MEMBERS: [&str; 7] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "timestampType",
    "key",
    "value",
];

/// What of a record can be matched (decision 31).
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// Unix milliseconds; -1 when there is none.
    pub timestamp: i64,
    /// As the event names it: `CREATE_TIME` or one of its like.
    pub timestamp_type: &'a str,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// One pattern of FilterCriteria.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    pattern: Pattern,
}

/// All patterns of a mapping: a record passes if it satisfies one of them, or if there is none.
#[derive(Default)]
pub struct FilterSet {
    filters: Box<[Filter]>,
    trees: Box<[RecordTree]>,
}

/// A tree, and where in it the members of a record are.
#[derive(Debug)]
struct RecordTree {
    tree: Tree,
    topic: Option<NodeId>,
    partition: Option<NodeId>,
    offset: Option<NodeId>,
    timestamp: Option<NodeId>,
    timestamp_type: Option<NodeId>,
    key: Data,
    value: Data,
}

/// Where clauses on a key or a value are.
#[derive(Clone, Copy, Debug)]
struct Data {
    members: Option<NodeId>,
    text: Option<NodeId>,
}

impl Filter {
    /// Reads a pattern.
    pub fn compile(text: &str) -> Result<Self, PatternError> {
        Ok(Self {
            text: text.into(),
            pattern: Pattern::compile(text)?,
        })
    }

    /// The pattern as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Members that it speaks of and no record has, in their order: whatever it wants of them, it is likely to want
    /// nothing of any record.
    pub fn foreign_members(&self) -> Vec<String> {
        let mut foreign = Vec::new();
        if let Ok(pattern) = serde_json::from_str(&self.text) {
            collect_foreign(&pattern, &mut foreign);
        }
        foreign
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

/// Those of one object, and of the objects that its `$or` has.
fn collect_foreign(pattern: &serde_json::Value, foreign: &mut Vec<String>) {
    for (name, value) in pattern.as_object().into_iter().flatten() {
        if let ("$or", Some(branches)) = (name.as_str(), value.as_array()) {
            for branch in branches {
                collect_foreign(branch, foreign);
            }
            continue;
        }
        // A dot stands for nesting.
        let member = name.split('.').next().unwrap_or_default();
        if !MEMBERS.contains(&member) && !foreign.iter().any(|it| it == member) {
            foreign.push(member.to_owned());
        }
    }
}

impl PartialEq for FilterSet {
    fn eq(&self, other: &Self) -> bool {
        let texts = self.filters.iter().map(Filter::text);
        texts.eq(other.filters.iter().map(Filter::text))
    }
}

impl Eq for FilterSet {}

impl fmt::Debug for FilterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.filters.iter().map(Filter::text);
        f.debug_list().entries(texts).finish()
    }
}

impl FilterSet {
    /// A record passes if it satisfies one of these.
    pub fn new(filters: Vec<Filter>) -> Self {
        let patterns: Vec<_> = filters.iter().map(Filter::pattern).collect();
        let branches = branches_of(patterns.iter().copied());
        Self {
            trees: trees(branches, &patterns),
            filters: filters.into(),
        }
    }

    /// Whether every record passes.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The patterns.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Whether the record passes.
    #[inline]
    pub fn passes(&self, subject: &Subject<'_>, scratch: &mut Scratch) -> bool {
        self.is_empty() || self.trees.iter().any(|it| it.passes(subject, scratch))
    }
}

/// Trees for those branches, whose paths begin at the members of a record.
fn trees(branches: Vec<(usize, Branch)>, patterns: &[&Pattern]) -> Box<[RecordTree]> {
    let of_record = |(pattern, branch): (usize, Branch)| {
        let renamed = branch.into_iter().map(|(path, clause)| {
            let path = match path.as_slice() {
                b"value" => TEXT_OF_VALUE.to_vec(),
                b"key" => TEXT_OF_KEY.to_vec(),
                _ => path,
            };
            (path, clause)
        });
        (pattern, renamed.collect())
    };
    let branches: Vec<_> = branches.into_iter().map(of_record).collect();
    let trees = branches.chunks(BRANCHES);
    trees
        .map(|it| RecordTree::new(Tree::new(it, patterns)))
        .collect()
}

/// Whether a record satisfies that one branch alone.
pub(super) fn satisfies(
    pattern: &Pattern,
    branch: &Branch,
    subject: &Subject<'_>,
    scratch: &mut Scratch,
) -> bool {
    let trees = trees(vec![(0, branch.clone())], &[pattern]);
    trees.iter().any(|it| it.passes(subject, scratch))
}

impl RecordTree {
    fn new(tree: Tree) -> Self {
        let child = |name: &[u8]| tree.child(NodeId::ROOT, name);
        Self {
            topic: child(b"topic"),
            partition: child(b"partition"),
            offset: child(b"offset"),
            timestamp: child(b"timestamp"),
            timestamp_type: child(b"timestampType"),
            key: Data {
                members: child(b"key"),
                text: child(TEXT_OF_KEY),
            },
            value: Data {
                members: child(b"value"),
                text: child(TEXT_OF_VALUE),
            },
            tree,
        }
    }

    fn passes(&self, subject: &Subject<'_>, scratch: &mut Scratch) -> bool {
        scratch.begin();
        let Scratch {
            slots,
            text,
            digits,
        } = scratch;
        let frame = self.tree.open(NodeId::ROOT, slots);
        let integers = [
            (self.partition, i64::from(subject.partition)),
            (self.offset, subject.offset),
            (self.timestamp, subject.timestamp),
        ];
        for (node, integer) in integers {
            if let Some(node) = node {
                let number = Number::of_integer(integer, digits.write(integer));
                let scalar = Scalar::Number(number);
                self.tree.note(node, frame, slots, &scalar);
            }
        }
        let texts = [
            (self.topic, subject.topic),
            (self.timestamp_type, subject.timestamp_type),
        ];
        for (node, text) in texts {
            if let Some(node) = node {
                let scalar = Scalar::String(text.as_bytes());
                self.tree.note(node, frame, slots, &scalar);
            }
        }
        if self.is_decided(frame, slots) {
            return false;
        }
        for (data, bytes) in [(self.key, subject.key), (self.value, subject.value)] {
            if data.is_addressed() && self.note_data(data, bytes, frame, slots, text) {
                return true;
            }
        }
        self.tree.close(frame, slots).all != 0
    }

    /// Whether the metadata alone holds the record back, whatever its key and value are. Asked only where it spares a look
    /// at these.
    fn is_decided(&self, frame: Frame, slots: &mut Slots) -> bool {
        let metadata = [
            self.topic,
            self.partition,
            self.offset,
            self.timestamp,
            self.timestamp_type,
        ];
        let data = || self.key.nodes().chain(self.value.nodes());
        if metadata.iter().all(Option::is_none) || data().next().is_none() {
            return false;
        }
        data().for_each(|it| self.tree.waive(it, frame, slots));
        let decided = !self.tree.holds(frame, slots);
        data().for_each(|it| self.tree.renew(it, frame, slots));
        decided
    }

    /// Notes a key or a value. True if a branch is certain to be satisfied.
    fn note_data(
        &self,
        data: Data,
        bytes: Option<&[u8]>,
        frame: Frame,
        slots: &mut Slots,
        scratch: &mut Vec<u8>,
    ) -> bool {
        let Some(bytes) = bytes else {
            return false;
        };
        let walked = match (is_container(bytes), data.members) {
            (false, _) => Walked::NotJson,
            (true, None) => match is_json(bytes) {
                true => Walked::ToTheEnd,
                false => Walked::NotJson,
            },
            (true, Some(node)) => {
                let walk = Walk {
                    tree: &self.tree,
                    slots,
                    scratch,
                    outermost: frame,
                    may_stop: true,
                };
                walk.run(Cursor::new(bytes), node)
            }
        };
        if walked == Walked::Certain {
            // It would pass as well if what follows were not JSON, or not UTF-8.
            return true;
        }
        let is_text = std::str::from_utf8(bytes).is_ok();
        let members_count = is_text && walked == Walked::ToTheEnd;
        let text_counts = is_text && walked == Walked::NotJson;
        if let Some(node) = data.members.filter(|_| !members_count) {
            self.tree.waive(node, frame, slots);
        }
        if let Some(node) = data.text {
            match text_counts {
                true => {
                    let scalar = Scalar::String(bytes);
                    self.tree.note(node, frame, slots, &scalar);
                }
                false => self.tree.waive(node, frame, slots),
            }
        }
        false
    }
}

impl Data {
    fn is_addressed(self) -> bool {
        self.nodes().next().is_some()
    }

    fn nodes(self) -> impl Iterator<Item = NodeId> {
        self.members.into_iter().chain(self.text)
    }
}

/// Whether it may be a JSON object or array; all else is plain text (decision 31).
pub(super) fn is_container(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    cursor.space();
    matches!(cursor.peek(), Some(b'{' | b'['))
}

/// Whether it is JSON, as far as its grammar goes.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    cursor.space();
    let passed = cursor.pass_value(0);
    cursor.space();
    passed.is_some() && cursor.peek().is_none()
}
