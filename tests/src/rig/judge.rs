//! Judges a ledger: against what Kafka's own consumer reads, by the rules of delivery.
//!
//! Invariant: offsets are compared as positions in what was expected, so gaps that transactions leave in
//! a partition are no gaps here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Call, Said};

/// What there is to deliver: each partition's records in order.
pub struct Expected {
    partitions: BTreeMap<i32, Vec<Expectation>>,
}

struct Expectation {
    offset: i64,
    /// The record as JSON with sorted members.
    text: Box<str>,
}

/// A document in a topic of failed records.
#[derive(Debug)]
pub struct Document {
    /// Where its record stands: the partition and the offset.
    pub place: (i32, i64),
    /// The record as the event has it, as JSON with sorted members.
    record: String,
    /// The message's own key, as base64.
    key: Option<String>,
}

/// What a ledger came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Records that nobody processed.
    pub lost: u64,
    /// Records that were delivered.
    pub delivered: u64,
    /// Starts above the highest delivered record + 1, and steps within a call.
    pub out_of_order: Vec<String>,
    /// Records that were not as expected, or not expected.
    pub wrong: Vec<String>,
    /// Records delivered again by a call.
    pub again: Vec<Redelivery>,
    /// Pairs of calls that were open for one partition at once.
    pub open_at_once: Vec<String>,
    /// Where the highest delivered record + 1 stands, as an offset, by partition.
    pub next_offset: BTreeMap<i32, i64>,
}

/// A call delivered records that had been delivered before.
#[derive(Clone, Debug)]
pub struct Redelivery {
    /// The partition.
    pub partition: i32,
    /// How many records.
    pub records: u64,
    /// When the call before, that held the last of them, ended; `None`: it was cut off. Microseconds.
    pub before_closed: Option<u64>,
    /// The port that the call before came to; `None`: it was a foreign member's.
    pub before_port: Option<u16>,
    /// When this call was opened, in microseconds.
    pub opened: u64,
    /// The port that this call came to.
    pub port: u16,
}

/// A stretch of one partition that somebody worked on.
struct Stretch {
    at: u64,
    until: u64,
    by: By,
    first: usize,
    last: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Call {
        port: u16,
        answered: bool,
        ended: bool,
    },
    Foreign,
}

impl Document {
    /// Of a message, as `Verify` prints it.
    fn of(message: &str) -> Self {
        let message: Value = serde_json::from_str(message).expect("Verify writes JSON");
        let value = message["value"].as_str().expect("a document has text");
        let value = base64_simd::STANDARD.decode_to_vec(value);
        let value = value.expect("it is base64");
        let document: Value = serde_json::from_slice(&value).expect("it is JSON");
        let lanes = document["payload"]["records"].as_object();
        let mut lanes = lanes.expect("a document has its event").values();
        let record = &lanes.next().expect("an event has a lane")[0];
        Self {
            place: place(record),
            record: record.to_string(),
            key: message["key"].as_str().map(str::to_owned),
        }
    }
}

impl Expected {
    /// Reads what `Verify` prints: a record a line, as the event shows it.
    pub fn parse(lines: &str) -> Self {
        let mut partitions: BTreeMap<i32, Vec<Expectation>> = BTreeMap::new();
        for line in lines.lines() {
            let record: Value = serde_json::from_str(line).expect("Verify writes JSON");
            let (partition, offset) = place(&record);
            let text = record.to_string().into_boxed_str();
            let records = partitions.entry(partition).or_default();
            assert!(records.last().is_none_or(|last| last.offset < offset));
            records.push(Expectation { offset, text });
        }
        Self { partitions }
    }

    /// The documents that its records are.
    pub fn documents(&self) -> Vec<Document> {
        let all = self.partitions.values().flatten();
        all.map(|message| Document::of(&message.text)).collect()
    }

    /// The partition and offset of each record.
    pub fn places(&self) -> impl Iterator<Item = (i32, i64)> {
        let partitions = self.partitions.iter();
        partitions.flat_map(|(partition, records)| records.iter().map(|it| (*partition, it.offset)))
    }

    /// Holds a document against the record that it is of: as the event would show it, under its own key.
    ///
    /// # Panics
    /// If it is another.
    pub fn assert_is(&self, document: &Document) {
        let (partition, offset) = document.place;
        let all = &self.partitions[&partition];
        let found = all.binary_search_by_key(&offset, |it| it.offset);
        let expected = &all[found.expect("the record is there to be read")].text;
        assert_eq!(document.record, **expected);
        let record: Value = serde_json::from_str(expected).expect("it is JSON");
        assert_eq!(document.key.as_deref(), record["key"].as_str());
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.partitions
            .values()
            .map(|records| records.len() as u64)
            .sum()
    }

    /// Whether every record's member of that name is that text.
    pub fn all_have(&self, member: &str, text: &str) -> bool {
        let shown = format!("\"{member}\":\"{text}\"");
        let mut all = self.partitions.values().flatten();
        all.all(|record| record.text.contains(&shown))
    }

    /// What remains of it from the first offset of each partition on for which `begins` holds.
    pub fn from(mut self, begins: impl Fn(i32, i64) -> bool) -> Self {
        for (partition, records) in &mut self.partitions {
            let first = records.partition_point(|record| !begins(*partition, record.offset));
            records.drain(..first);
        }
        self
    }

    /// What remains of it where only those records are wanted.
    pub fn only(mut self, is_wanted: impl Fn(i32, i64) -> bool) -> Self {
        for (partition, records) in &mut self.partitions {
            records.retain(|record| is_wanted(*partition, record.offset));
        }
        self
    }

    /// The offset after the last record of a partition; 0 without one.
    pub fn end(&self, partition: i32) -> i64 {
        let records = self.partitions.get(&partition);
        records
            .and_then(|records| records.last())
            .map_or(0, |record| record.offset + 1)
    }

    /// The first expected offset at or above `offset`, else the largest number there is.
    pub fn next_at_or_above(&self, partition: i32, offset: i64) -> i64 {
        let all = self
            .partitions
            .get(&partition)
            .map_or(&[][..], Vec::as_slice);
        let at = all.partition_point(|it| it.offset < offset);
        all.get(at).map_or(i64::MAX, |it| it.offset)
    }

    /// How many records no call that was answered has carried, whatever else calls have carried: of a log that is no
    /// longer what it was.
    pub fn missing(&self, calls: &[Call]) -> u64 {
        let mut carried = BTreeSet::new();
        for call in calls.iter().filter(|call| call.answered) {
            let event: Value = serde_json::from_slice(&call.body).expect("an event is JSON");
            let lanes = event["records"].as_object().expect("an event has records");
            let records = lanes.values().filter_map(Value::as_array).flatten();
            carried.extend(records.map(Value::to_string));
        }
        let all = self.partitions.values().flatten();
        all.filter(|record| !carried.contains(&*record.text))
            .count() as u64
    }

    /// Judges what calls delivered and foreign members processed.
    pub fn judge(&self, calls: &[Call], foreign: &[Said]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut stretches: BTreeMap<i32, Vec<Stretch>> = BTreeMap::new();
        // A call without a body is counted, but its note is still on its way.
        for call in calls.iter().filter(|call| !call.body.is_empty()) {
            self.read(call, &mut stretches, &mut verdict);
        }
        for said in foreign.iter().filter(|said| said.event == "processed") {
            let stretch = self.stretch_of(said);
            stretches.entry(said.partition).or_default().push(stretch);
        }
        for (partition, records) in &self.partitions {
            let mut worked = stretches.remove(partition).unwrap_or_default();
            worked.sort_by_key(|stretch| stretch.at);
            judge_partition(*partition, records, &worked, &mut verdict);
        }
        verdict
    }

    /// Takes a call's event apart and compares each record.
    fn read(
        &self,
        call: &Call,
        stretches: &mut BTreeMap<i32, Vec<Stretch>>,
        verdict: &mut Verdict,
    ) {
        let event: Value = serde_json::from_slice(&call.body).expect("an event is JSON");
        let lanes = event["records"].as_object().expect("an event has records");
        for (name, records) in lanes {
            let records = records.as_array().expect("a lane is an array");
            let (partition, first) = place(records.first().expect("no lane is empty"));
            let all: &[Expectation] = self.partitions.get(&partition).map_or(&[], Vec::as_slice);
            let found = all.binary_search_by_key(&first, |it| it.offset);
            let Ok(start) = found else {
                verdict
                    .wrong
                    .push(format!("{name} offset {first} is not there to be read"));
                continue;
            };
            for (record, expected) in records.iter().zip(&all[start..]) {
                let text = record.to_string();
                let (of, offset) = place(record);
                if of != partition || offset != expected.offset {
                    let wanted = expected.offset;
                    let step = format!("{name}: {of}-{offset} stands where {wanted} is next");
                    verdict.out_of_order.push(step);
                } else if text != *expected.text {
                    verdict
                        .wrong
                        .push(format!("{name}: {text} is not {}", expected.text));
                }
            }
            if start + records.len() > all.len() {
                verdict
                    .wrong
                    .push(format!("{name} has more records than the log"));
                continue;
            }
            verdict.delivered += records.len() as u64;
            stretches.entry(partition).or_default().push(Stretch {
                at: call.opened,
                until: call.closed.unwrap_or(u64::MAX),
                by: By::Call {
                    port: call.port,
                    answered: call.answered,
                    ended: call.closed.is_some() && call.answered,
                },
                first: start,
                last: start + records.len() - 1,
            });
        }
    }

    fn stretch_of(&self, said: &Said) -> Stretch {
        let all = &self.partitions[&said.partition];
        let find = |offset| all.binary_search_by_key(&offset, |it: &Expectation| it.offset);
        Stretch {
            at: said.at * 1000,
            until: said.at * 1000,
            by: By::Foreign,
            first: find(said.first).expect("a foreign member reads what is there"),
            last: find(said.last).expect("a foreign member reads what is there"),
        }
    }
}

impl Verdict {
    /// How many records calls delivered again.
    pub fn records_again(&self) -> u64 {
        self.again.iter().map(|it| it.records).sum()
    }

    /// Nothing lost, nothing wrong, nothing out of order, never two open calls for one partition.
    pub fn assert_sound(&self) {
        assert!(self.wrong.is_empty(), "wrong: {:#?}", head(&self.wrong));
        assert!(
            self.out_of_order.is_empty(),
            "out of order: {:#?}",
            head(&self.out_of_order)
        );
        assert!(
            self.open_at_once.is_empty(),
            "open at once: {:#?}",
            head(&self.open_at_once)
        );
        assert_eq!(self.lost, 0, "records were lost");
    }
}

/// Decision 34: a call starts at or below the highest delivered + 1, and no two are open at once.
fn judge_partition(
    partition: i32,
    records: &[Expectation],
    worked: &[Stretch],
    verdict: &mut Verdict,
) {
    let mut processed = vec![false; records.len()];
    // Which stretch delivered a record last.
    let mut deliverer: Vec<Option<usize>> = vec![None; records.len()];
    let mut next = 0;
    let mut open_until: Option<&Stretch> = None;
    for (number, stretch) in worked.iter().enumerate() {
        let span = stretch.first..=stretch.last;
        let offset = records[stretch.first].offset;
        match stretch.by {
            By::Foreign => processed[span.clone()].fill(true),
            By::Call { port, answered, .. } => {
                if stretch.first > next {
                    let highest = next.checked_sub(1).map(|at| records[at].offset);
                    let start = format!("{partition}: a call starts at {offset} after {highest:?}");
                    verdict.out_of_order.push(start);
                }
                if let Some(open) = open_until.filter(|open| open.until > stretch.at) {
                    let since = records[open.first].offset;
                    let both = format!("{partition}: {since} (open) and {offset}, port {port}");
                    verdict.open_at_once.push(both);
                }
                if open_until.is_none_or(|open| open.until < stretch.until) {
                    open_until = Some(stretch);
                }
                if answered {
                    processed[span.clone()].fill(true);
                }
                let again = deliverer[span.clone()]
                    .iter()
                    .filter(|it| it.is_some())
                    .count();
                let before = deliverer[span.clone()].iter().flatten().max();
                if let Some(before) = before.map(|before| &worked[*before]) {
                    let (cut, before_port) = match before.by {
                        By::Call { ended, port, .. } => (!ended, Some(port)),
                        By::Foreign => (false, None),
                    };
                    verdict.again.push(Redelivery {
                        partition,
                        records: again as u64,
                        before_closed: (!cut).then_some(before.until),
                        before_port,
                        opened: stretch.at,
                        port,
                    });
                }
            }
        }
        deliverer[span].fill(Some(number));
        next = next.max(stretch.last + 1);
    }
    verdict.lost += processed.iter().filter(|it| !**it).count() as u64;
    let last = next.checked_sub(1).map_or(0, |at| records[at].offset + 1);
    verdict.next_offset.insert(partition, last);
}

/// Where calls that were answered passed over offsets of a partition, whatever its log has been since: who goes back, to a
/// log that begins anew or ends early, goes on from there. Of logs without gaps alone.
pub fn skips(calls: &[Call]) -> Vec<String> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut skips = Vec::new();
    for call in calls.iter().filter(|call| call.answered) {
        let event: Value = serde_json::from_slice(&call.body).expect("an event is JSON");
        let lanes = event["records"].as_object().expect("an event has records");
        for record in lanes.values().filter_map(Value::as_array).flatten() {
            let (partition, offset) = place(record);
            let next = next.entry(partition).or_default();
            if offset > *next {
                skips.push(format!("{partition}: {offset} came where {next} was next"));
            }
            *next = offset + 1;
        }
    }
    skips
}

fn place(record: &Value) -> (i32, i64) {
    let partition = record["partition"]
        .as_i64()
        .and_then(|it| i32::try_from(it).ok());
    let offset = record["offset"].as_i64();
    (
        partition.expect("a record has a partition"),
        offset.expect("a record has an offset"),
    )
}

fn head(lines: &[String]) -> &[String] {
    &lines[..lines.len().min(10)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> String {
        format!(
            r#"{{"topic":"t","partition":0,"offset":{offset},"timestamp":1,"timestampType":"CREATE_TIME","headers":[]}}"#
        )
    }

    fn expected(offsets: &[i64]) -> Expected {
        let lines: Vec<String> = offsets.iter().map(|offset| record(*offset)).collect();
        Expected::parse(&lines.join("\n"))
    }

    fn call(offsets: &[i64], opened: u64, closed: u64) -> Call {
        let records: Vec<String> = offsets.iter().map(|offset| record(*offset)).collect();
        Call {
            port: 1,
            opened,
            closed: Some(closed),
            answered: true,
            body: format!(r#"{{"records":{{"t-0":[{}]}}}}"#, records.join(",")).into(),
        }
    }

    fn foreign(first: i64, last: i64, at: u64) -> Said {
        let event = "processed".to_owned();
        Said {
            event,
            at,
            partition: 0,
            first,
            last,
        }
    }

    #[test]
    fn deliveries_in_order_are_sound_over_gaps() {
        let verdict =
            expected(&[0, 1, 5, 6]).judge(&[call(&[0, 1, 5], 1, 2), call(&[6], 3, 4)], &[]);
        verdict.assert_sound();
        assert_eq!((verdict.delivered, verdict.records_again()), (4, 0));
        assert_eq!(verdict.next_offset[&0], 7);
    }

    #[test]
    fn a_record_that_nobody_got_is_lost() {
        let verdict = expected(&[0, 1]).judge(&[call(&[0], 1, 2)], &[]);
        assert_eq!(verdict.lost, 1);
    }

    #[test]
    fn what_other_logs_held_is_not_missing_and_what_a_cut_call_held_is() {
        let mut cut = call(&[1], 3, 4);
        cut.answered = false;
        let calls = [call(&[0, 7], 1, 2), cut];
        assert_eq!(expected(&[0, 1]).missing(&calls), 1);
    }

    #[test]
    fn a_call_that_was_cut_off_processed_nothing() {
        let mut cut = call(&[0], 1, 2);
        cut.answered = false;
        assert_eq!(expected(&[0]).judge(&[cut], &[]).lost, 1);
    }

    #[test]
    fn a_start_above_the_next_record_is_out_of_order() {
        let verdict = expected(&[0, 1, 2]).judge(&[call(&[1, 2], 1, 2), call(&[0], 3, 4)], &[]);
        assert_eq!(verdict.out_of_order.len(), 1);
        assert_eq!(verdict.lost, 0);
    }

    #[test]
    fn a_skip_inside_a_call_is_out_of_order() {
        let verdict = expected(&[0, 1, 2]).judge(&[call(&[0, 2], 1, 2)], &[]);
        assert_eq!(verdict.out_of_order.len(), 1);
    }

    #[test]
    fn two_open_calls_for_a_partition_are_found() {
        let verdict = expected(&[0, 1]).judge(&[call(&[0], 1, 4), call(&[1], 3, 5)], &[]);
        assert_eq!(verdict.open_at_once.len(), 1);
    }

    #[test]
    fn a_redelivery_names_the_call_before() {
        let mut again = call(&[0, 1], 5, 6);
        again.port = 2;
        let verdict = expected(&[0, 1]).judge(&[call(&[0, 1], 1, 2), again], &[]);
        assert_eq!(verdict.records_again(), 2);
        let again = &verdict.again[0];
        assert_eq!((again.before_closed, again.before_port), (Some(2), Some(1)));
        assert_eq!((again.opened, again.port), (5, 2));
    }

    #[test]
    fn what_a_foreign_member_processed_counts_and_lets_the_next_call_start_after_it() {
        let verdict = expected(&[0, 1, 2]).judge(&[call(&[2], 5_000, 6_000)], &[foreign(0, 1, 1)]);
        verdict.assert_sound();
    }

    #[test]
    fn a_changed_record_is_wrong() {
        let mut changed = call(&[0], 1, 2);
        let text = String::from_utf8(changed.body.to_vec()).unwrap();
        changed.body = text.replace("\"timestamp\":1", "\"timestamp\":2").into();
        assert_eq!(expected(&[0]).judge(&[changed], &[]).wrong.len(), 1);
    }
}
