//! AWS Signature Version 4 for the call to a function, with the day's key kept.
//!
//! The signing key is derived by `aws-sigv4` once per credentials and day; per call there is one small
//! canonical request, its hash and one HMAC. [`PayloadHash`] hashes a body piece by piece in bounded
//! steps. Signed headers are `host`, `x-amz-date` and, with temporary credentials,
//! `x-amz-security-token`; `x-amz-content-sha256` is left out, as botocore does for Lambda: the hash is in
//! the canonical request anyway.
//!
//! Source: "AWS Signature Version 4 for API requests" in the AWS IAM User Guide.
//!
//! Invariant: equals `aws-sigv4`'s own signature of the same request; never shows a secret.

mod payload;

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use zeroize::Zeroizing;

pub use payload::{PayloadDigest, PayloadHash};

const SERVICE: &str = "lambda";

/// The last second of the year 9999: no date behind it has eight digits.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// Signs calls in one region.
pub struct Signer {
    region: String,
    key: Option<DayKey>,
    /// Buffers that are used again.
    canonical: String,
    to_sign: String,
    authorization: String,
    date: String,
}

/// Keys to sign with.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: &'a str,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: &'a str,
    /// `AWS_SESSION_TOKEN`, with temporary credentials.
    pub session_token: Option<&'a str>,
}

/// A POST as it is to be signed, exactly as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The `host` header.
    pub host: &'a str,
    /// The path, percent-encoded once.
    pub path: &'a str,
    /// The query without `?`, percent-encoded; empty for none.
    pub query: &'a str,
    /// Of the whole body.
    pub payload: &'a PayloadDigest,
}

/// What signing adds to a request's head.
#[derive(Clone, Copy)]
pub struct Signature<'a> {
    date: &'a str,
    session_token: Option<&'a str>,
    authorization: &'a str,
}

impl Signer {
    /// A signer for the functions of that region.
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            key: None,
            canonical: String::new(),
            to_sign: String::new(),
            authorization: String::new(),
            date: String::new(),
        }
    }

    /// Signs `request` as of `unix_seconds`.
    pub fn sign<'a>(
        &'a mut self,
        request: &Request<'_>,
        credentials: &Credentials<'a>,
        unix_seconds: u64,
    ) -> Signature<'a> {
        let unix_seconds = unix_seconds.min(UNIX_SECONDS_MAX);
        write_date(&mut self.date, unix_seconds);
        let signed_headers = match credentials.session_token {
            Some(_) => "host;x-amz-date;x-amz-security-token",
            None => "host;x-amz-date",
        };
        self.write_canonical(request, credentials, signed_headers);
        let canonical = PayloadDigest::of(self.canonical.as_bytes());

        let scope = Scope {
            day: self.date.split_at(8).0,
            region: &self.region,
        };
        self.to_sign.clear();
        write(
            &mut self.to_sign,
            format_args!(
                "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
                self.date,
                canonical.as_str()
            ),
        );
        let reusable = self.key.take();
        let reusable = reusable.filter(|key| key.is_of(credentials, unix_seconds));
        let key = self.key.insert(
            reusable.unwrap_or_else(|| DayKey::derive(credentials, &self.region, unix_seconds)),
        );
        let signature = calculate_signature(&key.key, self.to_sign.as_bytes());

        self.authorization.clear();
        write(
            &mut self.authorization,
            format_args!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed_headers}, \
                 Signature={signature}",
                credentials.access_key_id
            ),
        );
        Signature {
            date: &self.date,
            session_token: credentials.session_token,
            authorization: &self.authorization,
        }
    }

    fn write_canonical(
        &mut self,
        request: &Request<'_>,
        credentials: &Credentials<'_>,
        signed_headers: &str,
    ) {
        let out = &mut self.canonical;
        out.clear();
        out.push_str("POST\n");
        // Every service but S3 wants the path encoded once more: `%3A` becomes `%253A`.
        for byte in request.path.bytes() {
            if byte == b'/' {
                out.push('/');
            } else {
                push_encoded(out, byte);
            }
        }
        out.push('\n');
        push_query(out, request.query);
        let (host, date) = (request.host.trim(), &self.date);
        write(out, format_args!("\nhost:{host}\nx-amz-date:{date}\n"));
        if let Some(token) = credentials.session_token {
            write(out, format_args!("x-amz-security-token:{}\n", token.trim()));
        }
        write(
            out,
            format_args!("\n{signed_headers}\n{}", request.payload.as_str()),
        );
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl<'a> Signature<'a> {
    /// The headers to add, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let token = self
            .session_token
            .map(|token| ("x-amz-security-token", token));
        [("x-amz-date", self.date)]
            .into_iter()
            .chain(token)
            .chain([("authorization", self.authorization)])
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"***")
            .field("session_token", &self.session_token.map(|_| "***"))
            .finish()
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature")
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// What a signature is good for.
struct Scope<'a> {
    day: &'a str,
    region: &'a str,
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{SERVICE}/aws4_request", self.day, self.region)
    }
}

/// The signing key of one day, and what it was made of.
struct DayKey {
    day: u64,
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    key: Zeroizing<Vec<u8>>,
}

impl DayKey {
    fn derive(credentials: &Credentials<'_>, region: &str, unix_seconds: u64) -> Self {
        let secret = credentials.secret_access_key;
        let time = UNIX_EPOCH + Duration::from_secs(unix_seconds);
        let key = generate_signing_key(secret, time, region, SERVICE);
        Self {
            day: unix_seconds / SECONDS_PER_DAY,
            access_key_id: credentials.access_key_id.to_owned(),
            secret_access_key: Zeroizing::new(secret.to_owned()),
            key: Zeroizing::new(key.as_ref().to_vec()),
        }
    }

    fn is_of(&self, credentials: &Credentials<'_>, unix_seconds: u64) -> bool {
        self.day == unix_seconds / SECONDS_PER_DAY
            && self.access_key_id == credentials.access_key_id
            && *self.secret_access_key == credentials.secret_access_key
    }
}

const SECONDS_PER_DAY: u64 = 86_400;

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn hex_digit(nibble: u8, digits: &[u8; 16]) -> u8 {
    digits[usize::from(nibble & 15)]
}

/// Encodes everything but RFC 3986's unreserved characters.
fn push_encoded(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        out.push(char::from(byte));
    } else {
        let digits = [hex_digit(byte >> 4, UPPER), hex_digit(byte, UPPER)];
        out.push('%');
        out.extend(digits.map(char::from));
    }
}

/// The parameters by name, then by value. One needs no sorting, and an Invoke has one at most.
fn push_query(out: &mut String, query: &str) {
    let mut push = |index: usize, (name, value): (&str, &str)| {
        let separator = if index > 0 { "&" } else { "" };
        write(out, format_args!("{separator}{name}={value}"));
    };
    let pair = |text| str::split_once(text, '=').unwrap_or((text, ""));
    if query.contains('&') {
        let mut pairs: Vec<_> = query.split('&').map(pair).collect();
        pairs.sort_unstable();
        pairs
            .into_iter()
            .enumerate()
            .for_each(|(index, pair)| push(index, pair));
    } else if !query.is_empty() {
        push(0, pair(query));
    }
}

/// `20260102T030405Z`.
fn write_date(out: &mut String, unix_seconds: u64) {
    let (days, second) = (
        unix_seconds / SECONDS_PER_DAY,
        unix_seconds % SECONDS_PER_DAY,
    );
    // Howard Hinnant's `civil_from_days`: years begin in March, eras have 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_free = day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096;
    let year_of_era = leap_free / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    out.clear();
    write(
        out,
        format_args!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"),
    );
}

fn write(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests;
