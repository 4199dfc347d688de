//! Any bytes as a fetched record set. The first byte says how it is read: bit 0 with read_committed, bit 1
//! with its checksums made right first (else hardly anything gets past them), the rest the fetch offset.
#![no_main]

use bytes::Bytes;
use forebay_protocol::kafka::messages::AbortedTransaction;
use forebay_protocol::kafka::records::{Decompressor, RecordReader, scan};
use libfuzzer_sys::fuzz_target;

const LIMIT_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [how, rest @ ..] = input else {
        return;
    };
    let read_committed = how & 1 != 0;
    let fetch_offset = i64::from(how >> 2);
    let mut set = rest.to_vec();
    if how & 2 != 0 {
        repair(&mut set);
    }
    let set = Bytes::from(set);
    let aborted = [0, 2, 5].map(|offset| AbortedTransaction {
        producer_id: offset % 3,
        first_offset: offset,
    });

    let forecast = scan(&set);
    let mut decompressor = Decompressor::with_limit(LIMIT_BYTES);
    let mut reader = RecordReader::new(set, fetch_offset, aborted.to_vec(), read_committed);
    let mut last_offset = fetch_offset - 1;
    let error = loop {
        let record = match reader.next(&mut decompressor) {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        assert!(record.offset > last_offset, "offsets ascend");
        last_offset = record.offset;
        let place = (
            record.offset,
            record.timestamp,
            record.key.map(<[u8]>::as_ptr),
        );
        assert_eq!(record.headers.iter().count(), record.headers.len());
        assert_eq!(reader.next_offset(), last_offset + 1);
        reader.unread();
        let again = reader.next(&mut decompressor).expect("it was there");
        let again = again.expect("it was there");
        assert_eq!(
            (again.offset, again.timestamp, again.key.map(<[u8]>::as_ptr)),
            place
        );
    };
    assert!(reader.next_offset() > last_offset);
    if error.is_some() {
        assert_eq!(
            reader.next(&mut decompressor).err(),
            error,
            "an error comes again"
        );
        return;
    }
    // What the headers foretell is where the reader ends.
    let forecast = forecast.expect("what reads to its end has headers that make sense");
    let next_offset = forecast
        .next_offset
        .unwrap_or(fetch_offset)
        .max(fetch_offset);
    assert_eq!(reader.next_offset(), next_offset);
    assert_eq!(reader.remaining_bytes(), 0);
});

/// Makes the checksum of every whole entry right.
fn repair(mut set: &mut [u8]) {
    while let Some(length) = set.get(8..12) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let end = 12 + length as usize;
        if end > set.len() || end < 22 {
            return;
        }
        let (entry, rest) = set.split_at_mut(end);
        match entry[16] {
            0 | 1 => {
                let checksum = crc32fast::hash(&entry[16..]);
                entry[12..16].copy_from_slice(&checksum.to_be_bytes());
            }
            _ => {
                let checksum = crc32c::crc32c(&entry[21..]);
                entry[17..21].copy_from_slice(&checksum.to_be_bytes());
            }
        }
        set = rest;
    }
}
