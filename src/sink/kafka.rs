//! The Kafka sinks: records to one topic or two, rejections to a dead-letter topic.

#[cfg(test)]
mod conforms;
mod dead_letters;
mod producer;
mod transactions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use super::unflushed::Unflushed;
use super::{Flush, Sink};
use crate::config;
use crate::error::{Error, Result};
use crate::flow::{Delivery, ImageRef, Outcome, Partition, Position, Reason, Record, Rejection, Stage, TRACEPARENT, Trace};
pub use dead_letters::KafkaDeadLetters;
pub use producer::Client;
pub(crate) use producer::encoded_size;
use producer::{Outgoing, Producer};
pub use transactions::Transactions;

/// Which parts of a record a topic gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Labels and heads, no embedding.
    Labels,
    /// The embedding, neither labels nor heads.
    Embeddings,
    /// Everything.
    Whole,
}

/// Writes a record as the JSON of the contract.
pub type Encode = fn(&Record, Which, config::Encoding) -> Vec<u8>;

const SCHEMA: &str = "lakelens.record.v1";
/// On every record: the space of its embedding.
pub(crate) const SPACE_HEADER: &str = "lakelens.space";
/// On records that were committed together with a group's offsets: the group.
pub(crate) const GROUP_HEADER: &str = "lakelens.group";

/// Records and tombstones on Kafka topics.
pub struct KafkaSink {
    name: String,
    topics: Vec<(String, Which)>,
    key: config::Key,
    encoding: config::Encoding,
    encode: Encode,
    producer: Producer,
    /// What `check` encoded and `write` sends, one value a topic.
    encoded: HashMap<Position, Vec<Bytes>>,
    unflushed: Unflushed,
}

impl KafkaSink {
    /// Connects to the topics of `config`. `brokers` and `properties` are the source's, for a sink that names none itself; where sinks `share` a
    /// producer, theirs count. Waits while no broker answers.
    ///
    /// # Errors
    /// [`Error::Config`] if no topic is named or a property is refused; [`Error::Failed`] naming a topic that does not exist.
    pub async fn start(
        config: &config::KafkaSink,
        brokers: &str,
        properties: &BTreeMap<String, String>,
        output: &config::Output,
        encode: Encode,
        share: Option<Arc<Client>>,
    ) -> Result<Self> {
        let topics: Vec<(String, Which)> =
            [(&config.labels, Which::Labels), (&config.embeddings, Which::Embeddings), (&config.records, Which::Whole)]
                .into_iter()
                .filter_map(|(topic, which)| Some((topic.clone()?, which)))
                .collect();
        if topics.is_empty() {
            return Err(Error::config("a Kafka sink needs `labels`, `embeddings` or `records`: the topics to write to"));
        }
        let names: Vec<String> = topics.iter().map(|(t, _)| t.clone()).collect();
        let brokers = config.brokers.as_deref().filter(|b| !b.is_empty()).unwrap_or(brokers);
        let producer = match share {
            Some(client) => Producer::within(client, &names),
            None => Producer::start(brokers, config.properties.as_ref().unwrap_or(properties), &names).await?,
        };
        Ok(Self {
            name: format!("kafka:{}", names.join(",")),
            topics,
            key: output.key,
            encoding: output.encoding,
            encode,
            producer,
            encoded: HashMap::new(),
            unflushed: Unflushed::default(),
        })
    }

    fn key<'a>(&self, uri: &'a str, id: Option<&'a str>) -> &'a str {
        match self.key {
            config::Key::Uri => uri,
            config::Key::Id => id.unwrap_or(uri),
        }
    }

    fn tombstone_key(&self, image: &ImageRef) -> String {
        let uri = image.location.to_string();
        self.key(&uri, image.id.as_deref()).to_owned()
    }

    fn encode_all(&self, record: &Record) -> Vec<Bytes> {
        self.topics.iter().map(|(_, which)| (self.encode)(record, *which, self.encoding).into()).collect()
    }

    fn headers<'a>(group: Option<&'a str>, record: &'a Record, trace: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let group = group.map(|group| (GROUP_HEADER, group));
        let trace = trace.map(|trace| (TRACEPARENT, trace));
        [(SPACE_HEADER, &*record.space), ("lakelens.schema", SCHEMA)].into_iter().chain(group).chain(trace).collect()
    }

    fn fits(&self, topic: usize, key: &str, value: &[u8], headers: &[(&str, &str)]) -> Result<(), Rejection> {
        let size = encoded_size(key.len(), value.len(), headers.iter().map(|(n, v)| n.len() + v.len()));
        let limit = self.producer.limit(topic);
        if size <= limit {
            return Ok(());
        }
        let topic = &self.topics[topic].0;
        Err(Rejection::new(
            Stage::Deliver,
            Reason::RecordTooLarge,
            format!("the record takes {size} bytes, topic `{topic}` takes {limit}; raise its max.message.bytes, or use `encoding: f16`"),
        ))
    }

    async fn send(&mut self, delivery: &Delivery) -> Result<()> {
        // Taken out whatever became of the item: another sink may have refused it after our check.
        let cached = self.encoded.remove(&delivery.item.position);
        let group = self.producer.group();
        let trace = delivery.item.trace.as_ref().map(Trace::traceparent);
        let (key, values, headers) = match &delivery.outcome {
            Outcome::Record(record) => {
                let values = cached.unwrap_or_else(|| self.encode_all(record));
                (
                    self.key(&record.uri, record.id.as_deref()).to_owned(),
                    Some(values),
                    Self::headers(group.as_deref(), record, trace.as_deref()),
                )
            }
            Outcome::Tombstone(image) => (self.tombstone_key(image), None, Vec::new()),
            Outcome::Rejected(_) | Outcome::Skipped(_) => return Ok(()),
        };
        let position = &delivery.item.position;
        self.unflushed.note(&position.partition, position.offset);
        for topic in 0..self.topics.len() {
            let headers = (!headers.is_empty()).then(|| {
                headers.iter().fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: name, value: Some(*value) }))
            });
            let value = values.as_ref().map(|v| &*v[topic]);
            self.producer.send(Outgoing { topic, key: Some(key.as_bytes()), value, headers, timestamp_ms: None }).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, delivery: &Delivery) -> Result<(), Rejection> {
        match &delivery.outcome {
            Outcome::Record(record) => {
                let values = self.encode_all(record);
                let key = self.key(&record.uri, record.id.as_deref());
                let group = self.producer.group();
                let trace = delivery.item.trace.as_ref().map(Trace::traceparent);
                for (topic, value) in values.iter().enumerate() {
                    self.fits(topic, key, value, &Self::headers(group.as_deref(), record, trace.as_deref()))?;
                }
                self.encoded.insert(delivery.item.position.clone(), values);
                Ok(())
            }
            Outcome::Tombstone(image) => {
                let key = self.tombstone_key(image);
                (0..self.topics.len()).try_for_each(|topic| self.fits(topic, &key, &[], &[]))
            }
            Outcome::Rejected(_) | Outcome::Skipped(_) => Ok(()),
        }
    }

    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            self.send(delivery).await?;
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
        self.encoded.retain(|position, _| position.partition != *partition);
        self.unflushed.forget(partition);
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        self.encoded.retain(|position, _| position.partition != *partition);
        self.flush(Flush::All).await
    }
}
