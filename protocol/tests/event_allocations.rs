//! The path from a fetched record set to a signed call allocates nothing per record.
//!
//! A binary of its own, because it counts what its global allocator is asked for.
#![expect(clippy::unwrap_used, reason = "tests only")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use forebay_protocol::http::RequestHead;
use forebay_protocol::kafka::records::{Decompressor, RecordReader};
use forebay_protocol::lambda::event::{Buffer, EventShape, Fragment, Push, frame_event};
use forebay_protocol::limits::BODY_BYTES_LIMIT;
use forebay_protocol::sigv4::{Credentials, PayloadHash, Request, Signer};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[expect(
    unsafe_code,
    reason = "a global allocator is unsafe to write; this one only counts"
)]
// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A set of `count` records in batches of a hundred at most.
fn record_set(count: i64) -> Bytes {
    let records: Vec<Record> = (0..count)
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: offset.try_into().unwrap(),
            timestamp: 1_700_000_000_000 + offset * 7,
            key: Some(Bytes::from(offset.to_string())),
            value: Some(Bytes::from("value".repeat(20))),
            headers: IndexMap::from([(
                StrBytes::from_static_str("header"),
                Some(Bytes::from_static(b"value")),
            )]),
        })
        .collect();
    let mut set = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    for batch in records.chunks(100) {
        RecordBatchEncoder::encode(&mut set, batch, &options).unwrap();
    }
    set.freeze()
}

/// What one lane and one call use again and again.
struct Warm {
    shape: EventShape,
    decompressor: Decompressor,
    buffer: Buffer,
    signer: Signer,
    head: Vec<u8>,
}

impl Warm {
    /// From a fetched set to a signed head; gives the records, and how often memory was asked for.
    fn call(&mut self, set: &Bytes) -> (usize, usize) {
        let set = set.clone();
        let before = CALLS.get();
        let mut reader = RecordReader::new(set, 0, Vec::new(), true);
        let mut fragment = Fragment::new(&self.shape, 0, std::mem::take(&mut self.buffer));
        while let Some(record) = reader.next(&mut self.decompressor).unwrap() {
            assert_eq!(fragment.push(&record, BODY_BYTES_LIMIT), Push::Appended);
        }
        let sealed = fragment.seal();
        let records = sealed.records().len();
        let pieces = frame_event(&self.shape, &[(&sealed, 0..records)]);
        let hash = PayloadHash::new(pieces);
        let request = Request {
            host: "localhost:9001",
            path: "/2015-03-31/functions/orders/invocations",
            query: "",
            payload: &hash.finish(),
        };
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE",
            secret_access_key: "secret",
            session_token: Some("token"),
        };
        let signature = self.signer.sign(&request, &credentials, 1_700_000_000);
        let mut head = RequestHead::post(&mut self.head, request.path, request.query, request.host);
        for (name, value) in signature.headers() {
            head.header(name, value);
        }
        head.content_length(sealed.body().len());
        head.finish().unwrap();
        self.buffer = sealed.into_buffer().unwrap();
        (records, CALLS.get() - before)
    }
}

#[test]
fn a_call_of_ten_records_allocates_as_often_as_one_of_ten_thousand() {
    let (small, large) = (record_set(10), record_set(10_000));
    let mut warm = Warm {
        shape: EventShape::new("k1:9092,k2:9092", "orders"),
        decompressor: Decompressor::new(),
        buffer: Buffer::default(),
        signer: Signer::new("eu-central-1"),
        head: Vec::new(),
    };
    warm.call(&large);
    let (ten, of_ten) = warm.call(&small);
    let (ten_thousand, of_ten_thousand) = warm.call(&large);
    assert_eq!((ten, ten_thousand), (10, 10_000));
    assert_eq!(of_ten, of_ten_thousand);
    assert!(of_ten < 30, "{of_ten} allocations for a call");
}
