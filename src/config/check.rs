//! What a pipeline file can say that no worker could keep. Looks at nothing outside the file: see [`super::files`] for paths.

use std::collections::BTreeSet;

use super::delivery::MAX_BROKERS;
use super::diagnose::{Diagnostic, Report, Warning, shown};
use super::{Allow, KafkaSink, KafkaSource, Pipeline, Priority, Sources};

/// Bytes a pixel that decoding takes at most: the file's own pixels and their RGB.
const BYTES_PER_PIXEL: u64 = 6;

/// Checks `pipeline`, which was read with `report`; a field that is wrong already is not found fault with again.
pub(super) fn check(pipeline: &Pipeline, report: &mut Report) {
    let known = report.errors.clone();
    let mut check = Check { p: pipeline, report, known };
    check.sources();
    check.store_and_fetch();
    check.memory();
    check.sinks();
    check.dead_letters();
    check.topics();
    check.delivery();
    check.rest();
}

pub(super) struct Check<'a> {
    pub p: &'a Pipeline,
    pub report: &'a mut Report,
    /// What was found wrong before.
    known: Vec<Diagnostic>,
}

/// Path and contents of each Kafka source.
pub(super) fn kafka_sources(p: &Pipeline) -> Vec<(String, &KafkaSource)> {
    let sources = p.source.all().iter().enumerate();
    sources.filter_map(|(i, s)| Some((format!("{}.kafka", source_path(p, i)), s.kafka.as_ref()?))).collect()
}

fn source_path(p: &Pipeline, i: usize) -> String {
    match p.source {
        Sources::One(_) => "source".into(),
        Sources::Many(_) => format!("source[{i}]"),
    }
}

/// Path and contents of each Kafka sink.
pub(super) fn kafka_sinks(p: &Pipeline) -> Vec<(String, &KafkaSink)> {
    p.sinks.iter().enumerate().filter_map(|(i, s)| Some((format!("sinks[{i}].kafka"), s.kafka.as_ref()?))).collect()
}

/// Whether a source is of records, to be archived.
pub(super) fn archives(source: &KafkaSource) -> bool {
    !source.records.is_empty() && source.topics.is_empty()
}

/// Whether a mistake of `message` at `path` only follows from `known`: it is about the same field or a part of it, or speaks of a field that `known`
/// finds wrong or says to be misspelt.
pub(super) fn follows(known: &Diagnostic, path: &str, message: &str) -> bool {
    let below = |inner: &str, outer: &str| match outer {
        "" => true,
        _ => inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
    };
    if known.path.is_empty() || below(path, &known.path) {
        return !known.path.is_empty();
    }
    if !below(&known.path, path) {
        return false;
    }
    let field = known.path[path.len()..].trim_start_matches('.').split(['.', '[']).next().unwrap_or_default();
    let meant = known.message.split_once("did you mean ").map(|(_, name)| name.trim_end_matches('?'));
    message.contains(&format!("`{field}`")) || meant.is_some_and(|name| message.contains(name))
}

impl Check<'_> {
    pub fn error(&mut self, path: &str, message: impl Into<String>) {
        let message = message.into();
        // A misspelt field is missing, too: that is no news.
        if !self.known.iter().any(|known| follows(known, path, &message)) {
            self.report.error_at(self.report.mark(path), path, message);
        }
    }

    pub fn warn(&mut self, path: &str, message: &str) {
        let warning = Warning { mark: self.report.mark(path), path: path.into(), message: message.into() };
        self.report.warnings.push(warning);
    }

    /// A value for a message; three stars if it came from the environment.
    pub fn show(&self, path: &str, value: &str) -> String {
        match self.report.secrets.contains(path) {
            true => "***".into(),
            false => format!("`{}`", shown(value)),
        }
    }

    /// Exactly one of several fields.
    pub fn one_of(&mut self, path: &str, fields: &[(&str, bool)]) {
        let names = |l: &[(&str, bool)]| l.iter().map(|(n, _)| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let given: Vec<_> = fields.iter().copied().filter(|(_, given)| *given).collect();
        match given.len() {
            1 => {}
            0 => self.error(path, format!("needs exactly one of {}", names(fields))),
            _ => self.error(path, format!("has {} at once; exactly one of them is allowed", names(&given))),
        }
    }

    fn sources(&mut self) {
        let sources = self.p.source.all();
        if sources.is_empty() {
            self.error("source", "is an empty list; give at least one source");
        }
        let (mut names, mut states, mut stdin) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (i, source) in sources.iter().enumerate() {
            let path = source_path(self.p, i);
            let kinds = [("kafka", source.kafka.is_some()), ("listing", source.listing.is_some()), ("lines", source.lines.is_some())];
            self.one_of(&path, &kinds);
            match (&source.name, sources.len()) {
                (None, 2..) => self.error(&path, "needs a `name`, since there are several sources"),
                (Some(name), _) if name.is_empty() => self.error(&format!("{path}.name"), "is empty"),
                (Some(name), _) if !names.insert(name) => self.error(&format!("{path}.name"), "is another source's name, too"),
                _ => {}
            }
            match (source.priority, sources.len()) {
                (None, 2..) => self.error(&path, "needs a `priority`, since there are several sources: live or backfill"),
                (Some(_), 1) => self.warn(&format!("{path}.priority"), "means nothing with one source"),
                _ => {}
            }
            if let Some(kafka) = &source.kafka {
                self.kafka_source(&format!("{path}.kafka"), kafka);
            }
            for (kind, listing) in [("listing", &source.listing), ("lines", &source.lines)] {
                let Some(listing) = listing else { continue };
                let at = format!("{path}.{kind}.path");
                self.path(&at, &listing.path);
                if kind == "lines" && listing.path.starts_with("s3://") {
                    self.error(&at, "must be a file or `-`; lines are not read from a bucket");
                }
                if kind == "lines" && listing.path == "-" {
                    stdin += 1;
                    if listing.state.is_some() {
                        self.error(
                            &format!("{path}.lines.state"),
                            "cannot be kept for standard input, which cannot be read again; use a file",
                        );
                    }
                    if stdin > 1 {
                        self.error(&at, "is standard input, which another source reads already");
                    }
                }
                if let Some(state) = &listing.state {
                    let at = format!("{path}.{kind}.state");
                    if state.as_os_str().is_empty() {
                        self.error(&at, "is empty; leave the field out to begin anew each time");
                    } else if !states.insert(state) {
                        self.error(&at, "is another source's, too; each needs a file of its own");
                    }
                }
            }
        }
        let has = |priority| sources.iter().any(|s| s.priority == Some(priority));
        if has(Priority::Live) && has(Priority::Backfill) && self.p.fetch.concurrency < 2 {
            self.warn("fetch.concurrency", "is 1, so that a live item waits for whatever backfill is fetching; give at least 2");
        }
        let mut members = BTreeSet::new();
        for (path, kafka) in kafka_sources(self.p) {
            let member = kafka.properties.get("group.instance.id").map(|id| (&kafka.brokers, kafka.group.as_ref(), id));
            if member.is_some_and(|member| !members.insert(member)) {
                let at = format!("{path}.properties.group.instance.id");
                self.error(&at, "is another source's in this group, too, and each would put the other out; give each an id of its own");
            }
        }
        let archives = kafka_sources(self.p).iter().filter(|(_, k)| archives(k)).count();
        match (&self.p.model, archives) {
            (None, 0) => self.error("", "the field `model` is missing; only a pipeline whose source is `records` goes without"),
            (Some(_), 1..) => self.error("model", "does not go with a source of `records`, which are labelled already; leave it out"),
            (None, n) if n < sources.len() => self.error("source", "`records` and references cannot be mixed; write two pipelines"),
            _ => {}
        }
    }

    fn kafka_source(&mut self, path: &str, kafka: &KafkaSource) {
        self.brokers(path, &kafka.brokers);
        self.one_of(path, &[("topics", !kafka.topics.is_empty()), ("records", !kafka.records.is_empty())]);
        for (field, topics) in [("topics", &kafka.topics), ("records", &kafka.records)] {
            let mut seen = BTreeSet::new();
            for (i, topic) in topics.iter().enumerate() {
                let at = format!("{path}.{field}[{i}]");
                self.topic(&at, topic);
                if !seen.insert(topic) {
                    self.error(&at, "stands twice in the list");
                }
            }
        }
        if kafka.group.as_ref().is_some_and(String::is_empty) {
            self.error(&format!("{path}.group"), "is empty; leave it out for the pipeline's name");
        }
        self.properties(path, &kafka.properties);
    }

    pub fn brokers(&mut self, path: &str, brokers: &str) {
        let (at, parts) = (format!("{path}.brokers"), brokers.split(',').map(str::trim));
        if brokers.trim().is_empty() {
            let at = if self.report.marks.contains_key(&at) { at } else { path.to_owned() };
            self.error(&at, "`brokers` is missing; write host:port,host:port");
        } else if parts.clone().any(|b| b.is_empty() || b.contains(char::is_whitespace)) || parts.count() > MAX_BROKERS {
            self.error(&at, format!("is not a list of at most {MAX_BROKERS} brokers; write host:port,host:port"));
        }
    }

    pub fn topic(&mut self, path: &str, topic: &str) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(legal) || topic == "." || topic == ".." {
            let topic = self.show(path, topic);
            self.error(path, format!("{topic} is no topic's name: up to 249 letters, digits, `.`, `_` and `-` (patterns are not read)"));
        }
    }

    pub fn properties(&mut self, path: &str, properties: &std::collections::BTreeMap<String, String>) {
        for (name, instead) in crate::kafka::forbidden(properties) {
            self.error(&format!("{path}.properties.{name}"), format!("may not be set: {instead}"));
        }
    }

    /// A folder, a glob, `-`, or `s3://bucket/prefix`.
    pub fn path(&mut self, at: &str, path: &str) {
        match path.split_once("://") {
            _ if path.is_empty() => {
                let parent = at.rsplit_once('.').map_or(at, |(parent, _)| parent);
                let at = if self.report.marks.contains_key(at) { at } else { parent };
                self.error(at, "`path` is missing");
            }
            Some(("s3", _)) if crate::store::split_s3(path).is_none() => self.error(at, "names no bucket; write s3://bucket/prefix/"),
            Some(("s3", _)) | None => {}
            Some(_) => self.error(at, "is neither a path nor s3://bucket/prefix"),
        }
    }

    fn store_and_fetch(&mut self) {
        if let Some(endpoint) = self.p.store.s3.endpoint.as_deref().filter(|e| !e.is_empty()) {
            let at = "store.s3.endpoint";
            match url::Url::parse(endpoint) {
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    self.error(at, "holds credentials; they come from the AWS default chain (AWS_ACCESS_KEY_ID, a profile, the instance)");
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
                _ => self.error(at, "is not a URL like http://localhost:9000"),
            }
        }
        let fetch = &self.p.fetch;
        for (at, span) in [("fetch.timeout", fetch.timeout), ("decode.timeout", self.p.decode.timeout)] {
            if span.0.is_zero() {
                self.error(at, "must be more than nothing");
            }
        }
        self.allow("s3", &fetch.allow.s3, |s3| Allow { s3, ..Allow::default() });
        self.allow("file", &fetch.allow.file, |file| Allow { file, ..Allow::default() });
        self.allow("http", &fetch.allow.http, |http| Allow { http, ..Allow::default() });
        let allow = &fetch.allow;
        let strangers = kafka_sources(self.p).iter().any(|(_, k)| !k.topics.is_empty());
        if strangers && allow.s3.is_empty() && allow.file.is_empty() && allow.http.is_empty() {
            self.warn("fetch.allow", "is empty: every reference from a topic will be rejected as forbidden_location");
        }
    }

    /// Each pattern as the fetch stage reads it.
    fn allow(&mut self, kind: &str, patterns: &[String], only: impl Fn(Vec<String>) -> Allow) {
        for (i, pattern) in patterns.iter().enumerate() {
            let at = format!("fetch.allow.{kind}[{i}]");
            let shown = self.show(&at, pattern);
            if kind == "file" && pattern != "*" && (pattern.is_empty() || pattern.contains(['*', '?']) || pattern.contains("://")) {
                self.error(&at, format!("{shown} is not a folder, or `*` for every file"));
            } else if let Err(e) = crate::fetch::Allow::new(&only(vec![pattern.clone()])) {
                let message = e.to_string();
                let message = message.strip_prefix(&format!("fetch.allow.{kind}: \"{pattern}\"")).unwrap_or(" cannot be read");
                self.error(&at, format!("{shown}{message}"));
            }
        }
    }

    /// An image that fits no pool would be rejected though the limits allow it. The pools are those of `MemoryBudget`.
    fn memory(&mut self) {
        let (memory, fetch) = (self.p.memory, &self.p.fetch);
        if self.p.model.is_none() {
            return;
        }
        let pixels = fetch.max_pixels.0.saturating_mul(BYTES_PER_PIXEL);
        let least = fetch.max_bytes.0.saturating_mul(4).max((pixels.saturating_mul(8)).div_ceil(5));
        if memory.0 < least {
            let least = super::ByteSize(least.div_ceil(1 << 20) << 20);
            self.error(
                "memory",
                format!(
                    "is too small for one image: a quarter must hold `fetch.max_bytes` ({}), five eighths six bytes for each of `fetch.max_pixels` ({}); \
                     give at least {least}, or lower those limits",
                    fetch.max_bytes, fetch.max_pixels
                ),
            );
        }
        for (at, zero) in [("fetch.max_bytes", fetch.max_bytes.0 == 0), ("fetch.max_pixels", fetch.max_pixels.0 == 0)] {
            if zero {
                self.error(at, "must be more than nothing");
            }
        }
    }

    fn rest(&mut self) {
        for (at, value) in [("name", &self.p.name), ("instance", &self.p.instance)] {
            if value.trim().is_empty() {
                self.error(at, "is empty");
            }
        }
        if self.p.model.as_ref().is_some_and(|m| m.path.as_os_str().is_empty()) {
            self.error("model.path", "is empty");
        }
        if let Some(otlp) = &self.p.telemetry.otlp {
            let url = url::Url::parse(&otlp.endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            match url {
                None => self.error("telemetry.otlp.endpoint", "must be a URL such as http://collector:4318"),
                Some(url) if !url.username().is_empty() || url.password().is_some() => {
                    self.error("telemetry.otlp.endpoint", "holds a password; give it in the environment, as OTEL_EXPORTER_OTLP_HEADERS");
                }
                Some(_) => {}
            }
        }
        if let Some(listen) = &self.p.telemetry.listen {
            let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                self.error("telemetry.listen", "must be host:port, such as 127.0.0.1:9464, or 0.0.0.0:9464 for every address");
            }
        }
    }
}
