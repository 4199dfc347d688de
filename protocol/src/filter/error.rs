//! Why a pattern does not compile.

/// What AWS says of any pattern that it refuses.
pub const REFUSED: &str = "Invalid filter pattern definition.";

/// What is wrong with a pattern, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, at character {}", .character + 1)]
pub struct PatternError {
    /// The place, in characters from the pattern's beginning, from 0.
    pub character: usize,
    /// What is wrong there: a clause without a capital and a period.
    pub reason: String,
}
