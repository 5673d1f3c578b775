//! What `lakelens model inspect` shows.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tract_onnx::pb::{NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::TypedModel;
use tract_onnx::tract_hir::internal::{Cost, TractResult};

use super::load::{LoadOptions, Opened, open};
use super::{compile, digest};
use crate::config::{Outputs, Preprocess};
use crate::error::panic_text;
use crate::{Error, Result};

/// A model, described. Nothing is run.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The graph's file.
    pub graph: PathBuf,
    /// `name@sha256:` and twelve hex digits.
    pub id: String,
    /// `sha256:` and 64 hex digits over graph and external data.
    pub digest: String,
    /// The hash of the embedding space in f32 without normalisation.
    pub space: String,
    /// How pixels become the input.
    pub preprocess: Preprocess,
    /// `sha256:` and twelve hex digits over the preprocessing.
    pub preprocess_digest: String,
    /// Inputs as the file declares them.
    pub inputs: Vec<Value>,
    /// Outputs as the file declares them.
    pub outputs: Vec<Value>,
    /// Which tensors are used, and what makes scores of the logits.
    pub used: Outputs,
    /// Number of logits.
    pub classes: usize,
    /// Length of the embedding; 0 where none was found.
    pub embedding_dim: usize,
    /// Number of label names, if there are any.
    pub labels: Option<usize>,
    /// Version of the standard ONNX operator set.
    pub opset: i64,
    /// Nodes by operator.
    pub layers: BTreeMap<String, usize>,
    /// Weights that training sets (neither what batch normalisation counts along nor scales of quantised values are among them).
    pub parameters: u64,
    /// Those of them that are stored as integers, each a step of a scale.
    pub quantized: u64,
    /// Bytes of graph and external data on disk.
    pub bytes: u64,
    /// Floating point operations an image: twice the multiply-adds of convolutions and matrix products, convolutions counted as direct ones.
    pub flops: u64,
}

/// An input or output.
#[derive(Debug, Clone, Serialize)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Element type, as ONNX names it.
    pub dtype: String,
    /// Sizes; a name for one that is symbolic, `?` for one that is unknown.
    pub shape: Vec<String>,
}

/// Describes the model at `path`, a folder with `model.yaml` or an `.onnx` file.
///
/// # Errors
/// As [`super::load`], but for what only running it shows.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let mut found = open(path)?;
    let described = catch_unwind(AssertUnwindSafe(|| describe(&mut found)));
    described.unwrap_or_else(|p| Err(Error::config(format_args!("{}: tract panicked: {}", path.display(), panic_text(&*p)))))
}

fn describe(found: &mut Opened) -> Result<Inspection> {
    let (inputs, outputs) =
        (found.source.inputs().into_iter().map(value).collect(), found.source.graph().output.iter().map(value).collect());
    let (layers, [floats, quantized]) = (layers(found), parameters(found));
    let opset = found.source.proto.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx").map_or(0, |o| o.version);
    let (crop, with_embedding) = (found.file.preprocess.crop as usize, found.heads.embedding.is_some());
    let compiled = compile::compile(&mut found.source, &found.heads, with_embedding, crop)?;
    let failed = |e| Error::config(format_args!("{}: {e:#}", found.source.path.display()));
    let flops = flops(&compiled.model).map_err(failed)? / compiled.batch as u64;
    let info = found.info(&compiled, &LoadOptions::default());
    Ok(Inspection {
        graph: found.source.path.clone(),
        id: info.id.to_string(),
        digest: format!("sha256:{}", found.source.digest),
        space: info.space.to_string(),
        preprocess_digest: digest::preprocess_digest(&found.file.preprocess, false),
        preprocess: found.file.preprocess.clone(),
        inputs,
        outputs,
        used: found.file.outputs.clone(),
        classes: compiled.classes,
        embedding_dim: compiled.embedding_dim,
        labels: found.labels.as_ref().map(|(_, names)| names.len()),
        opset,
        layers,
        parameters: floats.saturating_add(quantized),
        quantized,
        bytes: found.source.bytes,
        flops,
    })
}

fn layers(found: &Opened) -> BTreeMap<String, usize> {
    found.source.graph().node.iter().fold(BTreeMap::new(), |mut kinds, node| {
        *kinds.entry(node.op_type.clone()).or_default() += 1;
        kinds
    })
}

/// How many are stored as floats, and how many as integers.
fn parameters(found: &Opened) -> [u64; 2] {
    let graph = found.source.graph();
    // The mean and variance of a normalisation, the scale and zero point of a quantised tensor.
    let of = |node: &NodeProto| match node.op_type.as_str() {
        "BatchNormalization" => 3,
        "QuantizeLinear" | "DequantizeLinear" => 1,
        _ => usize::MAX,
    };
    let set_by_no_training: HashSet<&str> = graph.node.iter().flat_map(|n| n.input.iter().skip(of(n))).map(String::as_str).collect();
    let stored = graph.node.iter().filter(|n| n.op_type == "DequantizeLinear").filter_map(|n| n.input.first());
    let stored: HashSet<&str> = stored.map(String::as_str).collect();
    let float = [DataType::Float, DataType::Float16, DataType::Double, DataType::Bfloat16].map(|t| t as i32);
    let size = |t: &TensorProto| t.dims.iter().fold(1u64, |n, &d| n.saturating_mul(u64::try_from(d).unwrap_or(0)));
    let count = |which: &dyn Fn(&TensorProto) -> bool| {
        let weights = graph.initializer.iter().filter(|t| !set_by_no_training.contains(t.name.as_str()) && which(t));
        weights.map(size).fold(0, u64::saturating_add)
    };
    [count(&|t| float.contains(&t.data_type)), count(&|t| !float.contains(&t.data_type) && stored.contains(t.name.as_str()))]
}

/// Floating-point operations of the convolutions and matrix products, two for each multiply-add.
pub(super) fn flops(model: &TypedModel) -> TractResult<u64> {
    let mut total = 0;
    for node in model.nodes().iter().filter(|n| matches!(&*n.op.name(), "Conv" | "EinSum")) {
        let facts = model.node_input_facts(node.id)?;
        for (cost, count) in node.op.cost(&facts)? {
            if matches!(cost, Cost::FMA(_)) {
                total += 2 * u64::try_from(count.to_i64()?)?;
            }
        }
    }
    Ok(total)
}

fn value(value: &ValueInfoProto) -> Value {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Value { name: value.name.clone(), dtype: "?".into(), shape: vec![] };
    };
    let size = |d: &tract_onnx::pb::tensor_shape_proto::Dimension| match &d.value {
        Some(dimension::Value::DimValue(n)) => n.to_string(),
        Some(dimension::Value::DimParam(s)) => s.clone(),
        None => "?".into(),
    };
    Value {
        name: value.name.clone(),
        dtype: DataType::try_from(tensor.elem_type).map_or("?".into(), |t| t.as_str_name().to_ascii_lowercase()),
        shape: tensor.shape.iter().flat_map(|s| &s.dim).map(size).collect(),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from the file: control characters must not reach a terminal.
        write!(f, "{} {} [{}]", self.name.escape_debug(), self.dtype, self.shape.join(", ").escape_debug())
    }
}

/// Four digits and a decimal prefix, with a space before it.
fn short(n: u64) -> String {
    let mut value = n as f64;
    for prefix in ["", "k", "M", "G"] {
        if value < 999.95 {
            let decimals = if prefix.is_empty() { 0 } else { usize::from(value < 999.5) + usize::from(value < 99.95) };
            return format!("{value:.decimals$} {prefix}");
        }
        value /= 1000.0;
    }
    format!("{value:.2} T")
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |n: &Option<String>| n.as_deref().map_or("none found".to_owned(), |n| n.escape_debug().to_string());
        let p = &self.preprocess;
        writeln!(f, "model       {}", self.id)?;
        writeln!(f, "graph       {} ({}B, ONNX operator set {})", self.graph.display(), short(self.bytes), self.opset)?;
        writeln!(f, "digest      {}", self.digest)?;
        writeln!(f, "space       {} (f32, not normalised)", self.space)?;
        self.inputs.iter().try_for_each(|i| writeln!(f, "input       {i}"))?;
        self.outputs.iter().try_for_each(|o| writeln!(f, "output      {o}"))?;
        writeln!(f, "logits      {}: {} classes", name(&self.used.logits), self.classes)?;
        writeln!(f, "embedding   {}: {} values", name(&self.used.embedding), self.embedding_dim)?;
        let activation = self.used.activation.and_then(|a| serde_json::to_value(a).ok()).unwrap_or_default();
        writeln!(f, "activation  {}", activation.as_str().unwrap_or("none"))?;
        match self.labels {
            None => writeln!(f, "labels      none: the index stands for the name")?,
            Some(n) if n == self.classes => writeln!(f, "labels      {n}")?,
            Some(n) => writeln!(f, "labels      {n}, which do not fit the {} classes: the model cannot be used like this", self.classes)?,
        }
        let text = serde_json::to_string(p).map_err(|_| fmt::Error)?;
        writeln!(f, "preprocess  {} {text}", self.preprocess_digest)?;
        writeln!(f, "parameters  {}", short(self.parameters))?;
        if self.quantized > 0 {
            // Where activations are not rounded, bytes are only how the weights are kept.
            let how = if self.layers.contains_key("QuantizeLinear") {
                "run it with --precision int8 where the processor has that"
            } else {
                "they are stored in bytes, and computed with in floats"
            };
            writeln!(f, "quantised   {} of them: {how}", short(self.quantized).trim_end())?;
        }
        writeln!(f, "work        {}FLOP an image", short(self.flops))?;
        let layers: Vec<String> = self.layers.iter().map(|(kind, n)| format!("{n} {}", kind.escape_debug())).collect();
        writeln!(f, "layers      {}", layers.join(", "))
    }
}
