//! Calls of one consumer's function: a task and a connection for each call in flight.
//!
//! Invariant: a request is sent at most once. A connection that breaks ends the call as
//! [`Outcome::Broken`], since the function may have run; whether to call again is the machine's to say.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use forebay_protocol::delivery::{CallId, Endpoint, Input, Invocation};
use forebay_protocol::http::{HeadError, RequestHead, Response};
use forebay_protocol::lambda::invoke::{Answer, Outcome, classify};
use forebay_protocol::limits::{CONNECT_TIMEOUT, CREDENTIALS_TIMEOUT, RESOLVE_TIMEOUT};
use forebay_protocol::sigv4::{self, Signer};
use forebay_protocol::time::Instant;
use monoio::task::JoinHandle;
use rustls::ClientConfig;
use thiserror::Error;

use super::Shard;
use super::exchange::{GATHERED_BYTES_MAX, exchange};
use super::queue::Queue;
use crate::clock;
use crate::contract::{Credentials, Request};
use crate::mapping::{Mapping, Signing};
use crate::net::deadline;
use crate::net::resolve::{ResolveError, resolve};
use crate::net::stream::{OpenError, Stream};
use crate::net::tcp::Handle;
use crate::net::tls;
use crate::trust::TlsError;

/// Room for a head with a session token, so that it grows rarely.
const HEAD_BYTES: usize = 2 * 1024;

const USER_AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// Calls the function of one mapping.
pub(super) struct Caller {
    mapping: Arc<Mapping>,
    endpoint: Endpoint,
    signer: Option<RefCell<Signer>>,
    shard: Rc<Shard>,
}

/// A call as its consumer holds it.
pub(super) struct Call {
    handle: Handle,
    task: JoinHandle<()>,
}

/// Why a call was not sent: the function has not run.
#[derive(Debug, Error)]
enum NotSent {
    #[error("{0}")]
    Unresolved(#[from] ResolveError),
    #[error("cannot connect: {0}")]
    Unreachable(OpenError),
    #[error("cannot connect: {}", .0.of_endpoint())]
    Insecure(#[from] TlsError),
    #[error("no AWS credentials were found within {CREDENTIALS_TIMEOUT:?}")]
    NoCredentials,
    #[error("the request cannot be written: {0}")]
    Head(#[from] HeadError),
    #[error("the call was given up before it was sent")]
    GivenUp,
    #[error("the call's deadline passed before it was sent")]
    TooLate,
}

impl Caller {
    pub(super) fn new(mapping: Arc<Mapping>, shard: Rc<Shard>) -> Self {
        let function = &mapping.function;
        Self {
            endpoint: Endpoint {
                host: function.host.clone(),
                port: function.port,
            },
            signer: match &function.signing {
                Signing::SigV4 { region } => Some(RefCell::new(Signer::new(region))),
                Signing::None => None,
            },
            mapping,
            shard,
        }
    }

    /// Whether its calls are signed.
    pub(super) fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// Starts a call, under TLS where there is a configuration for it; `inputs` gets its `CallEnded`, once.
    pub(super) fn call(
        self: &Rc<Self>,
        id: CallId,
        invocation: Invocation,
        tls: Option<Arc<ClientConfig>>,
        inputs: Queue<Input>,
    ) -> Call {
        let handle = Handle::default();
        let (caller, handed) = (Rc::clone(self), handle.clone());
        let task = monoio::spawn(async move {
            let outcome = caller.run(invocation, tls, &handed).await;
            handed.release();
            inputs.push(Input::CallEnded(id, outcome)).await;
        });
        Call { handle, task }
    }

    async fn run(
        &self,
        invocation: Invocation,
        tls: Option<Arc<ClientConfig>>,
        handle: &Handle,
    ) -> Outcome {
        let metrics = &self.shard.metrics;
        let started = clock::now();
        metrics.note_body(invocation.body_bytes);
        let outcome = match self.exchange(invocation, tls, handle).await {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::ServiceError {
                retry_after: None,
                message: reason.to_string(),
            },
        };
        metrics.note_call(clock::now().saturating_since(started));
        if self.signer.is_some() && outcome.is_about_credentials() {
            // A full wire means that control has much to do, and the next call asks again.
            let asked = self.shard.requests.try_send(Request::RefreshCredentials);
            asked.unwrap_or_default();
        }
        outcome
    }

    async fn exchange(
        &self,
        invocation: Invocation,
        tls: Option<Arc<ClientConfig>>,
        handle: &Handle,
    ) -> Result<Outcome, NotSent> {
        let head = self.head(&invocation, handle).await?;
        let mut stream = self.stream(&tls, invocation.deadline, handle).await?;
        let left = invocation.deadline.saturating_since(clock::now());
        if left.is_zero() {
            return Err(NotSent::TooLate);
        }
        let request = exchange(&mut stream, handle, head, invocation.pieces);
        let timed = deadline::within(request, left, || handle.reset()).await;
        Ok(match timed.output {
            Ok(response) => {
                if response.keep_alive {
                    let pool = &self.shard.pool;
                    pool.put(&self.endpoint, tls, stream, handle, clock::now());
                }
                outcome(&response)
            }
            Err(_) if timed.expired => broken("the call's deadline passed"),
            Err(error) => broken(&error.to_string()),
        })
    }

    async fn head(&self, invocation: &Invocation, handle: &Handle) -> Result<Vec<u8>, NotSent> {
        let Some(signer) = &self.signer else {
            return Ok(self.write_head(invocation, None)?);
        };
        let payload = match invocation.digest {
            Some(digest) => digest,
            None => self.shard.hashing.hash(invocation.pieces.clone()).await,
        };
        let credentials = self.credentials(handle).await?;
        let function = &self.mapping.function;
        let mut signer = signer.borrow_mut();
        let signature = signer.sign(
            &sigv4::Request {
                host: &function.host_header,
                path: &function.target.path,
                query: &function.target.query,
                payload: &payload,
            },
            &sigv4::Credentials {
                access_key_id: &credentials.access_key_id,
                secret_access_key: &credentials.secret_access_key,
                session_token: credentials
                    .session_token
                    .as_ref()
                    .map(|token| token.as_str()),
            },
            clock::unix_now().as_secs(),
        );
        Ok(self.write_head(invocation, Some(&signature))?)
    }

    fn write_head(
        &self,
        invocation: &Invocation,
        signature: Option<&sigv4::Signature<'_>>,
    ) -> Result<Vec<u8>, HeadError> {
        let function = &self.mapping.function;
        // A small body is sent together with its head.
        let body = match invocation.body_bytes {
            bytes if bytes <= GATHERED_BYTES_MAX => bytes,
            _ => 0,
        };
        let mut buffer = Vec::with_capacity(HEAD_BYTES + body);
        let target = &function.target;
        let mut head = RequestHead::post(
            &mut buffer,
            &target.path,
            &target.query,
            &function.host_header,
        );
        head.header("user-agent", USER_AGENT);
        for (name, value) in signature.iter().flat_map(|signature| signature.headers()) {
            head.header(name, value);
        }
        head.content_length(invocation.body_bytes);
        head.finish()?;
        Ok(buffer)
    }

    async fn credentials(&self, handle: &Handle) -> Result<Arc<Credentials>, NotSent> {
        if let Some(credentials) = &*self.shard.credentials.borrow() {
            return Ok(Arc::clone(credentials));
        }
        let mut wire = self.shard.credentials.clone();
        monoio::select! {
            found = wire.wait_for(Option::is_some) => {
                let found = found.ok().and_then(|found| found.clone());
                found.ok_or(NotSent::NoCredentials)
            }
            () = monoio::time::sleep(CREDENTIALS_TIMEOUT) => Err(NotSent::NoCredentials),
            () = handle.until_cut() => Err(NotSent::GivenUp),
        }
    }

    /// A connection to the endpoint: an idle one, or a new one.
    async fn stream(
        &self,
        tls: &Option<Arc<ClientConfig>>,
        deadline: Instant,
        handle: &Handle,
    ) -> Result<Stream, NotSent> {
        if handle.is_cut() {
            return Err(NotSent::GivenUp);
        }
        let (endpoint, shard) = (&self.endpoint, &self.shard);
        let now = clock::now();
        if let Some(stream) = shard.pool.take(endpoint, tls.as_ref(), handle, now) {
            return Ok(stream);
        }
        let target = match tls {
            Some(config) => Some(tls::Target::new(Arc::clone(config), &endpoint.host)?),
            None => None,
        };
        let limit = RESOLVE_TIMEOUT.min(deadline.saturating_since(now));
        let resolved = monoio::select! {
            resolved = resolve(&endpoint.host, endpoint.port, &shard.requests, limit) => resolved,
            () = handle.until_cut() => return Err(NotSent::GivenUp),
        };
        let limit = CONNECT_TIMEOUT.min(deadline.saturating_since(clock::now()));
        let opened = Stream::open(&resolved?, target.as_ref(), limit, handle).await;
        opened.map_err(|error| match error {
            OpenError::Tls(error) => NotSent::Insecure(error),
            error => NotSent::Unreachable(error),
        })
    }
}

impl Call {
    /// Closes the call's connection now; the call ends as broken, unless it has ended already.
    pub(super) fn cancel(&self) {
        self.handle.reset();
    }

    /// The task, which ends once it has pushed the outcome.
    pub(super) fn into_task(self) -> JoinHandle<()> {
        self.task
    }
}

fn outcome(response: &Response) -> Outcome {
    classify(&Answer {
        status: response.status,
        function_error: response.function_error.as_deref(),
        retry_after: response.retry_after.as_deref(),
        error_type: response.error_type.as_deref(),
        request_id: response.request_id.as_deref(),
        executed_version: response.executed_version.as_deref(),
        body: &response.body,
    })
}

fn broken(reason: &str) -> Outcome {
    Outcome::Broken {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
