//! Keys from passwords for all shards: each takes a thread of tokio's pool for milliseconds.
//!
//! All consumers of a mapping ask for the same key when the node starts, so equal ones are derived once for all
//! who ask meanwhile. A key is not kept here: its askers keep it.
//!
//! Invariant: [`DERIVATIONS_MAX`] threads at most are busy with it, whatever brokers ask for.

use std::collections::VecDeque;

use forebay_protocol::kafka::sasl::{Derivation, DerivedKey};
use tokio::task::JoinSet;

use crate::contract::oneshot;

/// Derivations at once: the shards want the CPUs too.
const DERIVATIONS_MAX: usize = 2;

/// The keys that are waited for.
#[derive(Default)]
pub(super) struct Keys {
    /// Those under way first, then those in line.
    asked: VecDeque<Asked>,
    under_way: JoinSet<DerivedKey>,
}

struct Asked {
    derivation: Derivation,
    is_under_way: bool,
    askers: Vec<oneshot::Sender<DerivedKey>>,
}

impl Keys {
    /// Answers once the key was derived.
    pub(super) fn ask(&mut self, derivation: Derivation, asker: oneshot::Sender<DerivedKey>) {
        let mut asked = self.asked.iter_mut();
        match asked.find(|asked| asked.derivation == derivation) {
            Some(asked) => asked.askers.push(asker),
            None => {
                self.asked.push_back(Asked {
                    derivation,
                    is_under_way: false,
                    askers: vec![asker],
                });
                self.derive();
            }
        }
    }

    /// Answers those who wait for the next key that is ready; without any it waits for ever.
    pub(super) async fn answer_next(&mut self) {
        let Some(ended) = self.under_way.join_next().await else {
            return std::future::pending().await;
        };
        let key = ended.expect("a derivation neither panics nor is aborted");
        let mut asked = self.asked.iter();
        let found = asked.position(|asked| asked.derivation == *key.derivation());
        if let Some(asked) = found.and_then(|at| self.asked.remove(at)) {
            for asker in asked.askers {
                // Whoever asked may have given up; then nobody needs the key.
                asker.send(key.clone()).unwrap_or_default();
            }
        }
        self.derive();
    }

    fn derive(&mut self) {
        let wanted = |asked: &Asked| asked.askers.iter().any(|asker| !asker.is_closed());
        self.asked
            .retain(|asked| asked.is_under_way || wanted(asked));
        let waiting = self.asked.iter_mut().filter(|asked| !asked.is_under_way);
        let room = DERIVATIONS_MAX.saturating_sub(self.under_way.len());
        for asked in waiting.take(room) {
            asked.is_under_way = true;
            let derivation = asked.derivation.clone();
            self.under_way.spawn_blocking(move || derivation.run());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_protocol::kafka::sasl::{Exchange, Mechanism, SaslCredentials, Step};

    use super::*;

    fn derivation(salt: &str) -> Derivation {
        let credentials = SaslCredentials {
            mechanism: Mechanism::ScramSha256,
            username: "user".to_owned(),
            password: "pencil".to_owned().into(),
        };
        let mut exchange = Exchange::new(Arc::new(credentials), "ours".to_owned());
        let challenge = format!("r=ours1,s={salt},i=4096");
        match exchange.receive(challenge.as_bytes()) {
            Ok(Step::Derive(derivation)) => derivation,
            other => panic!("{other:?}"),
        }
    }

    fn ask(keys: &mut Keys, salt: &str) -> oneshot::Receiver<DerivedKey> {
        let (answer, answered) = oneshot::channel();
        keys.ask(derivation(salt), answer);
        answered
    }

    #[tokio::test]
    async fn equal_keys_are_derived_once_and_others_wait_in_line() {
        let mut keys = Keys::default();
        let mut asked = Vec::new();
        for salt in ["AAAA", "AAAA", "BBBB", "CCCC", "DDDD"] {
            asked.push((salt, ask(&mut keys, salt)));
        }
        assert_eq!((keys.under_way.len(), keys.asked.len()), (2, 4));
        let (_, given_up) = asked.remove(3);
        drop(given_up);
        for _ in 0..3 {
            keys.answer_next().await;
        }
        for (salt, answered) in asked {
            assert_eq!(answered.await.unwrap().derivation(), &derivation(salt));
        }
        assert!(keys.asked.is_empty() && keys.under_way.is_empty());
    }
}
