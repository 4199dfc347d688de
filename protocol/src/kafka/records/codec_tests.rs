//! Compressed batches of every kind, whole, cut, wrong and hostile.

use bytes::Bytes;

use super::codec::{Codec, CodecError};
use super::compress::FLAVOURS;
use super::encode::{TestBatch, TestRecord, put_unsigned};
use super::{Decompressor, RecordError, RecordReader, compress};

fn codec(number: i16) -> Codec {
    match number {
        1 => Codec::Gzip,
        2 => Codec::Snappy,
        3 => Codec::Lz4,
        4 => Codec::Zstd,
        _ => panic!("no codec {number}"),
    }
}

fn decompress(
    decompressor: &mut Decompressor,
    number: i16,
    input: &[u8],
) -> Result<Vec<u8>, CodecError> {
    let buffer = decompressor.decompress(codec(number), input)?;
    let data = buffer.filled().to_vec();
    decompressor.take_back(buffer);
    Ok(data)
}

/// Bytes that compress somewhat, and lie further apart than any window.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..length)
        .map(|at| {
            if at % 64 < 40 {
                return b"the same bytes again and again, or nearly"[at % 40];
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

#[test]
fn every_flavour_decompresses_to_what_was_compressed() {
    let mut decompressor = Decompressor::new();
    let zeros = vec![0; 700_000];
    for (name, number, compress) in FLAVOURS {
        for length in [1, 2, 100, 40_000, 65_536, 70_000, 3_000_000] {
            let data = sample(length);
            let got = decompress(&mut decompressor, number, &compress(&data));
            assert!(got == Ok(data), "{name}, {length}");
        }
        let got = decompress(&mut decompressor, number, &compress(&zeros));
        assert!(got.as_ref() == Ok(&zeros), "{name}, zeros");
    }
}

#[test]
fn the_limit_is_exact() {
    let data = sample(100_000);
    for (name, number, compress) in FLAVOURS {
        let input = compress(&data);
        let got = decompress(&mut Decompressor::with_limit(100_000), number, &input);
        assert!(got.as_ref() == Ok(&data), "{name}");
        let got = decompress(&mut Decompressor::with_limit(99_999), number, &input);
        assert_eq!(got, Err(CodecError::TooLarge), "{name}");
    }
}

#[test]
fn bombs_end_at_the_limit_and_leave_no_memory_behind() {
    let zeros = vec![0; 64 << 20];
    for (name, number, compress) in FLAVOURS {
        // In a row they make 1 GiB; raw snappy knows no row.
        let times = if name == "snappy, raw" { 1 } else { 16 };
        let input = compress(&zeros).repeat(times);
        let mut decompressor = Decompressor::with_limit(1 << 20);
        let got = decompress(&mut decompressor, number, &input);
        assert_eq!(got, Err(CodecError::TooLarge), "{name}");
        assert!(decompressor.spare_bytes() <= 1 << 20, "{name}");
    }
}

#[test]
fn sizes_that_are_only_promised_reserve_nothing() {
    let gibibyte = 1_u64 << 30;
    let mut snappy = vec![];
    put_unsigned(&mut snappy, gibibyte);
    snappy.extend(*b"\0a");
    let zstd = [
        &b"\x28\xb5\x2f\xfd\xe0"[..],
        &gibibyte.to_le_bytes(),
        b"\x09\0\0a",
    ]
    .concat();
    let lz4 = [
        &b"\x04\x22\x4d\x18\x68\x70"[..],
        &gibibyte.to_le_bytes(),
        b"\0\x02\0\0\0\x10a",
    ]
    .concat();
    for (number, input) in [(2, snappy), (3, lz4), (4, zstd)] {
        let mut decompressor = Decompressor::with_limit(2 << 30);
        let got = decompress(&mut decompressor, number, &input);
        assert!(
            matches!(got, Err(CodecError::Corrupt(_))),
            "{number}: {got:?}"
        );
        assert!(decompressor.spare_bytes() < 1 << 20, "{number}");
    }
}

#[test]
fn cut_data_is_an_error_and_never_a_part() {
    let data = sample(3_000);
    let mut decompressor = Decompressor::new();
    for (name, number, compress) in FLAVOURS {
        let input = compress(&data);
        for cut in 1..input.len() {
            if let Ok(got) = decompress(&mut decompressor, number, &input[..cut]) {
                // Between two members, frames or blocks a cut cannot be seen; the count of records can.
                assert!(got.len() < data.len() || got == data, "{name}, {cut}");
                let whole_parts = name.contains("in a row")
                    || name.contains("members")
                    || (name.contains("xerial") && cut == 16);
                assert!(whole_parts, "{name}, {cut}");
            }
        }
    }
}

#[test]
fn wrong_data_never_panics() {
    let data = sample(2_000);
    let mut decompressor = Decompressor::with_limit(1 << 20);
    for (_, number, compress) in FLAVOURS {
        let input = compress(&data);
        for at in 0..input.len() {
            for flip in [1, 0x80, 0xff] {
                let mut wrong = input.clone();
                wrong[at] ^= flip;
                // Some flips still decompress; what matters is that there is an answer.
                drop(decompress(&mut decompressor, number, &wrong));
            }
        }
    }
}

fn records(count: i64) -> Vec<TestRecord> {
    (0..count)
        .map(|offset| TestRecord::new(offset, format!("value number {offset}").as_bytes()))
        .collect()
}

fn compressed(number: i16, compress: fn(&[u8]) -> Vec<u8>, batch: TestBatch) -> Vec<u8> {
    TestBatch {
        attributes: batch.attributes | number,
        payload: compress(&batch.payload),
        ..batch
    }
    .encode()
}

#[test]
fn compressed_batches_are_read_like_others() {
    let mut decompressor = Decompressor::new();
    for (name, number, compress) in FLAVOURS {
        let set = [
            compressed(number, compress, TestBatch::new(&records(50))),
            compressed(number, compress, TestBatch::marker(50, 4, true)),
            TestBatch::new(&[TestRecord::new(51, b"plain")]).encode(),
        ]
        .concat();
        let mut reader = RecordReader::new(Bytes::from(set), 10, Vec::new(), true);
        for offset in 10..50 {
            let record = reader.next(&mut decompressor).unwrap().unwrap();
            assert_eq!(record.offset, offset, "{name}");
            let value = format!("value number {offset}");
            assert_eq!(record.value, Some(value.as_bytes()), "{name}");
            if offset % 7 == 0 {
                reader.unread();
                assert_eq!(
                    reader.next(&mut decompressor).unwrap().unwrap().offset,
                    offset
                );
            }
        }
        assert_eq!(
            reader.next(&mut decompressor).unwrap().unwrap().value,
            Some(&b"plain"[..])
        );
        assert!(reader.next(&mut decompressor).unwrap().is_none());
        assert_eq!(reader.next_offset(), 52);
    }
}

#[test]
fn a_batch_that_is_too_large_names_its_place_and_the_limit() {
    let set = [
        TestBatch::new(&[TestRecord::new(6, b"plain")]).encode(),
        compressed(
            1,
            compress::gzip,
            TestBatch::new(&[TestRecord::new(7, &[0; 9_000])]),
        ),
    ]
    .concat();
    let mut decompressor = Decompressor::with_limit(5_000);
    let mut reader = RecordReader::new(Bytes::from(set), 0, Vec::new(), true);
    assert!(reader.next(&mut decompressor).unwrap().is_some());
    let expected = RecordError::TooLarge {
        offset: 7,
        limit_bytes: 5_000,
    };
    for _ in 0..2 {
        assert_eq!(reader.next(&mut decompressor).err(), Some(expected));
    }
}

#[test]
fn decompressed_bytes_count_for_memory_and_turn() {
    let batch = TestBatch::new(&[TestRecord::new(0, &[0; 90_000]), TestRecord::new(1, b"")]);
    let set = Bytes::from(compressed(4, compress::zstd_streamed, batch));
    let mut decompressor = Decompressor::new();
    let mut reader = RecordReader::new(set.clone(), 0, Vec::new(), true);
    assert_eq!(reader.remaining_bytes(), set.len());
    assert!(reader.next(&mut decompressor).unwrap().is_some());
    assert!(reader.remaining_bytes() > 90_000 + set.len());
    assert!(reader.turn_bytes() > 90_000);
    assert!(reader.next(&mut decompressor).unwrap().is_some());
    assert!(reader.turn_bytes() < 100);
    assert_eq!(decompressor.spare_bytes(), 0);
    assert!(reader.next(&mut decompressor).unwrap().is_none());
    assert_eq!(reader.remaining_bytes(), 0);
    assert!(decompressor.spare_bytes() > 90_000);
}

#[test]
fn a_reader_closed_early_gives_its_buffer_back() {
    let set = compressed(4, compress::zstd_streamed, TestBatch::new(&records(50)));
    let mut decompressor = Decompressor::new();
    let mut reader = RecordReader::new(Bytes::from(set), 0, Vec::new(), true);
    assert!(reader.next(&mut decompressor).unwrap().is_some());
    assert_eq!(decompressor.spare_bytes(), 0);
    reader.close(&mut decompressor);
    assert!(decompressor.spare_bytes() > 0);
}

#[test]
fn an_emptied_compressed_batch_is_passed_over() {
    for payload in [vec![], vec![1, 2, 3]] {
        let set = TestBatch {
            attributes: 3,
            count: 0,
            last_offset: 9,
            payload,
            ..TestBatch::new(&records(1))
        };
        let mut reader = RecordReader::new(Bytes::from(set.encode()), 0, Vec::new(), true);
        assert!(reader.next(&mut Decompressor::new()).unwrap().is_none());
        assert_eq!(reader.next_offset(), 10);
    }
}
