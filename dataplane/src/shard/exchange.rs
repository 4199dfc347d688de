//! One request and its answer on one connection, both directions at once.
//!
//! The answer is read while the request is still being written: an endpoint may refuse a body (413, 429)
//! before it has read it, and then stop reading.
//!
//! Invariant: when [`exchange`] returns, no operation is pending on the connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use forebay_protocol::http::{Progress, Response, ResponseError, ResponseParser};
use thiserror::Error;

use crate::net::stream::{Reader, Stream, Writer};
use crate::net::tcp::Handle;

/// Pieces up to this size are copied together, so that one send carries them.
pub(super) const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// What one read of an answer takes at most.
const READ_BYTES: usize = 16 * 1024;

/// What to do where calls go on breaking.
const ASK_CHECK: &str = "if that goes on, forebay check says what endpoint_url leads to";

/// Why there is no answer. The function may have run.
#[derive(Debug, Error)]
pub(super) enum ExchangeError {
    /// Somebody cut the connection.
    #[error("the call was given up")]
    GivenUp,
    /// The answer is no whole HTTP answer.
    #[error("{0}")]
    Response(#[from] ResponseError),
    /// The connection broke while the request was sent.
    #[error("the connection broke while the request was sent: {0}; {ASK_CHECK}")]
    Send(io::Error),
    /// The connection broke while waiting for the answer.
    #[error("the connection broke before the answer was whole: {0}; {ASK_CHECK}")]
    Receive(io::Error),
}

/// Sends a request and reads its answer, whose `keep_alive` says whether the connection is of more use.
pub(super) async fn exchange(
    stream: &mut Stream,
    handle: &Handle,
    head: Vec<u8>,
    body: Vec<Bytes>,
) -> Result<Response, ExchangeError> {
    let mut sending = pin!(send(&mut stream.writer, head, body));
    let mut receiving = pin!(receive(&mut stream.reader));
    let mut sent = None;
    let received = poll_fn(|cx| {
        if sent.is_none()
            && let Poll::Ready(result) = sending.as_mut().poll(cx)
        {
            sent = Some(result);
        }
        // A send that failed does not end it: the answer may have come before, and says why.
        receiving.as_mut().poll(cx)
    })
    .await;
    // Looked at before we cut it ourselves, to end a send that nobody reads any more.
    let given_up = handle.is_cut();
    let sent = match sent {
        Some(sent) => sent,
        None => {
            handle.reset();
            sending.await
        }
    };
    match (received, sent) {
        (Ok(mut response), sent) => {
            response.keep_alive &= sent.is_ok() && !handle.is_cut();
            Ok(response)
        }
        (Err(_), _) if given_up => Err(ExchangeError::GivenUp),
        // Without an answer, the first thing that went wrong explains more.
        (
            Err(ExchangeError::Response(ResponseError::NoAnswer) | ExchangeError::Receive(_)),
            Err(error),
        ) => Err(ExchangeError::Send(error)),
        (Err(error), _) => Err(error),
    }
}

/// Writes head and body in as few sends as the pieces allow: what is small is gathered, what is large is
/// sent from where it lies.
async fn send(writer: &mut Writer, head: Vec<u8>, pieces: Vec<Bytes>) -> io::Result<()> {
    let mut gathered = head;
    for piece in pieces {
        if piece.len() <= GATHERED_BYTES_MAX {
            gathered.extend_from_slice(&piece);
            if gathered.len() >= GATHERED_BYTES_MAX {
                gathered = write(writer, gathered).await?;
            }
        } else {
            gathered = write(writer, gathered).await?;
            let (written, _) = writer.write_all(piece).await;
            written?;
        }
    }
    write(writer, gathered).await.map(|_| ())
}

/// Writes what there is, and gives the buffer back empty.
async fn write(writer: &mut Writer, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let (written, mut buffer) = writer.write_all(buffer).await;
    written?;
    buffer.clear();
    Ok(buffer)
}

async fn receive(reader: &mut Reader) -> Result<Response, ExchangeError> {
    let mut parser = ResponseParser::new();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        buffer.clear();
        let (read, filled) = reader.read(buffer, READ_BYTES).await;
        buffer = filled;
        match read {
            Ok(0) => return Ok(parser.close()?),
            Ok(bytes) => {
                let input = buffer.get(..bytes).unwrap_or_default();
                if let Progress::Complete(response) = parser.push(input)? {
                    return Ok(response);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ExchangeError::Receive(error)),
        }
    }
}
