//! Nonces for SCRAM: new ones each time, that nobody can tell beforehand.
//!
//! The core draws no randomness of its own, so a secret key comes in, and a counter makes of it what else a
//! random generator would give: HMAC-SHA-256 is a pseudo-random function.
//!
//! Invariant: no two nonces of one key are equal.

use std::fmt;

use ring::hmac;
use zeroize::Zeroizing;

/// Bytes of a nonce before they are text.
const NONCE_BYTES: usize = 24;

/// What nonces are made of: 32 random bytes, others for each consumer.
#[derive(Clone)]
pub struct NonceKey(Zeroizing<[u8; 32]>);

impl NonceKey {
    /// Takes the random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(***)")
    }
}

/// Gives nonces.
#[derive(Debug)]
pub struct Nonces {
    key: NonceKey,
    given: u64,
}

impl Nonces {
    /// The nonces of that key.
    pub fn new(key: NonceKey) -> Self {
        Self { key, given: 0 }
    }

    /// The next one: printable, without commas.
    pub fn next_nonce(&mut self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.key.0);
        let tag = hmac::sign(&key, &self.given.to_be_bytes());
        self.given = self.given.wrapping_add(1);
        let bytes = tag.as_ref().get(..NONCE_BYTES).unwrap_or(tag.as_ref());
        base64_simd::STANDARD.encode_to_string(bytes)
    }
}
