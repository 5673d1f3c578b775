//! The operator that tract sees.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tract_core::internal::*;

use crate::plan::{Buffers, Plan};

/// A part of a network, run by the engine. Clones share weights and memory.
#[derive(Clone)]
pub struct Segment {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    plan: Plan,
    /// For each of tract's outputs, the plan's and the shape without the batch.
    outputs: Vec<(usize, TVec<usize>)>,
    /// Images that go through the layers together.
    together: usize,
    /// Memory that no thread is using. There is never more of it than threads that ran at the same time.
    idle: Mutex<Vec<Buffers>>,
}

impl Segment {
    pub(crate) fn new(name: String, plan: Plan, outputs: Vec<(usize, TVec<usize>)>, together: usize) -> Self {
        Self { inner: Arc::new(Inner { name, plan, outputs, together: together.max(1), idle: Mutex::default() }) }
    }

    /// What it runs.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// Runs on tensors of any batch, telling `done` the number of each step as it ends.
    ///
    /// # Errors
    /// Where the tensors are not the ones that the graph promised.
    pub fn run(&self, inputs: &[TValue], done: &mut dyn FnMut(usize)) -> TractResult<TVec<TValue>> {
        let Inner { name, plan, together, .. } = &*self.inner;
        let images = inputs.first().and_then(|i| i.shape().first().copied()).unwrap_or(0);
        ensure!(inputs.len() == plan.inputs.len(), "{name}: {} inputs where {} are due", inputs.len(), plan.inputs.len());
        let views: Vec<_> = inputs.iter().map(|i| i.try_as_plain_ram()).collect::<TractResult<_>>()?;
        let views: Vec<&[f32]> = views.iter().map(|v| v.as_slice::<f32>()).collect::<TractResult<_>>()?;
        for (view, (each, input)) in views.iter().zip(plan.inputs.iter().zip(inputs)) {
            ensure!(
                view.len() == each * images,
                "{name}: an input of shape {:?} where {images} images of {each} values are due",
                input.shape()
            );
        }
        let mut results: Vec<Tensor> = plan.outputs.iter().map(|each| Tensor::zero::<f32>(&[images * each])).collect::<TractResult<_>>()?;
        let mut buffers = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        {
            let mut views_out: Vec<_> = results.iter_mut().map(|t| t.try_as_plain_ram_mut()).collect::<TractResult<_>>()?;
            let mut slices: Vec<&mut [f32]> = views_out.iter_mut().map(|v| v.as_slice_mut::<f32>()).collect::<TractResult<_>>()?;
            let mut first = 0;
            while first < images {
                let now = (*together).min(images - first);
                let ins: Vec<&[f32]> = views.iter().zip(&plan.inputs).map(|(v, e)| &v[first * e..(first + now) * e]).collect();
                let outs = slices.iter_mut().zip(&plan.outputs);
                let mut outs: Vec<&mut [f32]> = outs.map(|(v, e)| &mut v[first * e..(first + now) * e]).collect();
                plan.run_watched(now, &ins, &mut outs, &mut buffers, done);
                first += now;
            }
        }
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        let outputs = &self.inner.outputs;
        let mut shaped = |at: usize| -> TractResult<TValue> {
            let (place, tail) = &outputs[at];
            let mut shape = tvec!(images);
            shape.extend_from_slice(tail);
            let again = outputs[at + 1..].iter().any(|(p, _)| p == place);
            let result = if again { results[*place].clone() } else { std::mem::take(&mut results[*place]) };
            Ok(result.into_shape(&shape)?.into_tvalue())
        };
        (0..outputs.len()).map(&mut shaped).collect()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("name", &self.inner.name).field("steps", &self.inner.plan.steps().len()).finish_non_exhaustive()
    }
}

/// Segments are equal if they are one.
impl PartialEq for Segment {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Segment {}

impl Op for Segment {
    fn name(&self) -> StaticName {
        "lakelens.Segment".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let plan = &self.inner.plan;
        Ok(vec![format!("{} steps, {} FLOP an image", plan.steps().len(), plan.flops())])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Segment {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.run(&inputs, &mut |_| ())
    }
}

impl TypedOp for Segment {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let batch = inputs.first().and_then(|f| f.shape.first()).context("a segment without input")?;
        let fact = |(_, tail): &(usize, TVec<usize>)| {
            let shape: TVec<TDim> = std::iter::once(batch.clone()).chain(tail.iter().map(|d| d.to_dim())).collect();
            f32::fact(shape)
        };
        Ok(self.inner.outputs.iter().map(fact).collect())
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let batch = inputs.first().and_then(|f| f.shape.first()).context("a segment without input")?;
        Ok(tvec!((Cost::FMA(f32::datum_type()), batch.clone() * (self.inner.plan.flops() / 2))))
    }

    as_op!();
}
