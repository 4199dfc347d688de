//! What the bare loop reads from and writes to: a socket, or the least that TLS adds to one.
//!
//! TLS is rustls's unbuffered API, as lean as it goes: what was received is decrypted where it lies, and what is
//! sent is encrypted once, into a buffer that the next piece uses again.
//!
//! Invariant: what rustls is shown begins where it last left off, and ends with all that has come.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

/// What one read of the socket takes at most, and what one write carries at least, but for the last.
const RECEIVED_BYTES: usize = 256 << 10;
const SEALED_BYTES: usize = 128 << 10;

/// A record of TLS at most, and more than encryption adds to one (RFC 8446 section 5.2).
const RECORD_BYTES: usize = 16 << 10;
const RECORD_OVERHEAD: usize = 256;

/// A connection of the loop's.
pub(super) enum Wire {
    /// As it is on the wire.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Tls>),
}

impl Wire {
    /// Under TLS if there is a configuration for it.
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        Ok(match tls {
            None => Self::Plain(socket),
            Some(config) => Self::Tls(Box::new(Tls::new(socket, config)?)),
        })
    }

    pub(super) fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.read_exact(out),
            Self::Tls(tls) => tls.read_exact(out),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes),
        }
    }
}

pub(super) struct Tls {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    /// What has come and was not decrypted yet lies in `from..until`.
    incoming: Vec<u8>,
    from: usize,
    until: usize,
    /// Decrypted, and not asked for yet from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    sealed: Vec<u8>,
}

impl Tls {
    fn new(socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::from(socket.peer_addr()?.ip());
        let tls = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let records = SEALED_BYTES.div_ceil(RECORD_BYTES) + 1;
        let mut connection = Self {
            socket,
            tls,
            incoming: vec![0; RECEIVED_BYTES],
            from: 0,
            until: 0,
            plain: Vec::new(),
            taken: 0,
            sealed: vec![0; SEALED_BYTES + records * RECORD_OVERHEAD],
        };
        // Sending nothing takes a whole handshake.
        connection.seal(&[])?;
        Ok(connection)
    }

    fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        let kept = &self.plain[self.taken..];
        let mut filled = kept.len().min(out.len());
        out[..filled].copy_from_slice(&kept[..filled]);
        self.taken += filled;
        while filled < out.len() {
            (self.taken, filled) = (0, filled + self.decrypt(&mut out[filled..])?);
        }
        Ok(())
    }

    /// Decrypts until `out` is full or more must come; what does not fit of the last record is kept.
    fn decrypt(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.plain.clear();
        let mut filled = 0;
        while filled < out.len() {
            let incoming = &mut self.incoming[self.from..self.until];
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(incoming);
            let mut must_fill = false;
            match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        let fits = record.payload.len().min(out.len() - filled);
                        out[filled..filled + fits].copy_from_slice(&record.payload[..fits]);
                        filled += fits;
                        self.plain.extend_from_slice(&record.payload[fits..]);
                    }
                }
                ConnectionState::WriteTraffic(_) => must_fill = true,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.from += discard;
            if must_fill {
                self.fill()?;
            }
        }
        Ok(filled)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.incoming.copy_within(self.from..self.until, 0);
        (self.from, self.until) = (0, self.until - self.from);
        match self.socket.read(&mut self.incoming[self.until..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.until += read;
                Ok(())
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes
            .chunks(SEALED_BYTES)
            .try_for_each(|piece| self.seal(piece))
    }

    /// Encrypts and sends, once the handshake is done.
    fn seal(&mut self, piece: &[u8]) -> io::Result<()> {
        loop {
            let incoming = &mut self.incoming[self.from..self.until];
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(incoming);
            let (mut must_fill, mut used, mut is_sent) = (false, 0, false);
            match state.map_err(io::Error::other)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let sealed = traffic.encrypt(piece, &mut self.sealed);
                    (used, is_sent) = (sealed.map_err(io::Error::other)?, true);
                }
                ConnectionState::EncodeTlsData(mut data) => match data.encode(&mut self.sealed) {
                    Ok(encoded) => used = encoded,
                    Err(EncodeError::AlreadyEncoded) => {}
                    Err(error) => return Err(io::Error::other(error)),
                },
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake => must_fill = true,
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.from += discard;
            self.socket.write_all(&self.sealed[..used])?;
            if is_sent {
                return Ok(());
            }
            if must_fill {
                self.fill()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use forebay_tests::secure::Identity;
    use rustls::{ServerConnection, StreamOwned};

    use super::*;

    #[test]
    fn what_is_sent_arrives_in_pieces_of_any_size() {
        let identity = Identity::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let server = ServerConnection::new(Arc::clone(&identity.server)).unwrap();
        let echo = std::thread::spawn(move || {
            let mut far = StreamOwned::new(server, far);
            let mut room = vec![0; 1 << 20];
            far.read_exact(&mut room).unwrap();
            far.write_all(&room).unwrap();
        });
        let mut wire = Wire::new(near, Some(identity.client())).unwrap();
        let sent: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
        wire.write_all(&sent).unwrap();
        let mut heard = vec![0; sent.len()];
        let mut at = 0;
        for size in [1, 4, 16 << 10, 17, 100_000].into_iter().cycle() {
            let end = heard.len().min(at + size);
            wire.read_exact(&mut heard[at..end]).unwrap();
            at = end;
            if at == heard.len() {
                break;
            }
        }
        assert!(heard == sent);
        echo.join().unwrap();
    }
}
