//! Brokers that want to know who is there: passwords that change, and brokers that let nobody in for a while.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Input;
use forebay_protocol::kafka::sasl::{NonceKey, SaslCredentials};

use super::{Event, NodeRef, Schedule, Violation, World};
use crate::fake_kafka::Sasl;

const USER: &str = "forebay";

/// Who may come in.
pub(super) fn sasl(schedule: &Schedule) -> Option<Sasl> {
    let (_, session_lifetime) = schedule.sasl?;
    Some(Sasl {
        session_lifetime,
        ..Sasl::new(USER, &password(0))
    })
}

fn password(number: u64) -> String {
    format!("password {number}")
}

impl World {
    /// What a node is told.
    pub(super) fn credentials(&self) -> Input {
        let credentials = self.schedule.sasl.map(|(mechanism, _)| SaslCredentials {
            mechanism,
            username: USER.to_owned(),
            password: password(self.passwords).into(),
        });
        Input::Credentials(credentials.map(Arc::new))
    }

    pub(super) fn nonce_key(&self, node: usize) -> NonceKey {
        let life = u64::from(self.nodes[node].life) << 8 | node as u64;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.schedule.seed.to_be_bytes());
        key[8..16].copy_from_slice(&life.to_be_bytes());
        NonceKey::new(key)
    }

    /// The cluster has a new password; the nodes learn it some time later, some with another way to connect.
    pub(super) fn change_password(&mut self) {
        self.passwords += 1;
        let new = password(self.passwords);
        if let Some(sasl) = self.kafka.sasl() {
            sasl.users.insert(USER.to_owned(), new);
        }
        for node in 0..self.schedule.nodes {
            let life = self.nodes[node].life;
            let of = NodeRef { node, life };
            let after = self.random_micros(1_000, 5_000_000);
            self.after(after, Event::Password { node: of });
        }
    }

    /// Who was frozen learns the one that is newest then.
    pub(super) fn tell_password(&mut self, node: NodeRef) -> Result<(), Violation> {
        if self.is_frozen(node.node) {
            let thaw = self.nodes[node.node].frozen_until;
            self.at(thaw, Event::Password { node });
            return Ok(());
        }
        self.hand_to_node(node, self.credentials())?;
        match self.chance(2) {
            true => self.hand_to_node(node, Input::MakeAnew),
            false => Ok(()),
        }
    }

    /// A broker lets nobody in, or in again.
    pub(super) fn shut(&mut self, broker: i32) {
        let is_shut = self.chance(2);
        self.kafka.shut(broker, is_shut);
    }

    /// All doors are open, and every node knows the password.
    pub(super) fn open_doors(&mut self) {
        for broker in 1..=self.schedule.brokers {
            self.kafka.shut(broker, false);
        }
        for node in 0..self.schedule.nodes {
            let life = self.nodes[node].life;
            let of = NodeRef { node, life };
            self.after(Duration::ZERO, Event::Password { node: of });
        }
    }
}
