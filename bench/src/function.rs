//! A function that counts, at an address of the caller's choice: it stands in for one of his own.
//!
//! It answers every Invoke with success, whatever the function's name and the signature, and says of each name
//! what has come.
//!
//! Invariant: it keeps no record, so it costs as little as an HTTP endpoint can.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use forebay_tests::fake_lambda::lean::Lean;
use forebay_tests::fake_lambda::{FakeLambda, Functions, Reply};

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
    signals.block_on(lambda.with(Functions::count_apart));
    let mut said = BTreeMap::new();
    let mut is_over = false;
    while !is_over {
        is_over = signals.pause(BEAT);
        let counted = signals.block_on(lambda.with(|functions| {
            let apart = functions.apart();
            apart
                .map(|(name, lean)| (name.to_owned(), lean.clone()))
                .collect::<Vec<_>>()
        }));
        if counted.is_empty() && is_over {
            say("no call came");
        }
        for (name, lean) in counted {
            let before = said.insert(name.clone(), lean.calls);
            if before != Some(lean.calls) || is_over {
                say(&counts(&name, &lean));
            }
        }
    }
    Ok(())
}

fn counts(name: &str, lean: &Lean) -> String {
    let name = match name {
        "" => "further functions",
        name => name,
    };
    format!(
        "{name}: {} records in {} calls: {} came again, before {} some were missing, {} calls were no event",
        lean.records, lean.calls, lean.duplicates, lean.gaps, lean.malformed
    )
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
