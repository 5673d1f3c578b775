//! From a checked pipeline file to started sources and sinks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;

use super::forgotten::{self, Outputs};
use super::{Parts, space};
use crate::cli::Common;
use crate::config::{self, DeadLetterSink, DeadLetters, Encoding, Pipeline, RejectLimit};
use crate::flow::{CommitPoint, Partition, Record};
use crate::format::json::{self, JsonForm};
use crate::head::Heads;
use crate::sink::kafka::{KafkaDeadLetters, KafkaSink, Transactions, Which};
use crate::sink::{Journal, JsonlSink, ParquetSink, Sink};
use crate::source::{self, Control, ListingOptions, Progress, Source};
use crate::store::Problem;
use crate::telemetry::{State, Stats};
use crate::worker::intake::Reading;
use crate::worker::terms::Bounds;
use crate::{Error, Result, kafka, model, store};

/// Time that `check --connect` waits for one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a run leaves anything behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As the file says.
    Real,
    /// Records go to stdout, nothing is committed, and the consumer group is another one.
    DryRun,
}

/// Starts what `pipeline` names, and shows in `stats` how far that is.
pub async fn parts(pipeline: &Pipeline, mode: Mode, common: &Common, stats: Arc<Stats>) -> Result<Parts> {
    let dry = mode == Mode::DryRun;
    let (loaded, heads) = load(pipeline)?.map_or((None, Heads::default()), |(loaded, heads)| (Some(loaded), heads));
    stats.board.send_modify(|board| board.state = State::Connecting);
    let client = if needs_s3(pipeline, dry) { Some(store::s3_client(&pipeline.store.s3).await) } else { None };
    // Sinks first: a topic that is missing must be found before the group is joined.
    let transactions = match config::effective_delivery(pipeline).0 {
        config::Delivery::ExactlyOnce if !dry => Some(transactions(pipeline).await?),
        _ => None,
    };
    let sinks = if dry {
        vec![Box::new(Journal::open("-", false, false)?.sink()?) as Box<dyn Sink>]
    } else {
        sinks(pipeline, client.as_ref(), transactions.as_ref()).await?
    };
    if let Some(loaded) = loaded.as_ref().filter(|_| !dry) {
        space::look(pipeline, loaded.info(), client.as_ref()).await?;
    }
    if !dry {
        refuse_to_cut(pipeline).await?;
    }
    let mut sources = Vec::new();
    for source in pipeline.source.all() {
        let (mut started, reading) = start(pipeline, source, client.clone(), dry).await?;
        started.priority = source.priority.unwrap_or_default();
        sources.push((started, reading));
    }
    let reject_limit = if dry { RejectLimit { share: 1.0, of_last: 1 } } else { pipeline.reject_limit.clone() };
    stats.board.send_modify(|board| board.state = State::Joining);
    Ok(Parts {
        sources,
        sinks,
        transactions,
        model: loaded,
        fetch: pipeline.fetch.clone(),
        decode: pipeline.decode.clone(),
        decoder: None,
        s3: pipeline.store.s3.clone(),
        memory: pipeline.memory.0,
        batch: pipeline.batch.clone(),
        threads: pipeline.model.as_ref().map_or(0, |m| m.threads),
        heads,
        output: pipeline.output.clone(),
        reject_limit,
        bounds: Bounds::default(),
        watchdog: pipeline.watchdog.0,
        stop: common.stop.clone(),
        stats,
        tracing: None,
        quiet: common.quiet,
    })
}

/// Loads the model and the heads on it; `None` in a pipeline without a model.
pub fn load(pipeline: &Pipeline) -> Result<Option<(model::Loaded, Heads)>> {
    let Some(model) = &pipeline.model else { return Ok(None) };
    let options = model::LoadOptions::of(model.precision, &pipeline.output, &pipeline.decode);
    let want_embedding = options.want_embedding || !pipeline.heads.is_empty();
    let loaded = model::load(&model.path, &model::LoadOptions { want_embedding, ..options })?;
    let heads = Heads::read(&pipeline.heads, loaded.info())?;
    Ok(Some((loaded, heads)))
}

fn needs_s3(pipeline: &Pipeline, dry: bool) -> bool {
    let listed = pipeline.source.all().iter().filter_map(|s| s.listing.as_ref());
    let written = pipeline.sinks.iter().filter(|_| !dry).filter_map(|s| s.parquet.as_ref());
    listed.map(|l| &l.path).chain(written.map(|p| &p.path)).any(|path| path.starts_with("s3://"))
}

async fn start(pipeline: &Pipeline, source: &config::Source, client: Option<Client>, dry: bool) -> Result<(Source, Reading)> {
    let references = Reading::References(pipeline.output.on_delete);
    let state = |listing: &config::Listing| config::Listing { state: listing.state.clone().filter(|_| !dry), ..listing.clone() };
    let (mut started, reading) = match (&source.kafka, &source.listing, &source.lines) {
        (Some(kafka), _, _) => {
            let group = kafka.group.clone().unwrap_or_else(|| pipeline.name.clone());
            let reading = if kafka.records.is_empty() { references } else { Reading::Records };
            if dry {
                return Ok((passing_group(kafka, &group, &pipeline.instance).await?, reading));
            }
            (source::kafka::start(kafka, &group, &pipeline.instance).await?, reading)
        }
        (_, Some(listing), _) => (source::listing::start(&state(listing), client, ListingOptions::default()).await?, references),
        (_, _, Some(lines)) => (source::lines::start(&state(lines), ListingOptions::default())?, references),
        (None, None, None) => return Err(Error::config("a source is exactly one of `kafka`, `listing` and `lines`")),
    };
    if dry {
        started.control = Box::new(Uncommitted { control: started.control, group: None });
    }
    Ok((started, reading))
}

/// A source under a group that is gone when it stops: a dry run takes nothing from the real group, and leaves nothing behind.
async fn passing_group(kafka: &config::KafkaSource, group: &str, instance: &str) -> Result<Source> {
    let mut kafka = kafka.clone();
    // A static member would stay in its group until its session ends.
    kafka.properties.remove("group.instance.id");
    let group = format!("{group}-dry-run-{:08x}", rand::random::<u32>());
    let mut source = source::kafka::start(&kafka, &group, instance).await?;
    source.control = Box::new(Uncommitted { control: source.control, group: Some((kafka, group)) });
    Ok(source)
}

/// The producer that everything goes through, under an id that no other worker has: workers that shared one would fence each other.
async fn transactions(pipeline: &Pipeline) -> Result<Transactions> {
    let (brokers, properties) = cluster(pipeline);
    let of_sinks = pipeline.sinks.iter().filter_map(|s| s.kafka.as_ref()).flat_map(|k| [&k.labels, &k.embeddings, &k.records]);
    let records: Vec<String> = of_sinks.flatten().cloned().collect();
    let mut topics = records.clone();
    if let Some(DeadLetters::To(DeadLetterSink { kafka: Some(topic), .. })) = &pipeline.dead_letters {
        topics.push(topic.clone());
    }
    let group = pipeline.source.all().iter().find_map(|s| s.kafka.as_ref()?.group.as_deref()).unwrap_or(&pipeline.name);
    let id = format!("{group}-{}-{:016x}", pipeline.instance, rand::random::<u64>());
    let transactions = Transactions::start(brokers, properties, &topics, &id, group).await?;
    for source in pipeline.source.all().iter().filter_map(|s| s.kafka.as_ref()) {
        let own = source.group.as_deref().unwrap_or(&pipeline.name);
        forgotten::refuse(source, own, &Outputs::Topics { named: group.to_owned(), topics: records.clone() }).await?;
    }
    Ok(transactions)
}

/// Before a group that lost its offsets has the lines cut off that it wrote.
async fn refuse_to_cut(pipeline: &Pipeline) -> Result<()> {
    let mut folders: Vec<PathBuf> = pipeline.sinks.iter().filter_map(|sink| Some(sink.jsonl.as_ref()?.path.clone())).collect();
    if let Some(DeadLetters::To(DeadLetterSink { jsonl: Some(folder), .. })) = &pipeline.dead_letters {
        folders.push(folder.clone());
    }
    for source in pipeline.source.all().iter().filter_map(|s| s.kafka.as_ref()).filter(|_| !folders.is_empty()) {
        forgotten::refuse(source, source.group.as_deref().unwrap_or(&pipeline.name), &Outputs::Folders(folders.clone())).await?;
    }
    Ok(())
}

async fn sinks(pipeline: &Pipeline, client: Option<&Client>, transactions: Option<&Transactions>) -> Result<Vec<Box<dyn Sink>>> {
    let share = || transactions.map(Transactions::client);
    let (brokers, properties) = cluster(pipeline);
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for sink in &pipeline.sinks {
        if let Some(kafka) = &sink.kafka {
            sinks.push(Box::new(KafkaSink::start(kafka, brokers, properties, &pipeline.output, encode, share()).await?));
        }
        if let Some(parquet) = &sink.parquet {
            let conditional = pipeline.store.s3.conditional_writes.unwrap_or(true);
            let sink = ParquetSink::new(parquet.clone(), client.cloned(), conditional)?;
            sink.try_bucket().await?;
            sinks.push(Box::new(sink));
        }
        if let Some(jsonl) = &sink.jsonl {
            sinks.push(Box::new(JsonlSink::records(&jsonl.path, pipeline.output.encoding)?));
        }
    }
    if let Some(DeadLetters::To(DeadLetterSink { kafka, jsonl })) = &pipeline.dead_letters {
        if let Some(topic) = kafka {
            sinks.push(Box::new(KafkaDeadLetters::start(topic, brokers, properties, share()).await?));
        }
        if let Some(folder) = jsonl {
            sinks.push(Box::new(JsonlSink::rejections(folder)?));
        }
    }
    Ok(sinks)
}

/// Brokers and properties of the source, for sinks that name none.
pub(super) fn cluster(pipeline: &Pipeline) -> (&str, &BTreeMap<String, String>) {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let kafka = pipeline.source.all().iter().find_map(|s| s.kafka.as_ref());
    kafka.map_or(("", &NONE), |k| (k.brokers.as_str(), &k.properties))
}

fn encode(record: &Record, which: Which, encoding: Encoding) -> Vec<u8> {
    let form = JsonForm { labels: which != Which::Embeddings, embedding: which != Which::Labels, encoding };
    let mut out = Vec::new();
    json::record(record, &form, &mut out);
    out
}

/// Tries every server that the pipeline names; one text for each thing that is wrong.
pub async fn connect(pipeline: &Pipeline) -> Vec<String> {
    let mut faults = Vec::new();
    for (brokers, (properties, topics)) in clusters(pipeline) {
        let checked = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            kafka::connect_check(&brokers, &properties, &names, CONNECT_TIMEOUT)
        });
        faults.extend(checked.await.unwrap_or_else(|e| vec![format!("the check of a cluster broke off: {e}")]));
    }
    let client = store::s3_client(&pipeline.store.s3).await;
    for bucket in buckets(pipeline) {
        if let Err(Problem { text, advice, .. }) = store::try_bucket(&client, &bucket, CONNECT_TIMEOUT).await {
            faults.push(format!("s3://{bucket}: {text}; {}", advice.unwrap_or("check `store.s3.endpoint` and the network")));
        }
    }
    faults
}

type Clusters = BTreeMap<String, (BTreeMap<String, String>, Vec<String>)>;

/// All topics by the cluster that they are on.
fn clusters(pipeline: &Pipeline) -> Clusters {
    let mut clusters = Clusters::new();
    let (own, own_properties) = cluster(pipeline);
    for kafka in pipeline.source.all().iter().filter_map(|s| s.kafka.as_ref()) {
        let (_, topics) = clusters.entry(kafka.brokers.clone()).or_insert_with(|| (kafka.properties.clone(), Vec::new()));
        topics.extend(kafka.topics.iter().chain(&kafka.records).cloned());
    }
    for kafka in pipeline.sinks.iter().filter_map(|s| s.kafka.as_ref()) {
        let brokers = kafka.brokers.clone().unwrap_or_else(|| own.to_owned());
        let properties = || kafka.properties.clone().unwrap_or_else(|| own_properties.clone());
        let (_, topics) = clusters.entry(brokers).or_insert_with(|| (properties(), Vec::new()));
        topics.extend([&kafka.labels, &kafka.embeddings, &kafka.records].into_iter().flatten().cloned());
    }
    if let Some(DeadLetters::To(DeadLetterSink { kafka: Some(topic), .. })) = &pipeline.dead_letters {
        clusters.entry(own.to_owned()).or_insert_with(|| (own_properties.clone(), Vec::new())).1.push(topic.clone());
    }
    clusters
}

/// Buckets that are named outright.
fn buckets(pipeline: &Pipeline) -> std::collections::BTreeSet<String> {
    let listed = pipeline.source.all().iter().filter_map(|s| s.listing.as_ref()).map(|l| l.path.as_str());
    let written = pipeline.sinks.iter().filter_map(|s| s.parquet.as_ref()).map(|p| p.path.as_str());
    let paths = listed.chain(written).filter_map(store::split_s3).map(|(bucket, _)| bucket);
    let allowed = pipeline.fetch.allow.s3.iter().filter_map(|rule| rule.split('/').next()).filter(|bucket| *bucket != "*");
    paths.chain(allowed).map(str::to_owned).collect()
}

/// A source whose progress is not remembered.
struct Uncommitted {
    control: Box<dyn Control>,
    /// What is deleted in the end.
    group: Option<(config::KafkaSource, String)>,
}

#[async_trait]
impl Control for Uncommitted {
    fn pause(&self, partition: &Partition) {
        self.control.pause(partition);
    }

    fn resume(&self, partition: &Partition) {
        self.control.resume(partition);
    }

    async fn commit(&self, _: &[CommitPoint]) -> Result<()> {
        Ok(())
    }

    async fn progress(&self) -> Result<Option<Vec<Progress>>> {
        self.control.progress().await
    }

    fn of_partitions(&self) -> Option<usize> {
        self.control.of_partitions()
    }

    async fn stop(&self, limit: Duration) {
        self.control.stop(limit).await;
        if let Some((kafka, group)) = &self.group
            && let Err(e) = kafka::delete_group(&kafka.brokers, &kafka.properties, group).await
        {
            tracing::warn!("the dry run leaves its consumer group behind: {e}");
        }
    }
}
