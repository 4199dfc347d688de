//! When nodes act: at once, or, in every other schedule, now and then a moment later on all that they were told meanwhile,
//! as they are busy.
//!
//! Invariant: how busy they are draws nothing from the schedule's own chances, so that schedules in which they never are
//! are the same; what a node is told, it hears in that order.

use std::time::Duration;

use forebay_protocol::delivery::{Effect, Input};
use forebay_protocol::random::Random;

use super::{Event, NodeRef, Violation, World};

/// A node is busy for so long at most.
const BUSY_MAX: Duration = Duration::from_millis(20);

/// How busy nodes are.
#[derive(Debug)]
pub(super) struct Turns {
    random: Random,
    ever_busy: bool,
}

impl Turns {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7042);
        Self {
            ever_busy: random.below(2) == 0,
            random,
        }
    }

    /// For how long the node that is told something now is busy, if it is.
    fn busy_for(&mut self) -> Option<Duration> {
        let is_busy = self.ever_busy && self.random.below(3) == 0;
        is_busy.then(|| self.random.jitter(BUSY_MAX))
    }
}

impl World {
    /// Hands an input to a node, unless it has died since.
    pub(super) fn hand_to_node(&mut self, of: NodeRef, input: Input) -> Result<(), Violation> {
        if self.is_frozen(of.node) {
            let thaw = self.nodes[of.node].frozen_until;
            self.at(thaw, Event::ToNode { node: of, input });
            return Ok(());
        }
        if self.living(of).is_none() {
            return Ok(());
        }
        let inbox = &mut self.nodes[of.node].inbox;
        let is_busy = !inbox.is_empty();
        inbox.push(input);
        if is_busy {
            return Ok(());
        }
        match self.turns.busy_for() {
            Some(busy) => {
                self.after(busy, Event::Wake { node: of });
                Ok(())
            }
            None => self.wake(of),
        }
    }

    /// The node acts on what it was told and on what has come due.
    pub(super) fn wake(&mut self, of: NodeRef) -> Result<(), Violation> {
        if self.is_frozen(of.node) {
            let thaw = self.nodes[of.node].frozen_until;
            self.at(thaw, Event::Wake { node: of });
            return Ok(());
        }
        let now = self.node_now(of.node);
        let node = &mut self.nodes[of.node];
        let Some(consumer) = node.consumer.as_mut().filter(|_| node.life == of.life) else {
            return Ok(());
        };
        if node.inbox.len() > 1 {
            self.report.heard_together += node.inbox.len() as u64;
        }
        for input in node.inbox.drain(..) {
            consumer.hear(input, now);
        }
        consumer.handle_timeout(now);
        self.settle(of)
    }

    /// Lets a node work, executes its effects and sets its timer.
    fn settle(&mut self, of: NodeRef) -> Result<(), Violation> {
        let now = self.node_now(of.node);
        let mut ended = false;
        while let Some(consumer) = self.living(of) {
            let more = consumer.work(now);
            self.note_skips(of);
            let Some(consumer) = self.living(of) else {
                break;
            };
            let mut effects = Vec::new();
            while let Some(effect) = consumer.poll_effect() {
                effects.push(effect);
            }
            while consumer.poll_notice().is_some() {}
            let done = effects.is_empty() && !more;
            for effect in effects {
                ended |= matches!(effect, Effect::Stopped);
                self.execute(of, effect)?;
            }
            if done {
                break;
            }
        }
        if ended {
            self.nodes[of.node].consumer = None;
            let after = self.random_micros(10_000, 3_000_000);
            self.after(after, Event::Start { node: of.node });
            return Ok(());
        }
        self.check_memory(of)?;
        let drift = self.node_drift(of.node);
        let Some(consumer) = self.living(of) else {
            return Ok(());
        };
        let wake = consumer.poll_timeout().map(|at| at + drift);
        if let Some(at) = wake
            && self.nodes[of.node].wake != Some(at)
        {
            self.nodes[of.node].wake = Some(at);
            self.at(at.max(self.now), Event::Wake { node: of });
        }
        Ok(())
    }
}
