//! `model.yaml` as data.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Preprocess;

/// A model folder's description.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Version of this file's form.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name, as in `name@sha256:...` of a record.
    pub name: String,
    /// The ONNX graph, relative to the folder.
    #[serde(default)]
    pub graph: Option<PathBuf>,
    /// Weights for a built-in architecture, instead of a graph.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// The built-in architecture.
    #[serde(default)]
    pub arch: Option<String>,
    /// Label names, one a line, in the order of the logits.
    #[serde(default)]
    pub labels: Option<PathBuf>,
    /// How pixels become the input tensor.
    #[serde(default)]
    pub preprocess: Preprocess,
    /// Which outputs are which.
    #[serde(default)]
    pub outputs: Outputs,
}

/// What the schema cannot say of a model file.
pub(super) fn check(model: &ModelFile, report: &mut super::diagnose::Report) {
    let known = report.errors.clone();
    let mut wrong = |path: &str, message: &str| {
        if !known.iter().any(|k| super::check::follows(k, path, message)) {
            report.error_at(report.mark(path), path, message.into());
        }
    };
    if model.name.is_empty() || !model.name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
        wrong("name", "must be letters, digits, `.`, `_` and `-`");
    }
    match (&model.graph, &model.weights, &model.arch) {
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        (None, None, _) => wrong("", "needs `graph`, or `weights` and `arch`"),
        (Some(_), Some(_), _) => wrong("weights", "does not go with `graph`; give one or the other"),
        (Some(_), None, Some(_)) => wrong("arch", "does not go with `graph`, which says it itself"),
        (None, Some(_), None) => wrong("weights", "needs `arch`: which network they are for"),
    }
    let preprocess = &model.preprocess;
    if preprocess.scale <= 0.0 {
        wrong("preprocess.scale", "must be more than 0");
    }
    if preprocess.std.iter().any(|std| *std <= 0.0) {
        wrong("preprocess.std", "must be more than 0: it is divided by");
    }
}

/// Which outputs are which; found in the graph where not named.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outputs {
    /// Name of the logits.
    pub logits: Option<String>,
    /// Name of the embedding.
    pub embedding: Option<String>,
    /// What makes scores of logits; softmax where not given, unless the graph ends in one.
    pub activation: Option<Activation>,
}

/// What makes scores of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Scores that sum to 1.
    Softmax,
    /// A score for each class by itself.
    Sigmoid,
    /// The logits are the scores.
    None,
}
