//! What one element of a pattern's array says of one value.
//!
//! Invariant: whether a value satisfies an element depends on nothing but the two.

use super::address::{Address, Network};
use super::folded::Folded;
use super::number;
use super::wildcard::Wildcard;

/// A value without members or elements.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Number(Number<'a>),
    /// What the string says, its escapes resolved.
    String(&'a [u8]),
}

/// A number, as it is spelt and as it compares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    text: &'a [u8],
    /// The double that carries it.
    value: Option<f64>,
}

/// One element.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    Null,
    Boolean(bool),
    Number {
        text: Box<[u8]>,
        value: Option<f64>,
    },
    /// Exactly that text.
    Equals(Box<[u8]>),
    /// A text that reads as this address.
    Address(Address),
    EqualsIgnoreCase(Folded),
    Prefix(Box<[u8]>),
    PrefixIgnoreCase(Folded),
    Suffix(Box<[u8]>),
    SuffixIgnoreCase(Folded),
    Wildcard(Wildcard),
    Cidr(Network),
    Range(Range),
    /// Any value.
    Exists,
    /// Any value that satisfies none of them.
    AnythingBut(Box<[Operator]>),
}

/// Numbers between two bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) bottom: Option<Bound>,
    pub(super) top: Option<Bound>,
}

/// Where a range ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) value: f64,
    /// Whether the value itself is within.
    pub(super) included: bool,
}

impl<'a> Number<'a> {
    /// A number as JSON has it.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            value: number::carried(text),
        }
    }

    /// The double that carries it.
    pub(super) fn value(&self) -> Option<f64> {
        self.value
    }

    /// A whole number that is spelt so.
    pub(super) fn of_integer(number: i64, text: &'a [u8]) -> Self {
        Self {
            text,
            value: number::of_integer(number),
        }
    }
}

impl Operator {
    pub(super) fn matches(&self, scalar: &Scalar<'_>) -> bool {
        match (self, scalar) {
            (Self::Exists, _) | (Self::Null, Scalar::Null) => true,
            (Self::AnythingBut(operators), _) => !operators.iter().any(|it| it.matches(scalar)),
            (Self::Boolean(wanted), Scalar::Boolean(given)) => wanted == given,
            (Self::Number { text, value }, Scalar::Number(given)) => {
                (value.is_some() && *value == given.value) || **text == *given.text
            }
            (Self::Range(range), Scalar::Number(given)) => {
                given.value.is_some_and(|value| range.contains(value))
            }
            (_, Scalar::String(text)) => self.matches_text(text),
            _ => false,
        }
    }

    #[inline]
    fn matches_text(&self, text: &[u8]) -> bool {
        match self {
            Self::Equals(wanted) => **wanted == *text,
            Self::Address(wanted) => Address::parse(text) == Some(*wanted),
            Self::EqualsIgnoreCase(wanted) => wanted.equals(text),
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::PrefixIgnoreCase(prefix) => prefix.is_prefix_of(text),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::SuffixIgnoreCase(suffix) => suffix.is_suffix_of(text),
            Self::Wildcard(wildcard) => wildcard.matches(text),
            Self::Cidr(network) => Address::parse(text).is_some_and(|it| network.contains(it)),
            Self::Null
            | Self::Boolean(_)
            | Self::Number { .. }
            | Self::Range(_)
            | Self::Exists
            | Self::AnythingBut(_) => false,
        }
    }
}

impl Range {
    fn contains(&self, value: f64) -> bool {
        let above = self
            .bottom
            .is_none_or(|it| it.value < value || (it.included && it.value == value));
        let below = self
            .top
            .is_none_or(|it| value < it.value || (it.included && it.value == value));
        above && below
    }
}
