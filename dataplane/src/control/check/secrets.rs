//! What `check` finds of a mapping's secrets, which are read as the node would.
//!
//! Invariant: a value of a secret is in no line.

use std::time::Duration;

use super::{Report, Severity};
use crate::clock;
use crate::control::access::{self, Read};
use crate::control::expiry::{DAY, Watched};
use crate::control::secret::certificate::time;
use crate::control::secrets::local;
use crate::mapping::{Mapping, SecretSource};

/// A certificate that ends within this is worth a line.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * DAY);

/// Makes of what was read what connections take.
pub(super) fn of_mapping(mapping: &Mapping, read: &[Read], report: &mut Report) {
    let all: Vec<SecretSource> = access::sources(mapping).collect();
    if all.is_empty() {
        return;
    }
    let subject = match all.len() {
        1 => format!("secret {}", all[0]),
        count => format!("{count} secrets"),
    };
    let with_the_service = all.iter().find(|it| local::is_with_the_service(it));
    if let Some(SecretSource::Credential(name)) = with_the_service {
        let message = format!(
            "not read: credential:{name} is given to the service alone; to read it, check as the service does: \
             systemd-run --pipe -p LoadCredential={name}:/path forebay check --config FILE"
        );
        report.add(Severity::Note, subject, message);
        return;
    }
    match access::watched(mapping, read) {
        Ok(certificates) => {
            report.add(Severity::Right, subject, "read, and of use");
            for certificate in &certificates {
                expiring(certificate, report);
            }
        }
        Err(trouble) => {
            let (subject, message) = told(&all, trouble.detail());
            report.add(Severity::Problem, subject, message);
        }
    }
}

/// Which secret a trouble is about, and what remains to be said: mostly it begins with its name.
fn told<'a>(all: &[SecretSource], detail: &'a str) -> (String, &'a str) {
    let named = all.iter().find_map(|source| {
        let rest = detail.strip_prefix(&source.to_string())?;
        let message = rest.trim_start_matches([':', ' ']);
        Some((format!("secret {source}"), message))
    });
    named.unwrap_or_else(|| ("secrets".to_owned(), detail))
}

fn expiring(certificate: &Watched, report: &mut Report) {
    let left = certificate
        .not_after
        .saturating_sub(clock::unix_now().as_secs());
    if left > EXPIRES_SOON.as_secs() {
        return;
    }
    let Watched {
        used_as,
        source,
        subject,
        not_after,
    } = certificate;
    let message = format!(
        "{} certificate {subject} is valid until {}, {} days from now; put a new one there",
        used_as.words(),
        time(*not_after),
        left / DAY
    );
    report.add(Severity::Note, format!("secret {source}"), message);
}
