//! What a reader gives and passes over, shown on sets of format v2.

use bytes::Bytes;

use super::encode::{TestBatch, TestRecord, put_varint};
use super::{Decompressor, Record, RecordError, RecordReader, TimestampType, scan};
use crate::kafka::messages::AbortedTransaction;

fn owned(record: &Record<'_>) -> TestRecord {
    TestRecord {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
            .collect(),
    }
}

/// Everything up to the end or the first error, and the offset after it.
fn drain(reader: &mut RecordReader) -> (Vec<TestRecord>, Option<RecordError>) {
    let mut decompressor = Decompressor::new();
    let mut records = Vec::new();
    loop {
        match reader.next(&mut decompressor) {
            Ok(Some(record)) => records.push(owned(&record)),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

fn reader(set: Vec<u8>, fetch_offset: i64) -> RecordReader {
    RecordReader::new(Bytes::from(set), fetch_offset, Vec::new(), true)
}

#[track_caller]
fn check(set: Vec<u8>, fetch_offset: i64, offsets: &[i64], next_offset: i64) {
    let mut reader = reader(set, fetch_offset);
    let (records, error) = drain(&mut reader);
    assert_eq!(error, None);
    let got: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!(got, offsets);
    assert_eq!(reader.next_offset(), next_offset);
}

#[track_caller]
fn check_corrupt(set: Vec<u8>, offsets: &[i64], expected: &str) {
    let mut reader = reader(set, 0);
    let (records, error) = drain(&mut reader);
    let got: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!(got, offsets);
    let text = error.expect("an error").to_string();
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(reader.next(&mut Decompressor::new()).err(), error, "again");
}

fn numbered(offsets: impl IntoIterator<Item = i64>) -> Vec<TestRecord> {
    offsets
        .into_iter()
        .map(|offset| TestRecord::new(offset, offset.to_string().as_bytes()))
        .collect()
}

fn batch(offsets: impl IntoIterator<Item = i64>) -> TestBatch {
    TestBatch::new(&numbered(offsets))
}

#[test]
fn records_come_as_they_were_written() {
    let records = vec![
        TestRecord {
            key: Some(b"key".to_vec()),
            headers: vec![
                (b"h".to_vec(), Some(b"1".to_vec())),
                (b"h".to_vec(), Some(b"2".to_vec())),
                (b"\xff\xfe".to_vec(), None),
                (b"".to_vec(), Some(b"".to_vec())),
            ],
            ..TestRecord::new(10, b"value")
        },
        TestRecord {
            key: Some(Vec::new()),
            value: Some(Vec::new()),
            ..TestRecord::new(11, b"")
        },
        TestRecord {
            key: None,
            value: None,
            timestamp: -1,
            ..TestRecord::new(12, b"")
        },
        TestRecord::new(13, &[7; 70_000]),
    ];
    let mut reader = reader(TestBatch::new(&records).encode(), 10);
    assert_eq!(drain(&mut reader), (records, None));
    assert_eq!(reader.next_offset(), 14);
    assert_eq!(reader.leader_epoch(), 3);
}

#[test]
fn timestamps_that_lie_too_far_apart_for_the_delta_wrap_back() {
    let mut records = numbered([0, 1]);
    records[0].timestamp = i64::MAX;
    records[1].timestamp = -1;
    let mut reader = reader(TestBatch::new(&records).encode(), 0);
    assert_eq!(drain(&mut reader), (records, None));
}

#[test]
fn log_append_time_is_the_batches() {
    let set = TestBatch {
        attributes: 0x08,
        max_timestamp: 77,
        ..batch(0..3)
    };
    let mut reader = reader(set.encode(), 0);
    let mut decompressor = Decompressor::new();
    for _ in 0..3 {
        let record = reader.next(&mut decompressor).unwrap().unwrap();
        assert_eq!(record.timestamp, 77);
        assert_eq!(record.timestamp_type, TimestampType::LogAppendTime);
    }
}

#[test]
fn records_below_the_fetch_offset_are_passed_over() {
    let set = [batch(0..5).encode(), batch(5..10).encode()].concat();
    check(set.clone(), 3, &[3, 4, 5, 6, 7, 8, 9], 10);
    check(set.clone(), 5, &[5, 6, 7, 8, 9], 10);
    check(set.clone(), 9, &[9], 10);
    check(set, 10, &[], 10);
}

#[test]
fn gaps_of_compaction_count_as_passed() {
    let tail_gone = TestBatch {
        last_offset: 9,
        ..batch([1, 4])
    };
    let emptied = TestBatch {
        base_offset: 10,
        last_offset: 19,
        ..batch([])
    };
    check(tail_gone.encode(), 0, &[1, 4], 10);
    check(tail_gone.encode(), 6, &[], 10);
    check(
        [tail_gone.encode(), emptied.encode(), batch([25]).encode()].concat(),
        0,
        &[1, 4, 25],
        26,
    );
    check(emptied.encode(), 10, &[], 20);
}

#[test]
fn a_gap_counts_once_the_reader_is_past_it() {
    let tail_gone = TestBatch {
        last_offset: 9,
        ..batch([1])
    };
    let mut reader = reader([tail_gone.encode(), batch([12]).encode()].concat(), 0);
    let mut decompressor = Decompressor::new();
    assert!(reader.next(&mut decompressor).unwrap().is_some());
    assert_eq!(reader.next_offset(), 2);
    assert_eq!(reader.next(&mut decompressor).unwrap().unwrap().offset, 12);
    assert_eq!(reader.next_offset(), 13);
    reader.unread();
    assert_eq!(reader.next_offset(), 10);
    assert_eq!(reader.next(&mut decompressor).unwrap().unwrap().offset, 12);
    assert_eq!(reader.next_offset(), 13);
}

#[test]
fn unread_gives_the_same_record_again() {
    let set = [batch(0..3).encode(), batch(3..5).encode()].concat();
    let mut reader = reader(set, 0);
    let mut decompressor = Decompressor::new();
    reader.unread();
    for expected in 0..5 {
        for _ in 0..3 {
            let record = reader.next(&mut decompressor).unwrap().unwrap();
            assert_eq!(owned(&record), numbered([expected])[0]);
            reader.unread();
            reader.unread();
            assert_eq!(reader.next_offset(), expected);
        }
        assert!(reader.next(&mut decompressor).unwrap().is_some());
    }
    assert!(reader.next(&mut decompressor).unwrap().is_none());
    reader.unread();
    assert!(reader.next(&mut decompressor).unwrap().is_none());
    assert_eq!(reader.next_offset(), 5);
    assert_eq!(reader.remaining_bytes(), 0);
}

#[test]
fn every_cut_ends_at_the_last_whole_batch() {
    let first = batch(0..3).encode();
    let set = [first.clone(), batch(3..5).encode()].concat();
    for cut in 0..=set.len() {
        let expected: &[i64] = match cut {
            _ if cut == set.len() => &[0, 1, 2, 3, 4],
            _ if cut >= first.len() => &[0, 1, 2],
            _ => &[],
        };
        let next_offset = expected.last().map_or(0, |last| last + 1);
        check(set[..cut].to_vec(), 0, expected, next_offset);

        let scanned = scan(&Bytes::from(set[..cut].to_vec())).unwrap();
        assert_eq!(scanned.next_offset.unwrap_or(0), next_offset);
        let cut_first = (1..first.len()).contains(&cut);
        assert_eq!(scanned.cut_first_bytes.is_some(), cut_first);
        if cut_first && cut >= 12 {
            assert_eq!(scanned.cut_first_bytes, Some(first.len()));
        }
    }
}

#[test]
fn every_flipped_bit_under_the_checksum_is_found() {
    let set = batch(0..3).encode();
    for at in 17..set.len() {
        for bit in 0..8 {
            let mut flipped = set.clone();
            flipped[at] ^= 1 << bit;
            check_corrupt(flipped, &[], "its checksum does not match");
        }
    }
}

#[test]
fn control_batches_are_passed_over() {
    let set = [
        batch(0..2).encode(),
        TestBatch::marker(2, 9, false).encode(),
        batch(3..4).encode(),
        TestBatch::marker(4, 9, true).encode(),
    ]
    .concat();
    check(set, 0, &[0, 1, 3], 5);
}

#[test]
fn control_batches_are_passed_over_with_read_uncommitted_too() {
    let set = [
        TestBatch::transactional(9, &numbered(0..2)).encode(),
        TestBatch::marker(2, 9, true).encode(),
    ]
    .concat();
    let aborted = vec![AbortedTransaction {
        producer_id: 9,
        first_offset: 0,
    }];
    let mut reader = RecordReader::new(Bytes::from(set), 0, aborted, false);
    assert_eq!(drain(&mut reader), (numbered(0..2), None));
    assert_eq!(reader.next_offset(), 3);
}

#[test]
fn what_aborted_transactions_wrote_is_passed_over() {
    let (mine, other) = (9, 8);
    let set = [
        TestBatch::transactional(mine, &numbered(0..2)).encode(),
        TestBatch::transactional(other, &numbered(2..4)).encode(),
        // Idempotent, but of no transaction.
        TestBatch {
            producer_id: mine,
            ..batch(4..5)
        }
        .encode(),
        TestBatch::transactional(mine, &numbered(5..6)).encode(),
        TestBatch::marker(6, mine, true).encode(),
        TestBatch::transactional(mine, &numbered(7..8)).encode(),
        TestBatch::marker(8, mine, false).encode(),
        TestBatch::marker(9, other, false).encode(),
        TestBatch::transactional(mine, &numbered(10..11)).encode(),
        TestBatch::marker(11, mine, true).encode(),
    ]
    .concat();
    // Out of order, as some broker might send them.
    let aborted = vec![
        AbortedTransaction {
            producer_id: mine,
            first_offset: 10,
        },
        AbortedTransaction {
            producer_id: mine,
            first_offset: 0,
        },
    ];
    let mut reader = RecordReader::new(Bytes::from(set), 0, aborted, true);
    assert_eq!(drain(&mut reader), (numbered([2, 3, 4, 7]), None));
    assert_eq!(reader.next_offset(), 12);
}

#[test]
fn an_aborted_transaction_that_began_before_the_fetch_offset_counts() {
    let set = [
        TestBatch::transactional(9, &numbered(20..22)).encode(),
        TestBatch::marker(22, 9, true).encode(),
    ]
    .concat();
    let aborted = vec![AbortedTransaction {
        producer_id: 9,
        first_offset: 3,
    }];
    let mut reader = RecordReader::new(Bytes::from(set), 21, aborted, true);
    assert_eq!(drain(&mut reader), (vec![], None));
    assert_eq!(reader.next_offset(), 23);
}

#[test]
fn a_marker_that_compaction_emptied_is_passed_over() {
    let set = TestBatch {
        count: 0,
        payload: Vec::new(),
        ..TestBatch::marker(4, 9, true)
    };
    check(set.encode(), 0, &[], 5);
}

#[test]
fn a_marker_without_a_type_is_corrupt() {
    let set = TestBatch {
        attributes: 0x30,
        producer_id: 9,
        ..batch([4])
    };
    check_corrupt(set.encode(), &[], "its transaction marker does not decode");
}

#[test]
fn counts_that_do_not_fit_the_records_are_corrupt() {
    for count in [4, 1_000_000, i32::MAX] {
        let set = TestBatch {
            count,
            ..batch(0..3)
        };
        check_corrupt(set.encode(), &[0, 1, 2], "a record does not decode");
    }
    for count in [0, 2] {
        let set = TestBatch {
            count,
            ..batch(0..3)
        };
        let given: Vec<i64> = (0..i64::from(count)).collect();
        check_corrupt(set.encode(), &given, "it has more bytes than its records");
    }
    for count in [-1, i32::MIN] {
        let set = TestBatch {
            count,
            ..batch(0..3)
        };
        check_corrupt(set.encode(), &[], "its header makes no sense");
    }
}

#[test]
fn offsets_that_do_not_ascend_are_corrupt() {
    let what = "its records' offsets do not ascend";
    check_corrupt(batch([3, 4, 4]).encode(), &[3, 4], what);
    let beyond = TestBatch {
        last_offset: 4,
        ..batch([3, 4, 5])
    };
    check_corrupt(beyond.encode(), &[3, 4], what);
    check_corrupt(
        [batch(0..3).encode(), batch(2..4).encode()].concat(),
        &[0, 1, 2],
        "its offsets overlap those before it",
    );
}

#[test]
fn offsets_without_a_successor_are_corrupt() {
    let last = TestBatch {
        base_offset: i64::MAX - 1,
        last_offset: i64::MAX,
        ..batch([0])
    };
    check_corrupt(last.encode(), &[], "its header makes no sense");
    let negative = TestBatch {
        last_offset: -1,
        ..batch([0])
    };
    check_corrupt(negative.encode(), &[], "its header makes no sense");
}

#[test]
fn headers_beyond_their_record_are_corrupt() {
    for count in [1, 2, -1, i64::from(i32::MAX)] {
        let mut body = vec![0, 0, 0, 1, 1];
        put_varint(&mut body, count);
        let mut payload = vec![];
        put_varint(&mut payload, body.len().try_into().unwrap());
        payload.extend(body);
        let set = TestBatch {
            payload,
            ..batch([0])
        };
        check_corrupt(set.encode(), &[], "a record does not decode");
    }
}

#[test]
fn lengths_no_header_fits_in_are_corrupt() {
    let mut set = batch(0..3).encode();
    for (length, what) in [
        (-1_i32, "its length is negative"),
        (13, "its length is less than any header"),
        (48, "it is shorter than its header"),
    ] {
        set[8..12].copy_from_slice(&length.to_be_bytes());
        check_corrupt(set.clone(), &[], what);
        assert!(scan(&Bytes::from(set.clone())).is_err());
    }
}

#[test]
fn a_newer_format_is_named() {
    let mut set = batch(0..3).encode();
    set[16] = 3;
    let expected = RecordError::UnsupportedMagic {
        offset: 0,
        magic: 3,
    };
    assert_eq!(drain(&mut reader(set.clone(), 0)), (vec![], Some(expected)));
    assert!(matches!(
        scan(&Bytes::from(set)),
        Err(RecordError::UnsupportedMagic { magic: 3, .. })
    ));
}

#[test]
fn an_unknown_codec_is_named() {
    for codec in 5..8 {
        let set = TestBatch {
            attributes: codec,
            ..batch(0..3)
        };
        let (_, error) = drain(&mut reader(set.encode(), 0));
        let text = error.expect("an error").to_string();
        let expected = format!("has the unsupported compression type {codec}");
        assert!(text.ends_with(&expected), "{text}");
    }
}

#[test]
fn a_scan_tells_what_follows_the_last_whole_batch() {
    let gap = TestBatch {
        last_offset: 9,
        leader_epoch: 5,
        ..batch([3])
    };
    let set = [batch(0..3).encode(), gap.encode(), batch(10..12).encode()].concat();
    let cut = set.len() - 1;
    let scanned = scan(&Bytes::from(set).slice(..cut)).unwrap();
    assert_eq!(scanned.batches, 2);
    assert_eq!(scanned.next_offset, Some(10));
    assert_eq!(scanned.leader_epoch, 5);
    assert_eq!(scanned.cut_first_bytes, None);
    assert_eq!(scan(&Bytes::new()).unwrap().next_offset, None);
}

#[test]
fn a_scan_ends_before_a_header_that_makes_no_sense() {
    let mut bad = batch(3..5).encode();
    bad[16] = 9;
    let set = [batch(0..3).encode(), bad.clone()].concat();
    let scanned = scan(&Bytes::from(set)).unwrap();
    assert_eq!((scanned.batches, scanned.next_offset), (1, Some(3)));
    assert!(scan(&Bytes::from(bad)).is_err());
}

#[test]
fn what_cannot_be_read_tells_where_it_ends() {
    let ends = |set: Vec<u8>| {
        let mut reader = reader(set, 0);
        assert!(drain(&mut reader).1.is_some());
        reader.entry_end()
    };
    let mut bad = batch(3..5).encode();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let good = batch(0..3).encode();
    let after = batch(5..6).encode();
    assert_eq!(ends([good.clone(), bad.clone()].concat()), Some(5));
    assert_eq!(
        ends([good.clone(), bad.clone(), after.clone()].concat()),
        Some(5)
    );
    // Its own word is not taken where another batch contradicts it.
    bad[26] = 9;
    assert_eq!(ends([good.clone(), bad, after].concat()), Some(5));
    let mut newer = batch(3..5).encode();
    newer[16] = 9;
    assert_eq!(ends([good, newer].concat()), None);
}

#[test]
fn a_turn_is_bounded_by_the_bytes_it_passed() {
    let set = [batch(0..100).encode(), batch(100..200).encode()].concat();
    let total = set.len();
    let mut reader = reader(set, 0);
    let mut decompressor = Decompressor::new();
    let mut sum = 0;
    while let Some(_record) = reader.next(&mut decompressor).unwrap() {
        let turn = reader.turn_bytes();
        assert!((1..200).contains(&turn), "{turn}");
        sum += turn;
    }
    sum += reader.turn_bytes();
    assert_eq!(sum, total);
}
