//! What every transactional producer of ours shares: how its blocking calls are made until they work, and what a transaction needs to know of the
//! consumer whose offsets go into it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};

use super::SAY_EVERY;
use crate::error::Result;
use crate::flow::{CommitPoint, Partition};
use crate::telemetry::{On, Wait};

/// Longest time in one blocking call; one that took longer is made again, which librdkafka takes for the same one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a transaction, or of one call in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The call worked; of a commit: readers see everything.
    Committed,
    /// Nothing of it is seen by readers that read committed messages only, and why.
    Aborted(String),
}

/// Makes a call until it works or the transaction is lost; one that is lost is aborted. Blocks. Counts the single calls in `made`, of which each comes back
/// within its patience unless the client has lost an answer.
///
/// # Errors
/// One after which the producer cannot go on: it was fenced, lacks a right, or the call makes no sense to the brokers.
pub(crate) fn call<C: ProducerContext + 'static>(
    client: &ThreadedProducer<C>,
    brokers: &str,
    what: &str,
    made: &AtomicU64,
    call: impl Fn(&ThreadedProducer<C>) -> KafkaResult<()>,
) -> Result<End, KafkaError> {
    let (begun, mut said) = (Instant::now(), Instant::now());
    let mut aborting: Option<String> = None;
    let mut waiting: Option<Wait> = None;
    loop {
        made.fetch_add(1, Relaxed);
        let result = if aborting.is_some() { client.abort_transaction(PATIENCE) } else { call(client) };
        let Err(error) = result else { return Ok(aborting.map_or(End::Committed, End::Aborted)) };
        match &error {
            KafkaError::Transaction(e) if e.is_fatal() => return Err(error),
            KafkaError::Transaction(e) if e.txn_requires_abort() && aborting.is_none() => aborting = Some(error.to_string()),
            KafkaError::Transaction(e) if e.is_retriable() => {
                if said.elapsed() >= SAY_EVERY {
                    said = Instant::now();
                    waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("{what} at {brokers} ({error})")));
                    tracing::warn!("{what} at {brokers}: {error}; trying for {} s now", begun.elapsed().as_secs());
                }
                std::thread::sleep(PAUSE);
            }
            // Committing flushes first; what failed in there is said by the commit itself.
            KafkaError::Flush(_) => std::thread::sleep(PAUSE),
            _ => return Err(error),
        }
    }
}

/// Waits until the brokers have taken every message of the transaction, or the message has timed out. To be called before anything that can end in an abort:
/// librdkafka (2.12, `rd_kafka_toppar_purge_queues`) then purges what waits to be sent again after a lost connection, and gives its sequence numbers to
/// the next transaction. A broker that had taken it all the same takes those for repetitions, says yes, and drops them. (After a timeout librdkafka
/// begins a new epoch, as it should.)
pub(crate) fn delivered<C: ProducerContext + 'static>(client: &ThreadedProducer<C>) -> KafkaResult<()> {
    client.flush(PATIENCE)
}

/// A member of a consumer group, as the transactions see it that commit its offsets.
pub trait Member: Send + Sync {
    /// Whether this assignment of the partition is still this worker's.
    fn owns(&self, partition: &Partition, assignment: u64) -> bool;

    /// Offsets in librdkafka's form, and what fences this worker's transactions once the group has gone on without it (KIP-447); `None` if one of the
    /// partitions is not this worker's any more.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] if the consumer has ended.
    fn offsets(&self, points: &[&CommitPoint]) -> Result<Option<(TopicPartitionList, ConsumerGroupMetadata)>>;
}
