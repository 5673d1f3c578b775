//! What the page, and `--json`, say of all entries together.

use serde::Serialize;

use super::gather::{Gathered, Maker};
use crate::format::rfc3339;
use crate::records::Rejected;

/// Labels that are named; the others are counted together.
const LABELS: usize = 2000;

/// Counts of all entries, not of the sample.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// Pictures with a record.
    pub records: u64,
    /// References that were rejected.
    pub rejections: u64,
    /// Records without labels.
    pub unlabelled: u64,
    /// Records with an embedding.
    pub embedded: u64,
    /// Records by their best label, the most frequent first.
    pub labels: Vec<LabelCount>,
    /// How many labels there are; at least, where `label_count_is_exact` is false.
    pub label_count: u64,
    /// Whether every label could be counted apart.
    pub label_count_is_exact: bool,
    /// Records of labels that are not in `labels`.
    pub other_labels: u64,
    /// Best scores.
    pub scores: ScoreCounts,
    /// Rejections by reason, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Rejections of reasons that are not in `reasons`.
    pub other_reasons: u64,
    /// What made the records, the most frequent first.
    pub makers: Vec<MakerCount>,
    /// Records of makers that are not in `makers`.
    pub other_makers: u64,
    /// Files by format.
    pub formats: Vec<(String, u64)>,
    /// Bytes of all pictures.
    pub bytes: u64,
    /// Pixels of all pictures, in millions.
    pub megapixels: f64,
    /// When records were made.
    pub time: Option<Time>,
}

/// Records of one best label.
#[derive(Debug, Serialize)]
pub struct LabelCount {
    /// The label.
    pub label: String,
    /// How many.
    pub count: u64,
    /// Mean of their scores.
    pub mean_score: f64,
}

/// The best scores of records.
#[derive(Debug, Serialize)]
pub struct ScoreCounts {
    /// Equal parts from 0 to 1.
    pub bars: Vec<u64>,
    /// Scores that are below 0 or above 1.
    pub beyond: u64,
    /// Mean of those from 0 to 1.
    pub mean: Option<f64>,
}

/// Rejections of one reason.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// Its name.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The first ones: URI, stage and detail.
    pub examples: Vec<Example>,
}

/// One rejection.
#[derive(Debug, Serialize)]
pub struct Example {
    uri: Option<String>,
    stage: String,
    detail: String,
}

/// Records of one maker.
#[derive(Debug, Serialize)]
pub struct MakerCount {
    /// Model, preprocessing, space.
    #[serde(flatten)]
    pub maker: Maker,
    /// How many.
    pub count: u64,
}

/// When records were made.
#[derive(Debug, Serialize)]
pub struct Time {
    /// The first one's time.
    pub first: Option<String>,
    /// The last one's time.
    pub last: Option<String>,
    /// Seconds between them.
    pub seconds: f64,
    /// Records a second between them, pauses included; `None` where they are of one moment.
    pub per_second: Option<f64>,
    /// Seconds that each of `bars` stands for.
    pub bar_seconds: f64,
    /// Records by time.
    pub bars: Vec<u64>,
}

impl Overview {
    /// Of what was gathered, but for the sample.
    pub fn of(gathered: Gathered) -> Self {
        let Gathered { records, rejections, unlabelled, embedded, scores, mut makers, bytes, pixels, times, .. } = gathered;
        let (mut all, rest) = gathered.labels.sorted(|tally| tally.count);
        let (label_count, label_count_is_exact) = (all.len() as u64, rest.is_none());
        let more = all.split_off(all.len().min(LABELS));
        let other_labels = more.iter().map(|(_, tally)| tally.count).sum::<u64>() + rest.map_or(0, |tally| tally.count);
        let mean = |(label, tally): (String, super::gather::LabelTally)| {
            let mean_score = tally.score / tally.count.max(1) as f64;
            LabelCount { label, count: tally.count, mean_score: if mean_score.is_finite() { mean_score } else { 0.0 } }
        };
        let (reasons, other_reasons) = gathered.reasons.sorted(|tally| tally.count);
        let example = |one: Rejected| Example { uri: one.uri, stage: one.stage, detail: one.detail };
        let within = scores.bars.iter().sum::<u64>();
        let (formats, other_formats) = gathered.formats.sorted(|count| *count);
        let other_makers = std::mem::take(&mut makers.rest);
        Self {
            records,
            rejections,
            unlabelled,
            embedded,
            labels: all.into_iter().map(mean).collect(),
            label_count,
            label_count_is_exact,
            other_labels,
            scores: ScoreCounts {
                bars: scores.bars.to_vec(),
                beyond: scores.beyond,
                mean: (within > 0).then(|| scores.sum / within as f64),
            },
            reasons: reasons
                .into_iter()
                .map(|(reason, tally)| Reason { reason, count: tally.count, examples: tally.examples.into_iter().map(example).collect() })
                .collect(),
            other_reasons: other_reasons.map_or(0, |tally| tally.count),
            makers: makers.sorted().into_iter().map(|(maker, count)| MakerCount { maker, count }).collect(),
            other_makers,
            formats: formats.into_iter().chain(other_formats.map(|count| ("other".to_owned(), count))).collect(),
            bytes,
            megapixels: pixels as f64 / 1e6,
            time: times.range.map(|(first, last)| {
                let seconds = (last - first) as f64 / 1e3;
                let (width, bars) = times.bars();
                Time {
                    first: rfc3339(first),
                    last: rfc3339(last),
                    seconds,
                    per_second: (seconds > 0.0).then(|| times.count as f64 / seconds),
                    bar_seconds: width as f64 / 1e3,
                    bars,
                }
            }),
        }
    }
}
