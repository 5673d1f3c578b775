//! Heads: linear classifiers on stored embeddings, so that new labels need neither the pictures nor another network.

mod examples;
mod fit;
mod relabel;
mod truth;
mod validate;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::config::Activation;
use crate::flow::{Label, Record};
use crate::model::{ModelInfo, activate, top_k};
use crate::{Context, Error, Result};

pub use examples::{Examples, MAX_VALUES};
pub use fit::train;
pub use relabel::{Relabelled, relabel};
pub use truth::Truth;
pub use validate::{Validation, cross_validate};

/// Name and version of the file.
const SCHEMA: &str = "lakelens.head.v1";
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// What embeddings a head goes with. Arithmetic (f32 or bf16) makes no difference that a linear classifier would see, so it is not in here; a model that was
/// quantised is another model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `name@sha256:` and twelve hex digits.
    pub model: Arc<str>,
    /// `sha256:` and twelve hex digits.
    pub preprocess: Arc<str>,
    /// `none` or `l2`.
    pub normalize: Arc<str>,
    /// Length of an embedding.
    pub embedding_dim: usize,
}

/// Refuses an embedding that others wrote and that no sum can be made of.
fn check(record: &Record) -> Result<()> {
    record.check().map_err(|what| Error::config(format_args!("the record of {}: {what}", crate::telemetry::escape(&record.uri))))
}

impl Origin {
    /// Where a record's embedding came from; `None` if it has none.
    pub fn of(record: &Record) -> Option<Self> {
        let embedding_dim = record.embedding.as_ref().map(|e| e.len()).filter(|len| *len > 0)?;
        let (model, preprocess, normalize) = (record.model.clone(), record.preprocess.clone(), record.normalize.clone());
        Some(Self { model, preprocess, normalize, embedding_dim })
    }

    /// Where a model's embeddings come from.
    pub fn of_model(info: &ModelInfo) -> Self {
        let (model, preprocess, normalize) = (info.id.clone(), info.preprocess.clone(), info.normalize.clone());
        Self { model, preprocess, normalize, embedding_dim: info.embedding_dim }
    }

    /// What differs first, in words; `None` if nothing does.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let fields = [
            ("model", &self.model, &other.model),
            ("preprocess", &self.preprocess, &other.preprocess),
            ("normalize", &self.normalize, &other.normalize),
        ];
        let text = fields.into_iter().find(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name} {b}, not {a}"));
        text.or_else(|| {
            (self.embedding_dim != other.embedding_dim)
                .then(|| format!("embeddings of {} values, not {}", other.embedding_dim, self.embedding_dim))
        })
    }
}

/// A multinomial logistic regression: logits = weights · embedding + bias, scores by softmax.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What embeddings it goes with.
    pub origin: Origin,
    /// Names of the classes, in the order of the logits.
    pub labels: Vec<Arc<str>>,
    /// `labels.len()` rows of `origin.embedding_dim` values.
    pub weights: Vec<f32>,
    /// A value for each class.
    pub bias: Vec<f32>,
    /// How good it was on examples that it was not fitted to.
    pub validation: Option<Validation>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct HeadFile {
    schema: String,
    #[serde(flatten)]
    origin: Origin,
    labels: Vec<Arc<str>>,
    bias: Vec<f32>,
    /// Base64 of little-endian 32-bit floats.
    weights_b64: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<Validation>,
}

impl Head {
    /// Reads a head that `lakelens model head train` wrote.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: &dyn std::fmt::Display| Error::config(format_args!("the head {}: {what}", path.display()));
        let size = std::fs::metadata(path).map_err(|e| wrong(&e))?.len();
        if size > MAX_BYTES {
            return Err(wrong(&format_args!("it has {size} bytes; at most 1 GiB is read")));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
        Self::parse(&bytes).map_err(|e| wrong(&format_args!("{e}; make one with `lakelens model head train`")))
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file: HeadFile = serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read ({e})"))?;
        if file.schema != SCHEMA {
            return Err(format!("its `schema` is not {SCHEMA}"));
        }
        let raw = STANDARD.decode(&file.weights_b64).map_err(|e| format!("weights_b64: {e}"))?;
        let (values, rest) = raw.as_chunks::<4>();
        let weights: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if file.origin.embedding_dim == 0 {
            return Err("its embedding_dim is 0".into());
        }
        let due = file.labels.len().checked_mul(file.origin.embedding_dim);
        if file.labels.len() < 2 || file.bias.len() != file.labels.len() || Some(weights.len()) != due || !rest.is_empty() {
            return Err("its labels, bias and weights do not go together".into());
        }
        if !weights.iter().chain(&file.bias).all(|v| v.is_finite()) {
            return Err("a weight is not finite".into());
        }
        Ok(Self { origin: file.origin, labels: file.labels, weights, bias: file.bias, validation: file.validation })
    }

    /// Writes it to `path`, which holds a whole head at any time.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let raw: Vec<u8> = self.weights.iter().flat_map(|v| v.to_le_bytes()).collect();
        let file = HeadFile {
            schema: SCHEMA.into(),
            origin: self.origin.clone(),
            labels: self.labels.clone(),
            bias: self.bias.clone(),
            weights_b64: STANDARD.encode(raw),
            validation: self.validation.clone(),
        };
        let doing = || format!("cannot write {}", path.display());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).context(doing())?;
        let mut temporary = crate::temporary::temporary_in(folder).context(doing())?;
        let text = serde_json::to_vec_pretty(&file).map_err(Error::failed)?;
        temporary.write_all(&text).context(doing())?;
        temporary.persist(path).map(drop).context(doing())
    }

    /// The best `k` labels of an embedding, best first, none below `min_score`.
    pub fn label(&self, embedding: &[f32], k: usize, min_score: f32) -> Vec<Label> {
        debug_assert_eq!(embedding.len(), self.origin.embedding_dim);
        let rows = self.weights.chunks_exact(self.origin.embedding_dim);
        let logit = |(row, bias): (&[f32], &f32)| {
            let sum: f64 = row.iter().zip(embedding).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            (sum + f64::from(*bias)) as f32
        };
        let mut scores: Vec<f32> = rows.zip(&self.bias).map(logit).collect();
        activate(&mut scores, Activation::Softmax);
        top_k(&scores, k, min_score, &self.labels)
    }
}

/// The heads of a pipeline by name.
#[derive(Debug, Clone, Default)]
pub struct Heads(Arc<BTreeMap<String, Head>>);

impl Heads {
    /// Reads heads, and makes sure that they go with the embeddings of `model`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the head that cannot be read, or was trained on other embeddings.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a String, &'a std::path::PathBuf)>, model: &ModelInfo) -> Result<Self> {
        let mut heads = BTreeMap::new();
        for (name, path) in files {
            let head = Head::read(path)?;
            if let Some(difference) = head.origin.differs(&Origin::of_model(model)) {
                return Err(Error::config(format_args!(
                    "heads.{name}: {} was trained on embeddings of another space; here is {difference}. Train it on records of this model",
                    path.display()
                )));
            }
            heads.insert(name.clone(), head);
        }
        Ok(Self(Arc::new(heads)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all of them say of an embedding; `None` if there are none.
    pub fn label(&self, embedding: &[f32], k: usize, min_score: f32) -> Option<BTreeMap<String, Vec<Label>>> {
        let each = || self.0.iter().map(|(name, head)| (name.clone(), head.label(embedding, k, min_score))).collect();
        (!self.is_empty()).then(each)
    }
}

#[cfg(test)]
mod tests;
