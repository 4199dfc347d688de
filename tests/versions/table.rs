//! What came of each cell, and what is told of it.

use std::fmt;

use super::case::{Case, ROWS, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
}

#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(&'static str, Case, Outcome)>);

impl Table {
    pub(crate) fn note(&mut self, version: &'static str, case: Case, outcome: Outcome) {
        self.0.push((version, case, outcome));
    }

    pub(crate) fn failed(&self) -> usize {
        self.count(Outcome::Failed)
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|cell| cell.2 == outcome).count()
    }

    fn outcome(&self, version: &str, case: Case) -> Option<Outcome> {
        let cell = self
            .0
            .iter()
            .find(|cell| cell.0 == version && cell.1 == case);
        cell.map(|cell| cell.2)
    }
}

/// The rows of the README's table, by what is run.
pub(crate) fn in_readme() -> String {
    let mut rows: Vec<&Row> = ROWS.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.numbers()));
    let row = |row: &&Row| {
        let mark = |case| match (row.cases(false).contains(&case), row.has(case)) {
            (true, _) => "●",
            (false, true) => "○",
            (false, false) => "-",
        };
        let ways: Vec<&str> = Case::WAYS.into_iter().map(mark).collect();
        let formats: Vec<String> = row
            .formats()
            .into_iter()
            .map(|(format, case)| format!("v{format} {}", mark(case)))
            .collect();
        let (ways, formats) = (ways.join(" | "), formats.join(" "));
        format!("| {} | {ways} | {formats} |\n", row.version)
    };
    rows.iter().map(row).collect()
}

/// The table, and the line of Rust's own harness that `tests/rig/suite.py` counts by.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:10}", "")?;
        for case in Case::ALL {
            write!(f, "{:>12}", case.name())?;
        }
        for row in &ROWS {
            write!(f, "\n{:10}", row.version)?;
            for case in Case::ALL {
                let word = match self.outcome(row.version, case) {
                    Some(Outcome::Passed) => "ok",
                    Some(Outcome::Failed) => "FAILED",
                    None if row.has(case) => "not run",
                    None => "-",
                };
                write!(f, "{word:>12}")?;
            }
        }
        let (passed, failed) = (self.count(Outcome::Passed), self.failed());
        let word = if failed == 0 { "ok" } else { "FAILED" };
        write!(
            f,
            "\n\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored"
        )
    }
}
