//! What an answer that is an error says, in words that a status or a log can show.
//!
//! Sources: the AWS restJson1 protocol (where an error's code and text stand); the AWS Lambda Developer
//! Guide (a function's `errorType` and `errorMessage`).
//!
//! Invariant: any bytes give a text, of one line and a bounded length.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::limits::{ERROR_BODY_BYTES_MAX, ERROR_TEXT_CHARS_MAX};

/// What an error's body says.
#[derive(Default)]
pub(super) struct ErrorDocument {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl ErrorDocument {
    pub(super) fn read(body: &Bytes) -> Self {
        let known = body.get(..ERROR_BODY_BYTES_MAX).unwrap_or(body);
        let Ok(Value::Object(members)) = serde_json::from_slice(known) else {
            return Self {
                message: shortened(&String::from_utf8_lossy(known)),
                ..Self::default()
            };
        };
        let text = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| members.get(*name)?.as_str());
            found.unwrap_or_default()
        };
        let retry_after = members
            .get("retryAfterSeconds")
            .and_then(|value| match value {
                Value::String(text) => seconds(text),
                other => other.as_u64().map(Duration::from_secs),
            });
        Self {
            code: shortened(bare_code(text(["__type", "code"]))),
            message: shortened(text(["message", "Message"])),
            retry_after,
        }
    }
}

/// The type and the message of a function's error document, as the contract's section 3.2 shows it.
pub(super) fn describe_function_error(kind: &str, body: &Bytes) -> String {
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let member = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match (member("errorType"), member("errorMessage")) {
        ("", "") => format!("{kind}: {}", shortened(&String::from_utf8_lossy(body))),
        ("", message) => format!("{kind}: {}", shortened(message)),
        (error_type, "") => shortened(error_type),
        (error_type, message) => format!("{}: {}", shortened(error_type), shortened(message)),
    }
}

/// `404 ResourceNotFoundException: Function not found: ..`, without what there is not.
pub(super) fn describe(status: u16, code: &str, message: &str) -> String {
    match (code, message) {
        ("", "") => format!("HTTP status {status}"),
        ("", message) => format!("HTTP status {status}: {message}"),
        (code, "") => format!("HTTP status {status} {code}"),
        (code, message) => format!("HTTP status {status} {code}: {message}"),
    }
}

/// A code without the namespace before `#` and the address after `:`.
pub(super) fn bare_code(text: &str) -> &str {
    let text = text.split_once(':').map_or(text, |(code, _)| code);
    text.rsplit_once('#').map_or(text, |(_, code)| code).trim()
}

/// Whole seconds. An HTTP date has no meaning here: no clock is read.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// A text that a status or a log can show: one line, and not long.
pub(super) fn shortened(text: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    let mut short: String = text.chars().take(ERROR_TEXT_CHARS_MAX).map(plain).collect();
    if text.chars().nth(ERROR_TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short.trim().to_owned()
}

/// An error document that may be kept: a long one does not hold on to its memory.
pub(super) fn capped(body: &Bytes) -> Bytes {
    match body.get(..ERROR_BODY_BYTES_MAX) {
        Some(beginning) => Bytes::copy_from_slice(beginning),
        None => body.clone(),
    }
}
