//! Plain TCP: every address in turn, each with its share of the time, and a handle that can cut the connection.
//!
//! [`connect`] takes a [`Handle`] that outlives the attempt: whoever holds a clone ends the attempt, and
//! later every read and write of the connection, by [`Handle::cut`]. The descriptor is closed when both
//! halves and the handle's own are gone.
//!
//! Invariant: cutting never drops a future; the kernel ends the operations, and their owner sees it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::Splitable;
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;

use super::deadline;
use crate::clock;

/// A silent peer is probed after that long, then every [`KEEPALIVE_INTERVAL`]: a call may last 15 minutes,
/// and NAT tables forget an idle connection after 350 s (AWS) or less.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// What may lie in a connection to this machine before its writer waits. The kernel would let it grow to 4 MiB
/// (tcp_wmem), which carries nothing sooner where there is no way: a writer that fills a quarter of the CPU's caches
/// before the reader's turn comes only makes both slower. The kernel doubles it for what it keeps beside the bytes.
const NEAR_SEND_BUFFER_BYTES: usize = 256 * 1024;

/// A connection's two directions.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the peer sends.
    pub(crate) reader: TcpOwnedReadHalf,
    /// What we send.
    pub(crate) writer: TcpOwnedWriteHalf,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    /// Every address was tried; the last failure speaks for all.
    #[error("{address}: {error}")]
    Failed {
        /// The address tried last.
        address: SocketAddr,
        /// What it answered.
        error: io::Error,
    },
    /// There was no address to try.
    #[error("no address to connect to")]
    NoAddress,
    /// The handle was cut meanwhile.
    #[error("the attempt was given up")]
    Cut,
}

/// Through this a connection is cut, looked at, and let go of; clones are the same handle.
#[derive(Clone, Default)]
pub(crate) struct Handle(Rc<HandleState>);

#[derive(Default)]
struct HandleState {
    cut: Cell<bool>,
    /// A second descriptor of the socket: monoio lends none out.
    socket: RefCell<Option<std::net::TcpStream>>,
    waker: Cell<Option<Waker>>,
}

impl Handle {
    /// Ends the connection, whatever it is doing: pending and later operations fail or see the end.
    pub(crate) fn cut(&self) {
        self.0.cut.set(true);
        if let Some(socket) = self.0.socket.borrow().as_ref() {
            shut(socket);
        }
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    /// Like [`cut`](Self::cut), and what was not sent yet is discarded when it closes.
    pub(crate) fn reset(&self) {
        if let Some(socket) = self.0.socket.borrow().as_ref() {
            // A refusal leaves the ordinary close, which is the best that is left.
            SockRef::from(socket)
                .set_linger(Some(Duration::ZERO))
                .unwrap_or_default();
        }
        self.cut();
    }

    /// Whether somebody cut it.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.cut.get()
    }

    /// Ends when somebody cuts it; for one waiter.
    pub(crate) async fn until_cut(&self) {
        poll_fn(|cx| {
            if self.is_cut() {
                return Poll::Ready(());
            }
            self.0.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Takes a connection over whose second descriptor is `socket`.
    pub(crate) fn attach(&self, socket: std::net::TcpStream) {
        if self.is_cut() {
            shut(&socket);
        }
        self.0.socket.replace(Some(socket));
    }

    /// Gives the connection's second descriptor up; unless somebody cut it.
    pub(crate) fn detach(&self) -> Option<std::net::TcpStream> {
        if self.is_cut() {
            return None;
        }
        self.0.socket.take()
    }

    /// Lets go of the second descriptor, so that the connection closes with its halves.
    pub(crate) fn release(&self) {
        self.0.socket.take();
    }
}

/// Connects to the first of `addresses` that answers, in their order, all within `limit`. Each may take its
/// share of what is left, so that the silent ones leave time for the last.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
    handle: &Handle,
) -> Result<Stream, ConnectError> {
    let mut failed = ConnectError::NoAddress;
    let until = clock::now() + limit;
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (&address, shares) in addresses.iter().zip((1..=shares).rev()) {
        if handle.is_cut() {
            return Err(ConnectError::Cut);
        }
        let share = until.saturating_since(clock::now()) / shares;
        match connect_one(address, share, handle).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = ConnectError::Failed { address, error },
        }
        handle.release();
    }
    if handle.is_cut() {
        return Err(ConnectError::Cut);
    }
    Err(failed)
}

async fn connect_one(address: SocketAddr, limit: Duration, handle: &Handle) -> io::Result<Stream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    tune(&socket)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    // Why: io_uring answers EAGAIN at once on a non-blocking socket instead of waiting for it, and the
    // epoll driver needs one that does not block.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    let socket = std::net::TcpStream::from(socket);
    let second = socket.try_clone()?;
    let stream = TcpStream::from_std(socket)?;
    handle.attach(second);

    let attempt = deadline::within(stream.writable(false), limit, || {
        if let Some(socket) = handle.0.socket.borrow().as_ref() {
            shut(socket);
        }
    })
    .await;
    if attempt.expired {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        ));
    }
    attempt.output?;
    if let Some(socket) = handle.0.socket.borrow().as_ref()
        && let Some(error) = socket.take_error()?
    {
        return Err(error);
    }
    settle(handle)?;
    let (reader, writer) = stream.into_split();
    Ok(Stream { reader, writer })
}

/// What is left to do once the peer has answered.
fn settle(handle: &Handle) -> io::Result<()> {
    match handle.0.socket.borrow().as_ref() {
        Some(socket) if !handle.is_cut() => {
            // Cut while connecting, the socket is writable without an error: ask for the peer to be sure.
            let peer = socket.peer_addr()?.ip();
            if peer.is_loopback() || peer == socket.local_addr()?.ip() {
                SockRef::from(socket).set_send_buffer_size(NEAR_SEND_BUFFER_BYTES)?;
            }
            Ok(())
        }
        _ => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )
}

/// Whether an idle connection is still good: open, and nothing to read (an answer that nobody asked for is
/// as bad as an end).
pub(crate) fn is_idle_and_open(socket: &std::net::TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let peeked = rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}

fn shut(socket: &std::net::TcpStream) {
    // It fails only where there is no connection any more, which is what was wanted.
    socket.shutdown(Shutdown::Both).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

    use super::*;
    use crate::net::trial::{LIMIT, on_each_driver, tcp_pair};

    /// An address that never answers: its accept queue is full, so that SYNs are dropped.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            filler.connect(&address.into()).unwrap_err();
            sockets.push(filler);
        }
        (address, sockets)
    }

    fn refusing() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[test]
    fn addresses_are_tried_in_order_until_one_answers() {
        on_each_driver(async || {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let second = TcpListener::bind("127.0.0.1:0").unwrap();
            second.set_nonblocking(true).unwrap();
            let addresses = [
                refusing(),
                first.local_addr().unwrap(),
                second.local_addr().unwrap(),
            ];
            connect(&addresses, LIMIT, &Handle::default())
                .await
                .unwrap();
            first.accept().unwrap();
            second.accept().unwrap_err();
        });
    }

    #[test]
    fn what_lies_in_a_connection_to_this_machine_is_bounded() {
        on_each_driver(async || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let handle = Handle::default();
            let addresses = [listener.local_addr().unwrap()];
            connect(&addresses, LIMIT, &handle).await.unwrap();
            let socket = handle.0.socket.borrow();
            let size = SockRef::from(socket.as_ref().unwrap()).send_buffer_size();
            let size = size.unwrap();
            assert!(size <= 2 * NEAR_SEND_BUFFER_BYTES, "{size}");
        });
    }

    #[test]
    fn refused_names_the_last_address() {
        on_each_driver(async || {
            let address = refusing();
            let error = connect(&[address], LIMIT, &Handle::default())
                .await
                .unwrap_err();
            assert!(
                matches!(&error, ConnectError::Failed { address: last, error }
                    if *last == address && error.kind() == io::ErrorKind::ConnectionRefused),
                "{error}"
            );
        });
    }

    #[test]
    fn silent_addresses_leave_time_for_the_last() {
        on_each_driver(async || {
            let (silent, _sockets) = silent();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut addresses = [silent; 5];
            addresses[4] = listener.local_addr().unwrap();
            let limit = Duration::from_millis(200);
            connect(&addresses, limit, &Handle::default())
                .await
                .unwrap();
        });
    }

    #[test]
    fn all_addresses_together_have_one_limit() {
        on_each_driver(async || {
            let (silent, _sockets) = silent();
            let (addresses, handle) = ([silent; 50], Handle::default());
            let attempts = connect(&addresses, Duration::from_millis(500), &handle);
            monoio::select! {
                result = attempts => { result.unwrap_err(); }
                () = monoio::time::sleep(LIMIT) => panic!("each address had all of the time"),
            }
        });
    }

    #[test]
    fn cutting_ends_an_attempt_that_waits() {
        on_each_driver(async || {
            let (silent, _sockets) = silent();
            let handle = Handle::default();
            let cutter = handle.clone();
            let task = monoio::spawn(async move {
                monoio::time::sleep(Duration::from_millis(20)).await;
                cutter.cut();
            });
            let error = connect(&[silent, silent], LIMIT, &handle)
                .await
                .unwrap_err();
            assert!(matches!(error, ConnectError::Cut), "{error}");
            task.await;
        });
    }

    /// The rule that everything else rests on: a cut ends the pending operation itself, on each driver.
    #[test]
    fn cutting_ends_a_pending_read_and_a_pending_write() {
        on_each_driver(async || {
            let (stream, handle, _peer) = tcp_pair().await;
            let Stream {
                mut reader,
                mut writer,
            } = stream;
            let reading = monoio::spawn(async move { reader.read(vec![0; 16]).await.0 });
            let writing =
                monoio::spawn(async move { writer.write_all(vec![0; 64 * 1024 * 1024]).await.0 });
            monoio::time::sleep(Duration::from_millis(50)).await;
            assert!(!reading.is_finished() && !writing.is_finished());
            handle.cut();
            assert_eq!(reading.await.unwrap(), 0);
            assert_eq!(writing.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn bytes_that_came_before_the_limit_are_not_lost() {
        on_each_driver(async || {
            let (mut stream, handle, mut peer) = tcp_pair().await;
            let cutter = handle.clone();
            let read = deadline::within(
                stream.reader.read(vec![0; 16]),
                Duration::from_millis(30),
                || {
                    peer.write_all(b"late").unwrap();
                    cutter.cut();
                },
            )
            .await;
            assert!(read.expired);
            let (bytes, buffer) = read.output;
            // Either order of the two events is right; what must not happen is that bytes vanish.
            let first = bytes.unwrap();
            let mut got = buffer[..first].to_vec();
            let (bytes, buffer) = stream.reader.read(vec![0; 16]).await;
            got.extend_from_slice(&buffer[..bytes.unwrap()]);
            assert_eq!(got, b"late");
        });
    }

    #[test]
    fn a_reset_discards_what_was_not_sent_yet() {
        on_each_driver(async || {
            let (stream, handle, mut peer) = tcp_pair().await;
            let mut writer = stream.writer;
            let body = vec![0; 64 * 1024 * 1024];
            let writing = monoio::spawn(async move { writer.write_all(body).await.0 });
            monoio::time::sleep(Duration::from_millis(20)).await;
            handle.reset();
            writing.await.unwrap_err();
            drop(stream.reader);
            handle.release();
            monoio::time::sleep(Duration::from_millis(20)).await;
            let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }

    #[test]
    fn an_idle_connection_is_good_until_it_has_something_to_read() {
        on_each_driver(async || {
            let (_stream, handle, mut peer) = tcp_pair().await;
            let socket = handle.detach().unwrap();
            assert!(is_idle_and_open(&socket));
            peer.write_all(b"x").unwrap();
            assert!(!is_idle_and_open(&socket));
            let (_stream, handle, peer) = tcp_pair().await;
            drop(peer);
            assert!(!is_idle_and_open(&handle.detach().unwrap()));
        });
    }
}
