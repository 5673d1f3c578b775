use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::flow::{MemoryBudget, Partition};
use crate::model::ModelInfo;
use crate::telemetry::{Facts, PartitionStatus};

/// Counters of a worker that has everything.
fn full(topics: &[&str]) -> Arc<Stats> {
    let stats = Arc::new(Stats::default());
    let model = ModelInfo {
        id: "resnet50@sha256:3fa9c2d41b07".into(),
        space: "c0ffee12d41b".into(),
        preprocess: "sha256:90ab12cd34ef".into(),
        precision: "f32".into(),
        normalize: "none".into(),
        classes: 1000,
        embedding_dim: 2048,
        input: [3, 224, 224],
    };
    let pools = MemoryBudget::new(1 << 20, false);
    let facts = Facts { model: Some(model), threads: 2, memory: 1 << 20, pools, places: Box::new(Vec::new) };
    stats.facts.set(facts).unwrap();
    let status = |topic: &&str| PartitionStatus {
        partition: Partition::new(*topic, 0),
        committed: 5,
        lag: Some(7),
        drain: Some(Duration::from_secs(3)),
        open: 1,
    };
    stats.board.send_modify(|board| {
        board.partitions = topics.iter().map(status).collect();
        board.assigned = topics.len();
        board.moved = Some(SystemTime::now());
        board.total.received = 12;
        board.total.rejected.insert("not_found", 3);
    });
    stats.infer.add(Duration::from_millis(30));
    stats.batches.add_one(8);
    stats
}

/// Name, type and the names of labels of every family; `le` is the form's own.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let name = &line[..line.find(['{', ' ']).unwrap()];
            let family = ["", "_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end)).find(|n| found.contains_key(*n));
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let names = labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.to_owned());
            let (_, all) = found.get_mut(family.unwrap_or_else(|| panic!("{line} is of no family"))).unwrap();
            all.extend(names.filter(|name| name != "le"));
        }
    }
    found
}

#[test]
fn the_table_in_the_docs_is_what_the_code_has() {
    let docs = include_str!("../../docs/metrics.md");
    let table = docs.split("## All metrics").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>();
    let documented: BTreeMap<String, (String, BTreeSet<String>)> =
        rows.map(|cells| (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), quoted(cells[3])))).collect();
    let mut coded = families(&encode(&full(&["refs"]), Format::Text).unwrap());
    if !cfg!(target_os = "linux") {
        // The system says nothing of the process there.
        let of_process = documented.iter().filter(|(name, _)| name.starts_with("process_"));
        coded.extend(of_process.map(|(name, of)| (name.clone(), of.clone())));
    }
    assert_eq!(documented, coded, "docs/metrics.md on the left, the code on the right");
}

#[test]
fn values_stand_where_readers_look() {
    let text = encode(&full(&["refs"]), Format::Text).unwrap();
    for line in [
        "lakelens_items_received_total 12",
        "lakelens_items_rejected_total{reason=\"not_found\"} 3",
        "lakelens_items_rejected_total{reason=\"crashed\"} 0",
        "lakelens_stage_duration_seconds_bucket{stage=\"infer\",le=\"0.025\"} 0",
        "lakelens_stage_duration_seconds_bucket{stage=\"infer\",le=\"0.05\"} 1",
        "lakelens_stage_duration_seconds_bucket{stage=\"infer\",le=\"+Inf\"} 1",
        "lakelens_stage_duration_seconds_sum{stage=\"infer\"} 0.03",
        "lakelens_stage_duration_seconds_count{stage=\"fetch\"} 0",
        "lakelens_batch_images_sum 8.0",
        "lakelens_lag_messages{topic=\"refs\",partition=\"0\"} 7",
        "lakelens_lag_drain_seconds{topic=\"refs\",partition=\"0\"} 3.0",
        "lakelens_compute_busy_seconds_total 0.03",
        "lakelens_transactions_total{outcome=\"fenced\"} 0",
        "lakelens_fetch_requests_total{scheme=\"s3\",outcome=\"throttled\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("lakelens_model_info{model=\"resnet50@sha256:3fa9c2d41b07\",space=\"c0ffee12d41b\""), "{text}");
    let open = encode(&full(&["refs"]), Format::OpenMetrics).unwrap();
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE lakelens_items_received counter\n"), "{open}");
}

#[test]
fn a_worker_that_has_only_begun_can_be_read() {
    let text = encode(&Arc::default(), Format::Text).unwrap();
    assert!(text.contains("lakelens_items_received_total 0\n") && !text.contains("lakelens_model_info{"), "{text}");
}

#[test]
fn the_accept_header_chooses_the_form() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        (prometheus, Format::OpenMetrics),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain, application/openmetrics-text;q=0.1", Format::Text),
        ("application/openmetrics-text;q=0", Format::Text),
        ("application/openmetrics-text;q=x", Format::Text),
    ] {
        assert_eq!(Format::of(accept), format, "{accept}");
    }
}

proptest! {
    /// Whatever a topic is called, its label is one label in one line.
    #[test]
    fn a_name_from_outside_cannot_make_another_series(topic in "[\\PC\n\r\t\"\\\\{}]{1,40}") {
        let lines = |text: &str| text.lines().filter(|line| line.starts_with("lakelens_lag_messages{")).count();
        for format in [Format::Text, Format::OpenMetrics] {
            let text = encode(&full(&[&topic]), format).unwrap();
            let plain = encode(&full(&["refs"]), format).unwrap();
            prop_assert_eq!(lines(&text), 1);
            prop_assert_eq!(text.lines().count(), plain.lines().count());
        }
    }
}
