//! Buckets of Amazon S3.
//!
//! Source: Amazon S3 API Reference, "PutObject", "HeadBucket" and "REST error responses"; Amazon S3 User Guide,
//! "Virtual hosting of buckets".
//!
//! Invariant: a bucket's region is what S3 says it is: its ARN does not tell, so the first answer may.

use bytes::Bytes;
use reqwest::Method;

use super::{Action, Call, Refused, Way};
use crate::config::{EndpointUrl, Region, Service, url};
use crate::control::http::{ANSWER_BYTES_MAX, Answer};
use crate::mapping::Bucket;

const CONTENT_TYPE: [(&str, &str); 1] = [("content-type", "application/json")];

/// The longest label of a host's name.
const LABEL_MAX: usize = 63;

/// Writes an object.
pub(super) async fn put(
    way: Way<'_>,
    bucket: &Bucket,
    key: &str,
    document: &Bytes,
) -> Result<(), Refused> {
    let request = Request {
        method: Method::PUT,
        key,
        headers: &CONTENT_TYPE,
        body: document,
        ..Request::default()
    };
    let answer = request.ask(way, bucket).await?;
    match (answer.status, answer.header("etag")) {
        (200, Some(_)) => Ok(()),
        (200, None) => Err(Refused::stranger(Service::S3, "PutObject")),
        _ => Err(Refused::of(Action::writing(Service::S3), &answer, way)),
    }
}

/// Asks whether it is there.
pub(super) async fn head(way: Way<'_>, bucket: &Bucket) -> Result<(Service, Answer), Refused> {
    let request = Request {
        method: Method::HEAD,
        ..Request::default()
    };
    let answer = request.ask(way, bucket).await?;
    Ok((Service::S3, answer))
}

/// A request to a bucket, or to an object of it.
pub(in crate::control) struct Request<'a> {
    pub(in crate::control) method: Method,
    /// The object's, encoded for a URL; empty for the bucket.
    pub(in crate::control) key: &'a str,
    /// Without `?`.
    pub(in crate::control) query: &'a str,
    pub(in crate::control) headers: &'a [(&'a str, &'a str)],
    pub(in crate::control) body: &'a Bytes,
    pub(in crate::control) answer_bytes_max: usize,
}

impl Default for Request<'_> {
    fn default() -> Self {
        static NO_BYTES: Bytes = Bytes::new();
        Self {
            method: Method::GET,
            key: "",
            query: "",
            headers: &[],
            body: &NO_BYTES,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }
}

impl Request<'_> {
    /// Asks where the bucket is said to be, and of AWS itself where S3 then says that it is.
    pub(in crate::control) async fn ask(
        &self,
        way: Way<'_>,
        bucket: &Bucket,
    ) -> Result<Answer, Refused> {
        let answer = self.ask_in(&bucket.region, way, bucket).await?;
        match elsewhere(&answer) {
            Some(region) if region != bucket.region && way.aws.stand_in(Service::S3).is_none() => {
                self.ask_in(&region, way, bucket).await
            }
            _ => Ok(answer),
        }
    }

    async fn ask_in(&self, region: &str, way: Way<'_>, bucket: &Bucket) -> Result<Answer, Refused> {
        let endpoint = way.aws.endpoint(Service::S3, region);
        let is_own = way.aws.stand_in(Service::S3).is_none();
        let mut url = object_url(&endpoint, is_own, &bucket.name, self.key);
        if !self.query.is_empty() {
            url.extend(["?", self.query]);
        }
        let call = Call {
            answer_bytes_max: self.answer_bytes_max,
            ..way.call(Service::S3, region, self.headers, self.body)
        };
        let sent = way.aws.send(self.method.clone(), &url, call).await;
        sent.map_err(|error| {
            // The key is another one each time, and says nothing of why there is no answer.
            let bucket_url = object_url(&endpoint, is_own, &bucket.name, "");
            Refused::unanswered(error.of_address(&url, &bucket_url))
        })
    }
}

/// The region that a bucket is in, if the answer is that it is in another one.
pub(super) fn elsewhere(answer: &Answer) -> Option<String> {
    if matches!(answer.status, 200 | 404) {
        return None;
    }
    let told = answer.header("x-amz-bucket-region").map(str::to_owned);
    let told = told.or_else(|| answer.element("Region"))?;
    Some(Region::parse(&told, "S3")?.name)
}

/// At AWS's own endpoints the bucket is a part of the host's name, unless its name cannot be one label of it (the
/// certificate is for one label); elsewhere that name would have to resolve, so it is a part of the path.
fn object_url(endpoint: &EndpointUrl, is_own: bool, bucket: &str, key: &str) -> String {
    let is_label_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = bucket.len() <= LABEL_MAX && bucket.bytes().all(is_label_byte);
    match is_own && is_label {
        true => {
            let host = format!("{bucket}.{}", endpoint.host_header);
            format!("{}/{key}", url(endpoint.tls, &host))
        }
        false if key.is_empty() => format!("{}/{bucket}", endpoint.url()),
        false => format!("{}/{bucket}/{key}", endpoint.url()),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn a_bucket_is_in_the_hosts_name_where_that_is_awss() {
        let own = EndpointUrl::read("https://s3.eu-west-1.amazonaws.com").unwrap();
        let other = EndpointUrl::read("http://127.0.0.1:9000").unwrap();
        for (endpoint, is_own, bucket, key, expected) in [
            (
                &own,
                true,
                "failed",
                "a/b",
                "https://failed.s3.eu-west-1.amazonaws.com/a/b",
            ),
            (
                &own,
                true,
                "failed",
                "",
                "https://failed.s3.eu-west-1.amazonaws.com/",
            ),
            (
                &own,
                true,
                "failed.orders",
                "a/b",
                "https://s3.eu-west-1.amazonaws.com/failed.orders/a/b",
            ),
            (
                &own,
                true,
                "Failed",
                "a",
                "https://s3.eu-west-1.amazonaws.com/Failed/a",
            ),
            (
                &other,
                false,
                "failed",
                "a/b",
                "http://127.0.0.1:9000/failed/a/b",
            ),
            (&other, false, "failed", "", "http://127.0.0.1:9000/failed"),
        ] {
            assert_eq!(object_url(endpoint, is_own, bucket, key), expected);
        }
    }

    #[test]
    fn s3_tells_where_a_bucket_is() {
        let told = |status, header: Option<&str>, body: &str| {
            let mut headers = HeaderMap::new();
            if let Some(region) = header {
                headers.insert("x-amz-bucket-region", region.parse().unwrap());
            }
            let body = body.as_bytes().to_vec();
            elsewhere(&Answer {
                status,
                headers,
                body,
            })
        };
        let region = Some("eu-west-1".to_owned());
        assert_eq!(told(301, Some("eu-west-1"), ""), region);
        let malformed =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(told(400, None, malformed), region);
        assert_eq!(told(200, Some("eu-west-1"), ""), None);
        assert_eq!(told(400, None, "<Region>evil.example/</Region>"), None);
        assert_eq!(told(403, None, ""), None);
    }
}
