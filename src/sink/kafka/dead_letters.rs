//! Dead letters: the input as it came, with why it was rejected in headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::message::OwnedHeaders;

use super::producer::{Client, Outgoing, Producer, encoded_size};
use crate::error::Result;
use crate::flow::{Delivery, Header, Item, Outcome, Partition, Rejection};
use crate::sink::unflushed::Unflushed;
use crate::sink::{Flush, Sink};

/// Headers that each failure writes anew.
const OWN: &[&str] = &["lakelens.error.", "lakelens.source.", "__connect.errors."];
const ATTEMPT: &str = "lakelens.attempt";
const ONLY_ITEM: &str = "lakelens.only-item";
const ORIGIN: &str = "lakelens.origin.";
const TRUNCATED: &str = "lakelens.error.truncated";
/// Longest text of a detail in a header, in bytes.
const MAX_DETAIL: usize = 4096;
/// Longest `lakelens.origin.*` header that is kept where there is no room for the others, in bytes.
const MAX_ORIGIN: usize = 256;

/// Rejections on a Kafka topic.
pub struct KafkaDeadLetters {
    name: String,
    producer: Producer,
    unflushed: Unflushed,
}

impl KafkaDeadLetters {
    /// Connects to `topic`, or takes part in the producer that sinks `share`. Waits while no broker answers.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if a property is refused, [`crate::Error::Failed`] if the topic does not exist.
    pub async fn start(topic: &str, brokers: &str, properties: &BTreeMap<String, String>, share: Option<Arc<Client>>) -> Result<Self> {
        let producer = match share {
            Some(client) => Producer::within(client, &[topic.to_owned()]),
            None => Producer::start(brokers, properties, &[topic.to_owned()]).await?,
        };
        Ok(Self { name: format!("kafka:{topic}"), producer, unflushed: Unflushed::default() })
    }
}

/// A dead letter before it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    pub(super) timestamp_ms: Option<i64>,
}

impl Letter {
    fn size(&self) -> usize {
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        encoded_size(len(&self.key), len(&self.value), self.headers.iter().map(|(n, v)| n.len() + len(v)))
    }
}

/// Writes the dead letter of one item, of at most `limit` bytes: where the input leaves no room for the reason, its value is cut, then its headers
/// and its key are left out.
pub(super) fn letter(item: &Item, rejection: &Rejection, limit: usize) -> Letter {
    let message = &item.message;
    let find = |name: &str| message.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref());
    let attempt = find(ATTEMPT).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u32>().ok()).map_or(1, |n| n.saturating_add(1));
    let has_origin = message.headers.iter().any(|(n, _)| n.starts_with(ORIGIN));

    let position = &item.position;
    let (topic, partition, offset) = (&*position.partition.topic, position.partition.partition.to_string(), position.offset.to_string());
    let (number, detail) = (position.item.to_string(), clip(&rejection.detail, MAX_DETAIL));
    let (stage, reason) = (rejection.stage.name(), rejection.reason.name());
    let mut own: Vec<(&str, &str)> = vec![
        ("lakelens.error.stage", stage),
        ("lakelens.error.reason", reason),
        ("lakelens.error.detail", detail),
        ("lakelens.source.topic", topic),
        ("lakelens.source.partition", &partition),
        ("lakelens.source.offset", &offset),
        ("lakelens.source.item", &number),
    ];
    // The message's own timestamp may have to go, see `lives_on`.
    let timestamp = message.timestamp_ms.map(|t| t.to_string());
    if let Some(timestamp) = &timestamp {
        own.push(("lakelens.source.timestamp", timestamp));
    }
    let attempt = attempt.to_string();
    own.push((ATTEMPT, &attempt));
    if !has_origin {
        own.extend([
            ("lakelens.origin.topic", topic),
            ("lakelens.origin.partition", &*partition),
            ("lakelens.origin.offset", &*offset),
            ("lakelens.origin.item", &*number),
            ("lakelens.origin.stage", stage),
            ("lakelens.origin.reason", reason),
        ]);
    }
    own.extend([
        ("__connect.errors.topic", topic),
        ("__connect.errors.partition", &*partition),
        ("__connect.errors.offset", &*offset),
        ("__connect.errors.stage", stage),
        ("__connect.errors.exception.message", detail),
    ]);
    let own: Vec<Header> = own.into_iter().map(|(n, v)| (n.to_owned(), Some(Bytes::copy_from_slice(v.as_bytes())))).collect();

    let own_count = own.len();

    let stale = |name: &str| OWN.iter().any(|prefix| name.starts_with(prefix)) || name == ATTEMPT || name == ONLY_ITEM;
    let kept: Vec<Header> = message.headers.iter().filter(|(n, _)| !stale(n)).cloned().collect();
    let mut letter = Letter {
        key: message.key.clone(),
        value: message.value.clone(),
        headers: kept.into_iter().chain(own).collect(),
        timestamp_ms: message.timestamp_ms,
    };
    if letter.size() > limit {
        cut(&mut letter, own_count, limit);
    }
    letter
}

/// Makes a letter fit whose last `own` headers are ours, and says in one more what was cut: `value`, `headers`, `key`, `detail`.
fn cut(letter: &mut Letter, own: usize, limit: usize) {
    let own = own + 1;
    letter.headers.push((TRUNCATED.to_owned(), Some(Bytes::from_static(b"value,headers,key,detail"))));
    let mut cut = vec!["value"];
    let value = letter.value.take();
    if letter.size() > limit {
        cut.push("headers");
        // Whoever wrote the message may have used our prefixes as well.
        let short = |v: &Option<Bytes>| v.as_ref().is_none_or(|v| v.len() <= MAX_ORIGIN);
        let mut origins = 0;
        let mut left = letter.headers.len();
        letter.headers.retain(|(name, value)| {
            left -= 1;
            let origin = name.starts_with(ORIGIN) && name.len() <= MAX_ORIGIN && short(value) && origins < 16;
            origins += usize::from(origin);
            left < own || origin
        });
    }
    if letter.size() > limit {
        cut.push("key");
        letter.key = None;
    }
    if letter.size() > limit {
        cut.push("detail");
        for (name, value) in &mut letter.headers {
            if name == "lakelens.error.detail" || name == "__connect.errors.exception.message" {
                *value = None;
            }
        }
    }
    let room = limit.saturating_sub(letter.size());
    letter.value = value.map(|v| v.slice(..room.min(v.len())));
    if let Some((_, says)) = letter.headers.last_mut() {
        *says = Some(Bytes::from(cut.join(",")));
    }
}

/// Whether a message of this timestamp would stay for at least half the topic's retention. Retention goes by the timestamp: the dead letter of an
/// input that lay for long would be deleted the moment it is written, so such a one gets the present time, and the input's in a header.
pub(super) fn lives_on(timestamp_ms: i64, now_ms: i64, retention_ms: Option<i64>) -> bool {
    retention_ms.is_none_or(|keep| now_ms.saturating_sub(timestamp_ms) <= keep / 2)
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The beginning of `text`, of at most `max` bytes.
fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[async_trait]
impl Sink for KafkaDeadLetters {
    fn name(&self) -> &str {
        &self.name
    }

    /// What does not fit is cut, so everything can be written.
    fn check(&mut self, _delivery: &Delivery) -> Result<(), Rejection> {
        Ok(())
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            let Outcome::Rejected(rejection) = &delivery.outcome else { continue };
            let item = &delivery.item;
            self.unflushed.note(&item.position.partition, item.position.offset);
            let letter = letter(item, rejection, self.producer.limit(0));
            let headers = letter.headers.iter().fold(OwnedHeaders::new_with_capacity(letter.headers.len()), |all, (key, value)| {
                all.insert(rdkafka::message::Header { key, value: value.as_deref() })
            });
            let outgoing = Outgoing {
                topic: 0,
                key: letter.key.as_deref(),
                value: letter.value.as_deref(),
                headers: Some(headers),
                timestamp_ms: letter.timestamp_ms.filter(|at| lives_on(*at, now_ms(), self.producer.retention_ms(0))),
            };
            self.producer.send(outgoing).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, _how: Flush) -> Result<()> {
        self.producer.flush().await?;
        self.unflushed.clear();
        Ok(())
    }

    fn held(&self, partition: &Partition) -> Option<i64> {
        self.unflushed.lowest(partition)
    }

    /// What was sent cannot be taken back: it stands before the replay, which the contract allows.
    async fn begin(&mut self, partition: &Partition, _next_offset: i64) -> Result<()> {
        self.unflushed.forget(partition);
        Ok(())
    }

    async fn release(&mut self, _partition: &Partition) -> Result<()> {
        self.flush(Flush::All).await
    }
}
