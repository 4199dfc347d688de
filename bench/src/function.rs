//! A function that counts, at an address of the caller's choice: it stands in for one of his own.
//!
//! It answers every Invoke with success, whatever the function's name and the signature, and says at its end
//! what has come.
//!
//! Invariant: it keeps no record, so it costs as little as an HTTP endpoint can.

use std::net::SocketAddr;
use std::time::Duration;

use forebay_tests::fake_lambda::{FakeLambda, Reply};

use crate::say;
use crate::signals::Signals;

/// How often it looks whether something has come.
const BEAT: Duration = Duration::from_secs(1);

/// Options of `function`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Milliseconds that it takes for a call.
    #[arg(long, default_value_t = 0)]
    call_millis: u64,
    /// Every call fails, as of a function that cannot digest its records.
    #[arg(long)]
    fails: bool,
}

impl Arguments {
    /// What every call gets; nothing special if that is not said.
    fn reply(&self) -> Option<Reply> {
        let reply = match self.fails {
            true => Reply::function_error(),
            false => Reply::ok(),
        };
        match self.call_millis {
            0 => self.fails.then_some(reply),
            millis => Some(reply.after(Duration::from_millis(millis))),
        }
    }
}

pub(crate) fn serve(arguments: &Arguments) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let lambda = FakeLambda::start_lean_at(arguments.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    if let Some(reply) = arguments.reply() {
        signals.block_on(lambda.with(move |functions| functions.otherwise(reply)));
    }
    say(&format!(
        "--endpoint-url {}  any --function; Ctrl-C ends it",
        lambda.url()
    ));
    let mut calls = 0;
    let mut is_over = false;
    while !is_over {
        is_over = signals.pause(BEAT);
        let lean = signals.block_on(lambda.with(|functions| functions.lean().cloned()));
        let lean = lean.ok_or("the function keeps no count")?;
        if lean.calls == calls && !is_over {
            continue;
        }
        calls = lean.calls;
        say(&format!(
            "{} records in {} calls: {} came again, before {} some were missing, {} calls were no event",
            lean.records, lean.calls, lean.duplicates, lean.gaps, lean.malformed
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_special_only_if_that_is_said() {
        let reply = |call_millis, fails| {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let arguments = Arguments {
                listen,
                call_millis,
                fails,
            };
            arguments.reply()
        };
        assert_eq!(reply(0, false), None);
        assert_eq!(reply(0, true), Some(Reply::function_error()));
        let late = Reply::ok().after(Duration::from_millis(5));
        assert_eq!(reply(5, false), Some(late));
    }
}
