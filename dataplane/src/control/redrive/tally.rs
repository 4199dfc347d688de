//! What became of each document, and of all of them.
//!
//! Invariant: every document that was looked at is counted once.

use std::fmt;

use super::refetch::Span;

/// What became of one.
#[derive(Debug)]
pub(super) enum Fate {
    /// All of it was sent now, or would be.
    Sent(Told),
    /// All of it was sent by an earlier redrive.
    SentBefore,
    /// Some of it was not, or cannot be.
    Failed(Told),
    /// It is none of ours: why.
    LeftAlone(String),
    /// It tells of no record.
    Probe,
}

/// What is told of one.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Its partitions and offsets.
    pub(super) what: String,
    /// Records that were sent now, or would be.
    pub(super) records: u64,
    /// Records of it that were sent by an earlier redrive.
    pub(super) before: u64,
    /// What was not, or cannot be, and what is to be known of it.
    pub(super) remarks: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) sent_before: u64,
    pub(super) failed: u64,
    pub(super) left_alone: u64,
    pub(super) probes: u64,
    pub(super) removed: u64,
    pub(super) records: u64,
}

impl Tally {
    pub(super) fn count(&mut self, fate: &Fate) {
        let (of, records) = match fate {
            Fate::Sent(told) => (&mut self.sent, told.records),
            Fate::Failed(told) => (&mut self.failed, told.records),
            Fate::SentBefore => (&mut self.sent_before, 0),
            Fate::LeftAlone(_) => (&mut self.left_alone, 0),
            Fate::Probe => (&mut self.probes, 0),
        };
        *of += 1;
        self.records += records;
    }

    /// Documents that this redrive was about.
    pub(super) fn done(&self) -> u64 {
        self.sent + self.failed
    }

    /// The last line but one.
    /// Whether no document was come to.
    pub(super) fn is_empty(&self) -> bool {
        self.documents() == 0
    }

    fn documents(&self) -> u64 {
        self.sent + self.sent_before + self.failed + self.left_alone + self.probes
    }

    pub(super) fn summary(&self, executes: bool) -> String {
        let (sent, records) = match executes {
            true => ("sent", "sent"),
            false => ("would be sent", "in all"),
        };
        let mut text = format!(
            "{}: {} {sent}, {} {records}",
            counted(self.documents(), "document"),
            self.sent,
            counted(self.records, "record")
        );
        for (count, what) in [
            (self.failed, "not sent whole, and kept"),
            (self.sent_before, "sent before"),
            (self.left_alone, "left alone"),
            (self.probes, "of forebay check --probe"),
            (self.removed, "removed"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

impl Fate {
    /// What is said of it; `removed` is whether it is gone now.
    pub(super) fn line(&self, executes: bool, removed: bool) -> String {
        let mut text = match self {
            Self::Sent(told) => told.line(if executes { "sent" } else { "would be sent" }),
            Self::Failed(told) => {
                let kept = if executes { "; it is kept" } else { "" };
                format!(
                    "{}{kept}",
                    told.line(if executes { "sent" } else { "would be sent" })
                )
            }
            Self::SentBefore => "was sent before".to_owned(),
            Self::LeftAlone(reason) => format!("left alone: {reason}"),
            Self::Probe => "of forebay check --probe: it tells of no record".to_owned(),
        };
        if removed {
            text.push_str("; removed");
        }
        text
    }
}

impl Told {
    fn line(&self, sent: &str) -> String {
        let mut text = format!("{}: {} {sent}", self.what, counted(self.records, "record"));
        if self.before > 0 {
            text.push_str(&format!(", {} were sent before", self.before));
        }
        for remark in &self.remarks {
            text.extend(["; ", remark]);
        }
        text
    }
}

/// Runs of offsets, as people read them.
pub(super) struct Spans<'a>(pub(super) &'a [Span]);

/// Runs that are named one by one.
const SPANS_MAX: usize = 5;

impl fmt::Display for Spans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, span) in self.0.iter().take(SPANS_MAX).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{span}")?;
        }
        match self.0.len() {
            ..=SPANS_MAX => Ok(()),
            more => write!(f, " and {} more", more - SPANS_MAX),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            first,
            last,
        } = self;
        match first == last {
            true => write!(f, "partition {partition} offset {first}"),
            false => write!(f, "partition {partition} offsets {first} to {last}"),
        }
    }
}

pub(super) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(records: u64, remarks: &[&str]) -> Told {
        Told {
            what: Spans(&[span(3, 7, 9), span(4, 1, 1)]).to_string(),
            records,
            before: 0,
            remarks: remarks.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn span(partition: i32, first: i64, last: i64) -> Span {
        Span {
            partition,
            first,
            last,
        }
    }

    #[test]
    fn a_line_says_what_became_of_a_document() {
        let check = |fate: Fate, executes, removed, expected: &str| {
            assert_eq!(fate.line(executes, removed), expected);
        };
        let what = "partition 3 offsets 7 to 9, partition 4 offset 1";
        let sent = format!("{what}: 4 records sent; removed");
        check(Fate::Sent(told(4, &[])), true, true, &sent);
        let would = format!("{what}: 1 record would be sent");
        check(Fate::Sent(told(1, &[])), false, false, &would);
        let failed = format!("{what}: 0 records sent; the function failed: boom; it is kept");
        let fate = Fate::Failed(told(0, &["the function failed: boom"]));
        check(fate, true, false, &failed);
        let rest = Told {
            before: 2,
            ..told(2, &[])
        };
        let rest_sent = format!("{what}: 2 records sent, 2 were sent before");
        check(Fate::Sent(rest), true, false, &rest_sent);
    }

    #[test]
    fn the_last_line_counts_every_document() {
        let mut tally = Tally::default();
        for fate in [
            Fate::Sent(told(4, &[])),
            Fate::Failed(told(1, &[])),
            Fate::SentBefore,
            Fate::LeftAlone(String::new()),
            Fate::Probe,
        ] {
            tally.count(&fate);
        }
        tally.removed = 3;
        assert_eq!(
            tally.summary(true),
            "5 documents: 1 sent, 5 records sent, 1 not sent whole, and kept, 1 sent before, 1 left alone, \
             1 of forebay check --probe, 3 removed"
        );
        assert_eq!(tally.done(), 2);
        let empty = Tally::default().summary(false);
        assert_eq!(empty, "0 documents: 0 would be sent, 0 records in all");
    }

    #[test]
    fn many_runs_are_not_all_named() {
        let spans: Vec<Span> = (0..7).map(|at| span(0, at * 2, at * 2)).collect();
        let text = Spans(&spans).to_string();
        assert!(text.ends_with("partition 0 offset 8 and 2 more"), "{text}");
    }
}
