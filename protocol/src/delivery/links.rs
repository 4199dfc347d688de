//! A consumer's connections to brokers: one for each role, made when wanted, given up when silent.
//!
//! A broker works on one request of a connection at a time, and holds a JoinGroup or a long poll for long,
//! so roles do not share one: joining, the coordinator's quick answers, the seed (metadata and coordinator
//! look-ups) and each broker we fetch from have their own.
//!
//! Invariant: every request sent ends exactly once, as an answer or as a ticket handed back.

mod link;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub(super) use self::link::{Answer, Broken, Role};
use self::link::{Asked, Link, State, describe, extra_time, take_down, throttle, without_address};
use super::complaints::Complaints;
use super::{ConnectionId, Disconnect, Effect, Endpoint};
use crate::kafka::connection::{Connection, ConnectionError, Received};
use crate::kafka::messages::{ApiKey, Request};
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
}

impl<T> Links<T> {
    pub(super) fn new(client_id: &str, request_timeout: Duration, seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            client_id: client_id.to_owned(),
            request_timeout,
            next_id: 0,
            random: Random::new(seed),
            complaints: Complaints::default(),
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
            }
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        let link = self.links.entry(role).or_insert_with(|| Link {
            endpoint: endpoint.clone(),
            state: State::Down,
            failures: 0,
            not_before: now,
        });
        match &link.state {
            State::Down if now >= link.not_before => {
                let id = ConnectionId(self.next_id);
                self.next_id += 1;
                link.state = State::Connecting {
                    id,
                    deadline: now + limits::CONNECTING_MAX,
                };
                effects.push_back(Effect::Connect(id, endpoint.clone()));
                Ok(false)
            }
            State::Down | State::Connecting { .. } => Ok(false),
            State::Open { connection, .. } => Ok(connection.is_ready() && now >= link.not_before),
        }
    }

    /// Sends on a connection that is ready.
    pub(super) fn send(
        &mut self,
        role: Role,
        request: &Request,
        ticket: T,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Result<(), (ConnectionError, T)> {
        let timeout = self.request_timeout + extra_time(request);
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
                });
                effects.push_back(Effect::Send(*id, frame));
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
        let mut connection = Box::new(Connection::new(&self.client_id, None));
        let handshake = now + self.request_timeout;
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
            connection, asked, ..
        } = &mut link.state
        else {
            return Ok(None);
        };
        let problem = match connection.receive(frame) {
            Ok(Received::Ready) => {
                link.failures = 0;
                let endpoint = link.endpoint.clone();
                self.complaints.forget(&endpoint);
                return Ok(None);
            }
            Ok(Received::Send(frame)) => {
                effects.push_back(Effect::Send(id, frame));
                return Ok(None);
            }
            Ok(Received::Derive(_)) => unreachable!("no connection authenticates"),
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
                    }));
                }
                front => {
                    asked.extend(front);
                    "the answer is out of order".to_owned()
                }
            },
            Err(error) => error.to_string(),
        };
        match self.fail(role, &problem, now, Some(effects)) {
            Some(broken) => Err(broken),
            None => Ok(None),
        }
    }

    /// The connection ended.
    pub(super) fn handle_disconnected(
        &mut self,
        id: ConnectionId,
        reason: &Disconnect,
        now: Instant,
    ) -> Option<Broken<T>> {
        let (role, _) = self.find(id)?;
        self.fail(role, &describe(reason), now, None)
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
                } if !connection.is_ready() && now >= *handshake => Some((
                    *role,
                    "no answer to ApiVersions in time; it may not be Kafka, forebay check tells",
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
            .filter_map(|(role, why)| self.fail(role, why, now, Some(effects)))
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
            reason: reason.to_owned(),
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
                    ..
                } => {
                    let answer = if connection.is_ready() {
                        asked.front().map(|front| front.deadline)
                    } else {
                        Some(*handshake)
                    };
                    let muted = (link.not_before > now).then_some(link.not_before);
                    [answer, muted].into_iter().flatten().min()
                }
            })
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
        reason: &str,
        now: Instant,
        effects: Option<&mut VecDeque<Effect>>,
    ) -> Option<Broken<T>> {
        let link = self.links.get_mut(&role)?;
        let was_open =
            matches!(&link.state, State::Open { connection, .. } if connection.is_ready());
        let (id, tickets) = take_down(&mut link.state)?;
        if let Some(effects) = effects {
            effects.push_back(Effect::Close(id));
        }
        let cap = limits::RECONNECT_BACKOFF * 2u32.saturating_pow(link.failures.min(10));
        link.failures = link.failures.saturating_add(1);
        // Half of the back-off is fixed, so that a broker that refuses is never asked in a tight loop.
        let cap = cap.min(limits::RECONNECT_BACKOFF_MAX) / 2;
        link.not_before = now + cap + self.random.jitter(cap);
        let endpoint = link.endpoint.clone();
        let reason = without_address(reason, &endpoint).to_owned();
        let worth_saying = match was_open {
            true => Some(1),
            false => self.complaints.note(&endpoint, &reason, now),
        };
        Some(Broken {
            role,
            endpoint,
            was_open,
            reason,
            worth_saying,
            tickets,
        })
    }
}
