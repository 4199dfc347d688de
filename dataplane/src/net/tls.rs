//! TLS 1.2 and 1.3 by rustls's unbuffered API, over a socket of a shard.
//!
//! The two directions share a [`Session`], which is borrowed between two operations on the socket and never
//! across one. Records are decrypted where they lie, and bodies are encrypted straight from the pieces that
//! they are made of, in steps of [`SEALED_BYTES`].
//!
//! Invariant: one task reads the socket and one writes it, and what a session has encoded is sent before anything
//! that it encodes later.

pub(crate) mod session;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BufMut;
use monoio::buf::{IoBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::session::{Incoming, Sealed, Session, Wants};
use super::stream::{self, Stream};
use super::tcp;
use crate::trust::{CLOSED_IN_HANDSHAKE, TlsError, server_name};

/// Plain bytes that are encrypted and sent at once: eight records of the largest size.
const SEALED_BYTES: usize = 8 * RECORD_BYTES;

/// What a record carries at most.
const RECORD_BYTES: usize = 16 * 1024;

/// A larger buffer is given back after what it was for: connections are idle most of the time.
const KEPT_BYTES: usize = 2 * RECORD_BYTES;

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

/// Makes a connection secure. It ends only with the socket: whoever has a limit cuts that.
pub(crate) async fn handshake(stream: tcp::Stream, target: &Target) -> Result<Stream, TlsError> {
    let session = Rc::new(RefCell::new(Session::new(target)?));
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
        let wants = session.borrow_mut().shake_hands();
        // After a failure this is the alert that says why.
        let flushed = writer.flush().await;
        if let Some(failed) = session.borrow().failed() {
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
            Wants::Handshake if !session.borrow().has_ended() => {
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
        let Incoming {
            buffer,
            held,
            begun,
        } = self.session.borrow().begin_read(spare, self.room);
        let end = held + self.room;
        let (read, slice) = self.socket.read(SliceMut::new(buffer, held, end)).await;
        let incoming = Incoming {
            buffer: slice.into_inner(),
            held,
            begun,
        };
        match read {
            Ok(bytes) => {
                self.spare = self.session.borrow_mut().end_read(incoming);
                self.room = room(self.room, bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
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
        self.session.borrow_mut().flush(&mut self.sealed);
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
