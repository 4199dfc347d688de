//! A consumer's connections to brokers: one for each role, made when wanted, given up when silent.
//!
//! A broker works on one request of a connection at a time, and holds a JoinGroup or a long poll for long,
//! so roles do not share one: joining, the coordinator's quick answers, the seed (metadata and coordinator
//! look-ups) and each broker we fetch from have their own.
//!
//! Where brokers want to know who we are, each connection authenticates, and is renewed when its session ends or
//! the credentials have changed (`renewal.rs`).
//!
//! Invariant: every request sent ends exactly once, as an answer or as a ticket handed back.

mod access;
mod link;
mod renewal;
mod suspicion;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use self::access::{Access, Session};
pub(super) use self::link::{Answer, Broken, Refusal, Role};
use self::link::{Asked, Failure, Link, State, extra_time, take_down, throttle};
use super::complaints::Complaints;
use super::{ConnectionId, Disconnect, Effect, Endpoint, Fault};
use crate::kafka::connection::{Connection, ConnectionError, Received};
use crate::kafka::messages::{ApiKey, Request};
use crate::kafka::sasl::{DerivedKey, NonceKey};
use crate::limits;
use crate::random::Random;
use crate::time::Instant;

/// All connections of one consumer. `T` says what was asked.
#[derive(Debug)]
pub(super) struct Links<T> {
    links: BTreeMap<Role, Link<T>>,
    client_id: String,
    request_timeout: Duration,
    next_id: u64,
    random: Random,
    complaints: Complaints,
    access: Access,
    /// The link whose turn it is to take new credentials: it takes no new request.
    turn: Option<Role>,
    /// How long the seed may take.
    seed_patience: Duration,
}

impl<T> Links<T> {
    pub(super) fn new(
        client_id: &str,
        request_timeout: Duration,
        seed: u64,
        nonce_key: NonceKey,
    ) -> Self {
        Self {
            links: BTreeMap::new(),
            client_id: client_id.to_owned(),
            request_timeout,
            next_id: 0,
            random: Random::new(seed),
            complaints: Complaints::default(),
            access: Access::new(nonce_key),
            turn: None,
            seed_patience: request_timeout.min(limits::VIEW_PATIENCE),
        }
    }

    /// Makes sure that a connection of that role to `endpoint` stands or is on its way, and says whether
    /// it can be used now. A connection to another endpoint is closed, its tickets are handed back.
    pub(super) fn ready(
        &mut self,
        role: Role,
        endpoint: &Endpoint,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Result<bool, Broken<T>> {
        if self
            .links
            .get(&role)
            .is_some_and(|link| link.endpoint != *endpoint)
        {
            let broken = self.close(role, "the address changed", effects);
            if let Some(link) = self.links.get_mut(&role) {
                // The back-off stays: else two brokers that refuse would be tried in turns without pause.
                link.endpoint = endpoint.clone();
                link.failing = None;
            }
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        let is_held = self.is_held(role, now);
        let patience = self.connecting_patience(role);
        let link = self.links.entry(role);
        let link = link.or_insert_with(|| Link::new(endpoint, now));
        match &link.state {
            State::Down if now >= link.not_before => {
                link.connect(&mut self.next_id, patience, now, effects);
                Ok(false)
            }
            State::Down | State::Connecting { .. } => Ok(false),
            State::Open { connection, .. } => {
                Ok(connection.is_ready() && now >= link.not_before && !is_held)
            }
        }
    }

    /// Sends on a connection that is ready; of a fetch, `brings` says how much its broker has ready for it.
    pub(super) fn send(
        &mut self,
        role: Role,
        request: &Request,
        brings: usize,
        ticket: T,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Result<(), (ConnectionError, T)> {
        let extra = extra_time(request);
        let timeout = self.patience(role) + extra;
        let Some(State::Open {
            id,
            connection,
            asked,
            ..
        }) = self.links.get_mut(&role).map(|link| &mut link.state)
        else {
            unreachable!("the caller asked `ready` first");
        };
        match connection.send(request) {
            Ok((correlation, frame)) => {
                asked.push_back(Asked {
                    correlation,
                    ticket,
                    deadline: now + timeout,
                    late_at: now + extra + limits::ANSWER_EXPECTED,
                });
                effects.push_back(match brings {
                    0 => Effect::Send(*id, frame),
                    brings => Effect::Fetch(*id, frame, brings),
                });
                Ok(())
            }
            Err(error) => Err((error, ticket)),
        }
    }

    /// The version that an API has on that role's connection.
    pub(super) fn version(&self, role: Role, api: ApiKey) -> Option<i16> {
        match &self.links.get(&role)?.state {
            State::Open { connection, .. } => connection.version(api),
            State::Down | State::Connecting { .. } => None,
        }
    }

    /// The connection stands: versions are asked for.
    pub(super) fn handle_connected(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) {
        let patience = self.find(id).map(|(role, _)| role);
        let patience = patience.map_or(self.request_timeout, |role| self.patience(role));
        let handshake = now + patience;
        let exchange = self.access.exchange();
        let credentials = self.access.credentials().cloned();
        let mut connection = Box::new(Connection::new(&self.client_id, exchange));
        let Some((_, link)) = self.find(id) else {
            return;
        };
        if !matches!(link.state, State::Connecting { .. }) {
            return;
        }
        effects.push_back(Effect::Send(id, connection.open()));
        link.state = State::Open {
            id,
            connection,
            asked: VecDeque::new(),
            handshake,
            late_at: now + limits::ANSWER_EXPECTED,
            credentials,
            said_at: now,
            session: None,
        };
    }

    /// A frame arrived: an answer, a step of the hand-shake (`None`), or the peer breaks the protocol.
    pub(super) fn handle_frame(
        &mut self,
        id: ConnectionId,
        frame: Bytes,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Result<Option<Answer<T>>, Broken<T>> {
        let Some((role, link)) = self.find(id) else {
            return Ok(None);
        };
        let State::Open {
            connection,
            asked,
            said_at,
            ..
        } = &mut link.state
        else {
            return Ok(None);
        };
        let problem = match connection.receive(frame) {
            Ok(Received::Ready) => {
                self.handle_ready(role);
                return Ok(None);
            }
            Ok(Received::Derive(derivation)) => {
                match self.access.key(&derivation) {
                    Some(key) => return self.give_key(id, &key, now, effects),
                    None => effects.push_back(Effect::Derive(id, derivation)),
                }
                return Ok(None);
            }
            Ok(Received::Send(frame)) => {
                *said_at = now;
                effects.push_back(Effect::Send(id, frame));
                return Ok(None);
            }
            Ok(Received::Response {
                correlation,
                response,
            }) => match asked.pop_front() {
                Some(front) if front.correlation == correlation => {
                    let throttle = throttle(&response);
                    if throttle > Duration::ZERO {
                        link.not_before = now + throttle.min(limits::THROTTLE_MAX);
                    }
                    return Ok(Some(Answer {
                        ticket: front.ticket,
                        response,
                        role,
                        throttle,
                    }));
                }
                front => {
                    asked.extend(front);
                    Failure::new("the answer is out of order")
                }
            },
            Err(error) => Failure::of_error(&error, &link.endpoint),
        };
        match self.fail(role, problem, now, Some(effects)) {
            Some(broken) => Err(broken),
            None => Ok(None),
        }
    }

    /// A key was derived that a connection had asked for; it serves later ones too.
    pub(super) fn handle_derived(
        &mut self,
        id: ConnectionId,
        key: &DerivedKey,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Option<Broken<T>> {
        self.access.learn(key);
        self.give_key(id, key, now, effects).err()
    }

    fn give_key(
        &mut self,
        id: ConnectionId,
        key: &DerivedKey,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Result<Option<Answer<T>>, Broken<T>> {
        let Some((role, link)) = self.find(id) else {
            return Ok(None);
        };
        let State::Open {
            connection,
            said_at,
            ..
        } = &mut link.state
        else {
            return Ok(None);
        };
        match connection.derived(key) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                *said_at = now;
                effects.push_back(Effect::Send(id, frame));
            }
            Err(error) => {
                let problem = Failure::of_error(&error, &link.endpoint);
                return self
                    .fail(role, problem, now, Some(effects))
                    .map_or(Ok(None), Err);
            }
        }
        Ok(None)
    }

    /// The broker lets us in, for the first time on this connection or again.
    fn handle_ready(&mut self, role: Role) {
        let Some(link) = self.links.get_mut(&role) else {
            return;
        };
        link.failures = 0;
        link.refusals = 0;
        link.refusal = None;
        link.failing = None;
        self.complaints.forget(&link.endpoint);
        if let State::Open {
            id,
            connection,
            credentials,
            said_at,
            session,
            ..
        } = &mut link.state
        {
            let lifetime = connection.session_lifetime();
            let begun = Session::new(credentials.clone(), lifetime, *said_at, &mut self.random);
            self.access.is_refused &= begun.is_stale(&self.access) || self.access.is_outdated(*id);
            *session = Some(begun);
        }
    }

    /// The connection ended.
    pub(super) fn handle_disconnected(
        &mut self,
        id: ConnectionId,
        reason: &Disconnect,
        now: Instant,
    ) -> Option<Broken<T>> {
        let (role, link) = self.find(id)?;
        let failure = Failure::of_end(reason, &link.endpoint, &link.state);
        self.fail(role, failure, now, None)
    }

    /// Gives up what did not answer in time.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Vec<Broken<T>> {
        let late: Vec<(Role, &'static str)> = self
            .links
            .iter()
            .filter_map(|(role, link)| match &link.state {
                State::Connecting { deadline, .. } if now >= *deadline => {
                    Some((*role, "no connection in time"))
                }
                State::Open {
                    connection,
                    handshake,
                    ..
                } if connection.is_authenticating() && now >= *handshake => {
                    Some((*role, "the authentication has not ended in time"))
                }
                State::Open {
                    connection,
                    handshake,
                    ..
                } if !connection.is_ready() && now >= *handshake => Some((
                    *role,
                    "silent when asked for its versions: it hangs, or is Kafka 0.9, which is too old, or no Kafka; forebay check tells",
                )),
                State::Open { asked, .. }
                    if asked.front().is_some_and(|front| now >= front.deadline) =>
                {
                    Some((*role, "no answer in time"))
                }
                _ => None,
            })
            .collect();
        late.into_iter()
            .filter_map(|(role, why)| self.fail(role, Failure::new(why), now, Some(effects)))
            .collect()
    }

    /// Closes a role's connection by our own will; it counts as no failure.
    pub(super) fn close(
        &mut self,
        role: Role,
        reason: &str,
        effects: &mut VecDeque<Effect>,
    ) -> Option<Broken<T>> {
        let link = self.links.get_mut(&role)?;
        let was_open = matches!(&link.state, State::Open { .. });
        let (id, asked) = take_down(&mut link.state)?;
        effects.push_back(Effect::Close(id));
        Some(Broken {
            role,
            endpoint: link.endpoint.clone(),
            was_open,
            refusal: None,
            reason: reason.to_owned(),
            advises: false,
            worth_saying: Some(1),
            tickets: asked,
        })
    }

    /// The roles that have a connection or are making one.
    pub(super) fn roles(&self) -> Vec<Role> {
        self.links.keys().copied().collect()
    }

    /// When something here becomes due: a deadline, or the end of a back-off.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.links
            .values()
            .filter_map(|link| match &link.state {
                State::Down => (link.not_before > now).then_some(link.not_before),
                State::Connecting { deadline, .. } => Some(*deadline),
                State::Open {
                    connection,
                    handshake,
                    asked,
                    session,
                    ..
                } => {
                    let answer = if connection.is_ready() {
                        asked.front().map(|front| front.deadline)
                    } else {
                        Some(*handshake)
                    };
                    let muted = (link.not_before > now).then_some(link.not_before);
                    let session = session.as_ref();
                    let renewal = session.and_then(|it| it.poll_timeout(&self.access, now));
                    [answer, muted, renewal].into_iter().flatten().min()
                }
            })
            .chain(self.next_late(now))
            .min()
    }

    fn find(&mut self, id: ConnectionId) -> Option<(Role, &mut Link<T>)> {
        self.links
            .iter_mut()
            .find_map(|(role, link)| match &link.state {
                State::Connecting { id: of, .. } | State::Open { id: of, .. } if *of == id => {
                    Some((*role, link))
                }
                _ => None,
            })
    }

    /// The connection is over; with `effects`, we close it ourselves.
    fn fail(
        &mut self,
        role: Role,
        failure: Failure,
        now: Instant,
        effects: Option<&mut VecDeque<Effect>>,
    ) -> Option<Broken<T>> {
        let Failure {
            reason,
            advises,
            refusal,
        } = failure;
        let link = self.links.get_mut(&role)?;
        let was_open = link.session().is_some() && link.has_answered();
        if let (Some(Fault::AuthenticationFailed(_)), State::Open { credentials, .. }) =
            (&refusal, &link.state)
        {
            self.access.is_refused |= credentials.as_ref() == self.access.credentials();
        }
        if let (
            Some(Fault::ServerNotTrusted(_) | Fault::ClientNotTrusted(_)),
            State::Connecting { id, .. } | State::Open { id, .. },
        ) = (&refusal, &link.state)
        {
            self.access.is_refused |= !self.access.is_outdated(*id);
        }
        let (id, tickets) = take_down(&mut link.state)?;
        if let Some(effects) = effects {
            effects.push_back(Effect::Close(id));
        }
        let wait = match refusal {
            Some(Fault::AuthenticationFailed(_)) => link.back_off_refused(&mut self.random),
            _ => link.back_off(&mut self.random),
        };
        link.not_before = now + wait;
        if let Some(fault) = &refusal {
            link.refusal = Some((now, fault.clone()));
        }
        let since = link.failing.take().map_or(now, |(since, _)| since);
        link.failing = Some((since, reason.clone()));
        let endpoint = link.endpoint.clone();
        let worth_saying = match was_open && refusal.is_none() {
            true => Some(1),
            false => self.complaints.note(&endpoint, &reason, now),
        };
        Some(Broken {
            role,
            endpoint,
            was_open,
            refusal: refusal.as_ref().map(Refusal::of),
            reason,
            advises,
            worth_saying,
            tickets,
        })
    }
}
