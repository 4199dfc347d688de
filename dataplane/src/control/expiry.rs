//! When the certificates end that mappings use, and a warning in time: 30 days, 7 days and 1 day before, and
//! then every day.
//!
//! Only private certificates are watched: ours, and roots that a secret or a small `ca_bundle` names. A bundle as
//! large as a system's own always holds some that have ended, which nobody misses.
//!
//! Invariant: a mapping is warned of once a stage for each way in which it uses certificates, whatever their number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::{error, warn};
use uuid::Uuid;

use super::secret::certificate::{Certificate, time};
use crate::mapping::{Mapping, SecretSource};

/// In seconds.
pub(super) const DAY: u64 = 86_400;

/// Days before the end at which a warning is due. Later ones come daily.
const WARNINGS_DAYS: [i64; 3] = [30, 7, 1];

/// A text with more certificates is a bundle of the public's roots.
const WATCHED_MAX: usize = 16;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// It says to brokers who we are.
    Client,
    /// It vouches for brokers.
    BrokerRoot,
    /// It vouches for the function's endpoint.
    FunctionRoot,
}

/// A certificate that a mapping uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) used_as: Use,
    pub(super) source: SecretSource,
    pub(super) subject: String,
    /// Seconds since 1970, the last at which it is valid.
    pub(super) not_after: u64,
}

impl Use {
    /// All there are, in the order in which metrics have them.
    pub(super) const ALL: [Self; 3] = [Self::Client, Self::BrokerRoot, Self::FunctionRoot];

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::BrokerRoot => "broker root",
            Self::FunctionRoot => "function root",
        }
    }

    /// As a label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::BrokerRoot => "broker_root",
            Self::FunctionRoot => "function_root",
        }
    }
}

/// What is to be watched of a text's certificates.
pub(super) fn watched(
    used_as: Use,
    source: &SecretSource,
    certificates: &[Certificate],
) -> Vec<Watched> {
    if certificates.len() > WATCHED_MAX {
        return Vec::new();
    }
    let all = certificates.iter().map(|it| Watched {
        used_as,
        source: source.clone(),
        subject: it.subject.clone(),
        not_after: it.not_after,
    });
    all.collect()
}

/// Of those that are used so, the one that ends first.
pub(super) fn first(of: &[Watched], used_as: Use) -> Option<&Watched> {
    let own = of.iter().filter(|it| it.used_as == used_as);
    own.min_by_key(|it| it.not_after)
}

/// What was said of each mapping's certificates.
#[derive(Debug, Default)]
pub(super) struct Expiries(BTreeMap<(Uuid, Use), (u64, i64)>);

impl Expiries {
    /// Warns of that mapping's certificates, if a warning is due at that time since 1970.
    pub(super) fn look(&mut self, mapping: &Mapping, certificates: &[Watched], now: Duration) {
        for used_as in Use::ALL {
            let first = first(certificates, used_as);
            let due = first.and_then(|it| Some((it, stage(it.not_after, now.as_secs())?)));
            let key = (mapping.uuid, used_as);
            let Some((certificate, stage)) = due else {
                self.0.remove(&key);
                continue;
            };
            let saying = (certificate.not_after, stage);
            if self.0.insert(key, saying) != Some(saying) {
                say(mapping, certificate, now.as_secs());
            }
        }
    }

    /// Forgets what is not declared any more.
    pub(super) fn retain(&mut self, declared: &BTreeSet<Uuid>) {
        self.0.retain(|(uuid, _), _| declared.contains(uuid));
    }
}

fn say(mapping: &Mapping, certificate: &Watched, now: u64) {
    let Watched {
        used_as,
        source,
        subject,
        not_after,
    } = certificate;
    let (uuid, function, topic) = (mapping.uuid, &mapping.function.name, &mapping.topic);
    let (kind, until) = (used_as.words(), time(*not_after));
    let days_left = not_after.saturating_sub(now) / DAY;
    if *not_after < now {
        error!(mapping = %uuid, function, topic, kind, secret = %source, subject, not_after = until, "Certificate has expired; put a new one into its secret, which is read again by itself");
    } else {
        warn!(mapping = %uuid, function, topic, kind, secret = %source, subject, not_after = until, days_left, "Certificate expires soon; put a new one into its secret, which is read again by itself");
    }
}

/// Which warning is due, if any: it changes when the next one is.
fn stage(not_after: u64, now: u64) -> Option<i64> {
    let left =
        i64::try_from(not_after).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(i64::MAX);
    let day = DAY as i64;
    let mut reached = WARNINGS_DAYS.into_iter().filter(|days| left <= days * day);
    let last = reached.next_back()?;
    match last {
        // Within the last day, and daily after it: 0, -1, -2.
        1 => Some(left.div_euclid(day).min(0)),
        days => Some(days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000 * DAY;

    /// The ages in hours before the end, of those from `from` down to `to`, at which something is said.
    fn said(from: i64, to: i64) -> Vec<i64> {
        let mut last = None;
        let hours = (to..=from).rev();
        hours
            .filter(|hours| {
                let not_after = NOW.checked_add_signed(hours * 3600).unwrap();
                let stage = stage(not_after, NOW);
                let says = stage.is_some() && stage != last;
                last = stage;
                says
            })
            .collect()
    }

    #[test]
    fn warnings_come_at_30_days_7_days_1_day_and_then_daily() {
        assert_eq!(said(60 * 24, -72), [720, 168, 24, -1, -25, -49]);
        assert_eq!(said(60 * 24, 31 * 24), [0; 0]);
    }

    #[test]
    fn a_node_that_starts_late_says_what_is_due() {
        assert_eq!(said(100, 90), [100]);
        assert_eq!(said(-30, -40), [-30]);
    }

    #[test]
    fn times_at_the_ends_of_their_range_are_no_trouble() {
        assert_eq!(stage(u64::MAX, 0), None);
        assert!(stage(0, u64::MAX).is_some());
    }
}
