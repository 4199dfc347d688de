//! Keys from passwords: PBKDF2, which takes milliseconds on purpose, so that it runs where it holds up nobody.
//!
//! Source: RFC 5802 section 3 (`SaltedPassword`, `ClientKey`, `ServerKey`).
//!
//! Invariant: equal derivations give equal keys, so a key may be used again.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::SaslCredentials;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    pub(super) fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// A key that is to be derived.
#[derive(Clone, PartialEq, Eq)]
pub struct Derivation {
    pub(super) hash: Hash,
    pub(super) credentials: Arc<SaslCredentials>,
    pub(super) salt: Bytes,
    pub(super) iterations: NonZeroU32,
}

impl Derivation {
    /// Derives it: a millisecond for a few thousand iterations.
    pub fn run(&self) -> DerivedKey {
        let mut salted = Zeroizing::new(vec![0; self.hash.digest().output_len()]);
        pbkdf2::derive(
            self.hash.pbkdf2(),
            self.iterations,
            &self.salt,
            self.credentials.password.as_bytes(),
            &mut salted,
        );
        let salted = hmac::Key::new(self.hash.hmac(), &salted);
        let key = |name: &[u8]| Zeroizing::new(hmac::sign(&salted, name).as_ref().to_vec());
        DerivedKey {
            derivation: self.clone(),
            client: key(b"Client Key"),
            server: key(b"Server Key"),
        }
    }

    /// How long it takes, in rounds.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// Whose password it is made of.
    pub fn credentials(&self) -> &Arc<SaslCredentials> {
        &self.credentials
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation")
            .field("credentials", &self.credentials)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// A key that was derived, and of what.
#[derive(Clone)]
pub struct DerivedKey {
    derivation: Derivation,
    pub(super) client: Zeroizing<Vec<u8>>,
    pub(super) server: Zeroizing<Vec<u8>>,
}

impl DerivedKey {
    /// What it was derived of.
    pub fn derivation(&self) -> &Derivation {
        &self.derivation
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerivedKey(*** of {:?})", self.derivation)
    }
}
