//! A case in a process of its own that runs no kernels: they are chosen once in a process.
//!
//! The child says first what its bodies hold; each line that it is then sent is a round, and answered by the
//! nanoseconds that it took.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::{Case, Content, Round};
use crate::helper::{Helper, tell};

/// What a CPU without kernels would run: see `protocol/src/kernels`.
const WITHOUT_KERNELS: (&str, &str) = ("FOREBAY_KERNELS", "off");

#[derive(Serialize, Deserialize)]
struct Nanoseconds {
    codec: u64,
    hash: u64,
}

/// The child's side.
pub(crate) fn serve(case: &Case) -> Result<(), String> {
    let mut bench = Bench::new(*case)?;
    tell(&bench.content())?;
    for line in std::io::stdin().lines() {
        line.map_err(|error| format!("standard input: {error}"))?;
        let round = bench.round()?;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        tell(&Nanoseconds {
            codec: nanoseconds(round.codec),
            hash: nanoseconds(round.hash),
        })?;
    }
    Ok(())
}

/// The parent's side.
pub(super) struct PlainBench {
    helper: Helper,
    content: Content,
}

impl PlainBench {
    pub(super) fn start(case: &Case) -> Result<Self, String> {
        let name = |value: Option<PossibleValue>| {
            value.map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let arguments = [
            "codec-case".to_owned(),
            format!("--value-bytes={}", case.value_bytes),
            format!("--way={}", name(case.way.to_possible_value())),
            format!("--source={}", name(case.source.to_possible_value())),
        ];
        let mut helper = Helper::start_with(&arguments, &[WITHOUT_KERNELS])?;
        let content = helper.hear()?;
        Ok(Self { helper, content })
    }

    pub(super) fn content(&self) -> Content {
        self.content
    }

    pub(super) fn round(&mut self) -> Result<Round, String> {
        let Nanoseconds { codec, hash } = self.helper.ask("round")?;
        Ok(Round {
            codec: Duration::from_nanos(codec),
            hash: Duration::from_nanos(hash),
        })
    }
}
