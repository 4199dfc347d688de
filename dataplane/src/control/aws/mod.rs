//! AWS's services beside Lambda, asked as the node itself or as a role: through the environment's proxy, at AWS's
//! own endpoints or at those that the configuration names in their place.
//!
//! Invariant: a key stands in no error and no log.

pub(super) mod credentials;
mod roles;
pub(super) mod signature;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use bytes::Bytes;
use reqwest::Method;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::http::{self, Answer, CALL_TIMEOUT, Failure};
use crate::config::{Config, EndpointUrl, EndpointUrls, Flavour, Service};
use crate::contract::{Credentials, watch};
use roles::Roles;
use signature::Signed;

/// How AWS is reached, by the node's configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    region: Option<String>,
    flavour: Flavour,
    ca_bundle: Option<PathBuf>,
    endpoint_urls: EndpointUrls,
}

/// The node's own keys, as `credentials::attend` keeps them.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    newest: watch::Receiver<Option<Arc<Credentials>>>,
    /// Whether the chain was asked and has none.
    absent: watch::Receiver<bool>,
    /// Asks for new ones.
    refresh: Arc<Notify>,
}

/// Whoever asks AWS's services.
#[derive(Debug)]
pub(super) struct Aws {
    settings: Settings,
    keys: Keys,
    roles: Roles,
    /// What requests go out by, and since when.
    client: Mutex<Option<(reqwest::Client, Instant)>>,
}

/// Then another one is made, which reads `ca_bundle` and the environment again.
const CLIENT_AGE_MAX: Duration = Duration::from_secs(60);

/// A request of one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) service: Service,
    pub(super) region: &'a str,
    /// The role that asks; the node itself, if there is none.
    pub(super) role_arn: Option<&'a str>,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a Bytes,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// How long its answer may be.
    pub(super) answer_bytes_max: usize,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AwsError {
    /// The node has no keys, or the request cannot be made of what it has.
    #[error("{0}")]
    Unable(String),
    /// The service does not answer, or whoever answers is not trusted.
    #[error("{0}")]
    Unreachable(String),
    /// STS does not give the node the keys of the role.
    #[error("{0}")]
    Role(String),
    /// The node's own keys are no good.
    #[error("{0}")]
    KeysRefused(String),
}

impl AwsError {
    /// The same of another address, where that is the one to tell.
    pub(super) fn of_address(self, asked: &str, told: &str) -> Self {
        match self {
            Self::Unreachable(reason) => Self::Unreachable(reason.replace(asked, told)),
            other => other,
        }
    }
}

/// What is said where the node has no keys at all.
const NO_KEYS: &str = "no AWS credentials were found to ask AWS with; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a \
    profile or a role";

/// What services say of keys that are no good any more.
const KEYS_REFUSED: [&str; 9] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignature",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            region: config.region_name().map(str::to_owned),
            flavour: config.flavour,
            ca_bundle: config.ca_bundle.clone(),
            endpoint_urls: config.endpoint_urls.clone(),
        }
    }

    async fn client(&self) -> Result<reqwest::Client, String> {
        let tls = http::tls(self.ca_bundle.as_deref()).await;
        match (tls, &self.ca_bundle) {
            (Ok(tls), _) => http::aws_client(Some(tls)),
            // Where the system has no roots, only `https` fails.
            (Err(_), None) => http::aws_client(None),
            (Err(error), Some(_)) => Err(error),
        }
    }

    /// What AWS's own libraries are configured by.
    async fn loader(&self) -> Result<ConfigLoader, String> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http::Adapter(self.client().await?))
            .use_fips(self.flavour.fips)
            .use_dual_stack(self.flavour.dual_stack);
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        Ok(loader)
    }
}

impl Keys {
    pub(super) fn new(
        newest: watch::Receiver<Option<Arc<Credentials>>>,
        absent: watch::Receiver<bool>,
        refresh: Arc<Notify>,
    ) -> Self {
        Self {
            newest,
            absent,
            refresh,
        }
    }

    /// Keys that nobody renews.
    pub(super) fn fixed(keys: Option<Credentials>) -> Self {
        let (_, absent) = watch::channel(keys.is_none());
        let (_, newest) = watch::channel(keys.map(Arc::new));
        Self::new(newest, absent, Arc::default())
    }

    /// Waits until there are other ones.
    pub(super) async fn changed(&mut self) {
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The newest; while the chain is asked for the first ones it waits, as long as a call may take.
    pub(super) async fn newest(&self) -> Option<Arc<Credentials>> {
        let (mut newest, mut absent) = (self.newest.clone(), self.absent.clone());
        let known = async {
            tokio::select! {
                biased;
                found = newest.wait_for(Option::is_some) => found.ok()?.clone(),
                // An error is as good: nobody will bring any.
                _ = absent.wait_for(|absent| *absent) => None,
            }
        };
        tokio::time::timeout(CALL_TIMEOUT, known).await.ok()?
    }
}

impl Aws {
    pub(super) fn new(settings: Settings, keys: Keys) -> Self {
        Self {
            settings,
            keys,
            roles: Roles::default(),
            client: Mutex::new(None),
        }
    }

    /// As nobody, for who asks for nothing.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let settings = Settings {
            region: None,
            flavour: Flavour::default(),
            ca_bundle: None,
            endpoint_urls: EndpointUrls::new(),
        };
        Self::new(settings, Keys::fixed(None))
    }

    /// The node's own keys.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where a service is asked that the configuration has an endpoint for; `None` if it is AWS's own.
    pub(super) fn stand_in(&self, service: Service) -> Option<&EndpointUrl> {
        self.settings.endpoint_urls.get(&service)
    }

    /// Where a service is asked in that region.
    pub(super) fn endpoint(&self, service: Service, region: &str) -> EndpointUrl {
        let flavour = self.settings.flavour;
        let own = || service.endpoint(region, flavour);
        self.stand_in(service).cloned().unwrap_or_else(own)
    }

    /// Posts a request, and reads the answer whatever it is.
    pub(super) async fn post(&self, call: Call<'_>) -> Result<Answer, AwsError> {
        let url = format!("{}/", self.endpoint(call.service, call.region).url());
        self.send(Method::POST, &url, call).await
    }

    /// Sends a request, and reads the answer whatever it is.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        call: Call<'_>,
    ) -> Result<Answer, AwsError> {
        let keys = self.keys_for(call).await?;
        let signed = Signed {
            method: method.as_str(),
            url,
            service: call.service.name(),
            region: call.region,
            headers: call.headers,
            body: call.body,
        };
        let signature = signature::of(&signed, &keys).map_err(AwsError::Unable)?;
        let client = self.client().await.map_err(AwsError::Unable)?;
        let mut request = client.request(method, url).timeout(call.timeout);
        request = request.body(call.body.clone());
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let answer = match http::exchange_within(request, call.answer_bytes_max).await {
            Ok(answer) => answer,
            Err(failure) => {
                // Whoever mends its roots does not want to wait for them.
                *self.client.lock().await = None;
                return Err(AwsError::Unreachable(unreachable(url, &failure)));
            }
        };
        if answer.status >= 400 && is_about_keys(answer.refusal().kind()) {
            match call.role_arn {
                Some(role_arn) => self.roles.forget(role_arn).await,
                None => self.keys.refresh.notify_one(),
            }
        }
        Ok(answer)
    }

    async fn client(&self) -> Result<reqwest::Client, String> {
        let mut kept = self.client.lock().await;
        if let Some((client, made)) = &*kept
            && made.elapsed() < CLIENT_AGE_MAX
        {
            return Ok(client.clone());
        }
        let client = self.settings.client().await?;
        *kept = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    async fn keys_for(&self, call: Call<'_>) -> Result<Arc<Credentials>, AwsError> {
        let own = self.keys.newest().await;
        let own = own.ok_or_else(|| AwsError::Unable(NO_KEYS.to_owned()))?;
        match call.role_arn {
            None => Ok(own),
            Some(role_arn) => {
                let asked = roles::Asked {
                    role_arn,
                    region: call.region,
                    own: &own,
                };
                let keys = self.roles.keys(&self.settings, asked).await;
                if let Err(AwsError::KeysRefused(_)) = keys {
                    self.keys.refresh.notify_one();
                }
                keys
            }
        }
    }
}

fn unreachable(url: &str, failure: &Failure) -> String {
    match failure {
        Failure::Tls(error) => format!("{url}: {error}; name the root of its issuer as ca_bundle"),
        Failure::Broken(reason) => format!("{url}: {reason}"),
    }
}

/// Whether an error of that name says that the keys are no good.
pub(super) fn is_about_keys(kind: &str) -> bool {
    KEYS_REFUSED.iter().any(|refused| kind.starts_with(refused))
}
