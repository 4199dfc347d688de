//! From the start of the process to the first call: the group is there without members, as after a stop, and
//! records wait.

use serde::{Deserialize, Serialize};

use super::Arguments;
use crate::cpu;
use crate::goal::Goal;
use crate::rig::{Rig, Setup};
use crate::stage::Filling;
use crate::table::{Table, with_spread};

/// In milliseconds.
const MOST: f64 = 1_000.0;

/// What a reader must know.
pub(super) const NOTE: &str = "start: the broker here lets the first member join at once; a real one waits group.initial.rebalance.delay.ms, 3 s by default, for others";

/// Medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    rounds: usize,
    milliseconds: f64,
    /// The least and the most.
    spread: [f64; 2],
}

/// `None` if it is not asked for.
pub(super) fn measure_all(
    arguments: &Arguments,
    setup: &Setup,
) -> Result<Option<Measured>, String> {
    let rounds = 0..arguments.starts;
    let runs: Vec<f64> = rounds
        .map(|_| measure(arguments, setup))
        .collect::<Result<_, _>>()?;
    Ok((!runs.is_empty()).then(|| Measured {
        rounds: runs.len(),
        milliseconds: cpu::median(runs.clone()),
        spread: cpu::spread(&runs),
    }))
}

fn measure(arguments: &Arguments, setup: &Setup) -> Result<f64, String> {
    let filling = Filling {
        value_bytes: arguments.value_bytes,
        records: 1_000,
        partitions: arguments.partitions,
        has_group: true,
        ..Filling::default()
    };
    let mut rig = Rig::start(&filling, setup)?;
    let records = rig.stage.addresses.records;
    let arrived = rig.wait_for_clean(records)?;
    let first = arrived.first_micros.ok_or("no call came")?;
    Ok(first.saturating_sub(rig.started_micros) as f64 / 1e3)
}

impl Measured {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(0, &["starts", "to the first call, ms (least to most)"]);
        table.row([
            self.rounds.to_string(),
            with_spread(self.milliseconds, self.spread, 0),
        ]);
        table
    }

    pub(super) fn goal(&self) -> Goal {
        let what = "ms from the start of the process to the first call";
        Goal::at_most(what, self.milliseconds, MOST).by_wall_clock()
    }
}
