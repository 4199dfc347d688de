//! TLS 1.2 and 1.3 by rustls's unbuffered API, over a socket of a shard.
//!
//! The two directions share a [`Session`], which is borrowed between two operations on the socket and never
//! across one. Records are decrypted where they lie, and bodies are encrypted straight from the pieces that
//! they are made of, in steps of [`SEALED_BYTES`].
//!
//! Sources: RFC 8446, RFC 5246; the documentation of `rustls::unbuffered`.
//!
//! Invariant: what is encoded goes out in the order in which it was encoded. And whoever asks the session
//! anything shows it all bytes that it has begun to read: it remembers where in them a handshake message
//! lies that is not whole yet, and would look outside of fewer.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use monoio::buf::{IoBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, Error as RustlsError};

use super::stream::{self, Stream};
use super::tcp;
use crate::trust::{self, CLOSED_IN_HANDSHAKE, TlsError, server_name};

/// Plain bytes that are encrypted and sent at once: eight records of the largest size.
const SEALED_BYTES: usize = 8 * RECORD_BYTES;

/// What a record carries at most.
const RECORD_BYTES: usize = 16 * 1024;

/// A larger buffer is given back after what it was for: connections are idle most of the time.
const KEPT_BYTES: usize = 2 * RECORD_BYTES;

/// More than encryption adds to a record.
const RECORD_OVERHEAD: usize = 64;

/// Room for one read while little comes, and while much does.
const READ_BYTES: (usize, usize) = (4 * 1024, 256 * 1024);

/// Whom to expect at the other end, and how to speak to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Roots, certificate of our own, versions.
    pub(crate) config: Arc<ClientConfig>,
    /// What the server's certificate must be for.
    pub(crate) name: ServerName<'static>,
}

impl Target {
    /// A server by the name or address at which it is reached.
    pub(crate) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, TlsError> {
        let name = server_name(host)?;
        Ok(Self { config, name })
    }
}

const CLOSED: &str = "it closed the connection";

/// What both directions share.
struct Session {
    tls: UnbufferedClientConnection,
    /// The server has asked for a certificate.
    asked: bool,
    /// There is one.
    presents: bool,
    /// Plain bytes have come.
    spoke: bool,
    /// What has come; behind `begun` it is not done with.
    incoming: Vec<u8>,
    begun: usize,
    /// Plain bytes for which the reader had no room.
    plain: BytesMut,
    /// Encoded and not sent: it goes before all that is encrypted later.
    outgoing: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    failed: Option<TlsError>,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// Bytes, before the handshake is done.
    Handshake,
    /// Bytes; and it takes plain ones.
    Traffic,
    /// Room for the plain bytes that it has.
    Room,
    /// Nothing any more.
    Nothing,
}

/// What the peer sends, decrypted.
pub(crate) struct Reader {
    socket: TcpOwnedReadHalf,
    session: Rc<RefCell<Session>>,
    /// What the session's `incoming` was before; used again.
    spare: Vec<u8>,
    /// Room for the next read.
    room: usize,
}

/// What we send, to be encrypted.
pub(crate) struct Writer {
    socket: TcpOwnedWriteHalf,
    session: Rc<RefCell<Session>>,
    sealed: Sealed,
}

/// Encrypted bytes in a buffer that keeps its length: what is used again needs no zeros.
#[derive(Default)]
struct Sealed {
    buffer: Vec<u8>,
    used: usize,
}

/// Makes a connection secure. It ends only with the socket: whoever has a limit cuts that.
pub(crate) async fn handshake(stream: tcp::Stream, target: &Target) -> Result<Stream, TlsError> {
    let tls = UnbufferedClientConnection::new(Arc::clone(&target.config), target.name.clone())
        .map_err(|error| TlsError::Failed(error.to_string()))?;
    let session = Rc::new(RefCell::new(Session::new(
        tls,
        target.config.client_auth_cert_resolver.has_certs(),
    )));
    let mut reader = Reader {
        socket: stream.reader,
        session: Rc::clone(&session),
        spare: Vec::new(),
        room: READ_BYTES.0,
    };
    let mut writer = Writer {
        socket: stream.writer,
        session: Rc::clone(&session),
        sealed: Sealed::default(),
    };
    loop {
        let wants = session.borrow_mut().process(|_| 0);
        // After a failure this is the alert that says why.
        let flushed = writer.flush().await;
        if let Some(failed) = &session.borrow().failed {
            return Err(failed.clone());
        }
        flushed.map_err(|error| session.borrow().broken(&error))?;
        match wants {
            Wants::Traffic => {
                return Ok(Stream {
                    reader: stream::Reader::Tls(reader),
                    writer: stream::Writer::Tls(writer),
                });
            }
            Wants::Handshake if !session.borrow().ended => {
                let filled = reader.fill().await;
                filled.map_err(|error| session.borrow().broken(&error))?;
            }
            Wants::Handshake | Wants::Nothing => {
                let closed = TlsError::Broken(CLOSED_IN_HANDSHAKE.to_owned());
                return Err(session.borrow().meaning(closed));
            }
            Wants::Room => {}
        }
    }
}

impl Session {
    fn new(tls: UnbufferedClientConnection, presents: bool) -> Self {
        Self {
            tls,
            asked: false,
            presents,
            spoke: false,
            incoming: Vec::new(),
            begun: 0,
            plain: BytesMut::new(),
            outgoing: Vec::new(),
            ended: false,
            failed: None,
        }
    }

    /// Goes on as far as what has come allows. `take` is shown plain bytes and says how many of them it took;
    /// the others are kept.
    fn process(&mut self, mut take: impl FnMut(&[u8]) -> usize) -> Wants {
        while self.failed.is_none() {
            let (tls, incoming) = (&mut self.tls, &mut self.incoming[self.begun..]);
            let UnbufferedStatus { mut discard, state } =
                trust::step(&mut self.asked, move || tls.process_tls_records(incoming));
            let mut failed = None;
            let wants = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                let taken = match self.plain.is_empty() {
                                    true => take(record.payload),
                                    false => 0,
                                };
                                self.plain.extend_from_slice(&record.payload[taken..]);
                            }
                            Err(error) => failed = Some(error),
                        }
                    }
                    (!self.plain.is_empty()).then_some(Wants::Room)
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing);
                    None
                }
                // It is sent before anything that is encoded later, which is all that is asked for.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Wants::Handshake),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Wants::Traffic),
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    None
                }
                Ok(ConnectionState::Closed) => Some(Wants::Nothing),
                Ok(_) => {
                    failed = Some(RustlsError::General("an unknown state".to_owned()));
                    None
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            };
            self.begun += discard;
            if let Some(error) = failed {
                self.fail(&error);
            } else if let Some(wants) = wants {
                return wants;
            }
        }
        Wants::Nothing
    }

    /// Keeps why it failed, and the alert that tells the server so.
    fn fail(&mut self, error: &RustlsError) {
        let is_new = self.tls.protocol_version().is_none();
        self.failed = Some(self.meaning(TlsError::of(error, is_new)));
        // Asked once more, and never again: it gives the alert away before it looks at what comes next.
        let incoming = &mut self.incoming[self.begun..];
        if let Ok(ConnectionState::EncodeTlsData(data)) =
            self.tls.process_tls_records(incoming).state
        {
            encode(data, &mut self.outgoing);
        }
    }

    /// What a failure means at this point.
    fn meaning(&self, error: TlsError) -> TlsError {
        match self.asked && !self.presents && !self.spoke {
            true => error.without_certificate(),
            false => error,
        }
    }

    /// What the end of the socket means at this point.
    fn broken(&self, error: &io::Error) -> TlsError {
        self.meaning(TlsError::Broken(error.to_string()))
    }

    /// Moves plain bytes into the buffer, up to its byte `end`; nothing, if more must come first.
    fn take<B: IoBuf + BufMut>(&mut self, buffer: &mut B, end: usize) -> Option<io::Result<usize>> {
        let held = buffer.bytes_init();
        let kept = self.plain.len().min(end - held);
        buffer.put_slice(&self.plain.split_to(kept));
        if self.plain.is_empty() {
            self.process(|plain| {
                let taken = plain.len().min(end - buffer.bytes_init());
                buffer.put_slice(&plain[..taken]);
                taken
            });
        }
        match (buffer.bytes_init() - held, &self.failed) {
            (0, Some(failed)) => Some(Err(io::Error::other(failed.clone()))),
            (0, None) if !self.ended => None,
            (0, None) => match self.meaning(TlsError::Broken(CLOSED.to_owned())) {
                // What is over tells its lengths itself, so an end without a close_notify hides nothing.
                TlsError::Broken(_) => Some(Ok(0)),
                refused => Some(Err(io::Error::other(refused))),
            },
            (taken, _) => {
                self.spoke = true;
                Some(Ok(taken))
            }
        }
    }

    /// Encrypts to the end of `sealed`, behind what was encoded before.
    fn seal(&mut self, plain: &[u8], sealed: &mut Sealed) -> Result<(), TlsError> {
        // What the reader has had no room for comes first, and is kept for it.
        while self.process(|_| 0) == Wants::Room {}
        sealed.append(&mut self.outgoing);
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let incoming = &mut self.incoming[self.begun..];
        match self.tls.process_tls_records(incoming).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => encrypt(traffic, plain, sealed),
            _ => Err(TlsError::Failed("it takes no data any more".to_owned())),
        }
    }
}

/// Encodes to the end of `outgoing`.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) {
    // Without room it says how much it needs.
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        let start = outgoing.len();
        outgoing.resize(start + needed.required_size, 0);
        let encoded = data.encode(&mut outgoing[start..]).unwrap_or_default();
        outgoing.truncate(start + encoded);
    }
}

/// Encrypts to the end of `sealed`.
fn encrypt<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    plain: &[u8],
    sealed: &mut Sealed,
) -> Result<(), TlsError> {
    // One more than there are records: an update of keys may go before them.
    let records = plain.len().div_ceil(RECORD_BYTES) + 1;
    let room = sealed.room(plain.len() + records * RECORD_OVERHEAD);
    let encrypted = match traffic.encrypt(plain, room) {
        Err(EncryptError::InsufficientSize(needed)) => {
            traffic.encrypt(plain, sealed.room(needed.required_size))
        }
        done => done,
    };
    sealed.used += encrypted.map_err(|error| TlsError::Failed(error.to_string()))?;
    Ok(())
}

impl Sealed {
    /// Room behind what is used, for so many bytes at least.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.used + bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.used..]
    }

    fn append(&mut self, bytes: &mut Vec<u8>) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        bytes.clear();
    }
}

impl Reader {
    pub(super) async fn read<B: IoBuf + BufMut>(
        &mut self,
        mut buffer: B,
        end: usize,
    ) -> (io::Result<usize>, B) {
        loop {
            let taken = self.session.borrow_mut().take(&mut buffer, end);
            if let Some(read) = taken {
                return (read, buffer);
            }
            if let Err(error) = self.fill().await {
                let error = match self.session.borrow().broken(&error) {
                    TlsError::Broken(_) => error,
                    refused => io::Error::other(refused),
                };
                return (Err(error), buffer);
            }
        }
    }

    /// Reads once from the socket. Meanwhile the session keeps what it has begun: the ring has the copy.
    async fn fill(&mut self) -> io::Result<()> {
        let spare = std::mem::take(&mut self.spare);
        let (next, held, begun) = {
            let session = self.session.borrow();
            let rest = &session.incoming[session.begun..];
            let mut next = with_room(spare, rest.len() + self.room);
            next.extend_from_slice(rest);
            (next, rest.len(), session.begun)
        };
        let end = held + self.room;
        let (read, slice) = self.socket.read(SliceMut::new(next, held, end)).await;
        let next = slice.into_inner();
        let mut session = self.session.borrow_mut();
        match read {
            Ok(0) => session.ended = true,
            Ok(bytes) => {
                self.spare = std::mem::replace(&mut session.incoming, next);
                session.begun -= begun;
                self.room = room(self.room, bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// An empty buffer for so many bytes, and not for many more: the spare one, if it is such.
fn with_room(mut spare: Vec<u8>, bytes: usize) -> Vec<u8> {
    spare.clear();
    match (bytes..=8 * bytes).contains(&spare.capacity()) {
        true => spare,
        false => Vec::with_capacity(bytes),
    }
}

/// Room for the next read: what filled it may have more, and what did not needs less.
fn room(room: usize, read: usize) -> usize {
    let (least, most) = READ_BYTES;
    match read {
        read if read == room => (room * 4).min(most),
        read if read < room / 8 => (room / 2).max(least),
        _ => room,
    }
}

impl Writer {
    pub(super) async fn write_all(&mut self, plain: &[u8]) -> io::Result<()> {
        for plain in plain.chunks(SEALED_BYTES) {
            let sealed = self.session.borrow_mut().seal(plain, &mut self.sealed);
            sealed.map_err(io::Error::other)?;
            self.send().await?;
        }
        if self.sealed.buffer.len() > KEPT_BYTES {
            self.sealed = Sealed::default();
        }
        Ok(())
    }

    /// Sends what is encoded.
    async fn flush(&mut self) -> io::Result<()> {
        self.sealed.append(&mut self.session.borrow_mut().outgoing);
        self.send().await
    }

    async fn send(&mut self) -> io::Result<()> {
        let Sealed { buffer, used } = std::mem::take(&mut self.sealed);
        let (written, slice) = self.socket.write_all(buffer.slice(..used)).await;
        let buffer = slice.into_inner();
        self.sealed = Sealed { buffer, used: 0 };
        written.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
