//! What may go wrong with a request, by script or by a closure.
//!
//! A script is a list for each API: each request of that API takes its next entry. A hook sees every
//! request that no script spoke for.
//!
//! Invariant: a fault is decided before the request is decoded, once for each request.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use forebay_protocol::time::Instant;
use kafka_protocol::messages::ApiKey;

use super::ConnectionId;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the request is served. Lets a script skip one.
    Serve,
    /// Not served; every error field of the answer says so.
    Error(i16),
    /// Served, and the answer is kept back that long.
    Delay(Duration),
    /// Served, and the answer is kept back until then.
    Until(Instant),
    /// Served, and the answer asks for so much silence (KIP-219), in a version whose answers begin with that.
    Throttle(Duration),
    /// Not served; the connection closes.
    Drop,
    /// Served, and the connection closes instead of an answer.
    DropAnswer,
    /// Not served, and the connection stays silent for ever.
    Silence,
    /// Not served; these bytes come after the length and the correlation id.
    Garbage(Vec<u8>),
}

/// What a hook sees of a request.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// The broker that was asked.
    pub node: i32,
    /// The connection.
    pub connection: ConnectionId,
    /// The client's name.
    pub client_id: &'a str,
    /// The request after its header.
    pub body: &'a [u8],
}

/// A closure that looks at each request.
pub type Hook = Box<dyn FnMut(Seen<'_>) -> Fault + Send>;

/// Scripts and hook.
#[derive(Default)]
pub(super) struct Faults {
    scripts: BTreeMap<i16, VecDeque<Fault>>,
    hook: Option<Hook>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("scripts", &self.scripts)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

impl Faults {
    pub(super) fn script(&mut self, api: ApiKey, faults: impl IntoIterator<Item = Fault>) {
        self.scripts.entry(api as i16).or_default().extend(faults);
    }

    pub(super) fn set_hook(&mut self, hook: Option<Hook>) {
        self.hook = hook;
    }

    pub(super) fn clear(&mut self) {
        self.scripts.clear();
        self.hook = None;
    }

    pub(super) fn decide(&mut self, seen: Seen<'_>) -> Fault {
        let scripted = self.scripts.get_mut(&(seen.api as i16));
        if let Some(fault) = scripted.and_then(VecDeque::pop_front) {
            return fault;
        }
        self.hook.as_mut().map_or(Fault::Serve, |hook| hook(seen))
    }
}
