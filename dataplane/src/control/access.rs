//! From what secrets hold to how connections are made.
//!
//! A mapping whose secret cannot be used does not run: without the root that its owner asked for it would
//! have to trust whom he does not. One that runs keeps what it has while a new text is wrong, or while its file
//! names another secret that cannot be read.
//!
//! Invariant: as long as texts and mapping are the same, so is the [`Access`], the very same; and where TLS is asked
//! for, none without it is kept.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay_protocol::kafka::sasl::SaslCredentials;
use rustls::ClientConfig;
use rustls::sign::CertifiedKey;
use tracing::{error, info};
use uuid::Uuid;

use super::aws::Aws;
use super::expiry::{self, Use, Watched};
use super::secret::certificate::{self, Certificate, certificates};
use super::secret::document::Document;
use super::secret::identity::identity;
use super::secrets::{self, SecretError, Secrets, Text};
use crate::contract::Access;
use crate::mapping::{Authentication, Function, Mapping, SecretSource};
use crate::trust::{self, Roots};

/// How each mapping's connections are made.
#[derive(Debug, Default)]
pub(super) struct Accesses {
    made: BTreeMap<Uuid, Made>,
    system: System,
}

/// TLS by the system's roots, for all who need nothing else: reading them takes long.
#[derive(Debug, Default)]
struct System(OnceCell<Arc<ClientConfig>>);

#[derive(Debug)]
struct Made {
    /// The secrets that it was made of.
    of: Vec<Read>,
    of_mapping: Arc<Mapping>,
    /// The last that could be made.
    access: Option<Arc<Access>>,
    /// What that uses of certificates.
    certificates: Arc<[Watched]>,
    trouble: Option<Trouble>,
}

/// Why connections cannot be made as the mapping wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A secret that was not read yet.
    Waiting,
    /// A secret cannot be read, or does not hold what it must.
    Secret(SecretError),
    /// A certificate or a key is of no use.
    Invalid(String),
}

/// What a mapping's connections need: its own secrets, and the roots of its function's endpoint.
pub(super) fn sources(mapping: &Mapping) -> impl Iterator<Item = SecretSource> {
    let bundle = bundle(&mapping.function);
    mapping.access.secrets().cloned().chain(bundle)
}

/// The file of its endpoint's roots is read as secrets are.
fn bundle(function: &Function) -> Option<SecretSource> {
    let bundle = function.ca_bundle.clone().filter(|_| function.tls)?;
    Some(SecretSource::CaBundle(bundle))
}

impl Accesses {
    /// How that mapping's connections are made now; `None` while they cannot be.
    pub(super) fn of(&mut self, mapping: &Arc<Mapping>, secrets: &Secrets) -> Option<Arc<Access>> {
        let of: Vec<_> = sources(mapping)
            .map(|source| {
                let text = secrets.get(&source).cloned();
                (source, text)
            })
            .collect();
        let old = self.made.remove(&mapping.uuid);
        let made = match old {
            Some(made) if is_same(&made, mapping, &of) => made,
            old => Made::new(old, mapping, of, &self.system),
        };
        let access = made.access.clone();
        self.made.insert(mapping.uuid, made);
        access
    }

    /// What is wrong with that mapping's; to wait for a first reading is not.
    pub(super) fn trouble(&self, uuid: Uuid) -> Option<&Trouble> {
        let trouble = self.made.get(&uuid)?.trouble.as_ref();
        trouble.filter(|trouble| **trouble != Trouble::Waiting)
    }

    /// The certificates that its connections use now.
    pub(super) fn certificates(&self, uuid: Uuid) -> Arc<[Watched]> {
        let made = self.made.get(&uuid);
        made.map(|made| Arc::clone(&made.certificates))
            .unwrap_or_default()
    }

    /// Forgets what is not declared any more.
    pub(super) fn retain(&mut self, declared: &BTreeSet<Uuid>) {
        self.made.retain(|uuid, _| declared.contains(uuid));
    }
}

fn is_same(made: &Made, mapping: &Arc<Mapping>, of: &[Read]) -> bool {
    let reached_alike = |one: &Mapping, other: &Mapping| {
        (&one.bootstrap, &one.access, &one.function)
            == (&other.bootstrap, &other.access, &other.function)
    };
    (Arc::ptr_eq(&made.of_mapping, mapping) || reached_alike(&made.of_mapping, mapping))
        && made.of.len() == of.len()
        && changed(&made.of, of).next().is_none()
}

/// Those that were read otherwise before, or not at all.
fn changed<'a>(before: &'a [Read], now: &'a [Read]) -> impl Iterator<Item = &'a Read> {
    let is_same = |one: &Read, other: &Read| match (&one.1, &other.1) {
        _ if one.0 != other.0 => false,
        (Some(Ok(one)), Some(Ok(other))) => Arc::ptr_eq(one, other),
        (Some(Err(one)), Some(Err(other))) => one == other,
        (one, other) => one.is_none() && other.is_none(),
    };
    now.iter()
        .filter(move |it| !before.iter().any(|old| is_same(old, it)))
}

/// Whether a mapping may be served as the one before was, while its own secrets cannot be used. Without TLS it may
/// not, if it asks for that; and the roots of one endpoint vouch for no other.
fn is_substitute(old: &Mapping, new: &Mapping) -> bool {
    let of_function = |mapping: &Mapping| (mapping.function.tls, bundle(&mapping.function));
    old.bootstrap == new.bootstrap
        && old.access.tls == new.access.tls
        && of_function(old) == of_function(new)
}

impl Made {
    fn new(old: Option<Self>, mapping: &Arc<Mapping>, of: Vec<Read>, system: &System) -> Self {
        let (uuid, function, topic) = (mapping.uuid, &mapping.function.name, &mapping.topic);
        let old = old.filter(|old| old.access.is_some());
        let (access, certificates, trouble) = match make(mapping, &of, system) {
            Ok((access, certificates)) => {
                for (secret, _) in old.iter().flat_map(|old| changed(&old.of, &of)) {
                    info!(mapping = %uuid, function, topic, %secret, "Secret has changed; the next connections use what it holds now");
                }
                (Some(Arc::new(access)), certificates.into(), None)
            }
            Err(trouble) => {
                let old = old.filter(|old| is_substitute(&old.of_mapping, mapping));
                // A secret that is still to be read is no trouble yet.
                if old.is_some() && trouble != Trouble::Waiting {
                    let reason = trouble.detail();
                    error!(mapping = %uuid, function, topic, reason, "Secret has changed and is of no use; what was used before is used");
                }
                let old = old.map(|old| (old.access, old.certificates));
                let (access, certificates) = old.unwrap_or_default();
                (access, certificates, Some(trouble))
            }
        };
        Self {
            of,
            of_mapping: Arc::clone(mapping),
            access,
            certificates,
            trouble,
        }
    }
}

/// Reads all that a mapping's connections need, once.
pub(super) async fn read(mapping: &Mapping, aws: &Aws) -> Vec<Read> {
    let mut of = Vec::new();
    for source in sources(mapping) {
        let text = secrets::read(aws, &source).await.map(Arc::new);
        of.push((source, Some(text)));
    }
    of
}

/// How a mapping's brokers would be reached, by what was read.
pub(super) fn of_brokers(mapping: &Mapping, of: &[Read]) -> Result<Access, Trouble> {
    to_brokers(mapping, of, &System::default()).map(|(access, _)| access)
}

/// The certificates that a mapping's connections would use, by what was read.
pub(super) fn watched(mapping: &Mapping, of: &[Read]) -> Result<Vec<Watched>, Trouble> {
    make(mapping, of, &System::default()).map(|(_, watched)| watched)
}

fn in_pem(source: &SecretSource, text: &str) -> Result<Vec<Certificate>, Trouble> {
    certificates(text).map_err(|error| invalid(source, &error))
}

impl System {
    fn config(
        &self,
        roots: Roots,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<Arc<ClientConfig>, Trouble> {
        let is_shared = matches!(roots, Roots::System) && identity.is_none();
        if let (true, Some(config)) = (is_shared, self.0.get()) {
            return Ok(Arc::clone(config));
        }
        let config = trust::client_config(roots, identity);
        let config = config.map_err(|error| Trouble::Invalid(error.to_string()))?;
        match is_shared {
            true => Ok(Arc::clone(self.0.get_or_init(|| config))),
            false => Ok(config),
        }
    }
}

/// What was read of a source of a mapping; `None` if nothing was yet.
pub(super) type Read = (SecretSource, Option<Result<Text, SecretError>>);

fn text<'a>(of: &'a [Read], source: &SecretSource) -> Result<&'a str, Trouble> {
    let found = of.iter().find(|(of, _)| of == source);
    match found.and_then(|(_, text)| text.as_ref()) {
        Some(Ok(text)) => Ok(text.as_str()),
        Some(Err(error)) => Err(Trouble::Secret(error.clone())),
        None => Err(Trouble::Waiting),
    }
}

fn make(
    mapping: &Mapping,
    of: &[Read],
    system: &System,
) -> Result<(Access, Vec<Watched>), Trouble> {
    let (mut access, mut watched) = to_brokers(mapping, of, system)?;
    if mapping.function.tls {
        let roots = match bundle(&mapping.function) {
            None => Roots::System,
            Some(source) => {
                let roots = in_pem(&source, text(of, &source)?)?;
                watched.extend(expiry::watched(Use::FunctionRoot, &source, &roots));
                certificate::roots(roots)
            }
        };
        access.function = Some(system.config(roots, None)?);
    }
    Ok((access, watched))
}

fn to_brokers(
    mapping: &Mapping,
    of: &[Read],
    system: &System,
) -> Result<(Access, Vec<Watched>), Trouble> {
    let text = |source: &SecretSource| text(of, source);
    let (mut access, mut watched) = (Access::default(), Vec::new());
    if !mapping.access.tls {
        return Ok((access, watched));
    }
    let roots = match &mapping.access.root {
        None => Roots::System,
        Some(source) => {
            let document = Document::parse(text(source)?);
            let roots = document.and_then(|document| document.root_certificates());
            let roots = in_pem(source, &roots.map_err(|error| unreadable(source, &error))?)?;
            watched.extend(expiry::watched(Use::BrokerRoot, source, &roots));
            certificate::roots(roots)
        }
    };
    let identity = match &mapping.access.authentication {
        None => None,
        Some(Authentication::Sasl(mechanism, source)) => {
            let document = Document::parse(text(source)?);
            let user = document.and_then(|document| document.sasl());
            let user = user.map_err(|error| unreadable(source, &error))?;
            access.sasl = Some(Arc::new(SaslCredentials {
                mechanism: *mechanism,
                username: user.username.to_string(),
                password: user.password,
            }));
            None
        }
        Some(Authentication::Certificate(source)) => {
            let document = Document::parse(text(source)?);
            let own = document.and_then(|document| document.client_certificate());
            let own = own.map_err(|error| unreadable(source, &error))?;
            let password = own.private_key_password.as_ref().map(|it| it.as_str());
            let identity = identity(&own.certificate, &own.private_key, password);
            let identity = identity.map_err(|error| invalid(source, &error))?;
            let chain = in_pem(source, &own.certificate)?;
            watched.extend(expiry::watched(Use::Client, source, &chain));
            Some(identity)
        }
    };
    access.brokers = Some(system.config(roots, identity)?);
    Ok((access, watched))
}

fn unreadable(source: &SecretSource, error: &dyn std::error::Error) -> Trouble {
    let reason = format!("{source}: {error}");
    Trouble::Secret(SecretError::Unreadable(reason))
}

fn invalid(source: &SecretSource, error: &dyn std::error::Error) -> Trouble {
    Trouble::Invalid(format!("{source}: {error}"))
}

impl Trouble {
    /// Our own words.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Waiting => "",
            Self::Invalid(text) => text,
            Self::Secret(
                SecretError::Unreadable(text)
                | SecretError::Unreachable(text)
                | SecretError::RoleRefused(text),
            ) => text,
        }
    }
}
