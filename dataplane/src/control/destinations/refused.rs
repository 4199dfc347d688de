//! Why a service has not done what it was asked for, in its words, and what to do about it.
//!
//! Source: the error tables of the Amazon SQS, SNS and S3 API References.
//!
//! Invariant: of an answer only the error's name and message are repeated, which AWS makes for people.

use super::Way;
use super::bucket::elsewhere;
use crate::config::Service;
use crate::control::aws::{AwsError, is_about_keys};
use crate::control::http::Answer;

/// What a service is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Action {
    pub(in crate::control) service: Service,
    /// What the caller must be allowed to do,
    pub(in crate::control) permission: &'static str,
    /// and on a key that encrypts what is there.
    pub(in crate::control) on_key: &'static str,
    /// What to correct where it is not there.
    pub(in crate::control) named_by: &'static str,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum Refused {
    /// For its size alone.
    #[error("{0}")]
    TooLarge(String),
    /// For any other reason.
    #[error("{0}")]
    Otherwise(String),
}

/// What is behind a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Cause {
    /// Keys that are no good.
    Keys,
    /// The key that encrypts what it holds.
    Encryption,
    /// A permission.
    Denied,
    /// It is not there.
    Missing,
    /// It wants an order.
    Fifo,
    /// It is in another region.
    Elsewhere,
    /// The document's size.
    Size,
    /// The service itself.
    Other,
}

impl Action {
    /// Documents are read, and removed, where an operator says that they are.
    pub(in crate::control) fn reading(service: Service, permission: &'static str) -> Self {
        Self {
            service,
            permission,
            on_key: "kms:Decrypt",
            named_by: "--from",
        }
    }

    /// A document is written.
    pub(super) fn writing(service: Service) -> Self {
        Self {
            service,
            permission: match service {
                Service::Sqs => "sqs:SendMessage",
                Service::Sns => "sns:Publish",
                _ => "s3:PutObject",
            },
            on_key: match service {
                Service::S3 => "kms:GenerateDataKey",
                _ => "kms:GenerateDataKey and kms:Decrypt",
            },
            named_by: "DestinationConfig",
        }
    }
}

impl Refused {
    /// What a service has answered.
    pub(in crate::control) fn of(action: Action, answer: &Answer, way: Way<'_>) -> Self {
        let cause = Cause::of(answer);
        let service = action.service;
        let advice = match (cause, elsewhere(answer)) {
            (Cause::Elsewhere, Some(region)) => format!(
                "it is in {region}, where the endpoint is not; correct s3 in [endpoint_urls]"
            ),
            _ => advice(action, cause, way.who()),
        };
        let said = format!("{} answers {}; {advice}", service.title(), answer.said());
        match cause {
            Cause::Size => Self::TooLarge(said),
            _ => Self::Otherwise(said),
        }
    }

    /// There was no answer.
    pub(in crate::control) fn unanswered(error: AwsError) -> Self {
        Self::Otherwise(match error {
            AwsError::Unreachable(reason) => format!(
                "{reason}; open the way to it, set HTTPS_PROXY, or name another endpoint in [endpoint_urls]"
            ),
            AwsError::Unable(reason) | AwsError::Role(reason) | AwsError::KeysRefused(reason) => {
                reason
            }
        })
    }

    /// An answer that is well and is not the one that was to come.
    pub(in crate::control) fn stranger(service: Service, action: &str) -> Self {
        let service = service.title();
        Self::Otherwise(format!(
            "the answer is not {service}'s to {action}; correct [endpoint_urls] or the proxy"
        ))
    }
}

impl Cause {
    pub(in crate::control) fn of(answer: &Answer) -> Self {
        let refusal = answer.refusal();
        let (kind, message) = (refusal.kind(), refusal.message());
        let is_about_kms = |text: &str| text.to_ascii_lowercase().contains("kms");
        match kind {
            // A name that tells nothing more, or none: HEAD has no body.
            "" => match answer.status {
                301 | 307 => Self::Elsewhere,
                403 => Self::Denied,
                404 => Self::Missing,
                413 => Self::Size,
                _ => Self::Other,
            },
            _ if is_about_keys(kind) => Self::Keys,
            _ if is_about_kms(kind) || is_about_kms(&message) => Self::Encryption,
            "AccessDenied" | "AuthorizationError" | "NotAuthorized" | "AllAccessDisabled" => {
                Self::Denied
            }
            "QueueDoesNotExist"
            | "AWS.SimpleQueueService.NonExistentQueue"
            | "NotFound"
            | "NoSuchBucket" => Self::Missing,
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
                Self::Elsewhere
            }
            "EntityTooLarge" | "RequestEntityTooLarge" => Self::Size,
            _ if message.contains("MessageGroupId") => Self::Fifo,
            _ if message.contains("must be shorter than") || message.contains("too long") => {
                Self::Size
            }
            _ if answer.status == 413 => Self::Size,
            _ => Self::Other,
        }
    }
}

fn advice(action: Action, cause: Cause, who: &str) -> String {
    let Action {
        service,
        permission,
        on_key,
        named_by,
    } = action;
    match cause {
        Cause::Keys => format!(
            "the keys of {who} are no good; renew them, and see that this machine's clock is right"
        ),
        Cause::Encryption => {
            format!("allow {on_key} on the key that encrypts it to {who}, and enable that key")
        }
        Cause::Denied => {
            format!("allow {permission} on it to {who}, in its own policy as well if it has one")
        }
        Cause::Missing => format!("create it, or correct {named_by}"),
        Cause::Fifo => {
            "it is FIFO, which no failure destination can be; name a standard one".to_owned()
        }
        Cause::Elsewhere => "it is in another region; name one in the function's region".to_owned(),
        Cause::Size => match service {
            Service::Sqs => "raise its MaximumMessageSize".to_owned(),
            _ => "raise what whoever answers there takes".to_owned(),
        },
        Cause::Other => "it may pass by itself".to_owned(),
    }
}
