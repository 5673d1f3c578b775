//! `lakelens audit`: every position of an input topic against the records and dead letters, over all workers that ever wrote them.
//!
//! The end of the input is taken first and the ends of the outputs afterwards; items still in flight then count as missing, so audit after a drain.
//! An item that a worker passed over since its object is newer than its event counts as superseded if the newer event stands on the input and has an
//! outcome, and as missing if not.

mod ledger;
mod report;
mod superseded;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;

use crate::flow::{Header, ParsedItem};
use crate::kafka::Asking;
use crate::{Context, Error, Result};
pub use ledger::Asked;
use ledger::{Came, Ledger};
pub use report::{AuditReport, Fault, Finding, PartitionLedger};

const SERVER_TIMEOUT: Duration = Duration::from_secs(15);
/// Without any message for so long, a broker that had promised more counts as away.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to audit.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Bootstrap servers.
    pub brokers: String,
    /// The topic of references.
    pub topic: String,
    /// Topics of records; each of them must have every item that has no dead letter.
    pub outputs: Vec<String>,
    /// The topic of dead letters.
    pub dead: Option<String>,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, String>,
    /// Wrong items listed of each kind and output.
    pub listed: usize,
}

/// Reads all topics from their beginnings to their present ends and compares them. `parse` is the parser that the worker reads references with.
///
/// Memory: two bits for each offset of the input and each topic, and some bytes for each message of several items.
///
/// # Errors
/// [`Error::Config`] if a topic does not exist, [`Error::Failed`] if a broker is away. An unbalanced ledger is none: see [`AuditReport::verdict`].
pub async fn audit(
    options: AuditOptions,
    parse: impl Fn(Option<&[u8]>, &[Header]) -> Vec<ParsedItem> + Send + 'static,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<AuditReport> {
    tokio::task::spawn_blocking(move || Audit::new(&options).run(&parse, &progress))
        .await
        .map_err(|e| Error::failed(format!("the audit broke off: {e}")))?
}

type Parse<'a> = &'a dyn Fn(Option<&[u8]>, &[Header]) -> Vec<ParsedItem>;

struct Audit<'a> {
    options: &'a AuditOptions,
    partitions: BTreeMap<i32, Ledger>,
    /// Messages, items and skipped items of each partition.
    read: HashMap<i32, (u64, u64, u64)>,
    /// Unasked records and dead letters by destination and partition.
    unasked: HashMap<(usize, i32), u64>,
    superseded: HashMap<i32, u64>,
    report: AuditReport,
}

impl<'a> Audit<'a> {
    fn new(options: &'a AuditOptions) -> Self {
        let report = AuditReport { topic: options.topic.clone(), ..AuditReport::default() };
        Self { options, partitions: BTreeMap::new(), read: HashMap::new(), unasked: HashMap::new(), superseded: HashMap::new(), report }
    }

    fn run(mut self, parse: Parse<'_>, progress: &dyn Fn(u64)) -> Result<AuditReport> {
        if self.options.outputs.is_empty() {
            return Err(Error::config("nothing to compare with: name the topics of records (--outputs)"));
        }
        let mut told = Told { read: 0, at: Instant::now(), progress };
        let input = Topic::open(self.options, &self.options.topic)?;
        for (&partition, &(low, high)) in &input.ends {
            self.partitions.insert(partition, Ledger::new(low, high, self.options.outputs.len()));
        }
        // The outputs' ends come after the input's, so that nothing of theirs is missed; all are taken before the first message is read.
        let names = self.options.outputs.iter().chain(&self.options.dead);
        let outputs = names.map(|name| Topic::open(self.options, name)).collect::<Result<Vec<_>>>()?;
        input.read(|message| {
            self.asked(message, parse);
            told.one();
        })?;
        for (destination, topic) in outputs.iter().enumerate() {
            topic.read(|message| {
                self.came(destination, &topic.name, message);
                told.one();
            })?;
        }
        (told.progress)(told.read);
        self.superseded = superseded::mark(&input, &mut self.partitions, parse)?;
        for (output, name) in self.options.outputs.iter().enumerate() {
            self.sum(output, name);
        }
        Ok(self.report)
    }

    fn asked(&mut self, message: &BorrowedMessage<'_>, parse: Parse<'_>) {
        let kind = |item: ParsedItem| match item {
            ParsedItem::Image(_) | ParsedItem::Bad(_) => Asked::Outcome,
            ParsedItem::Deleted(_) | ParsedItem::Skip(_) => Asked::Nothing,
        };
        let items: Vec<Asked> = items_of(message, parse).into_iter().map(kind).collect();
        let (messages, all, skipped) = self.read.entry(message.partition()).or_default();
        *messages += 1;
        *all += items.len() as u64;
        *skipped += items.iter().filter(|i| **i == Asked::Nothing).count() as u64;
        if let Some(ledger) = self.partitions.get_mut(&message.partition()) {
            ledger.message(message.offset(), items);
        }
    }

    fn came(&mut self, destination: usize, topic: &str, message: &BorrowedMessage<'_>) {
        let dead = destination == self.options.outputs.len();
        let position = match (dead, message.payload()) {
            (true, _) => of_dead_letter(message),
            (false, Some(value)) => of_record(value),
            (false, None) => {
                self.report.tombstones += 1;
                return;
            }
        };
        let Some((source, partition, offset, item)) = position else {
            self.report.unreadable += 1;
            return;
        };
        if source != self.options.topic {
            self.report.of_other_topics += 1;
            return;
        }
        let Some(ledger) = self.partitions.get_mut(&partition) else {
            return self.found_unasked(destination, topic, partition, offset, item);
        };
        match ledger.came(destination, offset, item) {
            Came::Known => {}
            Came::Expired => self.report.expired += 1,
            Came::Later => self.report.later += 1,
            Came::Unasked => self.found_unasked(destination, topic, partition, offset, item),
        }
    }

    fn found_unasked(&mut self, destination: usize, topic: &str, partition: i32, offset: i64, item: u32) {
        *self.unasked.entry((destination, partition)).or_default() += 1;
        if self.unasked.iter().filter(|u| u.0.0 == destination).map(|u| *u.1).sum::<u64>() <= self.options.listed as u64 {
            self.report.findings.push(Finding { fault: Fault::Unasked, output: topic.to_owned(), partition, offset, item });
        }
    }

    /// Adds the ledgers of one output. Dead letters that nobody asked for count on each.
    fn sum(&mut self, output: usize, name: &str) {
        let dead = self.options.outputs.len();
        let (mut missing, mut doubled) = (0, 0);
        // Records may also speak of partitions that the input topic does not have.
        let partitions: BTreeSet<i32> = self.partitions.keys().copied().chain(self.unasked.keys().map(|u| u.1)).collect();
        for partition in partitions {
            let (messages, items, skipped) = self.read.get(&partition).copied().unwrap_or_default();
            let unasked = [output, dead].iter().filter_map(|d| self.unasked.get(&(*d, partition))).sum();
            let superseded = self.superseded.get(&partition).copied().unwrap_or_default();
            let mut sums = PartitionLedger {
                output: name.to_owned(),
                partition,
                messages,
                items,
                skipped,
                superseded,
                unasked,
                ..PartitionLedger::default()
            };
            if let Some(ledger) = self.partitions.get(&partition) {
                (sums.from, sums.to) = ledger.span();
                let findings = &mut self.report.findings;
                ledger.fates(output, |fate| {
                    sums.published += u64::from(fate.records > 0);
                    sums.rejected += u64::from(fate.records == 0 && fate.dead_letters > 0);
                    let (fault, count) = match fate.records + fate.dead_letters {
                        0 => (Fault::Missing, &mut missing),
                        1 => return,
                        _ => (Fault::Doubled, &mut doubled),
                    };
                    *count += 1;
                    if *count <= self.options.listed {
                        findings.push(Finding { fault, output: name.to_owned(), partition, offset: fate.offset, item: fate.item });
                    }
                    match fault {
                        Fault::Missing => sums.missing += 1,
                        _ => sums.doubled += 1,
                    }
                });
            }
            self.report.ledgers.push(sums);
        }
    }
}

fn items_of(message: &BorrowedMessage<'_>, parse: Parse<'_>) -> Vec<ParsedItem> {
    let headers: Vec<Header> = message
        .headers()
        .map_or_else(Vec::new, |all| all.iter().map(|h| (h.key.to_owned(), h.value.map(Bytes::copy_from_slice))).collect());
    parse(message.payload(), &headers)
}

/// Says a few times a second how many messages were read.
struct Told<'a> {
    read: u64,
    at: Instant,
    progress: &'a dyn Fn(u64),
}

impl Told<'_> {
    fn one(&mut self) {
        self.read += 1;
        if self.read.is_multiple_of(1000) && self.at.elapsed() > Duration::from_millis(200) {
            (self.progress)(self.read);
            self.at = Instant::now();
        }
    }
}

type SourcePosition<'a> = (Cow<'a, str>, i32, i64, u32);

/// A record's `source`; nothing else of it is kept.
fn of_record(value: &[u8]) -> Option<SourcePosition<'_>> {
    #[derive(Deserialize)]
    struct Source<'a> {
        #[serde(borrow)]
        topic: Cow<'a, str>,
        partition: i32,
        offset: i64,
        item: u32,
    }
    #[derive(Deserialize)]
    struct OnlySource<'a> {
        #[serde(borrow)]
        source: Source<'a>,
    }
    let OnlySource { source } = serde_json::from_slice(value).ok()?;
    Some((source.topic, source.partition, source.offset, source.item))
}

/// A dead letter's `lakelens.source.*` headers; of repeated ones the last counts.
fn of_dead_letter<'a>(message: &'a BorrowedMessage<'_>) -> Option<SourcePosition<'a>> {
    let headers = message.headers()?;
    let (mut topic, mut partition, mut offset, mut item) = (None, None, None, None);
    for header in headers.iter() {
        let Some(name) = header.key.strip_prefix("lakelens.source.") else { continue };
        let text = header.value.and_then(|v| std::str::from_utf8(v).ok())?;
        match name {
            "topic" => topic = Some(text.to_owned()),
            "partition" => partition = text.parse().ok(),
            "offset" => offset = text.parse().ok(),
            "item" => item = text.parse().ok(),
            _ => {}
        }
    }
    Some((Cow::Owned(topic?), partition?, offset?, item?))
}

/// A topic with the range of offsets of each partition as it was when opened.
struct Topic {
    name: String,
    consumer: BaseConsumer<Asking>,
    ends: BTreeMap<i32, (i64, i64)>,
}

impl Topic {
    fn open(options: &AuditOptions, name: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("client.id", "lakelens-audit").set("queued.max.messages.kbytes", "32768");
        for (property, value) in &options.properties {
            config.set(property, value);
        }
        // A group is never joined and nothing is committed; librdkafka wants a name all the same.
        let consumer: BaseConsumer<Asking> = config
            .set("bootstrap.servers", &options.brokers)
            .set("group.id", "lakelens-audit")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create_with_context(Asking::default())
            .map_err(|e| Error::config(format!("the Kafka properties do not make a consumer: {e}")))?;
        let metadata =
            consumer.fetch_metadata(Some(name), SERVER_TIMEOUT).context(format!("no Kafka broker answers at {}", options.brokers))?;
        let partitions: Vec<i32> = match metadata.topics().first() {
            Some(topic) if topic.error().is_none() && !topic.partitions().is_empty() => topic.partitions().iter().map(|p| p.id()).collect(),
            _ => return Err(Error::config(format!("there is no topic `{name}` at {}", options.brokers))),
        };
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let range = consumer
                .fetch_watermarks(name, partition, SERVER_TIMEOUT)
                .context(format!("cannot ask for the end of {name}/{partition}"))?;
            ends.insert(partition, range);
        }
        Ok(Self { name: name.to_owned(), consumer, ends })
    }

    fn read(&self, mut each: impl FnMut(&BorrowedMessage<'_>)) -> Result<()> {
        let mut open: BTreeMap<i32, i64> =
            self.ends.iter().filter(|(_, (low, high))| low < high).map(|(p, (_, high))| (*p, *high)).collect();
        let mut assignment = TopicPartitionList::new();
        for &partition in open.keys() {
            assignment
                .add_partition_offset(&self.name, partition, Offset::Offset(self.ends[&partition].0))
                .context(format!("cannot read {}", self.name))?;
        }
        self.consumer.assign(&assignment).context(format!("cannot read {}", self.name))?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let Some(&end) = open.get(&message.partition()) else { continue };
                    if message.offset() < end {
                        each(&message);
                    }
                    if message.offset() + 1 >= end {
                        open.remove(&message.partition());
                    }
                }
                // What is left below the end are markers and aborted messages, or a transaction that is still open.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                    heard = Instant::now();
                }
                Some(Err(e)) => tracing::warn!("reading {}: {e}", self.name),
                None => {}
            }
            if heard.elapsed() > PATIENCE {
                return Err(Error::failed(format!("reading {} stalled: no message for {} s", self.name, PATIENCE.as_secs())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
