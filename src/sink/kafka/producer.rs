//! An idempotent producer whose deliveries can be awaited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::kafka::{
    Logger, SAY_EVERY, TopicLimits, TopicState, asking_client, client_config, creation_error, lasting, lock, missing_topic, topic_limits,
    topic_state,
};
use crate::telemetry::{On, Wait};

/// librdkafka's own default for a batch; a topic that takes less gets smaller ones.
const BATCH_BYTES: usize = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct SinkContext {
    logger: Logger,
    outstanding: AtomicU64,
    /// The first delivery that failed for good.
    failed: Mutex<Option<String>>,
    changed: Notify,
}

impl SinkContext {
    /// The first delivery that failed for good, and its topic.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.failed).clone()
    }
}

impl ClientContext for SinkContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.logger.line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logger.global_error(&error, reason);
        if let Some(what @ (Code::Authentication | Code::SaslAuthenticationFailed | Code::Fatal | Code::ClusterAuthorizationFailed)) =
            error.rdkafka_error_code()
        {
            let text = format!("{}: {reason}", lasting(what).unwrap_or_default());
            lock(&self.failed).get_or_insert(text);
            self.changed.notify_waiters();
        }
    }
}

impl ProducerContext for SinkContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code();
            let what = code.and_then(lasting).unwrap_or("it could not be delivered");
            lock(&self.failed).get_or_insert_with(|| format!("topic `{}`: {what} ({error})", message.topic()));
        }
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

/// One message to send.
pub(super) struct Outgoing<'a> {
    /// Index of the topic.
    pub(super) topic: usize,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<OwnedHeaders>,
    /// Now, if not given.
    pub(super) timestamp_ms: Option<i64>,
}

/// librdkafka's producer.
pub(super) type Inner = ThreadedProducer<SinkContext>;

/// A producer that one sink has for itself, or all sinks of a pipeline share for their transactions.
pub struct Client {
    /// `None` only while being dropped.
    inner: Option<Inner>,
    pub(super) brokers: String,
    limits: BTreeMap<String, TopicLimits>,
    own_limit: usize,
    transactional: bool,
    /// The group whose offsets go into its transactions.
    group: Option<Arc<str>>,
}

impl Client {
    /// A producer for `topics`, which must exist; a transactional one where an id is given, and the group whose offsets it commits. Waits while no broker answers.
    pub(super) async fn start(
        brokers: &str,
        properties: &BTreeMap<String, String>,
        topics: &[String],
        transactional: Option<(&str, &str)>,
    ) -> Result<Self> {
        wait_for_topics(brokers, properties, topics).await?;
        let told = topic_limits(brokers, properties, topics).await?;
        let largest = told.iter().map(|l| l.max_message).max().unwrap_or_default().max(1000);
        let smallest = told.iter().map(|l| l.max_message).min().unwrap_or_default();
        let mut defaults = vec![
            ("client.id", "lakelens"),
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        let (largest_text, batch) = (largest.to_string(), smallest.clamp(1, BATCH_BYTES).to_string());
        // The producer's own limit never is the narrower one, and no batch is larger than what the narrowest topic takes.
        defaults.extend([("message.max.bytes", &*largest_text), ("batch.size", &*batch)]);
        let mut fixed = vec![("enable.idempotence", "true"), ("acks", "all")];
        match transactional {
            // Below the session timeout: what a dead worker left open is over before its partitions are another's. Messages live no longer.
            Some((id, _)) => {
                defaults.push(("transaction.timeout.ms", "10000"));
                fixed.push(("transactional.id", id));
            }
            // A broker away is waited for, for as long as it takes.
            None => defaults.push(("message.timeout.ms", "0")),
        }
        let config = client_config(brokers, properties, &defaults, &fixed)?;
        let own_limit = config.get("message.max.bytes").and_then(|b| b.parse().ok()).unwrap_or(largest);
        let inner = config.create_with_context(SinkContext::default()).map_err(creation_error)?;
        let limits = topics.iter().cloned().zip(told).collect();
        Ok(Self {
            inner: Some(inner),
            brokers: brokers.to_owned(),
            limits,
            own_limit,
            transactional: transactional.is_some(),
            group: transactional.map(|(_, group)| group.into()),
        })
    }

    pub(super) fn inner(&self) -> Result<&Inner> {
        self.inner.as_ref().ok_or_else(|| Error::failed("the Kafka producer was closed"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Closing waits for librdkafka's threads, which a task must not.
        if let Some(inner) = self.inner.take() {
            std::thread::spawn(move || drop(inner));
        }
    }
}

/// The topics of one sink, and the producer that it writes through.
pub(super) struct Producer {
    client: Arc<Client>,
    topics: Vec<String>,
}

impl Producer {
    /// A producer of its own for `topics`, which must exist. Waits while no broker answers.
    pub(super) async fn start(brokers: &str, properties: &BTreeMap<String, String>, topics: &[String]) -> Result<Self> {
        let client = Client::start(brokers, properties, topics, None).await?;
        Ok(Self { client: Arc::new(client), topics: topics.to_vec() })
    }

    /// A share of the producer that all sinks have together; `topics` are among those that it was started with.
    pub(super) fn within(client: Arc<Client>, topics: &[String]) -> Self {
        Self { client, topics: topics.to_vec() }
    }

    /// The group whose offsets are committed with what is sent.
    pub(super) fn group(&self) -> Option<Arc<str>> {
        self.client.group.clone()
    }

    fn limits(&self, topic: usize) -> Option<&TopicLimits> {
        self.client.limits.get(self.topics.get(topic)?)
    }

    /// Largest record batch that topic number `topic` takes, in bytes.
    pub(super) fn limit(&self, topic: usize) -> usize {
        self.limits(topic).map_or(0, |l| l.max_message.min(self.client.own_limit))
    }

    /// Age at which topic number `topic` deletes messages, in milliseconds; `None` = never.
    pub(super) fn retention_ms(&self, topic: usize) -> Option<i64> {
        self.limits(topic).and_then(|l| l.retention_ms)
    }

    fn failure(&self, context: &SinkContext) -> Result<()> {
        match lock(&context.failed).as_ref() {
            // What fails in a transaction ends that one only; its commit says so.
            _ if self.client.transactional => Ok(()),
            Some(what) => Err(Error::failed(format!("writing to Kafka at {}: {what}", self.client.brokers))),
            None => Ok(()),
        }
    }

    /// Puts a message into the producer's queue, waiting while that is full.
    pub(super) async fn send(&self, message: Outgoing<'_>) -> Result<()> {
        let client = self.client.inner()?;
        let context = client.client().context();
        let topic = self.topics.get(message.topic).ok_or_else(|| Error::failed("a topic that this producer does not have"))?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.key = message.key;
        record.payload = message.value;
        record.headers = message.headers;
        record.timestamp = message.timestamp_ms;
        let mut waiting = Waiting::default();
        loop {
            self.failure(context)?;
            let changed = context.changed.notified();
            // Counted before, since the delivery may be reported before `send` returns.
            context.outstanding.fetch_add(1, Ordering::AcqRel);
            let Err((error, back)) = client.send(record) else { return Ok(()) };
            context.outstanding.fetch_sub(1, Ordering::AcqRel);
            // The transaction has failed already, which its commit will say.
            if self.client.transactional && error.rdkafka_error_code() == Some(Code::State) {
                return Ok(());
            }
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                let what = error.rdkafka_error_code().and_then(lasting).unwrap_or("it could not be sent");
                return Err(Error::failed(format!("writing to Kafka at {}: topic `{topic}`: {what} ({error})", self.client.brokers)));
            }
            record = back;
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
            waiting.say(&self.client.brokers, context);
        }
    }

    /// Waits until everything sent is acknowledged by all in-sync replicas; in a transaction the commit does that.
    pub(super) async fn flush(&self) -> Result<()> {
        if self.client.transactional {
            return Ok(());
        }
        let client = self.client.inner()?;
        let context = client.client().context();
        let mut waiting = Waiting::default();
        loop {
            let changed = context.changed.notified();
            self.failure(context)?;
            if context.outstanding.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
            waiting.say(&self.client.brokers, context);
        }
    }
}

/// Says now and then that something takes long.
struct Waiting {
    since: Instant,
    said: Instant,
    shown: Option<Wait>,
}

impl Default for Waiting {
    fn default() -> Self {
        let now = Instant::now();
        Self { since: now, said: now, shown: None }
    }
}

impl Waiting {
    fn say(&mut self, brokers: &str, context: &SinkContext) {
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.shown.get_or_insert_with(|| Wait::on(On::Broker, format!("Kafka at {brokers} to take messages")));
            let outstanding = context.outstanding.load(Ordering::Acquire);
            let seconds = self.since.elapsed().as_secs();
            tracing::warn!(
                "waiting for Kafka at {brokers} to take {outstanding} messages, for {seconds} s now{}",
                context.logger.because()
            );
        }
    }
}

async fn wait_for_topics(brokers: &str, properties: &BTreeMap<String, String>, topics: &[String]) -> Result<()> {
    let (brokers, properties, topics) = (brokers.to_owned(), properties.clone(), topics.to_vec());
    // Blocking calls throughout, and closing the client is one too.
    let look = move || {
        let client = asking_client(&brokers, &properties)?;
        let mut waiting: Option<Wait> = None;
        let mut missing_since: Option<Instant> = None;
        let mut said: Option<Instant> = None;
        for topic in &topics {
            loop {
                match topic_state(&client, topic, Duration::from_secs(2)) {
                    TopicState::Partitions(_) => break,
                    TopicState::Refused(what) => return Err(Error::failed(format!("topic `{topic}` on {brokers}: {what}"))),
                    // A topic that was just created may be unknown to a broker for a moment.
                    TopicState::Missing if missing_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(5) => {
                        return Err(Error::failed(missing_topic(topic, &brokers)));
                    }
                    TopicState::Missing => std::thread::sleep(Duration::from_millis(250)),
                    TopicState::Away(what) => {
                        let _ = client.poll(Duration::from_millis(100));
                        if let Some((code, reason)) = client.context().0.last_error()
                            && let Some(what) = lasting(code).or((code == Code::SSL).then_some("no TLS with the brokers"))
                        {
                            return Err(Error::failed(format!("Kafka at {brokers}: {what} ({reason})")));
                        }
                        if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                            said = Some(Instant::now());
                            waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("Kafka at {brokers}")));
                            tracing::warn!("waiting for Kafka at {brokers}: {what}{}", client.context().0.because());
                        }
                    }
                }
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(look).await.map_err(Error::failed)?
}

/// Bytes that a message takes at most in a batch of its own, uncompressed: the batch's header (61), the record's varints at their longest, key, value
/// and headers, given as the sums of the lengths of name and value. After KIP-98's record format.
pub(crate) fn encoded_size(key: usize, value: usize, headers: impl IntoIterator<Item = usize>) -> usize {
    const BATCH: usize = 61;
    // Length, attributes, timestamp delta, offset delta, lengths of key and value, number of headers.
    const RECORD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
    const HEADER: usize = 5 + 5;
    BATCH + RECORD + key + value + headers.into_iter().map(|h| h + HEADER).sum::<usize>()
}
