//! Who is let in: what a connection may ask before, while and after it says who it is, how long that holds, and
//! the mechanisms' messages, in requests or raw. KIP-152, KIP-368.
//!
//! Invariant: with SASL configured, nothing but ApiVersions and SASL is served before a connection is let in, in
//! between, and after its session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use forebay_protocol::time::Instant;
use kafka_protocol::messages::ApiKey;

use super::scram::{ClientFirst, Exchange, Hash, Verifier};
use super::{ConnectionId, FakeKafka};

/// Kafka lets a session be renewed once a second.
const RENEWAL_MIN: Duration = Duration::from_secs(1);

/// Who may come in, and how.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// `sasl.enabled.mechanisms`.
    pub mechanisms: Vec<&'static str>,
    /// Passwords by user.
    pub users: BTreeMap<String, String>,
    /// Of SCRAM.
    pub iterations: u32,
    /// `connections.max.reauth.ms`; without it there is no second authentication on a connection.
    pub session_lifetime: Option<Duration>,
    /// What the server does wrong.
    pub lie: Option<Lie>,
}

impl Sasl {
    /// All mechanisms, one user, sessions without end.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            mechanisms: vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
            users: BTreeMap::from([(user.to_owned(), password.to_owned())]),
            iterations: 4096,
            session_lifetime: None,
            lie: None,
        }
    }
}

/// What a hostile server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It signs with another key.
    Signature,
    /// It answers with a nonce of its own.
    Nonce,
    /// It asks for so many iterations.
    Iterations(u64),
    /// It says this whatever the client says.
    Challenge(Vec<u8>),
    /// It says at once that the client is let in.
    Welcome,
    /// It refuses with these words.
    Refusal(String),
}

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) enum Login {
    /// It has said nothing of itself.
    #[default]
    Stranger,
    /// A mechanism was agreed on.
    Speaking(Speaking),
    /// It is let in.
    In(Session),
}

#[derive(Debug)]
pub(super) struct Speaking {
    pub(super) mechanism: &'static str,
    /// The mechanism's messages come as they are.
    pub(super) is_raw: bool,
    scram: Option<(String, Exchange)>,
    /// What is renewed, if anything.
    renewed: Option<Session>,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    mechanism: &'static str,
    user: String,
    ends: Option<Instant>,
    renewal_began: Option<Instant>,
}

/// What a server answers to a mechanism's message.
pub(super) enum Said {
    More(Vec<u8>),
    Welcome(Vec<u8>),
    Refused(String),
}

/// The doors of the cluster.
#[derive(Debug, Default)]
pub(super) struct Doors {
    verifiers: BTreeMap<(Hash, String, String), Verifier>,
    nonces: u64,
    pub(super) authentications: u64,
    pub(super) refusals: u64,
    pub(super) trespasses: u64,
    /// Brokers that let nobody in.
    shut: BTreeSet<i32>,
}

impl FakeKafka {
    /// Who may come in from now on, if anybody is asked.
    pub fn sasl(&mut self) -> &mut Option<Sasl> {
        &mut self.config.sasl
    }

    /// From now on that broker lets nobody in, or everybody who proves who he is.
    pub fn shut(&mut self, node: i32, is_shut: bool) {
        if is_shut {
            self.doors.shut.insert(node);
        } else {
            self.doors.shut.remove(&node);
        }
    }

    /// How often somebody was let in.
    pub fn authentications(&self) -> u64 {
        self.doors.authentications
    }

    /// How often somebody was not let in.
    pub fn refusals(&self) -> u64 {
        self.doors.refusals
    }

    /// Requests that came when they were not allowed: before a connection was let in, in between, or after its
    /// session.
    pub fn trespasses(&self) -> u64 {
        self.doors.trespasses
    }

    /// Whether a request may be served; else the connection is to be closed.
    pub(super) fn lets_through(&mut self, id: ConnectionId, api: ApiKey) -> bool {
        let (Some(_), Some(connection)) = (&self.config.sasl, self.connections.get(&id)) else {
            return true;
        };
        let allowed = match &connection.login {
            Login::Stranger => matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake),
            Login::Speaking(_) => api == ApiKey::SaslAuthenticate,
            Login::In(session) => {
                api == ApiKey::SaslHandshake || session.ends.is_none_or(|at| self.now < at)
            }
        };
        self.doors.trespasses += u64::from(!allowed);
        allowed
    }

    /// Whether the next frame of a connection is a mechanism's message without a header.
    pub(super) fn speaks_raw(&self, id: ConnectionId) -> bool {
        let login = self
            .connections
            .get(&id)
            .map(|connection| &connection.login);
        matches!(login, Some(Login::Speaking(speaking)) if speaking.is_raw)
    }

    /// Agrees on a mechanism; false where none may be agreed on now.
    pub(super) fn begin_login(
        &mut self,
        id: ConnectionId,
        mechanism: &'static str,
        is_raw: bool,
    ) -> bool {
        let (now, lifetime) = (self.now, self.session_lifetime());
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let renewed = match &mut connection.login {
            Login::Stranger => None,
            Login::Speaking(_) => return false,
            Login::In(session) => {
                let soon = |began: Instant| now.saturating_since(began) < RENEWAL_MIN;
                if lifetime.is_none() || is_raw || session.renewal_began.is_some_and(soon) {
                    return false;
                }
                session.renewal_began = Some(now);
                Some(session.clone())
            }
        };
        connection.login = Login::Speaking(Speaking {
            mechanism,
            is_raw,
            scram: None,
            renewed,
        });
        true
    }

    pub(super) fn session_lifetime(&self) -> Option<Duration> {
        self.config.sasl.as_ref()?.session_lifetime
    }

    /// Serves a mechanism's message without a header: whoever is refused is cut off.
    pub(super) fn raw_token(&mut self, id: ConnectionId, token: &Bytes) {
        match self.hear(id, token) {
            Said::Refused(_) => self.close(id),
            Said::More(said) | Said::Welcome(said) => {
                let mut frame = Vec::new();
                frame.put_i32(i32::try_from(said.len()).expect("a message is short"));
                frame.extend_from_slice(&said);
                self.emit(id, frame);
            }
        }
    }

    /// Takes a mechanism's message.
    pub(super) fn hear(&mut self, id: ConnectionId, token: &[u8]) -> Said {
        let login = self
            .connections
            .get_mut(&id)
            .map(|it| std::mem::take(&mut it.login));
        let (Some(Login::Speaking(mut speaking)), Some(sasl)) = (login, self.config.sasl.clone())
        else {
            return Said::Refused("SaslAuthenticate request received out of turn".to_owned());
        };
        let (user, said) = match speaking.mechanism {
            "PLAIN" => plain(&sasl, token),
            mechanism => {
                let hash = match mechanism {
                    "SCRAM-SHA-256" => Hash::Sha256,
                    _ => Hash::Sha512,
                };
                self.scram(&sasl, hash, &mut speaking.scram, token)
            }
        };
        let mut said = lie(sasl.lie.as_ref(), said);
        let node = self.connections.get(&id).map(|connection| connection.node);
        if node.is_some_and(|node| self.doors.shut.contains(&node)) {
            said = Said::Refused("Authentication failed: nobody is let in".to_owned());
        }
        let changed = speaking
            .renewed
            .as_ref()
            .filter(|old| old.user != user || old.mechanism != speaking.mechanism);
        let said = match (&said, changed) {
            (Said::Welcome(_), Some(_)) => {
                let words = "Cannot change principals during re-authentication";
                Said::Refused(words.to_owned())
            }
            _ => said,
        };
        let login = match &said {
            Said::More(_) => Login::Speaking(speaking),
            Said::Welcome(_) => {
                self.doors.authentications += 1;
                Login::In(Session {
                    mechanism: speaking.mechanism,
                    user,
                    ends: sasl.session_lifetime.map(|lifetime| self.now + lifetime),
                    renewal_began: speaking.renewed.and_then(|old| old.renewal_began),
                })
            }
            Said::Refused(_) => {
                self.doors.refusals += 1;
                Login::Stranger
            }
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.login = login;
        }
        said
    }

    fn scram(
        &mut self,
        sasl: &Sasl,
        hash: Hash,
        exchange: &mut Option<(String, Exchange)>,
        token: &[u8],
    ) -> (String, Said) {
        let words = "Authentication failed during authentication due to invalid credentials";
        let refused = (String::new(), Said::Refused(words.to_owned()));
        if let Some((user, exchange)) = exchange.take() {
            return match exchange.finish(token) {
                Some(last) => (user, Said::Welcome(last.into_bytes())),
                None => refused,
            };
        }
        let Some(first) = ClientFirst::read(token) else {
            return refused;
        };
        let Some(password) = sasl.users.get(&first.user) else {
            return refused;
        };
        let key = (hash, first.user.clone(), password.clone());
        let verifier = self.doors.verifiers.entry(key);
        let verifier = verifier
            .or_insert_with(|| Verifier::new(hash, &first.user, password, sasl.iterations))
            .clone();
        self.doors.nonces += 1;
        let nonce = format!("fake{}", self.doors.nonces);
        let (begun, said) = Exchange::begin(verifier, &first, &nonce);
        *exchange = Some((first.user.clone(), begun));
        (first.user, Said::More(said.into_bytes()))
    }
}

fn plain(sasl: &Sasl, token: &[u8]) -> (String, Said) {
    let parts: Vec<&[u8]> = token.split(|byte| *byte == 0).collect();
    if let [b"", user, password] = parts[..] {
        let user = String::from_utf8_lossy(user).into_owned();
        let known = sasl.users.get(&user);
        if known.is_some_and(|known| known.as_bytes() == password) {
            return (user, Said::Welcome(Vec::new()));
        }
    }
    let words = "Authentication failed: Invalid username or password";
    (String::new(), Said::Refused(words.to_owned()))
}

/// What a hostile server says in place of the truth.
fn lie(lie: Option<&Lie>, truth: Said) -> Said {
    let text = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
    match (lie, truth) {
        (Some(Lie::Signature), Said::Welcome(_)) => {
            Said::Welcome(format!("v={}=", "A".repeat(43)).into_bytes())
        }
        (Some(Lie::Nonce), Said::More(said)) => {
            let said = text(&said);
            let rest = said.split_once(',').map_or("", |(_, rest)| rest);
            Said::More(format!("r=another,{rest}").into_bytes())
        }
        (Some(Lie::Iterations(count)), Said::More(said)) => {
            let said = text(&said);
            let rest = said.rsplit_once(",i=").map_or("", |(rest, _)| rest);
            Said::More(format!("{rest},i={count}").into_bytes())
        }
        (Some(Lie::Challenge(said)), _) => Said::More(said.clone()),
        (Some(Lie::Welcome), _) => Said::Welcome(Vec::new()),
        (Some(Lie::Refusal(words)), _) => Said::Refused(words.clone()),
        (_, truth) => truth,
    }
}
