//! What the endpoint says of a function: whether it exists, and its timeout (decision 28).
//!
//! Invariant: an endpoint that cannot answer the question never holds up a mapping.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::Endpoint;
use forebay_protocol::http::ResponseError;
use forebay_protocol::limits::{
    CALL_DEADLINE_DEFAULT, CALL_DEADLINE_MARGIN, RESPONSE_BODY_BYTES_MAX,
};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::aws::signature::{self, Signed};
use super::http;
use super::probe::{Probe, speaks_tls};
use crate::config::{FUNCTION_TIMEOUT_MAX, url};
use crate::contract::{Access, Credentials, mpsc, watch};
use crate::mapping::{Function, Signing};
use crate::trust::TlsError;

/// A function with a capacity provider may run this long.
const CAPACITY_TIMEOUT_MAX: Duration = Duration::from_secs(5_400);

/// How often a function is asked for again.
const ASK_INTERVAL: Duration = Duration::from_secs(300);

/// How often an endpoint that was not reached is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// The answer to GetFunctionConfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It exists.
    Known {
        /// Its timeout.
        timeout: Duration,
        /// The longest timeout that a mapping may call.
        allowed: Duration,
    },
    /// It does not exist.
    Missing,
    /// We may not ask for its configuration.
    Denied(String),
    /// The endpoint answers, but not this question.
    Unable(String),
    /// The endpoint does not answer.
    Unreachable(String),
    /// Its certificate leads to none of our roots, or is for another name.
    Untrusted(String),
    /// The endpoint is another than it was taken for: what it is, and what to change.
    Misfit(String),
}

/// What is said of an endpoint that is a broker.
const IS_KAFKA: &str = "that is a Kafka broker, not a Lambda endpoint; correct endpoint_url";

/// An endpoint that does not answer a call may take so long to answer as a broker.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// Names a function for the deadlines that control keeps: where, and what, version included.
pub(super) type FunctionId = (String, u16, String, String);

pub(super) fn id(function: &Function) -> FunctionId {
    let target = &function.target;
    (
        function.host.clone(),
        function.port,
        target.path.clone(),
        target.query.clone(),
    )
}

/// Asks for every function of the newest list, again and again, and reports each call's deadline.
pub(super) async fn attend(
    mut functions: watch::Receiver<Arc<[Function]>>,
    mut credentials: watch::Receiver<Option<Arc<Credentials>>>,
    deadlines: mpsc::Sender<(FunctionId, Duration)>,
) {
    let mut told: BTreeMap<FunctionId, Answer> = BTreeMap::new();
    loop {
        let list = Arc::clone(&functions.borrow_and_update());
        let keys = credentials.borrow_and_update().clone();
        let mut asking = JoinSet::new();
        for function in list.iter().cloned() {
            if keys.is_none() && function.signing != Signing::None {
                continue;
            }
            let keys = keys.clone();
            asking.spawn(async move {
                let answer = match client(&function).await {
                    Ok(client) => ask(&client, &function, keys.as_deref()).await,
                    Err(reason) => Answer::Unreachable(reason),
                };
                (function, answer)
            });
        }
        let mut reached = true;
        while let Some(asked) = asking.join_next().await {
            // An error is a task that was aborted: with this one.
            let Ok((function, answer)) = asked else {
                return;
            };
            reached &= !matches!(
                answer,
                Answer::Unreachable(_) | Answer::Untrusted(_) | Answer::Misfit(_)
            );
            let id = id(&function);
            if told.get(&id) != Some(&answer) {
                say(&function, &answer);
                told.insert(id.clone(), answer.clone());
            }
            if let Answer::Known { timeout, .. } = answer
                && deadlines
                    .send((id, timeout + CALL_DEADLINE_MARGIN))
                    .await
                    .is_err()
            {
                return;
            }
        }
        let interval = if reached {
            ASK_INTERVAL
        } else {
            RETRY_INTERVAL
        };
        tokio::select! {
            changed = functions.changed() => if changed.is_err() { return },
            changed = credentials.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(interval) => {}
        }
    }
}

fn say(function: &Function, answer: &Answer) {
    let name = &function.name;
    match answer {
        Answer::Known { timeout, allowed } if timeout > allowed => error!(
            function = name,
            timeout_seconds = timeout.as_secs(),
            "Function may run longer than an event source mapping allows"
        ),
        Answer::Known { timeout, .. } => info!(
            function = name,
            timeout_seconds = timeout.as_secs(),
            "Function is known"
        ),
        Answer::Missing => error!(function = name, "Function does not exist"),
        Answer::Misfit(reason) => error!(
            function = name,
            endpoint = function.host_header,
            reason,
            "Function cannot be called; correct endpoint_url and restart"
        ),
        Answer::Untrusted(reason) => error!(
            function = name,
            reason, "Function's endpoint is not trusted; name its root in ca_bundle"
        ),
        Answer::Denied(reason) | Answer::Unable(reason) | Answer::Unreachable(reason) => {
            warn!(
                function = name,
                reason,
                assumed_deadline_seconds = CALL_DEADLINE_DEFAULT.as_secs(),
                "Function's timeout is not known; timeout_seconds under [functions.NAME] in forebay.toml tells it"
            );
        }
    }
}

/// A client that trusts whom calls of that function trust.
pub(super) async fn client(function: &Function) -> Result<reqwest::Client, String> {
    let tls = match function.tls {
        true => Some(http::tls(function.ca_bundle.as_deref()).await?),
        false => None,
    };
    http::endpoint_client(tls)
}

/// Asks once.
pub(super) async fn ask(
    client: &reqwest::Client,
    function: &Function,
    credentials: Option<&Credentials>,
) -> Answer {
    let invoke = &function.target.path;
    let named = invoke.strip_suffix("/invocations").unwrap_or(invoke);
    let question = Question {
        method: reqwest::Method::GET,
        path: &format!("{named}/configuration"),
        headers: &[],
        body: &Bytes::new(),
        timeout: http::CALL_TIMEOUT,
        answer_bytes_max: http::ANSWER_BYTES_MAX,
    };
    match question.send(client, function, credentials).await {
        Ok(answer) => read(&answer),
        Err(Unanswered::NotSigned(reason)) => Answer::Unable(reason),
        Err(Unanswered::Failed(http::Failure::Tls(TlsError::ServerNotTrusted(reason)))) => {
            Answer::Untrusted(reason)
        }
        Err(Unanswered::Failed(failure)) => match misfit(function, &failure).await {
            Some(misfit) => Answer::Misfit(misfit),
            None => Answer::Unreachable(failure.to_string()),
        },
    }
}

/// What an endpoint is that fails to answer, if that can be told.
async fn misfit(function: &Function, failure: &http::Failure) -> Option<String> {
    let endpoint = Endpoint {
        host: function.host.clone(),
        port: function.port,
    };
    if is_kafka(function, &endpoint).await {
        return Some(IS_KAFKA.to_owned());
    }
    match failure {
        http::Failure::Tls(error) if error.is_lack_of_tls() => Some(error.of_endpoint()),
        http::Failure::Broken(_) if !function.tls && speaks_tls(&endpoint).await => {
            Some(ResponseError::Tls.to_string())
        }
        http::Failure::Tls(_) | http::Failure::Broken(_) => None,
    }
}

/// Why the endpoint would not let us call the function, which is not called for it; `None` if it would, or does not
/// say. Only for endpoints that know a function's configuration: what a lesser emulator makes of a dry run, nobody
/// knows.
pub(super) async fn refusal(
    client: &reqwest::Client,
    function: &Function,
    credentials: Option<&Credentials>,
) -> Option<String> {
    let question = Question {
        method: reqwest::Method::POST,
        path: &function.target.path,
        headers: &[("x-amz-invocation-type", "DryRun")],
        body: &Bytes::from_static(b"{}"),
        timeout: http::CALL_TIMEOUT,
        answer_bytes_max: http::ANSWER_BYTES_MAX,
    };
    let answer = question.send(client, function, credentials).await.ok()?;
    (answer.status == 403).then(|| message(&answer))
}

/// Calls the function with an event, as shards do. `deadline` is the call's.
pub(super) async fn invoke(
    client: &reqwest::Client,
    function: &Function,
    credentials: Option<&Credentials>,
    event: &Bytes,
    deadline: Duration,
) -> Result<http::Answer, Unanswered> {
    let question = Question {
        method: reqwest::Method::POST,
        path: &function.target.path,
        headers: &[],
        body: event,
        timeout: deadline,
        answer_bytes_max: RESPONSE_BODY_BYTES_MAX,
    };
    question.send(client, function, credentials).await
}

/// A request of the control side to a function's endpoint.
struct Question<'a> {
    method: reqwest::Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a Bytes,
    timeout: Duration,
    answer_bytes_max: usize,
}

/// Why a function's endpoint has not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// The request cannot be signed, and was not sent.
    #[error("{0}")]
    NotSigned(String),
    /// It may have been sent.
    #[error("{0}")]
    Failed(http::Failure),
}

impl Question<'_> {
    async fn send(
        self,
        client: &reqwest::Client,
        function: &Function,
        credentials: Option<&Credentials>,
    ) -> Result<http::Answer, Unanswered> {
        let mut url = url(function.tls, &function.host_header);
        url.push_str(self.path);
        if !function.target.query.is_empty() {
            url.push('?');
            url.push_str(&function.target.query);
        }
        let mut request = client
            .request(self.method.clone(), &url)
            .timeout(self.timeout)
            .body(self.body.clone());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let (Signing::SigV4 { region }, Some(credentials)) = (&function.signing, credentials) {
            let signed = Signed {
                method: self.method.as_str(),
                url: &url,
                service: "lambda",
                region,
                headers: self.headers,
                body: self.body,
            };
            let signature = signature::of(&signed, credentials).map_err(Unanswered::NotSigned)?;
            for (name, value) in signature {
                request = request.header(name, value);
            }
        }
        let answered = http::exchange_within(request, self.answer_bytes_max).await;
        answered.map_err(Unanswered::Failed)
    }
}

/// What the endpoint says of an error.
fn message(answer: &http::Answer) -> String {
    let said = answer.refusal().message();
    match said.is_empty() {
        true => format!("HTTP {}", answer.status),
        false => format!("HTTP {}: {said}", answer.status),
    }
}

/// A broker closes a connection that begins with HTTP, and says nothing. It may be one under TLS.
async fn is_kafka(function: &Function, endpoint: &Endpoint) -> bool {
    let mut ways = vec![Access::default()];
    if function.tls
        && let Ok(tls) = http::tls(function.ca_bundle.as_deref()).await
    {
        ways.push(Access {
            brokers: Some(tls),
            ..Access::default()
        });
    }
    for way in ways {
        if Probe::open(endpoint, &way, BROKER_TIMEOUT).await.is_ok() {
            return true;
        }
    }
    false
}

fn read(answer: &http::Answer) -> Answer {
    let unable = |what: &str| Answer::Unable(format!("GetFunctionConfiguration: {what}"));
    if answer.status == 404 {
        // A function that is missing is named; a server without this call says something else.
        let body = String::from_utf8_lossy(&answer.body);
        let named = body.contains("Function not found") || body.contains("ResourceNotFound");
        return match named {
            true => Answer::Missing,
            false => unable("HTTP 404"),
        };
    }
    if answer.status == 403 {
        return Answer::Denied(message(answer));
    }
    if answer.status != 200 {
        return unable(&format!("HTTP {}", answer.status));
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
        return unable("the answer is not JSON");
    };
    let capacity = json
        .get("CapacityProviderConfig")
        .is_some_and(|it| !it.is_null());
    match json.get("Timeout").and_then(serde_json::Value::as_u64) {
        Some(seconds @ 1..=86_400) => Answer::Known {
            timeout: Duration::from_secs(seconds),
            allowed: if capacity {
                CAPACITY_TIMEOUT_MAX
            } else {
                FUNCTION_TIMEOUT_MAX
            },
        },
        _ => unable("the answer has no Timeout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: &Answer) {
        let body = body.as_bytes().to_vec();
        assert_eq!(
            &read(&http::Answer {
                status,
                body,
                ..http::Answer::default()
            }),
            expected
        );
    }

    #[test]
    fn only_a_named_function_is_missing() {
        let body = r#"{"Type":"User","Message":"Function not found: arn:aws:lambda:x"}"#;
        check(404, body, &Answer::Missing);
        check(
            404,
            "404 page not found",
            &Answer::Unable("GetFunctionConfiguration: HTTP 404".to_owned()),
        );
    }

    #[test]
    fn what_we_may_not_ask_is_told_in_the_endpoints_words() {
        let body = r#"{"Message":"User: u is not authorized to perform: lambda:GetFunctionConfiguration"}"#;
        let said =
            "HTTP 403: User: u is not authorized to perform: lambda:GetFunctionConfiguration";
        check(403, body, &Answer::Denied(said.to_owned()));
        check(403, "<html>", &Answer::Denied("HTTP 403".to_owned()));
    }

    #[test]
    fn the_timeout_is_read_and_a_capacity_provider_allows_more() {
        check(
            200,
            r#"{"Timeout":30}"#,
            &Answer::Known {
                timeout: Duration::from_secs(30),
                allowed: FUNCTION_TIMEOUT_MAX,
            },
        );
        check(
            200,
            r#"{"Timeout":900,"CapacityProviderConfig":{}}"#,
            &Answer::Known {
                timeout: Duration::from_secs(900),
                allowed: CAPACITY_TIMEOUT_MAX,
            },
        );
    }
}
