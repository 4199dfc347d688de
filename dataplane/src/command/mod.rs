//! What an operator tells a node that runs, as JSON over the node's second socket: one line there, one line back.
//!
//! `control/commands.rs` serves it, [`ask`] asks it. The first socket (`status`) only tells, so whoever may read the one
//! may be kept from the other.
//!
//! Invariant: a command that was not answered has not been carried out later, behind the back of who gave it: what he
//! waits for no longer is withdrawn.

pub mod ask;

use serde::{Deserialize, Serialize};

/// Which commands and answers these are.
pub const FORMAT: u32 = 1;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// [`FORMAT`].
    pub format: u32,
    /// To pass over what is in the way.
    pub skip: Skip,
}

/// To pass over what is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The mapping, by its file's name without the ending or by its UUID.
    pub mapping: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Whether it is discarded; else it goes to the destination.
    pub discard: bool,
    /// How long its end is waited for at most.
    pub wait_seconds: u64,
}

/// What has become of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// [`FORMAT`].
    pub format: u32,
    /// What that is.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The destination has it.
    Sent {
        /// The destination.
        destination: String,
    },
    /// It was discarded, and all from there up to that offset.
    Discarded {
        /// The last offset that was passed over.
        last_offset: i64,
    },
    /// It has ended before.
    Past,
    /// The call that was open has succeeded: nothing was passed over.
    Succeeded,
    /// It is not what its partition waits for.
    NotBlocking {
        /// Below it everything was processed.
        processed_offset: i64,
        /// The first offset of what is in the way instead, if anything is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_offset: Option<i64>,
        /// The last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_offset: Option<i64>,
    },
    /// There is no destination that it could go to.
    NoDestination,
    /// It does not decode: it can be discarded only.
    Undecodable {
        /// The last offset that would be passed over.
        last_offset: i64,
    },
    /// The partition is another's.
    NotOwned {
        /// Whose, if that can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
        /// Why it cannot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unknown: Option<String>,
    },
    /// It was waited for in vain, and is wanted no longer.
    Waited {
        /// What for.
        reason: String,
    },
    /// The command makes no sense, or the node cannot carry it out.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub host: String,
    /// Its `group.instance.id`, if it is a static member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            format: FORMAT,
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_as_one_object() {
        let answer = Answer::from(Outcome::NotOwned {
            owner: None,
            unknown: Some("it has no member".to_owned()),
        });
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(
            text,
            r#"{"format":1,"outcome":"not_owned","unknown":"it has no member"}"#
        );
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
