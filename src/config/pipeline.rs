//! The pipeline file as data. The doc comments are what `lakelens schema pipeline` shows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sinks::{DeadLetters, Output, Sink};
use super::sources::Sources;
use super::units::{ByteSize, Moment, Pixels, Span};

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
    /// Upper bound for bodies, decoding and unfinished results together; intake waits at the limit. A quarter must hold `fetch.max_bytes`, and five
    /// eighths six bytes for each of `fetch.max_pixels`.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// The network; left out in a pipeline whose source is records.
    #[serde(default)]
    pub model: Option<Model>,
    /// Classifiers on the embedding, by the name that they have in a record: files of `lakelens model head train`.
    #[serde(default)]
    pub heads: BTreeMap<String, PathBuf>,
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
    /// What happens at the start where the last record in a sink is of another space: another model, preprocessing, arithmetic or normalisation.
    #[serde(default)]
    pub on_space_change: OnSpaceChange,
    /// When what waits in the sources is to be done, for the number of workers that is recommended.
    #[serde(default)]
    pub deadline: Option<Moment>,
    /// Metrics and health.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The worker ends with code 1 when nothing has moved for this long though there is work, waiting for a server that is away included; 0s: never.
    #[serde(default = "default_watchdog")]
    pub watchdog: Span,
}

fn default_name() -> String {
    "lakelens".into()
}
fn default_instance() -> String {
    "worker".into()
}
fn default_watchdog() -> Span {
    seconds(30 * 60)
}
fn default_memory() -> ByteSize {
    ByteSize(512 << 20)
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

impl S3 {
    /// The store at `endpoint`, by path where there is one, as every server but AWS itself can be asked.
    pub fn at(endpoint: Option<String>) -> Self {
        Self { path_style: endpoint.is_some(), endpoint, ..Self::default() }
    }
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

/// What happens at the start where the last record in a sink is of another space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSpaceChange {
    /// The worker does not start.
    #[default]
    Refuse,
    /// It says so and goes on.
    Allow,
}

/// Metrics and health.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address to serve `/metrics`, `/livez`, `/readyz` and `/status` on, `host:port`; none = not served. A loopback address is for this machine only.
    pub listen: Option<String>,
    /// Traces of some items, sent to an OpenTelemetry collector.
    pub otlp: Option<Otlp>,
}

/// Traces over OTLP (http/protobuf). Headers that the collector asks for, a token say, come from the environment: OTEL_EXPORTER_OTLP_HEADERS.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// URL of the collector, `http://collector:4318`; without a path, `/v1/traces` is meant.
    pub endpoint: String,
    /// Share of the items that are traced; those whose message names a trace in a `traceparent` header are traced as its sender decided.
    #[serde(default = "default_sample")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
}

fn default_sample() -> f64 {
    0.01
}
