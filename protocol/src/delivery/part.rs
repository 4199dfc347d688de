//! What leaves a lane: a sealed body, and the parts of it that travel in batches.
//!
//! A part is a stretch of a lane's records. Some of them may have ended while others are still tried: the *live* ones
//! are those that have not. Records that are given up *leave*: they are live until the destination has taken them.
//!
//! Invariant: a part in a batch holds at least one live record; live records are of one lane, in order.

use std::ops::Range;
use std::rc::Rc;

use crate::lambda::event::{RecordMark, Sealed};

/// A sealed body, with the memory that stands for it in the budget.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) sealed: Sealed,
    pub(super) held_bytes: usize,
    /// No call may carry its one record, whose event has that size.
    pub(super) oversized: Option<usize>,
}

/// Some records of one lane, already encoded.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) partition: i32,
    /// Which ownership of the partition it belongs to.
    pub(super) ownership: u64,
    pub(super) body: Rc<Body>,
    /// The records that the lane waits for.
    range: Range<usize>,
    /// Those of them that have not ended, as ascending ranges with gaps between them.
    live: Vec<Range<usize>>,
    /// Those of the live that are given up.
    leaving: Vec<Range<usize>>,
    /// Calls that carried it and in which the function failed.
    pub(super) failed_calls: u32,
    /// Those of them that count against `MaximumRetryAttempts`: splitting takes none.
    pub(super) attempts: u32,
}

impl Part {
    /// All records of a body.
    pub(super) fn whole(partition: i32, ownership: u64, body: Rc<Body>) -> Self {
        let range = 0..body.sealed.records().len();
        assert!(!range.is_empty(), "a part holds a record");
        Self {
            partition,
            ownership,
            body,
            live: vec![range.clone()],
            leaving: Vec::new(),
            range,
            failed_calls: 0,
            attempts: 0,
        }
    }

    fn marks(&self) -> &[RecordMark] {
        self.body.sealed.records()
    }

    /// The first record that has not ended.
    pub(super) fn first(&self) -> RecordMark {
        self.marks()[self.live[0].start]
    }

    /// The last record that has not ended.
    pub(super) fn last(&self) -> RecordMark {
        self.marks()[self.live[self.live.len() - 1].end - 1]
    }

    pub(super) fn first_offset(&self) -> i64 {
        self.first().offset
    }

    pub(super) fn last_offset(&self) -> i64 {
        self.last().offset
    }

    /// The offset behind all of its records, ended or not.
    pub(super) fn end_offset(&self) -> i64 {
        self.marks()[self.range.end - 1].offset + 1
    }

    /// How many have not ended.
    pub(super) fn records(&self) -> usize {
        count(&self.live)
    }

    /// Those that have not ended, as ranges of the body's records.
    pub(super) fn live(&self) -> &[Range<usize>] {
        &self.live
    }

    /// Those that are given up.
    pub(super) fn leaving(&self) -> &[Range<usize>] {
        &self.leaving
    }

    /// How many are given up.
    pub(super) fn leaving_records(&self) -> usize {
        count(&self.leaving)
    }

    /// Those that are given up.
    pub(super) fn leaving_marks(&self) -> impl Iterator<Item = RecordMark> {
        let leaving = self.leaving.iter().cloned().flatten();
        leaving.map(|at| self.marks()[at])
    }

    /// Which of the body's records is given up and has that offset.
    pub(super) fn leaving_at(&self, offset: i64) -> Option<usize> {
        let found = self.marks().binary_search_by_key(&offset, |it| it.offset);
        let at = found.ok()?;
        let leaves = self.leaving.iter().any(|range| range.contains(&at));
        leaves.then_some(at)
    }

    /// The first and the last that is given up.
    pub(super) fn leaving_ends(&self) -> Option<(RecordMark, RecordMark)> {
        let (first, last) = (self.leaving.first()?, self.leaving.last()?);
        Some((self.marks()[first.start], self.marks()[last.end - 1]))
    }

    /// Whether it holds of any live record.
    pub(super) fn any_live(&self, mut holds: impl FnMut(&RecordMark) -> bool) -> bool {
        let mut live = self.live.iter().cloned().flatten();
        live.any(|at| holds(&self.marks()[at]))
    }

    /// Gives up the live records of which that holds; whether there are any.
    pub(super) fn leave(&mut self, mut given_up: impl FnMut(&Self, &RecordMark) -> bool) -> bool {
        self.leaving = select(&self.live, |at| given_up(self, &self.marks()[at]));
        !self.leaving.is_empty()
    }

    /// What was given up has ended; false once nothing is left.
    pub(super) fn end_leaving(&mut self) -> bool {
        self.end_leaving_of(|_| true)
    }

    /// The same of those of which that holds; others that were given up still leave.
    pub(super) fn end_leaving_of(&mut self, mut ended: impl FnMut(&RecordMark) -> bool) -> bool {
        let ended = select(&self.leaving, |at| ended(&self.marks()[at]));
        self.leaving = without(&self.leaving, &ended);
        self.live = without(&self.live, &ended);
        !self.live.is_empty()
    }

    /// Only the live records of which that holds have not ended; false if none is left.
    pub(super) fn keep(&mut self, mut failed: impl FnMut(&RecordMark) -> bool) -> bool {
        self.live = select(&self.live, |at| failed(&self.marks()[at]));
        !self.live.is_empty()
    }

    /// Whether a record at that offset has not ended.
    pub(super) fn has_live(&self, offset: i64) -> bool {
        let marks = self.marks();
        let found = marks.binary_search_by_key(&offset, |mark| mark.offset);
        found.is_ok_and(|at| self.live.iter().any(|range| range.contains(&at)))
    }

    /// Whether a record at that offset is one of its own and has ended.
    pub(super) fn has_ended(&self, offset: i64) -> bool {
        let marks = &self.marks()[self.range.clone()];
        let found = marks.binary_search_by_key(&offset, |mark| mark.offset);
        found.is_ok() && !self.has_live(offset)
    }

    /// Two of one, at the middle record of those that have not ended; there are two at least.
    pub(super) fn split(self) -> (Self, Self) {
        let half = self.records() / 2;
        assert!(half > 0, "one record has no halves");
        let middle = self.live.iter().cloned().flatten().nth(half);
        let middle = middle.expect("the middle lies among them");
        let (mut first, mut second) = (self.clone(), self);
        first.range.end = middle;
        second.range.start = middle;
        first.live = select(&first.live, |at| at < middle);
        second.live = select(&second.live, |at| at >= middle);
        (first, second)
    }
}

fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(ExactSizeIterator::len).sum()
}

/// Those of the ranges for which that holds, as ranges again.
fn select(ranges: &[Range<usize>], mut holds: impl FnMut(usize) -> bool) -> Vec<Range<usize>> {
    let mut selected: Vec<Range<usize>> = Vec::new();
    for at in ranges.iter().cloned().flatten() {
        if !holds(at) {
            continue;
        }
        match selected.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => selected.push(at..at + 1),
        }
    }
    selected
}

/// The ranges without others, which lie within them.
fn without(ranges: &[Range<usize>], others: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut others = others.iter().cloned().flatten().peekable();
    select(ranges, |at| others.next_if_eq(&at).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::records::{Headers, Record, TimestampType};
    use crate::lambda::event::{Buffer, EventShape, Fragment, Push};

    /// Records at those offsets.
    fn part(offsets: &[i64]) -> Part {
        let shape = EventShape::new("k:9092", "t");
        let mut fragment = Fragment::new(&shape, 0, Buffer::default());
        for offset in offsets {
            let record = Record {
                offset: *offset,
                timestamp: offset * 10,
                timestamp_type: TimestampType::CreateTime,
                key: None,
                value: None,
                headers: Headers::default(),
            };
            assert_eq!(fragment.push(&record, 6_000_000), Push::Appended);
        }
        let body = Body {
            sealed: fragment.seal(),
            held_bytes: 0,
            oversized: None,
        };
        Part::whole(0, 0, Rc::new(body))
    }

    fn live(part: &Part) -> Vec<i64> {
        let records = part.live().iter().cloned().flatten();
        records.map(|at| part.marks()[at].offset).collect()
    }

    #[test]
    fn what_has_ended_is_live_no_more() {
        let mut part = part(&[1, 2, 5, 6, 9]);
        assert!(part.keep(|mark| [2, 6].contains(&mark.offset)));
        assert_eq!(live(&part), [2, 6]);
        assert_eq!(
            (part.first_offset(), part.last_offset(), part.end_offset()),
            (2, 6, 10)
        );
        assert!(part.has_live(6) && !part.has_live(5) && !part.has_live(3));
        assert!(!part.keep(|_| false));
    }

    #[test]
    fn what_leaves_is_live_until_it_has_ended() {
        let mut part = part(&[1, 2, 3, 4]);
        assert!(part.leave(|_, mark| mark.timestamp == 20 || mark.timestamp == 40));
        assert_eq!((part.records(), part.leaving_records()), (4, 2));
        let (first, last) = part.leaving_ends().unwrap();
        assert_eq!((first.offset, last.offset), (2, 4));
        assert!(part.end_leaving());
        assert_eq!((live(&part), part.leaving_records()), (vec![1, 3], 0));
        assert!(part.leave(|_, _| true));
        assert!(!part.end_leaving());
    }

    #[test]
    fn of_what_leaves_some_may_end_before_the_others() {
        let mut part = part(&[1, 2, 3, 4]);
        part.leave(|_, mark| mark.offset != 1);
        assert!(part.end_leaving_of(|mark| mark.offset == 1 || mark.offset == 3));
        assert_eq!(live(&part), [1, 2, 4]);
        let leaving: Vec<i64> = part.leaving_marks().map(|it| it.offset).collect();
        assert_eq!(leaving, [2, 4]);
        assert_eq!(
            [1, 2, 3, 4].map(|offset| part.leaving_at(offset)),
            [None, Some(1), None, Some(3)]
        );
        assert!(part.end_leaving());
        assert_eq!(live(&part), [1]);
        assert!(part.has_ended(2) && part.has_ended(3) && !part.has_ended(1));
        assert!(!part.has_ended(5), "it has no such record");
    }

    #[test]
    fn halves_have_every_live_record_between_them() {
        let mut whole = part(&[1, 2, 3, 4, 5, 6]);
        whole.keep(|mark| mark.offset != 2);
        let (first, second) = whole.split();
        assert_eq!((live(&first), live(&second)), (vec![1, 3], vec![4, 5, 6]));
        assert_eq!((first.end_offset(), second.end_offset()), (4, 7));
        let (first, second) = first.split();
        assert_eq!((live(&first), live(&second)), (vec![1], vec![3]));
        assert_eq!(
            first.end_offset(),
            3,
            "what has ended belongs to the half before it"
        );
    }
}
