//! Compressed data of every kind that producers write, for the tests.
//!
//! Invariant: exists in tests only, and compresses with other code than decompresses here where there
//! is other code.

use std::io::Write;

use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};

/// A way to compress: what it is called, its codec's number, and the function.
pub(super) type Flavour = (&'static str, i16, fn(&[u8]) -> Vec<u8>);

/// Every flavour that a v2 batch may come in.
pub(super) const FLAVOURS: [Flavour; 12] = [
    ("gzip", 1, gzip),
    ("gzip, two members with all header fields", 1, gzip_members),
    ("snappy, raw", 2, snappy_raw),
    ("snappy, xerial", 2, snappy_xerial),
    ("snappy, xerial streams in a row", 2, |data| {
        let (one, two) = data.split_at(data.len() / 2);
        [snappy_xerial(one), snappy_xerial(two)].concat()
    }),
    ("lz4, independent blocks", 3, |data| {
        lz4(data, BlockMode::Independent, ContentChecksum::NoChecksum)
    }),
    ("lz4, linked blocks and a checksum", 3, |data| {
        lz4(data, BlockMode::Linked, ContentChecksum::ChecksumEnabled)
    }),
    ("lz4, block checksums and a content size", 3, lz4_checked),
    ("lz4, frames in a row", 3, |data| {
        let (one, two) = data.split_at(data.len() / 2);
        let skippable = b"\x53\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        let frame = |data| lz4(data, BlockMode::Linked, ContentChecksum::NoChecksum);
        [skippable, frame(one), frame(two)].concat()
    }),
    ("zstd, streamed", 4, zstd_streamed),
    ("zstd, with its size", 4, |data| {
        zstd::bulk::compress(data, 3).unwrap()
    }),
    ("zstd, frames in a row", 4, |data| {
        let (one, two) = data.split_at(data.len() / 2);
        let skippable = b"\x53\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        [zstd_streamed(one), skippable, zstd_streamed(two)].concat()
    }),
];

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn gzip_members(data: &[u8]) -> Vec<u8> {
    let (one, two) = data.split_at(data.len() / 2);
    let mut encoder = flate2::GzBuilder::new()
        .extra([1, 2, 3])
        .filename("name")
        .comment("comment")
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(one).unwrap();
    [encoder.finish().unwrap(), gzip(two), vec![0; 5]].concat()
}

pub(super) fn snappy_raw(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

pub(super) fn snappy_xerial(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in data.chunks(32 * 1024) {
        let block = snappy_raw(block);
        out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend(block);
    }
    out
}

pub(super) fn lz4(data: &[u8], mode: BlockMode, checksum: ContentChecksum) -> Vec<u8> {
    let mut encoder = EncoderBuilder::new()
        .block_mode(mode)
        .block_size(BlockSize::Max64KB)
        .checksum(checksum)
        .build(Vec::new())
        .unwrap();
    encoder.write_all(data).unwrap();
    let (out, result) = encoder.finish();
    result.unwrap();
    out
}

/// What the C library's writer cannot be asked for: the sums are wrong, and never looked at.
fn lz4_checked(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x04\x22\x4d\x18\x7c\x60".to_vec();
    out.extend((data.len() as u64).to_le_bytes());
    out.push(0x77);
    for block in data.chunks(1024 * 1024) {
        let packed = lz4_flex::block::compress(block);
        if packed.len() < block.len() {
            out.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            out.extend(packed);
        } else {
            let stored = u32::try_from(block.len()).unwrap() | 0x8000_0000;
            out.extend(stored.to_le_bytes());
            out.extend(block);
        }
        out.extend(*b"BSUM");
    }
    out.extend(*b"\0\0\0\0CSUM");
    out
}

pub(super) fn zstd_streamed(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 3).unwrap()
}
