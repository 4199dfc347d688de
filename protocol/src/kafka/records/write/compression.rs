//! Compressing what is written, in the framing that Kafka's own clients write.
//!
//! Sources: snappy-java's `SnappyOutputStream` (Kafka's consumers before librdkafka's read nothing else), "LZ4 Frame
//! Format Description", RFC 1952 and RFC 8878.
//!
//! Invariant: what comes out is read by our decompressor and by Kafka's as what went in.

use std::io::Write;

use crate::kafka::records::Codec;

/// snappy-java: its magic, its version, and the oldest version that reads it.
const SNAPPY_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Its blocks.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// An LZ4 frame of independent blocks of 64 KiB, without checksums and size; its last byte is the checksum of the two
/// before it.
const LZ4_HEADER: &[u8; 7] = b"\x04\x22\x4d\x18\x60\x40\x82";
const LZ4_BLOCK_BYTES: usize = 64 << 10;
/// What ends it: a block of no bytes.
const LZ4_END: [u8; 4] = [0; 4];
/// A block's length has it where the block is not compressed.
const LZ4_STORED: u32 = 1 << 31;

/// Fast ones: what is written is base64 for the most part, in which no effort finds more.
const ZSTD_LEVEL: i32 = 1;

pub(super) fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            let written = encoder.write_all(input).and_then(|()| encoder.finish());
            written.expect("memory takes all that is written to it")
        }
        Codec::Snappy => snappy(input),
        Codec::Lz4 => lz4(input),
        Codec::Zstd => zstd::bulk::compress(input, ZSTD_LEVEL).expect("zstd asks for memory alone"),
    }
}

fn snappy(input: &[u8]) -> Vec<u8> {
    let mut out = SNAPPY_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(SNAPPY_BLOCK_BYTES) {
        let block = encoder.compress_vec(block);
        let block = block.expect("a block is far below what snappy can hold");
        out.extend(length(&block).to_be_bytes());
        out.extend(block);
    }
    out
}

fn lz4(input: &[u8]) -> Vec<u8> {
    let mut out = LZ4_HEADER.to_vec();
    for block in input.chunks(LZ4_BLOCK_BYTES) {
        let compressed = lz4_flex::block::compress(block);
        match compressed.len() < block.len() {
            true => {
                out.extend(length(&compressed).to_le_bytes());
                out.extend(compressed);
            }
            // A frame's block may not be larger than what it holds.
            false => {
                out.extend((length(block) | LZ4_STORED).to_le_bytes());
                out.extend(block);
            }
        }
    }
    out.extend(LZ4_END);
    out
}

fn length(block: &[u8]) -> u32 {
    u32::try_from(block.len()).expect("a block is small")
}
