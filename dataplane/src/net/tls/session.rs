//! The state of one TLS connection, without its socket: bytes of the wire in, plain bytes out, and the reverse.
//!
//! What has come goes in by [`Session::begin_read`] and [`Session::end_read`], for the socket's read lies between
//! the two, and others may ask the session meanwhile. Plain bytes come out by [`Session::take`], and go in by
//! [`Session::seal`].
//!
//! Sources: RFC 8446, RFC 5246; the documentation of `rustls::unbuffered`.
//!
//! Invariant: what is encoded goes out in the order in which it was encoded. And whoever asks rustls anything
//! shows it all bytes that it has begun to read: it remembers where in them a handshake message lies that is
//! not whole yet, and would look outside of fewer.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use monoio::buf::IoBuf;
use rustls::Error as RustlsError;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use super::{RECORD_BYTES, Target};
use crate::trust::{self, TlsError};

/// More than encryption adds to a record.
const RECORD_OVERHEAD: usize = 64;

const CLOSED: &str = "it closed the connection";

/// What both directions share.
pub(crate) struct Session {
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
pub(crate) enum Wants {
    /// Bytes, before the handshake is done.
    Handshake,
    /// Bytes; and it takes plain ones.
    Traffic,
    /// Room for the plain bytes that it has.
    Room,
    /// Nothing any more.
    Nothing,
}

/// What one read of the socket goes into: behind a copy of what the session has begun.
pub(crate) struct Incoming {
    pub(crate) buffer: Vec<u8>,
    /// Bytes of the copy.
    pub(crate) held: usize,
    /// Where it was taken from.
    pub(crate) begun: usize,
}

/// Encrypted bytes in a buffer that keeps its length: what is used again needs no zeros.
#[derive(Default)]
pub(crate) struct Sealed {
    pub(crate) buffer: Vec<u8>,
    pub(crate) used: usize,
}

impl Session {
    /// One that has said nothing yet.
    pub(crate) fn new(target: &Target) -> Result<Self, TlsError> {
        let Target { config, name } = target;
        let tls = UnbufferedClientConnection::new(Arc::clone(config), name.clone())
            .map_err(|error| TlsError::Failed(error.to_string()))?;
        Ok(Self {
            tls,
            asked: false,
            presents: config.client_auth_cert_resolver.has_certs(),
            spoke: false,
            incoming: Vec::new(),
            begun: 0,
            plain: BytesMut::new(),
            outgoing: Vec::new(),
            ended: false,
            failed: None,
        })
    }

    /// Goes on with the handshake; what is to be sent then is for [`flush`](Self::flush).
    pub(crate) fn shake_hands(&mut self) -> Wants {
        self.process(|_| 0)
    }

    /// Room for one read of the socket, in a buffer that is used again if it fits.
    pub(crate) fn begin_read(&self, spare: Vec<u8>, room: usize) -> Incoming {
        let rest = &self.incoming[self.begun..];
        let mut buffer = with_room(spare, rest.len() + room);
        buffer.extend_from_slice(rest);
        Incoming {
            buffer,
            held: rest.len(),
            begun: self.begun,
        }
    }

    /// Takes what was read, nothing of which means the end; a buffer for the next read.
    pub(crate) fn end_read(&mut self, incoming: Incoming) -> Vec<u8> {
        if incoming.buffer.len() == incoming.held {
            self.ended = true;
            return incoming.buffer;
        }
        self.begun -= incoming.begun;
        std::mem::replace(&mut self.incoming, incoming.buffer)
    }

    /// Moves what is encoded to the end of `sealed`.
    pub(crate) fn flush(&mut self, sealed: &mut Sealed) {
        sealed.append(&mut self.outgoing);
    }

    /// Why nothing more goes either way.
    pub(crate) fn failed(&self) -> Option<&TlsError> {
        self.failed.as_ref()
    }

    /// Bytes that it holds of what has come and of what is to be sent.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Whether the server has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
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
    pub(super) fn meaning(&self, error: TlsError) -> TlsError {
        match self.asked && !self.presents && !self.spoke {
            true => error.without_certificate(),
            false => error,
        }
    }

    /// What the end of the socket means at this point.
    pub(super) fn broken(&self, error: &io::Error) -> TlsError {
        self.meaning(TlsError::Broken(error.to_string()))
    }

    /// Moves plain bytes into the buffer, up to its byte `end`; nothing, if more must come first.
    pub(crate) fn take<B: IoBuf + BufMut>(
        &mut self,
        buffer: &mut B,
        end: usize,
    ) -> Option<io::Result<usize>> {
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
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Sealed) -> Result<(), TlsError> {
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

/// An empty buffer for so many bytes, and not for many more: the spare one, if it is such.
fn with_room(mut spare: Vec<u8>, bytes: usize) -> Vec<u8> {
    spare.clear();
    match (bytes..=8 * bytes).contains(&spare.capacity()) {
        true => spare,
        false => Vec::with_capacity(bytes),
    }
}
