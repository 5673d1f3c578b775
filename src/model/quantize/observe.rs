//! Running graphs on pictures: the float graph to see what values its tensors take, and candidates to see what they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::{IntoTValue, TValue, TractResult};
use tract_onnx::tract_hir::internal::{TVec, TypedSimplePlan, TypedSimpleState, tvec};

use super::super::compare::Pictures;
use super::super::heads::Heads;
use super::super::onnx::Source;
use super::super::tract::Raw;
use super::super::{Tensor, compile};
use super::range::Histogram;
use crate::parts::in_parts;
use crate::{Error, Result};

/// A graph on stock tract, with more outputs than logits and embedding.
pub(super) struct Runner {
    plan: Arc<TypedSimplePlan>,
    batch: usize,
    /// Where the tensors that were asked for begin among the outputs.
    first: usize,
}

impl Runner {
    /// Compiles `proto`, whose file lay where `like`'s does, to give `tensors` beside the logits and, if there is one, the embedding.
    pub fn new(proto: &ModelProto, like: &Source, heads: &Heads, crop: usize, tensors: &[String]) -> Result<Self> {
        let mut source = Source { proto: proto.clone(), path: like.path.clone(), digest: String::new(), bytes: 0 };
        let failed = |e| Error::failed(format_args!("{}: tract cannot run this graph: {e:#}", like.path.display()));
        let compiled = compile::compile(&mut source, heads, heads.embedding.is_some(), crop)?;
        let (mut model, batch) = (compiled.model, compiled.batch);
        let first = model.outputs.len();
        if !tensors.is_empty() {
            let value = |name: &String| ValueInfoProto { name: name.clone(), ..Default::default() };
            source.graph_mut().output.extend(tensors.iter().map(value));
            model = compile::typed(&source, batch, crop).map_err(failed)?;
        }
        let plan = model.into_optimized().and_then(TypedSimplePlan::new).map_err(failed)?;
        Ok(Self { plan, batch, first })
    }

    fn run(&self, state: &mut TypedSimpleState, picture: &Tensor) -> TractResult<TVec<TValue>> {
        let input = ndarray::stack(ndarray::Axis(0), &vec![picture.view(); self.batch])?;
        state.run(tvec!(tract_onnx::prelude::Tensor::from(input).into_tvalue()))
    }

    /// Runs `pictures` in eight parts, each in order, and gives `work` the outputs of each.
    fn over<T: Send>(
        &self,
        read: &Pictures<'_>,
        pictures: &[usize],
        start: impl Fn() -> T + Sync,
        work: impl Fn(&mut T, &[TValue]) -> TractResult<()> + Sync,
    ) -> Result<Vec<T>> {
        in_parts(pictures.len(), |part| {
            let failed = |e| Error::failed(format_args!("the network fails: {e:#}"));
            let (mut state, mut all) = (self.plan.spawn().map_err(failed)?, start());
            for &picture in &pictures[part] {
                let outputs = self.run(&mut state, &read(picture)?).map_err(failed)?;
                work(&mut all, &outputs).map_err(failed)?;
            }
            Ok(all)
        })
    }

    /// Logits and embedding of each picture.
    pub fn answers(&self, read: &Pictures<'_>, pictures: &[usize]) -> Result<Vec<Raw>> {
        let parts = self.over(read, pictures, Vec::new, |all, outputs| {
            let mut values = outputs.iter().take(self.first).map(floats);
            all.push(Raw {
                logits: values.next().transpose()?.unwrap_or_default(),
                embedding: values.next().transpose()?.unwrap_or_default(),
            });
            Ok(())
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// The range of each of `tensors`, its shape and the mean of each of its channels.
    pub fn ranges(&self, read: &Pictures<'_>, pictures: &[usize], tensors: &[String]) -> Result<BTreeMap<String, Seen>> {
        let parts = self.over(
            read,
            pictures,
            || vec![Seen::default(); tensors.len()],
            |all, outputs| {
                for (seen, output) in all.iter_mut().zip(&outputs[self.first..]) {
                    seen.add(output.shape(), &floats(output)?);
                }
                Ok(())
            },
        )?;
        let mut whole = vec![Seen::default(); tensors.len()];
        for part in parts {
            whole.iter_mut().zip(part).for_each(|(a, b)| a.merge(b));
        }
        let seen = tensors.iter().cloned().zip(whole).collect::<BTreeMap<_, _>>();
        match seen.iter().find(|(_, s)| !s.low.is_finite() || !s.high.is_finite()) {
            Some((name, _)) => Err(Error::failed(format_args!(
                "the tensor {name:?} takes values that are not finite on these pictures; such a network cannot be quantised"
            ))),
            None => Ok(seen),
        }
    }

    /// How the values of each of `tensors` are spread over the range that was seen.
    pub fn histograms(
        &self,
        read: &Pictures<'_>,
        pictures: &[usize],
        seen: &BTreeMap<String, Seen>,
    ) -> Result<BTreeMap<String, Histogram>> {
        let empty = || seen.values().map(|s| Histogram::new(s.low, s.high)).collect::<Vec<_>>();
        let parts = self.over(read, pictures, empty, |all, outputs| {
            for (histogram, output) in all.iter_mut().zip(&outputs[self.first..]) {
                histogram.add(floats(output)?.into_iter());
            }
            Ok(())
        })?;
        let mut whole = empty();
        for part in parts {
            whole.iter_mut().zip(&part).for_each(|(a, b)| a.merge(b));
        }
        Ok(seen.keys().cloned().zip(whole).collect())
    }
}

fn floats(value: &TValue) -> TractResult<Vec<f32>> {
    let value = value.cast_to::<f32>()?;
    Ok(value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// What was seen of a tensor.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Least value, or 0.
    pub low: f32,
    /// Largest value, or 0.
    pub high: f32,
    /// Sizes, of one picture or of as many as the graph insists on.
    pub shape: Vec<usize>,
    sums: Vec<f64>,
    count: usize,
}

impl Seen {
    fn add(&mut self, shape: &[usize], values: &[f32]) {
        // Channels stand second, or last where nothing is left of the picture's plane.
        let channels = shape.get(1).copied().unwrap_or(1).max(1);
        let inner = shape.iter().skip(2).product::<usize>().max(1);
        self.shape = shape.to_vec();
        self.sums.resize(channels, 0.0);
        for (at, plane) in values.chunks_exact(inner).enumerate() {
            self.sums[at % channels] += plane.iter().map(|&v| f64::from(v)).sum::<f64>();
            for &v in plane {
                // Comparisons that NaN passes through, so that it is seen.
                self.low = if v >= self.low { self.low } else { v };
                self.high = if v <= self.high { self.high } else { v };
            }
        }
        self.count += values.len() / channels;
    }

    fn merge(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        self.low = if other.low >= self.low { self.low } else { other.low };
        self.high = if other.high <= self.high { self.high } else { other.high };
        self.sums.resize(other.sums.len(), 0.0);
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.shape = other.shape;
        self.count += other.count;
    }

    /// Mean of each channel.
    pub fn means(&self) -> Vec<f32> {
        self.sums.iter().map(|s| (s / self.count.max(1) as f64) as f32).collect()
    }
}
