//! What the TOML parser refuses, in an operator's words.
//!
//! Invariant: of the file's text only keys and the names of tables are repeated, never a value.

use std::ops::Range;

use toml::de::{DeTable, Error};

/// A key, which is empty where the line as a whole is meant, and what is wrong with it and what to do.
pub(super) type Said = (String, String);

/// Names that differ in so many letters are taken for misspelt; longer ones in a third of them.
const MISSPELT_LETTERS: usize = 2;

/// So many letters at its beginning tell which name is meant.
const BEGINNING_LETTERS: usize = 4;

/// The refusal of `text`; `reference` says where its keys are documented.
pub(super) fn of(error: &Error, text: &str, reference: &str) -> Said {
    let span = error.span().unwrap_or(0..0);
    if DeTable::parse(text).is_err() {
        return syntax(error.message(), text, span);
    }
    match unknown(error.message()) {
        Some((key, known)) => (
            key.to_owned(),
            misplaced(key, &known, text, span, reference),
        ),
        None => (String::new(), plain(error.message())),
    }
}

fn syntax(parser: &str, text: &str, span: Range<usize>) -> Said {
    let line = line_at(text, span.start);
    let Some((key, value)) = line.split_once('=') else {
        let message = format!(
            "is no line of TOML ({}); write key = value or [table], and # before a remark",
            plain(parser)
        );
        return (String::new(), message);
    };
    let value = value.trim_start();
    let message = if value.is_empty() || value.starts_with('#') {
        "has no value; write one after the =, text in quotes, or remove the line".to_owned()
    } else if parser.starts_with("duplicate key") {
        "stands here a second time; remove one of the two".to_owned()
    } else if value.starts_with(char::is_alphabetic) {
        "has a value without quotes; write text in quotes, and true and false in small letters"
            .to_owned()
    } else {
        format!(
            "has a value that is not TOML ({}); write text in quotes and lists as [\"a\", \"b\"]",
            plain(parser)
        )
    };
    (key.trim().to_owned(), message)
}

/// The key that serde does not know and those that it does, out of its own words: it tells them in no
/// other way.
fn unknown(parser: &str) -> Option<(&str, Vec<&str>)> {
    let (_, rest) = parser.split_once("unknown field `")?;
    let (key, known) = rest.split_once('`')?;
    Some((key, known.split('`').skip(1).step_by(2).collect()))
}

fn misplaced(key: &str, known: &[&str], text: &str, span: Range<usize>, reference: &str) -> String {
    let place = match table_above(text, span.start) {
        Some(table) => format!("is not known in [{table}]"),
        None => "is not known".to_owned(),
    };
    match nearest(key, known.iter().copied()) {
        Some(name) => format!("{place}; did you mean `{name}`?"),
        None if place.ends_with(']') => format!(
            "{place}; a key that is in no table stands above the first [table]; {reference}"
        ),
        None => format!("{place}; {reference}"),
    }
}

/// The name that was meant, if one is near.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let near = known.filter_map(|name| {
        let lower = name.to_lowercase();
        let letters = distance(&given, &lower);
        let allowed = MISSPELT_LETTERS.max(lower.chars().count() / 3);
        let begins = given.chars().count() >= BEGINNING_LETTERS && lower.starts_with(&given);
        (letters <= allowed || begins).then_some((letters, name))
    });
    near.min_by_key(|(letters, _)| *letters)
        .map(|(_, name)| name)
}

/// How many letters are to be put in, taken out or exchanged (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.chars().enumerate() {
        let mut left = row + 1;
        let mut line = vec![left];
        for (column, other) in to.iter().enumerate() {
            let exchanged = above[column] + usize::from(letter != *other);
            left = exchanged.min(left + 1).min(above[column + 1] + 1);
            line.push(left);
        }
        above = line;
    }
    above[to.len()]
}

/// The header of the table that `offset` stands in.
fn table_above(text: &str, offset: usize) -> Option<&str> {
    let above = text.get(..offset)?;
    let header = |line: &'_ str| line.trim_start().starts_with('[');
    let line = above.lines().rev().find(|line| header(line))?;
    let name = line.trim().trim_start_matches('[');
    name.split_once(']').map(|(name, _)| name)
}

fn line_at(text: &str, offset: usize) -> &str {
    let offset = offset.min(text.len());
    let before = text.get(..offset).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    text.get(start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default()
}

fn plain(parser: &str) -> String {
    parser.trim().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    #[expect(dead_code, reason = "only read")]
    struct File {
        batch_size: Option<i64>,
        function_name: Option<String>,
        tables: Option<BTreeMap<String, Table>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Table {
        timeout_seconds: Option<i64>,
        signing: Option<String>,
    }

    #[track_caller]
    fn check(text: &str, key: &str, message: &str) {
        let error = toml::from_str::<File>(text).unwrap_err();
        let (found, said) = of(&error, text, "see the manual");
        assert_eq!((found.as_str(), said.as_str()), (key, message), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest() {
        for given in ["Batchsize", "batch_size", "BatchSice", "BatchSizes"] {
            check(
                &format!("FunctionName = \"f\"\n{given} = 1\n"),
                given,
                "is not known; did you mean `BatchSize`?",
            );
        }
        check(
            "[Tables.x]\ntimeout = 1\n",
            "timeout",
            "is not known in [Tables.x]; did you mean `timeout_seconds`?",
        );
    }

    #[test]
    fn a_key_like_no_other_is_answered_with_the_reference() {
        check("Nonsense = 1\n", "Nonsense", "is not known; see the manual");
        check(
            "[Tables.x]\nBatchSize = 1\n",
            "BatchSize",
            "is not known in [Tables.x]; a key that is in no table stands above the first [table]; see the manual",
        );
    }

    #[test]
    fn a_line_that_is_not_toml_is_told_what_is_missing() {
        let no_value = "has no value; write one after the =, text in quotes, or remove the line";
        for text in ["BatchSize = ", "BatchSize =\nFunctionName = \"f\"\n"] {
            check(text, "BatchSize", no_value);
        }
        check("BatchSize = # later\n", "BatchSize", no_value);
        let unquoted =
            "has a value without quotes; write text in quotes, and true and false in small letters";
        check("FunctionName = orders\n", "FunctionName", unquoted);
        check(
            "BatchSize = 1\nBatchSize = 2\n",
            "BatchSize",
            "stands here a second time; remove one of the two",
        );
    }
}
