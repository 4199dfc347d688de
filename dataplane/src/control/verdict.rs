//! What a mapping's status says, in AWS's words (contract 7.6 and 7.7, decision 26).
//!
//! Invariant: every fault has a text, and the texts that AWS has are AWS's.

use std::path::Path;

use forebay_protocol::delivery::{ConsumerStatus, Fault};

use super::access::Trouble;
use super::aws::credentials::NO_CREDENTIALS;
use super::secrets::SecretError;

/// LastProcessingResult and StateTransitionReason of one mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `LastProcessingResult`.
    pub(super) result: String,
    /// `StateTransitionReason`.
    pub(super) reason: &'static str,
    /// Our own words on the cause; empty when all is well.
    pub(super) detail: String,
}

const CONNECTION: &str =
    "PROBLEM: Connection error. Please check your event source connection configuration.";
const NOT_AUTHORIZED: &str = "PROBLEM: Cluster failed to authorize Lambda.";
const SASL_FAILED: &str = "PROBLEM: SASL authentication failed.";
const SERVER_NOT_TRUSTED: &str = "PROBLEM: Lambda failed to authenticate server.";
const CLIENT_NOT_TRUSTED: &str = "PROBLEM: Server failed to authenticate Lambda.";
const KEY_INVALID: &str = "PROBLEM: Provided certificate or private key is invalid.";
/// AWS has no text for it: its secrets are in one place.
const SECRET_UNREADABLE: &str = "PROBLEM: A secret or ca_bundle cannot be read.";
const NO_ROUTE: &str = "PROBLEM: Connection error. Your event source VPC must be able to connect to Lambda and STS, \
    Secrets Manager (if event source authentication is required), and the OnFailure Destination (if one is configured).";
const ROLE_REFUSED: &str = "PROBLEM: Lambda failed to assume your function execution role. Please check if the role \
    trust Lambda service principal, and make sure it does not require setting source identity to be assumed.";
/// What to do about a topic that has none.
pub(super) const NO_TIMESTAMPS: &str = "its message format is v0: raise the topic's message.format.version, or take another StartingPosition";
const CALL_FAILED: &str = "PROBLEM: Function call failed";
/// AWS has no text for it: it drops what the destination does not take.
const DESTINATION_FAILED: &str = "PROBLEM: The OnFailure destination does not take failed records.";
const USER_INITIATED: &str = "USER_INITIATED";
const ESM_CONFIG: &str = "ESM_CONFIG_NOT_VALID";
const AUTHENTICATION: &str = "EVENT_SOURCE_AUTHN_ERROR";
const AUTHORIZATION: &str = "EVENT_SOURCE_AUTHZ_ERROR";
const FUNCTION_CONFIG: &str = "FUNCTION_CONFIG_NOT_VALID";

impl Verdict {
    /// Judges a mapping by its consumers: the first fault speaks for all. Without credentials that it
    /// needs (`unsigned`), that is why its function is not called.
    pub(super) fn of<'a>(
        consumers: impl Iterator<Item = &'a ConsumerStatus> + Clone,
        topic: &str,
        unsigned: bool,
    ) -> Self {
        let fault = consumers.clone().find_map(|status| status.fault.as_ref());
        match fault {
            None | Some(Fault::FunctionUnavailable(_)) if unsigned => return Self::unsigned(),
            None => {}
            Some(fault) => return Self::of_fault(fault, topic),
        }
        match consumers.clone().any(|status| status.processed_any) {
            true => Self {
                result: "OK".to_owned(),
                ..Self::idle()
            },
            false => Self::idle(),
        }
    }

    /// Judges a mapping that starts halted, because it has taken the process down again and again; `file`
    /// remembers that.
    pub(super) fn crashing(file: &Path) -> Self {
        Self {
            result: "PROBLEM: Halted, because it has taken the node down again and again."
                .to_owned(),
            reason: USER_INITIATED,
            detail: format!(
                "report this as a bug; to try again, change its file and send SIGHUP, or remove {} and restart",
                file.display()
            ),
        }
    }

    /// Judges a mapping whose secrets cannot be used.
    pub(super) fn of_trouble(trouble: &Trouble) -> Self {
        let (result, reason) = match trouble {
            Trouble::Waiting | Trouble::Secret(SecretError::Unreadable(_)) => {
                (SECRET_UNREADABLE, ESM_CONFIG)
            }
            Trouble::Secret(SecretError::Unreachable(_)) => (NO_ROUTE, ESM_CONFIG),
            Trouble::Secret(SecretError::RoleRefused(_)) => (ROLE_REFUSED, FUNCTION_CONFIG),
            Trouble::Invalid(_) => (KEY_INVALID, ESM_CONFIG),
        };
        Self {
            result: result.to_owned(),
            reason,
            detail: trouble.detail().to_owned(),
        }
    }

    /// Of a mapping of which nothing is known yet.
    pub(super) fn idle() -> Self {
        Self {
            result: "No records processed".to_owned(),
            reason: USER_INITIATED,
            detail: String::new(),
        }
    }

    fn unsigned() -> Self {
        Self {
            result: CALL_FAILED.to_owned(),
            reason: FUNCTION_CONFIG,
            detail: NO_CREDENTIALS.to_owned(),
        }
    }

    /// Whether an operator should look.
    pub(super) fn is_problem(&self) -> bool {
        !self.detail.is_empty()
    }

    fn of_fault(fault: &Fault, topic: &str) -> Self {
        let own;
        let (result, reason, detail) = match fault {
            Fault::ClusterUnreachable(detail) | Fault::BrokerUnreachable(detail) => {
                (CONNECTION, ESM_CONFIG, detail.as_str())
            }
            Fault::AuthenticationFailed(detail) => (SASL_FAILED, AUTHENTICATION, detail.as_str()),
            Fault::ServerNotTrusted(detail) => {
                (SERVER_NOT_TRUSTED, AUTHENTICATION, detail.as_str())
            }
            Fault::ClientNotTrusted(detail) => {
                (CLIENT_NOT_TRUSTED, AUTHENTICATION, detail.as_str())
            }
            // AWS has a code for it, but no text, and that of a broken connection misleads.
            Fault::TopicMissing => {
                own = format!("PROBLEM: Topic {topic} does not exist.");
                let advice = "create it, which is noticed soon, or correct Topics and reload";
                (own.as_str(), ESM_CONFIG, advice)
            }
            Fault::NoTimestamps => {
                own = format!("PROBLEM: Topic {topic} has no timestamps to start at.");
                (own.as_str(), ESM_CONFIG, NO_TIMESTAMPS)
            }
            Fault::NotAuthorized(detail) => (NOT_AUTHORIZED, AUTHORIZATION, detail.as_str()),
            Fault::Incompatible(detail) | Fault::InconsistentGroup(detail) => {
                (CONNECTION, ESM_CONFIG, detail.as_str())
            }
            Fault::FunctionFailing(detail) | Fault::FunctionUnavailable(detail) => {
                (CALL_FAILED, USER_INITIATED, detail.as_str())
            }
            Fault::FunctionRefused(detail) => (CALL_FAILED, FUNCTION_CONFIG, detail.as_str()),
            Fault::DestinationFailing(detail) => {
                (DESTINATION_FAILED, FUNCTION_CONFIG, detail.as_str())
            }
            // AWS has no text for a partition that stands still; the offset is in ours.
            Fault::LaneHalted(detail) => {
                own = format!("PROBLEM: {}.", detail.trim_end_matches('.'));
                (own.as_str(), USER_INITIATED, detail.as_str())
            }
        };
        Self {
            result: result.to_owned(),
            reason,
            // A fault without words is a fault all the same.
            detail: if detail.is_empty() { result } else { detail }.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: Fault, result: &str, reason: &str) {
        let verdict = Verdict::of_fault(&fault, "orders");
        assert_eq!((verdict.result.as_str(), verdict.reason), (result, reason));
        assert!(verdict.is_problem());
    }

    #[test]
    fn faults_have_the_texts_of_the_contract() {
        check(
            Fault::ClusterUnreachable(String::new()),
            CONNECTION,
            "ESM_CONFIG_NOT_VALID",
        );
        check(
            Fault::TopicMissing,
            "PROBLEM: Topic orders does not exist.",
            "ESM_CONFIG_NOT_VALID",
        );
        check(
            Fault::NoTimestamps,
            "PROBLEM: Topic orders has no timestamps to start at.",
            "ESM_CONFIG_NOT_VALID",
        );
        check(
            Fault::NotAuthorized(String::new()),
            "PROBLEM: Cluster failed to authorize Lambda.",
            "EVENT_SOURCE_AUTHZ_ERROR",
        );
        check(
            Fault::AuthenticationFailed("broker a:1: PLAIN".to_owned()),
            "PROBLEM: SASL authentication failed.",
            "EVENT_SOURCE_AUTHN_ERROR",
        );
        check(
            Fault::ServerNotTrusted(String::new()),
            "PROBLEM: Lambda failed to authenticate server.",
            "EVENT_SOURCE_AUTHN_ERROR",
        );
        check(
            Fault::ClientNotTrusted(String::new()),
            "PROBLEM: Server failed to authenticate Lambda.",
            "EVENT_SOURCE_AUTHN_ERROR",
        );
        check(
            Fault::FunctionRefused("404".to_owned()),
            "PROBLEM: Function call failed",
            "FUNCTION_CONFIG_NOT_VALID",
        );
        check(
            Fault::LaneHalted("partition 3 stands at offset 7".to_owned()),
            "PROBLEM: partition 3 stands at offset 7.",
            "USER_INITIATED",
        );
    }

    #[test]
    fn secrets_have_the_texts_of_the_contract_too() {
        let check = |trouble: Trouble, begins: &str, reason: &str| {
            let verdict = Verdict::of_trouble(&trouble);
            assert!(verdict.result.starts_with(begins), "{verdict:?}");
            assert_eq!(verdict.reason, reason);
            assert!(verdict.is_problem());
        };
        let secret = |error: fn(String) -> SecretError| Trouble::Secret(error("why".to_owned()));
        check(
            secret(SecretError::Unreachable),
            "PROBLEM: Connection error. Your event source VPC must be able to connect to Lambda and STS,",
            "ESM_CONFIG_NOT_VALID",
        );
        check(
            secret(SecretError::RoleRefused),
            "PROBLEM: Lambda failed to assume your function execution role.",
            "FUNCTION_CONFIG_NOT_VALID",
        );
        check(
            secret(SecretError::Unreadable),
            "PROBLEM: A secret or ca_bundle cannot be read.",
            "ESM_CONFIG_NOT_VALID",
        );
        check(
            Trouble::Invalid("why".to_owned()),
            "PROBLEM: Provided certificate or private key is invalid.",
            "ESM_CONFIG_NOT_VALID",
        );
    }

    #[test]
    fn a_mapping_that_did_nothing_yet_says_so() {
        let verdict = Verdict::of([].into_iter(), "orders", false);
        assert_eq!(verdict.result, "No records processed");
    }

    #[test]
    fn credentials_that_are_missing_are_a_problem_before_the_first_call() {
        let verdict = Verdict::of([].into_iter(), "orders", true);
        assert_eq!(verdict.reason, "FUNCTION_CONFIG_NOT_VALID");
        assert!(
            verdict.detail.contains("set AWS_ACCESS_KEY_ID"),
            "{verdict:?}"
        );
    }
}
