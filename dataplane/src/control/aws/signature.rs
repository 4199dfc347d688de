//! Signature Version 4 for the control side's requests. Invoke requests have a signer of their own
//! (`forebay_protocol::sigv4`), which need not be asked for each.
//!
//! Invariant: what is signed is what is sent.

use std::time::UNIX_EPOCH;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

use crate::clock;
use crate::config::Service;
use crate::contract::Credentials;

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Signed<'a> {
    pub(in crate::control) method: &'a str,
    pub(in crate::control) url: &'a str,
    /// Its name in signatures.
    pub(in crate::control) service: &'a str,
    pub(in crate::control) region: &'a str,
    /// Beside `Host`.
    pub(in crate::control) headers: &'a [(&'a str, &'a str)],
    pub(in crate::control) body: &'a [u8],
}

/// The headers that sign it.
pub(in crate::control) fn of(
    signed: &Signed<'_>,
    credentials: &Credentials,
) -> Result<Vec<(String, String)>, String> {
    let identity = for_sdk(credentials).into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signed.region)
        .name(signed.service)
        .time(UNIX_EPOCH + clock::unix_now())
        .settings(settings(signed.service))
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = signed.headers.iter().copied();
    let body = SignableBody::Bytes(signed.body);
    let request = SignableRequest::new(signed.method, signed.url, headers, body)
        .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(request, &params)
        .map_err(|error| error.to_string())?
        .into_parts();
    Ok(instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// S3 wants the path as it is sent, and the body's hash as a header of its own.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == Service::S3.name() {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

/// As AWS's libraries take them.
pub(super) fn for_sdk(credentials: &Credentials) -> aws_credential_types::Credentials {
    let token = credentials.session_token.as_ref();
    aws_credential_types::Credentials::new(
        credentials.access_key_id.clone(),
        credentials.secret_access_key.as_str(),
        token.map(|token| token.to_string()),
        None,
        "forebay",
    )
}
