//! From a pattern's text to the conjunctions that it stands for.
//!
//! A pattern is compiled as the reference engine does (aws/event-ruler, `JsonRuleCompiler`): each `$or` multiplies
//! the branches, a path that a branch is given twice is what was said last, and where a `$or` is no relation after
//! all, it is a member's name throughout the pattern.
//!
//! Invariant: a pattern makes at most [`FILTER_BRANCHES_MAX`] branches, or it does not compile.

mod operators;

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::PatternError;
use super::json::{Cursor, Text};
use super::operator::{Number, Operator};
use crate::limits::{FILTER_BRANCHES_MAX, JSON_DEPTH_MAX};

/// Names that no member in a `$or` may have: the engine's operators, and what it reserves for later.
const RESERVED: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// A pattern: it is satisfied where one of its branches is.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// What the branches' clauses refer to.
    pub(super) arrays: Vec<Array>,
    pub(super) branches: Vec<Branch>,
}

/// What a pattern says of one path.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) operators: Vec<Operator>,
    /// Whether `{"exists": false}` is among its elements.
    pub(super) absent: bool,
    /// Where it stands in the pattern, in bytes.
    pub(super) span: Range<usize>,
}

/// Clauses that must all hold, by their path: names joined by dots.
pub(super) type Branch = BTreeMap<Vec<u8>, Clause>;

/// What must hold at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// A value satisfies one of that array's elements.
    Value(usize),
    /// There is no value, as that array's `{"exists": false}` has it.
    Absent(usize),
}

impl Pattern {
    pub(super) fn compile(text: &str) -> Result<Self, PatternError> {
        let compiled = Compiler::new(text, false).pattern();
        match compiled {
            // The engine tries again without relations.
            Err(error) if text.contains("$or") => {
                Compiler::new(text, true).pattern().map_err(|_| error)
            }
            compiled => compiled,
        }
    }
}

struct Compiler<'a> {
    text: &'a str,
    cursor: Cursor<'a>,
    scratch: Vec<u8>,
    /// `$or` is a name like any other.
    or_is_a_name: bool,
    arrays: Vec<Array>,
}

/// Where an object stands in a pattern.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// The path to it; `None` at the top.
    path: Option<&'p [u8]>,
    in_or: bool,
    depth: usize,
}

/// What is wrong, with the bytes that followed when it was found.
struct Wrong {
    rest: usize,
    reason: String,
}

type Compiled<T> = Result<T, Wrong>;

impl<'a> Compiler<'a> {
    fn new(text: &'a str, or_is_a_name: bool) -> Self {
        Self {
            text,
            cursor: Cursor::new(text.as_bytes()),
            scratch: Vec::new(),
            or_is_a_name,
            arrays: Vec::new(),
        }
    }

    fn pattern(mut self) -> Result<Pattern, PatternError> {
        match self.branches() {
            Ok(branches) => Ok(Pattern {
                arrays: self.arrays,
                branches,
            }),
            Err(Wrong { rest, reason }) => {
                let at = self.text.len() - rest;
                let before = self.text.char_indices().take_while(|(it, _)| *it < at);
                Err(PatternError {
                    character: before.count(),
                    reason,
                })
            }
        }
    }

    fn branches(&mut self) -> Compiled<Vec<Branch>> {
        self.cursor.space();
        if self.cursor.peek() != Some(b'{') {
            return Err(self.wrong("a pattern must be a JSON object"));
        }
        let mut branches = vec![Branch::new()];
        let top = Place {
            path: None,
            in_or: false,
            depth: 0,
        };
        self.object(&mut branches, top)?;
        self.cursor.space();
        if self.cursor.peek().is_some() {
            return Err(self.wrong("nothing may follow the pattern's object"));
        }
        self.without_choices(branches)
    }

    /// An element `{"exists": false}` beside others is another branch: where there are arrays, that no value is
    /// there is asked of all their elements, and what a value must be of one.
    fn without_choices(&self, branches: Vec<Branch>) -> Compiled<Vec<Branch>> {
        let mut done = Vec::new();
        for branch in branches {
            let mut forked = vec![branch.clone()];
            for (path, clause) in &branch {
                let Clause::Value(array) = *clause else {
                    continue;
                };
                let Some(Array {
                    operators, absent, ..
                }) = self.arrays.get(array)
                else {
                    continue;
                };
                let mut others = Vec::new();
                for branch in &mut forked {
                    if *absent && !operators.is_empty() {
                        others.push(branch.clone());
                    }
                    if *absent {
                        branch.insert(path.clone(), Clause::Absent(array));
                    }
                }
                forked.append(&mut others);
                self.bounded(&forked)?;
            }
            done.append(&mut forked);
            self.bounded(&done)?;
        }
        Ok(done)
    }

    fn object(&mut self, branches: &mut Vec<Branch>, place: Place<'_>) -> Compiled<()> {
        if place.depth >= JSON_DEPTH_MAX {
            return Err(self.wrong("it is nested too deep"));
        }
        self.take(b'{')?;
        self.cursor.space();
        if self.cursor.peek() == Some(b'}') {
            return Err(self.wrong("an object may not be empty"));
        }
        loop {
            self.member(branches, place)?;
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.take(b',')?,
                _ => break,
            }
            self.cursor.space();
        }
        self.take(b'}')
    }

    fn member(&mut self, branches: &mut Vec<Branch>, place: Place<'_>) -> Compiled<()> {
        let before = self.cursor;
        let name = self.name()?;
        if name == b"$or" && !self.or_is_a_name {
            return self.or(branches, place);
        }
        if place.in_or && RESERVED.iter().any(|it| it.as_bytes() == name) {
            self.cursor = before;
            let name = String::from_utf8_lossy(&name);
            return Err(self.wrong(format!(
                "in $or no member may have an operator's name, {name}"
            )));
        }
        let path = match place.path {
            Some(path) => [path, b".", &name].concat(),
            None => name,
        };
        match self.cursor.peek() {
            Some(b'{') => {
                let inner = Place {
                    path: Some(&path),
                    depth: place.depth + 1,
                    ..place
                };
                self.object(branches, inner)
            }
            Some(b'[') => {
                let array = self.array()?;
                for branch in branches {
                    branch.insert(path.clone(), Clause::Value(array));
                }
                Ok(())
            }
            _ => {
                let path = String::from_utf8_lossy(&path);
                Err(self.wrong(format!(
                    "what {path} must be stands in an object or an array"
                )))
            }
        }
    }

    fn or(&mut self, branches: &mut Vec<Branch>, place: Place<'_>) -> Compiled<()> {
        let before = self.cursor;
        if self.cursor.peek() != Some(b'[') {
            return Err(self.wrong("$or must be an array of objects"));
        }
        self.take(b'[')?;
        let given = std::mem::take(branches);
        let mut objects = 0;
        loop {
            self.cursor.space();
            if self.cursor.peek() != Some(b'{') {
                return Err(self.wrong("$or must be an array of two objects or more"));
            }
            objects += 1;
            let mut more = given.clone();
            let inner = Place {
                in_or: true,
                depth: place.depth + 1,
                ..place
            };
            self.object(&mut more, inner)?;
            branches.append(&mut more);
            self.bounded(branches)?;
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.take(b',')?,
                _ => break,
            }
        }
        self.take(b']')?;
        if objects < 2 {
            self.cursor = before;
            return Err(self.wrong("$or must be an array of two objects or more"));
        }
        Ok(())
    }

    fn bounded(&self, branches: &[Branch]) -> Compiled<()> {
        match branches.len() > FILTER_BRANCHES_MAX {
            true => Err(self.wrong(format!(
                "its $or and exists make more than {FILTER_BRANCHES_MAX} combinations"
            ))),
            false => Ok(()),
        }
    }

    fn array(&mut self) -> Compiled<usize> {
        let start = self.text.len() - self.cursor.rest().len();
        self.take(b'[')?;
        let mut array = Array {
            operators: Vec::new(),
            absent: false,
            span: start..start,
        };
        self.cursor.space();
        if self.cursor.peek() == Some(b']') {
            return Err(self.wrong("an array may not be empty"));
        }
        loop {
            self.element(&mut array)?;
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.take(b',')?,
                _ => break,
            }
            self.cursor.space();
        }
        self.take(b']')?;
        array.span.end = self.text.len() - self.cursor.rest().len();
        self.arrays.push(array);
        Ok(self.arrays.len() - 1)
    }

    fn element(&mut self, array: &mut Array) -> Compiled<()> {
        let operator = match self.cursor.peek() {
            Some(b'{') => match self.operator()? {
                Some(operator) => operator,
                None => {
                    array.absent = true;
                    return Ok(());
                }
            },
            Some(b'"') => Operator::of_text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Operator::of_number(self.number()?),
            Some(b'n') => self.word(b"null", Operator::Null)?,
            Some(b't') => self.word(b"true", Operator::Boolean(true))?,
            Some(b'f') => self.word(b"false", Operator::Boolean(false))?,
            Some(b'[') => {
                return Err(self.wrong("an array's elements are values or operators, not arrays"));
            }
            _ => return Err(self.wrong("a value or an operator is missing, or is no JSON")),
        };
        array.operators.push(operator);
        Ok(())
    }

    fn word(&mut self, word: &'static [u8], operator: Operator) -> Compiled<Operator> {
        match self.cursor.literal(word) {
            Some(()) => Ok(operator),
            None => Err(self.wrong("a value or an operator is missing, or is no JSON")),
        }
    }

    fn take(&mut self, byte: u8) -> Compiled<()> {
        match self.cursor.take(byte) {
            Some(()) => Ok(()),
            None => Err(self.wrong(format!("a {} is missing", char::from(byte)))),
        }
    }

    fn name(&mut self) -> Compiled<Vec<u8>> {
        if self.cursor.peek() != Some(b'"') {
            return Err(self.wrong("a member's name is missing"));
        }
        let name = self.string()?;
        self.cursor.space();
        self.take(b':')?;
        self.cursor.space();
        Ok(name)
    }

    fn string(&mut self) -> Compiled<Vec<u8>> {
        let before = self.cursor;
        match self.cursor.string() {
            Some(text) => Ok(self.resolve(text)),
            None => {
                self.cursor = before;
                Err(self.wrong("this is no JSON string"))
            }
        }
    }

    fn resolve(&mut self, text: Text<'a>) -> Vec<u8> {
        text.resolve(&mut self.scratch).to_vec()
    }

    fn number(&mut self) -> Compiled<&'a [u8]> {
        match self.cursor.number() {
            Some(number) => Ok(number),
            None => Err(self.wrong("this is no JSON number")),
        }
    }

    fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong {
            rest: self.cursor.rest().len(),
            reason: reason.into(),
        }
    }
}

impl Operator {
    /// What a plain string stands for.
    fn of_text(text: Vec<u8>) -> Self {
        match super::address::Address::parse(&text) {
            Some(address) => Self::Address(address),
            None => Self::Equals(text.into()),
        }
    }

    /// What a plain number stands for.
    fn of_number(text: &[u8]) -> Self {
        let number = Number::new(text);
        Self::Number {
            text: text.into(),
            value: number.value(),
        }
    }
}
