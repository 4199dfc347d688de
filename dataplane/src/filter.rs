//! `forebay filter`: tries patterns of FilterCriteria before they are shipped.
//!
//! Invariant: it says what a node would do with the record, by the same code.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forebay::mapping::is_foreign;
use forebay_protocol::filter::{
    Filter, Format, Outcome, PatternError, REFUSED, Rule, Scratch, Subject, Way,
};
use serde::{Deserialize, Serialize};

use crate::complain;

/// sysexits.h: the input was wrong.
const EX_DATAERR: u8 = 65;
/// sysexits.h: the input cannot be read.
const EX_NOINPUT: u8 = 66;

/// Ways that are shown of a pattern.
const WAYS_SHOWN_MAX: usize = 16;

/// What is tried.
#[derive(Debug, clap::Args)]
pub(crate) struct Trial {
    /// A file with one pattern, or with a whole FilterCriteria as AWS's command line takes it.
    #[arg(long, value_name = "FILE", required_unless_present = "jsonl")]
    pattern: Option<PathBuf>,
    /// A file with one record, or with a whole event, as the function gets them: value and key in base64. They may
    /// also be objects or arrays. What is left out is empty.
    #[arg(long, value_name = "FILE", requires = "pattern")]
    event: Option<PathBuf>,
    /// Value and key of the event are plain text, not base64.
    #[arg(long, requires = "event")]
    plain: bool,
    /// Try the bare rule language: each line of the input is {"pattern": "<JSON>", "event": "<JSON>"}, each line of the
    /// output {"valid": bool, "match": bool or null, "error": text, if there is one}.
    #[arg(long, conflicts_with_all = ["pattern", "event"])]
    jsonl: bool,
}

/// Tries, and prints. 0: all patterns compile and a record passes; 1: none passes.
pub(crate) fn run(trial: &Trial) -> ExitCode {
    let answered = match &trial.pattern {
        Some(pattern) => try_files(pattern, trial.event.as_deref(), trial.plain),
        None => try_lines(),
    };
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err((code, text)) => {
            complain(&text);
            code.into()
        }
    }
}

/// An exit code, and what is said.
type Refusal = (u8, String);

fn try_files(pattern: &Path, event: Option<&Path>, plain: bool) -> Result<bool, Refusal> {
    let filters = filters(pattern)?;
    let mut text = String::new();
    let passes = match event {
        None => {
            let file = pattern.display();
            for (at, filter) in filters.iter().enumerate() {
                writeln!(text, "{file}: {}", compiled(at, filters.len(), filter))
                    .unwrap_or_default();
                note_foreign(filter, &mut text);
            }
            true
        }
        Some(event) => {
            let records = records(event, plain)?;
            let mut any = false;
            for record in &records {
                any |= tell(record, &filters, &mut text);
            }
            for filter in &filters {
                note_foreign(filter, &mut text);
            }
            any
        }
    };
    // Who reads may have seen enough.
    io::stdout().write_all(text.as_bytes()).unwrap_or_default();
    Ok(passes)
}

/// A mapping with such a pattern is refused.
fn note_foreign(filter: &Filter, text: &mut String) {
    for foreign in filter.foreign_members() {
        writeln!(text, "note: {}", is_foreign(&foreign)).unwrap_or_default();
    }
}

fn compiled(at: usize, count: usize, filter: &Filter) -> String {
    match count {
        1 => "compiles".to_owned(),
        _ => format!("filter {} of {count} compiles: {}", at + 1, filter.text()),
    }
}

/// `{"Filters": [{"Pattern": "<JSON text>"}]}`
#[derive(Deserialize)]
struct Criteria {
    #[serde(rename = "Filters")]
    filters: Vec<CriteriaFilter>,
}

#[derive(Deserialize)]
struct CriteriaFilter {
    #[serde(rename = "Pattern")]
    pattern: String,
}

fn filters(path: &Path) -> Result<Vec<Filter>, Refusal> {
    let file = path.display();
    let bytes = read(path)?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err((EX_DATAERR, format!("{file}: {REFUSED} It is not UTF-8")));
    };
    let Ok(criteria) = serde_json::from_str::<Criteria>(text) else {
        let filter = Filter::compile(text).map_err(|error| {
            let (line, column) = place(text, &error);
            let reason = error.reason;
            (
                EX_DATAERR,
                format!("{file}:{line}:{column}: {REFUSED} {reason}"),
            )
        });
        return Ok(vec![filter?]);
    };
    let patterns = criteria.filters.iter().enumerate();
    patterns
        .map(|(at, it)| {
            Filter::compile(&it.pattern).map_err(|error| {
                let number = at + 1;
                (
                    EX_DATAERR,
                    format!("{file}: filter {number}: {REFUSED} {error}: {}", it.pattern),
                )
            })
        })
        .collect()
}

/// Line and column, from 1.
fn place(text: &str, error: &PatternError) -> (usize, usize) {
    let before: String = text.chars().take(error.character).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    (line, column)
}

fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    std::fs::read(path).map_err(|error| {
        (
            EX_NOINPUT,
            format!("{}: cannot be read: {error}", path.display()),
        )
    })
}

/// A whole event, as the function gets it.
#[derive(Deserialize)]
struct EventFile {
    records: std::collections::BTreeMap<String, Vec<RecordFile>>,
}

/// One record of it; what is left out is empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RecordFile {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: String,
    key: Option<Box<serde_json::value::RawValue>>,
    value: Option<Box<serde_json::value::RawValue>>,
}

/// A record with its key and value as bytes.
struct Record {
    file: RecordFile,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn records(path: &Path, plain: bool) -> Result<Vec<Record>, Refusal> {
    let wrong = |text: String| (EX_DATAERR, format!("{}: {text}", path.display()));
    let bytes = read(path)?;
    let files = match serde_json::from_slice::<EventFile>(&bytes) {
        Ok(event) => event.records.into_values().flatten().collect(),
        Err(_) => {
            let record = serde_json::from_slice::<RecordFile>(&bytes);
            let advice = "neither an event nor a record";
            vec![record.map_err(|error| wrong(format!("{advice}: {error}")))?]
        }
    };
    let record = |file: RecordFile| {
        let key = data("key", file.key.as_deref(), plain).map_err(wrong)?;
        let value = data("value", file.value.as_deref(), plain).map_err(wrong)?;
        Ok(Record { file, key, value })
    };
    files.into_iter().map(record).collect()
}

/// The bytes of a key or value.
fn data(
    name: &str,
    given: Option<&serde_json::value::RawValue>,
    plain: bool,
) -> Result<Option<Vec<u8>>, String> {
    let Some(given) = given else {
        return Ok(None);
    };
    let Ok(text) = serde_json::from_str::<String>(given.get()) else {
        return Ok(Some(given.get().as_bytes().to_vec()));
    };
    if plain {
        return Ok(Some(text.into_bytes()));
    }
    let decoded = base64_simd::STANDARD.decode_to_vec(text.as_bytes());
    let advice = "is not base64; --plain takes it as text";
    decoded.map(Some).map_err(|_| format!("{name} {advice}"))
}

/// Says what becomes of a record, and why.
fn tell(record: &Record, filters: &[Filter], text: &mut String) -> bool {
    let subject = Subject {
        topic: &record.file.topic,
        partition: record.file.partition,
        offset: record.file.offset,
        timestamp: record.file.timestamp,
        timestamp_type: &record.file.timestamp_type,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
    };
    let outcomes: Vec<Outcome> = filters.iter().map(|it| it.explain(&subject)).collect();
    let passes = outcomes.is_empty() || outcomes.iter().any(|it| it.passes);
    let verdict = if passes {
        "matches: it is sent"
    } else {
        "does not match: it is filtered out"
    };
    let (topic, partition, offset) = (subject.topic, subject.partition, subject.offset);
    let (key, value) = (format(subject.key), format(subject.value));
    // Writing to a string cannot fail.
    writeln!(text, "{topic}-{partition} offset {offset}: {verdict}").unwrap_or_default();
    writeln!(text, "  its value is {value}, its key {key}").unwrap_or_default();
    for (at, outcome) in outcomes.iter().enumerate() {
        if outcomes.len() > 1 {
            let verdict = if outcome.passes {
                "matches"
            } else {
                "does not match"
            };
            writeln!(text, "  filter {} {verdict}", at + 1).unwrap_or_default();
        }
        tell_ways(&outcome.ways, text);
    }
    passes
}

fn tell_ways(ways: &[Way], text: &mut String) {
    for (at, way) in ways.iter().take(WAYS_SHOWN_MAX).enumerate() {
        if ways.len() > 1 {
            let verdict = if way.holds { "holds" } else { "does not hold" };
            writeln!(text, "  alternative {} {verdict}", at + 1).unwrap_or_default();
        }
        for clause in &way.clauses {
            let verdict = match (clause.waived, clause.holds) {
                (true, _) => "passes, since it does not fit that format",
                (false, true) => "holds",
                (false, false) => "does not hold",
            };
            let (path, wanted) = (&clause.path, &clause.wanted);
            writeln!(text, "    {path} {wanted}: {verdict}").unwrap_or_default();
        }
        if !way.holds && way.clauses.iter().all(|it| it.holds) {
            let why = "each holds, but not together in one element of an array";
            writeln!(text, "    {why}").unwrap_or_default();
        }
    }
    if ways.len() > WAYS_SHOWN_MAX {
        writeln!(
            text,
            "  and {} alternatives more",
            ways.len() - WAYS_SHOWN_MAX
        )
        .unwrap_or_default();
    }
}

fn format(bytes: Option<&[u8]>) -> &'static str {
    match Format::of(bytes) {
        Format::Null => "null",
        Format::Json => "JSON",
        Format::Text => "plain text",
        Format::Binary => "not UTF-8",
    }
}

/// A line of the input.
#[derive(Deserialize)]
struct Question {
    pattern: String,
    event: String,
}

/// A line of the output.
#[derive(Serialize)]
struct Answer {
    valid: bool,
    #[serde(rename = "match")]
    matched: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn try_lines() -> Result<bool, Refusal> {
    let unreadable = |error: io::Error| {
        (
            EX_NOINPUT,
            format!("forebay: the input cannot be read: {error}"),
        )
    };
    let mut input = io::BufReader::new(io::stdin().lock());
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut scratch = Scratch::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        let answer = answer(&line, &mut scratch);
        line.clear();
        let written = serde_json::to_writer(&mut output, &answer).map_err(io::Error::from);
        if written.and_then(|()| output.write_all(b"\n")).is_err() {
            // Who reads has seen enough.
            return Ok(true);
        }
        // Somebody may wait for this answer before they ask again.
        if input.buffer().is_empty() && output.flush().is_err() {
            return Ok(true);
        }
    }
    output.flush().unwrap_or_default();
    Ok(true)
}

fn answer(line: &[u8], scratch: &mut Scratch) -> Answer {
    let refused = |error: String| Answer {
        valid: false,
        matched: None,
        error: Some(error),
    };
    let question: Question = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => return refused(format!("the line is no question: {error}")),
    };
    let rule = match Rule::compile(&question.pattern) {
        Ok(rule) => rule,
        Err(error) => return refused(format!("{REFUSED} {error}")),
    };
    match rule.matches(question.event.as_bytes(), scratch) {
        Ok(matched) => Answer {
            valid: true,
            matched: Some(matched),
            error: None,
        },
        Err(error) => Answer {
            valid: true,
            matched: None,
            error: Some(error.to_string()),
        },
    }
}
