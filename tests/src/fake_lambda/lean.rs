//! The quick look at an event: counts, order and latency without taking it apart.
//!
//! Reads AWS's exact text from member to member; record values are skipped by their closing quote.
//! A record whose value begins with [`stamp`] tells when it was made.
//!
//! Invariant: what does not read as an event is counted as malformed, and never as a record.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Bytes of a record's value that hold its time.
pub const STAMP_BYTES: usize = 9;

/// Counts over all calls.
#[derive(Clone, Debug)]
pub struct Lean {
    /// Records.
    pub records: u64,
    /// Bytes of bodies.
    pub body_bytes: u64,
    /// Calls.
    pub calls: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Records before which one was missing.
    pub gaps: u64,
    /// Bodies that were no event.
    pub malformed: u64,
    /// When the first call came, on the clock of the stamps.
    pub first: Option<u64>,
    /// From a record's stamp to its arrival, in microseconds.
    pub latency: Histogram<u64>,
    /// The offset that comes next, by partition key.
    next: BTreeMap<Vec<u8>, i64>,
}

impl Default for Lean {
    fn default() -> Self {
        Self::new()
    }
}

impl Lean {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            records: 0,
            body_bytes: 0,
            calls: 0,
            duplicates: 0,
            gaps: 0,
            malformed: 0,
            first: None,
            latency: Histogram::new(3).expect("three digits are allowed"),
            next: BTreeMap::new(),
        }
    }

    /// Whether every record came once and in order so far.
    pub fn is_clean(&self) -> bool {
        self.duplicates == 0 && self.is_in_order()
    }

    /// Whether every record came in order so far, once or more often.
    pub fn is_in_order(&self) -> bool {
        self.gaps == 0 && self.malformed == 0
    }

    /// Takes one body; `now` in microseconds on the clock of the stamps.
    pub fn take(&mut self, body: &[u8], now: u64) {
        self.calls += 1;
        self.first.get_or_insert(now);
        self.body_bytes += body.len() as u64;
        let before = self.records;
        if self.scan(body, now).is_none() || self.records == before {
            self.malformed += 1;
        }
    }

    /// The latencies since the last time this was asked.
    pub fn take_latency(&mut self) -> Histogram<u64> {
        let taken = self.latency.clone();
        self.latency.reset();
        taken
    }

    fn scan(&mut self, body: &[u8], now: u64) -> Option<()> {
        let mut at = Cursor { body, at: 0 };
        at.expect(br#"{"eventSource":"SelfManagedKafka","bootstrapServers":""#)?;
        at.string()?;
        at.expect(br#","records":{"#)?;
        loop {
            at.expect(b"\"")?;
            let lane = at.string()?;
            at.expect(b":[")?;
            let mut next = self.next.get(lane).copied();
            loop {
                let (offset, made) = at.record()?;
                self.records += 1;
                match next {
                    Some(next) if offset < next => self.duplicates += 1,
                    Some(next) if offset > next => self.gaps += 1,
                    _ => {}
                }
                next = Some(next.map_or(offset + 1, |next| next.max(offset + 1)));
                if let Some(made) = made {
                    // A value outside the histogram's range cannot be: it has none.
                    self.latency.record(now.saturating_sub(made)).ok();
                }
                if !at.skip(b',') {
                    break;
                }
            }
            at.expect(b"]")?;
            if let Some(known) = self.next.get_mut(lane) {
                *known = next.unwrap_or(*known);
            } else {
                self.next.insert(lane.to_vec(), next.unwrap_or_default());
            }
            if !at.skip(b',') {
                break;
            }
        }
        at.expect(b"}}")
    }
}

/// The first bytes of a value that say when it was made: base64 turns each three into four.
pub fn stamp(micros: u64) -> [u8; STAMP_BYTES] {
    let mut stamp = [0x5a; STAMP_BYTES];
    stamp[1..].copy_from_slice(&micros.to_be_bytes());
    stamp
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn expect(&mut self, text: &[u8]) -> Option<()> {
        self.body.get(self.at..)?.starts_with(text).then_some(())?;
        self.at += text.len();
        Some(())
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.body.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// The rest of a string without escapes, up to its closing quote.
    fn string(&mut self) -> Option<&'a [u8]> {
        let rest = self.body.get(self.at..)?;
        let length = memchr::memchr(b'"', rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    fn number(&mut self) -> Option<i64> {
        let negative = self.skip(b'-');
        let mut value: i64 = 0;
        let from = self.at;
        while let Some(digit) = self.body.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            value = value
                .checked_mul(10)?
                .checked_add(i64::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > from).then_some(if negative { -value } else { value })
    }

    /// One record: its offset, and its stamp where it has one.
    fn record(&mut self) -> Option<(i64, Option<u64>)> {
        self.expect(br#"{"topic":""#)?;
        self.string()?;
        self.expect(br#","partition":"#)?;
        self.number()?;
        self.expect(br#","offset":"#)?;
        let offset = self.number()?;
        self.expect(br#","timestamp":"#)?;
        self.number()?;
        self.expect(br#","timestampType":""#)?;
        self.string()?;
        let mut made = None;
        if self.expect(br#","key":""#).is_some() {
            self.string()?;
        }
        if self.expect(br#","value":""#).is_some() {
            made = read_stamp(self.string()?);
        }
        self.expect(br#","headers":["#)?;
        if self.skip(b']') {
            self.expect(b"}")?;
            return Some((offset, made));
        }
        // Headers' names may hold escapes: the text that ends the list cannot stand inside a name.
        let rest = self.body.get(self.at..)?;
        let end = memchr::memmem::find(rest, b"]}]}")?;
        self.at += end + 4;
        Some((offset, made))
    }
}

fn read_stamp(value: &[u8]) -> Option<u64> {
    let mut stamp = [0; STAMP_BYTES];
    let text = value.get(..STAMP_BYTES / 3 * 4)?;
    let decoded = base64_simd::STANDARD.decode(text, base64_simd::Out::from_slice(&mut stamp));
    let decoded: &[u8] = decoded.ok()?;
    let (mark, micros) = decoded.split_first()?;
    (*mark == 0x5a).then(|| micros.try_into().map(u64::from_be_bytes).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(lane: &str, offsets: &[i64], value: &str) -> Vec<u8> {
        let records: Vec<_> = offsets
            .iter()
            .map(|offset| {
                format!(
                    r#"{{"topic":"t","partition":0,"offset":{offset},"timestamp":1,"timestampType":"CREATE_TIME","value":"{value}","headers":[]}}"#
                )
            })
            .collect();
        let records = records.join(",");
        format!(
            r#"{{"eventSource":"SelfManagedKafka","bootstrapServers":"b:1","records":{{"{lane}":[{records}]}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn order_is_watched_over_calls() {
        let mut lean = Lean::new();
        lean.take(&event("t-0", &[0, 1], ""), 0);
        lean.take(&event("t-0", &[2], ""), 0);
        assert_eq!((lean.records, lean.is_clean()), (3, true));
        lean.take(&event("t-0", &[2, 4], ""), 0);
        assert_eq!((lean.duplicates, lean.gaps), (1, 1));
        assert!(!lean.is_in_order());
        lean.take(b"{}", 0);
        assert_eq!(lean.malformed, 1);
    }

    #[test]
    fn stamp_tells_the_latency() {
        let mut lean = Lean::new();
        let value = base64_simd::STANDARD.encode_to_string([&stamp(1_000)[..], b"tail"].concat());
        lean.take(&event("t-0", &[0], &value), 1_250);
        lean.take(&event("t-0", &[1], &value), 1_350);
        assert_eq!((lean.latency.max(), lean.first), (350, Some(1_250)));
    }
}
