//! Message sets of formats v0 and v1: messages, wrappers, and all that can be wrong with them.

use bytes::Bytes;
use lz4::{BlockMode, ContentChecksum};

use super::compress::{FLAVOURS, lz4, zstd_streamed};
use super::encode::{TestBatch, TestMessage, TestRecord};
use super::{Decompressor, RecordError, RecordReader, TimestampType, compress, scan};

type Read = (i64, i64, TimestampType, Option<Vec<u8>>, Option<Vec<u8>>);

fn drain(set: Vec<u8>, fetch_offset: i64) -> (Vec<Read>, i64, Option<RecordError>) {
    let mut decompressor = Decompressor::with_limit(1 << 20);
    let mut reader = RecordReader::new(Bytes::from(set), fetch_offset, Vec::new(), true);
    let mut records = Vec::new();
    let error = loop {
        match reader.next(&mut decompressor) {
            Ok(Some(record)) => {
                assert!(record.headers.is_empty());
                let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                records.push((
                    record.offset,
                    record.timestamp,
                    record.timestamp_type,
                    bytes(record.key),
                    bytes(record.value),
                ));
                reader.unread();
                assert!(reader.next(&mut decompressor).unwrap().is_some());
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (records, reader.next_offset(), error)
}

fn offsets(records: &[Read]) -> Vec<i64> {
    records.iter().map(|record| record.0).collect()
}

#[track_caller]
fn check_corrupt(set: Vec<u8>, expected: &str) {
    let (records, _, error) = drain(set, 0);
    assert!(records.is_empty());
    let text = error.expect("an error").to_string();
    assert!(text.ends_with(expected), "{text}");
}

/// Messages with the given offsets, whose values are their places.
fn messages(magic: u8, offsets: &[i64]) -> Vec<TestMessage> {
    offsets
        .iter()
        .enumerate()
        .map(|(place, &offset)| TestMessage::new(magic, offset, place.to_string().as_bytes()))
        .collect()
}

fn set_of(messages: &[TestMessage]) -> Vec<u8> {
    messages.iter().flat_map(TestMessage::encode).collect()
}

/// A gzip wrapper at `offset` around messages with `inner` offsets.
fn wrapper(magic: u8, offset: i64, inner: &[i64]) -> TestMessage {
    TestMessage {
        attributes: 1,
        ..TestMessage::new(
            magic,
            offset,
            &compress::gzip(&set_of(&messages(magic, inner))),
        )
    }
}

#[test]
fn messages_of_v0_have_no_timestamp() {
    let mut set = messages(0, &[3, 4, 9]);
    set[0].key = Some(b"key".to_vec());
    set[1].value = None;
    set[2].value = Some(Vec::new());
    let none = TimestampType::NoTimestamp;
    let expected = vec![
        (3, -1, none, Some(b"key".to_vec()), Some(b"0".to_vec())),
        (4, -1, none, None, None),
        (9, -1, none, None, Some(Vec::new())),
    ];
    assert_eq!(drain(set_of(&set), 0), (expected, 10, None));
}

#[test]
fn messages_of_v1_have_the_producers_time_or_the_brokers() {
    let mut set = messages(1, &[3, 4]);
    set[1].attributes = 0x08;
    let (records, next_offset, error) = drain(set_of(&set), 0);
    assert_eq!((next_offset, error), (5, None));
    assert_eq!(records[0].1, 1_500_000_000_003);
    assert_eq!(records[0].2, TimestampType::CreateTime);
    assert_eq!(records[1].1, 1_500_000_000_004);
    assert_eq!(records[1].2, TimestampType::LogAppendTime);
}

#[test]
fn wrappers_of_v0_hold_the_partitions_offsets() {
    let set = [wrapper(0, 7, &[5, 6, 7]), wrapper(0, 12, &[10, 12])];
    let (records, next_offset, error) = drain(set_of(&set), 0);
    assert_eq!(offsets(&records), [5, 6, 7, 10, 12]);
    assert_eq!((next_offset, error), (13, None));
    let (records, ..) = drain(set_of(&set), 7);
    assert_eq!(offsets(&records), [7, 10, 12]);
    let (records, next_offset, _) = drain(set_of(&set), 13);
    assert_eq!((offsets(&records), next_offset), (vec![], 13));
}

#[test]
fn wrappers_of_v1_hold_relative_offsets() {
    let set = [wrapper(1, 7, &[0, 1, 2]), wrapper(1, 12, &[0, 2])];
    let (records, next_offset, error) = drain(set_of(&set), 0);
    assert_eq!(offsets(&records), [5, 6, 7, 10, 12]);
    assert_eq!((next_offset, error), (13, None));
    assert_eq!(records[1].4, Some(b"1".to_vec()));
    let (records, ..) = drain(set_of(&set), 6);
    assert_eq!(offsets(&records), [6, 7, 10, 12]);
}

#[test]
fn absolute_offsets_in_a_wrapper_of_v1_stay_what_they_are() {
    let (records, ..) = drain(wrapper(1, 7, &[5, 6, 7]).encode(), 0);
    assert_eq!(offsets(&records), [5, 6, 7]);
}

#[test]
fn a_wrapper_with_the_brokers_time_has_it_for_all_its_messages() {
    let set = TestMessage {
        attributes: 0x09,
        timestamp: 88,
        ..wrapper(1, 7, &[0, 1])
    };
    let (records, ..) = drain(set.encode(), 0);
    for record in records {
        assert_eq!((record.1, record.2), (88, TimestampType::LogAppendTime));
    }
    let (records, ..) = drain(wrapper(1, 7, &[0, 1]).encode(), 0);
    assert_eq!(records[1].1, 1_500_000_000_001);
    assert_eq!(records[1].2, TimestampType::CreateTime);
}

#[test]
fn wrappers_come_in_every_codec_of_their_time() {
    for magic in [0, 1] {
        for (name, number, compress) in FLAVOURS {
            let inner = set_of(&messages(magic, &[0, 1, 2]));
            let set = TestMessage {
                attributes: number.try_into().unwrap(),
                ..TestMessage::new(magic, 2, &compress(&inner))
            };
            let (records, _, error) = drain(set.encode(), 0);
            if number == 4 {
                let expected = RecordError::UnsupportedCodec {
                    offset: 0,
                    codec: 4,
                };
                assert_eq!(error, Some(expected), "zstd came with format v2");
            } else {
                assert_eq!(error, None, "{name}");
                assert_eq!(offsets(&records), [0, 1, 2], "{name}");
            }
        }
    }
}

#[test]
fn lz4_with_any_header_checksum_is_read() {
    let inner = set_of(&messages(0, &[0, 1, 2]));
    let frame = lz4(&inner, BlockMode::Independent, ContentChecksum::NoChecksum);
    for checksum in [frame[6], 0, 0xff, frame[6].wrapping_add(1)] {
        let mut frame = frame.clone();
        frame[6] = checksum;
        let set = TestMessage {
            attributes: 3,
            ..TestMessage::new(0, 2, &frame)
        };
        let (records, _, error) = drain(set.encode(), 0);
        assert_eq!((offsets(&records), error), (vec![0, 1, 2], None));
    }
}

/// As brokers gave them: see `tests/vectors/records/README.md`.
#[test]
fn message_sets_of_brokers_are_read() {
    use TimestampType::{CreateTime, LogAppendTime, NoTimestamp};
    for (name, timestamps, count) in [
        ("0.10.1.0-v0", NoTimestamp, 12),
        ("0.10.1.0-v1", CreateTime, 12),
        ("0.10.1.0-v1-append-time", LogAppendTime, 12),
        ("2.8.2-v0", NoTimestamp, 12),
        ("2.8.2-v1", CreateTime, 12),
        // What is converted down must not take more room than what it is made of (KIP-283): the last does not fit.
        ("2.8.2-v1-append-time", LogAppendTime, 9),
    ] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/records");
        let set = std::fs::read(format!("{folder}/{name}")).unwrap();
        let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40];
        let at = set.windows(header.len()).position(|seen| seen == header);
        let at = at.expect("an lz4 frame");
        let checksum = if timestamps == NoTimestamp {
            0x1a
        } else {
            0x82
        };
        assert_eq!(
            set[at + header.len()],
            checksum,
            "{name}: of the lz4 frame's header"
        );
        let (records, next_offset, error) = drain(set, 0);
        assert_eq!((next_offset, error), (count, None), "{name}");
        let all = ["none", "gzip", "snappy", "lz4"].into_iter();
        let all = all.flat_map(|codec| (0..3).map(move |place| (codec, place)));
        for (offset, (record, (codec, place))) in (0..).zip(records.iter().zip(all)) {
            assert_eq!((record.0, record.2), (offset, timestamps), "{name}");
            let has_time = record.1 > 1_700_000_000_000;
            let time_fits = has_time || (record.1 == -1 && timestamps == NoTimestamp);
            assert!(time_fits, "{name}: {}", record.1);
            assert_eq!(record.3.as_deref(), Some(codec.as_bytes()), "{name}");
            let value = format!("{codec} {place} {}", "again ".repeat(10));
            assert_eq!(record.4.as_deref(), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(i64::try_from(records.len()), Ok(count), "{name}");
    }
}

#[test]
fn formats_may_follow_one_another_in_a_set() {
    let set = [
        TestMessage::new(0, 0, b"v0").encode(),
        wrapper(1, 3, &[0, 1]).encode(),
        TestBatch::new(&[TestRecord::new(4, b"v2")]).encode(),
        TestMessage::new(1, 5, b"v1").encode(),
    ]
    .concat();
    let scanned = scan(&Bytes::from(set.clone())).unwrap();
    assert_eq!((scanned.batches, scanned.next_offset), (4, Some(6)));
    assert_eq!(scanned.leader_epoch, -1);
    let mut reader = RecordReader::new(Bytes::from(set), 0, Vec::new(), true);
    let mut epochs = Vec::new();
    while let Some(record) = reader.next(&mut Decompressor::new()).unwrap() {
        let offset = record.offset;
        epochs.push((offset, reader.leader_epoch()));
    }
    assert_eq!(epochs, [(0, -1), (2, -1), (3, -1), (4, 3), (5, -1)]);
}

#[test]
fn every_cut_ends_at_the_last_whole_message() {
    let first = wrapper(1, 2, &[0, 1, 2]).encode();
    let set = [first.clone(), TestMessage::new(0, 3, b"").encode()].concat();
    for cut in 0..=set.len() {
        let expected: &[i64] = match cut {
            _ if cut == set.len() => &[0, 1, 2, 3],
            _ if cut >= first.len() => &[0, 1, 2],
            _ => &[],
        };
        let (records, _, error) = drain(set[..cut].to_vec(), 0);
        assert_eq!((offsets(&records).as_slice(), error), (expected, None));
    }
}

#[test]
fn every_flipped_bit_under_the_checksum_is_found() {
    for magic in [0, 1] {
        let set = TestMessage::new(magic, 0, b"value").encode();
        for at in 12..set.len() {
            for bit in 0..8 {
                let mut flipped = set.clone();
                flipped[at] ^= 1 << bit;
                let (records, _, error) = drain(flipped, 0);
                assert!(records.is_empty());
                // A flipped magic may name a format that does not exist, or one with another checksum.
                assert!(error.is_some(), "{at}");
            }
        }
    }
}

#[test]
fn wrappers_that_make_no_sense_are_corrupt() {
    let gzip = |inner: Vec<u8>| {
        TestMessage {
            attributes: 1,
            ..TestMessage::new(1, 9, &compress::gzip(&inner))
        }
        .encode()
    };
    check_corrupt(
        gzip(wrapper(1, 0, &[0]).encode()),
        "a compressed message is a wrapper itself",
    );
    check_corrupt(
        gzip(TestMessage::new(0, 0, b"").encode()),
        "a compressed message has another format than its wrapper",
    );
    let cut = set_of(&messages(1, &[0, 1]));
    check_corrupt(
        gzip(cut[..cut.len() - 1].to_vec()),
        "a compressed message does not decode",
    );
    check_corrupt(
        TestMessage {
            value: None,
            ..wrapper(1, 0, &[0])
        }
        .encode(),
        "it is a wrapper of nothing",
    );
    check_corrupt(
        wrapper(1, 9, &[0, i64::MIN]).encode(),
        "a compressed message's offset makes no sense",
    );
    check_corrupt(
        TestMessage {
            attributes: 1,
            ..TestMessage::new(1, 9, &zstd_streamed(b"x"))
        }
        .encode(),
        "its gzip header does not decode",
    );
}

#[test]
fn offsets_that_do_not_ascend_are_corrupt() {
    for set in [wrapper(0, 7, &[5, 6, 6]), wrapper(0, 7, &[5, 6, 8])] {
        let (records, _, error) = drain(set.encode(), 0);
        assert_eq!(offsets(&records), [5, 6]);
        let text = error.unwrap().to_string();
        assert!(
            text.ends_with("its records' offsets do not ascend"),
            "{text}"
        );
    }
    let (records, _, error) = drain(set_of(&messages(1, &[5, 6, 6])), 0);
    assert_eq!(offsets(&records), [5, 6]);
    let text = error.unwrap().to_string();
    assert!(
        text.ends_with("its offsets overlap those before it"),
        "{text}"
    );
}

#[test]
fn offsets_without_a_successor_are_corrupt() {
    for offset in [i64::MAX, -1, i64::MIN] {
        check_corrupt(
            TestMessage::new(1, offset, b"").encode(),
            "its offset is negative, or has none after it",
        );
    }
    let set = wrapper(0, i64::MAX - 1, &[i64::MAX - 1, i64::MAX]).encode();
    let (records, next_offset, error) = drain(set, 0);
    assert_eq!(offsets(&records), [i64::MAX - 1]);
    assert_eq!(next_offset, i64::MAX);
    assert!(error.is_some());
}

#[test]
fn lengths_that_do_not_fit_are_corrupt() {
    let mut set = TestMessage::new(1, 0, b"value");
    for wrong in [Some(100), None] {
        let mut bytes = set.encode();
        let length = wrong.unwrap_or(-1_i32);
        bytes[26..30].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_be_bytes());
        if wrong.is_some() {
            check_corrupt(bytes, "the message does not decode");
        } else {
            // The key is null as it was.
            assert_eq!(drain(bytes, 0).2, None);
        }
    }
    set.magic = 0;
    let mut bytes = set.encode();
    bytes.push(0);
    let length = u32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_be_bytes());
    check_corrupt(bytes, "the message does not decode");
}
