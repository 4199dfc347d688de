//! Documents in a bucket of Amazon S3.
//!
//! Source: Amazon S3 API Reference, "ListObjectsV2", "GetObject" and "DeleteObject".
//!
//! Invariant: objects come in the order of their keys, so those of one partition in the order of their times.

use std::collections::VecDeque;

use forebay_protocol::lambda::function::percent_encode;
use forebay_protocol::limits::OVERSIZED_EVENT_BYTES_MAX;
use reqwest::Method;

use super::store::{Found, StoreError, Text};
use crate::config::Service;
use crate::control::destinations::Way;
use crate::control::destinations::bucket::Request;
use crate::control::destinations::refused::{Action, Refused};
use crate::control::http::Answer;
use crate::mapping::Bucket;

/// A document is at most the largest event, as a string, and what stands around that.
const OBJECT_BYTES_MAX: usize = 2 * OVERSIZED_EVENT_BYTES_MAX;

/// A thousand keys of a thousand bytes, and what is told of each.
const LIST_BYTES_MAX: usize = 4 << 20;

const GONE: &str = "it is gone meanwhile";

/// The objects below a prefix.
pub(super) struct BucketStore {
    bucket: Bucket,
    prefix: String,
    /// With the bytes of each object.
    keys: VecDeque<(String, usize)>,
    /// Where the list goes on; `None` before its beginning.
    token: Option<String>,
    is_listed: bool,
}

impl BucketStore {
    pub(super) fn new(bucket: Bucket, prefix: String) -> Self {
        Self {
            bucket,
            prefix,
            keys: VecDeque::new(),
            token: None,
            is_listed: false,
        }
    }

    /// The next object, unread.
    pub(super) async fn next(&mut self, way: Way<'_>) -> Result<Option<Found>, StoreError> {
        while self.keys.is_empty() && !self.is_listed {
            self.list(way).await?;
        }
        Ok(self.keys.pop_front().map(|(key, bytes)| Found {
            place: format!("s3://{}/{key}", self.bucket.name),
            id: key,
            text: Text::Object(bytes),
        }))
    }

    async fn list(&mut self, way: Way<'_>) -> Result<(), StoreError> {
        let mut query = String::new();
        // In the order of their names, as they are signed.
        if let Some(token) = &self.token {
            query.push_str("continuation-token=");
            percent_encode(token, &mut query);
            query.push('&');
        }
        query.push_str("list-type=2&prefix=");
        percent_encode(&self.prefix, &mut query);
        let request = Request {
            query: &query,
            answer_bytes_max: LIST_BYTES_MAX,
            ..Request::default()
        };
        let answer = request.ask(way, &self.bucket).await?;
        if answer.status != 200 {
            return Err(refused("s3:ListBucket", &answer, way));
        }
        if answer.element("IsTruncated").is_none() {
            return Err(Refused::stranger(Service::S3, "ListObjectsV2").into());
        }
        let sizes = answer.elements("Size").into_iter();
        // A server that does not tell sizes has its objects read, up to the limit.
        let sizes = sizes.map(|it| it.parse().unwrap_or(0));
        let keys = answer.elements("Key").into_iter();
        self.keys
            .extend(keys.zip(sizes.chain(std::iter::repeat(0))));
        let next = answer.element("NextContinuationToken");
        self.token = next.filter(|_| answer.element("IsTruncated").as_deref() == Some("true"));
        self.is_listed = self.token.is_none();
        Ok(())
    }

    /// The document, or why there is none.
    pub(super) async fn read(
        &self,
        way: Way<'_>,
        key: &str,
        bytes: usize,
    ) -> Result<Result<String, String>, StoreError> {
        if bytes > OBJECT_BYTES_MAX {
            let what = format!("it has {bytes} bytes, and no document has as many");
            return Ok(Err(what));
        }
        let request = Request {
            key: &encoded(key),
            answer_bytes_max: OBJECT_BYTES_MAX,
            ..Request::default()
        };
        let answer = request.ask(way, &self.bucket).await?;
        match answer.status {
            200 => Ok(Ok(String::from_utf8_lossy(&answer.body).into_owned())),
            404 if answer.refusal().kind() == "NoSuchKey" => Ok(Err(GONE.to_owned())),
            _ => Err(refused("s3:GetObject", &answer, way)),
        }
    }

    pub(super) async fn remove(&self, way: Way<'_>, key: &str) -> Result<(), StoreError> {
        let request = Request {
            method: Method::DELETE,
            key: &encoded(key),
            ..Request::default()
        };
        let answer = request.ask(way, &self.bucket).await?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(refused("s3:DeleteObject", &answer, way)),
        }
    }
}

/// A key as a path, its slashes as they are.
fn encoded(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for (at, part) in key.split('/').enumerate() {
        path.push_str(if at > 0 { "/" } else { "" });
        percent_encode(part, &mut path);
    }
    path
}

fn refused(permission: &'static str, answer: &Answer, way: Way<'_>) -> StoreError {
    Refused::of(Action::reading(Service::S3, permission), answer, way).into()
}
