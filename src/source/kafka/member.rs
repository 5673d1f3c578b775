//! The consumer group member, as transactions over its offsets see it.

use std::sync::{Arc, Mutex, Weak};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};

use super::{Consumer_, Shared, offsets_list, past_markers};
use crate::error::{Error, Result};
use crate::flow::{CommitPoint, Partition};
use crate::kafka::lock;
use crate::kafka::transaction::Member;

pub(super) struct GroupMember {
    pub(super) shared: Arc<Mutex<Shared>>,
    /// Weak, as in the control.
    pub(super) consumer: Weak<Consumer_>,
}

impl Member for GroupMember {
    fn owns(&self, partition: &Partition, assignment: u64) -> bool {
        lock(&self.shared).owned.get(partition).is_some_and(|owned| owned.assignment == assignment)
    }

    /// The order counts. Brokers let offsets without member and generation pass, which is what librdkafka has once the group has put this worker out; it
    /// then says so (`assignment_lost`) until the polling thread has answered, which takes the partitions out of `owned` first. So the metadata is
    /// taken first: if it is still that of a member, brokers refuse it when the group has moved on; if not, one of the looks afterwards tells.
    fn offsets(&self, points: &[&CommitPoint]) -> Result<Option<(TopicPartitionList, ConsumerGroupMetadata)>> {
        let consumer = self.consumer.upgrade().ok_or_else(|| Error::failed("the Kafka source ended amid a transaction"))?;
        let metadata = consumer.group_metadata().ok_or_else(|| Error::failed("the Kafka consumer has no group; this is a bug"))?;
        if consumer.assignment_lost() {
            return Ok(None);
        }
        let shared = lock(&self.shared);
        let mut offsets = Vec::with_capacity(points.len());
        for point in points {
            match shared.owned.get(&point.partition) {
                Some(owned) if owned.assignment == point.assignment => {
                    offsets.push((&point.partition, past_markers(owned, point.next_offset)));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some((offsets_list(offsets)?, metadata)))
    }
}
