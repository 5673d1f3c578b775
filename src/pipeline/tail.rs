//! The end of a topic, read once. Blocks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
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

/// Each partition that is not empty, with the offset that `depth` before its end is. Markers of transactions count.
pub(super) fn begins(asking: &BaseConsumer<Asking>, topic: &str, depth: i64) -> Result<Vec<(i32, i64)>, KafkaError> {
    let mut begins = Vec::new();
    for partition in partitions(asking, topic)? {
        let (low, high) = asking.fetch_watermarks(topic, partition, PATIENCE)?;
        if low < high {
            begins.push((partition, low.max(high - depth)));
        }
    }
    Ok(begins)
}

/// Gives `visit` every message from those offsets on, until it says `false` or all partitions are at their end.
pub(super) fn read(
    asking: &BaseConsumer<Asking>,
    topic: &str,
    begins: &[(i32, i64)],
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in begins {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    let mut open: BTreeSet<i32> = begins.iter().map(|(partition, _)| *partition).collect();
    asking.assign(&list)?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        match asking.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if !visit(&message) {
                    return Ok(());
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
