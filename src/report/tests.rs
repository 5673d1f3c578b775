//! The report as a whole, and records for the tests of its parts.

use std::sync::Arc;

use super::sample::Item;
use super::*;
use crate::flow::{Label, Record, SourceRef};
use crate::records::Rejected;

/// A record of one label.
pub(super) fn record(n: usize, label: &str, score: f32) -> Box<Record> {
    Box::new(Record {
        uri: format!("s3://lake/{n:06}.jpg"),
        id: None,
        tags: Default::default(),
        etag: None,
        version: None,
        bytes: 1000,
        format: "jpeg".into(),
        width: 640,
        height: 480,
        sha256: "9f".repeat(32),
        labels: Some(vec![Label { index: 0, label: label.into(), score }]),
        heads: None,
        embedding: None,
        embedding_dim: None,
        space: "c0ffee12d41b".into(),
        model: "tiny@sha256:3fa9c2d41b07".into(),
        preprocess: "sha256:90ab12cd34ef".into(),
        precision: "f32".into(),
        normalize: "none".into(),
        event_time: None,
        source: SourceRef::Listing { listing: "s3://lake/".into(), key: format!("{n:06}.jpg") },
        processed_at: format!("2026-11-23T19:{:02}:{:02}.120Z", n / 60 % 60, n % 60),
    })
}

/// A sample of records with these embeddings.
pub(super) fn items_with(embeddings: Vec<Vec<f32>>) -> Vec<Item> {
    let item = |(n, embedding): (usize, Vec<f32>)| {
        let mut record = record(n, "a", 0.5);
        record.embedding = Some(embedding);
        Item { number: n as u64, random: true, priority: n as u64, record: Arc::from(record) }
    };
    embeddings.into_iter().enumerate().map(item).collect()
}

fn rejection(reason: &str) -> Entry {
    Entry::Rejection(Rejected { uri: None, stage: "decode".into(), reason: reason.into(), detail: "</script>".into() })
}

fn options(folder: &Path) -> Options {
    Options { inputs: vec!["in".into()], out: folder.join("new/report.html"), overwrite: false, images: Images::None, sample: 50 }
}

/// The page's data.
fn data(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap();
    let begin = "<script type=\"application/json\" id=\"data\">";
    let (_, rest) = text.split_once(begin).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn counts_are_of_all_and_pictures_of_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let entries = (0..3000).map(|n| {
        Ok(match n % 3 {
            0 => rejection(if n % 2 == 0 { "empty" } else { "corrupt_image" }),
            _ => Entry::Record(record(n, ["cat", "dog", "<b>"][n % 7 % 3], (n % 1001) as f32 / 1000.0)),
        })
    });
    let options = options(folder.path());
    let written = write(entries, &options, &CancellationToken::new(), |_| ()).unwrap();
    let seen = data(&options.out);
    assert_eq!((written.overview.records, written.overview.rejections, written.thumbnails), (2000, 1000, 0));
    assert!((40..=50).contains(&written.shown) && seen["items"].as_array().unwrap().len() == written.shown);
    assert_eq!(seen["labels"].as_array().unwrap().iter().map(|label| label["count"].as_u64().unwrap()).sum::<u64>(), 2000);
    assert_eq!(seen["scores"]["bars"].as_array().unwrap().iter().map(|bar| bar.as_u64().unwrap()).sum::<u64>(), 2000);
    assert_eq!(seen["reasons"][0]["count"], 500);
    assert_eq!(seen["reasons"][0]["examples"].as_array().unwrap().len(), 5);
    assert_eq!(seen["bytes"], 2_000_000);
    let time = &seen["time"];
    assert_eq!((time["first"].as_str().unwrap(), time["last"].as_str().unwrap()), ("2026-11-23T19:00:01.120Z", "2026-11-23T19:49:59.120Z"));
    assert!((time["per_second"].as_f64().unwrap() - 2000.0 / 2998.0).abs() < 1e-9);
    assert!(!std::fs::read_to_string(&options.out).unwrap().contains("<b>"));
}

#[test]
fn a_report_is_replaced_and_another_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    let go = |options: &Options| write(std::iter::once(Ok(rejection("empty"))), options, &CancellationToken::new(), |_| ());
    go(&options).unwrap();
    go(&options).unwrap();
    std::fs::write(&options.out, "<!doctype html>\n<title>my page</title>").unwrap();
    assert!(go(&options).unwrap_err().to_string().contains("--overwrite"));
    assert!(std::fs::read_to_string(&options.out).unwrap().contains("my page"));
    options.overwrite = true;
    go(&options).unwrap();
    assert_eq!(data(&options.out)["rejections"], 1);
    options.out = folder.path().to_path_buf();
    assert!(go(&options).is_err());
}

#[test]
fn a_failure_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let entries = [Ok(rejection("empty")), Err(Error::failed("line 2: broken"))];
    assert!(write(entries.into_iter(), &options, &CancellationToken::new(), |_| ()).unwrap_err().to_string().contains("line 2"));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(write(std::iter::once(Ok(rejection("empty"))), &options, &stop, |_| ()).is_err());
    assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
}

#[test]
fn scores_that_are_no_probabilities_and_records_without_anything_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut bare = record(0, "a", 0.0);
    (bare.labels, bare.processed_at) = (None, "never".into());
    let entries = [record(1, "a", 17.5), record(2, "a", -3.0), record(3, "a", 1.0), bare];
    let options = options(folder.path());
    let entries = entries.into_iter().map(|record| Ok(Entry::Record(record)));
    let overview = write(entries, &options, &CancellationToken::new(), |_| ()).unwrap().overview;
    assert_eq!((overview.scores.beyond, overview.scores.bars[gather::SCORE_BARS - 1], overview.unlabelled), (2, 1, 1));
}

#[test]
fn however_much_is_in_the_records_the_file_stays_below_25_mb() {
    let folder = tempfile::tempdir().unwrap();
    let entries = (0..1500).map(|n| {
        let mut record = record(n, &"<".repeat(600), 0.5);
        record.tags = (0..32).map(|tag| (format!("{tag}{}", "<".repeat(500)), "&".repeat(500))).collect();
        Ok(Entry::Record(record))
    });
    let options = Options { sample: 1500, ..options(folder.path()) };
    let written = write(entries, &options, &CancellationToken::new(), |_| ()).unwrap();
    assert!(written.bytes <= MAX_BYTES && written.shown > 50 && written.overview.records == 1500, "{} {}", written.bytes, written.shown);
}
