//! A Lambda endpoint on a thread of its own: takes invocations, answers by script, keeps a ledger.
//!
//! A test scripts a function with [`Functions::script`] (each call takes the next reply) or
//! [`Functions::always`], and reads [`Functions::ledger`], all through [`FakeLambda::with`]. Started
//! lean, it only counts: see [`lean`].
//!
//! Source: contract sections 1 and 3; AWS API reference "Invoke", "GetFunctionConfiguration".
//!
//! Invariant: a call takes one reply, and is in the ledger before it has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::limits::BODY_BYTES_LIMIT;

pub mod event;
mod http;
pub mod lean;
mod ledger;
mod server;

pub use crate::signature::Keys;
pub use http::Head;
pub use ledger::{Invocation, Lane, Ledger};
pub use server::FakeLambda;

use lean::Lean;

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200 with that body.
    Ok(Bytes),
    /// 200 with `X-Amz-Function-Error`: the function ran and failed.
    FunctionError {
        /// `Unhandled` or `Handled`.
        kind: String,
        /// The error document.
        body: Bytes,
    },
    /// Any status.
    Status {
        /// The status.
        status: u16,
        /// More headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// The connection is reset before the body was read.
    ResetBeforeBody,
    /// The connection is reset when the body was read.
    ResetAfterBody,
    /// The head and a part of the body, then the connection ends.
    HalfAnswer,
    /// No answer, until the caller gives up.
    Hang,
    /// Another reply, that much later.
    After(Duration, Box<Self>),
}

impl Reply {
    /// A success with `null`, as a function that returns nothing gives.
    pub fn ok() -> Self {
        Self::Ok(Bytes::from_static(b"null"))
    }

    /// An error of the function's own.
    pub fn function_error() -> Self {
        Self::FunctionError {
            kind: "Unhandled".to_owned(),
            body: Bytes::from_static(br#"{"errorMessage":"no","errorType":"Error"}"#),
        }
    }

    /// A status with an AWS error type and message.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::Status {
            status,
            headers: vec![("x-amzn-ErrorType".to_owned(), kind.to_owned())],
            body: Bytes::from(format!(r#"{{"Message":"{message}"}}"#)),
        }
    }

    /// 429, with `Retry-After` in seconds where given.
    pub fn throttled(retry_after: Option<u32>) -> Self {
        let mut reply = Self::error(429, "TooManyRequestsException", "Rate Exceeded.");
        if let (Self::Status { headers, .. }, Some(seconds)) = (&mut reply, retry_after) {
            headers.push(("Retry-After".to_owned(), seconds.to_string()));
        }
        reply
    }

    /// The same, that much later.
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }

    fn is_success(&self) -> bool {
        match self {
            Self::Ok(_) => true,
            Self::After(_, reply) => reply.is_success(),
            Self::FunctionError { .. }
            | Self::Status { .. }
            | Self::ResetBeforeBody
            | Self::ResetAfterBody
            | Self::HalfAnswer
            | Self::Hang => false,
        }
    }
}

/// A closure that decides over calls that no script speaks for.
pub type Hook = Box<dyn FnMut(&Invocation) -> Reply + Send>;

/// Functions that a lean endpoint counts apart.
pub const APART_MAX: usize = 1_000;

/// The endpoint's whole state.
pub struct Functions {
    ledger: Ledger,
    lean: Option<Lean>,
    /// The same of each function, where they are counted apart.
    apart: Option<BTreeMap<String, Lean>>,
    scripts: BTreeMap<String, VecDeque<Reply>>,
    standing: BTreeMap<String, Reply>,
    otherwise: Option<Reply>,
    timeouts: BTreeMap<String, u32>,
    missing: BTreeSet<String>,
    hook: Option<Hook>,
    keys: Option<Keys>,
    body_limit: usize,
    configurations_asked: u64,
    sample: Option<Bytes>,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions")
            .field("calls", &self.ledger.calls().len())
            .field("violations", &self.ledger.violations())
            .finish_non_exhaustive()
    }
}

impl Functions {
    fn new(lean: Option<Lean>) -> Self {
        Self {
            ledger: Ledger::default(),
            lean,
            apart: None,
            scripts: BTreeMap::new(),
            standing: BTreeMap::new(),
            otherwise: None,
            timeouts: BTreeMap::new(),
            missing: BTreeSet::new(),
            hook: None,
            keys: None,
            body_limit: BODY_BYTES_LIMIT,
            configurations_asked: 0,
            sample: None,
        }
    }

    /// Queues replies for the next calls of `function`.
    pub fn script(&mut self, function: &str, replies: impl IntoIterator<Item = Reply>) {
        let script = self.scripts.entry(function.to_owned()).or_default();
        script.extend(replies);
    }

    /// What every call of `function` gets when its script has ended; a success if never set.
    pub fn always(&mut self, function: &str, reply: Reply) {
        self.standing.insert(function.to_owned(), reply);
    }

    /// Forgets what every call of `function` was to get.
    pub fn forget(&mut self, function: &str) {
        self.standing.remove(function);
    }

    /// What every call gets that neither a script nor [`Self::always`] speaks for.
    pub fn otherwise(&mut self, reply: Reply) {
        self.otherwise = Some(reply);
    }

    /// Lets a closure decide over calls without a script.
    pub fn set_hook(&mut self, hook: Option<Hook>) {
        self.hook = hook;
    }

    /// Lets `function` not exist, for Invoke and GetFunctionConfiguration.
    pub fn remove_function(&mut self, function: &str) {
        self.missing.insert(function.to_owned());
    }

    /// The timeout in seconds that GetFunctionConfiguration tells.
    pub fn set_timeout(&mut self, function: &str, seconds: u32) {
        self.timeouts.insert(function.to_owned(), seconds);
    }

    /// From now on every call must be signed with those keys.
    pub fn require_signatures(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// Bodies of that many bytes and more are answered 413.
    pub fn set_body_limit(&mut self, bytes: usize) {
        self.body_limit = bytes;
    }

    /// What was received.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The counts of a lean endpoint.
    pub fn lean(&mut self) -> Option<&mut Lean> {
        self.lean.as_mut()
    }

    /// A lean endpoint counts each function apart as well, from now on: two that get the same topic are no duplicates.
    pub fn count_apart(&mut self) {
        self.apart = Some(BTreeMap::new());
    }

    /// The counts of each function, where they are counted apart; of more than
    /// [`APART_MAX`] the rest is under an empty name.
    pub fn apart(&self) -> impl Iterator<Item = (&str, &Lean)> {
        let apart = self.apart.iter().flatten();
        apart.map(|(name, lean)| (name.as_str(), lean))
    }

    fn take_apart(&mut self, function: &str, body: &[u8], now: u64) {
        let Some(apart) = &mut self.apart else { return };
        let name = match apart.contains_key(function) || apart.len() < APART_MAX {
            true => function,
            false => "",
        };
        apart.entry(name.to_owned()).or_default().take(body, now);
    }

    /// The first body that a lean endpoint received.
    pub fn sample(&self) -> Option<&Bytes> {
        self.sample.as_ref()
    }

    /// How often GetFunctionConfiguration was asked.
    pub fn configurations_asked(&self) -> u64 {
        self.configurations_asked
    }

    fn scripted(&mut self, function: &str) -> Option<Reply> {
        if self.missing.contains(function) {
            let message = format!("Function not found: {function}");
            return Some(Reply::error(404, "ResourceNotFoundException", &message));
        }
        let next = self.scripts.get_mut(function).and_then(VecDeque::pop_front);
        next.or_else(|| self.standing.get(function).cloned())
            .or_else(|| self.otherwise.clone())
    }
}
