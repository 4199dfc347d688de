//! Renews what connections were authenticated with, without a lost request.
//!
//! A link whose time has come takes no new request; once those in flight are answered, it authenticates again or
//! makes another connection. JoinGroup may wait for minutes: its link is left alone until it is answered.
//!
//! Invariant: a connection is replaced, and one authenticates again, only while nothing is in flight on it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Links;
use super::access::{Renewal, Session};
use super::link::{Broken, Role, State, take_down};
use crate::delivery::{ConnectionId, Effect, Fault};
use crate::kafka::sasl::SaslCredentials;
use crate::limits;
use crate::time::Instant;

impl<T> Links<T> {
    /// From now on connections authenticate with these, or not at all. Those that stand follow one by one
    /// ([`renew`](Self::renew)).
    pub(in crate::delivery) fn set_credentials(
        &mut self,
        credentials: Option<Arc<SaslCredentials>>,
        now: Instant,
    ) {
        if !self.access.take(credentials) {
            return;
        }
        for link in self.links.values_mut() {
            if matches!(link.refusal, Some((_, Fault::AuthenticationFailed(_)))) {
                link.not_before = now;
                link.refusals = 0;
            }
        }
    }

    /// From now on connections are made in another way: other roots, another certificate. Those that stand follow
    /// one by one, as with credentials.
    pub(in crate::delivery) fn make_anew(&mut self, now: Instant) {
        self.access.make_anew_from(ConnectionId(self.next_id));
        for link in self.links.values_mut() {
            if matches!(
                link.refusal,
                Some((_, Fault::ServerNotTrusted(_) | Fault::ClientNotTrusted(_)))
            ) {
                link.not_before = now;
            }
        }
    }

    /// Who does not let us in, or is not trusted, as far as it is still tried.
    pub(in crate::delivery) fn refusal(&self, now: Instant) -> Option<&Fault> {
        let mut refused = self.links.values().filter(|link| link.is_refused(now));
        let (_, fault) = refused.next()?.refusal.as_ref()?;
        Some(fault)
    }

    /// Nobody is tried any more.
    pub(in crate::delivery) fn forget_refusals(&mut self) {
        for link in self.links.values_mut() {
            link.refusal = None;
        }
    }

    /// Does what has become possible; what it has closed comes back.
    pub(in crate::delivery) fn renew(
        &mut self,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Vec<Broken<T>> {
        let due: Vec<Role> = self
            .links
            .iter()
            .filter(|(_, link)| link.session().is_some_and(|session| session.is_due(now)))
            .map(|(role, _)| *role)
            .collect();
        let mut replaced = Vec::new();
        for role in due {
            replaced.extend(self.renew_link(role, now, effects));
        }
        self.turn = self.next_turn(now);
        if let Some(role) = self.turn {
            replaced.extend(self.renew_link(role, now, effects));
        }
        replaced
    }

    /// Tries again where we were not let in, although nobody wants that connection at the moment: what the status
    /// says is to hold. Whoever wants one has asked before.
    pub(in crate::delivery) fn probe(&mut self, now: Instant, effects: &mut VecDeque<Effect>) {
        for role in self.roles() {
            let patience = self.connecting_patience(role);
            let link = self.links.get_mut(&role).expect("its role was listed");
            if matches!(link.state, State::Down) && now >= link.not_before && link.is_refused(now) {
                link.connect(&mut self.next_id, patience, now, effects);
            }
        }
    }

    /// Whether that link takes no new request, because it is to be renewed.
    pub(super) fn is_held(&self, role: Role, now: Instant) -> bool {
        let session = self.links.get(&role).and_then(|link| link.session());
        self.turn == Some(role) || session.is_some_and(|session| session.is_due(now))
    }

    /// The link that is next to take new credentials.
    fn next_turn(&self, now: Instant) -> Option<Role> {
        let in_the_making = |state: &State<T>| match state {
            State::Down => false,
            State::Connecting { .. } => true,
            State::Open { connection, .. } => !connection.is_ready(),
        };
        if self.access.is_refused || self.links.values().any(|it| in_the_making(&it.state)) {
            return None;
        }
        let may = self.links.iter().find(|(role, link)| {
            let waits_long = **role == Role::Join && link.is_waiting();
            let is_stale = |session: &Session| {
                session.is_stale(&self.access) && now >= session.renewable_from()
            };
            let is_outdated = link.session().is_some() && link.is_outdated(&self.access);
            !waits_long && (is_outdated || link.session().is_some_and(is_stale))
        });
        may.map(|(role, _)| *role)
    }

    fn renew_link(
        &mut self,
        role: Role,
        now: Instant,
        effects: &mut VecDeque<Effect>,
    ) -> Option<Broken<T>> {
        let (patience, connecting) = (self.patience(role), self.connecting_patience(role));
        let link = self.links.get_mut(&role)?;
        if link.is_waiting() {
            return None;
        }
        let mut renewal = link.session()?.renewal(&self.access);
        if link.is_outdated(&self.access) {
            renewal = Renewal::Replace;
        }
        let State::Open {
            id,
            connection,
            handshake,
            late_at,
            credentials,
            ..
        } = &mut link.state
        else {
            return None;
        };
        if !connection.is_ready() {
            return None;
        }
        if renewal == Renewal::Again
            && let Some(exchange) = self.access.exchange()
        {
            *credentials = Some(Arc::clone(exchange.credentials()));
            let frame = connection
                .authenticate_again(exchange)
                .expect("the broker has SASL, since it let us in, and a mechanism's name fits");
            effects.push_back(Effect::Send(*id, frame));
            *handshake = now + patience;
            *late_at = now + limits::ANSWER_EXPECTED;
            return None;
        }
        let (id, tickets) = take_down(&mut link.state)?;
        effects.push_back(Effect::Close(id));
        // At once: whether brokers take the new credentials is to be known before the next one's turn.
        link.connect(&mut self.next_id, connecting, now, effects);
        Some(Broken {
            role,
            endpoint: link.endpoint.clone(),
            was_open: true,
            refusal: None,
            reason: "it is made anew, since what lets us in has changed".to_owned(),
            advises: false,
            worth_saying: Some(1),
            tickets,
        })
    }
}
