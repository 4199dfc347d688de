//! FilterCriteria: which records are sent to the function (contract 8, decisions 31 to 33 and 38).
//!
//! A [`Filter`] is one pattern of EventBridge's rule language, compiled once; a [`FilterSet`] is asked for each record,
//! with slices of it. [`Rule`] is the same language against a JSON document. The reference for the language is AWS's
//! own engine, aws/event-ruler.
//!
//! ```text
//! pattern --compile--> branches (what $or makes of it) --tree--> paths, with a bit for each branch
//! record  --walk--> descends where paths lead, passes over the rest --> slots, a few masks for each path
//! ```
//!
//! Invariant: a record costs time linear in its bytes and no allocation, whatever is in it.

mod address;
mod compile;
mod error;
mod explain;
mod folded;
mod json;
mod number;
mod operator;
mod record;
mod rule;
mod tree;
mod walk;
mod wildcard;

use std::io::Write;

pub use error::{PatternError, REFUSED};
pub use explain::{ClauseOutcome, Format, Outcome, Way};
pub use record::{Filter, FilterSet, MEMBERS, Subject};
pub use rule::{NotAnObject, Rule};

use self::compile::{Branch, Pattern};
use self::tree::Slots;

/// What matching works in; kept and used again.
#[derive(Debug, Default)]
pub struct Scratch {
    slots: Slots,
    text: Vec<u8>,
    digits: Digits,
}

/// A longer text is not kept for the next event.
const TEXT_KEPT_BYTES_MAX: usize = 1024 * 1024;

impl Scratch {
    /// Forgets what an event left.
    fn begin(&mut self) {
        self.slots.clear();
        if self.text.capacity() > TEXT_KEPT_BYTES_MAX {
            self.text = Vec::new();
        }
    }
}

/// Room for the digits of a whole number.
#[derive(Debug, Default)]
struct Digits([u8; 20]);

impl Digits {
    fn write(&mut self, integer: i64) -> &[u8] {
        let mut left = &mut self.0[..];
        let written = write!(left, "{integer}");
        debug_assert!(written.is_ok(), "i64::MIN has 20 characters");
        let unused = left.len();
        &self.0[..self.0.len() - unused]
    }
}

/// The branches of all patterns, each with its pattern's number.
fn branches_of<'p>(patterns: impl IntoIterator<Item = &'p Pattern>) -> Vec<(usize, Branch)> {
    let numbered = patterns.into_iter().enumerate();
    numbered
        .flat_map(|(number, it)| it.branches.iter().map(move |it| (number, it.clone())))
        .collect()
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
