//! What a model is made of, for a person.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use tract_onnx::pb::ValueInfoProto;
use tract_onnx::prelude::*;

use super::load::{LoadOptions, load, read, short};
use crate::config::{Output, Precision, Preprocess};
use crate::preprocess;
use crate::{Error, Result};

/// What `lakelens model inspect` shows.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// `name@sha256:...`.
    pub model: String,
    /// SHA-256 over graph and external data.
    pub digest: String,
    /// What decides whether embeddings can be compared, for the default output.
    pub space: String,
    /// Name of the input, and channels, height, width.
    pub input: (String, [usize; 3]),
    /// Name of the logits, and how many.
    pub logits: (String, usize),
    /// Name of the embedding, and its length.
    pub embedding: (String, usize),
    /// Nodes of the graph by kind.
    pub layers: BTreeMap<String, usize>,
    /// Weights.
    pub parameters: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Floating-point operations of one image: two for each multiply-add of convolutions and matrix products.
    pub flops: u64,
    /// Label names known.
    pub labels: usize,
    /// Preprocessing.
    pub preprocess: Preprocess,
    /// SHA-256 of the preprocessing.
    pub preprocess_digest: String,
}

/// Reads, loads and tries the model at `path`.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let mut files = read(path)?;
    let loaded = load(path, &LoadOptions::new(Precision::F32, &Output::default()))?;
    let graph = files.proto.graph.as_ref().ok_or_else(|| Error::config(format!("{} has no graph", path.display())))?;
    let mut layers = BTreeMap::new();
    for node in &graph.node {
        *layers.entry(node.op_type.clone()).or_default() += 1;
    }
    let parameters = graph.initializer.iter().map(|t| t.dims.iter().map(|d| d.unsigned_abs()).product::<u64>()).sum();
    let info = loaded.info();
    let flops = flops(&mut files, &loaded.anatomy, info.input).map_err(|e| Error::failed(format!("counting operations: {e:#}")))?;
    Ok(Inspection {
        model: info.id.to_string(),
        space: info.space.to_string(),
        input: (loaded.anatomy.input.clone(), info.input),
        logits: (loaded.anatomy.logits.clone(), info.classes),
        embedding: (loaded.anatomy.embedding.clone(), info.embedding_dim),
        layers,
        parameters,
        bytes: files.bytes,
        flops,
        labels: files.names.len(),
        preprocess_digest: preprocess::digest(&files.file.preprocess),
        preprocess: files.file.preprocess,
        digest: files.digest,
    })
}

/// Counts the multiply-adds of the network as tract understands it, before it is optimised for a machine.
fn flops(files: &mut super::Files, anatomy: &super::Anatomy, input: [usize; 3]) -> TractResult<u64> {
    if let Some(graph) = &mut files.proto.graph {
        graph.output = vec![ValueInfoProto { name: anatomy.logits.clone(), ..ValueInfoProto::default() }];
    }
    let folder = files.folder.to_str().unwrap_or(".");
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let fact = InferenceFact::dt_shape(f32::datum_type(), [1, input[0], input[1], input[2]]);
    let model = onnx.parse(&files.proto, Some(folder))?.model.with_input_fact(0, fact)?.into_typed()?.into_decluttered()?;
    let mut total = 0u64;
    for node in &model.nodes {
        let costs = {
            let inputs: TVec<&TypedFact> = model.node_input_facts(node.id)?;
            node.op.cost(&inputs)?
        };
        for (kind, count) in costs {
            if matches!(kind, tract_onnx::tract_core::internal::Cost::FMA(_)) {
                total += 2 * u64::try_from(count.to_i64()?).unwrap_or(0);
            }
        }
    }
    Ok(total)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [c, h, w] = self.input.1;
        writeln!(f, "model       {}", self.model)?;
        writeln!(f, "digest      sha256:{}", self.digest)?;
        writeln!(f, "space       {}", self.space)?;
        writeln!(f, "input       {} ({c} x {h} x {w})", self.input.0)?;
        writeln!(f, "logits      {} ({}), {} labels", self.logits.0, self.logits.1, self.labels)?;
        writeln!(f, "embedding   {} ({})", self.embedding.0, self.embedding.1)?;
        let layers: Vec<String> = self.layers.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        writeln!(f, "layers      {}", layers.join(", "))?;
        writeln!(f, "parameters  {:.2} million, {:.1} MB on disk", self.parameters as f64 / 1e6, self.bytes as f64 / 1e6)?;
        writeln!(f, "operations  {:.2} GFLOP an image (2 a multiply-add)", self.flops as f64 / 1e9)?;
        let p = &self.preprocess;
        writeln!(
            f,
            "preprocess  resize {} ({:?}, {:?}), crop {}, scale {}, mean {:?}, std {:?} (sha256:{})",
            p.resize,
            p.resize_mode,
            p.interpolation,
            p.crop,
            p.scale,
            p.mean,
            p.std,
            short(&self.preprocess_digest)
        )
    }
}
