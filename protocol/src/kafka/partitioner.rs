//! Which partition a record with a key goes to, as Kafka's own producer has it: so records of one key stay together,
//! whoever writes them.
//!
//! Source: `BuiltInPartitioner.partitionForKey` and `Utils.murmur2` of Kafka's Java client.
//!
//! Invariant: the same key and number of partitions give the same partition, at every time and on every machine.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What of a key decides: its partition is the remainder by their number.
pub fn hash_of_key(key: &[u8]) -> u32 {
    // Java makes the hash positive by clearing its sign.
    murmur2(key) & 0x7fff_ffff
}

/// MurmurHash2 with Kafka's seed, over little-endian words.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    // As in Java, a length beyond 31 bits would wrap.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a key is far below 4 GiB: a frame bounds it"
    )]
    let length = data.len() as u32;
    let mut hash = SEED ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let word: [u8; 4] = word.try_into().unwrap_or_default();
        let mut mixed = u32::from_le_bytes(word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        mixed = mixed.wrapping_mul(MIX);
        hash = hash.wrapping_mul(MIX) ^ mixed;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, java: i32) {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), java, "{key}");
    }

    #[test]
    fn hash_is_that_of_kafkas_own_test() {
        // `UtilsTest.testMurmur2`.
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check(
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        );
        check("abc", 479_470_107);
    }

    #[test]
    fn what_decides_is_positive() {
        assert_eq!(hash_of_key(b"abc"), 479_470_107);
        let cleared = (-790_332_482_i32 & i32::MAX).cast_unsigned();
        assert_eq!(hash_of_key(b"foobar"), cleared);
        assert_eq!(hash_of_key(b""), 275_646_681);
    }
}
