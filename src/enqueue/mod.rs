//! `lakelens enqueue`: the references of a folder, a bucket prefix, a file of lines or an S3 Inventory onto a topic.
//!
//! Objects whose ETag the listing tells go as `{"uri", "etag", "version"}`, everything else as a plain URI; lines go as they are, once
//! it is clear that each is a reference. The message key is
//! the URI, so that all references to one object share a partition, as with Java's partitioner. What is remembered in the state file is exactly what the
//! broker has acknowledged without a hole before it; a run that crashed and is resumed may repeat the last moment's messages and leaves none out.

mod acks;
mod lines;
mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use globset::{Glob, GlobSet, GlobSetBuilder};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::listing::{Entry, Input, Range, entries, is_image_name, load_state, save_state, split_ranges};
use crate::{Context, Error, Result};
use acks::{Acks, Sent, Shard, State};

const TICK: Duration = Duration::from_millis(200);
/// What was acknowledged since the last writing of the state is repeated after a crash.
const SAVE_EVERY: Duration = Duration::from_millis(250);
const METADATA_TIMEOUT: Duration = Duration::from_secs(15);

/// What to enqueue, and where.
pub struct EnqueueOptions {
    /// Folders, files of lines, globs, `s3://bucket/prefix`, `manifest.json` of an inventory, `-`.
    pub inputs: Vec<String>,
    /// Bootstrap servers.
    pub brokers: String,
    /// The topic, which must exist.
    pub topic: String,
    /// A file that remembers how far it got.
    pub state: Option<PathBuf>,
    /// Globs over keys and relative paths, of which one must match (`*` crosses slashes); empty = all.
    pub include: Vec<String>,
    /// Globs over keys and relative paths, of which none may match.
    pub exclude: Vec<String>,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, String>,
    /// For buckets and inventories in buckets.
    pub s3: Option<Client>,
    /// Parts of a bucket that are listed at the same time.
    pub parallel: usize,
    /// Leave ETag and version out, so that a worker labels whatever is there when it comes to it.
    pub without_etags: bool,
    /// Ends the run in good order: what was sent is waited for and remembered.
    pub cancel: CancellationToken,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EnqueueSummary {
    /// References that the broker acknowledged in this run.
    pub enqueued: u64,
    /// The same with the earlier runs that the state file remembers.
    pub total: u64,
    /// Entries that `include` and `exclude` left out.
    pub filtered: u64,
    /// Lines too long for a message.
    pub too_long: u64,
    /// False if the run was cancelled before the end of the inputs.
    pub finished: bool,
    /// Duration of this run.
    pub seconds: f64,
}

/// Enqueues all inputs, one after the other; `progress` is told the number of acknowledged references a few times a second.
///
/// # Errors
/// [`Error::Config`] if an input or the topic does not exist, a line is no reference, or the state is another run's; [`Error::Failed`] if listing or producing fails for good: what was
/// acknowledged by then is remembered.
pub async fn enqueue(options: &EnqueueOptions, progress: impl Fn(u64)) -> Result<EnqueueSummary> {
    let started = Instant::now();
    let filter = Filter::new(&options.include, &options.exclude)?;
    let inputs = options.inputs.iter().map(|text| Input::of_references(text)).collect::<Result<Vec<_>>>()?;
    if inputs.is_empty() {
        return Err(Error::config("nothing to enqueue: name a folder, a file of references, s3://bucket/prefix, or a manifest.json"));
    }
    if options.s3.is_none()
        && let Some(at) = inputs.iter().position(Input::needs_s3)
    {
        return Err(Error::config(format!("listing `{}` needs an S3 client", options.inputs[at])));
    }
    if options.state.is_some() && inputs.iter().any(|i| matches!(i, Input::Stdin)) {
        return Err(Error::config("standard input cannot be resumed: leave the state file out, or put the lines into a file"));
    }
    if !filter.is_empty() && inputs.iter().any(|i| matches!(i, Input::Stdin | Input::Lines(_))) {
        return Err(Error::config("lines are passed on unread, so --include and --exclude do not go with them"));
    }
    let mut state = match options.state.as_deref().map(load_state).transpose()?.flatten() {
        Some(old) => State::resume(old, &options.inputs, &options.topic)?,
        None => State::new(&options.inputs, &options.topic),
    };
    for (number, input) in inputs.iter().enumerate().skip(state.input).filter(|(_, input)| matches!(input, Input::Lines(_))) {
        let begun = state.shards.first().filter(|_| number == state.input);
        lines::check(input, &options.inputs[number], begun.and_then(|shard| shard.mark.clone())).await?;
    }
    let before = state.enqueued;
    let counts = Arc::new(Counts::default());
    let producer = Arc::new(connect(options).await?);
    while let Some(input) = inputs.get(state.input).filter(|_| !options.cancel.is_cancelled()) {
        if state.shards.is_empty() {
            state.shards = shards(input, options).await?;
        }
        let result = one_input(input, &mut state, options, &filter, &counts, &producer, |n| progress(n - before)).await;
        save(options, &state).await?;
        result?;
        if state.shards.iter().all(|s| s.done) {
            state.input += 1;
            state.shards.clear();
            save(options, &state).await?;
        } else if !options.cancel.is_cancelled() {
            return Err(Error::failed("a listing ended before its end; run the command again, with its state file if there is one"));
        }
    }
    Ok(EnqueueSummary {
        enqueued: state.enqueued - before,
        total: state.enqueued,
        filtered: counts.filtered.load(Ordering::Relaxed),
        too_long: counts.too_long.load(Ordering::Relaxed),
        finished: state.input >= inputs.len(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

#[derive(Debug, Default)]
struct Counts {
    filtered: AtomicU64,
    too_long: AtomicU64,
}

async fn save(options: &EnqueueOptions, state: &State) -> Result<()> {
    let Some(path) = options.state.clone() else { return Ok(()) };
    let state = state.clone();
    tokio::task::spawn_blocking(move || save_state(&path, &state))
        .await
        .map_err(|e| Error::failed(format!("writing the state file broke off: {e}")))?
}

/// The parts in which an input is listed.
async fn shards(input: &Input, options: &EnqueueOptions) -> Result<Vec<Shard>> {
    let ranges = match (input, &options.s3) {
        (Input::Bucket { bucket, prefix, .. }, Some(client)) if options.parallel > 1 && !is_image_name(prefix.as_ref()) => {
            split_ranges(client, bucket, prefix, options.parallel * 4).await?
        }
        _ => vec![Range::default()],
    };
    Ok(ranges.into_iter().map(Shard::new).collect())
}

type KafkaProducer = ThreadedProducer<Acks>;

async fn connect(options: &EnqueueOptions) -> Result<KafkaProducer> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "lakelens-enqueue")
        .set("linger.ms", "50")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("message.timeout.ms", "300000");
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &options.brokers).set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    let (topic, brokers) = (options.topic.clone(), options.brokers.clone());
    let connect = move || {
        let producer: KafkaProducer = config
            .create_with_context(Acks::default())
            .map_err(|e| Error::config(format!("the Kafka properties do not make a producer: {e}")))?;
        let metadata =
            producer.client().fetch_metadata(Some(&topic), METADATA_TIMEOUT).context(format!("no Kafka broker answers at {brokers}"))?;
        match metadata.topics().first().and_then(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(Error::config(format!("there is no topic `{topic}` at {brokers}; create it first")))
            }
            Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)) => {
                Err(Error::failed(format!("the topic `{topic}` cannot be written: {code}")))
            }
            _ => Ok(producer),
        }
    };
    tokio::task::spawn_blocking(connect).await.map_err(|e| Error::failed(format!("connecting broke off: {e}")))?
}

/// What the listers tell the producer's thread.
enum Part {
    Batch(usize, Vec<Entry>),
    Ended(usize),
    Failed(Error),
}

async fn one_input(
    input: &Input,
    state: &mut State,
    options: &EnqueueOptions,
    filter: &Filter,
    counts: &Arc<Counts>,
    producer: &Arc<KafkaProducer>,
    progress: impl Fn(u64),
) -> Result<()> {
    producer.context().begin(&state.shards);
    let before = state.enqueued;
    let (tx, rx) = mpsc::channel(8);
    let running = Arc::new(Semaphore::new(options.parallel.max(1)));
    // Ends the listers also when this future is dropped.
    let stop = options.cancel.child_token();
    let _guard = stop.clone().drop_guard();
    for (number, shard) in state.shards.iter().enumerate().filter(|(_, s)| !s.done) {
        let input = match input {
            Input::Bucket { bucket, prefix, .. } => {
                Input::Bucket { bucket: bucket.clone(), prefix: prefix.clone(), range: shard.range.clone() }
            }
            other => other.clone(),
        };
        let (mark, s3, tx, running, stop) = (shard.mark.clone(), options.s3.clone(), tx.clone(), running.clone(), stop.clone());
        tokio::spawn(async move {
            let listed = async {
                let Ok(_permit) = running.acquire().await else { return };
                let outcome = async {
                    let mut batches = entries(&input, mark, s3.as_ref())?;
                    while let Some(batch) = batches.next().await? {
                        if tx.send(Part::Batch(number, batch)).await.is_err() {
                            break;
                        }
                    }
                    Ok(())
                };
                let last = outcome.await.map_or_else(Part::Failed, |()| Part::Ended(number));
                // Fails only when the producer's thread has ended with an error of its own.
                let _ = tx.send(last).await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = listed => {}
            }
        });
    }
    drop(tx);
    let mut sending = {
        let (producer, counts, filter, topic) = (producer.clone(), counts.clone(), filter.clone(), options.topic.clone());
        let without_etags = options.without_etags;
        tokio::task::spawn_blocking(move || send_all(rx, &producer, &topic, &filter, without_etags, &counts))
    };
    let (mut tick, mut saved) = (tokio::time::interval(TICK), Instant::now());
    let result = loop {
        tokio::select! {
            ended = &mut sending => break ended.map_err(|e| Error::failed(format!("producing broke off: {e}")))?,
            _ = tick.tick() => {
                state.enqueued = before + producer.context().note(&mut state.shards);
                progress(state.enqueued);
                if saved.elapsed() >= SAVE_EVERY {
                    save(options, state).await?;
                    saved = Instant::now();
                }
            }
        }
    };
    state.enqueued = before + producer.context().note(&mut state.shards);
    progress(state.enqueued);
    result
}

/// Produces what the listers give, and waits until the broker has answered for all of it.
fn send_all(
    mut parts: mpsc::Receiver<Part>,
    producer: &KafkaProducer,
    topic: &str,
    filter: &Filter,
    without_etags: bool,
    counts: &Counts,
) -> Result<()> {
    let acks = producer.context();
    let mut listed = Ok(());
    'listing: while let Some(part) = parts.blocking_recv() {
        match part {
            Part::Ended(shard) => acks.ended(shard),
            Part::Failed(e) => {
                listed = Err(e);
                break;
            }
            Part::Batch(shard, batch) => {
                for entry in batch {
                    // Of standard input, which cannot be read beforehand.
                    if let Some(detail) = lines::fault(&entry) {
                        listed = Err(Error::config(format!("line {}: {detail}; the lines before it were enqueued", entry.key)));
                        break 'listing;
                    }
                    if !filter.takes(&entry) {
                        counts.filtered.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let (key, value) = reference::of_entry(&entry, without_etags);
                    let number = acks.sending(shard);
                    let opaque = Box::new(Sent { shard, number, mark: entry.mark });
                    let mut record = BaseRecord::with_opaque_to(topic, opaque).payload(value.as_ref());
                    if let Some(key) = &key {
                        record = record.key(key.as_bytes());
                    }
                    while let Err((e, back)) = producer.send(record) {
                        match e {
                            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                                if acks.failure().is_some() {
                                    break 'listing;
                                }
                                std::thread::sleep(Duration::from_millis(5));
                                record = back;
                            }
                            KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                                tracing::warn!("entry {}: too long for a message, left out", entry.key);
                                counts.too_long.fetch_add(1, Ordering::Relaxed);
                                acks.left_out(*back.delivery_opaque);
                                break;
                            }
                            e => {
                                acks.fail(e.to_string());
                                break 'listing;
                            }
                        }
                    }
                }
                if acks.failure().is_some() {
                    break;
                }
            }
        }
    }
    // Every message ends by itself within message.timeout.ms, as an acknowledgement or as a failure.
    let flushed = producer.flush(rdkafka::util::Timeout::Never);
    let failure = acks.failure().or_else(|| flushed.err().map(|e| e.to_string()));
    match failure {
        Some(e) => Err(Error::failed(format!(
            "cannot write to the topic `{topic}`: {e}; what was acknowledged is remembered if a state file was given"
        ))),
        None => listed,
    }
}

/// `--include` and `--exclude`.
#[derive(Debug, Clone)]
struct Filter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl Filter {
    fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let set = |globs: &[String]| {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                builder.add(Glob::new(glob).map_err(|e| Error::config(format!("`{glob}` is not a pattern: {}", e.kind())))?);
            }
            let set = builder.build().map_err(|e| Error::config(format!("the patterns cannot be matched: {e}")))?;
            Ok::<_, Error>((!globs.is_empty()).then_some(set))
        };
        Ok(Self { include: set(include)?, exclude: set(exclude)? })
    }

    fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(&entry.key))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(&entry.key))
    }
}

#[cfg(test)]
mod tests;
