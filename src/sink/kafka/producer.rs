//! An idempotent producer whose deliveries can be awaited.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
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
    Logger, SAY_EVERY, TopicState, asking_client, client_config, creation_error, lasting, lock, missing_topic, topic_limits, topic_state,
};

/// librdkafka's own default for a batch; a topic that takes less gets smaller ones.
const BATCH_BYTES: usize = 1_000_000;

#[derive(Debug, Default)]
struct SinkContext {
    logger: Logger,
    outstanding: AtomicU64,
    /// The first delivery that failed for good.
    failed: Mutex<Option<String>>,
    changed: Notify,
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

pub(super) struct Producer {
    /// `None` only while being dropped.
    client: Option<ThreadedProducer<SinkContext>>,
    brokers: String,
    topics: Vec<String>,
    limits: Vec<usize>,
    retention_ms: Vec<Option<i64>>,
}

impl Producer {
    /// A producer for `topics`, which must exist. Waits while no broker answers.
    pub(super) async fn start(brokers: &str, properties: &BTreeMap<String, String>, topics: &[String]) -> Result<Self> {
        wait_for_topics(brokers, properties, topics).await?;
        let told = topic_limits(brokers, properties, topics).await?;
        let of_topics: Vec<usize> = told.iter().map(|l| l.max_message).collect();
        let largest = of_topics.iter().copied().max().unwrap_or_default().max(1000);
        let smallest = of_topics.iter().copied().min().unwrap_or_default();
        let defaults = [
            ("client.id", "lakelens"),
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.kbytes", "65536"),
            // The producer's own limit never is the narrower one, and no batch is larger than what the narrowest topic takes.
            ("message.max.bytes", &*largest.to_string()),
            ("batch.size", &*smallest.clamp(1, BATCH_BYTES).to_string()),
            // A broker away is waited for, for as long as it takes.
            ("message.timeout.ms", "0"),
        ];
        let config = client_config(brokers, properties, &defaults, &[("enable.idempotence", "true"), ("acks", "all")])?;
        let own_limit = config.get("message.max.bytes").and_then(|b| b.parse().ok()).unwrap_or(largest);
        let limits = of_topics.into_iter().map(|l| l.min(own_limit)).collect();
        let client = config.create_with_context(SinkContext::default()).map_err(creation_error)?;
        Ok(Self {
            client: Some(client),
            brokers: brokers.to_owned(),
            topics: topics.to_vec(),
            limits,
            retention_ms: told.iter().map(|l| l.retention_ms).collect(),
        })
    }

    /// Largest record batch that topic number `topic` takes, in bytes.
    pub(super) fn limit(&self, topic: usize) -> usize {
        self.limits.get(topic).copied().unwrap_or_default()
    }

    /// Age at which topic number `topic` deletes messages, in milliseconds; `None` = never.
    pub(super) fn retention_ms(&self, topic: usize) -> Option<i64> {
        self.retention_ms.get(topic).copied().flatten()
    }

    fn client(&self) -> Result<&ThreadedProducer<SinkContext>> {
        self.client.as_ref().ok_or_else(|| Error::failed("the Kafka producer was closed"))
    }

    fn failure(&self, context: &SinkContext) -> Result<()> {
        match lock(&context.failed).as_ref() {
            Some(what) => Err(Error::failed(format!("writing to Kafka at {}: {what}", self.brokers))),
            None => Ok(()),
        }
    }

    /// Puts a message into the producer's queue, waiting while that is full.
    pub(super) async fn send(&self, message: Outgoing<'_>) -> Result<()> {
        let client = self.client()?;
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
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                let what = error.rdkafka_error_code().and_then(lasting).unwrap_or("it could not be sent");
                return Err(Error::failed(format!("writing to Kafka at {}: topic `{topic}`: {what} ({error})", self.brokers)));
            }
            record = back;
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
            waiting.say(&self.brokers, context);
        }
    }

    /// Waits until everything sent is acknowledged by all in-sync replicas.
    pub(super) async fn flush(&self) -> Result<()> {
        let client = self.client()?;
        let context = client.client().context();
        let mut waiting = Waiting::default();
        loop {
            let changed = context.changed.notified();
            self.failure(context)?;
            if context.outstanding.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
            waiting.say(&self.brokers, context);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Closing waits for librdkafka's threads, which a task must not.
        if let Some(client) = self.client.take() {
            std::thread::spawn(move || drop(client));
        }
    }
}

/// Says now and then that something takes long.
struct Waiting {
    since: Instant,
    said: Instant,
}

impl Default for Waiting {
    fn default() -> Self {
        let now = Instant::now();
        Self { since: now, said: now }
    }
}

impl Waiting {
    fn say(&mut self, brokers: &str, context: &SinkContext) {
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
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
