//! The consumer group member, as transactions over its offsets see it.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{rd_kafka_mem_free, rd_kafka_memberid};
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};

use super::{Consumer_, Shared, offsets_list, past_markers};
use crate::error::{Error, Result};
use crate::flow::{CommitPoint, Partition};
use crate::kafka::lock;
use crate::kafka::transaction::Member;

/// The name that the group has given this member; empty while it has none. A member that was put out and comes back gets another one.
#[allow(unsafe_code)] // the bindings have no safe way to ask
pub(super) fn member_id(consumer: &Consumer_) -> String {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as the consumer that is borrowed. What it returns is null or a string that ends with 0 and is ours to give
    // back, which happens after it was copied.
    unsafe {
        let id = rd_kafka_memberid(client);
        if id.is_null() {
            return String::new();
        }
        let copy = CStr::from_ptr(id).to_string_lossy().into_owned();
        rd_kafka_mem_free(client, id.cast());
        copy
    }
}

pub(super) struct GroupMember {
    pub(super) shared: Arc<Mutex<Shared>>,
    /// Weak, as in the control.
    pub(super) consumer: Weak<Consumer_>,
}

impl Member for GroupMember {
    fn owns(&self, partition: &Partition, assignment: u64) -> bool {
        lock(&self.shared).owned.get(partition).is_some_and(|owned| owned.assignment == assignment && owned.put_out.is_none())
    }

    /// The order counts. Brokers let offsets without member and generation pass, which is what librdkafka has once the group has put this worker out; it
    /// then says so (`assignment_lost`) until the polling thread has answered, which takes the partitions out of `owned` first. So the metadata is
    /// taken first: if it is still that of a member, brokers refuse it when the group has moved on; if not, one of the looks afterwards tells.
    ///
    /// A member that was put out amid a rebalance is not told: librdkafka joins again under another name, and keeps what it had until the group takes it
    /// away. Brokers would take its old results for those of the new member. So they count only under the name that the partition was given to; names do
    /// not come back, so one that is the same afterwards is that of the metadata.
    fn offsets(&self, points: &[&CommitPoint]) -> Result<Option<(TopicPartitionList, ConsumerGroupMetadata)>> {
        let consumer = self.consumer.upgrade().ok_or_else(|| Error::failed("the Kafka source ended amid a transaction"))?;
        let metadata = consumer.group_metadata().ok_or_else(|| Error::failed("the Kafka consumer has no group; this is a bug"))?;
        if consumer.assignment_lost() {
            return Ok(None);
        }
        let name = member_id(&consumer);
        let mut shared = lock(&self.shared);
        if put_out(&mut shared, &name) {
            return Ok(None);
        }
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

/// Marks what was given to this member under another name than it has now; whether there is such.
pub(super) fn put_out(shared: &mut Shared, name: &str) -> bool {
    let mut any = false;
    for (partition, owned) in &mut shared.owned {
        // Brokers take offsets from a member without a name.
        if (name.is_empty() || *owned.member != *name) && owned.put_out.is_none() {
            tracing::warn!(
                "{partition}: the group has put this worker out; what it had not committed is dropped, and read again by the next owner"
            );
            owned.put_out = Some(Instant::now());
        }
        any |= owned.put_out.is_some();
    }
    any
}

#[cfg(test)]
mod tests {
    use super::super::{Owned, to_commit};
    use super::*;

    fn shared(member: &str) -> Shared {
        let owned = [(Partition::new("refs", 0), Owned::at(1, 7, member.into()))];
        Shared { owned: owned.into(), ..Shared::default() }
    }

    /// What lost a storm: woken after its session, a worker committed old results in the name of the member that it had become.
    #[test]
    fn results_of_a_member_that_was_put_out_are_not_committed_by_the_one_that_it_became() {
        let mut same = shared("a");
        assert!(!put_out(&mut same, "a"));
        for name in ["b", ""] {
            let mut shared = shared("a");
            assert!(put_out(&mut shared, name));
            // Nor when it has its name again, which brokers do not give twice.
            assert!(put_out(&mut shared, "a"));
        }
        assert!(put_out(&mut shared(""), ""), "brokers take offsets from a member without a name");
    }

    /// A commit that had waited for its coordinator would have covered what the sinks had cut off since.
    #[test]
    fn a_commit_of_an_assignment_that_is_over_is_passed_over_where_the_partition_is_back() {
        let mut shared = shared("a");
        let point = |assignment, next_offset| CommitPoint { source: 0, partition: Partition::new("refs", 0), assignment, next_offset };
        assert_eq!(to_commit(&shared, &point(1, 9)), Some(9));
        assert_eq!(to_commit(&shared, &point(1, 6)), None, "it began at 7");
        shared.owned.insert(Partition::new("refs", 0), Owned::at(2, 7, "a".into()));
        assert_eq!(to_commit(&shared, &point(1, 9)), None);
        assert_eq!(to_commit(&shared, &point(2, 9)), Some(9));
    }

    #[test]
    fn a_member_that_no_broker_knows_has_no_name_and_commits_nothing() {
        let client = rdkafka::ClientConfig::new().set("group.id", "nobody").set("bootstrap.servers", "127.0.0.1:1").clone();
        let consumer: Arc<Consumer_> = Arc::new(client.create_with_context(super::super::SourceContext::default()).unwrap());
        assert_eq!(member_id(&consumer), "");
        let shared = Arc::new(Mutex::new(shared("a")));
        let member = GroupMember { shared, consumer: Arc::downgrade(&consumer) };
        let partition = Partition::new("refs", 0);
        assert!(member.owns(&partition, 1));
        let point = CommitPoint { source: 0, partition: partition.clone(), assignment: 1, next_offset: 9 };
        assert!(member.offsets(&[&point]).unwrap().is_none());
        assert!(!member.owns(&partition, 1));
    }
}
