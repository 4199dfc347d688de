//! What the runtime's choices are worth: io_uring against epoll, the flags of the ring, mimalloc against the
//! system's allocator.
//!
//! The same load (see [`load`](crate::load)) goes through the appliance as it is shipped and with one choice
//! changed: drivers and flags by its environment variables, the [`allocator`] by another binary. In large calls a
//! record's bytes cost most, in small ones the runtime does.
//!
//! Invariant: cases are compared with the shipped one, in the same round; what the kernel refuses has no figure.

mod allocator;
mod case;
mod found;

use std::path::PathBuf;
use std::process::ExitCode;

use forebay_tests::node::Node;

use self::case::{Case, Way};
pub(crate) use self::found::Found;
use self::found::Measured;
use crate::load::{Appliance, Begun, Cost, Load};
use crate::results::Output;
use crate::rig::{Filtering, Signing};
use crate::{results, say, stage};

/// Calls that are as large as they get, and those of small traffic.
const BATCH_SIZES: [u32; 2] = [10_000, 10];

/// Flags that a ring can have instead of ours. Without `single_issuer` the kernel defers nothing, and its own
/// thread does not go together with `coop_taskrun`.
const RINGS: [&str; 5] = [
    "none",
    "coop_taskrun",
    "single_issuer",
    "single_issuer,defer_taskrun",
    "sqpoll",
];

/// A choice of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// io_uring or epoll.
    Driver,
    /// The flags of the ring.
    Ring,
    /// mimalloc or the system's allocator.
    Allocator,
}

/// Options of `runtime`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The choices that are measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Choice::Driver, Choice::Ring, Choice::Allocator])]
    choices: Vec<Choice>,
    /// Flags of a ring, as `FOREBAY_RING` has them; a case for each time that this is given.
    #[arg(long = "ring", value_name = "FLAGS", default_values = RINGS)]
    rings: Vec<String>,
    /// The appliance with the system's allocator; built if left out, as long as cargo and the sources are there.
    #[arg(long, value_name = "FILE")]
    system_allocator: Option<PathBuf>,
    /// `BatchSize`.
    #[arg(long, value_delimiter = ',', default_values_t = BATCH_SIZES)]
    batch_size: Vec<u32>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Megabytes of values in each run.
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The appliance as it is shipped; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Found, String> {
    let (ways, left_out) = ways(arguments)?;
    let mut runs: Vec<Vec<Vec<Cost>>> = arguments.batch_size.iter().map(|_| Vec::new()).collect();
    for first in 0..arguments.rounds.max(1) {
        for (batch_size, rounds) in arguments.batch_size.iter().zip(&mut runs) {
            rounds.push(round(arguments, *batch_size, &ways, first)?);
        }
    }
    let runs = arguments.batch_size.iter().zip(&runs);
    let cases = runs.flat_map(|(batch_size, rounds)| {
        Measured::all(arguments.value_bytes, *batch_size, &ways, rounds)
    });
    Ok(Found {
        value_bytes: arguments.value_bytes,
        partitions: arguments.partitions,
        rounds: arguments.rounds.max(1),
        cases: cases.collect(),
        left_out,
    })
}

/// The shipped one and those that are measured beside it, and why the system's allocator is not among them.
fn ways(arguments: &Arguments) -> Result<(Vec<Way>, Option<String>), String> {
    let shipped = Node::program(arguments.forebay.as_deref())?;
    let mut ways = vec![Way::new(Case::Shipped, &shipped)?];
    if arguments.choices.contains(&Choice::Driver) {
        ways.push(Way::new(Case::Epoll, &shipped)?);
    }
    if arguments.choices.contains(&Choice::Ring) {
        for ring in &arguments.rings {
            ways.push(Way::new(Case::Ring(ring.clone()), &shipped)?);
        }
    }
    if !arguments.choices.contains(&Choice::Allocator) {
        return Ok((ways, None));
    }
    let program = match &arguments.system_allocator {
        // A binary that was named must be one.
        Some(program) => allocator::checked(program)?,
        None => match allocator::built() {
            Ok(program) => program,
            Err(reason) => {
                say(&format!("THE SYSTEM'S ALLOCATOR IS LEFT OUT: {reason}"));
                return Ok((ways, Some(reason)));
            }
        },
    };
    ways.push(Way::new(Case::SystemAllocator, &program)?);
    Ok((ways, None))
}

/// Each case once, but for those that are refused, beginning with that one: who comes first has other neighbours.
fn round(
    arguments: &Arguments,
    batch_size: u32,
    ways: &[Way],
    first: usize,
) -> Result<Vec<Cost>, String> {
    let load = Load {
        value_bytes: arguments.value_bytes,
        batch_size,
        mappings: 1,
        partitions: arguments.partitions,
        shards: 1,
        signing: Signing::Sigv4,
        tls: false,
        filter: Filtering::None,
    };
    let per_batch = stage::usual_batch(load.value_bytes);
    let cost = |way: &&Way| {
        let variables = way.case.variables();
        let appliance = Appliance {
            program: Some(&way.program),
            variables: &variables,
        };
        let begun = Begun::new(&load, arguments.megabytes, per_batch, &appliance);
        let cost = begun.and_then(Begun::carry);
        cost.map_err(|error| format!("{}, {load:?}: {error}", way.case.name()))
    };
    let ways: Vec<&Way> = ways.iter().filter(|way| !way.is_refused).collect();
    rotated(&ways, first, cost)
}

/// What `of` gives of each, in their order, though it is asked from that one on.
fn rotated<T, R>(
    all: &[T],
    first: usize,
    of: impl FnMut(&T) -> Result<R, String>,
) -> Result<Vec<R>, String> {
    let (before, after) = all.split_at(first % all.len().max(1));
    let mut given = after
        .iter()
        .chain(before)
        .map(of)
        .collect::<Result<Vec<R>, _>>()?;
    given.rotate_right(before.len());
    Ok(given)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        runtime: Arguments,
    }

    #[test]
    fn each_is_first_in_its_turn_and_stays_in_its_place() {
        let mut asked = Vec::new();
        let given = rotated(&[1, 2, 3], 4, |it| {
            asked.push(*it);
            Ok(it * 10)
        });
        assert_eq!(given, Ok(vec![10, 20, 30]));
        assert_eq!(asked, [2, 3, 1]);
    }

    #[test]
    fn all_is_measured_unless_something_is_named() {
        let all = Typed::parse_from(["x"]).runtime;
        assert_eq!((all.choices.len(), all.rings.len()), (3, RINGS.len()));
        let typed = [
            "x",
            "--choices=ring",
            "--ring=none",
            "--ring=sqpoll,single_issuer",
        ];
        let some = Typed::parse_from(typed).runtime;
        assert_eq!(some.choices, [Choice::Ring]);
        assert_eq!(some.rings, ["none", "sqpoll,single_issuer"]);
    }
}
