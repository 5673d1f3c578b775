//! The end of a topic, read once. Blocks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::Asking;

/// Longest time for one answer, and between two messages.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The numbers of a topic's partitions; none where it is missing.
pub(super) fn partitions(asking: &BaseConsumer<Asking>, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata = asking.fetch_metadata(Some(topic), PATIENCE)?;
    Ok(metadata.topics().iter().flat_map(|t| t.partitions().iter().map(MetadataPartition::id)).collect())
}

/// The end of one partition, as it was at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    partition: i32,
    /// Where it begins.
    from: i64,
    /// Where it ends.
    end: i64,
}

/// Of each partition that is not empty the last `depth` offsets. Markers of transactions count.
pub(super) fn tails(asking: &BaseConsumer<Asking>, topic: &str, depth: i64) -> Result<Vec<Tail>, KafkaError> {
    let mut tails = Vec::new();
    for partition in partitions(asking, topic)? {
        let (low, high) = asking.fetch_watermarks(topic, partition, PATIENCE)?;
        if low < high {
            tails.push(Tail { partition, from: low.max(high - depth), end: high });
        }
    }
    Ok(tails)
}

/// Gives `visit` every message of `tails`, until it says `false`. What is written meanwhile is not waited for: a partition that others write to all the
/// time may never be seen at its end.
pub(super) fn read(
    asking: &BaseConsumer<Asking>,
    topic: &str,
    tails: &[Tail],
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for tail in tails {
        list.add_partition_offset(topic, tail.partition, Offset::Offset(tail.from))?;
    }
    let mut open: BTreeMap<i32, i64> = tails.iter().map(|tail| (tail.partition, tail.end)).collect();
    asking.assign(&list)?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        match asking.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some(end) = open.get(&message.partition()).copied() else { continue };
                if message.offset() < end && !visit(&message) {
                    return Ok(());
                }
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                open.remove(&partition);
            }
            Some(Err(error)) if heard.elapsed() > PATIENCE => return Err(error),
            Some(Err(error)) => tracing::warn!("reading the end of {topic}: {error}"),
            None if heard.elapsed() > PATIENCE => return Err(KafkaError::MessageConsumption(Code::OperationTimedOut)),
            None => {}
        }
    }
    Ok(())
}
