use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One label with its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Label {
    /// Index among the model's logits.
    pub index: u32,
    /// Name of the class; the index as text where the model has no labels.
    pub label: Arc<str>,
    /// After the activation: softmax and sigmoid give 0 to 1.
    pub score: f32,
}

/// Where the item came from, as `source` of a record and of a rejection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum SourceRef {
    /// A Kafka message.
    Kafka {
        /// Topic.
        topic: Arc<str>,
        /// Partition of the topic.
        partition: i32,
        /// Offset of the message.
        offset: i64,
        /// Number of the item within the message.
        item: u32,
        /// Time of the message (RFC 3339, milliseconds, UTC).
        timestamp: Option<String>,
    },
    /// An entry of a folder, a bucket prefix or a file of lines.
    Listing {
        /// The listing's path.
        listing: Arc<str>,
        /// The entry: a key, a path, or a line's number.
        key: String,
    },
}

/// What leaves for one labelled item, before it is encoded: see `format` for how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The image's URI, without secrets.
    pub uri: String,
    /// The user's identifier.
    pub id: Option<String>,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
    /// ETag of the object that was read, without quotes.
    pub etag: Option<String>,
    /// Version of the object that was read.
    pub version: Option<String>,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// `jpeg`, `png`, `webp`, `gif`, `bmp` or `tiff`.
    pub format: String,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// SHA-256 of the file in lower-case hex.
    pub sha256: String,
    /// The best labels, best first; `None` = not asked for.
    pub labels: Option<Vec<Label>>,
    /// Labels of further heads by name; `None` = the model has none.
    pub heads: Option<BTreeMap<String, Vec<Label>>>,
    /// The embedding; `None` = not asked for.
    pub embedding: Option<Vec<f32>>,
    /// Length of the embedding, also where the embedding itself was left out of the topic.
    pub embedding_dim: Option<u32>,
    /// Short hash over all that decides whether two embeddings may be compared.
    pub space: Arc<str>,
    /// `name@sha256:` and twelve hex digits.
    pub model: Arc<str>,
    /// `sha256:` and twelve hex digits over the preprocessing.
    pub preprocess: Arc<str>,
    /// `f32`, `bf16` or `int8`.
    pub precision: Arc<str>,
    /// `none` or `l2`.
    pub normalize: Arc<str>,
    /// When the event happened (RFC 3339), for references that came as events.
    pub event_time: Option<String>,
    /// Where the reference stood.
    pub source: SourceRef,
    /// When the model had run (RFC 3339, milliseconds, UTC).
    pub processed_at: String,
}

impl Record {
    /// Asks of a record that others wrote what ours always have. JSON holds numbers that become an infinity as an f32, which would be written as null.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match &self.embedding {
            Some(values) if values.iter().any(|value| !value.is_finite()) => {
                Err("a value of its embedding is not finite, or too large for an f32".into())
            }
            _ => Ok(()),
        }
    }
}
