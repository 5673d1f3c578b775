//! The outgoing side of [`super::check`]: sinks, dead letters, topics, delivery.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::check::{Check, kafka_sinks, kafka_sources};
use super::delivery::{Cluster, cluster, cluster_of, home, obstacles, same_cluster};
use super::{DeadLetterSink, DeadLetters, Delivery, KafkaSink};

impl Check<'_> {
    pub(super) fn sinks(&mut self) {
        let output = &self.p.output;
        if self.p.sinks.is_empty() {
            self.error("sinks", "is empty: records would go nowhere");
        }
        if !self.p.heads.is_empty() && self.p.model.is_none() {
            self.error("heads", "need a `model`, whose embeddings they read");
        }
        if !self.p.heads.is_empty() && output.top_k == 0 {
            self.error("heads", "say nothing with `output.top_k` 0");
        }
        if !output.embeddings && output.top_k == 0 && self.p.model.is_some() {
            self.error("output", "with `top_k` 0 and `embeddings` false a record says nothing");
        }
        let clusters: Vec<Cluster> = kafka_sources(self.p).iter().map(|(_, k)| cluster(&k.brokers)).collect();
        let several = clusters.windows(2).any(|pair| !same_cluster(&pair[0], &pair[1]));
        let mut folders = BTreeSet::new();
        for (i, sink) in self.p.sinks.iter().enumerate() {
            let path = format!("sinks[{i}]");
            let kinds = [("kafka", sink.kafka.is_some()), ("parquet", sink.parquet.is_some()), ("jsonl", sink.jsonl.is_some())];
            self.one_of(&path, &kinds);
            if let Some(kafka) = &sink.kafka {
                let at = format!("{path}.kafka");
                self.kafka_sink(&at, kafka);
                match &kafka.brokers {
                    Some(brokers) => self.brokers(&at, brokers),
                    None if clusters.is_empty() => self.error(&at, "needs `brokers`, since there is no Kafka source to take them from"),
                    None if several => self.error(&at, "needs `brokers`, since the sources are on several clusters"),
                    None => {}
                }
            }
            let at = format!("{path}.{}", if sink.parquet.is_some() { "parquet" } else { "jsonl" });
            if let Some(parquet) = &sink.parquet {
                self.path(&format!("{at}.path"), &parquet.path);
                if parquet.max_age.0.is_zero() {
                    self.error(&format!("{at}.max_age"), "must be more than nothing");
                }
                if parquet.path.starts_with("s3://") && self.p.store.s3.conditional_writes == Some(false) {
                    self.warn(
                        &format!("{at}.path"),
                        "without conditional writes a worker that comes back late can replace a longer file by a shorter one",
                    );
                }
                if !folders.insert(("parquet", parquet.path.trim_end_matches('/').to_owned())) {
                    self.error(&format!("{at}.path"), "is another sink's, too");
                }
            }
            if let Some(jsonl) = &sink.jsonl {
                self.folder(&format!("{at}.path"), &jsonl.path);
                if !folders.insert(("jsonl", jsonl.path.to_string_lossy().trim_end_matches('/').to_owned())) {
                    self.error(&format!("{at}.path"), "is another sink's, too");
                }
            }
        }
    }

    fn folder(&mut self, at: &str, folder: &std::path::Path) {
        let text = folder.to_string_lossy();
        if text.is_empty() || text.contains("://") {
            self.error(at, "must be a folder on this machine");
        }
    }

    fn kafka_sink(&mut self, path: &str, kafka: &KafkaSink) {
        let topics = [("labels", &kafka.labels), ("embeddings", &kafka.embeddings), ("records", &kafka.records)];
        for (field, topic) in topics {
            if let Some(topic) = topic {
                self.topic(&format!("{path}.{field}"), topic);
            }
        }
        match (kafka.labels.is_some() || kafka.embeddings.is_some(), kafka.records.is_some()) {
            (false, false) => self.error(path, "needs a topic: `labels` and/or `embeddings`, or `records`"),
            (true, true) => self.error(&format!("{path}.records"), "does not go with `labels` or `embeddings`: it takes whole records"),
            _ => {}
        }
        if kafka.embeddings.is_some() && !self.p.output.embeddings {
            self.error(&format!("{path}.embeddings"), "needs `output.embeddings: true`");
        }
        if kafka.labels.is_some() && self.p.output.top_k == 0 {
            self.error(&format!("{path}.labels"), "needs `output.top_k` of at least 1");
        }
        self.properties(path, kafka.properties.as_ref().unwrap_or(&Default::default()));
    }

    pub(super) fn dead_letters(&mut self) {
        let kafka = !kafka_sources(self.p).is_empty();
        match &self.p.dead_letters {
            None if kafka => self.error("", "the field `dead_letters` is missing: { kafka: TOPIC }, { jsonl: FOLDER } or none"),
            Some(DeadLetters::To(to)) => {
                self.one_of("dead_letters", &[("kafka", to.kafka.is_some()), ("jsonl", to.jsonl.is_some())]);
                if let Some(topic) = &to.kafka {
                    self.topic("dead_letters.kafka", topic);
                    if !kafka {
                        self.error("dead_letters.kafka", "is a topic on the source's cluster, and there is no Kafka source; use jsonl");
                    }
                }
                if let Some(folder) = &to.jsonl {
                    self.folder("dead_letters.jsonl", folder);
                }
            }
            None | Some(DeadLetters::None(_)) => {}
        }
    }

    /// No topic is read and written, none has two writers, none two readers.
    pub(super) fn topics(&mut self) {
        let sources = kafka_sources(self.p);
        let clusters: Vec<Cluster> = sources.iter().map(|(_, k)| cluster(&k.brokers)).collect();
        let mut read: Vec<(&Cluster, &str)> = Vec::new();
        for ((path, kafka), cluster) in sources.iter().zip(&clusters) {
            let before = read.len();
            for (field, topics) in [("topics", &kafka.topics), ("records", &kafka.records)] {
                for (i, topic) in topics.iter().enumerate() {
                    if read[..before].iter().any(|(c, t)| t == topic && same_cluster(c, cluster)) {
                        let message = "is read by another source, too: each reference would be labelled twice";
                        self.error(&format!("{path}.{field}[{i}]"), message);
                    }
                    read.push((cluster, topic));
                }
            }
        }
        let home = home(self.p);
        let mut written: Vec<(String, Cow<Cluster>, &str)> = Vec::new();
        for (path, sink) in kafka_sinks(self.p) {
            let topics = [("labels", &sink.labels), ("embeddings", &sink.embeddings), ("records", &sink.records)];
            let topics = topics.into_iter().filter_map(|(field, topic)| Some((format!("{path}.{field}"), topic.as_deref()?)));
            written.extend(topics.map(|(at, topic)| (at, cluster_of(sink, &home), topic)));
        }
        if let Some(DeadLetters::To(DeadLetterSink { kafka: Some(topic), .. })) = &self.p.dead_letters {
            written.push(("dead_letters.kafka".into(), Cow::Borrowed(&home), topic));
        }
        for (i, (path, cluster, topic)) in written.iter().enumerate() {
            let name = self.show(path, topic);
            if read.iter().any(|(c, t)| t == topic && same_cluster(c, cluster)) {
                self.error(path, format!("{name} is a topic of the source: the pipeline would feed itself"));
            }
            if written[..i].iter().any(|(_, c, t)| t == topic && same_cluster(c, cluster)) {
                self.error(path, format!("{name} is written to by another field, too; use two topics"));
            }
        }
    }

    pub(super) fn delivery(&mut self) {
        if self.p.delivery != Some(Delivery::ExactlyOnce) {
            return;
        }
        let obstacles = obstacles(self.p);
        for (path, why) in &obstacles {
            let archive =
                if path.ends_with(".parquet") { ", or archive the topics with a second pipeline whose source is `records`" } else { "" };
            self.error(path, format!("`delivery: exactly-once` cannot be kept: {why}; use at-least-once{archive}"));
        }
    }
}
