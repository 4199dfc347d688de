//! One connection to a broker: whole frames in, whole frames out.
//!
//! [`Link::open`] starts a task that resolves, connects, and then writes what is sent, in order, while a
//! reader task cuts the stream into frames. Both push [`Input`]s; neither knows what a frame means.
//!
//! Invariant: a frame is never cut off by us once its first byte was written.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use forebay_protocol::delivery::{ConnectionId, Disconnect, Endpoint, Input};
use forebay_protocol::limits::{CONNECT_TIMEOUT, FRAMES_WAITING_MAX, RESOLVE_TIMEOUT};
use monoio::task::JoinHandle;
use rustls::ClientConfig;

use super::Shard;
use super::frames::{FrameError, FrameReader};
use super::queue::Queue;
use super::receiving::{Asked, Receiving};
use crate::net::resolve::resolve;
use crate::net::stream::{OpenError, Stream, Writer};
use crate::net::tcp::Handle;
use crate::net::tls;
use crate::trust::TlsError;

/// A frame to be sent.
struct Outgoing {
    frame: Bytes,
    /// Bytes that the broker has ready for it.
    brings: usize,
}

/// A connection as its consumer holds it.
pub(crate) struct Link {
    outbox: Queue<Outgoing>,
    handle: Handle,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts connecting, under TLS where there is a configuration for it. `inputs` gets `Connected`, then
    /// frames, then `Disconnected`, each with `id`.
    pub(crate) fn open(
        id: ConnectionId,
        endpoint: Endpoint,
        tls: Option<Arc<ClientConfig>>,
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
            task: monoio::spawn(task.run(endpoint, tls)),
        }
    }

    /// Queues a whole frame. A peer that lets too many wait is cut off.
    pub(crate) fn send(&self, frame: Bytes) {
        self.fetch(frame, 0);
    }

    /// The same of a fetch, for which the broker has so many bytes ready.
    pub(crate) fn fetch(&self, frame: Bytes, brings: usize) {
        if self.outbox.try_push(Outgoing { frame, brings }).is_err() {
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
    outbox: Queue<Outgoing>,
    handle: Handle,
}

impl Task {
    async fn run(self, endpoint: Endpoint, tls: Option<Arc<ClientConfig>>) {
        let reason = match self.connect(&endpoint, tls).await {
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

    async fn connect(
        &self,
        endpoint: &Endpoint,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Stream, Disconnect> {
        let target = match tls {
            Some(config) => Some(tls::Target::new(config, &endpoint.host).map_err(of_tls)?),
            None => None,
        };
        let requests = &self.shard.requests;
        let resolved = monoio::select! {
            resolved = resolve(&endpoint.host, endpoint.port, requests, RESOLVE_TIMEOUT) => resolved,
            () = self.handle.until_cut() => return Err(given_up()),
        };
        let addresses = resolved.map_err(|error| Disconnect::Unresolved(error.to_string()))?;
        Stream::open(&addresses, target.as_ref(), CONNECT_TIMEOUT, &self.handle)
            .await
            .map_err(|error| match error {
                OpenError::Tls(error) => of_tls(error),
                error => Disconnect::Unreachable(error.to_string()),
            })
    }

    /// Writes until the connection ends; says why it ended.
    async fn serve(&self, stream: Stream) -> Disconnect {
        let Stream { reader, writer } = stream;
        let receiving = &self.shard.receiving;
        let frames = FrameReader::new(reader, Rc::clone(receiving), self.handle.clone());
        let asked = frames.asked();
        let reading = monoio::spawn(read_frames(
            self.id,
            frames,
            self.inputs.clone(),
            self.outbox.clone(),
            self.handle.clone(),
        ));
        let written = write_frames(writer, &self.outbox, receiving, &asked).await;
        self.handle.cut();
        let read = reading.await;
        match (written, read) {
            (_, error @ (FrameError::Length { .. } | FrameError::Stranger(_))) => {
                Disconnect::Protocol(error.to_string())
            }
            (_, FrameError::Broken(error)) | (Err(error), FrameError::Closed) => broken(error),
            (_, read) => Disconnect::Closed(read.to_string()),
        }
    }
}

async fn write_frames(
    mut writer: Writer,
    outbox: &Queue<Outgoing>,
    receiving: &Receiving,
    asked: &Cell<Option<Asked>>,
) -> io::Result<()> {
    while let Some(Outgoing { frame, brings }) = outbox.next().await {
        if brings > 0 {
            // Neither of the two is an operation on the socket.
            monoio::select! {
                may_ask = receiving.ask(brings) => asked.set(Some(may_ask)),
                () = outbox.until_closed() => return Ok(()),
            }
        }
        let (written, _) = writer.write_all(frame).await;
        written?;
    }
    Ok(())
}

/// Lives as long as the connection; its end makes the writer end too.
async fn read_frames(
    id: ConnectionId,
    mut frames: FrameReader,
    inputs: Queue<Input>,
    outbox: Queue<Outgoing>,
    handle: Handle,
) -> FrameError {
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

/// A connection that stood.
fn broken(error: io::Error) -> Disconnect {
    match error.downcast::<TlsError>() {
        Ok(error) => of_tls(error),
        Err(error) => Disconnect::Closed(error.to_string()),
    }
}

fn of_tls(error: TlsError) -> Disconnect {
    let text = error.of_broker();
    match error {
        _ if error.is_lack_of_tls() => Disconnect::Protocol(text),
        TlsError::ServerNotTrusted(_) => Disconnect::ServerNotTrusted(text),
        TlsError::ClientNotTrusted(_) => Disconnect::ClientNotTrusted(text),
        TlsError::Stranger(_) | TlsError::Failed(_) => Disconnect::Protocol(text),
        TlsError::Broken(_) => Disconnect::Closed(text),
    }
}

fn given_up() -> Disconnect {
    Disconnect::Unreachable("the attempt was given up".to_owned())
}

#[cfg(test)]
mod tests;
