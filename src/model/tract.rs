//! The tract implementation. Stock tract is at its best on single images, so a micro-batch runs as single images one after the other; the worker's
//! threads run theirs side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::*;

use super::graph::Anatomy;
use super::scores::{activate, l2_normalize, top_k};
use super::{LoadOptions, Model, ModelInfo, Prediction, Tensor};
use crate::config::{Activation, Normalize};
use crate::flow::{Reason, Rejection, Stage};
use crate::{Error, Result};

/// A network that is ready to run.
pub struct TractModel {
    plan: Arc<TypedRunnableModel>,
    info: ModelInfo,
    names: Vec<Arc<str>>,
    activation: Activation,
    options: LoadOptions,
}

/// Turns the graph into a plan for one image of `input` (channels, height, width), with two outputs: logits and embedding.
pub fn plan(mut proto: ModelProto, folder: &Path, anatomy: &Anatomy, input: [usize; 3]) -> Result<Arc<TypedRunnableModel>> {
    let graph = proto.graph.as_mut().ok_or_else(|| Error::config("the model file has no graph"))?;
    // Any tensor of the graph can be an output: the embedding comes out of the same pass as the logits.
    graph.output = [&anatomy.logits, &anatomy.embedding]
        .map(|name| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() })
        .to_vec();
    let fact = InferenceFact::dt_shape(f32::datum_type(), [1, input[0], input[1], input[2]]);
    let compile = || -> TractResult<Arc<TypedRunnableModel>> {
        // Shapes written into the file may fix another batch size.
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let folder = folder.to_str().ok_or_else(|| TractError::msg("the folder's name is not UTF-8"))?;
        onnx.parse(&proto, Some(folder))?.model.with_input_fact(0, fact)?.into_optimized()?.into_runnable()
    };
    compile().map_err(|e| Error::config(format!("tract cannot run this graph: {e:#}")))
}

impl TractModel {
    /// A model of `plan`; `names` may be empty.
    pub fn new(
        plan: Arc<TypedRunnableModel>,
        info: ModelInfo,
        names: Vec<Arc<str>>,
        activation: Activation,
        options: LoadOptions,
    ) -> Self {
        Self { plan, info, names, activation, options }
    }

    fn one(&self, image: &Tensor) -> Result<Prediction, Rejection> {
        let (mut logits, mut embedding) = run(&self.plan, image).map_err(failed)?;
        if logits.len() != self.info.classes || embedding.len() != self.info.embedding_dim {
            return Err(failed(format!("the model gave {} logits and an embedding of {}", logits.len(), embedding.len())));
        }
        for (what, values) in [("logit", &logits), ("embedding value", &embedding)] {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(failed(format!("{what} {at} is {}", values[at])));
            }
        }
        activate(&mut logits, self.activation);
        if self.options.normalize == Normalize::L2 {
            l2_normalize(&mut embedding);
        }
        let labels = top_k(&logits, self.options.top_k, self.options.min_score, &self.names);
        Ok(Prediction { labels, embedding })
    }
}

fn failed(detail: impl Into<String>) -> Rejection {
    Rejection::new(Stage::Infer, Reason::ModelFailed, detail.into())
}

/// Runs one image: logits, and the embedding (a map that is left of it is averaged over its places, as global pooling does).
pub fn run(plan: &Arc<TypedRunnableModel>, image: &Tensor) -> Result<(Vec<f32>, Vec<f32>), String> {
    let [c, h, w] = image.shape;
    let call = || -> TractResult<(Vec<f32>, Vec<f32>)> {
        let input = tract_onnx::prelude::Tensor::from_shape(&[1, c, h, w], &image.values)?;
        let outputs = plan.run(tvec!(input.into()))?;
        let flat = |n: usize| -> TractResult<Vec<f32>> {
            let value = outputs[n].cast_to::<f32>()?;
            let values = value.to_plain_array_view::<f32>()?;
            Ok(match *values.shape() {
                [1, channels, height, width] if height * width > 1 => {
                    let all: Vec<f32> = values.iter().copied().collect();
                    all.chunks_exact(height * width).take(channels).map(|map| map.iter().sum::<f32>() / map.len() as f32).collect()
                }
                _ => values.iter().copied().collect(),
            })
        };
        Ok((flat(0)?, flat(1)?))
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| format!("{e:#}")),
        Err(_) => Err("the network panicked on this image".into()),
    }
}

impl Model for TractModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn predict(&self, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>> {
        batch.iter().map(|image| self.one(image)).collect()
    }
}
