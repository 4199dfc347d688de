//! A small seeded generator for jitter, so that machines stay functions of their inputs.
//!
//! Not for secrets: SplitMix64 (Steele, Lea, Flood 2014) is predictable by design.
//!
//! Invariant: the seed comes from outside; the same seed gives the same sequence.

use std::time::Duration;

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The bias of a plain remainder is below 2^-32 for every bound that jitter uses.
        self.next_u64() % bound
    }

    /// Full jitter: a duration from zero up to and including `cap`.
    pub fn jitter(&mut self, cap: Duration) -> Duration {
        let micros = u64::try_from(cap.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_cap() {
        let mut random = Random::new(7);
        for _ in 0..1000 {
            assert!(random.jitter(Duration::from_millis(5)) <= Duration::from_millis(5));
        }
    }

    #[test]
    fn same_seed_same_sequence() {
        let (mut a, mut b) = (Random::new(3), Random::new(3));
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(a.next_u64(), Random::new(4).next_u64());
    }
}
