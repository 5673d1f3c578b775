//! Against a real broker, where `LAKELENS_TEST_KAFKA` names one.

mod static_membership;

use std::collections::BTreeSet;

use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminOptions;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::config::OnLost;
use crate::kafka::tests::{admin, broker, new_topic, none, produce, unique};
use crate::source::Event;

fn config(brokers: &str, topic: &str) -> config::KafkaSource {
    config::KafkaSource { brokers: brokers.into(), topics: vec![topic.into()], ..Default::default() }
}

/// A worker that finishes every message as soon as it has it.
struct Worker {
    source: Source,
    /// (partition, offset) of every message, in the order in which they came.
    seen: Vec<(i32, i64)>,
    assigned: BTreeMap<i32, i64>,
    /// The number of the last assignment of each partition.
    assignments: BTreeMap<i32, u64>,
    /// Partitions that were taken away so far.
    revoked: usize,
    failed: Option<Error>,
}

impl Worker {
    async fn start(config: &config::KafkaSource, group: &str) -> Self {
        let source = start(config, group, "test").await.expect("started");
        Self { source, seen: Vec::new(), assigned: BTreeMap::new(), assignments: BTreeMap::new(), revoked: 0, failed: None }
    }

    async fn next(&mut self, limit: Duration) -> bool {
        let Ok(Some(event)) = tokio::time::timeout(limit, self.source.events.recv()).await else { return false };
        match event {
            Event::Assigned { partition, assignment, next_offset } => {
                self.assigned.insert(partition.partition, next_offset);
                self.assignments.insert(partition.partition, assignment);
            }
            Event::Message(m) => {
                let next = self.assigned.get_mut(&m.partition.partition).expect("assigned before its first message");
                assert!(m.offset >= *next, "offsets go up");
                assert_eq!(m.value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned()), Some(m.offset.to_string()));
                *next = m.offset + 1;
                self.seen.push((m.partition.partition, m.offset));
            }
            Event::Revoked { partitions, done } => {
                self.revoked += partitions.len();
                let next = partitions.into_iter().filter_map(|p| Some((p.clone(), self.assigned.remove(&p.partition)?))).collect();
                done.send(next).expect("waited for");
            }
            Event::Lost { partitions } => partitions.iter().for_each(|p| {
                self.revoked += 1;
                self.assigned.remove(&p.partition);
            }),
            Event::Failed(e) => self.failed = Some(e),
            Event::End => panic!("a topic has no end"),
        }
        true
    }

    /// Goes on until `enough`, or for half a minute.
    async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !enough(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain: {} messages, assigned {:?}, {:?}",
                self.seen.len(),
                self.assigned,
                self.failed
            );
            self.next(Duration::from_millis(200)).await;
        }
    }

    fn points(&self, topic: &str, offsets: &[(i32, i64)]) -> Vec<CommitPoint> {
        let point = |&(p, next_offset): &(i32, i64)| CommitPoint {
            source: 0,
            partition: Partition::new(topic, p),
            assignment: self.assignments.get(&p).copied().unwrap_or_default(),
            next_offset,
        };
        offsets.iter().map(point).collect()
    }

    async fn commit(&self, topic: &str, offsets: &[(i32, i64)]) {
        self.source.control.commit(&self.points(topic, offsets)).await.expect("committed");
    }

    async fn stop(self) {
        self.source.control.stop(Duration::from_secs(20)).await;
    }
}

async fn delete_below(broker: &str, topic: &str, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("in range");
    admin(broker).delete_records(&list, &AdminOptions::new()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_committed() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 3, &[]).await, unique("group"));
    (0..3).for_each(|p| produce(&broker, &topic, p, 0, 50));
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.seen.len() == 150).await;
    worker.commit(&topic, &[(0, 20), (1, 50)]).await;
    // Not ours: passed over, and no error.
    worker.commit(&topic, &[(7, 5)]).await;
    worker.stop().await;

    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.assigned.len() == 3 && w.seen.len() >= 80).await;
    worker.next(Duration::from_secs(1)).await;
    let expected: BTreeSet<(i32, i64)> = (20..50).map(|o| (0, o)).chain((0..50).map(|o| (2, o))).collect();
    assert_eq!(worker.seen.len(), 80);
    assert_eq!(worker.seen.iter().copied().collect::<BTreeSet<_>>(), expected);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_latest_keeps_its_place_without_a_commit() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    produce(&broker, &topic, 0, 0, 10);
    let latest = config::KafkaSource { start: config::Start::Latest, ..config(&broker, &topic) };
    let mut worker = Worker::start(&latest, &group).await;
    worker.until(|w| w.assigned.get(&0) == Some(&10)).await;
    produce(&broker, &topic, 0, 10, 5);
    worker.until(|w| w.seen.len() == 5).await;
    worker.stop().await;
    // Nothing was committed by the worker, and nothing may be skipped.
    let mut worker = Worker::start(&latest, &group).await;
    worker.until(|w| w.seen.len() == 5).await;
    assert_eq!(worker.seen[0], (0, 10));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_takes_over_without_loss_or_repetition() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 6, &[]).await, unique("group"));
    (0..6).for_each(|p| produce(&broker, &topic, p, 0, 300));
    let mut first = Worker::start(&config(&broker, &topic), &group).await;
    first.until(|w| w.seen.len() > 400).await;
    let mut second = Worker::start(&config(&broker, &topic), &group).await;
    let (b, t) = (broker.clone(), topic.clone());
    let more = tokio::task::spawn_blocking(move || {
        for n in 3..13 {
            (0..6).for_each(|p| produce(&b, &t, p, n * 100, 100));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.seen.len() + second.seen.len() < 6 * 1300 || second.assigned.len() != 3 || first.assigned.len() != 3 {
        assert!(
            Instant::now() < deadline,
            "{} and {} messages, {:?} {:?}",
            first.seen.len(),
            second.seen.len(),
            first.assigned,
            second.assigned
        );
        while first.next(Duration::from_millis(5)).await {}
        while second.next(Duration::from_millis(5)).await {}
    }
    more.await.expect("produced");
    // The first leaves; the second takes the rest, and would see again what was not committed.
    first.commit(&topic, &first.assigned.iter().map(|(p, o)| (*p, *o)).collect::<Vec<_>>()).await;
    let Worker { source, seen, .. } = first;
    source.control.stop(Duration::from_secs(20)).await;
    (0..6).for_each(|p| produce(&broker, &topic, p, 1300, 10));
    second.until(|w| seen.len() + w.seen.len() >= 6 * 1310).await;
    second.next(Duration::from_secs(1)).await;
    let all: Vec<(i32, i64)> = seen.iter().chain(&second.seen).copied().collect();
    assert_eq!(all.len(), 6 * 1310, "repeated");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 6 * 1310, "lost");
    second.stop().await;
}

fn members(broker: &str, group: &str) -> usize {
    let client = crate::kafka::tests::admin(broker);
    let list = client.inner().fetch_group_list(Some(group), Duration::from_secs(10)).expect("answered");
    list.groups().iter().map(|g| g.members().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_given_nothing_leaves_its_group_as_it_ends() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    let config = config(&broker, &topic);
    let mut first = Worker::start(&config, &group).await;
    first.until(|w| w.assigned.len() == 1).await;
    let mut second = Worker::start(&config, &group).await;
    // Its answer to the group is an assignment of nothing, of which there is no event.
    let deadline = Instant::now() + Duration::from_secs(20);
    while second.source.control.progress().await.expect("answered").is_none() {
        assert!(Instant::now() < deadline, "the group gave no answer");
        first.next(Duration::from_millis(100)).await;
        second.next(Duration::from_millis(100)).await;
    }
    assert_eq!(members(&broker, &group), 2);
    second.stop().await;
    assert_eq!(members(&broker, &group), 1, "the one that stopped is waited for until its session is over");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_deleted_unread_stop_the_worker_or_are_counted() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    produce(&broker, &topic, 0, 0, 20);
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.seen.len() == 20).await;
    worker.commit(&topic, &[(0, 5)]).await;
    worker.stop().await;
    delete_below(&broker, &topic, 12).await;

    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.failed.is_some()).await;
    let text = worker.failed.take().expect("failed").to_string();
    assert!(text.contains("offsets 5 to 11 (7 messages)") && text.contains("on_lost: continue"), "{text}");
    worker.stop().await;

    let before = lost_messages();
    let go_on = config::KafkaSource { on_lost: OnLost::Continue, ..config(&broker, &topic) };
    let mut worker = Worker::start(&go_on, &group).await;
    worker.until(|w| w.seen.len() == 8).await;
    assert_eq!(worker.seen[0], (0, 12));
    assert!(lost_messages() >= before + 7);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_deleted_while_running_are_noticed() {
    let Some(broker) = broker() else { return };
    for on_lost in [OnLost::Stop, OnLost::Continue] {
        let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
        produce(&broker, &topic, 0, 0, 5);
        let mut worker = Worker::start(&config::KafkaSource { on_lost, ..config(&broker, &topic) }, &group).await;
        worker.until(|w| w.seen.len() == 5).await;
        let partition = Partition::new(&*topic, 0);
        worker.source.control.pause(&partition);
        tokio::time::sleep(Duration::from_millis(300)).await;
        produce(&broker, &topic, 0, 5, 20);
        delete_below(&broker, &topic, 15).await;
        worker.source.control.resume(&partition);
        match on_lost {
            OnLost::Stop => {
                worker.until(|w| w.failed.is_some()).await;
                let text = worker.failed.take().expect("failed").to_string();
                assert!(text.contains("offsets 5 to 14"), "{text}");
            }
            OnLost::Continue => {
                worker.until(|w| w.seen.len() == 15).await;
                assert_eq!(worker.seen[5], (0, 15));
                // And it goes on being read.
                produce(&broker, &topic, 0, 25, 5);
                worker.until(|w| w.seen.len() == 20).await;
            }
        }
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_anew_is_noticed() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    produce(&broker, &topic, 0, 0, 3);
    // What a group has that read the topic's forerunner.
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.seen.len() == 3).await;
    worker.commit(&topic, &[(0, 40)]).await;
    worker.stop().await;
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.failed.is_some()).await;
    let text = worker.failed.take().expect("failed").to_string();
    assert!(text.contains("the group is at offset 40, but the partition now ends at 3"), "{text}");
    worker.stop().await;
}

/// Only where `LAKELENS_TEST_OUTAGE` is set, since it starts a broker of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_read_on_and_committed_to() {
    let Some(stack) = crate::kafka::tests::OwnStack::up(9592).await else { return };
    let (topic, group) = (new_topic(&stack.broker, 2, &[]).await, unique("group"));
    (0..2).for_each(|p| produce(&stack.broker, &topic, p, 0, 100));
    let mut worker = Worker::start(&config(&stack.broker, &topic), &group).await;
    worker.until(|w| w.seen.len() == 200).await;
    stack.order("broker-stop").await;
    {
        let all = worker.points(&topic, &[(0, 100), (1, 100)]);
        let commit = worker.source.control.commit(&all);
        tokio::pin!(commit);
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut commit).await.is_err(), "nothing can be durable now");
        stack.order("broker-start").await;
        tokio::time::timeout(Duration::from_secs(90), commit).await.expect("in time").expect("committed");
    }
    (0..2).for_each(|p| produce(&stack.broker, &topic, p, 100, 50));
    worker.until(|w| w.seen.len() >= 300).await;
    assert_eq!(worker.seen.len(), 300);
    assert!(worker.failed.is_none());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_holds_up_no_other() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 2, &[]).await, unique("group"));
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.assigned.len() == 2).await;
    let stuck = Partition::new(&*topic, 0);
    worker.source.control.pause(&stuck);
    tokio::time::sleep(Duration::from_millis(300)).await;
    (0..2).for_each(|p| produce(&broker, &topic, p, 0, 5000));
    worker.until(|w| w.seen.len() >= 5000).await;
    worker.next(Duration::from_secs(1)).await;
    assert!(worker.seen.iter().all(|(p, _)| *p == 1), "the paused partition handed out messages");
    worker.source.control.resume(&stuck);
    worker.until(|w| w.seen.len() == 10_000).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_nothing_stays_in_its_group_and_loses_nothing() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 2, &[]).await, unique("group"));
    (0..2).for_each(|p| produce(&broker, &topic, p, 0, 20_000));
    let properties =
        BTreeMap::from([("max.poll.interval.ms".to_owned(), "7000".to_owned()), ("session.timeout.ms".to_owned(), "6000".to_owned())]);
    let mut worker = Worker::start(&config::KafkaSource { properties, ..config(&broker, &topic) }, &group).await;
    worker.until(|w| w.seen.len() == 100).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.until(|w| w.seen.len() == 40_000).await;
    assert_eq!(worker.assigned, BTreeMap::from([(0, 20_000), (1, 20_000)]));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_messages_are_skipped_and_the_end_is_reached_all_the_same() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    let mut client = client_config(&broker, &none(), &[], &[]).expect("allowed");
    let producer: BaseProducer = client.set("transactional.id", unique("txn")).create().expect("client");
    let patience = Duration::from_secs(30);
    let write = |from: i64, count: i64| {
        producer.begin_transaction().expect("begun");
        for n in from..from + count {
            producer.send(BaseRecord::<[u8], _>::to(&topic).partition(0).payload(n.to_string().as_bytes())).expect("queued");
        }
        producer.flush(patience).expect("written");
    };
    producer.init_transactions(patience).expect("ready");
    write(0, 5); // and its marker at 5
    producer.commit_transaction(patience).expect("committed");
    write(6, 5); // and its marker at 11
    producer.abort_transaction(patience).expect("aborted");
    write(12, 3); // and its marker at 15
    producer.commit_transaction(patience).expect("committed");
    write(16, 2); // open

    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    assert_eq!(worker.source.control.progress().await.expect("asked"), None);
    worker.until(|w| w.seen.len() == 8).await;
    assert_eq!(worker.seen.iter().map(|s| s.1).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 12, 13, 14]);
    let at_the_end = async |worker: &mut Worker, end: i64| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            worker.next(Duration::from_millis(200)).await;
            let progress = worker.source.control.progress().await.expect("asked").expect("assigned");
            assert_eq!(progress.len(), 1);
            assert!(progress[0].position <= progress[0].end);
            if progress[0].position == end && progress[0].end == end {
                return;
            }
            assert!(Instant::now() < deadline, "{progress:?}");
        }
    };
    at_the_end(&mut worker, 16).await;
    producer.abort_transaction(patience).expect("aborted");
    at_the_end(&mut worker, 19).await;
    // All is done: the place that is kept is beyond the markers, so that their deletion loses nothing.
    worker.commit(&topic, &[(0, 15)]).await;
    worker.stop().await;
    delete_below(&broker, &topic, 19).await;
    let mut worker = Worker::start(&config(&broker, &topic), &group).await;
    worker.until(|w| w.assigned.get(&0) == Some(&19)).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_stops_the_source_by_name() {
    let Some(broker) = broker() else { return };
    let mut worker = Worker::start(&config(&broker, "test-not-there"), &unique("group")).await;
    worker.until(|w| w.failed.is_some()).await;
    let text = worker.failed.take().expect("failed").to_string();
    assert!(text.contains("no topic `test-not-there`") && text.contains("--create"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for_and_stopping_is_quick() {
    let mut worker = Worker::start(&config("127.0.0.1:1", "refs"), "group").await;
    assert!(!worker.next(Duration::from_secs(3)).await, "nothing happens");
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
