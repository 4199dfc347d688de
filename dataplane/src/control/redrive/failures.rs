//! Documents in a topic of the mapping's own cluster: partition by partition, from the beginning to where each ended when
//! the redrive began.
//!
//! Invariant: nothing is committed, and nothing removed: that is the retention's.

use std::collections::VecDeque;

use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::records::{Decompressor, RecordReader};

use super::brokers::{Asking, Brokers, BrokersError};
use super::store::{Found, StoreError, Text};

/// The messages of a topic.
pub(super) struct FailuresStore {
    topic: String,
    read_committed: bool,
    /// What is left of each partition.
    left: VecDeque<Left>,
    waiting: VecDeque<Found>,
}

struct Left {
    partition: i32,
    next: i64,
    end: i64,
}

impl FailuresStore {
    /// Finds out where it begins and ends.
    pub(super) async fn new(
        topic: String,
        read_committed: bool,
        brokers: &mut Brokers,
    ) -> Result<Self, StoreError> {
        let (_, partitions) = brokers.topic(&topic).await?;
        let mut left = VecDeque::new();
        for partition in partitions {
            left.push_back(Left {
                partition,
                next: brokers.start(&topic, partition).await?,
                end: brokers.end(&topic, partition).await?,
            });
        }
        Ok(Self {
            topic,
            read_committed,
            left,
            waiting: VecDeque::new(),
        })
    }

    pub(super) async fn next(
        &mut self,
        brokers: &mut Brokers,
    ) -> Result<Option<Found>, StoreError> {
        while self.waiting.is_empty()
            && let Some(left) = self.left.front()
        {
            match left.next < left.end {
                true => self.fetch(brokers).await?,
                false => drop(self.left.pop_front()),
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Reads on in the first partition that has some left.
    async fn fetch(&mut self, brokers: &mut Brokers) -> Result<(), StoreError> {
        let Some(left) = self.left.front_mut() else {
            return Ok(());
        };
        let mut asking = Asking::new();
        let partition = left.partition;
        loop {
            let fetched = match brokers
                .fetch(&self.topic, partition, left.next, asking.bytes)
                .await
            {
                // Retention has overtaken us.
                Err(BrokersError::Refused(ErrorCode::OFFSET_OUT_OF_RANGE, _)) => {
                    let start = brokers.start(&self.topic, partition).await?;
                    left.next = start.max(left.next + 1);
                    return Ok(());
                }
                fetched => fetched?,
            };
            let (before, has_part) = (left.next, !fetched.records.is_empty());
            let aborted = fetched.aborted_transactions;
            let mut reader =
                RecordReader::new(fetched.records, left.next, aborted, self.read_committed);
            let mut decompressor = Decompressor::new();
            while let Some(record) = reader
                .next(&mut decompressor)
                .map_err(StoreError::of_records)?
            {
                if record.offset >= left.end {
                    break;
                }
                let value = record.value.unwrap_or_default();
                self.waiting.push_back(Found {
                    id: format!("{partition}:{}", record.offset),
                    place: format!("{}-{partition} offset {}", self.topic, record.offset),
                    text: Text::Read(String::from_utf8_lossy(value).into_owned()),
                });
            }
            left.next = reader.next_offset();
            if left.next > before {
                return Ok(());
            }
            if !asking.goes_on(has_part) {
                return Err(StoreError(format!(
                    "{}-{partition} gives no record from offset {before} on",
                    self.topic
                )));
            }
        }
    }
}
