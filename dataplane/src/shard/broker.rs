//! One connection to a broker: whole frames in, whole frames out.
//!
//! [`Link::open`] starts a task that resolves, connects, and then writes what is sent, in order, while a
//! reader task cuts the stream into frames. Both push [`Input`]s; neither knows what a frame means.
//!
//! Invariant: a frame is never cut off by us once its first byte was written, and a length from the wire
//! never makes us reserve more than [`FRAME_BYTES_RESERVED`] before its bytes arrive.

use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use forebay_protocol::delivery::{ConnectionId, Disconnect, Endpoint, Input};
use forebay_protocol::limits::{
    CONNECT_TIMEOUT, FRAME_BYTES_MAX, FRAME_BYTES_RESERVED, FRAMES_WAITING_MAX, RESOLVE_TIMEOUT,
};
use monoio::buf::SliceMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use monoio::task::JoinHandle;
use thiserror::Error;

use super::Shard;
use super::queue::Queue;
use crate::net::resolve::resolve;
use crate::net::tcp::{self, Handle};

/// Frames from this size on are received into memory that is used again.
const RECYCLED_BYTES_MIN: usize = 32 * 1024;

/// They come in sizes of whole steps, so that the next frame, a little larger, fits too.
const RECYCLED_BYTES_STEP: usize = 256 * 1024;

/// A connection as its consumer holds it.
pub(crate) struct Link {
    outbox: Queue<Bytes>,
    handle: Handle,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts connecting. `inputs` gets `Connected`, then frames, then `Disconnected`, each with `id`.
    pub(crate) fn open(
        id: ConnectionId,
        endpoint: Endpoint,
        shard: Rc<Shard>,
        inputs: Queue<Input>,
    ) -> Self {
        let outbox = Queue::new(FRAMES_WAITING_MAX);
        let handle = Handle::default();
        let task = Task {
            id,
            shard,
            inputs,
            outbox: outbox.clone(),
            handle: handle.clone(),
        };
        Self {
            outbox,
            handle,
            task: monoio::spawn(task.run(endpoint)),
        }
    }

    /// Queues a whole frame. A peer that lets too many wait is cut off.
    pub(crate) fn send(&self, frame: Bytes) {
        if self.outbox.try_push(frame).is_err() {
            self.handle.cut();
        }
    }

    /// Ends the connection now; await the task to know that it is closed.
    pub(crate) fn close(self) -> JoinHandle<()> {
        self.outbox.close();
        self.handle.cut();
        self.task
    }
}

struct Task {
    id: ConnectionId,
    shard: Rc<Shard>,
    inputs: Queue<Input>,
    outbox: Queue<Bytes>,
    handle: Handle,
}

impl Task {
    async fn run(self, endpoint: Endpoint) {
        let reason = match self.connect(&endpoint).await {
            Ok(stream) => {
                self.inputs.push(Input::Connected(self.id)).await;
                self.serve(stream).await
            }
            Err(reason) => reason,
        };
        self.handle.release();
        self.outbox.close();
        self.inputs.push(Input::Disconnected(self.id, reason)).await;
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<tcp::Stream, Disconnect> {
        let requests = &self.shard.requests;
        let resolved = monoio::select! {
            resolved = resolve(&endpoint.host, endpoint.port, requests, RESOLVE_TIMEOUT) => resolved,
            () = self.handle.until_cut() => return Err(given_up()),
        };
        let addresses = resolved.map_err(|error| Disconnect::Unresolved(error.to_string()))?;
        tcp::connect(&addresses, CONNECT_TIMEOUT, &self.handle)
            .await
            .map_err(|error| Disconnect::Unreachable(error.to_string()))
    }

    /// Writes until the connection ends; says why it ended.
    async fn serve(&self, stream: tcp::Stream) -> Disconnect {
        let tcp::Stream { reader, writer } = stream;
        let reading = monoio::spawn(read_frames(
            self.id,
            reader,
            self.inputs.clone(),
            self.outbox.clone(),
            self.handle.clone(),
        ));
        let written = write_frames(writer, &self.outbox).await;
        self.handle.cut();
        let read = reading.await;
        match (written, read) {
            (_, FrameError::Length(length)) => {
                Disconnect::Protocol(FrameError::Length(length).to_string())
            }
            (Err(error), FrameError::Closed) => Disconnect::Closed(error.to_string()),
            (_, read) => Disconnect::Closed(read.to_string()),
        }
    }
}

async fn write_frames(mut writer: TcpOwnedWriteHalf, outbox: &Queue<Bytes>) -> io::Result<()> {
    while let Some(frame) = outbox.next().await {
        let (written, _) = writer.write_all(frame).await;
        written?;
    }
    Ok(())
}

/// Lives as long as the connection; its end makes the writer end too.
async fn read_frames(
    id: ConnectionId,
    reader: TcpOwnedReadHalf,
    inputs: Queue<Input>,
    outbox: Queue<Bytes>,
    handle: Handle,
) -> FrameError {
    let mut frames = FrameReader::new(reader);
    let error = loop {
        match frames.next().await {
            Ok(frame) => inputs.push(Input::Frame(id, frame)).await,
            Err(error) => break error,
        }
    };
    outbox.close();
    handle.cut();
    error
}

/// Why there are no more frames.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The peer closed between two frames.
    #[error("the broker closed the connection")]
    Closed,
    /// The peer closed inside a frame.
    #[error("the broker closed the connection after {arrived} of {length} bytes of a frame")]
    Truncated {
        /// Bytes of it that came.
        arrived: usize,
        /// What its length promised.
        length: usize,
    },
    /// The length is negative or beyond the limit.
    #[error("the broker announced a frame of {0} bytes, the limit is {FRAME_BYTES_MAX}")]
    Length(i32),
    /// The connection broke.
    #[error("{0}")]
    Broken(#[from] io::Error),
}

/// Cuts a stream into frames.
struct FrameReader<R> {
    stream: R,
    head: Vec<u8>,
    buffers: Buffers,
}

impl<R: AsyncReadRent> FrameReader<R> {
    fn new(stream: R) -> Self {
        Self {
            stream,
            head: Vec::with_capacity(4),
            buffers: Buffers::default(),
        }
    }

    /// The next frame without its length.
    async fn next(&mut self) -> Result<Bytes, FrameError> {
        let length = self.length().await?;
        let mut buffer = self.buffers.lend(length.min(FRAME_BYTES_RESERVED));
        while buffer.len() < length {
            let arrived = buffer.len();
            if buffer.capacity() == arrived {
                // Doubling: what is reserved stays within twice of what has arrived.
                buffer.reserve(arrived.min(length - arrived));
            }
            let end = length.min(buffer.capacity());
            let (read, slice) = self.stream.read(SliceMut::new(buffer, arrived, end)).await;
            buffer = slice.into_inner();
            if ended(read)? {
                return Err(FrameError::Truncated { arrived, length });
            }
        }
        let capacity = buffer.capacity();
        let frame = buffer.split().freeze();
        self.buffers.keep(buffer, capacity);
        Ok(frame)
    }

    async fn length(&mut self) -> Result<usize, FrameError> {
        self.head.clear();
        while self.head.len() < 4 {
            let arrived = self.head.len();
            let head = std::mem::take(&mut self.head);
            let (read, slice) = self.stream.read(SliceMut::new(head, arrived, 4)).await;
            self.head = slice.into_inner();
            if ended(read)? {
                return match arrived {
                    0 => Err(FrameError::Closed),
                    _ => Err(FrameError::Truncated { arrived, length: 4 }),
                };
            }
        }
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.head);
        let announced = i32::from_be_bytes(bytes);
        match usize::try_from(announced) {
            Ok(length) if length <= FRAME_BYTES_MAX => Ok(length),
            _ => Err(FrameError::Length(announced)),
        }
    }
}

/// Whether that read was the end of the stream.
fn ended(read: io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(bytes) => Ok(bytes == 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Receive buffers that are used again once every slice of their last frame is gone: fresh memory costs a
/// page fault every 4 KiB, ten times the copy. Two, because the next fetch comes while this one is read.
#[derive(Debug, Default)]
struct Buffers {
    kept: [Option<Kept>; 2],
}

#[derive(Debug)]
struct Kept {
    /// What is left behind a frame; it still shares the frame's memory.
    rest: BytesMut,
    capacity: usize,
}

impl Buffers {
    fn lend(&mut self, bytes: usize) -> BytesMut {
        if bytes < RECYCLED_BYTES_MIN {
            return BytesMut::with_capacity(bytes);
        }
        for slot in &mut self.kept {
            // A small frame in a large buffer would hold memory that nobody has accounted for.
            if let Some(kept) = slot
                && kept.capacity / 4 <= bytes
                && kept.rest.try_reclaim(bytes)
                && let Some(kept) = slot.take()
            {
                return kept.rest;
            }
        }
        BytesMut::with_capacity(bytes.next_multiple_of(RECYCLED_BYTES_STEP))
    }

    /// Takes the rest of a buffer whose front was handed out as a frame.
    fn keep(&mut self, rest: BytesMut, capacity: usize) {
        if capacity < RECYCLED_BYTES_MIN {
            return;
        }
        if self.kept[0].is_some() {
            self.kept.swap(0, 1);
        }
        self.kept[0] = Some(Kept { rest, capacity });
    }
}

fn given_up() -> Disconnect {
    Disconnect::Unreachable("the attempt was given up".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::contract::Request;
    use crate::net::trial::{on_each_driver, pair};
    use crate::shard::tests::shard;

    const ID: ConnectionId = ConnectionId(7);

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = i32::try_from(payload.len()).unwrap();
        [&length.to_be_bytes(), payload].concat()
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn frames_come_whole_whatever_their_size() {
        on_each_driver(async || {
            let (stream, _handle, mut peer) = pair().await;
            let mut frames = FrameReader::new(stream.reader);
            let sizes = [0, 1, 5000, 40_000, 300_000, 20_000_000, 3, 300_001];
            let sender = std::thread::spawn(move || {
                for size in sizes {
                    peer.write_all(&framed(&pattern(size))).unwrap();
                }
            });
            for size in sizes {
                let frame = frames.next().await.unwrap();
                assert!(frame == pattern(size), "a frame of {size} bytes");
            }
            assert!(matches!(frames.next().await, Err(FrameError::Closed)));
            sender.join().unwrap();
        });
    }

    #[test]
    fn a_frame_may_drip() {
        on_each_driver(async || {
            let (stream, _handle, mut peer) = pair().await;
            peer.set_nodelay(true).unwrap();
            let mut frames = FrameReader::new(stream.reader);
            let sender = std::thread::spawn(move || {
                for byte in framed(b"drip") {
                    peer.write_all(&[byte]).unwrap();
                    #[expect(clippy::disallowed_methods, reason = "a thread of the test's own")]
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
            assert_eq!(frames.next().await.unwrap(), "drip");
            sender.join().unwrap();
        });
    }

    #[test]
    fn a_length_outside_the_limit_is_refused_before_the_rest() {
        on_each_driver(async || {
            for length in [-1, i32::MIN, i32::MAX, FRAME_BYTES_MAX as i32 + 1] {
                let (stream, _handle, mut peer) = pair().await;
                peer.write_all(&length.to_be_bytes()).unwrap();
                let error = FrameReader::new(stream.reader).next().await.unwrap_err();
                assert!(
                    matches!(error, FrameError::Length(l) if l == length),
                    "{error}"
                );
            }
        });
    }

    #[test]
    fn the_end_inside_a_frame_says_how_far_it_came() {
        on_each_driver(async || {
            let (stream, _handle, mut peer) = pair().await;
            peer.write_all(&(100_i32 << 20).to_be_bytes()).unwrap();
            peer.write_all(b"short").unwrap();
            drop(peer);
            let error = FrameReader::new(stream.reader).next().await.unwrap_err();
            assert!(
                matches!(error, FrameError::Truncated { arrived: 5, length } if length == 100 << 20),
                "{error}"
            );
        });
    }

    #[test]
    fn the_memory_of_a_frame_is_used_again_but_never_while_it_is_held() {
        on_each_driver(async || {
            let (stream, _handle, mut peer) = pair().await;
            let mut frames = FrameReader::new(stream.reader);
            let sender = std::thread::spawn(move || {
                for _ in 0..6 {
                    peer.write_all(&framed(&pattern(200_000))).unwrap();
                }
            });
            let first = frames.next().await.unwrap();
            let second = frames.next().await.unwrap();
            let place = first.as_ptr();
            drop(first);
            let third = frames.next().await.unwrap();
            assert_eq!(third.as_ptr(), place);
            let fourth = frames.next().await.unwrap();
            assert!(fourth.as_ptr() != second.as_ptr() && fourth.as_ptr() != third.as_ptr());
            for held in [second, third, fourth] {
                assert!(held == pattern(200_000));
            }
            sender.join().unwrap();
        });
    }

    fn listen() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = "127.0.0.1".to_owned();
        (listener, Endpoint { host, port })
    }

    async fn connected() -> (Link, Queue<Input>, TcpStream) {
        let (listener, endpoint) = listen();
        let inputs = Queue::new(8);
        let link = Link::open(ID, endpoint, shard().0, inputs.clone());
        assert!(matches!(inputs.next().await, Some(Input::Connected(ID))));
        (link, inputs, listener.accept().unwrap().0)
    }

    #[test]
    fn frames_go_both_ways_and_the_end_has_a_reason() {
        on_each_driver(async || {
            let (link, inputs, mut peer) = connected().await;
            link.send(Bytes::from_static(b"\0\0\0\x02hi"));
            link.send(Bytes::from_static(b"\0\0\0\x02ho"));
            monoio::time::sleep(Duration::from_millis(5)).await;
            let mut sent = [0; 12];
            peer.read_exact(&mut sent).unwrap();
            assert_eq!(&sent, b"\0\0\0\x02hi\0\0\0\x02ho");
            peer.write_all(&framed(b"answer")).unwrap();
            peer.write_all(b"\0\0\0\x09half").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            match inputs.next().await {
                Some(Input::Frame(ID, frame)) => assert_eq!(frame, "answer"),
                other => panic!("{other:?}"),
            }
            match inputs.next().await {
                Some(Input::Disconnected(ID, Disconnect::Closed(reason))) => {
                    assert!(reason.contains("4 of 9 bytes"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
            link.close().await;
        });
    }

    #[test]
    fn closing_ends_reads_and_writes_that_wait_and_closes_the_socket() {
        on_each_driver(async || {
            let (link, inputs, mut peer) = connected().await;
            link.send(Bytes::from(vec![0; 64 * 1024 * 1024]));
            monoio::time::sleep(Duration::from_millis(20)).await;
            link.close().await;
            assert!(matches!(
                inputs.next().await,
                Some(Input::Disconnected(ID, _))
            ));
            let reading = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
            while !reading.is_finished() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn a_broker_that_reads_nothing_is_given_up() {
        on_each_driver(async || {
            let (link, inputs, _peer) = connected().await;
            let frame = Bytes::from(vec![0; 16 * 1024 * 1024]);
            for _ in 0..FRAMES_WAITING_MAX + 2 {
                link.send(frame.clone());
            }
            assert!(matches!(
                inputs.next().await,
                Some(Input::Disconnected(ID, _))
            ));
            link.close().await;
        });
    }

    #[test]
    fn a_name_is_resolved_by_control_and_its_failure_is_told() {
        on_each_driver(async || {
            let (listener, endpoint) = listen();
            let (shard, mut asked) = shard();
            let control = monoio::spawn(async move {
                let address = listener.local_addr().unwrap();
                for addresses in [Ok(vec![address]), Err("no such name".to_owned())] {
                    match asked.recv().await {
                        Some(Request::Resolve { host, answer, .. }) => {
                            assert_eq!(host, "kafka.test");
                            answer.send(addresses).unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                }
                listener
            });
            let named = Endpoint {
                host: "kafka.test".to_owned(),
                port: endpoint.port,
            };
            let inputs = Queue::new(8);
            let first = Link::open(ID, named.clone(), Rc::clone(&shard), inputs.clone());
            assert!(matches!(inputs.next().await, Some(Input::Connected(ID))));
            first.close().await;
            inputs.next().await.unwrap();
            let second = Link::open(ID, named, shard, inputs.clone());
            match inputs.next().await {
                Some(Input::Disconnected(ID, Disconnect::Unresolved(reason))) => {
                    assert_eq!(reason, "cannot resolve kafka.test: no such name");
                }
                other => panic!("{other:?}"),
            }
            second.close().await;
            control.await;
        });
    }

    #[test]
    fn closing_ends_a_resolution_that_never_answers() {
        on_each_driver(async || {
            let (shard, _asked) = shard();
            let named = Endpoint {
                host: "silent.test".to_owned(),
                port: 9,
            };
            let link = Link::open(ID, named, shard, Queue::new(8));
            monoio::time::sleep(Duration::from_millis(5)).await;
            link.close().await;
        });
    }
}
