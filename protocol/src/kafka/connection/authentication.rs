//! Authentication on a connection: SaslHandshake, then the mechanism's messages.
//!
//! ```text
//! Handshake --> Token <--> Key          Token --the mechanism is done--> ready
//! ```
//!
//! A broker from 1.0 on takes the mechanism's messages in SaslAuthenticate, and says why it refuses (KIP-152).
//! One before it takes them as they are, each behind its length, and can only close the connection.
//!
//! Sources: KIP-43, KIP-152, KIP-368 (session lifetime, re-authentication).
//!
//! Invariant: no other request is sent while we log in, and we log in only while none waits for its answer:
//! a broker closes the connection otherwise.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Connection, ConnectionError, Phase, Received, frame, sealed};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    ApiKey, Request, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use crate::kafka::sasl::{DerivedKey, Exchange, SaslError, Step, Token};
use crate::kafka::versions::{self, VersionRange};

/// An authentication under way.
#[derive(Debug)]
pub(super) struct Login {
    exchange: Exchange,
    /// The version of SaslAuthenticate; `None` where the mechanism's messages go as they are.
    version: Option<i16>,
    awaits: Awaits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Handshake,
    Token,
    Key,
}

impl Connection {
    /// The frame that begins an authentication on a connection that is ready (KIP-368).
    ///
    /// Asserts that it is ready, and that nothing is in flight.
    pub fn authenticate_again(&mut self, exchange: Exchange) -> Result<Bytes, ConnectionError> {
        assert!(
            self.in_flight.is_empty(),
            "nothing may wait for an answer while we log in"
        );
        let Phase::Open {
            broker,
            login: login @ None,
        } = &mut self.phase
        else {
            panic!("an authentication before the connection is ready");
        };
        let in_requests = VersionRange::new(1, versions::spoken(ApiKey::SaslHandshake).max);
        let handshake = broker.choose(ApiKey::SaslHandshake, in_requests);
        let authenticate = versions::spoken(ApiKey::SaslAuthenticate);
        let version = broker.choose(ApiKey::SaslAuthenticate, authenticate);
        let (handshake, version) = match (handshake, version) {
            (Some(handshake), Some(version)) => (handshake, Some(version)),
            _ => {
                let raw = broker.choose(ApiKey::SaslHandshake, VersionRange::new(0, 0));
                (raw.ok_or(SaslError::NoSasl)?, None)
            }
        };
        let mechanism = exchange.credentials().mechanism.name().to_owned();
        *login = Some(Box::new(Login {
            exchange,
            version,
            awaits: Awaits::Handshake,
        }));
        let request = Request::SaslHandshake(SaslHandshakeRequest { mechanism });
        let (_, frame) = self.put(&request, handshake)?;
        Ok(frame)
    }

    /// Takes a key that was asked for; the frame to send. `None` if it is not the one that is waited for.
    pub fn derived(&mut self, key: &DerivedKey) -> Result<Option<Bytes>, ConnectionError> {
        let Some(login) = self.login() else {
            return Ok(None);
        };
        match login.exchange.derived(key) {
            Some(token) => self.put_token(token).map(Some),
            None => Ok(None),
        }
    }

    /// Whether an authentication is under way.
    pub fn is_authenticating(&self) -> bool {
        matches!(self.phase, Phase::Open { login: Some(_), .. })
    }

    /// For how long requests are served since the last authentication; `None` is for ever.
    pub fn session_lifetime(&self) -> Option<Duration> {
        self.session_lifetime
    }

    /// What it means that the broker closes the connection now, if that is how it refuses credentials.
    pub fn refused_by_closing(&self) -> Option<SaslError> {
        match &self.phase {
            Phase::Open {
                login: Some(login), ..
            } if login.version.is_none() && login.awaits == Awaits::Token => {
                let mechanism = login.exchange.credentials().mechanism;
                Some(SaslError::Closed { mechanism })
            }
            _ => None,
        }
    }

    /// Whether the next frame is a message of the mechanism, without a header.
    pub(super) fn awaits_raw_token(&self) -> bool {
        self.refused_by_closing().is_some()
    }

    pub(super) fn handle_handshake(
        &mut self,
        told: &SaslHandshakeResponse,
    ) -> Result<Received, ConnectionError> {
        let is_first = self.session_lifetime.is_none();
        let exchange = &self.logging_in().exchange;
        match told.error {
            ErrorCode::NONE => {
                let first = exchange.first();
                Ok(Received::Send(self.put_token(first)?))
            }
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                Err(exchange.not_offered(&told.mechanisms).into())
            }
            // Of a broker that has let us in before it means something else, as that it is asked too soon.
            ErrorCode::ILLEGAL_SASL_STATE if is_first => Err(SaslError::NotExpected.into()),
            code => Err(exchange.refused(code, "").into()),
        }
    }

    pub(super) fn handle_authenticate(
        &mut self,
        told: &SaslAuthenticateResponse,
    ) -> Result<Received, ConnectionError> {
        if !told.error.is_ok() {
            let words = told.error_message.as_deref().unwrap_or("");
            let exchange = &self.logging_in().exchange;
            return Err(exchange.refused(told.error, words).into());
        }
        self.session_lifetime = told.session_lifetime;
        self.handle_challenge(&told.challenge)
    }

    pub(super) fn handle_challenge(
        &mut self,
        challenge: &[u8],
    ) -> Result<Received, ConnectionError> {
        let login = self.logging_in();
        match login.exchange.receive(challenge)? {
            Step::Send(token) => Ok(Received::Send(self.put_token(token)?)),
            Step::Derive(derivation) => {
                login.awaits = Awaits::Key;
                Ok(Received::Derive(derivation))
            }
            Step::Done => {
                if let Phase::Open { login, .. } = &mut self.phase {
                    *login = None;
                }
                Ok(Received::Ready)
            }
        }
    }

    fn login(&mut self) -> Option<&mut Login> {
        match &mut self.phase {
            Phase::Open { login, .. } => login.as_deref_mut(),
            Phase::Fresh(_) | Phase::Opening { .. } => None,
        }
    }

    fn logging_in(&mut self) -> &mut Login {
        self.login()
            .expect("what was asked to log in is answered before we have")
    }

    /// The frame of a message of the mechanism.
    fn put_token(&mut self, token: Token) -> Result<Bytes, ConnectionError> {
        let login = self.logging_in();
        login.awaits = Awaits::Token;
        if let Some(version) = login.version {
            let request = Request::SaslAuthenticate(SaslAuthenticateRequest { token });
            return Ok(self.put(&request, version)?.1);
        }
        let bytes = token.bytes();
        let room = frame::PREFIX_BYTES.saturating_add(bytes.len());
        let mut out = BytesMut::with_capacity(room);
        out.put_bytes(0, frame::PREFIX_BYTES);
        out.put_slice(bytes);
        frame::finish(&mut out).map_err(|error| ConnectionError::Encode {
            api: ApiKey::SaslAuthenticate,
            version: 0,
            error,
        })?;
        Ok(sealed(out))
    }
}

#[cfg(test)]
mod tests;
