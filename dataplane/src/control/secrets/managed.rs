//! Secrets of AWS Secrets Manager.
//!
//! Source: AWS Secrets Manager API Reference, "GetSecretValue".
//!
//! Invariant: of an answer that is no secret only what AWS says of the error is repeated.

use bytes::Bytes;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::SecretError;
use crate::config::Service;
use crate::control::aws::{Aws, AwsError, Call, is_about_keys};
use crate::control::http::{ANSWER_BYTES_MAX, Answer, CALL_TIMEOUT};
use crate::control::secret::document::SECRET_BYTES_MAX;
use crate::mapping::ManagedSecret;

const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/x-amz-json-1.1"),
    ("x-amz-target", "secretsmanager.GetSecretValue"),
];

#[derive(Deserialize)]
struct Value {
    #[serde(rename = "SecretString")]
    text: Option<Zeroized>,
    /// In base64.
    #[serde(rename = "SecretBinary")]
    binary: Option<Zeroized>,
}

/// A string that is wiped, wherever reading its neighbours ends.
struct Zeroized(Zeroizing<String>);

impl<'de> Deserialize<'de> for Zeroized {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(from)?)))
    }
}

/// The text of one.
pub(super) async fn read(
    aws: &Aws,
    secret: &ManagedSecret,
) -> Result<Zeroizing<String>, SecretError> {
    let body = Bytes::from(serde_json::json!({ "SecretId": secret.arn }).to_string());
    let call = Call {
        service: Service::SecretsManager,
        region: &secret.region,
        role_arn: secret.role_arn.as_deref(),
        headers: &HEADERS,
        body: &body,
        timeout: CALL_TIMEOUT,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let arn = &secret.arn;
    let mut answer = aws.post(call).await.map_err(|error| match error {
        AwsError::Unable(reason) | AwsError::KeysRefused(reason) => SecretError::Unreadable(format!("{arn}: {reason}")),
        AwsError::Role(reason) => SecretError::RoleRefused(format!("{arn}: {reason}")),
        AwsError::Unreachable(reason) => SecretError::Unreachable(format!(
            "{arn}: {reason}; open the way to it, set HTTPS_PROXY, or name another endpoint in [endpoint_urls]"
        )),
    })?;
    let text = value(&answer, secret);
    answer.body.zeroize();
    text.map_err(SecretError::Unreadable)
}

fn value(answer: &Answer, secret: &ManagedSecret) -> Result<Zeroizing<String>, String> {
    let arn = &secret.arn;
    if answer.status != 200 {
        return Err(format!("{arn}: {}", refused(answer, secret)));
    }
    // Why not serde's own words: they may quote what they complain of.
    let not_json = || format!("{arn}: Secrets Manager's answer is not that of GetSecretValue");
    let value: Value = serde_json::from_slice(&answer.body).map_err(|_| not_json())?;
    let text = match (value.text, value.binary) {
        (Some(text), _) => text.0,
        (None, Some(binary)) => of_binary(&binary.0)
            .ok_or_else(|| format!("{arn} holds bytes that are no text; store it as a string"))?,
        (None, None) => return Err(format!("{arn} holds nothing")),
    };
    match text.len() > SECRET_BYTES_MAX {
        true => Err(format!("{arn} has more than {SECRET_BYTES_MAX} bytes")),
        false => Ok(text),
    }
}

fn of_binary(base64: &str) -> Option<Zeroizing<String>> {
    let bytes = base64_simd::STANDARD
        .decode_to_vec(base64.as_bytes())
        .ok()?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

/// What the service says, and what to do.
fn refused(answer: &Answer, secret: &ManagedSecret) -> String {
    let refusal = answer.refusal();
    let (kind, message) = (refusal.kind(), refusal.message());
    let is_about_kms = message.to_ascii_lowercase().contains("kms");
    let who = match &secret.role_arn {
        Some(role_arn) => role_arn.as_str(),
        None => "the node's principal",
    };
    let advice = match kind {
        "AccessDenied" if is_about_kms => {
            format!("allow kms:Decrypt on the secret's key to {who}")
        }
        "AccessDenied" => format!("allow secretsmanager:GetSecretValue on it to {who}"),
        "DecryptionFailure" => {
            format!("enable the secret's key, and allow kms:Decrypt on it to {who}")
        }
        "ResourceNotFound" => {
            "correct the ARN in SourceAccessConfigurations, or give the secret a value".to_owned()
        }
        "InvalidRequest" => "restore the secret, or name another".to_owned(),
        kind if is_about_keys(kind) => format!(
            "the keys of {who} are no good; renew them, and see that this machine's clock is right"
        ),
        _ => "it is asked again".to_owned(),
    };
    format!("Secrets Manager answers {}; {advice}", answer.said())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> ManagedSecret {
        ManagedSecret {
            arn: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:k".to_owned(),
            region: "eu-central-1".to_owned(),
            role_arn: None,
        }
    }

    #[track_caller]
    fn check(status: u16, body: &str, expected: Result<&str, &str>) {
        let body = body.as_bytes().to_vec();
        let found = value(
            &Answer {
                status,
                body,
                ..Answer::default()
            },
            &secret(),
        );
        match (&found, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text.as_str(), expected),
            (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
            _ => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_secret_is_text_or_bytes_that_are_text() {
        check(
            200,
            r#"{"ARN":"a","SecretString":"{\"a\":1}"}"#,
            Ok("{\"a\":1}"),
        );
        check(200, r#"{"SecretBinary":"e30="}"#, Ok("{}"));
        check(200, r#"{"SecretBinary":"/w=="}"#, Err("no text"));
        check(200, r#"{"Name":"a"}"#, Err("holds nothing"));
        check(200, "<html>", Err("not that of GetSecretValue"));
        let long = format!(
            r#"{{"SecretString":"{}"}}"#,
            "x".repeat(SECRET_BYTES_MAX + 1)
        );
        check(200, &long, Err("more than 65536 bytes"));
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let denied = r#"{"__type":"AccessDeniedException","Message":"User: u is not authorized"}"#;
        check(
            400,
            denied,
            Err(
                "(User: u is not authorized); allow secretsmanager:GetSecretValue on it to the node",
            ),
        );
        let kms = r#"{"__type":"AccessDeniedException","Message":"Access to KMS is not allowed"}"#;
        check(400, kms, Err("allow kms:Decrypt"));
        let missing = r#"{"__type":"com.amazonaws#ResourceNotFoundException","message":"no"}"#;
        check(
            400,
            missing,
            Err("HTTP 400, ResourceNotFound (no); correct the ARN"),
        );
        check(500, "oops", Err("HTTP 500; it is asked again"));
    }
}
