//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither says it.
//!
//! ```text
//! First --server-first--> Deriving --key--> Proving --server-final--> Proved
//! ```
//!
//! There is no channel binding, as in Kafka. Whoever cannot sign with the password's `ServerKey` is not the
//! server that we mean, whatever else it says.
//!
//! Invariant: our proof goes to no server that does not repeat our nonce, or that asks for too few iterations;
//! `Proved` only after the server's signature was verified, in constant time.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::derivation::Hash;
use super::{Derivation, DerivedKey, SaslCredentials, SaslError, Step, Token};
use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};

/// `gs2-header`: no channel binding, no other identity.
const GS2_HEADER: &str = "n,,";

/// The same in base64, as the final message repeats it.
const CHANNEL_BINDING: &str = "c=biws";

/// The client's side of one exchange.
pub(super) struct Client {
    hash: Hash,
    nonce: String,
    phase: Phase,
}

enum Phase {
    First,
    Deriving {
        derivation: Derivation,
        server_first: String,
        /// Ours and the server's.
        nonce: String,
    },
    Proving {
        server_key: Zeroizing<Vec<u8>>,
        auth_message: String,
    },
    Proved,
}

impl Client {
    pub(super) fn new(hash: Hash, nonce: String) -> Self {
        Self {
            hash,
            nonce,
            phase: Phase::First,
        }
    }

    pub(super) fn first(&self, credentials: &SaslCredentials) -> Token {
        let bare = first_bare(credentials, &self.nonce);
        Token::new(format!("{GS2_HEADER}{bare}").into_bytes())
    }

    pub(super) fn receive(
        &mut self,
        challenge: &[u8],
        credentials: &Arc<SaslCredentials>,
    ) -> Result<Step, SaslError> {
        let reader = Challenge {
            credentials,
            text: std::str::from_utf8(challenge)
                .map_err(|_| broken(credentials, "what the server says is no text"))?,
        };
        match &self.phase {
            Phase::First => {
                let (nonce, salt, iterations) = reader.server_first(&self.nonce)?;
                let derivation = Derivation {
                    hash: self.hash,
                    credentials: Arc::clone(credentials),
                    salt,
                    iterations,
                };
                self.phase = Phase::Deriving {
                    derivation: derivation.clone(),
                    server_first: reader.text.to_owned(),
                    nonce,
                };
                Ok(Step::Derive(derivation))
            }
            Phase::Proving {
                server_key,
                auth_message,
            } => {
                let signature = reader.server_final()?;
                let key = hmac::Key::new(self.hash.hmac(), server_key);
                // Ring compares in constant time.
                hmac::verify(&key, auth_message.as_bytes(), &signature).map_err(|_| {
                    broken(
                        credentials,
                        "the server's signature is wrong: it does not know the password",
                    )
                })?;
                self.phase = Phase::Proved;
                Ok(Step::Done)
            }
            Phase::Deriving { .. } | Phase::Proved => {
                Err(broken(credentials, "the server speaks out of turn"))
            }
        }
    }

    pub(super) fn derived(&mut self, key: &DerivedKey) -> Option<Token> {
        let Phase::Deriving {
            derivation,
            server_first,
            nonce,
        } = &self.phase
        else {
            return None;
        };
        if key.derivation() != derivation {
            return None;
        }
        let without_proof = format!("{CHANNEL_BINDING},r={nonce}");
        let bare = first_bare(&derivation.credentials, &self.nonce);
        let auth_message = format!("{bare},{server_first},{without_proof}");
        let stored = digest::digest(self.hash.digest(), &key.client);
        let stored = hmac::Key::new(self.hash.hmac(), stored.as_ref());
        let signature = hmac::sign(&stored, auth_message.as_bytes());
        let bits = key.client.iter().zip(signature.as_ref());
        let proof: Vec<u8> = bits.map(|(key, signature)| key ^ signature).collect();
        let proof = base64_simd::STANDARD.encode_to_string(&proof);
        self.phase = Phase::Proving {
            server_key: key.server.clone(),
            auth_message,
        };
        Some(Token::new(
            format!("{without_proof},p={proof}").into_bytes(),
        ))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn first_bare(credentials: &SaslCredentials, nonce: &str) -> String {
    // `=` first, since the other escape brings one.
    let user = credentials.username.replace('=', "=3D").replace(',', "=2C");
    format!("n={user},r={nonce}")
}

fn broken(credentials: &SaslCredentials, what: &'static str) -> SaslError {
    let mechanism = credentials.mechanism;
    SaslError::Broken { mechanism, what }
}

/// What the server says, as attributes with commas between.
struct Challenge<'a> {
    credentials: &'a SaslCredentials,
    text: &'a str,
}

impl Challenge<'_> {
    /// The whole nonce, the salt and the iteration count. Attributes behind them are passed over, as the RFC
    /// wants it.
    fn server_first(&self, ours: &str) -> Result<(String, Bytes, NonZeroU32), SaslError> {
        let mut attributes = self.text.split(',');
        let mut next = || attributes.next().unwrap_or("");
        let first = next();
        if let Some(words) = first.strip_prefix("e=") {
            return Err(self.server(words));
        }
        if first.starts_with("m=") {
            return Err(self.broken("the server wants an extension that we lack"));
        }
        let (nonce, salt, iterations) = (first.strip_prefix("r="), next(), next());
        let nonce = nonce.ok_or_else(|| self.broken("the server's first message has no nonce"))?;
        let is_longer = nonce.strip_prefix(ours).is_some_and(|its| !its.is_empty());
        if !is_longer || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.broken("the server's nonce does not begin with ours"));
        }
        let salt = salt.strip_prefix("s=").filter(|salt| !salt.is_empty());
        let salt = salt.and_then(|salt| base64_simd::STANDARD.decode_to_vec(salt).ok());
        let salt = salt.ok_or_else(|| self.broken("the server's first message has no salt"))?;
        let iterations = iterations.strip_prefix("i=").filter(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let iterations = iterations
            .ok_or_else(|| self.broken("the server's first message has no iteration count"))?;
        let iterations = self.iterations(iterations.parse().unwrap_or(u64::MAX))?;
        Ok((nonce.to_owned(), salt.into(), iterations))
    }

    fn iterations(&self, iterations: u64) -> Result<NonZeroU32, SaslError> {
        u32::try_from(iterations)
            .ok()
            .filter(|count| (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or(SaslError::Iterations {
                mechanism: self.credentials.mechanism,
                iterations,
                min: SCRAM_ITERATIONS_MIN,
                max: SCRAM_ITERATIONS_MAX,
            })
    }

    /// The server's signature.
    fn server_final(&self) -> Result<Vec<u8>, SaslError> {
        let first = self.text.split(',').next().unwrap_or("");
        if let Some(words) = first.strip_prefix("e=") {
            return Err(self.server(words));
        }
        let signature = first.strip_prefix("v=");
        let signature = signature.and_then(|it| base64_simd::STANDARD.decode_to_vec(it).ok());
        signature.ok_or_else(|| self.broken("the server's final message has no signature"))
    }

    fn server(&self, words: &str) -> SaslError {
        SaslError::Server {
            mechanism: self.credentials.mechanism,
            words: self.credentials.quote(words),
        }
    }

    fn broken(&self, what: &'static str) -> SaslError {
        broken(self.credentials, what)
    }
}
