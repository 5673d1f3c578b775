//! One pass over all entries: exact counts, and a sample. Memory is bounded, however many entries there are and whatever is in them.

use std::collections::HashMap;

use chrono::DateTime;

use super::sample::{Item, Sample, best};
use super::tally::{Names, Times, shortened};
use crate::Result;
use crate::flow::Record;
use crate::records::{Entry, Rejected};

/// Labels that are counted apart.
const LABELS: usize = 20_000;
/// Reasons and formats that are counted apart. There are fewer in what Lakelens writes.
const FEW: usize = 64;
/// Rejections of a reason that are shown.
const EXAMPLES: usize = 5;
/// Longest text of such an example, in bytes.
const TEXT: usize = 1024;
/// Bars of the distribution of scores.
pub const SCORE_BARS: usize = 20;

/// What is known of all entries.
#[derive(Debug)]
pub struct Gathered {
    /// Pictures that were labelled or embedded.
    pub records: u64,
    /// References that were rejected.
    pub rejections: u64,
    /// Records by their best label.
    pub labels: Names<LabelTally>,
    /// Records without labels.
    pub unlabelled: u64,
    /// Records with an embedding.
    pub embedded: u64,
    /// Best scores.
    pub scores: Scores,
    /// Rejections by reason.
    pub reasons: Names<ReasonTally>,
    /// Records by what made them.
    pub makers: Makers,
    /// Files by format.
    pub formats: Names<u64>,
    /// Bytes of the pictures.
    pub bytes: u64,
    /// Pixels of the pictures.
    pub pixels: u128,
    /// When records were made.
    pub times: Times,
    /// Records to show.
    pub sample: Vec<Item>,
}

/// Records of one best label.
#[derive(Debug, Default, Clone, Copy)]
pub struct LabelTally {
    /// How many.
    pub count: u64,
    /// Sum of their scores.
    pub score: f64,
}

/// Rejections of one reason.
#[derive(Debug, Default)]
pub struct ReasonTally {
    /// How many.
    pub count: u64,
    /// The first ones.
    pub examples: Vec<Rejected>,
}

/// The best scores of records.
#[derive(Debug, Default)]
pub struct Scores {
    /// From 0 to 1; a score of 1 is in the last bar.
    pub bars: [u64; SCORE_BARS],
    /// Scores below 0 and above 1: the model's outputs are no probabilities.
    pub beyond: u64,
    /// Of scores from 0 to 1.
    pub sum: f64,
}

impl Scores {
    fn add(&mut self, score: f32) {
        if (0.0..=1.0).contains(&score) {
            self.bars[((score * SCORE_BARS as f32) as usize).min(SCORE_BARS - 1)] += 1;
            self.sum += f64::from(score);
        } else {
            self.beyond += 1;
        }
    }
}

/// What made records: model, preprocessing, arithmetic; and the space of their embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Maker {
    /// Name and digest.
    pub model: String,
    /// Digest.
    pub preprocess: String,
    /// Arithmetic.
    pub precision: String,
    /// How embeddings are scaled.
    pub normalize: String,
    /// Embeddings of one space may be compared.
    pub space: String,
    /// Length of the embedding.
    pub dim: Option<u32>,
}

/// Counts by maker.
#[derive(Debug, Default)]
pub struct Makers {
    counts: HashMap<Maker, u64>,
    /// Records of makers beyond the limit.
    pub rest: u64,
}

impl Makers {
    fn add(&mut self, record: &Record) {
        let text = |text: &str| shortened(text, 256).to_owned();
        let maker = Maker {
            model: text(&record.model),
            preprocess: text(&record.preprocess),
            precision: text(&record.precision),
            normalize: text(&record.normalize),
            space: text(&record.space),
            dim: record.embedding_dim,
        };
        if let Some(count) = self.counts.get_mut(&maker) {
            *count += 1;
        } else if self.counts.len() < FEW {
            self.counts.insert(maker, 1);
        } else {
            self.rest += 1;
        }
    }

    /// All of them, the most frequent first.
    pub fn sorted(self) -> Vec<(Maker, u64)> {
        let mut all: Vec<_> = self.counts.into_iter().collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }
}

impl Gathered {
    fn new() -> Self {
        Self {
            records: 0,
            rejections: 0,
            labels: Names::new(LABELS),
            unlabelled: 0,
            embedded: 0,
            scores: Scores::default(),
            reasons: Names::new(FEW),
            makers: Makers::default(),
            formats: Names::new(FEW),
            bytes: 0,
            pixels: 0,
            times: Times::default(),
            sample: Vec::new(),
        }
    }

    fn record(&mut self, record: &Record) {
        self.records += 1;
        match best(record) {
            Some(label) => {
                let tally = self.labels.of(&label.label);
                tally.count += 1;
                tally.score += f64::from(label.score);
                self.scores.add(label.score);
            }
            None => self.unlabelled += 1,
        }
        self.embedded += u64::from(record.embedding.is_some());
        self.makers.add(record);
        *self.formats.of(&record.format) += 1;
        self.bytes = self.bytes.saturating_add(record.bytes);
        self.pixels += u128::from(record.width) * u128::from(record.height);
        if let Ok(time) = DateTime::parse_from_rfc3339(&record.processed_at) {
            self.times.add(time.timestamp_millis());
        }
    }

    fn rejection(&mut self, rejected: Rejected) {
        self.rejections += 1;
        let tally = self.reasons.of(&rejected.reason);
        tally.count += 1;
        if tally.examples.len() < EXAMPLES {
            let text = |text: &str| shortened(text, TEXT).to_owned();
            tally.examples.push(Rejected {
                uri: rejected.uri.as_deref().map(text),
                stage: text(&rejected.stage),
                reason: text(&rejected.reason),
                detail: text(&rejected.detail),
            });
        }
    }
}

/// Goes through all `entries`; `size` of the records are kept to be shown. `step` is told how many entries there were, every now and then, and may
/// end it with an error.
///
/// # Errors
/// The first of `entries`, and what `step` says.
pub fn gather(entries: impl Iterator<Item = Result<Entry>>, size: usize, mut step: impl FnMut(u64) -> Result<()>) -> Result<Gathered> {
    let mut gathered = Gathered::new();
    let mut sample = Sample::new(size);
    for (n, entry) in (0u64..).zip(entries) {
        match entry? {
            Entry::Record(record) => {
                gathered.record(&record);
                sample.offer(record);
            }
            Entry::Rejection(rejected) => gathered.rejection(rejected),
        }
        if n % 256 == 0 {
            step(n)?;
        }
    }
    gathered.sample = sample.finish();
    Ok(gathered)
}
