//! What became of a call (contract section 3; decisions 8, 11, 28).

use std::time::Duration;

use bytes::Bytes;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx without `X-Amz-Function-Error`: the only success.
    Success {
        /// The function's own answer.
        body: Bytes,
    },
    /// The function ran and failed: consumes an attempt.
    FunctionError {
        /// `X-Amz-Function-Error`.
        kind: String,
        /// The error document.
        body: Bytes,
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
