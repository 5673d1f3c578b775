//! What every Kafka client of ours shares: how its configuration is put together, where its log goes, which of its errors will not pass, and what
//! a topic is like.

pub(crate) mod transaction;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaConfRes;

use crate::error::{Error, Result};

/// Properties that what is promised depends on, and that `properties` may therefore not set; with each what to do instead.
pub const FORBIDDEN: &[(&str, &str)] = &[
    ("group.id", "use `group`"),
    ("transactional.id", "it is the worker's own"),
    ("isolation.level", "it follows from `delivery`"),
    ("enable.auto.commit", "offsets are committed when every sink has the records"),
    ("auto.commit.enable", "offsets are committed when every sink has the records"),
    ("enable.auto.offset.store", "offsets are committed when every sink has the records"),
    ("auto.offset.reset", "use `start`"),
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("partition.assignment.strategy", "rebalancing is cooperative"),
    ("enable.partition.eof", "the worker needs it as it is"),
    ("enable.idempotence", "it follows from `delivery`"),
    ("acks", "it follows from `delivery`"),
    ("request.required.acks", "it follows from `delivery`"),
    ("partitioner", "it is murmur2, as Java's"),
    ("statistics.interval.ms", "the worker needs it as it is"),
];

/// What a broker takes as the largest batch where neither it nor the topic says otherwise (`max.message.bytes`).
pub const DEFAULT_MAX_MESSAGE: usize = 1_048_588;

/// Silence between two lines of one kind in the log while a broker is away.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(10);

/// The entries of [`FORBIDDEN`] that `properties` sets.
pub fn forbidden(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&'static str, &'static str)> {
    FORBIDDEN.iter().copied().filter(|(name, _)| properties.contains_key(*name))
}

/// A client's configuration: `defaults`, then the user's `properties` over them, then `fixed`, which nothing overrides.
///
/// # Errors
/// [`Error::Config`] if `properties` sets one of [`FORBIDDEN`].
pub fn client_config(
    brokers: &str,
    properties: &BTreeMap<String, String>,
    defaults: &[(&str, &str)],
    fixed: &[(&str, &str)],
) -> Result<ClientConfig> {
    if let Some((name, instead)) = forbidden(properties).next() {
        return Err(Error::config(format!("properties: `{name}` may not be set: {instead}; remove it")));
    }
    let mut config = ClientConfig::new();
    // librdkafka's own `debug` contexts say what they say at this level.
    config.set_log_level(if properties.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
    for (name, value) in defaults {
        config.set(*name, *value);
    }
    for (name, value) in properties {
        config.set(name, value);
    }
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    config.set("bootstrap.servers", brokers);
    Ok(config)
}

/// The error of creating a client, without the value that was refused: it may be a secret.
pub(crate) fn creation_error(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            Error::config(format!("properties: librdkafka knows no `{name}`; see its CONFIGURATION.md for the names"))
        }
        KafkaError::ClientConfig(_, _, name, _) => Error::config(format!(
            "properties: librdkafka refuses the value of `{name}`; see its CONFIGURATION.md for what it takes (the value is not shown, it may be a secret)"
        )),
        other => Error::config(format!("the Kafka client cannot be set up: {other}")),
    }
}

/// What an error that will not pass means; `None` for everything that can pass (a broker away, a rebalance, a timeout).
pub(crate) fn lasting(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "the brokers refuse the credentials; look at `sasl.username`, `sasl.password` and `sasl.mechanism` in `properties`"
        }
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => "the brokers do not speak this `sasl.mechanism`",
        Code::TopicAuthorizationFailed => "the credentials lack the right to a topic; grant it with kafka-acls.sh",
        Code::GroupAuthorizationFailed => "the credentials lack the right to the consumer group; grant READ on it with kafka-acls.sh",
        Code::ClusterAuthorizationFailed => "the credentials lack a right on the cluster (IDEMPOTENT_WRITE, for brokers before 3.0)",
        Code::TransactionalIdAuthorizationFailed => "the credentials lack the right to the transactional id",
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => "the topic or partition does not exist",
        Code::InvalidTopic => "this is no valid name of a topic",
        Code::MessageSizeTooLarge | Code::InvalidRecord => "the broker refuses the record",
        Code::PolicyViolation => "the topic refuses the record",
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the brokers are too old for this",
        Code::FencedInstanceId => {
            "another worker joined with this worker's `group.instance.id` and took its place; give each worker an id of its own"
        }
        Code::Fatal => "the client cannot go on",
        _ => return None,
    })
}

/// Where librdkafka's log lines and global errors go: to `tracing`, each kind at a bounded rate, since a client whose broker is away repeats itself
/// for hours. Also remembers the last error, to say why something is being waited for.
#[derive(Debug, Default)]
pub struct Logger {
    kinds: Mutex<HashMap<String, (Instant, u64)>>,
    last: Mutex<Option<(Code, String)>>,
}

impl Logger {
    /// How many lines of this kind were kept back since the last one; `None` if this one should be kept back as well.
    fn admit(&self, kind: &str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = lock(&self.kinds);
        match kinds.get_mut(kind) {
            Some((at, kept)) if now.duration_since(*at) < SAY_EVERY => {
                *kept += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                // The kinds are librdkafka's facilities and error codes: a few dozen.
                kinds.insert(kind.to_owned(), (now, 0));
                Some(0)
            }
        }
    }

    pub(crate) fn line(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // One set of properties serves consumer and producer; what only the other one knows is no mistake.
        let of_the_other = facility == "CONFWARN" && text.contains("will be ignored by this");
        if of_the_other || matches!(level, RDKafkaLogLevel::Debug) {
            tracing::debug!(target: "librdkafka", facility, "{text}");
            return;
        }
        let Some(kept_back) = self.admit(facility) else { return };
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility, kept_back, "{text}")
            }
            _ => tracing::info!(target: "librdkafka", facility, kept_back, "{text}"),
        }
    }

    pub(crate) fn global_error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        // Not errors: the end of a partition, and an offset that the source looks into itself.
        if matches!(code, Code::PartitionEOF | Code::AutoOffsetReset) {
            return;
        }
        *lock(&self.last) = Some((code, reason.to_owned()));
        if let Some(kept_back) = self.admit(&format!("{code:?}")) {
            tracing::warn!(target: "librdkafka", kept_back, "{error}: {reason}");
        }
    }

    /// The last global error.
    pub(crate) fn last_error(&self) -> Option<(Code, String)> {
        lock(&self.last).clone()
    }

    /// ` (reason)`, or nothing.
    pub(crate) fn because(&self) -> String {
        self.last_error().map_or_else(String::new, |(_, reason)| format!(" ({reason})"))
    }
}

/// Locks; a thread that panicked while holding it left nothing half done in our small critical sections.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The context of clients that only ask questions.
#[derive(Debug, Default)]
pub(crate) struct Asking(pub(crate) Logger);

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.line(level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.global_error(&error, reason);
    }
}

impl ConsumerContext for Asking {}

/// What the cluster says about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicState {
    /// It is there, with so many partitions.
    Partitions(usize),
    /// There is no such topic.
    Missing,
    /// Something that will not pass.
    Refused(String),
    /// No answer yet.
    Away(String),
}

/// Asks the cluster about a topic; blocks for at most `timeout`. `client` is a consumer's, since asking as a producer would create the topic on
/// brokers that do so by themselves.
pub(crate) fn topic_state<X: ConsumerContext>(client: &BaseConsumer<X>, topic: &str, timeout: Duration) -> TopicState {
    let metadata = match client.fetch_metadata(Some(topic), timeout) {
        Ok(metadata) => metadata,
        Err(e) => {
            return match e.rdkafka_error_code().and_then(lasting) {
                Some(what) => TopicState::Refused(what.to_owned()),
                None => TopicState::Away(e.to_string()),
            };
        }
    };
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return TopicState::Missing;
    };
    match found.error().map(Code::from) {
        None if found.partitions().is_empty() => TopicState::Missing,
        None | Some(Code::NoError) => TopicState::Partitions(found.partitions().len()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => TopicState::Missing,
        Some(code) => match lasting(code) {
            Some(what) => TopicState::Refused(what.to_owned()),
            None => TopicState::Away(code.to_string()),
        },
    }
}

/// The text for a missing topic: its name, and how to create it.
pub(crate) fn missing_topic(topic: &str, brokers: &str) -> String {
    format!(
        "there is no topic `{topic}` on {brokers}; create it with `kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 8`"
    )
}

/// A client that asks about topics and belongs to no group.
pub(crate) fn asking_client(brokers: &str, properties: &BTreeMap<String, String>) -> Result<BaseConsumer<Asking>> {
    client_config(brokers, properties, &[("client.id", "lakelens-check")], &[("allow.auto.create.topics", "false")])?
        .create_with_context(Asking::default())
        .map_err(creation_error)
}

/// For `check --connect`: whether the brokers answer, take the credentials and have all the `topics`. One message for each thing that is wrong,
/// none if all is well. Blocks for up to `timeout` a question: call it off the runtime.
pub fn connect_check(brokers: &str, properties: &BTreeMap<String, String>, topics: &[&str], timeout: Duration) -> Vec<String> {
    let client = match asking_client(brokers, properties) {
        Ok(client) => client,
        Err(e) => return vec![e.to_string()],
    };
    let mut wrong = Vec::new();
    for topic in topics {
        match topic_state(&client, topic, timeout) {
            TopicState::Partitions(_) => {}
            TopicState::Missing => wrong.push(missing_topic(topic, brokers)),
            TopicState::Refused(what) => wrong.push(format!("topic `{topic}` on {brokers}: {what}")),
            TopicState::Away(what) => {
                // Global errors, which name the cause, come through the queue.
                let _ = client.poll(Duration::from_millis(100));
                let reason = match client.context().0.last_error() {
                    Some((code, _)) if lasting(code).is_some() => lasting(code).unwrap_or_default().to_owned(),
                    Some((_, reason)) => reason,
                    None => what,
                };
                wrong.push(format!("no answer from Kafka at {brokers}: {reason}"));
                break;
            }
        }
    }
    wrong
}

/// Deletes a consumer group that nobody is a member of, with its offsets.
///
/// # Errors
/// [`Error::Failed`] if the brokers are away or refuse.
pub(crate) async fn delete_group(brokers: &str, properties: &BTreeMap<String, String>, group: &str) -> Result<()> {
    let config = client_config(brokers, properties, &[("client.id", "lakelens-admin")], &[])?;
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(creation_error)?;
    let deleted = admin.delete_groups(&[group], &AdminOptions::new().request_timeout(Some(Duration::from_secs(5)))).await;
    // Closing a client waits for its threads.
    tokio::task::spawn_blocking(move || drop(admin));
    let failed = |why: &dyn std::fmt::Display| Error::failed(format!("group `{group}` at {brokers} could not be deleted: {why}"));
    match deleted.map_err(|e| failed(&e))?.into_iter().next() {
        Some(Err((_, code))) => Err(failed(&code)),
        _ => Ok(()),
    }
}

/// What a topic takes and how long it keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicLimits {
    /// Largest batch, in bytes.
    pub(crate) max_message: usize,
    /// Age at which messages are deleted, in milliseconds; `None` = never.
    pub(crate) retention_ms: Option<i64>,
}

/// The limits of each of `topics`; Kafka's defaults where they may not be asked.
pub(crate) async fn topic_limits(brokers: &str, properties: &BTreeMap<String, String>, topics: &[String]) -> Result<Vec<TopicLimits>> {
    const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
    let config = client_config(brokers, properties, &[("client.id", "lakelens-admin")], &[])?;
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(creation_error)?;
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    let answers = admin.describe_configs(&asked, &options).await;
    // Closing a client waits for its threads.
    tokio::task::spawn_blocking(move || drop(admin));
    let mut answers = answers.unwrap_or_default().into_iter();
    let limits = topics.iter().map(|topic| {
        let answer = answers.next().and_then(std::result::Result::ok);
        let number = |name: &str| answer.as_ref().and_then(|r| r.get(name)?.value.as_deref()?.parse::<i64>().ok());
        let max_message = number("max.message.bytes").and_then(|n| usize::try_from(n).ok());
        if max_message.is_none() {
            tracing::warn!(
                topic,
                "the topic's configuration could not be read (DESCRIBE_CONFIGS); max.message.bytes {DEFAULT_MAX_MESSAGE} is assumed"
            );
        }
        TopicLimits {
            max_message: max_message.unwrap_or(DEFAULT_MAX_MESSAGE),
            retention_ms: Some(number("retention.ms").unwrap_or(WEEK_MS)).filter(|ms| *ms >= 0),
        }
    });
    Ok(limits.collect())
}

#[cfg(test)]
pub(crate) mod tests;
