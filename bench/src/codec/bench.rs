//! One case: a fetched record set to a hashed event, with a recycled buffer, as a lane does it.

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::kafka::records::{Decompressor, RecordReader};
use forebay_protocol::lambda::event::{Buffer, EventShape, Fragment, Push, Sealed, frame_event};
use forebay_protocol::limits;
use forebay_protocol::sigv4::{PayloadDigest, PayloadHash};

use super::{Case, Content, Round, Way};
use crate::{cpu, sample};

/// Bodies, or pairs of them, per measurement, so that it is long against the clock's steps.
const REPEATS: u32 = 3;

/// A case with all that it reuses from round to round.
pub(super) struct Bench {
    case: Case,
    set: Bytes,
    shape: EventShape,
    decompressor: Decompressor,
    buffers: Vec<Buffer>,
    body: Bytes,
    records: usize,
}

impl Bench {
    pub(super) fn new(case: Case) -> Result<Self, String> {
        let most = (limits::BODY_BYTES_LIMIT / case.value_bytes.max(1)).max(1);
        let records = most.min(limits::BATCH_SIZE_MAX as usize);
        let mut bench = Self {
            case,
            set: sample::record_set(records, case.value_bytes, case.source)?,
            shape: EventShape::new("k1.example.net:9092,k2.example.net:9092", "orders"),
            decompressor: Decompressor::new(),
            buffers: Vec::new(),
            body: Bytes::new(),
            records: 0,
        };
        let sealed = bench.encode()?;
        bench.records = sealed.records().len();
        bench.body = Bytes::copy_from_slice(&sealed.body());
        bench.recycle(sealed);
        Ok(bench)
    }

    pub(super) fn content(&self) -> Content {
        Content {
            records: self.records,
            body_bytes: self.body.len(),
        }
    }

    /// Decodes the set into an event, until that is full.
    fn encode(&mut self) -> Result<Sealed, String> {
        let mut reader = RecordReader::new(self.set.clone(), 0, Vec::new(), true);
        let buffer = self.buffers.pop().unwrap_or_default();
        let mut fragment = Fragment::new(&self.shape, 0, buffer);
        if self.case.way == Way::Alone {
            fragment.hash_along();
        }
        while let Some(record) = reader
            .next(&mut self.decompressor)
            .map_err(|error| error.to_string())?
        {
            match fragment.push(&record, limits::BODY_BYTES_LIMIT) {
                Push::Appended => {}
                Push::Full => break,
                Push::Oversized { .. } => return Err("a sample fits no body".to_owned()),
            }
        }
        reader.close(&mut self.decompressor);
        Ok(fragment.seal())
    }

    /// Hashes as a shard does what was not hashed along: the framed events, in bounded steps, two beside
    /// each other.
    fn hash(&self, sealed: &[Sealed]) {
        let mut hashes = sealed.iter().filter_map(|sealed| {
            let all = 0..sealed.records().len();
            if let Some(digest) = sealed.digest(&all) {
                std::hint::black_box(digest);
                return None;
            }
            let pieces = frame_event(&self.shape, &[(sealed, all)]);
            Some(PayloadHash::new(pieces))
        });
        while let Some(mut first) = hashes.next() {
            if let Some(mut second) = hashes.next() {
                while !first.is_done() && !second.is_done() {
                    let mut budget = limits::TURN_BYTES;
                    PayloadHash::step_two(&mut first, &mut second, &mut budget);
                }
                std::hint::black_box(finish(second));
            }
            std::hint::black_box(finish(first));
        }
    }

    fn recycle(&mut self, sealed: Sealed) {
        self.buffers.extend(sealed.into_buffer());
    }

    pub(super) fn round(&mut self) -> Result<Round, String> {
        let mut failed = None;
        let bodies = self.case.bodies();
        let codec = cpu::time(|| {
            for _ in 0..REPEATS {
                let sealed: Result<Vec<Sealed>, String> =
                    (0..bodies).map(|_| self.encode()).collect();
                match sealed {
                    Ok(sealed) => {
                        self.hash(&sealed);
                        sealed.into_iter().for_each(|sealed| self.recycle(sealed));
                    }
                    Err(error) => failed = Some(error),
                }
            }
        });
        let hash = cpu::time(|| {
            for _ in 0..REPEATS as usize * bodies {
                let body = std::hint::black_box(&self.body[..]);
                std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, body));
            }
        });
        let per_body = |time: Duration| time.div_f64(f64::from(REPEATS) * bodies as f64);
        match failed {
            Some(error) => Err(error),
            None => Ok(Round {
                codec: per_body(codec),
                hash: per_body(hash),
            }),
        }
    }
}

/// In the same steps.
fn finish(mut hash: PayloadHash) -> PayloadDigest {
    while !hash.is_done() {
        let mut budget = limits::TURN_BYTES;
        hash.step(&mut budget);
    }
    hash.finish()
}
