//! A fake of AWS's services beside Lambda: Secrets Manager, STS's AssumeRole, and what failed records are written to.
//!
//! It checks every signature, and answers proxied requests as direct ones, so it can be the proxy too.
//!
//! Invariant: a secret is given to whoever may read it and signs for it, and to nobody else.

mod destinations;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub use self::destinations::Destinations;
use crate::fake_lambda::{Head, Keys};
use crate::signature;

/// A document may hold a whole event.
const BODY_BYTES_MAX: usize = 32 << 20;

/// A running fake; it stops when dropped.
#[derive(Debug)]
pub struct FakeAws {
    address: SocketAddr,
    state: Arc<Mutex<Account>>,
    server: JoinHandle<()>,
}

/// What it knows.
#[derive(Debug)]
pub struct Account {
    /// The node's.
    pub keys: Keys,
    /// The `SecretString` of each ARN.
    pub secrets: BTreeMap<String, String>,
    /// The roles that the node may assume, each with the keys that it gets.
    pub roles: BTreeMap<String, Keys>,
    /// Every request that was signed well: the host that it was for, whose key signed it, and what it was for.
    pub asked: Vec<Asked>,
    /// What failed records are written to.
    pub destinations: Destinations,
    /// An answer to GetSecretValue in place of the secret: its status and body.
    pub refusal: Option<(u16, String)>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The `Host` header.
    pub host: String,
    /// Who signed it.
    pub access_key_id: String,
    /// The ARN of the secret, the role or the topic; the path of the queue's URL; the bucket's name.
    pub arn: String,
}

impl FakeAws {
    /// A fake that knows the keys of the node and nothing else; it is served by the caller's runtime.
    pub async fn start(keys: Keys) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(Account {
            keys,
            secrets: BTreeMap::new(),
            roles: BTreeMap::new(),
            asked: Vec::new(),
            destinations: Destinations::default(),
            refusal: None,
        }));
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            // It ends with its task.
            axum::serve(listener, app).await.ok();
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// As an endpoint's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks or changes what it knows.
    pub async fn with<R>(&self, f: impl FnOnce(&mut Account) -> R) -> R {
        f(&mut *self.state.lock().await)
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Account>>>,
    request: Request<axum::body::Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let head = head(&parts);
    let mut account = state.lock().await;
    match (head.header("x-amz-target"), destinations::service(&head)) {
        (Some("secretsmanager.GetSecretValue"), _) => account.secret(&head, &body),
        (_, Some(service)) => account.written(service, &head, &body),
        _ => account.assume(&head, &body),
    }
}

fn head(parts: &Parts) -> Head {
    let headers = parts.headers.iter();
    Head {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), value.into_owned())
            })
            .collect(),
    }
}

impl Account {
    /// Whose request it is, if it is signed as it should be.
    fn caller(&self, head: &Head, body: &Bytes, service: &str) -> Result<Keys, String> {
        let signature = head.header("authorization").unwrap_or_default();
        let all = self.roles.values().chain([&self.keys]);
        let signed_by = |keys: &&Keys| signature.contains(&format!("={}/", keys.access_key_id));
        let keys = all.into_iter().find(signed_by);
        let keys = keys.ok_or("The security token included in the request is invalid.")?;
        signature::check(head, body, service, keys)?;
        Ok(keys.clone())
    }

    fn note(&mut self, head: &Head, keys: Keys, arn: &str) {
        self.asked.push(Asked {
            host: head.header("host").unwrap_or_default().to_owned(),
            access_key_id: keys.access_key_id,
            arn: arn.to_owned(),
        });
    }

    /// GetSecretValue of the JSON 1.1 protocol.
    fn secret(&mut self, head: &Head, body: &Bytes) -> Response {
        let keys = match self.caller(head, body, "secretsmanager") {
            Ok(keys) => keys,
            Err(message) => return refused("UnrecognizedClientException", &message),
        };
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let arn = json["SecretId"].as_str().unwrap_or_default().to_owned();
        self.note(head, keys, &arn);
        if let Some((status, body)) = &self.refusal {
            let status = StatusCode::from_u16(*status).expect("a status");
            return (status, body.clone()).into_response();
        }
        match self.secrets.get(&arn) {
            Some(text) => {
                let json = serde_json::json!({ "ARN": arn, "SecretString": text });
                json.to_string().into_response()
            }
            None => {
                let message = "Secrets Manager can't find the specified secret.";
                refused("ResourceNotFoundException", message)
            }
        }
    }

    /// AssumeRole of the query protocol.
    fn assume(&mut self, head: &Head, body: &Bytes) -> Response {
        let keys = match self.caller(head, body, "sts") {
            Ok(keys) => keys,
            Err(message) => return not_assumed("InvalidClientTokenId", &message),
        };
        let form = String::from_utf8_lossy(body);
        let field = form.split('&').find_map(|it| it.strip_prefix("RoleArn="));
        let role = field
            .unwrap_or_default()
            .replace("%3A", ":")
            .replace("%2F", "/");
        self.note(head, keys, &role);
        let Some(keys) = self.roles.get(&role) else {
            let message =
                format!("User is not authorized to perform: sts:AssumeRole on resource: {role}");
            return not_assumed("AccessDenied", &message);
        };
        format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <AssumedRoleUser><Arn>{role}</Arn><AssumedRoleId>AROA:forebay</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
             <SessionToken>{}</SessionToken><Expiration>2037-01-01T00:00:00Z</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>",
            keys.access_key_id,
            keys.secret_access_key,
            keys.session_token.as_deref().unwrap_or_default(),
        )
        .into_response()
    }
}

fn refused(kind: &str, message: &str) -> Response {
    // Both, as some of them answer.
    let json = serde_json::json!({ "__type": kind, "message": message, "Message": message });
    (StatusCode::BAD_REQUEST, json.to_string()).into_response()
}

fn not_assumed(code: &str, message: &str) -> Response {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    (StatusCode::FORBIDDEN, body).into_response()
}
