//! The objects in a pattern's arrays: `{"prefix": "a"}` and its like.
//!
//! Invariant: an operator has exactly one member, of a name that the engine knows, in the spelling that it knows.

use super::super::address::Network;
use super::super::folded::Folded;
use super::super::number;
use super::super::operator::{Bound, Operator, Range};
use super::super::wildcard::Wildcard;
use super::{Compiled, Compiler};

impl Compiler<'_> {
    /// One operator; `None` for `{"exists": false}`.
    pub(super) fn operator(&mut self) -> Compiled<Option<Operator>> {
        self.take(b'{')?;
        self.cursor.space();
        let before = self.cursor;
        let name = self.name()?;
        let operator = match name.as_slice() {
            b"exactly" => Some(Operator::Equals(self.text_of("exactly")?.into())),
            b"prefix" => {
                Some(self.affix("prefix", Operator::Prefix, Operator::PrefixIgnoreCase)?)
            }
            b"suffix" => {
                Some(self.affix("suffix", Operator::Suffix, Operator::SuffixIgnoreCase)?)
            }
            b"equals-ignore-case" => {
                let text = self.text_of("equals-ignore-case")?;
                Some(Operator::EqualsIgnoreCase(Folded::new(&text)))
            }
            b"wildcard" => Some(self.wildcard()?),
            b"cidr" => Some(self.cidr()?),
            b"numeric" => Some(self.numeric()?),
            b"anything-but" => Some(self.anything_but()?),
            b"exists" => self.exists()?,
            _ => {
                self.cursor = before;
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(self.wrong(format!("there is no operator {name}")));
            }
        };
        self.only_member()?;
        Ok(operator)
    }

    fn only_member(&mut self) -> Compiled<()> {
        self.cursor.space();
        match self.cursor.peek() {
            Some(b',') => Err(self.wrong("an operator has one member only")),
            _ => self.take(b'}'),
        }
    }

    fn text_of(&mut self, operator: &str) -> Compiled<Vec<u8>> {
        match self.cursor.peek() {
            Some(b'"') => self.string(),
            _ => Err(self.wrong(format!("{operator} takes a string"))),
        }
    }

    /// A prefix or suffix, or one without regard to case.
    fn affix(
        &mut self,
        operator: &str,
        plain: fn(Box<[u8]>) -> Operator,
        folded: fn(Folded) -> Operator,
    ) -> Compiled<Operator> {
        if self.cursor.peek() != Some(b'{') {
            return Ok(plain(self.text_of(operator)?.into()));
        }
        self.take(b'{')?;
        self.cursor.space();
        let before = self.cursor;
        if self.name()? != b"equals-ignore-case" {
            self.cursor = before;
            return Err(self.wrong(format!(
                "{operator} takes a string, or an object with equals-ignore-case"
            )));
        }
        let text = self.text_of("equals-ignore-case")?;
        self.only_member()?;
        Ok(folded(Folded::new(&text)))
    }

    fn wildcard(&mut self) -> Compiled<Operator> {
        let before = self.cursor;
        let pattern = self.text_of("wildcard")?;
        Wildcard::parse(&pattern)
            .map(Operator::Wildcard)
            .map_err(|reason| {
                self.cursor = before;
                self.wrong(format!("a wildcard {reason}"))
            })
    }

    fn cidr(&mut self) -> Compiled<Operator> {
        let before = self.cursor;
        let text = self.text_of("cidr")?;
        let network = Network::parse(&String::from_utf8_lossy(&text));
        network.map(Operator::Cidr).map_err(|reason| {
            self.cursor = before;
            self.wrong(format!("a cidr {reason}"))
        })
    }

    fn exists(&mut self) -> Compiled<Option<Operator>> {
        if self.cursor.literal(b"true").is_some() {
            return Ok(Some(Operator::Exists));
        }
        match self.cursor.literal(b"false") {
            Some(()) => Ok(None),
            None => Err(self.wrong("exists takes true or false")),
        }
    }

    /// `["=", 1]`, `[">", 1]`, `[">=", 1, "<", 2]` and their like.
    fn numeric(&mut self) -> Compiled<Operator> {
        const FORM: &str = "numeric takes an array of =, <, <=, > or >= and a number, or of two such, the lower first";
        if self.cursor.peek() != Some(b'[') {
            return Err(self.wrong(FORM));
        }
        let before = self.cursor;
        self.take(b'[')?;
        let (relation, value) = self.term(FORM)?;
        let bound = |relation: &[u8]| Bound {
            value,
            included: relation.ends_with(b"="),
        };
        let mut range = Range {
            bottom: None,
            top: None,
        };
        match relation.as_slice() {
            b"=" => (range.bottom, range.top) = (Some(bound(b"=")), Some(bound(b"="))),
            b"<" | b"<=" => range.top = Some(bound(&relation)),
            _ => range.bottom = Some(bound(&relation)),
        }
        self.cursor.space();
        if self.cursor.peek() == Some(b',') {
            self.take(b',')?;
            let here = self.cursor;
            let (relation, value) = self.term(FORM)?;
            if range.top.is_some() || !relation.starts_with(b"<") {
                self.cursor = here;
                return Err(self.wrong(FORM));
            }
            if range.bottom.is_some_and(|it| it.value >= value) {
                self.cursor = before;
                return Err(self.wrong("the bottom of a numeric range must be below its top"));
            }
            range.top = Some(Bound {
                value,
                included: relation == b"<=",
            });
            self.cursor.space();
        }
        if self.cursor.take(b']').is_none() {
            return Err(self.wrong(FORM));
        }
        Ok(Operator::Range(range))
    }

    /// A relation and its number.
    fn term(&mut self, form: &str) -> Compiled<(Vec<u8>, f64)> {
        self.cursor.space();
        let before = self.cursor;
        if self.cursor.peek() != Some(b'"') {
            return Err(self.wrong(form));
        }
        let relation = self.string()?;
        if !matches!(relation.as_slice(), b"=" | b"<" | b"<=" | b">" | b">=") {
            self.cursor = before;
            return Err(self.wrong(form));
        }
        self.cursor.space();
        if self.cursor.take(b',').is_none() {
            return Err(self.wrong(form));
        }
        self.cursor.space();
        Ok((relation, self.carried()?))
    }

    /// A number that a double carries.
    fn carried(&mut self) -> Compiled<f64> {
        let before = self.cursor;
        let text = self.number()?;
        number::carried(text).ok_or_else(|| {
            self.cursor = before;
            self.wrong(
                "this number has more digits than a double carries, so it cannot be compared",
            )
        })
    }

    fn anything_but(&mut self) -> Compiled<Operator> {
        let operators = match self.cursor.peek() {
            Some(b'{') => self.anything_but_like()?,
            Some(b'[') => {
                let before = self.cursor;
                let operators = self.list(Self::compared)?;
                let numbers = operators
                    .iter()
                    .filter(|it| matches!(it, Operator::Number { .. }));
                let numbers = numbers.count();
                if numbers != 0 && numbers != operators.len() {
                    self.cursor = before;
                    return Err(self
                        .wrong("a list in anything-but is of strings alone or of numbers alone"));
                }
                operators
            }
            _ => vec![self.compared()?],
        };
        Ok(Operator::AnythingBut(operators.into()))
    }

    /// A string or a number in `anything-but`; there an address is a text like any other.
    fn compared(&mut self) -> Compiled<Operator> {
        match self.cursor.peek() {
            Some(b'"') => Ok(Operator::Equals(self.string()?.into())),
            Some(b'-' | b'0'..=b'9') => {
                let before = self.cursor;
                self.carried()?;
                self.cursor = before;
                Ok(Operator::of_number(self.number()?))
            }
            _ => Err(self.wrong(
                "anything-but takes a string, a number, a list of either, or one of prefix, suffix, \
                 equals-ignore-case and wildcard",
            )),
        }
    }

    /// `{"prefix": "a"}` and its like in `anything-but`, with one text or a list of them.
    fn anything_but_like(&mut self) -> Compiled<Vec<Operator>> {
        self.take(b'{')?;
        self.cursor.space();
        let before = self.cursor;
        let name = self.name()?;
        let one: fn(&mut Self) -> Compiled<Operator> = match name.as_slice() {
            b"prefix" => |it| Ok(Operator::Prefix(it.affix_text("prefix")?)),
            b"suffix" => |it| Ok(Operator::Suffix(it.affix_text("suffix")?)),
            b"equals-ignore-case" => |it| {
                let text = it.text_of("equals-ignore-case")?;
                Ok(Operator::EqualsIgnoreCase(Folded::new(&text)))
            },
            b"wildcard" => Self::wildcard,
            _ => {
                self.cursor = before;
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(self.wrong(format!("anything-but knows no {name}")));
            }
        };
        let operators = match self.cursor.peek() {
            Some(b'[') => self.list(one)?,
            _ => vec![one(self)?],
        };
        self.only_member()?;
        Ok(operators)
    }

    fn affix_text(&mut self, operator: &str) -> Compiled<Box<[u8]>> {
        let before = self.cursor;
        let text = self.text_of(operator)?;
        if text.is_empty() {
            self.cursor = before;
            return Err(self.wrong(format!("in anything-but a {operator} may not be empty")));
        }
        Ok(text.into())
    }

    /// An array that is not empty.
    fn list(&mut self, one: impl Fn(&mut Self) -> Compiled<Operator>) -> Compiled<Vec<Operator>> {
        self.take(b'[')?;
        let mut operators = Vec::new();
        loop {
            self.cursor.space();
            operators.push(one(self)?);
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.take(b',')?,
                _ => break,
            }
        }
        self.take(b']')?;
        Ok(operators)
    }
}
