//! The endpoint's thread: its connections, and what is said on them.
//!
//! Invariant: a success is answered only after the whole body was read and entered.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::limits::BODY_BYTES_LIMIT;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::http::{Body, Connection, Head};
use super::lean::Lean;
use super::ledger::Invocation;
use super::{Functions, Reply, event};
use crate::secure::{Accepted, Identity};
use crate::{clock, signature};

/// A running endpoint; it stops when dropped.
#[derive(Debug)]
pub struct FakeLambda {
    address: SocketAddr,
    scheme: &'static str,
    tasks: mpsc::UnboundedSender<Task>,
    thread: Option<JoinHandle<()>>,
}

/// Any free port.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Task = Box<dyn FnOnce(&mut Functions) + Send>;

impl FakeLambda {
    /// An endpoint that enters every call in its ledger.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None, LOOPBACK, None)
    }

    /// An endpoint that only counts.
    pub fn start_lean() -> io::Result<Self> {
        Self::start_lean_at(LOOPBACK)
    }

    /// The same at an address of the caller's choice.
    pub fn start_lean_at(address: SocketAddr) -> io::Result<Self> {
        Self::start_with(Some(Lean::new()), address, None)
    }

    /// An endpoint under TLS that enters every call in its ledger.
    pub fn start_secure(identity: &Identity) -> io::Result<Self> {
        Self::start_with(None, LOOPBACK, Some(Arc::clone(&identity.server)))
    }

    /// An endpoint under TLS that only counts.
    pub fn start_lean_secure(identity: &Identity) -> io::Result<Self> {
        let tls = Some(Arc::clone(&identity.server));
        Self::start_with(Some(Lean::new()), LOOPBACK, tls)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an `endpoint_url`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Runs `f` on the endpoint's state and hands back what it gives.
    pub async fn with<R, F>(&self, f: F) -> R
    where
        R: Send + 'static,
        F: FnOnce(&mut Functions) -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |functions| {
            // The asker may have given up waiting; the work is done all the same.
            answer.send(f(functions)).ok();
        });
        assert!(
            self.tasks.send(task).is_ok(),
            "the endpoint runs until it is dropped"
        );
        answered
            .await
            .expect("the endpoint answers before it stops")
    }

    fn start_with(
        lean: Option<Lean>,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let scheme = match tls {
            Some(_) => "https",
            None => "http",
        };
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (tasks, queue) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, serve(listener, lean, tls, queue));
        };
        let builder = std::thread::Builder::new().name("fake-lambda".to_owned());
        Ok(Self {
            address,
            scheme,
            tasks,
            thread: Some(builder.spawn(serve)?),
        })
    }
}

impl Drop for FakeLambda {
    fn drop(&mut self) {
        let (closed, _) = mpsc::unbounded_channel();
        // The last sender goes: the endpoint's loop ends.
        drop(std::mem::replace(&mut self.tasks, closed));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the fake endpoint panicked"
            );
        }
    }
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    functions: Rc<RefCell<Functions>>,
    began: u64,
    tls: Option<Arc<ServerConfig>>,
}

async fn serve(
    listener: std::net::TcpListener,
    lean: Option<Lean>,
    tls: Option<Arc<ServerConfig>>,
    mut tasks: mpsc::UnboundedReceiver<Task>,
) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let shared = Shared {
        functions: Rc::new(RefCell::new(Functions::new(lean))),
        began: clock::monotonic_micros(),
        tls,
    };
    loop {
        tokio::select! {
            task = tasks.recv() => match task {
                Some(task) => task(&mut shared.functions.borrow_mut()),
                None => return,
            },
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::task::spawn_local(serve_connection(stream, shared.clone()));
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Shared) {
    let Ok(stream) = Accepted::new(stream, shared.tls.as_ref()).await else {
        return;
    };
    let mut connection = Connection::new(stream);
    while let Ok(Some(head)) = connection.read_head().await {
        match shared.serve_call(&mut connection, head).await {
            Ok(Next::Serve) => {}
            Ok(Next::Close) | Err(_) => return,
            Ok(Next::Reset) => return connection.reset(),
        }
    }
}

/// What follows on a connection.
enum Next {
    Serve,
    Close,
    Reset,
}

impl Shared {
    async fn serve_call(&self, connection: &mut Connection, head: Head) -> io::Result<Next> {
        let Some((function, operation)) = target(&head.path) else {
            let reply = Reply::error(404, "UnknownOperationException", "no such path");
            return self.refuse(connection, &head, reply).await;
        };
        match (head.method.as_str(), operation) {
            ("GET", "configuration") => {
                let reply = self.configuration(&function);
                return self.refuse(connection, &head, reply).await;
            }
            ("POST", "invocations") => {}
            _ => {
                let reply = Reply::error(405, "UnknownOperationException", "no such method");
                return self.refuse(connection, &head, reply).await;
            }
        }
        let scripted = self.functions.borrow_mut().scripted(&function);
        if scripted == Some(Reply::ResetBeforeBody) {
            return Ok(Next::Reset);
        }
        let limit = self.functions.borrow().body_limit;
        let body = match connection.read_body(&head, limit.saturating_sub(1)).await? {
            Body::Whole(body) => body,
            Body::TooLarge => {
                let message = format!(
                    "Request must be smaller than {limit} bytes for the InvokeFunction operation"
                );
                let reply = Reply::error(413, "RequestEntityTooLargeException", &message);
                return answer(connection, &reply).await;
            }
        };
        if let Some(next) = self
            .count(connection, &function, &body, scripted.as_ref())
            .await?
        {
            return Ok(next);
        }
        let (number, reply) = self.enter(function, head, body, scripted);
        let result = answer(connection, &reply).await;
        let ended = self.elapsed();
        let succeeded = result.is_ok() && reply.is_success();
        self.functions
            .borrow_mut()
            .ledger
            .end(number, ended, succeeded);
        result
    }

    /// A lean endpoint's way: counted if it succeeds, answered, not kept.
    async fn count(
        &self,
        connection: &mut Connection,
        function: &str,
        body: &Bytes,
        scripted: Option<&Reply>,
    ) -> io::Result<Option<Next>> {
        {
            let mut functions = self.functions.borrow_mut();
            let Some(lean) = &mut functions.lean else {
                return Ok(None);
            };
            if scripted.is_none_or(Reply::is_success) {
                let now = clock::monotonic_micros();
                lean.take(body, now);
                functions.take_apart(function, body, now);
                if functions.sample.is_none() {
                    // A copy: the body's buffer is to be used again.
                    functions.sample = Some(Bytes::copy_from_slice(body));
                }
            }
        }
        match scripted {
            Some(reply) => answer(connection, reply).await.map(Some),
            None => {
                connection.write(LEAN_ANSWER).await?;
                Ok(Some(Next::Serve))
            }
        }
    }

    fn enter(
        &self,
        function: String,
        head: Head,
        body: Bytes,
        scripted: Option<Reply>,
    ) -> (usize, Reply) {
        let mut guard = self.functions.borrow_mut();
        let functions = &mut *guard;
        if let Some(keys) = &functions.keys
            && let Err(reason) = signature::check(&head, &body, "lambda", keys)
        {
            functions
                .ledger
                .violation(format!("a call of {function}: {reason}"));
        }
        let records = event::read(&body).unwrap_or_else(|reason| {
            functions
                .ledger
                .violation(format!("a call of {function}: {reason}"));
            Vec::new()
        });
        let call = Invocation {
            function,
            head,
            body,
            records,
            began: self.elapsed(),
            ended: None,
            succeeded: false,
        };
        let hook = functions.hook.as_mut();
        let reply = scripted
            .or_else(|| hook.map(|hook| hook(&call)))
            .unwrap_or_else(Reply::ok);
        (functions.ledger.begin(call), reply)
    }

    fn configuration(&self, function: &str) -> Reply {
        let mut functions = self.functions.borrow_mut();
        functions.configurations_asked += 1;
        if functions.missing.contains(function) {
            let message = format!("Function not found: {function}");
            return Reply::error(404, "ResourceNotFoundException", &message);
        }
        let timeout = functions.timeouts.get(function).copied().unwrap_or(30);
        let arn = format!("arn:aws:lambda:eu-west-1:111122223333:function:{function}");
        let name = function.rsplit(':').next().unwrap_or(function);
        let document = serde_json::json!({
            "FunctionName": name, "FunctionArn": arn, "Timeout": timeout, "Version": "$LATEST",
        });
        Reply::Ok(Bytes::from(document.to_string()))
    }

    async fn refuse(
        &self,
        connection: &mut Connection,
        head: &Head,
        reply: Reply,
    ) -> io::Result<Next> {
        connection.read_body(head, BODY_BYTES_LIMIT).await?;
        answer(connection, &reply).await
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(clock::monotonic_micros().saturating_sub(self.began))
    }
}

const LEAN_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Amz-Executed-Version: $LATEST\r\nContent-Length: 4\r\n\r\nnull";

async fn answer(connection: &mut Connection, reply: &Reply) -> io::Result<Next> {
    let (status, headers, body) = match reply {
        Reply::Ok(body) => (200, Vec::new(), body),
        Reply::FunctionError { kind, body } => {
            let header = ("X-Amz-Function-Error".to_owned(), kind.clone());
            (200, vec![header], body)
        }
        Reply::Status {
            status,
            headers,
            body,
        } => (*status, headers.clone(), body),
        Reply::ResetBeforeBody | Reply::ResetAfterBody => return Ok(Next::Reset),
        Reply::HalfAnswer => {
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":";
            connection.write(half).await?;
            return Ok(Next::Close);
        }
        Reply::Hang => {
            connection.wait_for_peer().await;
            return Ok(Next::Close);
        }
        Reply::After(delay, reply) => {
            tokio::time::sleep(*delay).await;
            return Box::pin(answer(connection, reply)).await;
        }
    };
    let mut text = format!("HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n");
    text.push_str("X-Amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n");
    text.push_str("X-Amz-Executed-Version: $LATEST\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    connection.write(&bytes).await?;
    Ok(Next::Serve)
}

/// The function's name (decoded) and the operation that a path names.
fn target(path: &str) -> Option<(String, &str)> {
    let rest = path.strip_prefix("/2015-03-31/functions/")?;
    let (name, operation) = rest.split_once('/')?;
    Some((decode(name)?, operation))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const EVENT: &str = r#"{"eventSource":"SelfManagedKafka","bootstrapServers":"b:1","records":{"t-0":[{"topic":"t","partition":0,"offset":0,"timestamp":1,"timestampType":"CREATE_TIME","headers":[]}]}}"#;

    async fn call(lambda: &FakeLambda, function: &str) -> String {
        let mut stream = TcpStream::connect(lambda.address()).await.unwrap();
        let head = format!(
            "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
            EVENT.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(EVENT.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test]
    async fn script_is_followed_and_every_call_entered() {
        let lambda = FakeLambda::start().unwrap();
        let replies = [Reply::function_error(), Reply::throttled(Some(3))];
        lambda
            .with(|functions| functions.script("f", replies))
            .await;
        assert!(
            call(&lambda, "f")
                .await
                .contains("X-Amz-Function-Error: Unhandled")
        );
        assert!(call(&lambda, "f").await.contains("Retry-After: 3"));
        assert!(call(&lambda, "f").await.ends_with("null"));
        lambda
            .with(|functions| {
                let ledger = functions.ledger();
                assert_eq!(ledger.calls().len(), 3);
                assert_eq!(ledger.delivered("t", 0), [0]);
                assert_eq!(ledger.attempted("t", 0), [0, 0, 0]);
                assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
            })
            .await;
    }

    #[tokio::test]
    async fn lean_endpoint_counts_what_succeeds_however_late() {
        let lambda = FakeLambda::start_lean().unwrap();
        let late = Reply::ok().after(Duration::from_millis(1));
        let replies = [Reply::function_error(), late];
        lambda
            .with(|functions| functions.script("f", replies))
            .await;
        let records = async || {
            let counted = |functions: &mut Functions| functions.lean().map(|lean| lean.records);
            lambda.with(counted).await.unwrap()
        };
        assert!(call(&lambda, "f").await.contains("Unhandled"));
        assert_eq!(records().await, 0);
        assert!(call(&lambda, "f").await.ends_with("null"));
        assert_eq!(records().await, 1);
    }

    #[tokio::test]
    async fn two_functions_of_one_topic_are_no_duplicates_where_they_are_counted_apart() {
        let lambda = FakeLambda::start_lean().unwrap();
        lambda.with(Functions::count_apart).await;
        for function in ["f", "g", "f"] {
            call(&lambda, function).await;
        }
        let counted = lambda.with(|functions| {
            let apart = functions.apart();
            let counts = apart.map(|(name, lean)| (name.to_owned(), lean.records, lean.duplicates));
            counts.collect::<Vec<_>>()
        });
        let expected = [("f".to_owned(), 2, 1), ("g".to_owned(), 1, 0)];
        assert_eq!(counted.await, expected);
    }

    #[tokio::test]
    async fn two_open_calls_of_one_partition_are_a_violation() {
        let lambda = FakeLambda::start().unwrap();
        lambda
            .with(|functions| functions.script("f", [Reply::Hang]))
            .await;
        let second = async {
            while lambda
                .with(|functions| functions.ledger().open_calls())
                .await
                == 0
            {}
            call(&lambda, "f").await
        };
        // Kept beside the second call until that has ended.
        let mut hanging = std::pin::pin!(call(&lambda, "f"));
        let mut second = std::pin::pin!(second);
        tokio::select! {
            _ = &mut hanging => panic!("it hangs"),
            answer = &mut second => assert!(answer.ends_with("null")),
        }
        let violations = lambda
            .with(|functions| functions.ledger().violations().len())
            .await;
        assert_eq!(violations, 1);
    }

    #[test]
    fn arn_in_a_path_is_decoded() {
        let (name, operation) = target("/2015-03-31/functions/a%3Ab/invocations").unwrap();
        assert_eq!((name.as_str(), operation), ("a:b", "invocations"));
    }
}
