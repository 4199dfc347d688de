//! `forebay skip`: has the node that runs pass over what holds up a partition, and says what has become of it.
//!
//! Invariant: it exits 0 only where the record is out of the way, by this command or before.

use std::path::PathBuf;
use std::process::ExitCode;

use forebay::command::{self, Outcome, Owner};
use forebay::status::socket;

use crate::show::{place, wait_for};
use crate::{complain, print};

/// sysexits.h: it may work out later.
const EX_TEMPFAIL: u8 = 75;

/// What is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// The mapping, by its file's name without the ending or by its UUID.
    mapping: String,
    /// The partition, as TOPIC-PARTITION: orders-3.
    #[arg(value_name = "TOPIC-PARTITION", value_parser = partition)]
    partition: (String, i32),
    /// The offset that is in the way, as `forebay status MAPPING` shows it; of a batch that does not decode, its first.
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Discard it, instead of sending it to the mapping's destination.
    #[arg(long)]
    discard: bool,
    /// How long its end is waited for. What has not begun by then is not done later.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// The configuration file of the node. Default: the node that systemd runs.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's socket, control.sock in its runtime directory.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
}

fn partition(text: &str) -> Result<(String, i32), String> {
    let parts = text.rsplit_once('-').and_then(|(topic, partition)| {
        let partition: i32 = partition.parse().ok()?;
        (!topic.is_empty() && partition >= 0).then(|| (topic.to_owned(), partition))
    });
    parts.ok_or_else(|| "it is not TOPIC-PARTITION, as orders-3 is".to_owned())
}

/// Has it done, and says what came of it.
pub(crate) fn run(wish: Wish) -> ExitCode {
    let path = place(
        wish.socket.as_deref(),
        wish.config.as_deref(),
        socket::commands_path,
    );
    let path = match path {
        Ok(path) => path,
        Err(code) => return code,
    };
    let (topic, partition) = wish.partition;
    let asked = command::Skip {
        mapping: wish.mapping,
        topic,
        partition,
        offset: wish.offset,
        discard: wish.discard,
        wait_seconds: wish.wait,
    };
    let outcome = match wait_for(command::ask::skip(&path, asked.clone())) {
        Ok(outcome) => outcome,
        Err(code) => return code,
    };
    let said = words(&asked, &outcome);
    match &outcome {
        Outcome::Sent { .. } | Outcome::Discarded { .. } | Outcome::Past | Outcome::Succeeded => {
            print(&said);
            ExitCode::SUCCESS
        }
        Outcome::Waited { .. } => {
            complain(&format_args!("forebay: {said}"));
            EX_TEMPFAIL.into()
        }
        _ => {
            complain(&format_args!("forebay: {said}"));
            ExitCode::FAILURE
        }
    }
}

/// What has become of it, and what to do where that is not what was wanted.
fn words(of: &command::Skip, outcome: &Outcome) -> String {
    let lane = format!("{}-{}", of.topic, of.partition);
    let place = format!("{lane} offset {}", of.offset);
    let up_to = |last: i64| match last == of.offset {
        true => place.clone(),
        false => format!("{lane} offsets {} to {last}", of.offset),
    };
    match outcome {
        Outcome::Sent { destination } => {
            format!("{place}: has been sent to {destination}; the partition goes on without it")
        }
        Outcome::Discarded { last_offset } => {
            format!(
                "{}: has been discarded; the partition goes on without it",
                up_to(*last_offset)
            )
        }
        Outcome::Past => {
            format!("{place}: has ended already: it was skipped, or processed; nothing was done")
        }
        Outcome::Succeeded => {
            format!("{place}: the call that was open has succeeded with it; nothing was skipped")
        }
        Outcome::NotBlocking {
            first_offset: Some(first),
            last_offset: Some(last),
            ..
        } => {
            let blocking = match first == last {
                true => format!("offset {first}"),
                false => format!("one of the offsets {first} to {last}"),
            };
            format!(
                "{place}: is not what holds up the partition; that is {blocking}, as `forebay status` says"
            )
        }
        Outcome::NotBlocking {
            processed_offset, ..
        } => format!(
            "{place}: nothing holds up the partition, which stands at offset {processed_offset}; only what is in a call, \
             fails, or halts it can be skipped"
        ),
        Outcome::NoDestination => format!(
            "{place}: the mapping has no destination that it could go to; skip it with --discard, or declare \
             DestinationConfig.OnFailure.Destination and reload"
        ),
        Outcome::Undecodable { last_offset } => format!(
            "{}: cannot be decoded, so it goes to no destination; skip it with --discard",
            up_to(*last_offset)
        ),
        Outcome::NotOwned {
            owner: Some(owner), ..
        } => format!(
            "{lane} is not this node's: it belongs to {}; ask there",
            member(owner)
        ),
        Outcome::NotOwned { unknown, .. } => format!(
            "{lane} is not this node's, and whose it is cannot be told: {}",
            unknown.as_deref().unwrap_or("its group does not say")
        ),
        Outcome::Waited { reason } => format!(
            "{place}: not done within {} s: {reason}. What has not begun is withdrawn; ask again, or wait for longer with --wait",
            of.wait_seconds
        ),
        Outcome::Refused { reason } => reason.clone(),
    }
}

fn member(owner: &Owner) -> String {
    let Owner {
        client_id,
        host,
        instance_id,
    } = owner;
    // Kafka writes addresses with a slash before them.
    let host = host.trim_start_matches('/');
    match instance_id {
        Some(instance) => format!("the member {client_id} ({instance}) at {host}"),
        None => format!("the member {client_id} at {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_behind_the_last_hyphen() {
        assert_eq!(partition("a-b-3"), Ok(("a-b".to_owned(), 3)));
        for wrong in ["orders", "orders-", "-3", "orders-x", "orders--1x"] {
            assert!(partition(wrong).is_err(), "{wrong}");
        }
    }
}
