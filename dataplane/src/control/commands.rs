//! Commands of operators, for whoever may connect to the node's second socket.
//!
//! Invariant: so many at once, each read within a limit; who has gone waits for nothing any more.

use std::time::Duration;

use forebay_protocol::delivery::SkipStatus;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tracing::info;

use super::clients::{self, TALK_TIMEOUT};
use super::health::{Ask, ask};
use super::owner;
use super::skips::{Begun, Progress};
use crate::clock;
use crate::command::{Answer, Command, FORMAT, Outcome, Skip};
use crate::contract::{mpsc, watch};

/// A command is one line.
const COMMAND_BYTES_MAX: u64 = 64 << 10;

/// Nobody waits for longer.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Serves until it is aborted.
pub(super) async fn serve(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let attend = |stream| attend(stream, asks.clone());
    clients::serve(&listener, "Commands are not served for a moment", attend).await;
}

async fn attend(stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let user = stream.peer_cred().ok().map(|peer| peer.uid());
    let (mut from, mut to) = stream.into_split();
    let outcome = match read(&mut from).await {
        Ok(command) => {
            let gone = gone(from);
            tokio::select! {
                outcome = skip(command, user, &asks) => outcome,
                () = gone => return,
            }
        }
        Err(reason) => Outcome::Refused { reason },
    };
    let Ok(mut line) = serde_json::to_vec(&Answer::from(outcome)) else {
        return;
    };
    line.push(b'\n');
    clients::say(&mut to, &line).await;
}

/// The command, or why there is none.
async fn read(from: &mut OwnedReadHalf) -> Result<Skip, String> {
    let mut line = String::new();
    let mut limited = BufReader::new(from.take(COMMAND_BYTES_MAX));
    match tokio::time::timeout(TALK_TIMEOUT, limited.read_line(&mut line)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(format!("the command cannot be read: {error}")),
        Err(_) => return Err(format!("no command came within {TALK_TIMEOUT:?}")),
    }
    match serde_json::from_str(&line) {
        Ok(Command {
            format: FORMAT,
            skip,
        }) => Ok(skip),
        Ok(Command { format, .. }) => Err(format!(
            "the command has format {format}, and the node is version {}, which takes format {FORMAT}; use the forebay that \
             the node runs",
            env!("CARGO_PKG_VERSION")
        )),
        Err(error) => Err(format!("that is no command: {error}")),
    }
}

/// Ends when who asked has closed the connection.
async fn gone(mut from: OwnedReadHalf) {
    let mut more = [0; 64];
    while from.read(&mut more).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn skip(of: Skip, user: Option<u32>, asks: &mpsc::Sender<Ask>) -> Outcome {
    let Skip {
        mapping,
        topic,
        partition,
        offset,
        discard,
        wait_seconds,
    } = of.clone();
    info!(
        mapping,
        topic, partition, offset, discard, user, "Operator wants an offset passed over"
    );
    let begun = ask(asks, |answer| Ask::Skip(of, answer)).await;
    let Begun {
        mapping,
        access,
        mut progress,
    } = match begun {
        Some(Ok(begun)) => begun,
        Some(Err(outcome)) => return outcome,
        None => {
            let reason = "control does not answer; the node's log says more".to_owned();
            return Outcome::Refused { reason };
        }
    };
    let patience = Duration::from_secs(wait_seconds).min(WAIT_MAX);
    let ended = tokio::time::timeout(patience, ended(&mut progress)).await;
    let status = match ended {
        Ok(Some(status)) => status,
        Ok(None) => {
            let reason = "the node ends; ask the one that has the partition next".to_owned();
            return Outcome::Refused { reason };
        }
        Err(_) => progress.borrow().status.clone(),
    };
    match status {
        SkipStatus::Sent => Outcome::Sent {
            destination: mapping
                .destination
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        },
        SkipStatus::Discarded { last_offset } => Outcome::Discarded { last_offset },
        SkipStatus::Past => Outcome::Past,
        SkipStatus::Succeeded => Outcome::Succeeded,
        SkipStatus::NotBlocking {
            processed_offset,
            blocking,
        } => Outcome::NotBlocking {
            processed_offset,
            first_offset: blocking.map(|(first, _)| first),
            last_offset: blocking.map(|(_, last)| last),
        },
        SkipStatus::NoDestination => Outcome::NoDestination,
        SkipStatus::Undecodable { last_offset } => Outcome::Undecodable { last_offset },
        SkipStatus::NotOwned => match access {
            Some(access) => owner::of(&mapping, &access, partition).await.into(),
            None => Err("its brokers cannot be asked, for want of a secret".to_owned()).into(),
        },
        SkipStatus::Looking | SkipStatus::Called { .. } | SkipStatus::Leaving { .. } => {
            Outcome::Waited {
                reason: awaited(&status),
            }
        }
    }
}

/// Waits for the end of a wish; `None` if the node ends before.
async fn ended(progress: &mut watch::Receiver<Progress>) -> Option<SkipStatus> {
    let ended = progress.wait_for(|it| it.has_ended).await;
    ended.ok().map(|progress| progress.status.clone())
}

/// What was waited for.
fn awaited(status: &SkipStatus) -> String {
    match status {
        SkipStatus::Called { deadline } => {
            let left = deadline.saturating_since(clock::now()).as_secs();
            format!(
                "a call that carries it is open, which may take {left} s more; what it comes to decides"
            )
        }
        SkipStatus::Leaving { condition, error } => {
            let (condition, error) = (condition.as_str(), error.as_deref().unwrap_or("none yet"));
            format!(
                "it is given up ({condition}) and on its way to its destination, which has not taken it (last error: {error}); it \
                 stays on that way, and --discard takes it off"
            )
        }
        _ => "the mapping's consumers do not know yet where the partition stands, or whose it is"
            .to_owned(),
    }
}

impl From<Result<crate::command::Owner, String>> for Outcome {
    fn from(found: Result<crate::command::Owner, String>) -> Self {
        let (owner, unknown) = match found {
            Ok(owner) => (Some(owner), None),
            Err(unknown) => (None, Some(unknown)),
        };
        Self::NotOwned { owner, unknown }
    }
}
