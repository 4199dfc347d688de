//! What holds documents of failed records, whichever it is.
//!
//! Invariant: each document is given once, and only what is asked for is removed.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::kafka::records::RecordError;

use super::brokers::{Brokers, BrokersError};
use super::bucket::BucketStore;
use super::failures::FailuresStore;
use super::queue::QueueStore;
use super::source::Source;
use crate::control::aws::Aws;
use crate::control::destinations::Way;
use crate::control::destinations::refused::Refused;
use crate::mapping::Mapping;

/// A store, and how it is reached.
pub(super) struct Store {
    place: Place,
    aws: Arc<Aws>,
    role_arn: Option<String>,
}

enum Place {
    Bucket(BucketStore),
    Queue(QueueStore),
    Failures(FailuresStore),
}

/// What may be a document.
#[derive(Debug)]
pub(super) struct Found {
    /// It names it in the progress file.
    pub(super) id: String,
    /// It names it to people.
    pub(super) place: String,
    /// What it holds.
    pub(super) text: Text,
}

/// What something holds.
#[derive(Debug)]
pub(super) enum Text {
    /// This.
    Read(String),
    /// An object of so many bytes, which is to be read yet.
    Object(usize),
}

/// Why a store cannot be gone on with, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct StoreError(pub(super) String);

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        Self(refused.to_string())
    }
}

impl From<BrokersError> for StoreError {
    fn from(error: BrokersError) -> Self {
        Self(error.to_string())
    }
}

impl StoreError {
    pub(super) fn of_records(error: RecordError) -> Self {
        Self(error.to_string())
    }
}

/// How a store is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Nothing is done with what it holds.
    pub(super) looks: bool,
    /// How long what is done with one document may take.
    pub(super) held_for: Duration,
}

impl Store {
    pub(super) async fn open(
        source: &Source,
        mapping: &Mapping,
        aws: Arc<Aws>,
        brokers: &mut Brokers,
        how: Use,
    ) -> Result<Self, StoreError> {
        let place = match source {
            Source::Bucket(bucket, prefix) => {
                Place::Bucket(BucketStore::new(bucket.clone(), prefix.clone()))
            }
            Source::Queue(queue) => {
                Place::Queue(QueueStore::new(queue.clone(), how.held_for, how.looks))
            }
            Source::Topic(topic) => {
                let read_committed = mapping.kafka.read_committed;
                let store = FailuresStore::new(topic.clone(), read_committed, brokers).await?;
                Place::Failures(store)
            }
        };
        Ok(Self {
            place,
            aws,
            role_arn: mapping.function.role_arn.clone(),
        })
    }

    /// The next of what it holds.
    pub(super) async fn next(
        &mut self,
        brokers: &mut Brokers,
    ) -> Result<Option<Found>, StoreError> {
        let way = way(&self.aws, &self.role_arn);
        match &mut self.place {
            Place::Bucket(store) => store.next(way).await,
            Place::Queue(store) => store.next(way).await,
            Place::Failures(store) => store.next(brokers).await,
        }
    }

    /// Its text, or why there is none.
    pub(super) async fn read(
        &self,
        found: &mut Found,
    ) -> Result<Result<String, String>, StoreError> {
        match (&mut found.text, &self.place) {
            (Text::Read(text), _) => Ok(Ok(std::mem::take(text))),
            (Text::Object(bytes), Place::Bucket(store)) => {
                let way = way(&self.aws, &self.role_arn);
                store.read(way, &found.id, *bytes).await
            }
            (Text::Object(_), Place::Queue(_) | Place::Failures(_)) => {
                unreachable!("objects are in buckets")
            }
        }
    }

    /// How much of it somebody else holds now.
    pub(super) async fn held_elsewhere(&self) -> u64 {
        match &self.place {
            Place::Queue(store) => store.held_elsewhere(way(&self.aws, &self.role_arn)).await,
            Place::Bucket(_) | Place::Failures(_) => 0,
        }
    }

    /// Keeps others away from it while it is worked on.
    pub(super) async fn hold(&self, found: &Found) -> Result<(), StoreError> {
        match &self.place {
            Place::Queue(store) => store.hold(way(&self.aws, &self.role_arn), &found.id).await,
            Place::Bucket(_) | Place::Failures(_) => Ok(()),
        }
    }

    /// Removes it.
    pub(super) async fn remove(&mut self, found: &Found) -> Result<(), StoreError> {
        let way = way(&self.aws, &self.role_arn);
        match &mut self.place {
            Place::Bucket(store) => store.remove(way, &found.id).await,
            Place::Queue(store) => store.remove(way, &found.id).await,
            // Whoever asks for it is refused beforehand.
            Place::Failures(_) => Ok(()),
        }
    }

    /// Leaves it as it is to be found again.
    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        match &mut self.place {
            Place::Queue(store) => store.close(way(&self.aws, &self.role_arn)).await,
            Place::Bucket(_) | Place::Failures(_) => Ok(()),
        }
    }
}

fn way<'a>(aws: &'a Aws, role_arn: &'a Option<String>) -> Way<'a> {
    Way {
        aws,
        role_arn: role_arn.as_deref(),
    }
}
