//! What is wrong with a configuration file, where, and what to do about it.
//!
//! Invariant: a problem never shows a secret: no key takes one, and what stands before an `@`, where people
//! put passwords, is never repeated.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::words;

/// One thing that an operator must mend in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the directory that could not be read.
    pub file: PathBuf,
    /// The line, from 1, where the problem has one.
    pub line: Option<usize>,
    /// The key or member; empty when the file as a whole is meant.
    pub key: String,
    /// The value as given; empty when there is none.
    pub value: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong, in the order of the files and their lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            problems: Vec::new(),
        }
    }

    /// Notes a problem with the value at `span`.
    pub(crate) fn at(
        &mut self,
        span: Range<usize>,
        key: &str,
        value: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: Some(line_of(self.text, span.start)),
            key: key.to_owned(),
            value: without_userinfo(&value.to_string()),
            message: message.into(),
        });
    }

    /// Notes a problem with something that is not there.
    pub(crate) fn missing(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: None,
            key: key.to_owned(),
            value: String::new(),
            message: message.into(),
        });
    }

    /// Notes what the TOML parser refused; `reference` says where the keys are documented.
    pub(crate) fn toml(&mut self, error: &toml::de::Error, reference: &str) {
        let (key, message) = words::of(error, self.text, reference);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: error.span().map(|span| line_of(self.text, span.start)),
            key,
            value: String::new(),
            message,
        });
    }
}

impl Problem {
    /// A problem with a file or directory as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            value: String::new(),
            message: message.into(),
        }
    }
}

/// What to do where a file or directory cannot be used: `otherwise`, unless it is there and only not permitted.
pub(crate) fn advice(error: &io::Error, otherwise: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "permit it to user {} (chown, chmod), or run as a user that may (User= in the unit)",
            rustix::process::geteuid().as_raw()
        ),
        _ => otherwise.to_owned(),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match (self.key.as_str(), self.value.as_str()) {
            ("", _) => write!(f, ": {}", self.message),
            (key, "") => write!(f, ": {key}: {}", self.message),
            (key, value) => write!(f, ": {key} = {value}: {}", self.message),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// An address without the name and password before its host.
pub(crate) fn without_userinfo(address: &str) -> String {
    let Some((userinfo, host)) = address.rsplit_once('@') else {
        return address.to_owned();
    };
    match userinfo.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://***@{host}"),
        None => format!("***@{host}"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_file_line_key_and_value() {
        let mut findings = Findings::new(Path::new("/etc/f.toml"), "a = 1\nb = 2\n");
        findings.at(10..11, "b", 2, "must be 3");
        assert_eq!(
            findings.problems[0].to_string(),
            "/etc/f.toml:2: b = 2: must be 3"
        );
    }

    #[test]
    fn what_stands_before_the_host_is_not_shown() {
        let check = |address, shown| assert_eq!(without_userinfo(address), shown);
        check("http://h:80/p", "http://h:80/p");
        check("http://user:secret@h:80", "http://***@h:80");
        check("user:s/e@c ret@h:80", "***@h:80");
    }

    #[test]
    fn what_is_not_permitted_is_not_told_to_be_created() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let said = advice(&io::Error::from(kind), "create it");
            assert!(said.starts_with(expected), "{said}");
        };
        check(io::ErrorKind::NotFound, "create it");
        check(io::ErrorKind::PermissionDenied, "permit it to user ");
    }

    #[test]
    fn a_span_past_the_end_is_the_last_line() {
        assert_eq!(line_of("a\nb", 99), 2);
    }
}
