//! What the thread does when the group gives partitions or takes them away.

use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::context::{Change, answer_assign, answer_revoke};
use super::member::{member_id, put_out};
use super::offsets::{Place, place};
use super::poller::{ANSWER, End, Poller};
use super::{Committed, Owned, commit_now, offsets_list, partitions_list, past_markers};
use crate::error::{Error, Result};
use crate::flow::Partition;
use crate::kafka::{SAY_EVERY, lasting, lock};
use crate::source::Event;
use crate::telemetry::{On, Wait};

/// How long a partition that the group has given us may be unknown to a broker. One that was just added is, for a moment.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);

/// What an error means that will not pass, when it has been asked for so long.
fn will_not_pass(error: &KafkaError, asked: Duration) -> Option<&'static str> {
    match error.rdkafka_error_code()? {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition if asked < UNKNOWN_LIMIT => None,
        code => lasting(code),
    }
}

/// A revocation that waits for the worker, then for the commit of what the worker had done.
pub(super) struct Leaving {
    list: TopicPartitionList,
    partitions: Vec<Partition>,
    deadline: Instant,
    step: Step,
}

enum Step {
    Worker(oneshot::Receiver<Vec<(Partition, i64)>>),
    Commit(std_mpsc::Receiver<()>),
    Done,
}

impl Poller {
    /// Answers the group's changes, one after the other.
    pub(super) fn serve_changes(&mut self) -> Result<(), End> {
        while self.leaving.is_none() {
            let Some(change) = lock(&self.consumer.context().changes).pop_front() else { return Ok(()) };
            match change {
                Change::Assign(list) => {
                    let partitions = list.iter().map(|(t, p)| self.partition(t, *p)).collect();
                    self.assign(partitions)?;
                }
                Change::Revoke { partitions, lost } => {
                    let partitions: Vec<Partition> = partitions.iter().map(|(t, p)| self.partition(t, *p)).collect();
                    self.revoke(partitions, lost);
                }
            }
        }
        Ok(())
    }

    fn assign(&mut self, partitions: Vec<Partition>) -> Result<(), End> {
        self.waiting.end();
        // Before the offsets are looked up: if the group puts this member out meanwhile, what it reads from there on is not its to commit.
        let member: Arc<str> = member_id(&self.consumer).into();
        let begin = self.where_to_begin(&partitions)?;
        let list = offsets_list(begin.iter().map(|(p, at, _)| (p, *at)))?;
        answer_assign(&self.consumer, &list).map_err(|e| Error::failed(format!("the group's assignment could not be taken: {e}")))?;
        let fresh: Vec<_> = begin.iter().filter(|(_, _, fresh)| *fresh).map(|(p, at, _)| (p, *at)).collect();
        if !fresh.is_empty() {
            // From here on the group has a place of its own: what comes between now and its first commit must not be skipped after a crash. The answer is
            // waited for: a commit that is still on its way could set back what the first transaction commits.
            if let Committed::Superseded(code) | Committed::Later(code) = commit_now(&self.consumer, &offsets_list(fresh)?)? {
                tracing::warn!("the place where new partitions begin was not committed ({code}); it will be with their first records");
            }
        }
        let assignment = {
            let mut shared = lock(&self.shared);
            shared.assigned_once = true;
            shared.assignments += 1;
            let assignment = shared.assignments;
            shared.owned.extend(begin.iter().map(|(p, at, _)| (p.clone(), Owned::at(assignment, *at, member.clone()))));
            assignment
        };
        for (partition, next_offset, _) in begin {
            tracing::info!("{partition}: assigned, from offset {next_offset}");
            self.paused.remove(&partition);
            if self.choked {
                self.pause([&partition]);
            } else {
                self.running.insert(partition.clone(), (Instant::now(), false));
            }
            self.emit(Event::Assigned { partition, assignment, next_offset });
        }
        Ok(())
    }

    /// The next offset of each partition, and whether it is the first that the group has there. Waits while the brokers are away.
    fn where_to_begin(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, i64, bool)>, End> {
        let begun = Instant::now();
        let mut waiting: Option<Wait> = None;
        let mut said: Option<Instant> = None;
        loop {
            match self.try_where_to_begin(partitions) {
                Ok(places) => {
                    let mut begin = Vec::with_capacity(places.len());
                    for (partition, place) in places {
                        let (at, fresh) = match place {
                            Place::Committed(at) => (at, false),
                            Place::Fresh(at) => (at, true),
                            Place::Lost(lost) => (self.lost(&partition, &lost)?, false),
                        };
                        begin.push((partition, at, fresh));
                    }
                    return Ok(begin);
                }
                Err(error) => {
                    if let Some(what) = will_not_pass(&error, begun.elapsed()) {
                        return Err(End::Failed(Error::failed(format!("the group's offsets cannot be read: {what}"))));
                    }
                    if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                        said = Some(Instant::now());
                        waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("the group's offsets ({error})")));
                        tracing::warn!("the group's offsets cannot be read yet, waiting: {error}");
                    }
                    self.obey()?;
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        }
    }

    fn try_where_to_begin(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Place)>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        // A read_committed consumer is told of offsets only when no transaction is still about to change them.
        let committed = self.consumer.committed_offsets(partitions_list(partitions), ANSWER)?;
        let mut places = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let element = committed.find_partition(&partition.topic, partition.partition);
            let from = match element {
                Some(element) => {
                    element.error()?;
                    match element.offset() {
                        Offset::Offset(at) => Some(at),
                        _ => None,
                    }
                }
                None => None,
            };
            let (low, high) = self.bounds(partition, from)?;
            places.push((partition.clone(), place(from, low, high, self.config.start)));
        }
        Ok(places)
    }

    fn revoke(&mut self, partitions: Vec<Partition>, lost: bool) {
        let list = partitions_list(&partitions);
        {
            let mut shared = lock(&self.shared);
            for partition in &partitions {
                if let Some(owned) = shared.owned.get_mut(partition) {
                    owned.leaving = true;
                    // What is held back is not handed out any more: its next owner reads it again, so no commit may go past it.
                    if owned.handed < owned.next {
                        owned.next = owned.handed;
                        owned.end_seen = None;
                    }
                }
                self.paused.remove(partition);
                self.running.remove(partition);
            }
        }
        self.held_back.retain(|e| !matches!(e, Event::Message(m) if partitions.contains(&m.partition)));
        let step = if partitions.is_empty() {
            Step::Done
        } else if lost {
            tracing::warn!("{} partitions were lost: the group had waited for this worker too long", partitions.len());
            self.emit(Event::Lost { partitions: partitions.clone() });
            Step::Done
        } else {
            tracing::info!("{} partitions are being revoked", partitions.len());
            let (done, answer) = oneshot::channel();
            self.emit(Event::Revoked { partitions: partitions.clone(), done });
            Step::Worker(answer)
        };
        self.leaving = Some(Leaving { list, partitions, deadline: Instant::now() + self.patience, step });
    }

    /// Moves a revocation on, without waiting.
    pub(super) fn serve_leaving(&mut self) -> Result<(), End> {
        let Some(mut leaving) = self.leaving.take() else { return Ok(()) };
        let late = Instant::now() >= leaving.deadline;
        leaving.step = match leaving.step {
            Step::Worker(mut answer) => match answer.try_recv() {
                Ok(offsets) => self.commit_aside(&leaving.partitions, offsets)?,
                Err(oneshot::error::TryRecvError::Closed) => Step::Done,
                Err(oneshot::error::TryRecvError::Empty) if late => {
                    tracing::warn!(
                        "the worker did not answer a revocation within {:?}; what it had not committed will be repeated",
                        self.patience
                    );
                    self.unsay(&leaving.partitions);
                    Step::Done
                }
                Err(oneshot::error::TryRecvError::Empty) => Step::Worker(answer),
            },
            Step::Commit(done) => match done.try_recv() {
                Err(std_mpsc::TryRecvError::Empty) if !late => Step::Commit(done),
                Err(std_mpsc::TryRecvError::Empty) => {
                    tracing::warn!("the commit before a revocation took too long; what it covered may be repeated");
                    Step::Done
                }
                _ => Step::Done,
            },
            Step::Done => Step::Done,
        };
        if !matches!(leaving.step, Step::Done) {
            self.leaving = Some(leaving);
            return Ok(());
        }
        {
            let mut shared = lock(&self.shared);
            shared.assigned_once = true;
            for partition in &leaving.partitions {
                shared.owned.remove(partition);
            }
            if shared.owned.is_empty() {
                self.waiting.begin();
            }
        }
        answer_revoke(&self.consumer, &leaving.list)
            .map_err(|e| Error::failed(format!("partitions could not be given back to the group: {e}")))?;
        Ok(())
    }

    /// A revocation that never reached the channel is one that has already happened.
    fn unsay(&mut self, partitions: &[Partition]) {
        for event in &mut self.held_back {
            if matches!(event, Event::Revoked { .. }) {
                *event = Event::Lost { partitions: partitions.to_vec() };
            }
        }
    }

    /// Commits on a thread of its own: a commit waits for the coordinator for as long as that is away, and this thread must not.
    fn commit_aside(&self, partitions: &[Partition], offsets: Vec<(Partition, i64)>) -> Result<Step> {
        let ours: Vec<(Partition, i64)> = {
            let name = member_id(&self.consumer);
            let mut shared = lock(&self.shared);
            put_out(&mut shared, &name);
            let only = offsets.into_iter().filter(|(p, _)| partitions.contains(p));
            only.filter_map(|(p, offset)| Some((past_markers(shared.owned.get(&p).filter(|owned| owned.put_out.is_none())?, offset), p)))
                .map(|(o, p)| (p, o))
                .collect()
        };
        if ours.is_empty() {
            return Ok(Step::Done);
        }
        let list = offsets_list(ours.iter().map(|(p, o)| (p, *o)))?;
        let consumer = self.consumer.clone();
        let (done, wait) = std_mpsc::channel();
        std::thread::Builder::new()
            .name("kafka-commit".into())
            .spawn(move || {
                match commit_now(&consumer, &list) {
                    Ok(Committed::Yes) => {}
                    Ok(Committed::Superseded(code) | Committed::Later(code)) => {
                        tracing::warn!("the commit before a revocation failed ({code}); what it covered will be repeated");
                    }
                    Err(e) => tracing::warn!("the commit before a revocation failed: {e}"),
                }
                // Before the sign, so that the last owner of the consumer, who closes it, is the polling thread.
                drop(consumer);
                let _ = done.send(());
            })
            .map_err(|e| Error::failed(format!("no thread for a commit: {e}")))?;
        Ok(Step::Commit(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_was_just_added_is_waited_for() {
        let unknown = KafkaError::MetadataFetch(Code::UnknownPartition);
        assert_eq!(will_not_pass(&unknown, Duration::ZERO), None);
        assert!(will_not_pass(&unknown, UNKNOWN_LIMIT).is_some());
        assert!(will_not_pass(&KafkaError::OffsetFetch(Code::GroupAuthorizationFailed), Duration::ZERO).is_some());
        assert_eq!(will_not_pass(&KafkaError::MetadataFetch(Code::BrokerTransportFailure), UNKNOWN_LIMIT), None);
    }
}
