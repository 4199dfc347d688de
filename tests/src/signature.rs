//! Checks a request's SigV4 signature by signing it anew with aws-sigv4.
//!
//! Invariant: every header that the request says it signed is signed again, no other.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use crate::fake_lambda::Head;

/// The keys that callers must sign with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// The region.
    pub region: String,
}

/// Why a request of that service is not signed as it should be, or nothing.
pub(crate) fn check(head: &Head, body: &[u8], service: &str, keys: &Keys) -> Result<(), String> {
    let given = head
        .header("authorization")
        .ok_or("no authorization header")?;
    let field = |name: &str| {
        let from = given.find(name)? + name.len();
        let rest = given.get(from..)?;
        rest.split(',').next().map(str::trim)
    };
    let credential = field("Credential=").ok_or("no credential")?;
    let signed = field("SignedHeaders=").ok_or("no signed headers")?;
    let scope: Vec<_> = credential.split('/').collect();
    let [id, date, region, signed_for, "aws4_request"] = scope.as_slice() else {
        return Err(format!("credential scope is {credential}"));
    };
    if *id != keys.access_key_id || *region != keys.region || *signed_for != service {
        return Err(format!("credential is {id} in {region} for {signed_for}"));
    }
    if head.header("x-amz-security-token") != keys.session_token.as_deref() {
        return Err("the session token is not the one".to_owned());
    }
    let at = head.header("x-amz-date").ok_or("no x-amz-date header")?;
    if !at.starts_with(date) {
        return Err(format!("x-amz-date is {at}, the scope says {date}"));
    }
    let time = parse_time(at).ok_or_else(|| format!("x-amz-date is {at}"))?;
    // The signer adds these three itself.
    let own = ["host", "x-amz-date", "x-amz-security-token"];
    let signed_names: Vec<_> = signed.split(';').collect();
    let headers = head.headers.iter().filter(|(name, _)| {
        signed_names.contains(&name.as_str()) && (!own.contains(&name.as_str()) || name == "host")
    });
    let identity = Credentials::new(
        keys.access_key_id.as_str(),
        keys.secret_access_key.as_str(),
        keys.session_token.clone(),
        None,
        "fake",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&keys.region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let host = head.header("host").ok_or("no host header")?;
    let query = if head.query.is_empty() {
        String::new()
    } else {
        format!("?{}", head.query)
    };
    let uri = format!("http://{host}{}{query}", head.path);
    let request = SignableRequest::new(
        head.method.as_str(),
        uri,
        headers.map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(body),
    )
    .map_err(|error| error.to_string())?;
    let signature = sign(request, &params).map_err(|error| error.to_string())?;
    if field("Signature=") == Some(signature.signature()) {
        Ok(())
    } else {
        Err(format!("the signature over {signed} does not verify"))
    }
}

/// `YYYYMMDDTHHMMSSZ` as a time.
fn parse_time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    // Days from the civil date (Howard Hinnant's algorithm), for years after 1970.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era_year = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = era_year * 365 + era_year / 4 - era_year / 100 + day_of_year;
    let days = shifted / 400 * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read() {
        let known = SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_294_403);
        assert_eq!(parse_time("20240301T120003Z"), Some(known));
    }

    #[test]
    fn unsigned_request_is_refused() {
        let keys = Keys {
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            region: "eu-west-1".to_owned(),
        };
        assert!(check(&Head::default(), b"", "lambda", &keys).is_err());
    }
}
