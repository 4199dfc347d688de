//! The cluster behind real sockets: one listener for each broker on loopback, all on a thread of its own.
//!
//! One task owns the [`FakeKafka`]; readers push whole frames to it, writers take frames from it. A
//! test reaches in with [`FakeKafkaServer::with`].
//!
//! Invariant: only the owner task touches the cluster, so what a test sees is one consistent state.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_protocol::limits::FRAME_BYTES_MAX;
use forebay_protocol::time::Instant;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{Config, ConnectionId, FakeKafka, Output};
use crate::secure::{Accepted, Identity};

/// A running cluster; it stops when dropped.
#[derive(Debug)]
pub struct FakeKafkaServer {
    addresses: Vec<SocketAddr>,
    inputs: mpsc::UnboundedSender<Input>,
    thread: Option<JoinHandle<()>>,
}

type Task = Box<dyn FnOnce(&mut FakeKafka) + Send>;

enum Input {
    Accepted(i32, Accepted),
    Frame(ConnectionId, Bytes),
    Disconnected(ConnectionId),
    Run(Task),
    Stop,
}

impl FakeKafkaServer {
    /// Starts the brokers of `config`, each on a port of 127.0.0.1 that it then advertises.
    pub fn start(config: Config) -> io::Result<Self> {
        Self::start_with(config, None)
    }

    /// The same under TLS.
    pub fn start_secure(config: Config, identity: &Identity) -> io::Result<Self> {
        Self::start_with(config, Some(Arc::clone(&identity.server)))
    }

    fn start_with(config: Config, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let mut kafka = FakeKafka::new(config);
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let nodes: Vec<i32> = kafka.brokers().iter().map(|broker| broker.id).collect();
        for node in nodes {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            kafka.advertise(node, &address.ip().to_string(), address.port());
            addresses.push(address);
            listeners.push((node, listener));
        }
        let (inputs, queue) = mpsc::unbounded_channel();
        let own = inputs.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("fake-kafka".to_owned())
            .spawn(move || runtime.block_on(serve(kafka, listeners, tls, own, queue)))?;
        Ok(Self {
            addresses,
            inputs,
            thread: Some(thread),
        })
    }

    /// Where the brokers listen, in the configuration's order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same as a client's `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let all: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        all.join(",")
    }

    /// Runs `f` on the cluster and hands back what it gives.
    pub async fn with<R, F>(&self, f: F) -> R
    where
        R: Send + 'static,
        F: FnOnce(&mut FakeKafka) -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |kafka| {
            // The asker may have given up waiting; the work is done all the same.
            answer.send(f(kafka)).ok();
        });
        assert!(
            self.inputs.send(Input::Run(task)).is_ok(),
            "the cluster runs until it is dropped"
        );
        answered.await.expect("the cluster answers before it stops")
    }
}

impl Drop for FakeKafkaServer {
    fn drop(&mut self) {
        // The thread is gone already if it panicked, and then there is nobody to tell.
        self.inputs.send(Input::Stop).ok();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the fake cluster panicked"
            );
        }
    }
}

async fn serve(
    mut kafka: FakeKafka,
    listeners: Vec<(i32, std::net::TcpListener)>,
    tls: Option<Arc<ServerConfig>>,
    inputs: mpsc::UnboundedSender<Input>,
    mut queue: mpsc::UnboundedReceiver<Input>,
) {
    for (node, listener) in listeners {
        let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::spawn(accept(node, listener, tls.clone(), inputs.clone()));
    }
    let began = tokio::time::Instant::now();
    let mut writers = HashMap::new();
    loop {
        let now = Instant::from_micros(micros(began.elapsed()));
        let due = kafka.poll_timeout().map(|at| at.saturating_since(now));
        // Timers have millisecond granularity: rounding up avoids spinning until the instant has come.
        let wait = due.map_or(Duration::from_secs(3600), |due| {
            due + Duration::from_micros(999)
        });
        let input = tokio::time::timeout(wait, queue.recv()).await;
        let now = Instant::from_micros(micros(began.elapsed()));
        match input {
            Err(_) => kafka.handle_timeout(now),
            Ok(None | Some(Input::Stop)) => return,
            Ok(Some(Input::Run(task))) => {
                kafka.handle_timeout(now);
                task(&mut kafka);
            }
            Ok(Some(Input::Frame(connection, frame))) => kafka.handle(connection, frame, now),
            Ok(Some(Input::Disconnected(connection))) => {
                kafka.disconnect(connection);
                writers.remove(&connection);
            }
            Ok(Some(Input::Accepted(node, stream))) => {
                // A broker that is down takes no connection: the stream closes here.
                if let Some(connection) = kafka.connect(node) {
                    let (reader, writer) = tokio::io::split(stream);
                    let (frames, to_write) = mpsc::unbounded_channel();
                    tokio::spawn(read(connection, reader, inputs.clone()));
                    tokio::spawn(write(writer, to_write));
                    writers.insert(connection, frames);
                }
            }
        }
        while let Some(output) = kafka.poll_output() {
            match output {
                Output::Frame(connection, frame) => {
                    if let Some(writer) = writers.get(&connection) {
                        // A writer that has ended has lost its peer; the reader tells us.
                        writer.send(frame).ok();
                    }
                }
                Output::Close(connection) => {
                    writers.remove(&connection);
                }
            }
        }
    }
}

async fn accept(
    node: i32,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, inputs) = (tls.clone(), inputs.clone());
        // A task for each: a handshake keeps nobody else waiting.
        tokio::spawn(async move {
            if let Ok(accepted) = Accepted::new(stream, tls.as_ref()).await {
                // The owner may have stopped, and then nobody needs to know.
                inputs.send(Input::Accepted(node, accepted)).ok();
            }
        });
    }
}

async fn read(
    id: ConnectionId,
    mut from: ReadHalf<Accepted>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Ok(frame) = read_frame(&mut from).await {
        if inputs.send(Input::Frame(id, frame)).is_err() {
            return;
        }
    }
    // The owner may have stopped, and then nobody needs to know.
    inputs.send(Input::Disconnected(id)).ok();
}

async fn read_frame(from: &mut ReadHalf<Accepted>) -> io::Result<Bytes> {
    let length = usize::try_from(from.read_i32().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = BytesMut::with_capacity(length);
    while frame.len() < length {
        let missing = length - frame.len();
        if (&mut *from)
            .take(missing as u64)
            .read_buf(&mut frame)
            .await?
            == 0
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

/// Writes until the owner lets go of the connection; dropping the half then closes the socket.
async fn write(mut to: WriteHalf<Accepted>, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // Closing is the point; a peer that closed first makes it fail.
    to.shutdown().await.ok();
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).expect("a run is shorter than that")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn cluster_answers_over_a_socket_and_closes_it_when_a_broker_stops() {
        let server = FakeKafkaServer::start(Config::new(1)).unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
        // ApiVersions v0, correlation 7, null client id.
        let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
        stream.write_all(&request).await.unwrap();
        let length = stream.read_i32().await.unwrap();
        assert_eq!(stream.read_i32().await.unwrap(), 7);
        let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
        stream.read_exact(&mut rest).await.unwrap();
        server.with(|kafka| kafka.stop_broker(1)).await;
        assert_eq!(stream.read(&mut rest).await.unwrap(), 0);
    }
}
