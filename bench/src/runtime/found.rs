//! What `runtime` has found: a case's figures beside the shipped one's.

use serde::{Deserialize, Serialize};

use super::case::{Case, Way};
use crate::cpu;
use crate::goal::Goal;
use crate::load::Cost;
use crate::plot::{Plot, Shape};
use crate::results::Figures;
use crate::table::{Table, with_spread};

/// What we ship may cost so many times what another choice does: closer than that, noise decides.
const NO_DEARER: f64 = 1.03;

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(super) value_bytes: usize,
    pub(super) partitions: i32,
    pub(super) rounds: usize,
    /// The shipped one first, for each size of calls.
    pub(super) cases: Vec<Measured>,
    /// Why the system's allocator was not measured, if it was to be.
    pub(super) left_out: Option<String>,
}

/// A case, by calls of one size.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    case: Case,
    batch_size: u32,
    /// `None` where the kernel refuses it.
    took: Option<Took>,
}

/// Medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Took {
    value_megabytes_per_cpu_second: f64,
    /// The least and the most.
    spread: [f64; 2],
    cpu_microseconds_per_record: f64,
    /// CPU of a record over the shipped one's, of the same round each.
    ratio: f64,
    /// How often a thread had nothing to do.
    waits_per_record: f64,
    records_per_call: f64,
    peak_megabytes: f64,
}

impl Measured {
    /// Of all cases; a round has the costs of those that are not refused, and the first is the shipped one.
    pub(super) fn all(
        value_bytes: usize,
        batch_size: u32,
        ways: &[Way],
        rounds: &[Vec<Cost>],
    ) -> Vec<Self> {
        let mut measured = 0;
        let case = |way: &Way| {
            let took = (!way.is_refused).then(|| {
                measured += 1;
                Took::of(value_bytes, rounds, measured - 1)
            });
            Self {
                case: way.case.clone(),
                batch_size,
                took,
            }
        };
        ways.iter().map(case).collect()
    }
}

impl Took {
    /// Of the cost that stands there in every round.
    fn of(value_bytes: usize, rounds: &[Vec<Cost>], at: usize) -> Self {
        let all = |of: &dyn Fn(&Cost) -> f64| -> Vec<f64> {
            let costs = rounds.iter().filter_map(|round| round.get(at));
            costs.map(of).collect()
        };
        let median = |of: &dyn Fn(&Cost) -> f64| cpu::median(all(of));
        let rate = |it: &Cost| value_bytes as f64 / it.cpu_microseconds_per_record();
        let ratios = rounds.iter().filter_map(|round| {
            let (own, shipped) = (round.get(at)?, round.first()?);
            Some(own.cpu_microseconds_per_record() / shipped.cpu_microseconds_per_record())
        });
        Self {
            value_megabytes_per_cpu_second: median(&rate),
            spread: cpu::spread(&all(&rate)),
            cpu_microseconds_per_record: median(&Cost::cpu_microseconds_per_record),
            ratio: cpu::median(ratios.collect()),
            waits_per_record: median(&|it| it.waits as f64 / it.records as f64),
            records_per_call: median(&Cost::records_per_call),
            peak_megabytes: median(&|it| it.peak_bytes as f64 / 1e6),
        }
    }
}

impl Figures for Found {
    const COMMAND: &'static str = "runtime";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "case",
            "batch",
            "MB/CPU-s (least to most)",
            "CPU us/record",
            "to shipped",
            "waits/1000 records",
            "records/call",
            "peak MB",
        ];
        let mut table = Table::new(1, &names);
        for it in &self.cases {
            let (name, batch) = (it.case.name(), it.batch_size.to_string());
            let Some(took) = &it.took else {
                let refused = "refused by this kernel".to_owned();
                let none = || "-".to_owned();
                table.row([name, batch, refused, none(), none(), none(), none(), none()]);
                continue;
            };
            table.row([
                name,
                batch,
                with_spread(took.value_megabytes_per_cpu_second, took.spread, 0),
                format!("{:.2}", took.cpu_microseconds_per_record),
                format!("{:.3}", took.ratio),
                format!("{:.1}", took.waits_per_record * 1e3),
                format!("{:.0}", took.records_per_call),
                format!("{:.0}", took.peak_megabytes),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let mut cases: Vec<&Case> = Vec::new();
        let mut batch_sizes: Vec<u32> = Vec::new();
        for it in self.others() {
            if !cases.contains(&&it.case) {
                cases.push(&it.case);
            }
            if !batch_sizes.contains(&it.batch_size) {
                batch_sizes.push(it.batch_size);
            }
        }
        if cases.is_empty() {
            return Vec::new();
        }
        let ratio = |case: &Case, batch_size: u32| {
            let mut all = self.others();
            let it = all.find(|it| it.case == *case && it.batch_size == batch_size);
            let took = it.and_then(|it| it.took.as_ref());
            took.map_or(f64::NAN, |took| took.ratio)
        };
        let bars = |batch_size: u32| {
            let ratios = cases.iter().map(|case| ratio(case, batch_size));
            (format!("calls of {batch_size}"), ratios.collect())
        };
        let plot = Plot {
            name: "ratio",
            title: "CPU of a record with another choice, over the shipped one's".to_owned(),
            figures: "ratio",
            shape: Shape::Bars {
                groups: cases.iter().map(|case| case.short_name()).collect(),
                series: batch_sizes.into_iter().map(bars).collect(),
            },
        };
        vec![plot]
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |it: &Measured| {
            let took = it.took.as_ref()?;
            let what = format!(
                "CPU of a record as shipped over {}, calls of {}",
                it.case.name(),
                it.batch_size
            );
            Some(Goal::at_most(what, 1.0 / took.ratio, NO_DEARER))
        };
        self.others().filter_map(goal).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "shipped: io_uring with coop_taskrun and single_issuer, mimalloc; values of {} B, {} partitions, one \
             shard, signed, median of {} rounds",
            self.value_bytes, self.partitions, self.rounds
        )];
        let rings = self.cases.iter();
        let rings = rings.filter(|it| matches!(it.case, Case::Ring(_)));
        let refused = rings.clone().filter(|it| it.took.is_none()).count();
        if refused > 0 && refused == rings.count() {
            notes.push("no ring is to be had here: what is shipped may be epoll".to_owned());
        }
        let left_out = self.left_out.as_ref();
        notes.extend(left_out.map(|reason| format!("left out: the system's allocator: {reason}")));
        notes
    }
}

impl Found {
    /// What is compared with the shipped one.
    fn others(&self) -> impl Iterator<Item = &Measured> {
        self.cases.iter().filter(|it| it.case != Case::Shipped)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::load::cost_to_test_with as cost;

    fn way(case: Case, is_refused: bool) -> Way {
        Way {
            case,
            program: PathBuf::new(),
            is_refused,
        }
    }

    fn found() -> Found {
        let ways = [
            way(Case::Shipped, false),
            way(Case::Ring("sqpoll".to_owned()), true),
            way(Case::Epoll, false),
        ];
        // The machine was slow in the second round: the ratio does not see it.
        let rounds = [
            vec![cost(4), cost(5)],
            vec![cost(40), cost(50)],
            vec![cost(4), cost(5)],
        ];
        Found {
            value_bytes: 1000,
            partitions: 1,
            rounds: 3,
            cases: Measured::all(1000, 10, &ways, &rounds),
            left_out: None,
        }
    }

    #[test]
    fn refused_case_has_its_row_and_takes_nobody_elses_figures() {
        let lines = found().tables()[0].lines();
        let refused = lines[2].contains("refused by this kernel");
        assert!(lines[2].starts_with("ring sqpoll") && refused, "{lines:?}");
        let epoll: Vec<&str> = lines[3].split_whitespace().collect();
        let expected = "epoll 10 200 (20 to 200) 5.00 1.250 200.0 10 1";
        assert_eq!(epoll.join(" "), expected);
    }

    #[test]
    fn what_is_shipped_is_judged_by_what_is_measured_beside_it() {
        let goals = found().goals();
        assert_eq!(goals.len(), 1);
        let [what, ratio, ..] = goals[0].cells();
        assert_eq!(what, "CPU of a record as shipped over epoll, calls of 10");
        assert_eq!((ratio.as_str(), goals[0].is_met()), ("0.800", true));
    }

    #[test]
    fn what_was_left_out_is_said_and_so_is_that_there_is_no_ring() {
        let mut found = found();
        found.left_out = Some("cargo is missing".to_owned());
        let notes = found.notes().join("\n");
        assert!(notes.contains("allocator: cargo is missing"), "{notes}");
        assert!(notes.contains("may be epoll"), "{notes}");
    }

    #[test]
    fn plot_has_a_group_for_each_case_but_the_shipped_one() {
        let plots = found().plots();
        let Shape::Bars { groups, series } = &plots[0].shape else {
            panic!("bars are expected");
        };
        assert_eq!(groups, &["sqpoll", "epoll"]);
        assert_eq!(series[0].0, "calls of 10");
        assert!(series[0].1[0].is_nan());
    }
}
