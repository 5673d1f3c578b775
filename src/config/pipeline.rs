//! The pipeline file as data. The doc comments are what `lakelens schema pipeline` shows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, Pixels, Span};

const fn seconds(s: u64) -> Span {
    Span(Duration::from_secs(s))
}

/// A whole pipeline.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Version of this file's form.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name in logs and metrics, and the default consumer group.
    #[serde(default = "default_name")]
    pub name: String,
    /// Name of this worker among the others of its group.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// Where references come from: one source, or a list.
    pub source: Sources,
    /// Object stores that images are read from and files are written to.
    #[serde(default)]
    pub store: Store,
    /// How images are fetched, and which may be.
    #[serde(default)]
    pub fetch: Fetch,
    /// How images are decoded.
    #[serde(default)]
    pub decode: Decode,
    /// Upper bound for bodies, decoding and unfinished results together; intake waits at the limit.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// The network; left out in a pipeline whose source is records.
    #[serde(default)]
    pub model: Option<Model>,
    /// Micro-batches.
    #[serde(default)]
    pub batch: Batch,
    /// What a record holds.
    #[serde(default)]
    pub output: Output,
    /// Where records go; all of them get every record.
    pub sinks: Vec<Sink>,
    /// Where rejections go; required with a Kafka source.
    #[serde(default)]
    pub dead_letters: Option<DeadLetters>,
    /// Stops the worker when too many items are rejected.
    #[serde(default)]
    pub reject_limit: RejectLimit,
    /// What is promised; where not given, the strongest that the sinks can keep.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// Metrics and health.
    #[serde(default)]
    pub telemetry: Telemetry,
}

fn default_name() -> String {
    "lakelens".into()
}
fn default_instance() -> String {
    "worker".into()
}
fn default_memory() -> ByteSize {
    ByteSize(512 << 20)
}

/// One source, or a list of several.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Sources {
    /// Just one.
    One(Box<Source>),
    /// Several, each with a name.
    Many(Vec<Source>),
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
    /// `live` goes before `backfill`.
    pub priority: Option<Priority>,
    /// Topics of references, or of records.
    pub kafka: Option<KafkaSource>,
    /// A folder, a glob or a bucket prefix.
    pub listing: Option<Listing>,
    /// A file of references, one a line; `-` is standard input.
    pub lines: Option<Listing>,
}

/// Which source goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// First.
    Live,
    /// With what is left.
    Backfill,
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

/// What to do about lost input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// Stop with the range that was lost.
    #[default]
    Stop,
    /// Count it and go on.
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

/// Object stores.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// S3 or what speaks its protocol.
    pub s3: S3,
}

/// An S3 endpoint. Credentials come from the AWS default chain (environment, profile, container, instance).
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// URL of the server; empty or left out for AWS itself.
    pub endpoint: Option<String>,
    /// Region; the default chain's where not given.
    pub region: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
    /// Read without credentials (public buckets).
    pub anonymous: bool,
    /// Whether the server honours If-Match and If-None-Match on PutObject, as S3 itself does.
    pub conditional_writes: Option<bool>,
}

/// Fetching.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fetch {
    /// What a reference from a topic may name.
    pub allow: Allow,
    /// Fetches at the same time.
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: usize,
    /// Time without progress after which an attempt is given up.
    pub timeout: Span,
    /// Attempts before an item can be rejected as unavailable.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Time before an item can be rejected as unavailable.
    pub give_up: Span,
    /// Largest file.
    pub max_bytes: ByteSize,
    /// Largest image.
    pub max_pixels: Pixels,
    /// What to do when the object is newer than its event.
    pub on_changed: OnChanged,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            allow: Allow::default(),
            concurrency: 32,
            timeout: seconds(10),
            attempts: 5,
            give_up: seconds(600),
            max_bytes: ByteSize(32 << 20),
            max_pixels: Pixels(50_000_000),
            on_changed: OnChanged::default(),
        }
    }
}

/// What references from strangers may name: `*` is all of a kind, an empty list none.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// `bucket/*`, `bucket/prefix/*`, or `*`.
    pub s3: Vec<String>,
    /// Folders, or `*`.
    pub file: Vec<String>,
    /// Hosts (`images.example.com`, `*.example.com`, `host:port`), address ranges (`10.0.0.0/8`), or `*`, which means every public address.
    pub http: Vec<String>,
}

/// What to do when an object is newer than its event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnChanged {
    /// Skip it: the newer object has an event of its own.
    #[default]
    Supersede,
    /// Reject it as `changed`.
    Reject,
    /// Label what is there now.
    Current,
}

/// Decoding.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Turn the image as its EXIF orientation says (torchvision does not).
    pub exif: bool,
    /// Longest time for one image.
    pub timeout: Span,
}

impl Default for Decode {
    fn default() -> Self {
        Self { exif: false, timeout: seconds(10) }
    }
}

/// The network.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A model folder with `model.yaml`, or an `.onnx` file.
    pub path: PathBuf,
    /// Arithmetic.
    #[serde(default)]
    pub precision: Precision,
    /// Worker threads; 0 = one a core.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    pub threads: usize,
}

/// Arithmetic of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16 with 32-bit accumulation.
    Bf16,
    /// 8-bit integers.
    Int8,
}

impl Precision {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// Micro-batches: by size or by deadline, whichever comes first.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Most images in one call of the model.
    #[schemars(range(min = 1, max = 1024))]
    pub max_items: usize,
    /// Longest time that an image waits for others.
    pub max_wait: Span,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_items: 8, max_wait: Span(Duration::from_millis(50)) }
    }
}

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
    seconds(300)
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

/// When to stop because too much is rejected.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RejectLimit {
    /// Share of the last items that may be rejected; 1.0 = no limit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// How many items are looked at.
    #[schemars(range(min = 1))]
    pub of_last: usize,
}

impl Default for RejectLimit {
    fn default() -> Self {
        Self { share: 0.5, of_last: 1000 }
    }
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Delivery {
    /// Each input is exactly one record or one rejection, whatever dies.
    #[serde(rename = "exactly-once")]
    ExactlyOnce,
    /// Nothing is lost; a crash may repeat a suffix.
    #[serde(rename = "at-least-once")]
    AtLeastOnce,
}

/// Metrics and health.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address to serve on, `host:port`; none = not served.
    pub listen: Option<String>,
}
