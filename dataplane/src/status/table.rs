//! The status document as people read it: in a terminal.
//!
//! Invariant: what comes from outside moves no cursor: control characters are shown as `?`.

use std::fmt::Write;

use super::{Call, Certificate, Document, JOINING, Mapping, Partition, Retry};

/// Lines of one kind that the overview shows of one mapping; the rest is counted.
const LINES_MAX: usize = 10;

/// A certificate that ends within this is shown in the overview.
const EXPIRES_SOON_SECONDS: f64 = 30.0 * 86_400.0;

/// Records that came since a fetch was last answered are in no lag: if that is so long ago, it is said.
const STALE_SECONDS: f64 = 10.0;

/// A call that is open for so long is shown in the overview: its function may hang.
const LONG_CALL_SECONDS: f64 = 60.0;

/// The node, a line for each mapping, and what needs somebody's attention.
pub fn overview(document: &Document) -> String {
    let mut out = head(document);
    if document.mappings.is_empty() {
        out.push_str("\nno mapping\n");
        return out;
    }
    let mut rows = vec![row([
        "MAPPING",
        "STATE",
        "CONSUMERS",
        "PARTITIONS",
        "LAG",
        "RETRYING",
        "HALTED",
        "RESULT",
    ])];
    for mapping in &document.mappings {
        let partitions = &mapping.partitions;
        let lags = partitions.iter().filter_map(|it| it.lag_records);
        // Nobody knows the lag of a mapping that owns nothing.
        let lag = (!partitions.is_empty()).then(|| lags.sum::<i64>());
        let count =
            |which: fn(&Partition) -> bool| partitions.iter().filter(|it| which(it)).count();
        rows.push(vec![
            mapping.name.clone(),
            mapping.state.clone(),
            mapping.consumers.len().to_string(),
            partitions.len().to_string(),
            lag.map_or_else(
                || "-".to_owned(),
                |lag| format!("{lag}{}", stale(partitions)),
            ),
            count(|it| it.retry.is_some()).to_string(),
            count(|it| it.halted.is_some()).to_string(),
            mapping.last_processing_result.clone(),
        ]);
    }
    out.push('\n');
    table(&mut out, "", &rows);
    for mapping in &document.mappings {
        let lines = troubles(mapping, document.time);
        if !lines.is_empty() {
            write_lines(&mut out, &format!("\n{}", printable(&mapping.name)), &lines);
        }
    }
    out
}

/// All that is known of the mappings of a document.
pub fn details(document: &Document) -> String {
    let mut out = head(document);
    for mapping in &document.mappings {
        detail(&mut out, mapping, document.time);
    }
    out
}

fn head(document: &Document) -> String {
    let node = &document.node;
    let name = node.node_id.as_ref().map(|it| format!(" {it}"));
    let mut out = format!(
        "node{}: Forebay {}, {}, up {}, process {}, {} of {} in use on {}\n",
        printable(&name.unwrap_or_default()),
        printable(&node.version),
        printable(&node.lifecycle),
        span(node.uptime_seconds),
        node.pid,
        bytes(node.memory_used_bytes),
        bytes(node.memory_budget_bytes),
        plural(node.shards.len(), "shard"),
    );
    if !node.reload.success {
        let what = "the newest reading of the mappings had problems; what ran before goes on";
        write_lines(&mut out, what, &node.reload.problems);
    }
    out
}

fn detail(out: &mut String, mapping: &Mapping, now: f64) {
    let lines = [
        ("UUID", mapping.uuid.clone()),
        ("file", mapping.file.clone()),
        ("function", mapping.function_arn.clone()),
        ("topic", mapping.topics.join(", ")),
        ("group", mapping.consumer_group_id.clone()),
        ("state", mapping.state.clone()),
        ("reason", mapping.state_transition_reason.clone()),
        ("result", mapping.last_processing_result.clone()),
        ("modified", ago(now - mapping.last_modified)),
    ];
    let given_up = given_up(mapping).map(|told| ("given up", told));
    let rows: Vec<_> = lines
        .into_iter()
        .chain(given_up)
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    // Writing into a string cannot fail.
    writeln!(out, "\nmapping {}", printable(&mapping.name)).unwrap_or_default();
    table(out, "  ", &rows);
    let troubles = troubles(mapping, now);
    if !troubles.is_empty() {
        write_lines(out, "  needs attention", &troubles);
    }
    if !mapping.certificates.is_empty() {
        let lines: Vec<_> = mapping.certificates.iter().map(certificate).collect();
        write_lines(out, "  certificates", &lines);
    }
    let consumers = mapping.consumers.iter().map(|it| {
        let generation = it.generation.map(|it| format!(", generation {it}"));
        format!(
            "consumer {} on shard {}: {}{}, {}, {}",
            it.consumer,
            it.shard,
            it.phase,
            generation.unwrap_or_default(),
            plural(it.partitions, "partition"),
            bytes(it.memory_bytes),
        )
    });
    write_lines(out, "  consumers", &consumers.collect::<Vec<_>>());
    partitions(out, mapping, now);
}

/// What has become of records that were given up, if any were.
fn given_up(of: &Mapping) -> Option<String> {
    let count = |name| of.counters.get(name).copied().unwrap_or(0);
    let (delivered, dropped) = (
        count("destination_delivered_records"),
        count("dropped_records"),
    );
    let told = format!("{delivered} delivered to the destination, {dropped} dropped");
    (delivered + dropped > 0).then_some(told)
}

fn partitions(out: &mut String, mapping: &Mapping, now: f64) {
    if mapping.partitions.is_empty() {
        return;
    }
    let known = |offset: Option<i64>| offset.map_or("-".to_owned(), |it| it.to_string());
    let mut rows = vec![row([
        "PARTITION",
        "CONSUMER",
        "COMMITTED",
        "PROCESSED",
        "FETCHED",
        "END",
        "LAG",
        "NOW",
    ])];
    rows.extend(mapping.partitions.iter().map(|it| {
        vec![
            it.partition.to_string(),
            it.consumer.to_string(),
            known(it.committed_offset),
            it.processed_offset.to_string(),
            it.fetched_offset.to_string(),
            known(it.high_watermark),
            known(it.lag_records),
            now_cell(it, now),
        ]
    }));
    out.push('\n');
    table(out, "  ", &rows);
}

/// A remark on lags that are old: brokers that cannot be reached tell nothing new.
fn stale(partitions: &[Partition]) -> String {
    let ages = partitions.iter().filter_map(age_of_stale);
    let oldest = ages.max_by(f64::total_cmp);
    oldest.map_or_else(String::new, |age| format!(" ({})", ago(age)))
}

fn age_of_stale(of: &Partition) -> Option<f64> {
    let age = of.high_watermark_age_seconds;
    age.filter(|age| *age >= STALE_SECONDS)
}

/// What becomes of a partition now, and how old its end is.
fn now_cell(of: &Partition, now: f64) -> String {
    let end = age_of_stale(of).map(|age| format!("end and lag of {}", ago(age)));
    let said = [Some(doing(of, now)), end].into_iter().flatten();
    let said: Vec<String> = said.filter(|it| !it.is_empty()).collect();
    said.join("; ")
}

fn doing(of: &Partition, now: f64) -> String {
    let what = match of {
        Partition {
            halted: Some(_), ..
        } => return "halted".to_owned(),
        Partition {
            retry: Some(Retry {
                leaving: Some(_), ..
            }),
            ..
        } => return "waits for its destination".to_owned(),
        Partition { retry: Some(_), .. } if !of.in_flight => return "waits to retry".to_owned(),
        Partition { retry: Some(_), .. } => "retried",
        Partition {
            in_flight: true, ..
        } => "in flight",
        _ => return String::new(),
    };
    match &of.call {
        Some(call) => format!("{what} {}", open(call, now)),
        None => what.to_owned(),
    }
}

/// For how long a call has been open, and for how long it may be.
fn open(call: &Call, now: f64) -> String {
    let (open, left) = (span(call.age_seconds), span(call.deadline - now));
    format!("for {open}, {left} more at most")
}

/// What somebody ought to look at. What the result or another line says already is not said again.
fn troubles(mapping: &Mapping, now: f64) -> Vec<String> {
    let mut lines = own_troubles(mapping, now);
    let said = |detail: &&String| {
        let result = &mapping.last_processing_result;
        lines
            .iter()
            .chain([result])
            .any(|line| line.contains(*detail))
    };
    if let Some(detail) = mapping.detail.as_ref().filter(|detail| !said(detail)) {
        lines.insert(0, detail.clone());
    }
    lines
}

/// What is said of a mapping whose consumers all wait for their group.
const JOINS: &str = "joins its group: where a node was killed before, brokers wait for that member first, up to its session_timeout_ms";

/// Those of consumers, secrets, certificates and partitions.
fn own_troubles(mapping: &Mapping, now: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut consumers = mapping.consumers.iter();
    if !mapping.consumers.is_empty() && consumers.all(|it| it.phase == JOINING) {
        lines.push(JOINS.to_owned());
    }
    let secrets = mapping.secrets.iter();
    lines.extend(secrets.map(|it| {
        let since = span(now - it.since);
        match it.error.contains(&it.secret) {
            true => format!("{}; since {since}", it.error),
            false => format!("{}: {}; since {since}", it.secret, it.error),
        }
    }));
    let soon = mapping.certificates.iter();
    let soon = soon.filter(|it| it.expires_in_seconds <= EXPIRES_SOON_SECONDS);
    lines.extend(soon.map(certificate));
    let halted = mapping.partitions.iter().filter_map(|it| {
        let halted = it.halted.as_ref()?;
        Some(format!(
            "partition {} stands at offset {}, next look {}: {}",
            it.partition,
            halted.offset,
            due(halted.next_try - now),
            halted.reason
        ))
    });
    push_some(&mut lines, halted.collect(), "halted partitions");
    let hanging = mapping.partitions.iter().filter_map(|it| {
        let call = it.call.as_ref().filter(|_| it.retry.is_none())?;
        let is_long = call.age_seconds >= LONG_CALL_SECONDS;
        is_long.then(|| {
            let open = open(call, now);
            format!(
                "partition {} waits for a call that is open {open}",
                it.partition
            )
        })
    });
    push_some(&mut lines, hanging.collect(), "open calls");
    let detail = mapping.detail.as_deref();
    let retried = mapping.partitions.iter();
    let retried = retried.filter_map(|it| Some(retrying(it, it.retry.as_ref()?, detail, now)));
    push_some(&mut lines, retried.collect(), "retrying partitions");
    lines
}

/// A partition whose records fail, or are given up. `detail`: what is said of the whole mapping.
fn retrying(of: &Partition, retry: &Retry, detail: Option<&str>, now: f64) -> String {
    // All of a mapping mostly fail alike.
    let error = match detail.is_some_and(|it| retry.error.contains(it)) {
        true => String::new(),
        false => format!(": {}", retry.error),
    };
    let (partition, age) = (of.partition, span(retry.age_seconds));
    if let Some(condition) = &retry.leaving {
        let next = match retry.next_try {
            Some(at) => format!("next writing {}", due(at - now)),
            None => "a writing is under way".to_owned(),
        };
        let (first, last) = (retry.offset, retry.last_offset);
        return format!(
            "partition {partition} gives up offsets {first} to {last} ({condition}) for {age} now, {next}{error}"
        );
    }
    let next = match (retry.next_try, &of.call) {
        (Some(at), _) => format!("next call {}", due(at - now)),
        (None, Some(call)) => format!("a call is open {}", open(call, now)),
        (None, None) => "a call is open".to_owned(),
    };
    let offsets = match retry.offset == retry.last_offset {
        true => format!("offset {}", retry.offset),
        false => format!("offsets {} to {}", retry.offset, retry.last_offset),
    };
    format!(
        "partition {partition} retries {offsets} for {age} now, {} ({} of the function), {next}{error}",
        plural(retry.failed_calls as usize, "failed call"),
        plural(retry.function_errors as usize, "error"),
    )
}

fn push_some(to: &mut Vec<String>, mut lines: Vec<String>, what: &str) {
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    to.append(&mut lines);
    if more > 0 {
        to.push(format!("and {more} more {what}; --json shows them all"));
    }
}

fn certificate(it: &Certificate) -> String {
    let when = match it.expires_in_seconds {
        left if left < 0.0 => format!("has expired {} ago", span(-left)),
        left => format!("expires in {}", span(left)),
    };
    format!(
        "{} certificate {} of {} {when}",
        it.kind, it.subject, it.secret
    )
}

fn write_lines(out: &mut String, title: &str, lines: &[String]) {
    out.push_str(title);
    out.push('\n');
    let indent = title.len() - title.trim_start_matches(' ').len() + 2;
    for line in lines {
        out.push_str(&" ".repeat(indent));
        out.push_str(&printable(line));
        out.push('\n');
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Columns of cells, each as wide as its widest; the last has no end. Numbers stand to the right, with the name above.
fn table(out: &mut String, indent: &str, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let is_number = |cell: &String| cell == "-" || cell.chars().all(|c| c.is_ascii_digit());
    let columns: Vec<(usize, bool)> = (0..columns)
        .map(|column| {
            let width = rows.iter().map(|row| row[column].chars().count()).max();
            let below = rows.get(1..).unwrap_or_default();
            let numbers = !below.is_empty() && below.iter().all(|row| is_number(&row[column]));
            (width.unwrap_or(0), numbers)
        })
        .collect();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, (width, numbers)) in row.iter().zip(&columns) {
            let cell = printable(cell);
            let pad = " ".repeat(width - cell.chars().count());
            match numbers {
                true => line.extend([pad.as_str(), cell.as_str(), "  "]),
                false => line.extend([cell.as_str(), pad.as_str(), "  "]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

fn ago(seconds: f64) -> String {
    format!("{} ago", span(seconds))
}

fn due(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

/// A time in its two largest units.
fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} {} h", plural(days as usize, "day"), hours % 24),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[cfg(test)]
mod tests;
