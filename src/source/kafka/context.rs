//! What librdkafka calls back with, kept for the polling thread to deal with after the poll.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::kafka::{Logger, lock};

/// A change of the assignment that the group asks for, and that waits until the consumer says that it is done.
#[derive(Debug)]
pub(super) enum Change {
    Assign(Vec<(String, i32)>),
    /// `lost`: others may own them already.
    Revoke {
        partitions: Vec<(String, i32)>,
        lost: bool,
    },
}

/// How far librdkafka has read a partition.
#[derive(Debug, Clone)]
pub(super) struct ReadTo {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The last end of the partition that was reached, if everything below it was given out; `None` where nothing is fetched.
    pub(super) end: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct SourceContext {
    pub(super) logger: Logger,
    pub(super) changes: Mutex<VecDeque<Change>>,
    pub(super) read_to: Mutex<Vec<ReadTo>>,
    /// Set before the consumer is dropped: then revocations are granted at once.
    pub(super) closing: AtomicBool,
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.logger.line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logger.global_error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let mut read_to = Vec::new();
        for (topic, of_topic) in statistics.topics {
            for of_partition in of_topic.partitions.into_values() {
                // Without a leader that is fetched from, the end is an old one: nobody brings it up to date.
                let fetched = of_partition.leader >= 0 && of_partition.fetch_state == "active";
                // With nothing waiting in the queue, all below the end has been polled. The queue is one for all partitions.
                let end = (of_partition.fetchq_cnt == 0 && of_partition.eof_offset >= 0).then_some(of_partition.eof_offset);
                if !fetched || end.is_some() {
                    let end = end.filter(|_| fetched);
                    read_to.push(ReadTo { topic: topic.clone(), partition: of_partition.partition, end });
                }
            }
        }
        *lock(&self.read_to) = read_to;
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = || list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let _ = if assign { answer_assign(consumer, list) } else { answer_revoke(consumer, list) };
            return;
        }
        // librdkafka waits for the answer, which may come after this returns; waiting here for the worker would keep it from polling meanwhile.
        let change = if assign {
            Change::Assign(partitions())
        } else {
            Change::Revoke { partitions: partitions(), lost: consumer.assignment_lost() }
        };
        lock(&self.changes).push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(e) = result {
            tracing::debug!("a commit in the background failed: {e}");
        }
    }
}

/// Takes `list` with its offsets.
pub(super) fn answer_assign(consumer: &BaseConsumer<SourceContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Gives `list` back.
pub(super) fn answer_revoke(consumer: &BaseConsumer<SourceContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}
