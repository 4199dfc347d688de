//! A connection as its users see it, plain or under TLS.
//!
//! Invariant: neither direction waits for the other, and none is read or written by two at a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BufMut;
use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use thiserror::Error;

use super::tcp::{ConnectError, Handle};
use super::{deadline, tcp, tls};
use crate::clock;
use crate::trust::TlsError;

/// A connection's two directions.
pub(crate) struct Stream {
    /// What the peer sends.
    pub(crate) reader: Reader,
    /// What we send.
    pub(crate) writer: Writer,
}

/// What the peer sends.
pub(crate) enum Reader {
    /// As it is on the wire.
    Plain(TcpOwnedReadHalf),
    /// Decrypted.
    Tls(tls::Reader),
}

/// What we send.
pub(crate) enum Writer {
    /// As it is on the wire.
    Plain(TcpOwnedWriteHalf),
    /// It is encrypted.
    Tls(tls::Writer),
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// None of the addresses answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// One answers, but not as it must.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// It answers too slowly.
    #[error("no TLS handshake within {0:?}")]
    TooSlow(Duration),
}

impl Stream {
    /// Connects to the first address that answers; under TLS, if a target says to whom. `limit` is for all of
    /// it, and so is `handle`.
    pub(crate) async fn open(
        addresses: &[SocketAddr],
        target: Option<&tls::Target>,
        limit: Duration,
        handle: &Handle,
    ) -> Result<Self, OpenError> {
        let until = clock::now() + limit;
        let stream = tcp::connect(addresses, limit, handle).await?;
        let Some(target) = target else {
            return Ok(stream.into());
        };
        let left = until.saturating_since(clock::now());
        let handshake = tls::handshake(stream, target);
        let timed = deadline::within(handshake, left, || handle.reset()).await;
        match timed.output {
            Err(TlsError::Broken(_)) if timed.expired => Err(OpenError::TooSlow(limit)),
            done => Ok(done?),
        }
    }
}

impl From<tcp::Stream> for Stream {
    fn from(stream: tcp::Stream) -> Self {
        Self {
            reader: Reader::Plain(stream.reader),
            writer: Writer::Plain(stream.writer),
        }
    }
}

impl Reader {
    /// Reads behind what `buffer` holds, and not beyond its byte `end`, which its capacity has room for. No
    /// byte means the end.
    pub(crate) async fn read<B: IoBufMut + IoBuf + BufMut>(
        &mut self,
        buffer: B,
        end: usize,
    ) -> (io::Result<usize>, B) {
        match self {
            Self::Plain(socket) => {
                let held = buffer.bytes_init();
                let (read, slice) = socket.read(SliceMut::new(buffer, held, end)).await;
                (read, slice.into_inner())
            }
            Self::Tls(session) => session.read(buffer, end).await,
        }
    }
}

impl Writer {
    /// Writes all of it, and gives the buffer back.
    pub(crate) async fn write_all<B: IoBuf + AsRef<[u8]>>(
        &mut self,
        buffer: B,
    ) -> (io::Result<()>, B) {
        match self {
            Self::Plain(socket) => {
                let (written, buffer) = socket.write_all(buffer).await;
                (written.map(|_| ()), buffer)
            }
            Self::Tls(session) => (session.write_all(buffer.as_ref()).await, buffer),
        }
    }
}
