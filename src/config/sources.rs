//! The fields below `source`: where references come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::flow::Priority;

/// One source, or a list of several.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Sources {
    // First, since serde would also read an empty list as a source without fields.
    /// Several, each with a name.
    Many(Vec<Source>),
    /// Just one.
    One(Box<Source>),
}

impl Sources {
    /// All of them.
    pub fn all(&self) -> &[Source] {
        match self {
            Self::One(s) => std::slice::from_ref(s),
            Self::Many(list) => list,
        }
    }
}

/// A source: exactly one of `kafka`, `listing` and `lines`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// Name, where there are several.
    pub name: Option<String>,
    /// `live` goes before `backfill` through the whole worker; backfill uses what is left.
    pub priority: Option<Priority>,
    /// Topics of references, or of records.
    pub kafka: Option<KafkaSource>,
    /// A folder, a glob or a bucket prefix.
    pub listing: Option<Listing>,
    /// A file of references, one a line; `-` is standard input.
    pub lines: Option<Listing>,
}

/// A Kafka source: exactly one of `topics` (references) and `records`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSource {
    /// Bootstrap servers, `host:port,host:port`.
    pub brokers: String,
    /// Topics of image references.
    pub topics: Vec<String>,
    /// Topics of records, for a pipeline without a model that archives them.
    pub records: Vec<String>,
    /// Consumer group; the pipeline's name where not given.
    pub group: Option<String>,
    /// Where a partition without committed offset begins.
    pub start: Start,
    /// What to do when retention deleted messages that were never read.
    pub on_lost: OnLost,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest message.
    #[default]
    Earliest,
    /// With the next new message.
    Latest,
}

/// What to do about input that retention deleted unread, and about a group whose offsets are gone though the outputs hold what it made (exactly-once only).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// Stop with the range that was lost.
    #[default]
    Stop,
    /// Count it and go on; without offsets, where `start` says.
    Continue,
}

/// A path to list or to read lines from.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// A folder, a file, a glob, `s3://bucket/prefix`; for lines a file or `-`.
    pub path: String,
    /// A file that remembers how far the listing was done, to go on from there.
    pub state: Option<PathBuf>,
}
