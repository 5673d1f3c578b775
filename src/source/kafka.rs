//! The Kafka source: a consumer group member on a thread of its own.
//!
//! The thread polls without ever waiting for the stages, as its group demands, and answers rebalances itself: on assignment it looks up where to
//! begin (nothing is left to `auto.offset.reset`, which hides lost input), on revocation it asks the worker what is done and commits that first.

mod context;
mod lost;
mod member;
mod offsets;
mod poller;
mod rebalance;
#[cfg(test)]
mod tests;
mod topics;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::{Control, Progress, Source};
use crate::config;
use crate::error::{Error, Result};
use crate::flow::{CommitPoint, Partition, Priority};
use crate::kafka::{client_config, creation_error, lasting, lock};
use crate::telemetry::{On, Wait};
use context::SourceContext;
use member::{GroupMember, member_id, put_out};
pub use offsets::lost_messages;
use poller::Poller;

type Consumer_ = BaseConsumer<SourceContext>;

/// Events between the source and the worker. References are short; what librdkafka holds besides is bounded by `queued.max.messages.kbytes`.
const EVENTS: usize = 1024;

/// What the thread is asked to do.
enum Command {
    Pause(Partition),
    Resume(Partition),
    Stop(oneshot::Sender<()>),
}

/// One partition that is ours.
#[derive(Debug, Clone)]
struct Owned {
    /// Number of the assignment.
    assignment: u64,
    /// The offset that it began at when it became ours.
    begun: i64,
    /// The next offset to take from librdkafka.
    next: i64,
    /// The next offset to put into the channel: behind `next` by what is held back.
    handed: i64,
    /// Where reading has come to beyond the last message: past markers of transactions and aborted records.
    end_seen: Option<i64>,
    /// It is being taken away: commits still count, messages do not.
    leaving: bool,
    /// Name of this member when it became ours.
    member: Arc<str>,
    /// Since when it is known that the group has put that member out: nothing that was read counts any more.
    put_out: Option<Instant>,
}

impl Owned {
    fn at(assignment: u64, offset: i64, member: Arc<str>) -> Self {
        Self { assignment, begun: offset, next: offset, handed: offset, end_seen: None, leaving: false, member, put_out: None }
    }

    /// Offset of the next message to hand out.
    fn position(&self) -> i64 {
        match self.end_seen {
            Some(end) if self.handed == self.next => self.handed.max(end),
            _ => self.handed,
        }
    }
}

/// What thread and control both look at.
#[derive(Debug, Default)]
struct Shared {
    owned: BTreeMap<Partition, Owned>,
    /// Assignments so far.
    assignments: u64,
    /// The group has answered at least once, if only with nothing.
    assigned_once: bool,
    /// Partitions of all its topics at the start; `None` before that is known, or where a topic is a pattern.
    of_partitions: Option<usize>,
}

/// Starts a consumer of `config.topics` (or `config.records`) as member of `group`; `instance` names it in the brokers' logs. Returns at once: a
/// broker that is away is waited for, a topic that is missing comes as [`super::Event::Failed`].
///
/// # Errors
/// [`Error::Config`] if librdkafka refuses a property, or one is set that delivery depends on.
pub async fn start(config: &config::KafkaSource, group: &str, instance: &str) -> Result<Source> {
    let client = consumer_config(config, group, instance)?;
    let session = client.get("session.timeout.ms").and_then(|t| t.parse().ok()).unwrap_or(45_000);
    let patience = Duration::from_millis(session / 3).min(Duration::from_secs(10));
    let consumer: Consumer_ = client.create_with_context(SourceContext::default()).map_err(creation_error)?;
    let consumer = Arc::new(consumer);
    let shared = Arc::new(Mutex::new(Shared::default()));
    let (events, receiver) = mpsc::channel(EVENTS);
    let (commands, orders) = std_mpsc::channel();
    let member = Arc::new(GroupMember { shared: shared.clone(), consumer: Arc::downgrade(&consumer) });
    let control = KafkaControl { commands, shared: shared.clone(), consumer: Arc::downgrade(&consumer) };
    let poller = Poller::new(consumer, config.clone(), patience, events, orders, shared, tokio::runtime::Handle::current());
    std::thread::Builder::new()
        .name("kafka-source".into())
        .spawn(move || poller.run())
        .map_err(|e| Error::failed(format!("no thread for the Kafka source: {e}")))?;
    Ok(Source { events: receiver, control: Box::new(control), member: Some(member), priority: Priority::default() })
}

fn consumer_config(config: &config::KafkaSource, group: &str, instance: &str) -> Result<rdkafka::ClientConfig> {
    let defaults = [
        ("client.id", &*format!("lakelens-{instance}")),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "45000"),
        // With it a member learns that partitions change hands: those that are handed over stand still for as long.
        ("heartbeat.interval.ms", "1000"),
        ("queued.max.messages.kbytes", "16384"),
        ("queued.min.messages", "1000"),
        ("check.crcs", "true"),
        // An image takes its time; what counts as alive is the polling, which never waits for images.
        ("max.poll.interval.ms", "300000"),
    ];
    let fixed = [
        ("group.id", group),
        // With the newer one, a member that was put out keeps its name: what it had read could not be told from what it reads afterwards.
        ("group.protocol", "classic"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("allow.auto.create.topics", "false"),
        ("enable.partition.eof", "true"),
        ("statistics.interval.ms", "1000"),
    ];
    client_config(&config.brokers, &config.properties, &defaults, &fixed)
}

/// A list of next offsets in librdkafka's form.
fn offsets_list<'a>(offsets: impl IntoIterator<Item = (&'a Partition, i64)>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(offset))
            .map_err(|e| Error::failed(format!("offset {offset} of {partition}: {e}")))?;
    }
    Ok(list)
}

/// A list of partitions in librdkafka's form.
fn partitions_list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

struct KafkaControl {
    commands: std_mpsc::Sender<Command>,
    shared: Arc<Mutex<Shared>>,
    /// Weak, so that closing, which waits for the brokers, happens on the source's thread and not where a control is dropped.
    consumer: Weak<Consumer_>,
}

/// What became of a commit.
enum Committed {
    Yes,
    /// The group has moved on. What is still ours can be committed in its new generation; what is not is its new owner's.
    Superseded(Code),
    Later(Code),
}

/// Commits and waits for the broker's answer.
fn commit_now(consumer: &Consumer_, list: &TopicPartitionList) -> Result<Committed> {
    let Err(error) = consumer.commit(list, CommitMode::Sync) else { return Ok(Committed::Yes) };
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    match code {
        Code::IllegalGeneration | Code::UnknownMemberId | Code::AssignmentLost | Code::UnknownGroup => Ok(Committed::Superseded(code)),
        // Nothing in it to commit.
        Code::NoOffset => Ok(Committed::Yes),
        _ => match lasting(code) {
            Some(what) => Err(Error::failed(format!("offsets cannot be committed: {what}"))),
            None => Ok(Committed::Later(code)),
        },
    }
}

impl KafkaControl {
    /// What of `points` is ours to commit now. A partition may have been elsewhere since, and come back: what its other owner committed must not be set
    /// back, and what this one had done before was cut off by its sinks when it began again. An offset that says that all is done is moved past the markers that follow: retention will delete
    /// those like messages, and would seem to have deleted something unread.
    fn ours(&self, consumer: &Consumer_, points: &[CommitPoint]) -> Vec<(Partition, i64)> {
        let name = member_id(consumer);
        let mut shared = lock(&self.shared);
        put_out(&mut shared, &name);
        points.iter().filter_map(|point| Some((point.partition.clone(), to_commit(&shared, point)?))).collect()
    }
}

fn to_commit(shared: &Shared, point: &CommitPoint) -> Option<i64> {
    let owned = shared.owned.get(&point.partition).filter(|owned| owned.assignment == point.assignment && owned.put_out.is_none())?;
    // Retention may have moved it on meanwhile.
    (point.next_offset >= owned.begun).then(|| past_markers(owned, point.next_offset))
}

fn past_markers(owned: &Owned, offset: i64) -> i64 {
    if offset == owned.next { offset.max(owned.position()) } else { offset }
}

#[async_trait]
impl Control for KafkaControl {
    fn pause(&self, partition: &Partition) {
        // Fails only when the thread has ended, and then nothing is handed out anyhow.
        let _ = self.commands.send(Command::Pause(partition.clone()));
    }

    fn resume(&self, partition: &Partition) {
        let _ = self.commands.send(Command::Resume(partition.clone()));
    }

    /// Waits while the coordinator is away. Partitions that are not ours any more are passed over: committing for their new owner would set it back.
    async fn commit(&self, points: &[CommitPoint]) -> Result<()> {
        let mut wait = Duration::from_millis(100);
        let mut waiting: Option<Wait> = None;
        loop {
            let Some(consumer) = self.consumer.upgrade() else {
                return Err(Error::failed("offsets were to be committed after the Kafka source had ended"));
            };
            let ours = self.ours(&consumer, points);
            if ours.is_empty() {
                return Ok(());
            }
            let list = offsets_list(ours.iter().map(|(p, o)| (p, *o)))?;
            let done = tokio::task::spawn_blocking(move || commit_now(&consumer, &list)).await.map_err(Error::failed)??;
            match done {
                Committed::Yes => return Ok(()),
                Committed::Superseded(code) => {
                    tracing::debug!("a commit came after the group had moved on ({code}); committing what is still ours");
                }
                Committed::Later(code) => {
                    waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("a commit of offsets ({code})")));
                    tracing::warn!("offsets could not be committed yet ({code}); trying again in {wait:?}");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// Positions count what is in the event channel as handed out. `end` is the last stable offset: what an open transaction holds back is beyond it.
    async fn progress(&self) -> Result<Option<Vec<Progress>>> {
        let mut waiting: Option<Wait> = None;
        loop {
            let Some(consumer) = self.consumer.upgrade() else {
                return Err(Error::failed("the Kafka source has ended"));
            };
            let partitions: Vec<Partition> = {
                let shared = lock(&self.shared);
                if !shared.assigned_once {
                    return Ok(None);
                }
                shared.owned.iter().filter(|(_, o)| !o.leaving).map(|(p, _)| p.clone()).collect()
            };
            let ends = tokio::task::spawn_blocking(move || {
                partitions
                    .into_iter()
                    .map(|p| Ok((consumer.fetch_watermarks(&p.topic, p.partition, Duration::from_secs(10))?.1, p)))
                    .collect::<rdkafka::error::KafkaResult<Vec<_>>>()
            })
            .await
            .map_err(Error::failed)?;
            match ends {
                Ok(ends) => {
                    let shared = lock(&self.shared);
                    let now = ends.into_iter().filter_map(|(end, partition)| {
                        let position = shared.owned.get(&partition)?.position();
                        Some(Progress { partition, position, end, exact: true })
                    });
                    return Ok(Some(now.collect()));
                }
                Err(e) => {
                    // With all brokers away librdkafka takes a partition for unknown, too; a topic that is really gone stops the polling thread.
                    let unknown = |code: &Code| matches!(code, Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopic);
                    if let Some(what) = e.rdkafka_error_code().filter(|code| !unknown(code)).and_then(lasting) {
                        return Err(Error::failed(format!("the end of the topics cannot be read: {what}")));
                    }
                    waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("the ends of the topics ({e})")));
                    tracing::warn!("the end of the topics could not be read yet: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn of_partitions(&self) -> Option<usize> {
        lock(&self.shared).of_partitions
    }

    async fn stop(&self, limit: Duration) {
        let (stopped, wait) = oneshot::channel();
        if self.commands.send(Command::Stop(stopped)).is_ok() && tokio::time::timeout(limit, wait).await.is_err() {
            tracing::warn!("the consumer did not leave its group within {limit:?}; the brokers will notice by its session timeout");
        }
    }
}
