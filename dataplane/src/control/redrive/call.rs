//! The function, called with what it failed on: one call at a time, signed as those of shards are.
//!
//! Invariant: an answer means what it means on a shard; what passes by itself is tried again, so many times, and whatever
//! else keeps calls from being made ends the redrive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::lambda::event::{EventRecord, EventText};
use forebay_protocol::lambda::invoke::{self, Outcome, classify};
use forebay_protocol::lambda::item_failures::item_failures;
use forebay_protocol::limits::{
    BACKOFF_MAX, CALL_DEADLINE_MARGIN, RETRY_AFTER_MAX, SERVICE_ERROR_BACKOFF,
};
use tokio::time::Instant;

use crate::contract::Credentials;
use crate::control::aws::Keys;
use crate::control::aws::credentials::NO_CREDENTIALS;
use crate::control::function::{self, Unanswered};
use crate::control::http::{self, Failure};
use crate::mapping::{Function, Mapping, Signing, initial_call_deadline};

/// Calls of one event that were throttled, or not answered: with their back-offs they last about ten minutes.
const TRIES: u32 = 20;

/// Calls that the service has failed, or whose connection broke: the endpoint is likely to be down.
const FAILED_TRIES: u32 = 8;

/// Calls the function.
pub(super) struct Calls {
    mapping: Arc<Mapping>,
    client: reqwest::Client,
    keys: Keys,
    deadline: Duration,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Called {
    /// The function has taken all of its records but these, of which it says that they failed.
    Taken(Vec<(i32, i64)>),
    /// It has failed: why.
    Failed(String),
    /// It is too large for the endpoint.
    TooLarge(String),
}

/// Why no call can be made: the redrive ends.
pub(super) type NoCalls = String;

impl Calls {
    pub(super) async fn new(mapping: Arc<Mapping>, keys: Keys) -> Result<Self, NoCalls> {
        let function = &mapping.function;
        let client = function::client(function).await.map_err(|error| {
            format!("the function's endpoint cannot be asked ({error}); correct ca_bundle")
        })?;
        let mut calls = Self {
            deadline: initial_call_deadline(function),
            client,
            keys,
            mapping: Arc::clone(&mapping),
        };
        // Where its timeout is configured it is not asked for.
        if function.timeout.is_none() {
            let credentials = calls.credentials().await?;
            let asked = function::ask(&calls.client, function, credentials.as_deref()).await;
            match asked {
                function::Answer::Known { timeout, .. } => {
                    calls.deadline = timeout + CALL_DEADLINE_MARGIN;
                }
                function::Answer::Missing => {
                    let name = &function.name;
                    return Err(format!(
                        "function {name} does not exist; create it or correct FunctionName"
                    ));
                }
                // A call says more.
                _ => {}
            }
        }
        Ok(calls)
    }

    /// How long a call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Calls with an event, until there is an answer that says something of it.
    pub(super) async fn call(&self, event: &EventText) -> Result<Called, NoCalls> {
        let body = Bytes::copy_from_slice(event.text().as_bytes());
        let (mut tries, mut failed) = (0, 0);
        let mut backoff = SERVICE_ERROR_BACKOFF;
        loop {
            tries += 1;
            let outcome = self.once(&body).await?;
            let reason = outcome.reason().unwrap_or_default();
            let retry_after = match outcome {
                Outcome::Success { body, .. } => return Ok(self.answered(event, &body)),
                Outcome::FunctionError { .. } => return Ok(Called::Failed(reason)),
                Outcome::TooLarge { .. } => return Ok(Called::TooLarge(reason)),
                Outcome::Refused { .. } => {
                    return Err(format!(
                        "the function cannot be called: {reason}; forebay check says what is in the way"
                    ));
                }
                Outcome::Throttled { retry_after, .. } => retry_after,
                Outcome::ServiceError { retry_after, .. } => {
                    failed += 1;
                    retry_after
                }
                Outcome::Broken { .. } => {
                    failed += 1;
                    None
                }
            };
            if tries == TRIES || failed == FAILED_TRIES {
                return Err(format!(
                    "the function cannot be called: {reason}, {tries} times"
                ));
            }
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            tokio::time::sleep(backoff.max(asked)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(&self, event: &Bytes) -> Result<Outcome, NoCalls> {
        let function = &self.mapping.function;
        let credentials = self.credentials().await?;
        let (started, deadline) = (Instant::now(), self.deadline);
        let credentials = credentials.as_deref();
        let answer = function::invoke(&self.client, function, credentials, event, deadline).await;
        Ok(match answer {
            Ok(answer) => outcome(&answer),
            Err(Unanswered::NotSigned(reason)) => return Err(reason),
            Err(Unanswered::Failed(Failure::Tls(error))) => {
                let said = error.of_endpoint();
                return Err(format!("the function cannot be called: {said}"));
            }
            Err(Unanswered::Failed(Failure::Broken(reason))) => Outcome::Broken {
                reason: match started.elapsed() >= deadline {
                    true => format!("the call's deadline of {deadline:?} passed"),
                    false => reason,
                },
            },
        })
    }

    async fn credentials(&self) -> Result<Option<Arc<Credentials>>, NoCalls> {
        if self.mapping.function.signing == Signing::None {
            return Ok(None);
        }
        let keys = self.keys.newest().await;
        keys.map(Some).ok_or_else(|| NO_CREDENTIALS.to_owned())
    }

    /// What a function that was called says of the records (contract 4.4).
    fn answered(&self, event: &EventText, body: &[u8]) -> Called {
        if !self.mapping.retry.report_item_failures {
            return Called::Taken(Vec::new());
        }
        let named = match item_failures(body) {
            Ok(named) => named,
            Err(reason) => return Called::Failed(reason),
        };
        let mut failed = Vec::with_capacity(named.len());
        for item in named {
            let is_named =
                |it: &&EventRecord| it.offset == item.offset && it.lane() == item.partition;
            match event.records().iter().find(is_named) {
                Some(record) => failed.push((record.partition, record.offset)),
                None => {
                    let what = "the function names a record as failed that it was not called with";
                    return Called::Failed(what.to_owned());
                }
            }
        }
        Called::Taken(failed)
    }
}

fn outcome(answer: &http::Answer) -> Outcome {
    // Its mere presence counts.
    let error = answer.headers.get("x-amz-function-error");
    classify(&invoke::Answer {
        status: answer.status,
        function_error: error.map(|it| it.to_str().unwrap_or_default()),
        retry_after: answer.header("retry-after"),
        error_type: answer.header("x-amzn-errortype"),
        request_id: answer.header("x-amzn-requestid"),
        executed_version: answer.header("x-amz-executed-version"),
        body: &Bytes::copy_from_slice(&answer.body),
    })
}

/// Whether one more call beside those of a node may be too many.
pub(super) fn is_capped(function: &Function) -> bool {
    function.max_in_flight.is_some()
}
