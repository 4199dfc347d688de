//! SASL: what is said to prove who we are, without the requests that carry it.
//!
//! ```text
//! new() --first()--> token --receive()--> Send(token) | Derive(derivation) | Done
//!                                ^                          |
//!                                +------- derived(key) <----+
//! ```
//!
//! An [`Exchange`] is one authentication; a mechanism each has a file. Keys are derived from passwords by the
//! caller, elsewhere, because that takes milliseconds.
//!
//! Sources: RFC 4422 (SASL), RFC 4616 (PLAIN), RFC 5802 and 7677 (SCRAM), KIP-12, KIP-84. There is no
//! SASLprep, since Kafka does none.
//!
//! Invariant: a secret stands in no error and no `Debug`, not even if a broker sends it back to us; `Done` comes
//! only after the mechanism's whole proof, the server's included where it has one.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod derivation;
mod nonces;
mod plain;
mod scram;

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use self::derivation::Hash;
pub use self::derivation::{Derivation, DerivedKey};
pub use self::nonces::{NonceKey, Nonces};
use super::error::ErrorCode;
use crate::limits::{ERROR_TEXT_CHARS_MAX, SASL_CHALLENGE_BYTES_MAX};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: the password itself, so only under TLS.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As RFC 7677, with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who we are, and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslCredentials {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// `username` of the secret.
    pub username: String,
    /// `password` of the secret.
    pub password: Zeroizing<String>,
}

impl SaslCredentials {
    /// Whether a session may go on with `other` (KIP-368): the broker lets neither the mechanism nor the user
    /// change on a connection.
    pub fn may_renew(&self, other: &Self) -> bool {
        self.mechanism == other.mechanism && self.username == other.username
    }

    /// A broker's words as a status or a log can show them: one line, not long, and without the password.
    fn quote(&self, text: &str) -> String {
        let hidden = match self.password.as_str() {
            "" => text.to_owned(),
            password => text.replace(password, "***"),
        };
        shortened(&hidden)
    }
}

impl fmt::Debug for SaslCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslCredentials")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .field("password", &"***")
            .finish()
    }
}

/// What is sent to the broker; it may hold the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// Takes what is to be sent.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What is to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(*** {} bytes)", self.0.len())
    }
}

/// What is next in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this; the broker answers.
    Send(Token),
    /// Derive this key and give it to [`Exchange::derived`].
    Derive(Derivation),
    /// Nothing: everything that this mechanism proves is proved.
    Done,
}

/// One authentication.
#[derive(Debug)]
pub struct Exchange {
    credentials: Arc<SaslCredentials>,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    Scram(Box<scram::Client>),
}

/// Why we are not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The broker has no SASL at all.
    #[error("the broker offers no SASL")]
    NoSasl,
    /// The broker does not expect SASL on this listener.
    #[error(
        "the listener does not expect SASL; name the port of one that does, or take the user out of SourceAccessConfigurations"
    )]
    NotExpected,
    /// The broker has other mechanisms.
    #[error("the broker does not offer {wanted}, but {}", Offered(.offered))]
    NotOffered {
        /// What was asked for.
        wanted: Mechanism,
        /// What the broker says that it offers; empty for nothing.
        offered: String,
    },
    /// The broker does not take the credentials.
    #[error("{mechanism}: the broker answers {code}{}", Words(.words))]
    Refused {
        /// The mechanism.
        mechanism: Mechanism,
        /// SASL_AUTHENTICATION_FAILED, or what else the broker says.
        code: ErrorCode,
        /// The broker's own words; empty for none.
        words: String,
    },
    /// A broker before 1.0 has no other way to refuse.
    #[error(
        "{mechanism}: the broker closed the connection during authentication; an old broker refuses credentials in that way"
    )]
    Closed {
        /// The mechanism.
        mechanism: Mechanism,
    },
    /// The server says why it refuses (`e=` of SCRAM).
    #[error("{mechanism}: the server says {words:?}")]
    Server {
        /// The mechanism.
        mechanism: Mechanism,
        /// Its words.
        words: String,
    },
    /// The server breaks the rules of the mechanism.
    #[error("{mechanism}: {what}")]
    Broken {
        /// The mechanism.
        mechanism: Mechanism,
        /// How.
        what: &'static str,
    },
    /// The server asks for too little work to protect the password, or for more than we are willing to do.
    #[error("{mechanism}: an iteration count of {iterations}, outside of {min} to {max}")]
    Iterations {
        /// The mechanism.
        mechanism: Mechanism,
        /// What the server asks for; the largest number where it does not fit.
        iterations: u64,
        /// The least that is done.
        min: u32,
        /// The most that is done.
        max: u32,
    },
}

impl Exchange {
    /// An exchange in which nothing was said. `nonce` is printable without commas, and new each time.
    pub fn new(credentials: Arc<SaslCredentials>, nonce: String) -> Self {
        let scram = |hash| State::Scram(Box::new(scram::Client::new(hash, nonce)));
        let state = match credentials.mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::ScramSha256 => scram(Hash::Sha256),
            Mechanism::ScramSha512 => scram(Hash::Sha512),
        };
        Self { credentials, state }
    }

    /// Whose exchange it is.
    pub fn credentials(&self) -> &Arc<SaslCredentials> {
        &self.credentials
    }

    /// What the client says first.
    pub fn first(&self) -> Token {
        match &self.state {
            State::Plain => plain::message(&self.credentials),
            State::Scram(client) => client.first(&self.credentials),
        }
    }

    /// Takes what the server says.
    pub fn receive(&mut self, challenge: &[u8]) -> Result<Step, SaslError> {
        if challenge.len() > SASL_CHALLENGE_BYTES_MAX {
            return Err(self.broken("the server says more than is read"));
        }
        match &mut self.state {
            // There is nothing for the server to say, and Kafka says nothing.
            State::Plain => Ok(Step::Done),
            State::Scram(client) => client.receive(challenge, &self.credentials),
        }
    }

    /// Takes the key that was asked for; `None` if it is another.
    pub fn derived(&mut self, key: &DerivedKey) -> Option<Token> {
        match &mut self.state {
            State::Plain => None,
            State::Scram(client) => client.derived(key),
        }
    }

    /// The broker has other mechanisms: these.
    pub fn not_offered(&self, offered: &[String]) -> SaslError {
        SaslError::NotOffered {
            wanted: self.credentials.mechanism,
            offered: self.credentials.quote(&offered.join(", ")),
        }
    }

    /// What a refusal by the broker is; `words` are the broker's.
    pub fn refused(&self, code: ErrorCode, words: &str) -> SaslError {
        SaslError::Refused {
            mechanism: self.credentials.mechanism,
            code,
            words: self.credentials.quote(words),
        }
    }

    fn broken(&self, what: &'static str) -> SaslError {
        let mechanism = self.credentials.mechanism;
        SaslError::Broken { mechanism, what }
    }
}

struct Offered<'a>(&'a str);

impl fmt::Display for Offered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("nothing"),
            offered => f.write_str(offered),
        }
    }
}

struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            words => write!(f, ": {words}"),
        }
    }
}

fn shortened(text: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    let mut short: String = text.chars().take(ERROR_TEXT_CHARS_MAX).map(plain).collect();
    if text.chars().nth(ERROR_TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short.trim().to_owned()
}

#[cfg(test)]
mod tests;
