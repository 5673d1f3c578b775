//! `lakelens redrive`: dead letters of chosen reasons back to a topic, each exactly once.
//!
//! The letters, and how far each reason has come, go into one transaction. The positions belong to a consumer group that nobody joins; who begins
//! fences whoever redrove under it before (one transactional id a group), and only then asks for the positions. Brokers forget positions that are not
//! committed for long, so each run commits all of them.

mod forgotten;
mod letter;
mod positions;
mod report;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use crate::flow::Header;
use crate::kafka::transaction::Calls;
use crate::kafka::{Asking, TopicState, asking_client, client_config, creation_error, lasting, missing_topic, topic_limits, topic_state};
use crate::sink::kafka::encoded_size;
use crate::{Context, Error, Result};
use letter::Letter;
pub use letter::{NONE, reasons};
use positions::Positions;
pub use report::{Counts, RedriveReport};
use transfer::{Back, Transfer};

const SERVER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long brokers may take for their first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(8);
/// Without any message for so long, brokers that had promised more count as away.
const PATIENCE: Duration = Duration::from_secs(60);
/// What goes into one transaction at most: bounds memory, and how much an abort repeats.
const LETTERS: usize = 1000;
const BYTES: usize = 8 << 20;

/// What to redrive.
#[derive(Debug, Clone)]
pub struct RedriveOptions {
    /// Bootstrap servers.
    pub brokers: String,
    /// The topic of dead letters.
    pub topic: String,
    /// Where they go.
    pub to: String,
    /// Of [`reasons`].
    pub reasons: Vec<&'static str>,
    /// Whose positions these are.
    pub group: String,
    /// At most so many letters.
    pub max_items: u64,
    /// Count only.
    pub dry_run: bool,
    /// Begin with the oldest letters where the group has no position, even if a position may have been forgotten.
    pub from_start: bool,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// Reads the dead letters from the reasons' positions to the present end, and sends those of the chosen reasons back.
///
/// # Errors
/// [`Error::Config`] if a topic does not exist or the letters would feed themselves, [`Error::Failed`] if brokers are away, another redrive took over, or
/// positions may have been forgotten (see `from_start`). What was committed by then stays, and the next run goes on from there.
pub async fn redrive(
    options: RedriveOptions,
    stop: &CancellationToken,
    progress: impl Fn(&RedriveReport) + Send + 'static,
) -> Result<RedriveReport> {
    if options.topic == options.to {
        return Err(Error::config(format!(
            "letters that go from `{0}` to `{0}` would be redriven for ever; name another --to",
            options.topic
        )));
    }
    // First, and quickly: asking for limits would wait in vain for brokers that are away.
    let asked = options.clone();
    tokio::task::spawn_blocking(move || look_for_topics(&asked)).await.map_err(Error::failed)??;
    let limits = topic_limits(&options.brokers, &options.properties, std::slice::from_ref(&options.to)).await?;
    let largest = limits.first().map_or(crate::kafka::DEFAULT_MAX_MESSAGE, |l| l.max_message);
    let stop = stop.clone();
    let brokers = options.brokers.clone();
    let calls = Arc::new(Calls::default());
    let told = calls.clone();
    let redrive = tokio::task::spawn_blocking(move || Redrive::open(options, largest, told)?.run(&stop, &progress));
    tokio::select! {
        ended = redrive => ended.map_err(|e| Error::failed(format!("the redrive broke off: {e}")))?,
        why = calls.stuck() => Err(Error::failed(format!("Kafka at {brokers}: {why}; what was committed stays; run it again to go on from there"))),
    }
}

/// Whether the brokers answer and have both topics. Blocks.
fn look_for_topics(options: &RedriveOptions) -> Result<()> {
    let asking = asking_client(&options.brokers, &options.properties)?;
    for topic in [&options.topic, &options.to] {
        match topic_state(&asking, topic, FIRST_ANSWER) {
            TopicState::Partitions(_) => {}
            TopicState::Missing => return Err(Error::config(missing_topic(topic, &options.brokers))),
            TopicState::Refused(what) => return Err(Error::failed(format!("topic `{topic}` on {}: {what}", options.brokers))),
            TopicState::Away(what) => {
                // Global errors, which name the cause, come through the queue.
                let _ = asking.poll(Duration::from_millis(100));
                let because = asking.context().0.because();
                return Err(Error::failed(format!(
                    "no Kafka broker answers at {} within {} s: {what}{because}; nothing was redriven",
                    options.brokers,
                    FIRST_ANSWER.as_secs()
                )));
            }
        }
    }
    Ok(())
}

/// One partition of the dead letters.
struct Part {
    /// The end as it was in the beginning; `None` once it is reached.
    end: Option<i64>,
    positions: Positions,
    /// Everything below it is in this batch or an earlier one.
    next: i64,
    /// `next` as this run committed it last.
    kept: Option<i64>,
}

struct Redrive {
    options: RedriveOptions,
    largest: usize,
    consumer: BaseConsumer<Asking>,
    transfer: Option<Transfer>,
    parts: BTreeMap<i32, Part>,
    report: RedriveReport,
}

impl Redrive {
    fn open(options: RedriveOptions, largest: usize, calls: Arc<Calls>) -> Result<Self> {
        let transfer = (!options.dry_run)
            .then(|| Transfer::start(&options.brokers, &options.properties, &options.to, &options.group, largest, calls))
            .transpose()?;
        let fixed = [
            ("group.id", &*options.group),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
        ];
        let defaults = [("client.id", "lakelens-redrive"), ("queued.max.messages.kbytes", "16384")];
        let config = client_config(&options.brokers, &options.properties, &defaults, &fixed)?;
        let consumer = config.create_with_context(Asking::default()).map_err(creation_error)?;
        let report =
            RedriveReport { topic: options.topic.clone(), to: options.to.clone(), dry_run: options.dry_run, ..RedriveReport::default() };
        let mut redrive = Self { options, largest, consumer, transfer, parts: BTreeMap::new(), report };
        redrive.find_parts()?;
        Ok(redrive)
    }

    /// Ends and positions of all partitions, and the reading of them.
    fn find_parts(&mut self) -> Result<()> {
        let topic = &self.options.topic;
        let metadata = self.consumer.fetch_metadata(Some(topic), SERVER_TIMEOUT).context(format!("cannot ask about {topic}"))?;
        let ids: Vec<i32> = metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        let mut asked = TopicPartitionList::new();
        for id in &ids {
            asked.add_partition(topic, *id);
        }
        let committed = self
            .consumer
            .committed_offsets(asked, SERVER_TIMEOUT)
            .context(format!("cannot ask for the positions of the group `{}`", self.options.group))?;
        let mut assignment = TopicPartitionList::new();
        let mut fresh = Vec::new();
        for id in ids {
            let (low, high) =
                self.consumer.fetch_watermarks(topic, id, SERVER_TIMEOUT).context(format!("cannot ask for the end of {topic}/{id}"))?;
            let found = committed.find_partition(topic, id);
            if let Some(found) = &found {
                found.error().context(format!("cannot ask for the position of the group `{}` in {topic}/{id}", self.options.group))?;
            }
            let positions = match found {
                Some(found) if matches!(found.offset(), Offset::Offset(_)) => Positions::read(found.metadata())
                    .map_err(|e| Error::config(format!("the group `{}` at {topic}/{id}: {e}", self.options.group)))?,
                _ => {
                    if low < high {
                        fresh.push((id, low));
                    }
                    Positions::default()
                }
            };
            let from = positions.lowest(self.options.reasons.iter().copied()).max(low);
            if from < high {
                assignment.add_partition_offset(topic, id, Offset::Offset(from)).context(format!("cannot read {topic}"))?;
            }
            self.parts.insert(id, Part { end: (from < high).then_some(high), positions, next: from, kept: None });
        }
        if !self.options.from_start
            && let Some(what) = forgotten::suspicion(&self.consumer, topic, &self.options.group, &fresh)?
        {
            match self.options.dry_run {
                true => tracing::warn!("{what}"),
                false => return Err(Error::failed(what)),
            }
        }
        self.consumer.assign(&assignment).context(format!("cannot read {topic}"))
    }

    fn run(mut self, stop: &CancellationToken, progress: &dyn Fn(&RedriveReport)) -> Result<RedriveReport> {
        while !self.done() {
            if stop.is_cancelled() {
                self.report.stopped = true;
                break;
            }
            let letters = self.batch(stop)?;
            self.commit(&letters)?;
            progress(&self.report);
        }
        // Nothing may have been there to read, and the positions are renewed all the same.
        self.commit(&[])?;
        Ok(self.report)
    }

    fn done(&self) -> bool {
        self.parts.values().all(|part| part.end.is_none()) || self.report.redriven() >= self.options.max_items
    }

    /// Reads on, until a transaction is full or nothing is left.
    fn batch(&mut self, stop: &CancellationToken) -> Result<Vec<Back>> {
        let (mut letters, mut bytes, mut read) = (Vec::new(), 0, 0);
        let (begun, mut heard) = (Instant::now(), Instant::now());
        while !self.done() && letters.len() < LETTERS && bytes < BYTES && read < 50 * LETTERS && !stop.is_cancelled() {
            // The consumer is taken by reference only: what it gives lives no longer than this turn.
            let message = match self.consumer.poll(Duration::from_millis(200)) {
                None if !letters.is_empty() && begun.elapsed() > Duration::from_secs(2) => break,
                None if heard.elapsed() > PATIENCE => {
                    let (topic, brokers) = (&self.options.topic, &self.options.brokers);
                    return Err(Error::failed(format!("{topic}: no answer from {brokers} for {} s; run it again", PATIENCE.as_secs())));
                }
                None => continue,
                Some(Err(KafkaError::PartitionEOF(id))) => {
                    heard = Instant::now();
                    if let Some(part) = self.parts.get_mut(&id) {
                        part.next = part.end.take().unwrap_or(part.next).max(part.next);
                    }
                    continue;
                }
                Some(Err(error)) => {
                    self.complain(&error)?;
                    continue;
                }
                Some(Ok(message)) => message,
            };
            heard = Instant::now();
            let Some(part) = self.parts.get_mut(&message.partition()) else { continue };
            let Some(end) = part.end else { continue };
            if message.offset() >= end {
                part.next = end;
                part.end = None;
                continue;
            }
            part.next = message.offset() + 1;
            if part.next == end {
                part.end = None;
            }
            read += 1;
            self.report.read += 1;
            let headers: Vec<Header> = message
                .headers()
                .map_or_else(Vec::new, |all| all.iter().map(|h| (h.key.to_owned(), h.value.map(Bytes::copy_from_slice))).collect());
            let letter = Letter::read(&headers);
            let counts = self.report.reasons.entry(letter.reason).or_default();
            if !self.options.reasons.contains(&letter.reason) {
                counts.not_asked += 1;
            } else if message.offset() < part.positions.of(letter.reason) {
                counts.before += 1;
            } else if letter.cut {
                counts.cut += 1;
            } else {
                let length = |b: Option<&[u8]>| b.map_or(0, <[u8]>::len);
                let headers = letter.headers(headers);
                let sizes = headers.iter().map(|(n, v)| n.len() + length(v.as_deref()));
                let size = encoded_size(length(message.key()), length(message.payload()), sizes);
                if size > self.largest {
                    counts.too_large += 1;
                    continue;
                }
                counts.redriven += 1;
                bytes += size;
                letters.push(Back { key: message.key().map(<[u8]>::to_vec), value: message.payload().map(<[u8]>::to_vec), headers });
            }
        }
        Ok(letters)
    }

    fn complain(&self, error: &KafkaError) -> Result<()> {
        let topic = &self.options.topic;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(Error::failed(format!(
                "{topic}: retention deleted letters while they were to be read; run it again to go on with what is left"
            ))),
            Some(code) if lasting(code).is_some() => {
                Err(Error::failed(format!("{topic}: {} ({error})", lasting(code).unwrap_or_default())))
            }
            _ => {
                tracing::warn!("reading {topic}: {error}");
                Ok(())
            }
        }
    }

    /// Sends the letters of a batch, with the positions that they were read up to. The first time all positions are committed, then those that moved.
    fn commit(&mut self, letters: &[Back]) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        for (id, part) in &mut self.parts {
            if part.kept.replace(part.next) != Some(part.next) {
                part.positions.advance(&self.options.reasons, part.next);
                // For those who look at the group's lag: below it nothing of any reason is left.
                let lowest = Offset::Offset(part.positions.lowest(reasons()));
                offsets.add_partition_offset(&self.options.topic, *id, lowest).context("positions cannot be committed")?;
            }
        }
        for mut offset in offsets.elements() {
            if let Some(part) = self.parts.get(&offset.partition()) {
                offset.set_metadata(part.positions.write()?);
            }
        }
        if let Some(transfer) = &self.transfer
            && offsets.count() > 0
        {
            let group = self.consumer.group_metadata().ok_or_else(|| Error::failed("the consumer has no group"))?;
            transfer.send(letters, &offsets, &group)?;
        }
        Ok(())
    }
}
