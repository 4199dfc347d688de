//! Against `aws-sigv4`'s own signing of the same request, and against a request that botocore signed.

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use proptest::prelude::*;

use super::*;
use crate::lambda::function::FunctionName;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// What `aws-sigv4` adds to the same request.
fn oracle(
    region: &str,
    request: &Request<'_>,
    credentials: &Credentials<'_>,
    unix_seconds: u64,
) -> Vec<(String, String)> {
    let token = credentials.session_token.map(str::to_owned);
    let (id, secret) = (credentials.access_key_id, credentials.secret_access_key);
    let identity: Identity = AwsCredentials::new(id, secret, token, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(UNIX_EPOCH + Duration::from_secs(unix_seconds))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let separator = if request.query.is_empty() { "" } else { "?" };
    let uri = format!(
        "http://{}{}{separator}{}",
        request.host, request.path, request.query
    );
    let body = SignableBody::Precomputed(request.payload.as_str().to_owned());
    let headers = [("host", request.host)].into_iter();
    let signable = SignableRequest::new("POST", uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut headers: Vec<_> = instructions
        .headers()
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    headers.sort();
    headers
}

fn ours(
    signer: &mut Signer,
    request: &Request<'_>,
    credentials: &Credentials<'_>,
    unix_seconds: u64,
) -> Vec<(String, String)> {
    let signature = signer.sign(request, credentials, unix_seconds);
    let mut headers: Vec<_> = signature
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.sort();
    headers
}

proptest! {
    #[test]
    fn any_call_is_signed_as_the_sdk_signs_it(
        name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,3})?",
        form in 0..4_u8,
        qualifier in prop::option::of(prop_oneof!["\\$LATEST", "[a-zA-Z0-9_-]{1,12}"]),
        region in prop::sample::select(vec!["us-east-1", "eu-central-1", "us-gov-west-1"]),
        host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}(:[1-9][0-9]{3})?",
        token in prop::option::of("[A-Za-z0-9+/=]{10,200}"),
        secret in "[A-Za-z0-9+/]{40}",
        body in prop::collection::vec(any::<u8>(), 0..100),
        times in prop::collection::vec(0..4_000_000_000_u64, 1..3),
    ) {
        let unqualified = match form {
            0 => name,
            1 => format!("123456789012:function:{name}"),
            2 => format!("function:{name}"),
            _ => format!("arn:aws:lambda:{region}:123456789012:function:{name}"),
        };
        let full = match qualifier {
            Some(qualifier) => format!("{unqualified}:{qualifier}"),
            None => unqualified,
        };
        let target = FunctionName::parse(&full).expect("a function's name").invoke_target(None);
        let request = Request {
            host: &host,
            path: &target.path,
            query: &target.query,
            payload: &PayloadDigest::of(&body),
        };
        let credentials = Credentials {
            access_key_id: KEY_ID,
            secret_access_key: &secret,
            session_token: token.as_deref(),
        };
        let mut signer = Signer::new(region);
        // The second time of the same day takes the kept key, another day must not.
        for time in times.iter().flat_map(|time| [*time, time ^ 1, time + 90_000]) {
            let signed = ours(&mut signer, &request, &credentials, time);
            prop_assert_eq!(signed, oracle(region, &request, &credentials, time));
        }
    }

    #[test]
    fn any_query_is_signed_as_the_sdk_signs_it(
        pairs in prop::collection::vec(("[a-zA-Z-]{1,3}", "[a-zA-Z0-9._~-]{0,3}"), 0..5),
    ) {
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = query.join("&");
        let request = Request { host: "h", path: "/x", query: &query, payload: &PayloadDigest::of(b"") };
        let credentials =
            Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: None };
        let signed = ours(&mut Signer::new("us-east-1"), &request, &credentials, 1_440_938_160);
        prop_assert_eq!(signed, oracle("us-east-1", &request, &credentials, 1_440_938_160));
    }
}

#[test]
fn botocores_own_call_has_our_signature() {
    // Captured from botocore 1.31.85: `invoke(FunctionName=<qualified ARN>, Payload=b"{}")`.
    let function = FunctionName::parse("arn:aws:lambda:us-east-1:123456789012:function:f").unwrap();
    let target = function.invoke_target(Some(
        "arn:aws:lambda:us-east-1:123456789012:function:f:PROD",
    ));
    let payload = PayloadDigest::of(b"{}");
    let request = Request {
        host: "127.0.0.1:18080",
        path: &target.path,
        query: &target.query,
        payload: &payload,
    };
    let credentials = Credentials {
        access_key_id: KEY_ID,
        secret_access_key: "secret",
        session_token: None,
    };
    let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/lambda/aws4_request, \
                    SignedHeaders=host;x-amz-date, \
                    Signature=3aed066ec0a28b40ed4f8777534f3c458b2bce5861488603404a38c97fbaac69";
    let signed = ours(
        &mut Signer::new("us-east-1"),
        &request,
        &credentials,
        1_795_334_439,
    );
    assert_eq!(signed[0], ("authorization".to_owned(), expected.to_owned()));
    assert_eq!(signed[1].1, "20261122T080039Z");
}

#[test]
fn new_credentials_take_a_new_key() {
    let payload = PayloadDigest::of(b"{}");
    let request = Request {
        host: "h",
        path: "/x",
        query: "",
        payload: &payload,
    };
    let mut signer = Signer::new("us-east-1");
    for (access_key_id, secret_access_key) in [("A", "one"), ("A", "two"), ("B", "two")] {
        let credentials = Credentials {
            access_key_id,
            secret_access_key,
            session_token: None,
        };
        let signed = ours(&mut signer, &request, &credentials, 1_700_000_000);
        assert_eq!(
            signed,
            oracle("us-east-1", &request, &credentials, 1_700_000_000)
        );
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (unix_seconds, expected) in [
        (0, "19700101T000000Z"),
        (951_782_399, "20000228T235959Z"),
        (951_782_400, "20000229T000000Z"),
        (951_868_800, "20000301T000000Z"),
        (1_440_938_160, "20150830T123600Z"),
        (4_107_542_400, "21000301T000000Z"),
        (UNIX_SECONDS_MAX, "99991231T235959Z"),
    ] {
        let mut date = String::new();
        write_date(&mut date, unix_seconds);
        assert_eq!(date, expected);
    }
}

#[test]
fn secrets_are_never_shown() {
    let credentials = Credentials {
        access_key_id: KEY_ID,
        secret_access_key: SECRET,
        session_token: Some("TOKEN"),
    };
    let payload = PayloadDigest::of(b"");
    let request = Request {
        host: "h",
        path: "/x",
        query: "",
        payload: &payload,
    };
    let mut signer = Signer::new("us-east-1");
    let shown = format!(
        "{credentials:?} {:?}",
        signer.sign(&request, &credentials, 0)
    );
    let shown = format!("{shown} {signer:?}");
    assert!(!shown.contains("wJalr") && !shown.contains("TOKEN") && shown.contains("***"));
}
