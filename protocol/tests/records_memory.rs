//! How much memory reading records takes: none per record, and a bounded amount for hostile sets.
//!
//! A binary of its own, because it counts what its global allocator is asked for.
#![expect(clippy::unwrap_used, reason = "tests only")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use forebay_protocol::kafka::records::{Decompressor, RecordError, RecordReader, scan};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    LARGEST.set(LARGEST.get().max(bytes));
}

#[expect(
    unsafe_code,
    reason = "a global allocator is unsafe to write; this one only counts"
)]
// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn record(offset: i64) -> Record {
    let mut headers = IndexMap::new();
    headers.insert(
        StrBytes::from_static_str("header"),
        Some(Bytes::from_static(b"value")),
    );
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset.try_into().unwrap(),
        timestamp: 1_700_000_000_000 + offset,
        key: Some(Bytes::from(offset.to_string())),
        value: Some(Bytes::from(format!("{offset}").repeat(20))),
        headers,
    }
}

/// `batches` batches of `records` records each.
fn set(compression: Compression, batches: i64, records: i64) -> Bytes {
    let mut set = BytesMut::new();
    for batch in 0..batches {
        let first = batch * records;
        let records: Vec<Record> = (first..first + records).map(record).collect();
        let options = RecordEncodeOptions {
            version: 2,
            compression,
        };
        RecordBatchEncoder::encode(&mut set, &records, &options).unwrap();
    }
    set.freeze()
}

/// One batch whose payload is `payload`, whatever its records are.
fn forged(compression: Compression, payload: &[u8]) -> Bytes {
    let mut set = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    RecordBatchEncoder::encode_with_custom_compression(
        &mut set,
        &[record(0)],
        &options,
        Some(|_: &mut BytesMut, out: &mut BytesMut, _: Compression| {
            out.extend_from_slice(payload);
            Ok(())
        }),
    )
    .unwrap();
    set.freeze()
}

/// Reads `set` to its end; gives the records, and what was asked of the allocator on the way.
fn read(set: &Bytes, decompressor: &mut Decompressor) -> (usize, usize) {
    let set = set.clone();
    let before = CALLS.get();
    scan(&set).unwrap();
    let mut reader = RecordReader::new(set, 0, Vec::new(), true);
    let mut records = 0;
    while let Some(record) = reader.next(decompressor).unwrap() {
        records += record.headers.iter().count();
    }
    drop(reader);
    (records, CALLS.get() - before)
}

#[test]
fn nothing_is_allocated_per_record_or_batch() {
    for codec in CODECS {
        let mut decompressor = Decompressor::new();
        let large = set(codec, 20, 1_000);
        let (records, _) = read(&large, &mut decompressor);
        assert_eq!(records, 20_000);
        for (batches, records) in [(1, 10), (1, 1_000), (20, 1_000)] {
            let set = set(codec, batches, records);
            let (_, calls) = read(&set, &mut decompressor);
            assert_eq!(calls, 0, "{codec:?}, {batches} batches of {records}");
        }
    }
}

#[test]
fn bombs_never_ask_for_more_than_the_limit() {
    const LIMIT: usize = 1 << 20;
    let zeros = vec![0; 64 << 20];
    let gzip = {
        let fast = flate2::Compression::fast();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), fast);
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::bulk::compress(&zeros, 1).unwrap();
    let streamed = zstd::stream::encode_all(&zeros[..], 1).unwrap();
    // Sixteen in a row are 1 GiB.
    for (codec, payload) in [
        (Compression::Gzip, gzip.repeat(16)),
        (Compression::Zstd, zstd.repeat(16)),
        (Compression::Zstd, streamed.repeat(16)),
        (Compression::Snappy, b"\xff\xff\xff\xff\x0f\0a".to_vec()),
    ] {
        let set = forged(codec, &payload);
        let mut decompressor = Decompressor::with_limit(LIMIT);
        let mut reader = RecordReader::new(set, 0, Vec::new(), true);
        LARGEST.set(0);
        let error = reader.next(&mut decompressor).unwrap_err();
        assert!(LARGEST.get() <= LIMIT, "{codec:?}: {}", LARGEST.get());
        match codec {
            Compression::Snappy => assert!(matches!(error, RecordError::Corrupt { .. })),
            _ => assert!(matches!(error, RecordError::TooLarge { .. })),
        }
    }
}
