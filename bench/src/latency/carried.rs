//! What broker, producer, appliance and function carry together on this machine.
//!
//! A rate is carried if no queue builds up: of the records that a producer offers for some seconds, and that
//! waits for nobody, nine of ten arrive within some milliseconds of the time they were meant to be sent. The rate
//! is doubled until it is not carried; between the last two the greatest is searched by halves.
//!
//! Why not what arrives in all: a queue makes batches larger and records cheaper, so that far greater rates are
//! kept up with, each record late. And why nine of ten: what the neighbours take of the machine makes the last
//! per cent late at any rate.

use std::time::Duration;

use super::{Arguments, load, start_rig};
use crate::producer::{Producer, Target};
use crate::rig::{Rig, Setup};
use crate::say;
use crate::stage::TOPIC;
use crate::wait::pause;
use crate::wire::Wire;

/// Where the search begins.
const FIRST: u32 = 1_000;

/// No machine of ours comes near.
const LAST: u32 = 16_000_000;

/// How often the stretch between two rates is halved: to a sixteenth.
const HALVES: usize = 4;

/// For so long a rate is offered.
const SECONDS: u64 = 2;

/// So soon nine of ten records arrive at a rate that is carried.
const SOON: Duration = Duration::from_millis(10);

pub(super) fn measure(arguments: &Arguments, setup: &Setup) -> Result<u32, String> {
    let mut rig = start_rig(arguments, setup)?;
    let found = search(|rate| carries(arguments, &mut rig, rate))?;
    say(&format!("carried: {found} records a second"));
    Ok(found)
}

fn carries(arguments: &Arguments, rig: &mut Rig, rate: u32) -> Result<bool, String> {
    let first = rig.arrived()?.records;
    rig.stage.take_latency()?;
    let broker = Target::Broker(Wire::connect(&rig.stage.addresses.bootstrap)?);
    let load = load(arguments, TOPIC, u64::from(rate));
    let producer = Producer::start(load, broker)?;
    pause(Duration::from_secs(SECONDS));
    let sent = producer.stop()?;
    rig.wait_for_clean(first + sent)?;
    let p90 = Duration::from_micros(rig.stage.take_latency()?.p90_micros);
    Ok(p90 <= SOON)
}

/// The greatest rate for which that holds, about.
fn search(mut carries: impl FnMut(u32) -> Result<bool, String>) -> Result<u32, String> {
    let mut low = FIRST;
    if !carries(low)? {
        return Err(format!("not even {low} records a second are carried"));
    }
    while low < LAST && carries(low * 2)? {
        low *= 2;
    }
    let mut step = low;
    for _ in 0..HALVES {
        step /= 2;
        if carries(low + step)? {
            low += step;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greatest_rate_is_found_to_a_sixteenth() {
        for most in [1_000, 1_999, 2_000, 30_000, 47_111, 1_000_000] {
            let found = search(|rate| Ok(rate <= most)).unwrap();
            assert!(
                found <= most && most < found + found / 16 + 2,
                "{most} {found}"
            );
        }
        assert!(search(|_| Ok(false)).is_err());
    }
}
