//! What an operator wants passed over, and what has become of it.

use std::sync::Arc;

use crate::lambda::failure::Condition;
use crate::time::Instant;

/// Names one wish; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkipId(pub u64);

/// One offset that is in the way, to be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its name.
    pub id: SkipId,
    /// The partition.
    pub partition: i32,
    /// The offset of the record, or of the batch that does not decode.
    pub offset: i64,
    /// Whether it is discarded; else it goes to the destination.
    pub discard: bool,
}

/// How a wish stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipStatus {
    /// The partition is not ours, or will not be for long. That may change.
    NotOwned,
    /// It is not known yet whether the offset is in the way.
    Looking,
    /// A call that carries it is open, which nobody can take back: what it comes to decides.
    Called {
        /// When it is closed, if it has not ended by then.
        deadline: Instant,
    },
    /// It is given up, and on its way to the destination.
    Leaving {
        /// Why: it may have been given up before anybody wanted it passed over.
        condition: Condition,
        /// Why the destination did not take it, if it did not; else why its last call failed.
        error: Option<Arc<str>>,
    },
    /// The destination has it.
    Sent,
    /// It was discarded, and all from there up to that offset.
    Discarded {
        /// The last offset that was passed over.
        last_offset: i64,
    },
    /// The call that was open has succeeded: nothing was passed over.
    Succeeded,
    /// It has ended before: it was processed, or passed over.
    Past,
    /// It is not what its partition waits for.
    NotBlocking {
        /// Below it everything was processed.
        processed_offset: i64,
        /// The first and the last offset of what is in the way instead, if anything is.
        blocking: Option<(i64, i64)>,
    },
    /// There is no destination that it could go to.
    NoDestination,
    /// What does not decode goes to no destination: it can be discarded only, up to that offset.
    Undecodable {
        /// The last offset that would be passed over.
        last_offset: i64,
    },
}

impl SkipStatus {
    /// Whether nothing more comes of it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotOwned | Self::Looking | Self::Called { .. } | Self::Leaving { .. } => false,
            Self::Sent
            | Self::Discarded { .. }
            | Self::Succeeded
            | Self::Past
            | Self::NotBlocking { .. }
            | Self::NoDestination
            | Self::Undecodable { .. } => true,
        }
    }
}
