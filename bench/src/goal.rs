//! What a figure is meant to be, and whether it is.

/// One goal.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// Of what.
    what: String,
    /// What is there.
    measured: f64,
    bound: Bound,
    /// A wall-clock figure tells of the neighbours too: it is said, and fails no gate.
    is_wall_clock: bool,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Least(f64),
    Most(f64),
}

impl Goal {
    /// It is to be that or more.
    pub(crate) fn at_least(what: impl Into<String>, measured: f64, least: f64) -> Self {
        Self::new(what.into(), measured, Bound::Least(least))
    }

    /// It is to be that or less.
    pub(crate) fn at_most(what: impl Into<String>, measured: f64, most: f64) -> Self {
        Self::new(what.into(), measured, Bound::Most(most))
    }

    fn new(what: String, measured: f64, bound: Bound) -> Self {
        Self {
            what,
            measured,
            bound,
            is_wall_clock: false,
        }
    }

    /// The same of a figure by the wall clock, which no gate judges.
    pub(crate) fn by_wall_clock(self) -> Self {
        Self {
            is_wall_clock: true,
            ..self
        }
    }

    /// Whether it is reached.
    pub(crate) fn is_met(&self) -> bool {
        self.is_met_within(0)
    }

    /// Whether a gate with that slack, in per cent, lets it pass.
    pub(crate) fn passes(&self, slack: u8) -> bool {
        self.is_wall_clock || self.is_met_within(slack)
    }

    fn is_met_within(&self, slack: u8) -> bool {
        let slack = 1.0 + f64::from(slack) / 100.0;
        match self.bound {
            Bound::Least(least) => self.measured * slack >= least,
            Bound::Most(most) => self.measured <= most * slack,
        }
    }

    /// As a line of a report.
    pub(crate) fn line(&self) -> String {
        let [what, measured, wanted, verdict] = self.cells();
        format!("{verdict}: {what}: {measured}, goal {wanted}")
    }

    /// Of what, what is there, what is wanted, the verdict.
    pub(crate) fn cells(&self) -> [String; 4] {
        let wanted = match self.bound {
            Bound::Least(least) => format!("at least {least:.3}"),
            Bound::Most(most) => format!("at most {most:.3}"),
        };
        let clock = if self.is_wall_clock {
            " (wall clock)"
        } else {
            ""
        };
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        [
            format!("{}{clock}", self.what),
            format!("{:.3}", self.measured),
            wanted,
            verdict.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_holds_on_its_own_side() {
        assert!(Goal::at_least("share", 0.9, 0.85).is_met());
        assert!(!Goal::at_least("share", 0.8, 0.85).is_met());
        assert!(Goal::at_most("ratio", 1.2, 1.25).is_met());
        assert!(!Goal::at_most("ratio", 1.3, 1.25).is_met());
        assert!(!Goal::at_most("ratio", f64::NAN, 1.25).is_met());
    }

    #[test]
    fn slack_widens_the_gate_and_not_the_goal() {
        let ratio = Goal::at_most("ratio", 1.3, 1.25);
        assert!(ratio.passes(15) && !ratio.passes(0) && !ratio.is_met());
        let share = Goal::at_least("share", 0.8, 0.85);
        assert!(share.passes(15) && !share.passes(5));
    }

    #[test]
    fn wall_clock_fails_no_gate_and_is_not_called_met() {
        let late = Goal::at_most("p50", 9.0, 0.5).by_wall_clock();
        assert!(late.passes(0) && !late.is_met());
        assert_eq!(
            late.line(),
            "MISSED: p50 (wall clock): 9.000, goal at most 0.500"
        );
    }
}
