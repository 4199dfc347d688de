//! What became of a call (contract section 3; decisions 8, 11, 28).
//!
//! [`classify`] reads an HTTP answer; a connection that broke is the shell's to tell
//! ([`Outcome::Broken`]).
//!
//! Source: the AWS Lambda API reference, "Invoke" (errors, their codes and statuses).
//!
//! Invariant: the only success is a 2xx without `X-Amz-Function-Error`; an answer of any other kind has
//! an outcome too, whatever its bytes.

use std::time::Duration;

use bytes::Bytes;

use super::error_document::{
    ErrorDocument, bare_code, capped, describe, describe_function_error, seconds, shortened,
};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx without `X-Amz-Function-Error`: the only success.
    Success {
        /// The function's own answer.
        body: Bytes,
        /// Which run of it that was.
        execution: Execution,
    },
    /// The function ran and failed: consumes an attempt.
    FunctionError {
        /// `X-Amz-Function-Error`.
        kind: String,
        /// The error document; of a long one, the first
        /// [`ERROR_BODY_BYTES_MAX`](crate::limits::ERROR_BODY_BYTES_MAX) bytes.
        body: Bytes,
        /// Which run of it that was.
        execution: Execution,
    },
    /// 429: it never ran; back off and call less at once.
    Throttled {
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
        /// The service's words.
        message: String,
    },
    /// 5xx and the like: back off.
    ServiceError {
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
        /// The service's words, with the status.
        message: String,
    },
    /// 413: the body is too large for the endpoint.
    TooLarge {
        /// The service's words.
        message: String,
    },
    /// 4xx that an operator must mend (function missing, access denied, misconfigured): retried slowly.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The service's error code, where it gave one.
        code: String,
        /// The service's words.
        message: String,
    },
    /// The connection broke, timed out or gave half an answer; the function may have run.
    Broken {
        /// What happened.
        reason: String,
    },
}

/// A run of the function, as its endpoint tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// The HTTP status.
    pub status: u16,
    /// `x-amzn-RequestId`; empty where there is none.
    pub request_id: String,
    /// `X-Amz-Executed-Version`; empty where there is none.
    pub executed_version: String,
}

impl Outcome {
    /// What went wrong, for a status or a log; `None` for a success. Of a function's error document it
    /// has the type and the message.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Success { .. } => None,
            Self::FunctionError { kind, body, .. } => Some(describe_function_error(kind, body)),
            Self::Throttled { message, .. }
            | Self::ServiceError { message, .. }
            | Self::TooLarge { message } => Some(message.clone()),
            Self::Refused {
                status,
                code,
                message,
            } => Some(describe(*status, code, message)),
            Self::Broken { reason } => Some(reason.clone()),
        }
    }

    /// Whether newer credentials might mend it: they are asked for before the operator is (contract 3.3).
    pub fn is_about_credentials(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                matches!(status, 401 | 403) && !code.contains("MountFailure")
            }
            _ => false,
        }
    }
}

/// What [`classify`] needs of an HTTP answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// `X-Amz-Function-Error`; its mere presence counts.
    pub function_error: Option<&'a str>,
    /// `Retry-After`.
    pub retry_after: Option<&'a str>,
    /// `x-amzn-ErrorType`.
    pub error_type: Option<&'a str>,
    /// `x-amzn-RequestId`.
    pub request_id: Option<&'a str>,
    /// `X-Amz-Executed-Version`.
    pub executed_version: Option<&'a str>,
    /// The whole body.
    pub body: &'a Bytes,
}

/// Who must act on an error, as the contract's section 3.3 has it.
enum Class {
    Throttle,
    Transient,
    Oversize,
    Configuration,
}

/// What an answer means.
pub fn classify(answer: &Answer<'_>) -> Outcome {
    if (200..300).contains(&answer.status) {
        let execution = Execution {
            status: answer.status,
            request_id: answer.request_id.map(shortened).unwrap_or_default(),
            executed_version: answer.executed_version.map(shortened).unwrap_or_default(),
        };
        return match answer.function_error {
            None => Outcome::Success {
                body: answer.body.clone(),
                execution,
            },
            Some(kind) => Outcome::FunctionError {
                kind: shortened(kind),
                body: capped(answer.body),
                execution,
            },
        };
    }
    let document = ErrorDocument::read(answer.body);
    let code = match answer.error_type.map(bare_code) {
        Some(code) if !code.is_empty() => shortened(code),
        _ => document.code,
    };
    let status = answer.status;
    let message = document.message;
    let retry_after = answer
        .retry_after
        .and_then(seconds)
        .or(document.retry_after);
    match class(status, &code) {
        Class::Throttle => Outcome::Throttled {
            retry_after,
            message: describe(status, &code, &message),
        },
        Class::Transient => Outcome::ServiceError {
            retry_after,
            message: describe(status, &code, &message),
        },
        Class::Oversize => Outcome::TooLarge {
            message: describe(status, &code, &message),
        },
        Class::Configuration => Outcome::Refused {
            status,
            code,
            message,
        },
    }
}

/// Codes rule where they say more than the status does.
fn class(status: u16, code: &str) -> Class {
    match code {
        "TooManyRequestsException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "SlowDown" => return Class::Throttle,
        "RequestTooLargeException"
        | "RequestEntityTooLargeException"
        | "SerializedRequestEntityTooLargeException" => return Class::Oversize,
        "SnapStartException" => return Class::Transient,
        "RuntimeAliasDeleted"
        | "RuntimeVersionDeleted"
        | "CodeArtifactUserDeleted"
        | "CodeArtifactUserFailed"
        | "SnapStartRegenerationFailure"
        | "DurableExecutionAlreadyStarted"
        | "RuntimeAliasDeletedException"
        | "RuntimeVersionDeletedException"
        | "CodeArtifactUserDeletedException"
        | "CodeArtifactUserFailedException"
        | "SnapStartRegenerationFailureException"
        | "DurableExecutionAlreadyStartedException"
        | "EC2AccessDeniedException"
        | "InvalidSecurityGroupIDException"
        | "InvalidSubnetIDException"
        | "InvalidRuntimeException"
        | "InvalidZipFileException"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException" => return Class::Configuration,
        _ => {}
    }
    match status {
        429 => Class::Throttle,
        413 => Class::Oversize,
        408..=410 | 500.. => Class::Transient,
        _ => Class::Configuration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ERROR_BODY_BYTES_MAX, ERROR_TEXT_CHARS_MAX};

    fn answer<'a>(status: u16, error_type: Option<&'a str>, body: &'a Bytes) -> Answer<'a> {
        Answer {
            status,
            function_error: None,
            retry_after: None,
            error_type,
            request_id: None,
            executed_version: None,
            body,
        }
    }

    /// `T`, `R`, `S` or `C`, as in the contract's table.
    fn class_of(status: u16, code: &str) -> char {
        match classify(&answer(status, Some(code), &Bytes::new())) {
            Outcome::Throttled { .. } => 'T',
            Outcome::ServiceError { .. } => 'R',
            Outcome::TooLarge { .. } => 'S',
            Outcome::Refused { .. } => 'C',
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_2xx_without_function_error_is_a_success() {
        let body = Bytes::from_static(b"null");
        for status in [200, 202, 204, 299] {
            let outcome = classify(&answer(status, None, &body));
            let execution = Execution {
                status,
                ..Execution::default()
            };
            let expected = Outcome::Success {
                body: body.clone(),
                execution,
            };
            assert_eq!(outcome, expected);
            let failed = Answer {
                function_error: Some("Unhandled"),
                ..answer(status, None, &body)
            };
            assert!(matches!(classify(&failed), Outcome::FunctionError { .. }));
        }
        for status in [100, 199, 300, 302, 304, 400, 404, 500, 599, 999] {
            assert!(!matches!(
                classify(&answer(status, None, &body)),
                Outcome::Success { .. }
            ));
        }
    }

    #[test]
    fn every_error_of_the_catalogue_has_its_class() {
        for (status, class, codes) in [
            (
                400,
                'C',
                "InvalidParameterValueException InvalidRequestContentException",
            ),
            (
                400,
                'C',
                "RecursiveInvocationException NoPublishedVersionException",
            ),
            (400, 'C', "ModeNotSupportedException ValidationException"),
            (400, 'R', "SnapStartException"),
            (402, 'C', "ServiceQuotaExceededException"),
            (
                403,
                'C',
                "AccessDeniedException ExpiredTokenException InvalidSignatureException",
            ),
            (
                403,
                'C',
                "UnrecognizedClientException EFSMountFailureException",
            ),
            (404, 'C', "ResourceNotFoundException"),
            (
                408,
                'R',
                "SnapStartTimeoutException EFSMountTimeoutException",
            ),
            (408, 'R', "EFSMountConnectivityException"),
            (
                409,
                'R',
                "ResourceConflictException SnapStartNotReadyException",
            ),
            (409, 'R', "CodeArtifactUserPendingException"),
            (
                409,
                'C',
                "RuntimeAliasDeleted RuntimeVersionDeleted CodeArtifactUserDeleted",
            ),
            (
                409,
                'C',
                "CodeArtifactUserFailed SnapStartRegenerationFailure",
            ),
            (409, 'C', "DurableExecutionAlreadyStarted"),
            (410, 'R', "EFSIOException"),
            (
                413,
                'S',
                "RequestTooLargeException RequestEntityTooLargeException",
            ),
            (
                413,
                'S',
                "SerializedRequestEntityTooLargeException Whatever",
            ),
            (415, 'C', "UnsupportedMediaTypeException"),
            (429, 'T', "TooManyRequestsException Whatever"),
            (500, 'R', "ServiceException"),
            (
                502,
                'R',
                "EC2ThrottledException EC2UnexpectedException ENINotReadyException",
            ),
            (
                502,
                'R',
                "ENILimitReachedException SubnetIPAddressLimitReachedException",
            ),
            (502, 'R', "ResourceNotReadyException Whatever"),
            (
                502,
                'C',
                "EC2AccessDeniedException InvalidSecurityGroupIDException",
            ),
            (502, 'C', "InvalidSubnetIDException InvalidRuntimeException"),
            (502, 'C', "InvalidZipFileException KMSAccessDeniedException"),
            (
                502,
                'C',
                "KMSDisabledException KMSInvalidStateException KMSNotFoundException",
            ),
            (503, 'R', "Whatever"),
            (504, 'R', "Whatever"),
            (400, 'T', "ThrottlingException"),
            (302, 'C', "Whatever"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(class_of(status, code), class, "{status} {code}");
            }
        }
    }

    #[test]
    fn the_code_comes_from_the_header_without_its_trimmings() {
        let body = Bytes::from_static(br#"{"__type":"Other","Message":"no such function"}"#);
        let expected = Outcome::Refused {
            status: 404,
            code: "ResourceNotFoundException".to_owned(),
            message: "no such function".to_owned(),
        };
        for header in [
            "ResourceNotFoundException",
            "ResourceNotFoundException:http://internal.amazon.com/x#y/",
            "com.amazonaws.lambda#ResourceNotFoundException",
            "com.amazonaws.lambda#ResourceNotFoundException:http://x/",
        ] {
            assert_eq!(classify(&answer(404, Some(header), &body)), expected);
        }
    }

    #[test]
    fn the_code_comes_from_the_body_where_the_header_has_none() {
        for body in [
            r#"{"__type":"a.b#ExpiredTokenException","message":"m"}"#,
            r#"{"code":"ExpiredTokenException:http://x","Message":"m"}"#,
        ] {
            let outcome = classify(&answer(403, Some(" "), &Bytes::from(body)));
            let expected = Outcome::Refused {
                status: 403,
                code: "ExpiredTokenException".to_owned(),
                message: "m".to_owned(),
            };
            assert_eq!(outcome, expected);
            assert!(outcome.is_about_credentials());
        }
    }

    #[test]
    fn retry_after_comes_from_the_header_or_the_body() {
        #[track_caller]
        fn check(header: Option<&str>, body: &str, expected: Option<u64>) {
            let body = Bytes::from(body.to_owned());
            let throttled = Answer {
                retry_after: header,
                ..answer(429, Some("TooManyRequestsException"), &body)
            };
            let Outcome::Throttled { retry_after, .. } = classify(&throttled) else {
                panic!("a 429 is a throttle");
            };
            assert_eq!(retry_after, expected.map(Duration::from_secs));
        }
        check(Some("7"), r#"{"retryAfterSeconds":9}"#, Some(7));
        check(Some(" 7 "), "", Some(7));
        check(None, r#"{"retryAfterSeconds":9}"#, Some(9));
        check(None, r#"{"retryAfterSeconds":"9"}"#, Some(9));
        check(Some("Fri, 31 Dec 1999 23:59:59 GMT"), "", None);
        check(Some("-1"), r#"{"retryAfterSeconds":-1}"#, None);
        check(None, "[]", None);
        check(Some("99999999999999999999"), "", None);
    }

    #[test]
    fn an_error_that_is_not_json_still_has_words() {
        let body = Bytes::from_static(b"<html>\nBad gateway\xff</html>");
        let Outcome::ServiceError { message, .. } = classify(&answer(502, None, &body)) else {
            panic!("a 502 is a service error");
        };
        assert_eq!(
            message,
            "HTTP status 502: <html> Bad gateway\u{fffd}</html>"
        );
    }

    #[test]
    fn long_words_and_long_documents_are_cut() {
        let long = Bytes::from(vec![b'x'; 2 * ERROR_BODY_BYTES_MAX]);
        let failed = Answer {
            function_error: Some("Unhandled"),
            ..answer(200, None, &long)
        };
        let outcome = classify(&failed);
        let Outcome::FunctionError { body, .. } = &outcome else {
            panic!("a function error");
        };
        assert_eq!(body.len(), ERROR_BODY_BYTES_MAX);
        assert!(outcome.reason().unwrap().chars().count() < ERROR_TEXT_CHARS_MAX + 20);
        let Outcome::Refused { message, .. } = classify(&answer(400, None, &long)) else {
            panic!("a refusal");
        };
        assert_eq!(message.chars().count(), ERROR_TEXT_CHARS_MAX + 1);
        let type_header = "x".repeat(2 * ERROR_TEXT_CHARS_MAX);
        let empty = Bytes::new();
        let answer = answer(400, Some(&type_header), &empty);
        let Outcome::Refused { code, .. } = classify(&answer) else {
            panic!("a refusal");
        };
        assert_eq!(code.chars().count(), ERROR_TEXT_CHARS_MAX + 1);
    }

    #[test]
    fn a_function_error_is_described_by_its_document() {
        #[track_caller]
        fn check(body: &'static str, expected: &str) {
            let outcome = Outcome::FunctionError {
                kind: "Unhandled".to_owned(),
                body: Bytes::from_static(body.as_bytes()),
                execution: Execution::default(),
            };
            assert_eq!(outcome.reason().unwrap(), expected);
            assert!(!outcome.is_about_credentials());
        }
        check(
            r#"{"errorMessage":"Task timed out","errorType":"Sandbox.Timedout","stackTrace":[]}"#,
            "Sandbox.Timedout: Task timed out",
        );
        check(r#"{"errorType":"Runtime.ExitError"}"#, "Runtime.ExitError");
        check(r#"{"errorMessage":"m"}"#, "Unhandled: m");
        check("oops", "Unhandled: oops");
    }

    #[test]
    fn mount_failures_and_missing_functions_are_not_about_credentials() {
        for (status, code, expected) in [
            (403, "AccessDeniedException", true),
            (403, "UnrecognizedClientException", true),
            (401, "", true),
            (403, "EFSMountFailureException", false),
            (403, "S3FilesMountFailureException", false),
            (404, "ResourceNotFoundException", false),
        ] {
            let outcome = classify(&answer(status, Some(code), &Bytes::new()));
            assert_eq!(outcome.is_about_credentials(), expected, "{code}");
        }
    }
}
