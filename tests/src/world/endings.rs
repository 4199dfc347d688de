//! How records end where nobody but the function and the destination can fail: each exactly one way, and within the
//! attempts that the mapping allows.
//!
//! Only calm schedules are held to it: a node that loses its partition delivers what it has not committed again.

use std::collections::BTreeMap;

use forebay_protocol::delivery::RetryPolicy;

use super::{Delivered, Violation};

/// Halves of a batch may fail this often before one record is left: lanes first, then records.
const SPLITS_MAX: u32 = 3 + 7;

/// How a record has ended, as its consumer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The function has processed it.
    Succeeded,
    /// The destination has taken it.
    Diverted,
    /// The destination has not, and the owner chose that it is dropped then.
    Dropped,
    /// An operator wanted it discarded.
    Skipped,
}

/// The endings of one consumer's records.
#[derive(Debug, Default)]
pub(super) struct Endings {
    ended: BTreeMap<(i32, i64), Ending>,
    failed_calls: BTreeMap<(i32, i64), u32>,
}

impl Endings {
    /// Records go to the function or to the destination: none of them has ended.
    pub(super) fn begun(&self, records: &[Delivered]) -> Result<(), Violation> {
        for (partition, offset) in each(records) {
            if let Some(ending) = self.ended.get(&(partition, offset)) {
                return Err(Violation::EndedTwice {
                    partition,
                    offset,
                    ending: *ending,
                });
            }
        }
        Ok(())
    }

    /// The consumer hears that they have ended.
    pub(super) fn ended(&mut self, records: &[Delivered], how: Ending) {
        self.ended.extend(each(records).map(|record| (record, how)));
    }

    /// The consumer hears that the function failed with them.
    pub(super) fn failed(
        &mut self,
        records: &[Delivered],
        policy: &RetryPolicy,
    ) -> Result<(), Violation> {
        for (partition, offset) in each(records) {
            let failed = self.failed_calls.entry((partition, offset)).or_default();
            *failed += 1;
            let splits = if policy.bisect { SPLITS_MAX } else { 0 };
            let allowed = policy.max_attempts.map(|max| max + 1 + splits);
            if allowed.is_some_and(|allowed| *failed > allowed) {
                return Err(Violation::TooManyAttempts {
                    partition,
                    offset,
                    failed: *failed,
                });
            }
        }
        Ok(())
    }
}

fn each(records: &[Delivered]) -> impl Iterator<Item = (i32, i64)> {
    let records = records.iter();
    records.flat_map(|part| part.offsets.iter().map(|offset| (part.partition, *offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(offsets: &[i64]) -> Vec<Delivered> {
        vec![Delivered {
            partition: 0,
            offsets: offsets.to_vec(),
        }]
    }

    #[test]
    fn a_record_that_goes_on_after_its_end_is_found() {
        let mut endings = Endings::default();
        endings.ended(&records(&[0, 2]), Ending::Diverted);
        assert_eq!(endings.begun(&records(&[1, 3])), Ok(()));
        assert!(matches!(
            endings.begun(&records(&[1, 2])),
            Err(Violation::EndedTwice { offset: 2, .. })
        ));
    }

    #[test]
    fn an_attempt_too_many_is_found() {
        let policy = RetryPolicy {
            max_attempts: Some(1),
            ..RetryPolicy::default()
        };
        let mut endings = Endings::default();
        for _ in 0..2 {
            assert_eq!(endings.failed(&records(&[7]), &policy), Ok(()));
        }
        assert!(matches!(
            endings.failed(&records(&[7]), &policy),
            Err(Violation::TooManyAttempts { failed: 3, .. })
        ));
    }
}
