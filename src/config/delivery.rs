//! What can be promised of a pipeline.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use super::check::{kafka_sinks, kafka_sources};
use super::{DeadLetterSink, DeadLetters, Delivery, KafkaSink, Pipeline};

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        })
    }
}

/// What is promised, and why that: what the file asks for, else exactly-once where it can be kept.
pub fn effective_delivery(pipeline: &Pipeline) -> (Delivery, String) {
    if let Some(delivery) = pipeline.delivery {
        return (delivery, "the pipeline says so".into());
    }
    match obstacles(pipeline).first() {
        Some((_, why)) => (Delivery::AtLeastOnce, format!("exactly-once cannot be kept: {why}")),
        None => (Delivery::ExactlyOnce, "source, records and dead letters are on one cluster".into()),
    }
}

/// What stands against exactly-once, by field: it is one transaction over offsets, records and dead letters, so all must be on one cluster.
pub(super) fn obstacles(p: &Pipeline) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let sources = kafka_sources(p);
    let home = home(p);
    let first = sources.first().map(|(_, k)| cluster(&k.brokers)).unwrap_or_default();
    if sources.len() < p.source.all().len() {
        found.push(("source".into(), "only a Kafka source has offsets to commit in a transaction"));
    }
    if let Some((path, _)) = sources.iter().find(|(_, k)| !same_cluster(&cluster(&k.brokers), &first)) {
        found.push((format!("{path}.brokers"), "the sources are on several clusters"));
    }
    for (i, sink) in p.sinks.iter().enumerate() {
        if sink.parquet.is_some() {
            found.push((format!("sinks[{i}].parquet"), "a Parquet file takes longer than a transaction may"));
        }
        if sink.jsonl.is_some() {
            found.push((format!("sinks[{i}].jsonl"), "a JSONL file is no part of a transaction"));
        }
    }
    for (path, sink) in kafka_sinks(p) {
        if !sources.is_empty() && !same_cluster(&cluster_of(sink, &home), &first) {
            found.push((format!("{path}.brokers"), "the sink is on another cluster than the source"));
        }
    }
    for (path, sink) in kafka_sinks(p) {
        if sink.properties.as_ref().is_some_and(|own| sources.first().is_some_and(|(_, source)| *own != source.properties)) {
            found.push((format!("{path}.properties"), "one transaction has one producer, whose properties are the source's"));
        }
    }
    match &p.dead_letters {
        Some(DeadLetters::To(DeadLetterSink { kafka: Some(_), .. })) => {}
        _ if sources.is_empty() => {}
        Some(DeadLetters::None(_)) => found.push(("dead_letters".into(), "rejections would be in no topic")),
        _ => found.push(("dead_letters".into(), "the dead letters are not in a topic")),
    }
    found
}

/// The brokers of a cluster, in one way of writing.
pub(super) type Cluster = BTreeSet<String>;

/// Longest list of brokers that is compared.
pub(super) const MAX_BROKERS: usize = 64;

/// The brokers of a list.
pub(super) fn cluster(brokers: &str) -> Cluster {
    let one = |broker: &str| {
        let broker = broker.trim().to_ascii_lowercase();
        let host = broker.split_once("://").map_or(broker.as_str(), |(_, host)| host);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if has_port { host.to_owned() } else { format!("{host}:9092") }
    };
    brokers.split(',').filter(|b| !b.trim().is_empty()).take(MAX_BROKERS).map(one).collect()
}

/// The brokers of all Kafka sources, which a sink without brokers of its own writes to.
pub(super) fn home(p: &Pipeline) -> Cluster {
    kafka_sources(p).iter().flat_map(|(_, k)| cluster(&k.brokers)).collect()
}

/// The cluster that a sink writes to.
pub(super) fn cluster_of<'h>(sink: &KafkaSink, home: &'h Cluster) -> Cow<'h, Cluster> {
    sink.brokers.as_ref().map_or(Cow::Borrowed(home), |brokers| Cow::Owned(cluster(brokers)))
}

/// Two lists that share a broker name one cluster; an empty one, a mistake of its own, is not held against another.
pub(super) fn same_cluster(a: &Cluster, b: &Cluster) -> bool {
    a.is_empty() || b.is_empty() || !a.is_disjoint(b)
}
