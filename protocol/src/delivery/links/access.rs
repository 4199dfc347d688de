//! What lets a consumer in: its credentials, the keys made of them, and when a session is renewed.
//!
//! New credentials go to one standing connection at a time, and to the next only once that one is through: if a
//! broker refuses them, the others keep what works.
//!
//! Sources: KIP-368 (re-authentication), Java's `SaslClientAuthenticator` (85 to 95 percent of a session).
//!
//! Invariant: a key is used for the credentials that it was made of alone.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::ConnectionId;
use crate::kafka::sasl::{Derivation, DerivedKey, Exchange, NonceKey, Nonces, SaslCredentials};
use crate::limits;
use crate::random::Random;
use crate::time::Instant;

/// The credentials of a consumer.
#[derive(Debug)]
pub(super) struct Access {
    credentials: Option<Arc<SaslCredentials>>,
    nonces: Nonces,
    keys: Vec<DerivedKey>,
    /// The first connection that is made in the newest way; those before are to be replaced.
    newest_from: ConnectionId,
    /// A broker has refused the credentials since they came, or a connection of the newest way, and none has taken
    /// them since.
    pub(super) is_refused: bool,
}

/// What a connection was last authenticated with.
#[derive(Debug)]
pub(super) struct Session {
    credentials: Option<Arc<SaslCredentials>>,
    began: Instant,
    /// When it is to be renewed, where it ends.
    renewal: Option<Instant>,
}

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Authenticate on the same connection.
    Again,
    /// The broker would not take the new credentials on it: make another.
    Replace,
}

impl Access {
    pub(super) fn new(key: NonceKey) -> Self {
        Self {
            credentials: None,
            nonces: Nonces::new(key),
            keys: Vec::new(),
            newest_from: ConnectionId(0),
            is_refused: false,
        }
    }

    /// Connections from that one on are made in another way.
    pub(super) fn make_anew_from(&mut self, first: ConnectionId) {
        self.newest_from = first;
        self.is_refused = false;
    }

    /// Whether that connection was made in a way that is not the newest.
    pub(super) fn is_outdated(&self, id: ConnectionId) -> bool {
        id < self.newest_from
    }

    /// Takes new credentials; false if they are the ones we have.
    pub(super) fn take(&mut self, credentials: Option<Arc<SaslCredentials>>) -> bool {
        if credentials == self.credentials {
            return false;
        }
        self.credentials = credentials;
        self.is_refused = false;
        let current = self.credentials.as_ref();
        self.keys
            .retain(|key| Some(key.derivation().credentials()) == current);
        true
    }

    pub(super) fn credentials(&self) -> Option<&Arc<SaslCredentials>> {
        self.credentials.as_ref()
    }

    /// One authentication, where there is any.
    pub(super) fn exchange(&mut self) -> Option<Exchange> {
        let credentials = Arc::clone(self.credentials.as_ref()?);
        Some(Exchange::new(credentials, self.nonces.next_nonce()))
    }

    pub(super) fn key(&self, derivation: &Derivation) -> Option<DerivedKey> {
        let mut keys = self.keys.iter();
        keys.find(|key| key.derivation() == derivation).cloned()
    }

    /// Keeps a key for later connections. A server that asks for others all the time only empties the shelf.
    pub(super) fn learn(&mut self, key: &DerivedKey) {
        let derivation = key.derivation();
        if Some(derivation.credentials()) != self.credentials.as_ref()
            || self.key(derivation).is_some()
        {
            return;
        }
        if self.keys.len() >= limits::DERIVED_KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(key.clone());
    }
}

impl Session {
    /// A session whose proof was sent at `began`; `lifetime` as the broker told it, `None` is for ever. The broker
    /// counts from a later moment, and an answer may have taken long.
    pub(super) fn new(
        credentials: Option<Arc<SaslCredentials>>,
        lifetime: Option<Duration>,
        began: Instant,
        random: &mut Random,
    ) -> Self {
        let renewal = lifetime.map(|lifetime| {
            let lifetime = lifetime.min(limits::SESSION_LIFETIME_MAX);
            let after = lifetime * 85 / 100 + random.jitter(lifetime / 10);
            began + after.max(limits::REAUTHENTICATION_INTERVAL_MIN)
        });
        Self {
            credentials,
            began,
            renewal,
        }
    }

    /// Whether it has other credentials than these.
    pub(super) fn is_stale(&self, access: &Access) -> bool {
        self.credentials != access.credentials
    }

    /// Whether its time is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.renewal.is_some_and(|at| now >= at)
    }

    /// How new credentials come to its connection.
    pub(super) fn renewal(&self, access: &Access) -> Renewal {
        match (&self.credentials, &access.credentials) {
            // A broker whose sessions do not end knows no second authentication.
            (Some(old), Some(new)) if old.may_renew(new) && self.renewal.is_some() => {
                Renewal::Again
            }
            _ => Renewal::Replace,
        }
    }

    /// A broker refuses to be asked again so soon.
    pub(super) fn renewable_from(&self) -> Instant {
        self.began + limits::REAUTHENTICATION_INTERVAL_MIN
    }

    /// When something is to be done about it.
    pub(super) fn poll_timeout(&self, access: &Access, now: Instant) -> Option<Instant> {
        let again = self.is_stale(access).then(|| self.renewable_from());
        let times = [again, self.renewal].into_iter().flatten();
        times.filter(|at| *at > now).min()
    }
}
