//! Every metric, as Prometheus reads it. Encoded anew for each scrape from the counters and the coordinator's last snapshot, so that counting costs
//! the stages no more than an atomic, and so that a series of a partition is gone when the partition is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::attempts::{AttemptEnd, Scheme};
use super::snapshot::Snapshot;
use super::waits::On;
use super::{Stats, health, process};
use crate::flow::{Reason, Skip};
use crate::version;

/// The text formats of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for: OpenMetrics if it is named and nothing that the other is asked for with more weight; else the older format, which
    /// all readers know.
    pub fn of(accept: &str) -> Self {
        let weight = |name: &str| {
            let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
            let weights = ranges.filter_map(|mut range| {
                let named = range.next()?.eq_ignore_ascii_case(name);
                let weight = range.find_map(|parameter| parameter.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f64>().ok());
                weight.filter(|_| named)
            });
            weights.fold(0.0, f64::max)
        };
        let asked = weight("application/openmetrics-text");
        if asked > 0.0 && asked >= weight("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Encodes what `stats` holds now.
///
/// # Errors
/// [`fmt::Error`] if the library refuses a name, which would be a bug.
pub fn encode(stats: &Arc<Stats>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(stats.clone())));
    let mut out = String::new();
    match format {
        Format::Text => prometheus_text::encode(&mut out, &registry)?,
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

#[derive(Debug)]
struct Exposition(Arc<Stats>);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &*self.0;
        // A copy, so that the coordinator never waits for a scrape.
        let seen = stats.board.borrow().clone();
        let mut out = Families(encoder);
        out.ledger(&seen)?;
        out.stages(stats, &seen)?;
        out.partitions(&seen)?;
        out.machine(stats)?;
        out.world(stats)?;
        out.information(stats, &seen)?;
        out.process()
    }
}

/// One after the other; the names of counters are given without their `_total`, those of information without `_info`.
struct Families<'a>(DescriptorEncoder<'a>);

/// Values of one label.
type Labelled<'a, V> = Vec<(&'a str, V)>;

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: Labelled<'_, u64>) -> fmt::Result {
        self.many_counters(name, help, values.into_iter().map(|(of, value)| ([(label, of)], value)))
    }

    fn many_counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (impl EncodeLabelSet, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (impl EncodeLabelSet, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: Option<&[(&str, &str)]>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        labels.map_or(Ok(()), |labels| family.encode_info(&labels))
    }

    fn ledger(&mut self, seen: &Snapshot) -> fmt::Result {
        let total = &seen.total;
        self.counter("lakelens_items_received", "Items that came in", total.received)?;
        self.counter("lakelens_items_published", "Items whose record every sink has for good", total.published)?;
        let count = |counts: &std::collections::BTreeMap<&'static str, u64>, name| counts.get(name).copied().unwrap_or_default();
        let reasons = Reason::ALL.iter().map(|reason| (reason.name(), count(&total.rejected, reason.name()))).collect();
        self.counters("lakelens_items_rejected", "Items whose rejection is with the dead letters for good, by reason", "reason", reasons)?;
        let kinds = Skip::ALL.iter().map(|skip| (skip.name(), count(&total.skipped, skip.name()))).collect();
        self.counters("lakelens_items_skipped", "Items that asked for nothing, by kind", "kind", kinds)?;
        self.counter(
            "lakelens_items_handed_back",
            "Items taken away by a rebalance or a stop before they were finished",
            total.handed_back,
        )?;
        self.gauge("lakelens_items_in_flight", "Items received and without an end yet", total.in_flight())
    }

    fn stages(&mut self, stats: &Stats, seen: &Snapshot) -> fmt::Result {
        self.counter("lakelens_fetched_bytes", "Bytes of picture bodies fetched", stats.bytes.load(Relaxed))?;
        let name = "lakelens_stage_duration_seconds";
        let mut family = self.0.encode_descriptor(name, "Time of one piece of work in a stage", None, MetricType::Histogram)?;
        let timers = [("fetch", &stats.fetch), ("decode", &stats.decode), ("infer", &stats.infer), ("deliver", &stats.deliver)];
        for (stage, timer) in timers {
            let buckets = timer.histogram().buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = [("stage", stage)];
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(timer.total().as_secs_f64(), count, &buckets, None)?;
        }
        let fetching = stats.fetching.load(Relaxed).max(0);
        let computing = stats.computing.load(Relaxed).max(0);
        let queues = [("fetch", fetching), ("compute", computing), ("deliver", i64::try_from(seen.delivering).unwrap_or(i64::MAX))];
        let queues = queues.map(|(queue, items)| ([("queue", queue)], items));
        self.gauges("lakelens_queue_items", "Items that wait for or are in a stage", queues)?;
        let buckets = stats.batches.histogram().buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.0
            .encode_descriptor("lakelens_batch_images", "Pictures of a micro-batch", None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(stats.batches.images() as f64, count, &buckets, None)
    }

    fn partitions(&mut self, seen: &Snapshot) -> fmt::Result {
        let numbers: Vec<String> = seen.partitions.iter().map(|status| status.partition.partition.to_string()).collect();
        let all = || seen.partitions.iter().zip(&numbers);
        let labels = |status: &'_ super::snapshot::PartitionStatus, number: &String| {
            [("topic", super::escape(&status.partition.topic)), ("partition", number.clone())]
        };
        let lag = all().filter_map(|(status, number)| Some((labels(status, number), status.lag?)));
        let help = "Messages between the committed position and the end of a partition that is this worker's";
        self.gauges("lakelens_lag_messages", help, lag)?;
        let drain = all().filter_map(|(status, number)| Some((labels(status, number), status.drain?.as_secs_f64())));
        let help = "Lag divided by the partition's pace of the last minutes";
        self.gauges("lakelens_lag_drain_seconds", help, drain)?;
        self.gauge("lakelens_partitions_assigned", "Partitions that are this worker's", seen.assigned as u64)
    }

    fn machine(&mut self, stats: &Stats) -> fmt::Result {
        let facts = stats.facts.get();
        let threads = facts.map_or(0, |facts| facts.threads as u64);
        self.gauge("lakelens_compute_threads", "Threads that decode and predict", threads)?;
        let help = "Time that compute threads spent working; its rate is the cores that are busy";
        self.seconds("lakelens_compute_busy_seconds", help, stats.busy().as_secs_f64())?;
        let budget = facts.map_or(0, |facts| facts.memory);
        self.gauge("lakelens_memory_budget_bytes", "The memory budget of the pipeline file", budget)?;
        let reserved = facts.map_or(0, super::facts::Facts::reserved);
        self.gauge("lakelens_memory_reserved_bytes", "What bodies and decoding have taken of the memory budget", reserved)
    }

    fn world(&mut self, stats: &Stats) -> fmt::Result {
        let pairs = Scheme::ALL.into_iter().flat_map(|scheme| AttemptEnd::ALL.map(|end| (scheme, end)));
        let requests = pairs.map(|(scheme, end)| ([("scheme", scheme.name()), ("outcome", end.name())], stats.attempts.ends(scheme, end)));
        self.many_counters("lakelens_fetch_requests", "Attempts to fetch, by how they ended", requests)?;
        let retries = Scheme::ALL.map(|scheme| (scheme.name(), stats.attempts.retries(scheme)));
        self.counters("lakelens_fetch_retries", "Attempts to fetch beyond an item's first", "scheme", retries.into())?;
        let waited = health::waited_for(stats);
        let waiting = On::ALL.map(|on| ([("on", on.name())], u64::from(waited.iter().any(|wait| wait.on == on.name()))));
        self.gauges("lakelens_waiting", "1 while the worker waits for that part of the world", waiting)?;
        let ends = &stats.transactions;
        let ends = [("committed", &ends.committed), ("aborted", &ends.aborted), ("fenced", &ends.fenced)];
        let ends = ends.map(|(outcome, count)| (outcome, count.load(Relaxed)));
        self.counters("lakelens_transactions", "Transactions over records and offsets, by how they ended", "outcome", ends.into())?;
        let changes = &stats.rebalances;
        let changes = [("assigned", &changes.assigned), ("revoked", &changes.revoked), ("lost", &changes.lost)];
        let changes = changes.map(|(event, count)| (event, count.load(Relaxed)));
        self.counters("lakelens_rebalances", "Partitions that came and went", "event", changes.into())
    }

    fn information(&mut self, stats: &Stats, seen: &Snapshot) -> fmt::Result {
        let moved = seen.moved.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs_f64());
        self.gauge(
            "lakelens_last_progress_timestamp_seconds",
            "Unix time at which something last moved, the start counting as well",
            moved,
        )?;
        let model = stats.facts.get().and_then(|facts| facts.model.as_ref());
        let labels = model.map(|model| {
            [("model", &*model.id), ("space", &*model.space), ("precision", &*model.precision), ("preprocess", &*model.preprocess)]
        });
        self.info("lakelens_model", "The network", labels.as_ref().map(|labels| &labels[..]))?;
        let build = [("version", version::VERSION), ("revision", version::REVISION), ("target", version::TARGET)];
        self.info("lakelens_build", "The program", Some(&build))
    }

    fn process(&mut self) -> fmt::Result {
        let Some(seen) = process::look() else { return Ok(()) };
        self.seconds("process_cpu_seconds", "Total user and system CPU time spent in seconds", seen.cpu_seconds)?;
        self.gauge("process_resident_memory_bytes", "Resident memory size in bytes", seen.resident_bytes)?;
        self.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds", seen.started)?;
        self.gauge("process_open_fds", "Number of open file descriptors", seen.open_fds)?;
        let most = seen.max_fds.map_or(f64::INFINITY, |most| most as f64);
        self.gauge("process_max_fds", "Maximum number of open file descriptors", most)
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
