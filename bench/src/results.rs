//! A run from its beginning to its exit code: its tables and goals on the terminal, the same as data.
//!
//! A sub-command measures [`Figures`]; [`finish`] does all else. What it writes with `--json` reads back as
//! [`Results`], of which `report` makes pages.
//!
//! Invariant: figures never go without the machine, the versions and the command that they belong to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::machine::Machine;
use crate::plot::Plot;
use crate::table::{Table, percent};
use crate::{cpu, say};

/// Where results go, and whether they are judged.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Output {
    /// Write the result there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit with 1 if a goal is missed; those by the wall clock are only said.
    #[arg(long)]
    gate: bool,
    /// Per cent by which the gate lets a goal be missed, where others use the machine too.
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    slack: u8,
}

impl Output {
    /// The same, judged without being asked.
    pub(crate) fn judged(&self) -> Self {
        Self {
            gate: true,
            ..self.clone()
        }
    }
}

/// What a sub-command measures.
pub(crate) trait Figures: Serialize + DeserializeOwned {
    /// The sub-command.
    const COMMAND: &'static str;

    /// What is printed.
    fn tables(&self) -> Vec<Table>;

    /// What it is meant to reach, as far as there are figures.
    fn goals(&self) -> Vec<Goal> {
        Vec::new()
    }

    /// What is drawn.
    fn plots(&self) -> Vec<Plot> {
        Vec::new()
    }

    /// What a reader must know besides.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Figures, and all that they belong to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results<F> {
    /// What to type for the same.
    pub(crate) command: String,
    /// Forebay's version.
    pub(crate) forebay: String,
    /// The compiler's.
    pub(crate) rustc: String,
    pub(crate) machine: Machine,
    /// Share of the machine's time that a hypervisor took meanwhile.
    pub(crate) stolen: f64,
    pub(crate) figures: F,
}

/// Measures, prints, keeps and judges.
pub(crate) fn finish<F: Figures>(
    output: &Output,
    measure: impl FnOnce() -> Result<F, String>,
) -> ExitCode {
    let before = cpu::Machine::now();
    let results = measure().map(|figures| Results {
        command: command_line(std::env::args()),
        forebay: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: env!("FOREBAY_BENCH_RUSTC").to_owned(),
        machine: Machine::here(),
        stolen: cpu::Machine::now().stolen_since(&before),
        figures,
    });
    let kept = results.and_then(|results| {
        results.lines().iter().for_each(|line| say(line));
        results.write(output.json.as_deref())?;
        Ok(results.figures)
    });
    match kept {
        Ok(figures) => judge(&figures.goals(), output),
        Err(error) => {
            say(&format!("{} gives no figure: {error}", F::COMMAND));
            ExitCode::FAILURE
        }
    }
}

fn judge(goals: &[Goal], output: &Output) -> ExitCode {
    let missed = goals.iter().filter(|goal| !goal.passes(output.slack));
    let missed = missed.count();
    if output.gate && missed > 0 {
        say(&format!(
            "gate: {missed} of {} goals missed by more than {} %",
            goals.len(),
            output.slack
        ));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl<F: Figures> Results<F> {
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for table in self.figures.tables() {
            lines.extend(table.lines());
            lines.push(String::new());
        }
        lines.extend(self.figures.goals().iter().map(Goal::line));
        lines.extend(self.figures.notes());
        lines.push(format!(
            "stolen: {} of the machine's time",
            percent(self.stolen)
        ));
        lines
    }

    fn write(&self, file: Option<&Path>) -> Result<(), String> {
        let Some(file) = file else { return Ok(()) };
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    }
}

/// What was typed, without the place of the program and that of the results.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut arguments = arguments.skip(1);
    let mut line = "forebay-bench".to_owned();
    while let Some(argument) = arguments.next() {
        if argument == "--json" {
            arguments.next();
        } else if !argument.starts_with("--json=") {
            line.push(' ');
            line.push_str(&argument);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_what_to_type_for_the_same() {
        let check = |typed: &str, expected: &str| {
            let typed = typed.split(' ').map(str::to_owned);
            assert_eq!(command_line(typed), expected);
        };
        check("/x/forebay-bench floor", "forebay-bench floor");
        check(
            "f codec --json /tmp/a --gate --json=b",
            "forebay-bench codec --gate",
        );
    }
}
