//! One pass over an event's JSON that descends only where a pattern's path leads.
//!
//! Invariant: time is linear in the text, the stack is bounded by [`JSON_DEPTH_MAX`], and once the scratch has grown
//! nothing is allocated.

use super::json::Cursor;
use super::operator::{Number, Scalar};
use super::tree::{Frame, NodeId, Slots, Tree};
use crate::limits::JSON_DEPTH_MAX;

/// What a pass came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// It is JSON, as far as its grammar goes, and all of it is noted.
    ToTheEnd,
    /// A branch is satisfied, whatever follows.
    Certain,
    /// It is not JSON.
    NotJson,
}

/// A pass under way.
pub(super) struct Walk<'s> {
    pub(super) tree: &'s Tree,
    pub(super) slots: &'s mut Slots,
    /// For names and strings with escapes.
    pub(super) scratch: &'s mut Vec<u8>,
    /// The event's own frame.
    pub(super) outermost: Frame,
    /// Whether the rest is of no interest once a branch is certain.
    pub(super) may_stop: bool,
}

/// Why a pass goes no further.
enum Stop {
    Certain,
    NotJson,
}

/// Where the pass goes on. Handed on by value, the place stays in registers.
type Step<'a> = Result<Cursor<'a>, Stop>;

impl Walk<'_> {
    /// Notes all that stands in the text, which is the value at that node's path.
    pub(super) fn run(mut self, mut cursor: Cursor<'_>, node: NodeId) -> Walked {
        cursor.space();
        let step = self.value(cursor, node, self.outermost, 0);
        let step = step.map(|mut cursor| {
            cursor.space();
            cursor.peek()
        });
        match step {
            Ok(None) => Walked::ToTheEnd,
            Err(Stop::Certain) => Walked::Certain,
            Ok(Some(_)) | Err(Stop::NotJson) => {
                self.tree.drop_inner(self.outermost, self.slots);
                Walked::NotJson
            }
        }
    }

    fn value<'a>(
        &mut self,
        mut cursor: Cursor<'a>,
        node: NodeId,
        frame: Frame,
        depth: usize,
    ) -> Step<'a> {
        let scalar = match cursor.peek() {
            Some(b'{') if self.tree.goes_on(node) => {
                return self.object(cursor, node, frame, depth);
            }
            Some(b'[') => return self.array(cursor, node, frame, depth),
            Some(b'{') => return pass(cursor, depth),
            _ if !self.tree.ends_here(node) => return pass(cursor, depth),
            Some(b'"') => {
                let text = cursor.string();
                text.map(|text| Scalar::String(text.resolve(self.scratch)))
            }
            Some(b't') => cursor.literal(b"true").map(|()| Scalar::Boolean(true)),
            Some(b'f') => cursor.literal(b"false").map(|()| Scalar::Boolean(false)),
            Some(b'n') => cursor.literal(b"null").map(|()| Scalar::Null),
            _ => cursor.number().map(|it| Scalar::Number(Number::new(it))),
        };
        let scalar = scalar.ok_or(Stop::NotJson)?;
        let more = self.tree.note(node, frame, self.slots, &scalar);
        self.look(more, frame)?;
        Ok(cursor)
    }

    fn object<'a>(
        &mut self,
        mut cursor: Cursor<'a>,
        node: NodeId,
        frame: Frame,
        depth: usize,
    ) -> Step<'a> {
        if !enter(&mut cursor, *b"{}", depth)? {
            return Ok(cursor);
        }
        loop {
            let name = cursor.name().ok_or(Stop::NotJson)?;
            cursor = match self.tree.child(node, name.resolve(self.scratch)) {
                Some(child) => self.value(cursor, child, frame, depth + 1)?,
                None => pass(cursor, depth + 1)?,
            };
            if !another(&mut cursor, b'}')? {
                return Ok(cursor);
            }
        }
    }

    /// An array stands for each of its elements.
    fn array<'a>(
        &mut self,
        mut cursor: Cursor<'a>,
        node: NodeId,
        frame: Frame,
        depth: usize,
    ) -> Step<'a> {
        if !enter(&mut cursor, *b"[]", depth)? {
            return Ok(cursor);
        }
        let joint = self.tree.is_joint(node);
        loop {
            cursor = match cursor.peek() {
                Some(b'{' | b'[') if joint => {
                    let element = self.tree.open(node, self.slots);
                    let after = self.value(cursor, node, element, depth + 1)?;
                    let held = self.tree.close(element, self.slots);
                    let more = self.tree.note_element(node, frame, self.slots, held);
                    self.look(more, frame)?;
                    after
                }
                _ => self.value(cursor, node, frame, depth + 1)?,
            };
            if !another(&mut cursor, b']')? {
                return Ok(cursor);
            }
        }
    }

    /// Stops if what was just noted has decided the matter.
    #[inline]
    fn look(&mut self, more: bool, frame: Frame) -> Result<(), Stop> {
        if more
            && self.may_stop
            && frame == self.outermost
            && self.tree.is_certain(frame, self.slots)
        {
            return Err(Stop::Certain);
        }
        Ok(())
    }
}

#[inline]
fn pass(mut cursor: Cursor<'_>, depth: usize) -> Step<'_> {
    cursor.pass_value(depth).ok_or(Stop::NotJson)?;
    Ok(cursor)
}

/// Goes into a container that stands that deep, up to the first that is in it; whether there is one.
#[inline]
fn enter(cursor: &mut Cursor<'_>, [open, close]: [u8; 2], depth: usize) -> Result<bool, Stop> {
    if depth >= JSON_DEPTH_MAX {
        return Err(Stop::NotJson);
    }
    take(cursor, open)?;
    cursor.space();
    Ok(cursor.take(close).is_none())
}

/// Goes on behind a member or an element, up to the next; whether there is one.
#[inline]
fn another(cursor: &mut Cursor<'_>, close: u8) -> Result<bool, Stop> {
    cursor.space();
    if cursor.take(b',').is_none() {
        take(cursor, close)?;
        return Ok(false);
    }
    cursor.space();
    Ok(true)
}

#[inline]
fn take(cursor: &mut Cursor<'_>, byte: u8) -> Result<(), Stop> {
    cursor.take(byte).ok_or(Stop::NotJson)
}
