//! A server that is neither broker nor function: whoever speaks to it hears what it likes, for as long as it likes.
//!
//! Invariant: it says nothing before it was spoken to, except where that is its lie.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::secure::{Accepted, Identity};

/// Between two bytes that drip.
const DRIP: Duration = Duration::from_millis(100);

/// What is said again and again goes out in pieces of about this length.
const PIECE_BYTES: usize = 64 * 1024;

/// How it lies.
#[derive(Clone, Debug)]
pub enum Lie {
    /// It says this, and nothing more.
    Says(Vec<u8>),
    /// It says this, and then that without end.
    Endless(Vec<u8>, Vec<u8>),
    /// It says this, a byte at a time, and the last one for ever.
    Drips(Vec<u8>),
    /// It says this before it is asked.
    Unasked(Vec<u8>),
    /// It answers with a frame of Kafka's whose correlation id is off by so much, so often.
    Correlation(i32, usize),
    /// It hangs up.
    HangsUp,
}

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Liar {
    address: SocketAddr,
    met: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Liar {
    /// Lies on loopback; under TLS, if it has an identity.
    pub async fn start(lie: Lie, identity: Option<&Identity>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let met = Arc::new(AtomicUsize::new(0));
        let tls = identity.map(|identity| Arc::clone(&identity.server));
        let task = tokio::spawn(accept(listener, lie, tls, Arc::clone(&met)));
        Ok(Self { address, met, task })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How often somebody has connected.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    lie: Lie,
    tls: Option<Arc<ServerConfig>>,
    met: Arc<AtomicUsize>,
) {
    // With this task all of its connections end.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        met.fetch_add(1, Ordering::Relaxed);
        let (lie, tls) = (lie.clone(), tls.clone());
        connections.spawn(async move {
            // It ends when the other side has had enough.
            if let Ok(mut stream) = Accepted::new(stream, tls.as_ref()).await {
                tell(&mut stream, &lie).await.ok();
            }
        });
    }
}

async fn tell(stream: &mut Accepted, lie: &Lie) -> io::Result<()> {
    let mut heard = vec![0; 4096];
    if let Lie::Unasked(said) = lie {
        say(stream, said).await?;
    }
    if stream.read(&mut heard).await? == 0 {
        return Ok(());
    }
    match lie {
        Lie::Says(said) => say(stream, said).await?,
        Lie::Endless(head, piece) => {
            say(stream, head).await?;
            let piece = match piece.is_empty() {
                true => vec![0; PIECE_BYTES],
                false => piece.repeat(PIECE_BYTES / piece.len()),
            };
            loop {
                say(stream, &piece).await?;
            }
        }
        Lie::Drips(said) => {
            let last = said.last().copied().unwrap_or_default();
            for byte in said.iter().copied().chain(std::iter::repeat(last)) {
                say(stream, &[byte]).await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        Lie::Correlation(off, times) => {
            let mut frame = vec![0, 0, 0, 10];
            // Behind length, API and version: Kafka protocol guide, "Request Header".
            let asked = heard.get(8..12).and_then(|bytes| bytes.try_into().ok());
            let asked = i32::from_be_bytes(asked.unwrap_or_default());
            frame.extend(asked.wrapping_add(*off).to_be_bytes());
            // ApiVersions that refuses the version, and names none.
            frame.extend([0, 35, 0, 0, 0, 0]);
            say(stream, &frame.repeat(*times)).await?;
        }
        Lie::HangsUp => return Ok(()),
        Lie::Unasked(_) => {}
    }
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

async fn say(stream: &mut Accepted, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
