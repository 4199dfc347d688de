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
pub(super) struct Walk<'a, 's> {
    pub(super) tree: &'s Tree,
    pub(super) slots: &'s mut Slots,
    /// For names and strings with escapes.
    pub(super) scratch: &'s mut Vec<u8>,
    pub(super) cursor: Cursor<'a>,
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

type Step = Result<(), Stop>;

impl Walk<'_, '_> {
    /// Notes all that stands in the text, which is the value at that node's path.
    pub(super) fn run(mut self, node: NodeId) -> Walked {
        self.cursor.space();
        let step = self.value(node, self.outermost, 0);
        self.cursor.space();
        match step {
            Ok(()) if self.cursor.peek().is_none() => Walked::ToTheEnd,
            Err(Stop::Certain) => Walked::Certain,
            Ok(()) | Err(Stop::NotJson) => {
                self.tree.drop_inner(self.outermost, self.slots);
                Walked::NotJson
            }
        }
    }

    fn value(&mut self, node: NodeId, frame: Frame, depth: usize) -> Step {
        match self.cursor.peek() {
            Some(b'{') if self.tree.goes_on(node) => self.object(node, frame, depth),
            Some(b'[') => self.array(node, frame, depth),
            Some(b'{') => self.pass(depth),
            _ if !self.tree.ends_here(node) => self.pass(depth),
            Some(b'"') => {
                let text = self.cursor.string().ok_or(Stop::NotJson)?;
                let scalar = Scalar::String(text.resolve(self.scratch));
                let more = self.tree.note(node, frame, self.slots, &scalar);
                self.look(more, frame)
            }
            Some(b't') => self.word(b"true", Scalar::Boolean(true), node, frame),
            Some(b'f') => self.word(b"false", Scalar::Boolean(false), node, frame),
            Some(b'n') => self.word(b"null", Scalar::Null, node, frame),
            _ => {
                let number = self.cursor.number().ok_or(Stop::NotJson)?;
                self.note(&Scalar::Number(Number::new(number)), node, frame)
            }
        }
    }

    fn object(&mut self, node: NodeId, frame: Frame, depth: usize) -> Step {
        if depth >= JSON_DEPTH_MAX {
            return Err(Stop::NotJson);
        }
        self.take(b'{')?;
        self.cursor.space();
        if self.cursor.take(b'}').is_some() {
            return Ok(());
        }
        loop {
            let name = self.cursor.name().ok_or(Stop::NotJson)?;
            match self.tree.child(node, name.resolve(self.scratch)) {
                Some(child) => self.value(child, frame, depth + 1)?,
                None => self.pass(depth + 1)?,
            }
            self.cursor.space();
            if self.cursor.take(b',').is_none() {
                return self.take(b'}');
            }
            self.cursor.space();
        }
    }

    /// An array stands for each of its elements.
    fn array(&mut self, node: NodeId, frame: Frame, depth: usize) -> Step {
        if depth >= JSON_DEPTH_MAX {
            return Err(Stop::NotJson);
        }
        self.take(b'[')?;
        self.cursor.space();
        if self.cursor.take(b']').is_some() {
            return Ok(());
        }
        let joint = self.tree.is_joint(node);
        loop {
            match self.cursor.peek() {
                Some(b'{' | b'[') if joint => {
                    let element = self.tree.open(node, self.slots);
                    self.value(node, element, depth + 1)?;
                    let held = self.tree.close(element, self.slots);
                    let more = self.tree.note_element(node, frame, self.slots, held);
                    self.look(more, frame)?;
                }
                _ => self.value(node, frame, depth + 1)?,
            }
            self.cursor.space();
            if self.cursor.take(b',').is_none() {
                return self.take(b']');
            }
            self.cursor.space();
        }
    }

    fn word(
        &mut self,
        word: &'static [u8],
        scalar: Scalar<'_>,
        node: NodeId,
        frame: Frame,
    ) -> Step {
        self.cursor.literal(word).ok_or(Stop::NotJson)?;
        self.note(&scalar, node, frame)
    }

    fn note(&mut self, scalar: &Scalar<'_>, node: NodeId, frame: Frame) -> Step {
        let more = self.tree.note(node, frame, self.slots, scalar);
        self.look(more, frame)
    }

    /// Stops if what was just noted has decided the matter.
    #[inline]
    fn look(&mut self, more: bool, frame: Frame) -> Step {
        if more
            && self.may_stop
            && frame == self.outermost
            && self.tree.is_certain(frame, self.slots)
        {
            return Err(Stop::Certain);
        }
        Ok(())
    }

    #[inline]
    fn pass(&mut self, depth: usize) -> Step {
        self.cursor.pass_value(depth).ok_or(Stop::NotJson)
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Step {
        self.cursor.take(byte).ok_or(Stop::NotJson)
    }
}
