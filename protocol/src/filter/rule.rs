//! The bare rule language: a pattern against a JSON document, as EventBridge has it.

use super::compile::Pattern;
use super::error::PatternError;
use super::json::Cursor;
use super::tree::{BRANCHES, NodeId, Tree};
use super::walk::{Walk, Walked};
use super::{Scratch, branches_of};

/// A compiled pattern whose paths begin at the document's own members.
#[derive(Debug)]
pub struct Rule {
    trees: Box<[Tree]>,
}

/// The event is no JSON object, or nested deeper than
/// [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is not a JSON object")]
pub struct NotAnObject;

impl Rule {
    /// Reads a pattern.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        let pattern = Pattern::compile(pattern)?;
        let branches = branches_of([&pattern]);
        let trees = branches
            .chunks(BRANCHES)
            .map(|it| Tree::new(it, &[&pattern]));
        Ok(Self {
            trees: trees.collect(),
        })
    }

    /// Whether the document satisfies it.
    pub fn matches(&self, event: &[u8], scratch: &mut Scratch) -> Result<bool, NotAnObject> {
        let mut cursor = Cursor::new(event);
        cursor.space();
        if cursor.peek() != Some(b'{') || std::str::from_utf8(event).is_err() {
            return Err(NotAnObject);
        }
        for tree in &self.trees {
            scratch.begin();
            let Scratch { slots, text, .. } = &mut *scratch;
            let outermost = tree.open(NodeId::ROOT, slots);
            let walk = Walk {
                tree,
                slots,
                scratch: text,
                outermost,
                may_stop: false,
            };
            if walk.run(cursor, NodeId::ROOT) != Walked::ToTheEnd {
                return Err(NotAnObject);
            }
            if tree.close(outermost, slots).all != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
