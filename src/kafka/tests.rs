//! What the tests against a real broker share. They run where `LAKELENS_TEST_KAFKA` names one (`eval "$(scripts/stack up)"` sets it).

use std::sync::atomic::AtomicU32;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message as _, TopicPartitionList};

use super::*;

/// The broker's address, or `None` after saying that the test was left out.
pub(crate) fn broker() -> Option<String> {
    let broker = std::env::var("LAKELENS_TEST_KAFKA").ok().filter(|b| !b.is_empty());
    if broker.is_none() {
        eprintln!("left out: LAKELENS_TEST_KAFKA names no broker; start one with scripts/stack up");
    }
    broker
}

/// A broker of a test's own, which may be taken away. Only where `LAKELENS_TEST_OUTAGE` is set: it needs Java and half a minute.
pub(crate) struct OwnStack {
    folder: tempfile::TempDir,
    port: u16,
    pub(crate) broker: String,
}

impl OwnStack {
    pub(crate) async fn up(port: u16) -> Option<Self> {
        if std::env::var_os("LAKELENS_TEST_OUTAGE").is_none() {
            eprintln!("left out: LAKELENS_TEST_OUTAGE is not set");
            return None;
        }
        let stack = Self { folder: tempfile::tempdir().expect("a folder"), port, broker: format!("127.0.0.1:{port}") };
        stack.order("up").await;
        Some(stack)
    }

    /// Runs `scripts/stack` with this order.
    pub(crate) async fn order(&self, order: &'static str) {
        let (folder, port) = (self.folder.path().to_owned(), self.port);
        let ran = tokio::task::spawn_blocking(move || run_stack(&folder, port, order)).await.expect("ran");
        assert!(ran, "scripts/stack {order}");
    }
}

fn run_stack(folder: &std::path::Path, port: u16, order: &str) -> bool {
    let mut command = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack"));
    command.arg(order).env("STACK_DIR", folder).env("STACK_DOCKER", "0");
    command.env("KAFKA_PORT", port.to_string()).env("S3_PORT", (port + 50).to_string());
    command.output().is_ok_and(|o| o.status.success())
}

impl Drop for OwnStack {
    /// Also when the test failed.
    fn drop(&mut self) {
        run_stack(self.folder.path(), self.port, "down");
    }
}

pub(crate) fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// A name that no other test or run uses.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
    format!("test-{what}-{now}-{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

pub(crate) fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    client_config(broker, &none(), &[], &[]).expect("allowed").create().expect("client")
}

/// Creates a topic under a new name.
pub(crate) async fn new_topic(broker: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = unique("topic");
    let topic = configs.iter().fold(NewTopic::new(&name, partitions, TopicReplication::Fixed(1)), |t, (k, v)| t.set(k, v));
    let made = admin(broker).create_topics([&topic], &AdminOptions::new()).await.expect("answered");
    made.into_iter().for_each(|t| {
        t.expect("created");
    });
    name
}

/// Writes `count` messages, numbered from `from` in their values, to a partition.
pub(crate) fn produce(broker: &str, topic: &str, partition: i32, from: i64, count: i64) {
    let producer: BaseProducer = client_config(broker, &none(), &[("linger.ms", "2")], &[]).expect("allowed").create().expect("client");
    for n in from..from + count {
        producer.send(BaseRecord::<[u8], _>::to(topic).partition(partition).payload(n.to_string().as_bytes())).expect("queued");
    }
    producer.flush(Duration::from_secs(30)).expect("delivered");
}

/// Everything in a topic now, as an independent reader sees it.
pub(crate) fn read_all(broker: &str, topic: &str) -> Vec<OwnedMessage> {
    let fixed =
        [("group.id", "reader"), ("isolation.level", "read_committed"), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    let consumer: BaseConsumer = client_config(broker, &none(), &[], &fixed).expect("allowed").create().expect("client");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("answered");
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for p in 0..partitions {
        list.add_partition_offset(topic, p as i32, rdkafka::Offset::Beginning).expect("in range");
    }
    consumer.assign(&list).expect("assigned");
    let (mut ended, mut all) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(30);
    while ended < partitions {
        assert!(Instant::now() < deadline, "the topic's end was not reached");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => all.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(e)) => panic!("{e}"),
            None => {}
        }
    }
    all.sort_by_key(|m| (m.partition(), m.offset()));
    all
}

#[test]
fn what_delivery_depends_on_is_refused() {
    for name in ["group.id", "transactional.id", "isolation.level", "enable.auto.commit", "auto.offset.reset"] {
        assert!(FORBIDDEN.iter().any(|(known, _)| *known == name), "{name}");
    }
    for (name, instead) in FORBIDDEN {
        let properties = BTreeMap::from([((*name).to_owned(), "x".to_owned())]);
        let error = client_config("b:1", &properties, &[], &[]).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(name) && error.to_string().contains(instead), "{error}");
    }
}

#[test]
fn the_users_properties_go_over_the_defaults_and_under_what_is_fixed() {
    let properties = BTreeMap::from([("linger.ms".to_owned(), "9".to_owned()), ("client.id".to_owned(), "mine".to_owned())]);
    let config = client_config("b:1", &properties, &[("linger.ms", "5")], &[("client.id", "fixed")]).expect("allowed");
    assert_eq!(
        (config.get("linger.ms"), config.get("client.id"), config.get("bootstrap.servers")),
        (Some("9"), Some("fixed"), Some("b:1"))
    );
}

#[test]
fn a_refused_value_is_not_shown() {
    let properties = BTreeMap::from([("security.protocol".to_owned(), "hunter2".to_owned())]);
    let created = client_config("b:1", &properties, &[], &[]).expect("allowed").create::<BaseProducer>();
    let text = creation_error(created.err().expect("refused")).to_string();
    assert!(text.contains("security.protocol") && !text.contains("hunter2"), "{text}");
    let properties = BTreeMap::from([("no.such".to_owned(), "hunter2".to_owned())]);
    let created = client_config("b:1", &properties, &[], &[]).expect("allowed").create::<BaseProducer>();
    let text = creation_error(created.err().expect("refused")).to_string();
    assert!(text.contains("knows no `no.such`") && !text.contains("hunter2"), "{text}");
}

#[test]
fn repeated_log_lines_are_kept_back_and_counted() {
    let logger = Logger::default();
    assert_eq!(logger.admit("FAIL"), Some(0));
    assert_eq!(logger.admit("FAIL"), None);
    assert_eq!(logger.admit("OTHER"), Some(0));
    lock(&logger.kinds).get_mut("FAIL").expect("known").0 -= SAY_EVERY;
    assert_eq!(logger.admit("FAIL"), Some(1));
}

#[tokio::test]
async fn a_missing_topic_and_a_missing_broker_are_named() {
    let away =
        tokio::task::spawn_blocking(|| connect_check("127.0.0.1:1", &none(), &["a", "b"], Duration::from_secs(1))).await.expect("ran");
    assert_eq!(away.len(), 1, "{away:?}");
    assert!(away[0].contains("127.0.0.1:1") && away[0].contains("refused"), "{away:?}");
    let Some(broker) = broker() else { return };
    let there = new_topic(&broker, 1, &[]).await;
    let wrong =
        tokio::task::spawn_blocking(move || connect_check(&broker, &none(), &[&there, "test-no-such-topic"], Duration::from_secs(10)));
    let wrong = wrong.await.expect("ran");
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("no topic `test-no-such-topic`") && wrong[0].contains("--create"), "{wrong:?}");
}
