//! The fields below `output`, `sinks` and `dead_letters`: what a record holds and where it goes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;

/// What a record holds.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Labels a record; 0 = none.
    #[schemars(range(max = 100000))]
    pub top_k: usize,
    /// Labels below this score are left out.
    pub min_score: f32,
    /// Whether records carry the embedding.
    pub embeddings: bool,
    /// Scaling of the embedding.
    pub normalize: Normalize,
    /// How JSON carries the embedding.
    pub encoding: Encoding,
    /// What Kafka records are keyed by.
    pub key: Key,
    /// What a deletion event becomes.
    pub on_delete: OnDelete,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            top_k: 5,
            min_score: 0.0,
            embeddings: true,
            normalize: Normalize::None,
            encoding: Encoding::Array,
            key: Key::Uri,
            on_delete: OnDelete::Skip,
        }
    }
}

/// Scaling of the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// As the network gives it.
    None,
    /// To Euclidean length 1.
    L2,
}

impl Normalize {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::L2 => "l2",
        }
    }
}

/// How JSON carries an embedding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// An array of numbers.
    #[default]
    Array,
    /// Base64 of little-endian 32-bit floats.
    F32,
    /// Base64 of little-endian 16-bit floats.
    F16,
}

/// What Kafka records are keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The image's URI.
    Uri,
    /// The reference's `id`; the URI where it has none.
    Id,
}

/// What a deletion event becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// Counted as skipped.
    Skip,
    /// A null value under the record's key.
    Tombstone,
}

/// A sink: exactly one of `kafka`, `parquet` and `jsonl`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sink {
    /// Topics.
    pub kafka: Option<KafkaSink>,
    /// Parquet files in a folder or under a bucket prefix.
    pub parquet: Option<ParquetSink>,
    /// JSONL files in a folder.
    pub jsonl: Option<JsonlSink>,
}

/// A Kafka sink: `labels` and/or `embeddings`, or `records`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSink {
    /// Bootstrap servers; the source's where not given.
    pub brokers: Option<String>,
    /// Topic for records without their embedding.
    pub labels: Option<String>,
    /// Topic for records without their labels.
    pub embeddings: Option<String>,
    /// Topic for whole records.
    pub records: Option<String>,
    /// Passed through to librdkafka; the source's where not given.
    pub properties: Option<BTreeMap<String, String>>,
}

/// A Parquet sink.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetSink {
    /// A folder, or `s3://bucket/prefix/`.
    pub path: String,
    /// Offsets that one file covers.
    #[serde(default = "default_span")]
    #[schemars(range(min = 1))]
    pub span: u64,
    /// Age at which a file is closed though it is not full.
    #[serde(default = "default_max_age")]
    pub max_age: Span,
}

fn default_span() -> u64 {
    10_000
}
fn default_max_age() -> Span {
    Span(Duration::from_secs(300))
}

/// A JSONL sink.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlSink {
    /// A folder.
    pub path: PathBuf,
}

/// Where rejections go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum DeadLetters {
    /// Nowhere but the log: the word `none`.
    None(NoDeadLetters),
    /// A topic or a file.
    To(DeadLetterSink),
}

/// The word `none`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoDeadLetters {
    /// Rejections are only logged and counted.
    None,
}

/// Exactly one of `kafka` and `jsonl`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterSink {
    /// A topic on the source's cluster.
    pub kafka: Option<String>,
    /// A folder of JSONL files.
    pub jsonl: Option<PathBuf>,
}
