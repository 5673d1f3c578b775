//! What every transactional producer of ours shares: how its blocking calls are made until they work, and what a transaction needs to know of the
//! consumer whose offsets go into it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};

use super::{SAY_EVERY, lasting};
use crate::error::Result;
use crate::failpoint;
use crate::flow::{CommitPoint, Partition};
use crate::telemetry::{On, Wait};

/// Longest time in one blocking call; one that took longer is made again, which librdkafka takes for the same one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// After so long in one call the client is taken for stuck: a call takes [`PATIENCE`], twice that where it flushes first. librdkafka (2.12) was seen to wait
/// without end in `send_offsets_to_transaction` after the group's coordinator had been killed.
const SILENCE: Duration = Duration::from_secs(40);
const TICK: Duration = Duration::from_secs(1);

/// The calls of a producer, for whoever looks whether it comes back from them: begun and ended ones, so an odd number while one is being made.
#[derive(Debug, Default)]
pub(crate) struct Calls(AtomicU64);

impl Calls {
    fn made<T>(&self, call: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Relaxed);
        let result = call();
        self.0.fetch_add(1, Relaxed);
        result
    }

    /// Returns, with the reason, when the client has been in one call for much longer than it may take; its thread is lost then. Time in which this process
    /// was frozen does not count.
    pub(crate) async fn stuck(&self) -> String {
        self.silent(SILENCE).await;
        format!("its client has not come back from one call for {} s: it has lost an answer of a broker", SILENCE.as_secs())
    }

    async fn silent(&self, limit: Duration) {
        let (mut last, mut silent) = (0, Duration::ZERO);
        while silent < limit {
            tokio::time::sleep(TICK).await;
            let now = self.0.load(Relaxed);
            silent = if now == last && now % 2 == 1 { silent + TICK } else { Duration::ZERO };
            last = now;
        }
    }
}

/// What became of a transaction, or of one call in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The call worked; of a commit: readers see everything.
    Committed,
    /// Nothing of it is seen by readers that read committed messages only.
    Aborted(Abort),
}

/// Why a transaction was aborted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Abort {
    /// For people.
    pub why: String,
    /// What will not pass by itself, if it is that, and what to do.
    pub lasting: Option<&'static str>,
}

impl Abort {
    fn of(error: &KafkaError) -> Self {
        // Topics and partitions seem to be unknown for a moment when brokers come and go.
        let passes = |code: &Code| matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition);
        let lasting = error.rdkafka_error_code().filter(|code| !passes(code)).and_then(lasting);
        Self { why: error.to_string(), lasting }
    }
}

/// Refusals in a row after which a transaction is not made again.
pub(crate) const REFUSALS: u32 = 3;

/// Makes a call until it works or the transaction is lost; one that is lost is aborted. Blocks. Each single call comes back within its patience unless the
/// client has lost an answer, which `calls` tells.
///
/// # Errors
/// One after which the producer cannot go on: it was fenced, lacks a right, or the call makes no sense to the brokers.
pub(crate) fn call<C: ProducerContext + 'static>(
    client: &ThreadedProducer<C>,
    brokers: &str,
    what: &str,
    calls: &Calls,
    call: impl Fn(&ThreadedProducer<C>) -> KafkaResult<()>,
) -> Result<End, KafkaError> {
    let (begun, mut said) = (Instant::now(), Instant::now());
    let mut aborting: Option<Abort> = None;
    let mut waiting: Option<Wait> = None;
    loop {
        let result = calls.made(|| match aborting {
            Some(_) => client.abort_transaction(PATIENCE),
            None => {
                failpoint::stall(what);
                call(client)
            }
        });
        let Err(error) = result else { return Ok(aborting.map_or(End::Committed, End::Aborted)) };
        match &error {
            KafkaError::Transaction(e) if e.is_fatal() => return Err(error),
            KafkaError::Transaction(e) if e.txn_requires_abort() && aborting.is_none() => aborting = Some(Abort::of(&error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// It was once waited for until the watchdog ended the worker, half an hour later.
    #[tokio::test]
    async fn a_client_that_does_not_come_back_is_given_up_and_one_that_calls_again_is_not() {
        let (limit, patience) = (2 * TICK, 6 * TICK);
        let calls = Calls::default();
        let again = async {
            for _ in 0..6 {
                calls.0.fetch_add(2, Relaxed);
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            () = calls.silent(limit) => panic!("it still called, and then made no call"),
            () = again => {}
        }
        calls.0.fetch_add(1, Relaxed);
        assert!(tokio::time::timeout(patience, calls.silent(limit)).await.is_ok());
    }
}
