//! The [`Model`] on tract, which runs the engine's operators where they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Axis;
use tract_onnx::prelude::{IntoTValue, TractResult};
use tract_onnx::tract_hir::internal::{TypedSimplePlan, TypedSimpleState, tvec};

use super::compile::Compiled;
use super::{Model, ModelInfo, Prediction, Tensor, scores};
use crate::config::{Activation, Normalize};
use crate::error::panic_text;
use crate::flow::{Reason, Rejection, Stage};

/// What is made of the two outputs.
#[derive(Debug, Clone)]
pub(super) struct Finish {
    /// What makes scores of logits.
    pub activation: Activation,
    /// Scaling of the embedding.
    pub normalize: Normalize,
    /// Labels an image.
    pub top_k: usize,
    /// Labels below it are left out.
    pub min_score: f32,
    /// Names of the classes, as many as there are logits.
    pub labels: Arc<[Arc<str>]>,
}

/// A compiled network. Images run one by one: stock tract is slower with several in one call, and one by one no image can touch another's result.
pub(super) struct TractModel {
    info: ModelInfo,
    plan: Arc<TypedSimplePlan>,
    batch: usize,
    finish: Finish,
    /// States that no thread is using. There are never more than threads that predicted at the same time.
    idle: Mutex<Vec<TypedSimpleState>>,
}

/// Logits and embedding of one image, as the graph gives them.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub logits: Vec<f32>,
    pub embedding: Vec<f32>,
}

impl TractModel {
    /// Optimises what is tract's of the graph and lays out how it runs.
    pub fn new(compiled: Compiled, info: ModelInfo, finish: Finish) -> TractResult<Self> {
        let plan = TypedSimplePlan::new(compiled.model.into_optimized()?)?;
        Ok(Self { info, plan, batch: compiled.batch, finish, idle: Mutex::default() })
    }

    /// Names of the classes, as many as there are logits.
    pub fn labels(&self) -> Arc<[Arc<str>]> {
        self.finish.labels.clone()
    }

    /// One forward pass. A panic of tract is an error like any other, and the state that it happened in is thrown away.
    pub fn forward(&self, image: &Tensor) -> Result<Raw, String> {
        if image.shape() != self.info.input {
            return Err(format!("the network takes {:?} values, the picture has {:?}", self.info.input, image.shape()));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let run = AssertUnwindSafe(|| -> TractResult<(Raw, TypedSimpleState)> {
            let mut state = idle.map_or_else(|| self.plan.spawn(), Ok)?;
            // A graph made for several images gets this one several times.
            let input = ndarray::stack(Axis(0), &vec![image.view(); self.batch])?;
            let outputs = state.run(tvec!(tract_onnx::prelude::Tensor::from(input).into_tvalue()))?;
            let first = |slot: usize, length: usize| -> TractResult<Vec<f32>> {
                let Some(output) = outputs.get(slot).filter(|_| length > 0) else { return Ok(vec![]) };
                let output = output.cast_to::<f32>()?;
                Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.iter().copied().take(length).collect())
            };
            let raw = Raw { logits: first(0, self.info.classes)?, embedding: first(1, self.info.embedding_dim)? };
            Ok((raw, state))
        });
        match catch_unwind(run) {
            Ok(Ok((raw, state))) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(state);
                Ok(raw)
            }
            Ok(Err(e)) => Err(format!("the network failed: {e:#}")),
            Err(panic) => Err(format!("the network panicked: {}", panic_text(&*panic))),
        }
    }

    /// Forward pass, checks, scores.
    pub fn predict_one(&self, image: &Tensor) -> Result<Prediction, String> {
        let Raw { mut logits, mut embedding } = self.forward(image)?;
        for (what, values, length) in [("logit", &logits, self.info.classes), ("embedding value", &embedding, self.info.embedding_dim)] {
            if values.len() != length {
                return Err(format!("the network gave {} values where {length} were due", values.len()));
            }
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(format!("{what} {at} is {}", values[at]));
            }
        }
        let finish = &self.finish;
        scores::activate(&mut logits, finish.activation);
        if finish.normalize == Normalize::L2 {
            scores::normalize_l2(&mut embedding);
        }
        Ok(Prediction { labels: scores::top_k(&logits, finish.top_k, finish.min_score, &finish.labels), embedding })
    }
}

impl Model for TractModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn predict(&self, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>> {
        let rejected = |detail: String| Rejection::new(Stage::Infer, Reason::ModelFailed, detail);
        batch.iter().map(|image| self.predict_one(image).map_err(rejected)).collect()
    }
}
