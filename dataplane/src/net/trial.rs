//! For tests: runs them on each driver, because what may be assumed of one is not true of the other.

pub(crate) mod tls;

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::stream::Stream;
use super::tcp::{self, Handle, connect};

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Runs `test` on io_uring (where the kernel allows it) and on epoll.
pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn() -> F) {
    if monoio::utils::detect_uring() {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        runtime.block_on(test());
    }
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()
        .unwrap();
    runtime.block_on(test());
}

/// A connection, and the other end of it.
pub(crate) async fn pair() -> (Stream, Handle, TcpStream) {
    let (stream, handle, peer) = tcp_pair().await;
    (stream.into(), handle, peer)
}

/// The same without what may be between the socket and its user.
pub(crate) async fn tcp_pair() -> (tcp::Stream, Handle, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let handle = Handle::default();
    let addresses = [listener.local_addr().unwrap()];
    let stream = connect(&addresses, LIMIT, &handle).await.unwrap();
    (stream, handle, listener.accept().unwrap().0)
}
