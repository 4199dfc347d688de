//! A function on a socket that takes as long as it is told and keeps a ledger of its calls.
//!
//! Invariant: a call is noted as ended before its answer is written, so a call that was started because
//! of that answer is always noted as later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::unix_millis;

/// The function. Every Forebay process gets a port of its own, so that the ledger can tell them apart.
pub struct Sink {
    delay_ms: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
    key: Arc<OnceLock<String>>,
    next: Arc<AtomicU64>,
    tell: mpsc::UnboundedSender<Note>,
    ledger: Ledger,
}

/// All calls up to now.
pub struct Ledger {
    heard: mpsc::UnboundedReceiver<Note>,
    /// In the order in which they came.
    pub calls: Vec<Call>,
}

/// One invocation.
#[derive(Clone, Debug)]
pub struct Call {
    /// The port it came to.
    pub port: u16,
    /// When its head had arrived, in microseconds since 1970.
    pub opened: u64,
    /// When it ended; `None` while it is open.
    pub closed: Option<u64>,
    /// Whether it was answered well; else it failed, or the caller was gone before.
    pub answered: bool,
    /// The event.
    pub body: Bytes,
}

enum Note {
    Opened {
        number: usize,
        call: Call,
    },
    Closed {
        number: usize,
        at: u64,
        answered: bool,
    },
}

impl Sink {
    /// A function that answers at once.
    pub fn new() -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let calls = Vec::new();
        Self {
            delay_ms: Arc::default(),
            fails: Arc::default(),
            key: Arc::default(),
            next: Arc::default(),
            tell,
            ledger: Ledger { heard, calls },
        }
    }

    /// How long calls take from now on: up to twice this, different for each.
    pub fn set_delay(&self, mean: Duration) {
        let millis = u64::try_from(mean.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Whether calls fail from now on.
    pub fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// From now on only calls that are signed with that key reach the function; all others have keys that have expired.
    pub fn require_key(&self, access_key_id: &str) {
        self.key
            .set(access_key_id.to_owned())
            .expect("keys change once");
    }

    /// Opens a port for one more caller.
    pub async fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let (delay, fails, key, next, tell) = (
            Arc::clone(&self.delay_ms),
            Arc::clone(&self.fails),
            Arc::clone(&self.key),
            Arc::clone(&self.next),
            self.tell.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let function = Connection {
                    port,
                    stream,
                    buffer: BytesMut::new(),
                    delay_ms: Arc::clone(&delay),
                    fails: Arc::clone(&fails),
                    key: Arc::clone(&key),
                    next: Arc::clone(&next),
                    tell: tell.clone(),
                };
                tokio::spawn(function.serve());
            }
        });
        port
    }

    /// The ledger, up to date.
    pub fn ledger(&mut self) -> &Ledger {
        let calls = &mut self.ledger.calls;
        while let Ok(note) = self.ledger.heard.try_recv() {
            match note {
                Note::Opened { number, call } => {
                    // Connections number their calls before they tell them: fill up what is on its way.
                    if calls.len() <= number {
                        calls.resize_with(number + 1, Call::untold);
                    }
                    calls[number] = call;
                }
                Note::Closed {
                    number,
                    at,
                    answered,
                } => {
                    calls[number].closed = Some(at);
                    calls[number].answered = answered;
                }
            }
        }
        &self.ledger
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}

impl Call {
    fn untold() -> Self {
        Self {
            port: 0,
            opened: u64::MAX,
            closed: None,
            answered: false,
            body: Bytes::new(),
        }
    }
}

struct Connection {
    port: u16,
    stream: TcpStream,
    buffer: BytesMut,
    delay_ms: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
    key: Arc<OnceLock<String>>,
    next: Arc<AtomicU64>,
    tell: mpsc::UnboundedSender<Note>,
}

/// A request.
struct Request {
    is_post: bool,
    /// When it came.
    opened: u64,
    authorization: String,
    body: Bytes,
}

/// As Lambda refuses keys that are over.
const EXPIRED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nX-Amzn-ErrorType: ExpiredTokenException\r\nContent-Length: 67\r\n\r\n\
    {\"message\":\"The security token included in the request is expired\"}";

impl Connection {
    async fn serve(mut self) {
        while let Some(request) = self.request().await {
            if !self.is_known(&request) {
                if self.stream.write_all(EXPIRED).await.is_err() {
                    return;
                }
                continue;
            }
            let Request {
                is_post,
                opened,
                body,
                ..
            } = request;
            if !is_post {
                // What the function is cannot be asked here.
                let answer = b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\n{}";
                if self.stream.write_all(answer).await.is_err() {
                    return;
                }
                continue;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            let call = Call {
                port: self.port,
                opened,
                body,
                ..Call::untold()
            };
            self.note(Note::Opened { number, call });
            let gone = self.wait(number).await;
            let at = micros();
            let fails = self.fails.load(Ordering::Relaxed);
            self.note(Note::Closed {
                number,
                at,
                answered: !gone && !fails,
            });
            let answer: &[u8] = match fails {
                true => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Amz-Function-Error: Unhandled\r\n\r\n{}",
                false => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Amz-Executed-Version: $LATEST\r\n\r\nnull",
            };
            if gone || self.stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    /// Whether it is signed with the key that is asked for, if one is.
    fn is_known(&self, request: &Request) -> bool {
        self.key.get().is_none_or(|key| {
            let signed_by = format!("Credential={key}/");
            request.authorization.contains(&signed_by)
        })
    }

    fn note(&self, note: Note) {
        // A test that has ended no longer listens.
        self.tell.send(note).ok();
    }

    /// Works for as long as it was told; true if the caller went away meanwhile.
    async fn wait(&mut self, number: usize) -> bool {
        let mean = self.delay_ms.load(Ordering::Relaxed);
        let spread = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let delay = Duration::from_millis(if mean == 0 {
            0
        } else {
            spread % (2 * mean + 1)
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => false,
            // Nobody sends before the answer: whatever comes is the end.
            read = self.stream.read_buf(&mut self.buffer) => !matches!(read, Ok(1..)),
        }
    }

    /// One request; `None` at the end of the connection.
    async fn request(&mut self) -> Option<Request> {
        let mut opened = None;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            let parsed = request.parse(&self.buffer).expect("Forebay writes HTTP");
            if let httparse::Status::Complete(head) = parsed {
                let opened = *opened.get_or_insert_with(micros);
                let is_post = request.method == Some("POST");
                let authorization = header(request.headers, "authorization").to_owned();
                let length = header(request.headers, "content-length").parse();
                let length = length.unwrap_or(0);
                if self.buffer.len() >= head + length {
                    self.buffer.advance(head);
                    return Some(Request {
                        is_post,
                        opened,
                        authorization,
                        body: self.buffer.split_to(length).freeze(),
                    });
                }
                self.buffer.reserve(length);
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }
}

/// A header's value; empty without one.
fn header<'a>(headers: &'a [httparse::Header<'_>], name: &str) -> &'a str {
    let mut found = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let value = found.next().map_or(&b""[..], |header| header.value);
    std::str::from_utf8(value).unwrap_or_default().trim()
}

fn micros() -> u64 {
    u64::try_from(forebay::clock::unix_now().as_micros()).unwrap_or(unix_millis())
}
