//! A page of results: `bench/RESULTS.md` and its plots, of the data that runs have left with `--json`.
//!
//! `bench/results` has a folder for each machine, whose `README.md` says what its figures do not. In a folder a
//! file is a run; its name is the writer's choice, the sub-command stands in it. `notes.md` is the page's end.
//!
//! Invariant: no figure is on the page that is not in the data; a test holds the committed page to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::goal::Goal;
use crate::plot::Plot;
use crate::results::{Figures, Results};
use crate::table::{Table, percent};
use crate::{
    codec, filter, floor, latency, memory, peers, pipeline, runtime, say, scale, soak, trial,
};

/// A sub-command, and how what it has found is read.
type Kind = (&'static str, fn(PathBuf, Value) -> serde_json::Result<Run>);

/// Runs stand on the page in this order.
const KINDS: [Kind; 11] = [
    kind::<Vec<codec::Measured>>(),
    kind::<Vec<filter::Measured>>(),
    kind::<Vec<floor::Measured>>(),
    kind::<Vec<pipeline::Measured>>(),
    kind::<scale::Found>(),
    kind::<runtime::Found>(),
    kind::<peers::Found>(),
    kind::<latency::Found>(),
    kind::<Vec<memory::Measured>>(),
    kind::<soak::Found>(),
    kind::<trial::Found>(),
];

const fn kind<F: Figures>() -> Kind {
    (F::COMMAND, Run::of::<F>)
}

const HEAD: &str = "\
# Results

Made by `forebay-bench report` of the data in `bench/results`, each committed with the code that it measures.
Figures are CPU time unless it is said that they are by the wall clock; medians of interleaved rounds, with the
least and the most beside them where they say so. What the commands measure: `bench/README.md`.
";

/// Options of `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder with a folder for each machine.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "bench/RESULTS.md")]
    page: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match write(arguments) {
        Ok(runs) => {
            say(&format!("{}: {runs} runs", arguments.page.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("no report: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<usize, String> {
    let machines = machines(&arguments.results)?;
    for run in machines.iter().flat_map(|machine| &machine.runs) {
        for plot in &run.plots {
            plot.draw(&run.picture(plot))?;
        }
    }
    let near = arguments.page.parent().unwrap_or(Path::new(""));
    let page = page(&arguments.results, &machines, near)?;
    fs::write(&arguments.page, page)
        .map_err(|error| format!("cannot write {}: {error}", arguments.page.display()))?;
    Ok(machines.iter().map(|machine| machine.runs.len()).sum())
}

/// A folder of runs.
struct Machine {
    /// What its README says.
    words: String,
    runs: Vec<Run>,
}

/// One file of data, as the page needs it.
struct Run {
    file: PathBuf,
    sub_command: &'static str,
    command: String,
    /// CPU, kernel and versions.
    around: String,
    stolen: f64,
    tables: Vec<Table>,
    plots: Vec<Plot>,
    goals: Vec<Goal>,
    notes: Vec<String>,
}

impl Run {
    fn read(file: PathBuf) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(&file).map_err(|error| wrong(&error))?;
        let data: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let command = data.get("command").and_then(Value::as_str);
        let name = command.and_then(|command| command.split(' ').nth(1));
        let kind = KINDS.iter().find(|(kind, _)| Some(*kind) == name);
        let Some((_, of)) = kind else {
            return Err(wrong(&"is no result of forebay-bench --json"));
        };
        of(file.clone(), data).map_err(|error| wrong(&error))
    }

    fn of<F: Figures>(file: PathBuf, data: Value) -> serde_json::Result<Self> {
        let it: Results<F> = serde_json::from_value(data)?;
        let around = format!(
            "{}, {} CPUs ({}), {} MB, Linux {}; forebay {}, {}",
            it.machine.cpu,
            it.machine.cpus,
            it.machine.features.join(", "),
            it.machine.memory_megabytes,
            it.machine.kernel,
            it.forebay,
            it.rustc,
        );
        Ok(Self {
            file,
            sub_command: F::COMMAND,
            command: it.command,
            around,
            stolen: it.stolen,
            tables: it.figures.tables(),
            plots: it.figures.plots(),
            goals: it.figures.goals(),
            notes: it.figures.notes(),
        })
    }

    /// Where on the page.
    fn place(&self) -> usize {
        let mut kinds = KINDS.iter();
        let place = kinds.position(|(kind, _)| *kind == self.sub_command);
        place.unwrap_or(KINDS.len())
    }

    fn stem(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }

    fn picture(&self, plot: &Plot) -> PathBuf {
        let name = format!("{}-{}.svg", self.stem(), plot.name);
        self.file.with_file_name(name)
    }

    fn section(&self, near: &Path) -> Vec<String> {
        let mut lines = vec![
            format!("### {}", self.stem()),
            String::new(),
            format!("    {}", self.command),
            String::new(),
            format!(
                "{}; {} of the machine's time stolen.",
                self.around,
                percent(self.stolen)
            ),
            String::new(),
        ];
        for table in &self.tables {
            lines.extend(table.markdown());
            lines.push(String::new());
        }
        for plot in &self.plots {
            let picture = self.picture(plot);
            let picture = picture.strip_prefix(near).unwrap_or(&picture);
            lines.push(format!("![{}]({})", plot.title, picture.display()));
            lines.push(String::new());
        }
        lines.extend(self.notes.iter().map(|note| format!("- {note}")));
        if !self.notes.is_empty() {
            lines.push(String::new());
        }
        lines
    }
}

/// All folders with runs, by name.
fn machines(results: &Path) -> Result<Vec<Machine>, String> {
    let mut machines = Vec::new();
    for folder in entries(results)?.into_iter().filter(|path| path.is_dir()) {
        let is_data = |path: &PathBuf| path.extension().is_some_and(|it| it == "json");
        let files = entries(&folder)?.into_iter().filter(is_data);
        let mut runs = files.map(Run::read).collect::<Result<Vec<_>, _>>()?;
        runs.sort_by_key(|run| (run.place(), run.stem()));
        if !runs.is_empty() {
            machines.push(Machine {
                words: read(&folder.join("README.md"))?,
                runs,
            });
        }
    }
    if machines.is_empty() {
        return Err(format!(
            "{} has no folder with data of forebay-bench --json",
            results.display()
        ));
    }
    Ok(machines)
}

/// The whole page; its links begin at `near`.
fn page(results: &Path, machines: &[Machine], near: &Path) -> Result<String, String> {
    let mut lines = vec![HEAD.to_owned()];
    for machine in machines {
        lines.push(demoted(&machine.words));
        lines.push(String::new());
        let mut table = Table::new(2, &["run", "goal", "measured", "wanted", "verdict"]);
        for run in &machine.runs {
            for goal in &run.goals {
                let [what, measured, wanted, verdict] = goal.cells();
                table.row([run.stem(), what, measured, wanted, verdict]);
            }
        }
        lines.extend(table.markdown());
        lines.push(String::new());
        lines.extend(machine.runs.iter().flat_map(|run| run.section(near)));
    }
    lines.push(demoted(&read(&results.join("notes.md"))?) + "\n");
    Ok(lines.join("\n"))
}

/// A page as a part of another: each title one level lower.
fn demoted(page: &str) -> String {
    let lines = page.trim_end().lines().map(|line| {
        let mark = if line.starts_with('#') { "#" } else { "" };
        format!("{mark}{line}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// What a folder has, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong =
        |error: std::io::Error| format!("cannot read the folder {}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(wrong)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_page_is_made_of_the_committed_data() {
        let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
        let results = bench.join("results");
        let machines = machines(&results).expect("the data can be read");
        let made = page(&results, &machines, bench).expect("the page can be made");
        let committed = fs::read_to_string(bench.join("RESULTS.md")).expect("it is there");
        assert!(made == committed, "run `forebay-bench report` again");
        for run in machines.iter().flat_map(|machine| &machine.runs) {
            for plot in &run.plots {
                let picture = run.picture(plot);
                assert!(picture.is_file(), "{} is missing", picture.display());
            }
        }
    }

    #[test]
    fn wrong_data_is_named() {
        let folder = tempfile::tempdir().expect("the temporary directory is writable");
        let machine = folder.path().join("machine");
        fs::create_dir(&machine).expect("it is new");
        let told = |text: &str| {
            fs::write(machine.join("a.json"), text).expect("the folder is writable");
            machines(folder.path()).err().unwrap_or_default()
        };
        assert!(told("{").contains("a.json"));
        assert!(told(r#"{"command":"other pipeline"}"#).contains("missing field"));
        assert!(told(r#"{"command":"forebay-bench soup"}"#).contains("is no result"));
    }

    #[test]
    fn folder_without_data_is_said() {
        let folder = tempfile::tempdir().expect("the temporary directory is writable");
        let error = machines(folder.path()).err().unwrap_or_default();
        assert!(error.contains("has no folder with data"), "{error}");
    }
}
