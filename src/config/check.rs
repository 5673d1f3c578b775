//! What a schema cannot say: which fields go together, what a delivery can keep, topics that feed themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::diagnose::Diagnostics;
use super::tree::Node;
use super::{DeadLetterSink, DeadLetters, Delivery, KafkaSink, KafkaSource, ModelFile, Pipeline, Priority, Sink, Source, Span};

/// Whether this build can write outputs and offsets in one transaction.
pub const EXACTLY_ONCE_BUILT: bool = false;

struct Check<'a> {
    tree: &'a Node,
    problems: &'a mut Diagnostics,
}

impl Check<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.problems.add(self.tree.locate(path), path, message);
    }

    fn no_zero(&mut self, path: &str, span: Span) {
        if span.0.is_zero() {
            self.wrong(path, "must be longer than nothing");
        }
    }
}

/// Everything that can be told from the file alone.
pub fn semantics(pipeline: &Pipeline, tree: &Node, problems: &mut Diagnostics) {
    let mut check = Check { tree, problems };
    let sources = pipeline.source.all();
    if sources.is_empty() {
        check.wrong("source", "a pipeline needs at least one source");
    }
    let several = matches!(pipeline.source, super::Sources::Many(_));
    let mut names = BTreeSet::new();
    for (n, source) in sources.iter().enumerate() {
        let path = if several { format!("source[{n}]") } else { "source".to_owned() };
        check_source(&mut check, source, &path);
        if sources.len() > 1 && !names.insert(source.name.as_deref().unwrap_or_default()) {
            check.wrong(&path, "of several sources each needs a `name` of its own");
        }
    }
    if sources.len() > 1 && sources.iter().any(|s| s.priority == Some(Priority::Live)) {
        check.wrong("source", "`priority` is not obeyed by this build yet; run live and backfill as two workers");
    }
    let archives = kafka_sources(pipeline).any(|k| !k.records.is_empty());
    match (&pipeline.model, archives) {
        (Some(_), true) => check.wrong("model", "a pipeline whose source is records only archives them; leave the model out"),
        (None, false) => check.wrong("", "the field `model` is missing"),
        _ => {}
    }
    if archives && kafka_sources(pipeline).any(|k| !k.topics.is_empty()) {
        check.wrong("source", "a pipeline reads references or records, not both");
    }
    if pipeline.sinks.is_empty() {
        check.wrong("sinks", "a pipeline needs at least one sink");
    }
    for (n, sink) in pipeline.sinks.iter().enumerate() {
        check_sink(&mut check, pipeline, sink, &format!("sinks[{n}]"));
    }
    check_dead_letters(&mut check, pipeline);
    check_loops(&mut check, pipeline);
    check_limits(&mut check, pipeline);
    if pipeline.delivery == Some(Delivery::ExactlyOnce)
        && let Err(why) = can_be_exactly_once(pipeline)
    {
        check.wrong("delivery", format!("exactly-once cannot be kept: {why}"));
    }
    if let Some(listen) = &pipeline.telemetry.listen
        && listen.parse::<std::net::SocketAddr>().is_err()
    {
        check.wrong("telemetry.listen", format!("`{listen}` is not an address and port, such as 127.0.0.1:9464"));
    }
}

/// What only a look at other files can tell.
pub fn files(pipeline: &Pipeline, tree: &Node, problems: &mut Diagnostics) {
    let mut check = Check { tree, problems };
    if let Some(model) = &pipeline.model
        && !model.path.exists()
    {
        check.wrong("model.path", format!("{} does not exist", model.path.display()));
    }
}

/// A `model.yaml`.
pub fn model(model: &ModelFile, tree: &Node, problems: &mut Diagnostics) {
    let mut check = Check { tree, problems };
    match (&model.graph, &model.weights, &model.arch) {
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        _ => check.wrong("graph", "a model has either `graph`, or `weights` with `arch`"),
    }
    let p = &model.preprocess;
    if !(p.scale.is_finite() && p.scale > 0.0) {
        check.wrong("preprocess.scale", "must be greater than 0");
    }
    if p.std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        check.wrong("preprocess.std", "must be greater than 0 for every channel");
    }
    if p.mean.iter().any(|m| !m.is_finite()) {
        check.wrong("preprocess.mean", "must be finite");
    }
}

fn kafka_sources(pipeline: &Pipeline) -> impl Iterator<Item = &KafkaSource> {
    pipeline.source.all().iter().filter_map(|s| s.kafka.as_ref())
}

fn check_source(check: &mut Check, source: &Source, path: &str) {
    let given = [source.kafka.is_some(), source.listing.is_some(), source.lines.is_some()];
    if given.iter().filter(|g| **g).count() != 1 {
        check.wrong(path, "a source is exactly one of `kafka`, `listing` and `lines`");
    }
    for (name, listing) in [("listing", &source.listing), ("lines", &source.lines)] {
        if listing.as_ref().is_some_and(|l| l.path.is_empty()) {
            check.wrong(&format!("{path}.{name}"), "the field `path` is missing");
        }
    }
    let Some(kafka) = &source.kafka else { return };
    let path = format!("{path}.kafka");
    if kafka.brokers.trim().is_empty() {
        check.wrong(&path, "the field `brokers` is missing");
    }
    match (kafka.topics.is_empty(), kafka.records.is_empty()) {
        (true, true) => check.wrong(&path, "name the `topics` of references, or the topics of `records`"),
        (false, false) => check.wrong(&path, "either `topics` or `records`, not both"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for topic in kafka.topics.iter().chain(&kafka.records) {
        check_topic(check, topic, &path);
        if !seen.insert(topic) {
            check.wrong(&path, format!("the topic `{topic}` is named twice"));
        }
    }
    check_properties(check, &kafka.properties, &path);
}

/// Kafka's own rule for names.
fn check_topic(check: &mut Check, topic: &str, path: &str) {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") || !topic.bytes().all(known) {
        check.wrong(path, format!("`{topic}` is not a topic's name: letters, digits, `.`, `_` and `-`, at most 249"));
    }
}

fn check_properties(check: &mut Check, properties: &BTreeMap<String, String>, path: &str) {
    for name in crate::kafka::forbidden(properties) {
        check.wrong(&format!("{path}.properties.{name}"), "may not be set: the delivery depends on it");
    }
}

fn check_sink(check: &mut Check, pipeline: &Pipeline, sink: &Sink, path: &str) {
    let given = [sink.kafka.is_some(), sink.parquet.is_some(), sink.jsonl.is_some()];
    if given.iter().filter(|g| **g).count() != 1 {
        check.wrong(path, "a sink is exactly one of `kafka`, `parquet` and `jsonl`");
    }
    if let Some(parquet) = &sink.parquet {
        let path = format!("{path}.parquet");
        if parquet.path.is_empty() || parquet.path.starts_with("s3://") && crate::store::split_s3(&parquet.path).is_none() {
            check.wrong(&format!("{path}.path"), "is a folder, or s3://bucket/prefix/");
        }
        check.no_zero(&format!("{path}.max_age"), parquet.max_age);
    }
    let Some(kafka) = &sink.kafka else { return };
    let path = format!("{path}.kafka");
    let topics: Vec<&String> = topics(kafka).collect();
    if topics.is_empty() {
        check.wrong(&path, "name the topic for `labels`, for `embeddings`, or for whole `records`");
    }
    if kafka.records.is_some() && topics.len() > 1 {
        check.wrong(&path, "`records` goes alone: it holds labels and embeddings");
    }
    if topics.len() == 2 && topics[0] == topics[1] {
        check.wrong(&path, "for labels and embeddings on one topic name it as `records`");
    }
    for topic in topics {
        check_topic(check, topic, &path);
    }
    if kafka.brokers.is_none() && kafka_sources(pipeline).next().is_none() {
        check.wrong(&path, "the field `brokers` is missing, and there is no Kafka source to take it from");
    }
    check_properties(check, kafka.properties.as_ref().unwrap_or(&BTreeMap::new()), &path);
}

fn topics(sink: &KafkaSink) -> impl Iterator<Item = &String> {
    [&sink.labels, &sink.embeddings, &sink.records].into_iter().flatten()
}

fn check_dead_letters(check: &mut Check, pipeline: &Pipeline) {
    let from_kafka = kafka_sources(pipeline).next().is_some();
    match &pipeline.dead_letters {
        None if from_kafka => {
            check.wrong("", "the field `dead_letters` is missing: with a Kafka source say where rejections go, or `none`")
        }
        Some(DeadLetters::To(DeadLetterSink { kafka, jsonl })) => {
            match (kafka, jsonl) {
                (Some(_), Some(_)) | (None, None) => check.wrong("dead_letters", "exactly one of `kafka` and `jsonl`, or `none`"),
                _ => {}
            }
            if let Some(topic) = kafka {
                check_topic(check, topic, "dead_letters.kafka");
                if !from_kafka {
                    check.wrong("dead_letters.kafka", "a dead-letter topic is on the source's cluster, and there is no Kafka source");
                }
            }
        }
        _ => {}
    }
}

/// A topic that is both read and written would feed itself.
fn check_loops(check: &mut Check, pipeline: &Pipeline) {
    for source in kafka_sources(pipeline) {
        let read: BTreeSet<&String> = source.topics.iter().chain(&source.records).collect();
        for (n, sink) in pipeline.sinks.iter().enumerate() {
            let Some(kafka) = &sink.kafka else { continue };
            if kafka.brokers.as_ref().is_some_and(|brokers| *brokers != source.brokers) {
                continue;
            }
            for topic in topics(kafka).filter(|topic| read.contains(topic)) {
                check.wrong(&format!("sinks[{n}].kafka"), format!("the topic `{topic}` is also a source: the pipeline would feed itself"));
            }
        }
        if let Some(DeadLetters::To(DeadLetterSink { kafka: Some(topic), .. })) = &pipeline.dead_letters {
            if read.contains(topic) {
                check.wrong("dead_letters.kafka", format!("the topic `{topic}` is also a source: rejections would feed themselves"));
            }
            if pipeline.sinks.iter().filter_map(|s| s.kafka.as_ref()).flat_map(topics).any(|t| t == topic) {
                check.wrong("dead_letters.kafka", format!("the topic `{topic}` is also a sink: rejections would stand among records"));
            }
        }
    }
}

fn check_limits(check: &mut Check, pipeline: &Pipeline) {
    let (memory, fetch) = (pipeline.memory.0, &pipeline.fetch);
    if pipeline.model.is_some() {
        if memory / 4 < fetch.max_bytes.0 {
            check.wrong("memory", format!("a quarter of it is for files, which must hold one of fetch.max_bytes {}", fetch.max_bytes));
        }
        if memory / 8 * 5 < fetch.max_pixels.0.saturating_mul(6) {
            check.wrong(
                "memory",
                format!(
                    "five eighths of it are for decoding, which must hold a picture of fetch.max_pixels {} at 6 bytes a pixel",
                    fetch.max_pixels
                ),
            );
        }
    }
    check.no_zero("fetch.timeout", fetch.timeout);
    check.no_zero("decode.timeout", pipeline.decode.timeout);
    if fetch.max_bytes.0 == 0 || fetch.max_pixels.0 == 0 {
        check.wrong("fetch", "max_bytes and max_pixels must be greater than 0");
    }
    if pipeline.output.top_k == 0 && !pipeline.output.embeddings {
        check.wrong("output", "with top_k 0 and embeddings false a record says nothing");
    }
}

/// Whether outputs and offsets can go into one transaction of the source's cluster; the error says what stands against it.
fn can_be_exactly_once(pipeline: &Pipeline) -> Result<(), String> {
    let mut brokers = BTreeSet::new();
    for source in pipeline.source.all() {
        let kafka = source.kafka.as_ref().ok_or("a source is not Kafka, and its progress cannot go into a transaction")?;
        brokers.insert(kafka.brokers.as_str());
    }
    for sink in &pipeline.sinks {
        let kafka = sink.kafka.as_ref().ok_or(
            "a file takes longer than a transaction may; archive with a second pipeline whose source is `kafka: { records: [...] }`",
        )?;
        brokers.extend(kafka.brokers.as_deref());
    }
    if brokers.len() > 1 {
        return Err("a transaction cannot span several clusters".into());
    }
    match &pipeline.dead_letters {
        Some(DeadLetters::To(DeadLetterSink { jsonl: Some(_), .. })) => Err("dead letters must be on the source's cluster".into()),
        _ if !EXACTLY_ONCE_BUILT => Err("this build has no transactions yet; leave the field out, or write at-least-once".into()),
        _ => Ok(()),
    }
}

/// What the pipeline promises, and why not more.
pub fn effective_delivery(pipeline: &Pipeline) -> (Delivery, String) {
    match (pipeline.delivery, can_be_exactly_once(pipeline)) {
        (Some(Delivery::AtLeastOnce), _) => (Delivery::AtLeastOnce, "as asked for".into()),
        (_, Ok(())) => (Delivery::ExactlyOnce, "everything is on one cluster".into()),
        (_, Err(why)) => (Delivery::AtLeastOnce, why),
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        })
    }
}
