//! A network laid open for `lakelens bench engine`: loaded as a worker loads it, with the time of each part of that; run at any batch; taken apart
//! by layers; and beside it the same graph on stock tract.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lakelens_engine::{Report, Segment};
use tract_onnx::prelude::{IntoTValue, TValue, TractResult, TypedModel};
use tract_onnx::tract_hir::internal::{TVec, TypedSimplePlan, TypedSimpleState, tvec};

use super::compile::{self, Compiled};
use super::engine::{WithEngine, options, with_engine};
use super::inspect::flops;
use super::load::{Opened, check_picture, open};
use crate::config::Precision;
use crate::{Error, Result};

/// Seconds from a file on disk to the first answer.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Loading {
    /// Reading the file, its digest, decoding the protobuf.
    pub read: f64,
    /// tract's graph of it.
    pub parse: f64,
    /// The engine's rewriting: packing of weights and self-test included.
    pub rewrite: f64,
    /// tract's optimiser on what is left, and its plan.
    pub optimise: f64,
    /// The first image.
    pub first_answer: f64,
}

impl Loading {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.read + self.parse + self.rewrite + self.optimise + self.first_answer
    }
}

/// A network that can be compiled for measuring.
pub struct Network {
    /// `name@sha256:` and twelve hex digits.
    pub id: String,
    /// Floating-point operations of an image: two for each multiply-add of convolutions and matrix products.
    pub flops: u64,
    /// Bytes of the graph and its external data.
    pub file_bytes: u64,
    /// Nodes of the graph that compute something of the picture.
    pub nodes: usize,
    opened: Opened,
    model: TypedModel,
}

/// A network compiled for one batch. Threads share it, each with a [`Turn`] of its own.
pub struct Runner {
    plan: Arc<TypedSimplePlan>,
    segments: Vec<Segment>,
    /// What the engine did; `None` where the network runs on tract alone.
    pub report: Option<Report>,
    /// Images of one call.
    pub batch: usize,
    inputs: TVec<TValue>,
}

/// A thread's state of a network.
pub struct Turn(TypedSimpleState, TVec<TValue>);

/// One layer on the engine, as measured.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LayerTime {
    /// Name of the first node in it.
    pub name: String,
    /// What it computes.
    pub kind: &'static str,
    /// Its shape and, of a convolution, its algorithm.
    pub shape: String,
    /// Microseconds for one image, the best of several runs.
    pub us: f64,
    /// Billions of floating-point operations of one image, by the count of the direct convolution.
    pub gflop: f64,
}

impl Network {
    /// Reads and compiles the model at `path` as a worker does, and measures that.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn load(path: &Path, precision: Precision) -> Result<(Self, Runner, Loading)> {
        options(precision)?;
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let mut opened = open(path)?;
        // A bare graph says what it takes; only a description can ask for another crop.
        if path.is_file()
            && let [Some(side), Some(_)] = compile::input(&opened.source)?.size
        {
            opened.file.preprocess.crop = u32::try_from(side).unwrap_or(u32::MAX);
        }
        let read = lap();
        let (crop, with_embedding) = (opened.file.preprocess.crop as usize, opened.heads.embedding.is_some());
        let Compiled { model, batch, .. } = compile::compile(&mut opened.source, &opened.heads, with_embedding, crop)?;
        let parse = lap();
        let id = format!("{}@sha256:{}", opened.file.name, super::digest::short(&opened.source.digest));
        let plain = model.clone();
        let WithEngine { model, report, .. } = with_engine(model, &id, precision)?;
        let rewrite = lap();
        let unusable = |e| Error::config(format_args!("{}: {e:#}", opened.source.path.display()));
        let runner = Runner::new(model, report, batch, &opened).map_err(unusable)?;
        let optimise = lap();
        runner.turn().and_then(|mut turn| turn.run()).map_err(unusable)?;
        let first_answer = lap();
        let flops = flops(&plain).map_err(unusable)? / batch.max(1) as u64;
        let nodes = computing(&plain).map_err(unusable)?;
        let network = Self { id, flops, file_bytes: opened.source.bytes, nodes, opened, model: plain };
        Ok((network, runner, Loading { read, parse, rewrite, optimise, first_answer }))
    }

    /// The network on the engine for calls of `batch` images; `None` where the graph does not take so many.
    ///
    /// # Errors
    /// [`Error::Config`] where this build, processor or model lacks the precision, [`Error::Failed`] where the engine fell back from it.
    pub fn engine(&self, precision: Precision, batch: usize) -> Result<Option<Runner>> {
        let crop = self.opened.file.preprocess.crop as usize;
        let Ok(model) = compile::typed(&self.opened.source, batch, crop) else { return Ok(None) };
        let with = with_engine(model, &self.id, precision)?;
        if with.precision != precision {
            let (path, name) = (self.opened.source.path.display(), precision.name());
            return Err(Error::failed(format_args!("{path}: it does not run in {name} (see the log), so there is nothing to measure")));
        }
        let runner = Runner::new(with.model, with.report, batch, &self.opened);
        // A batch that is built into a reshape is seen here or when the first call is run.
        Ok(runner.ok().filter(|runner| runner.turn().and_then(|mut turn| turn.run()).is_ok()))
    }

    /// Nodes that `runner` has on the engine, and nodes that it has on tract.
    pub fn nodes_of(&self, runner: &Runner) -> [usize; 2] {
        runner.report.as_ref().map_or([0, self.nodes], |report| [report.taken.len(), report.left.len()])
    }

    /// The file with the graph.
    pub fn graph(&self) -> &Path {
        &self.opened.source.path
    }

    /// Pixels across and down of the pictures that it takes.
    pub fn side(&self) -> usize {
        self.opened.file.preprocess.crop as usize
    }

    /// The network on stock tract, an image at a time, which is how tract is fastest.
    ///
    /// # Errors
    /// Where tract cannot run it.
    pub fn stock(&self) -> Result<Runner> {
        let unusable = |e| Error::config(format_args!("{}: {e:#}", self.opened.source.path.display()));
        Runner::new(self.model.clone(), None, 1, &self.opened).map_err(unusable)
    }
}

/// Nodes that are neither inputs nor follow from constants alone: those that the engine's report speaks of.
fn computing(model: &TypedModel) -> TractResult<usize> {
    let (mut constant, mut count) = (vec![false; model.nodes().len()], 0);
    for id in model.eval_order()? {
        let node = model.node(id);
        if model.inputs.iter().any(|input| input.node == id) {
            continue;
        }
        let follows = !node.inputs.is_empty() && node.inputs.iter().all(|input| constant[input.node]);
        constant[id] = follows || node.outputs.iter().all(|output| output.fact.konst.is_some());
        count += usize::from(!constant[id]);
    }
    Ok(count)
}

impl Runner {
    fn new(model: TypedModel, report: Option<Report>, batch: usize, opened: &Opened) -> TractResult<Self> {
        let segments = model.nodes().iter().filter_map(|n| n.op_as::<Segment>().cloned()).collect();
        let plan = TypedSimplePlan::new(model.into_optimized()?)?;
        let image = check_picture(&opened.file.preprocess);
        let (c, h, w) = image.dim();
        let values: Vec<f32> = std::iter::repeat_n(&image, batch).flatten().copied().collect();
        let input = tract_onnx::prelude::Tensor::from_shape(&[batch, c, h, w], &values)?;
        Ok(Self { plan, segments, report, batch, inputs: tvec!(input.into_tvalue()) })
    }

    /// State for one thread.
    ///
    /// # Errors
    /// Where tract cannot set it up.
    pub fn turn(&self) -> TractResult<Turn> {
        Ok(Turn(self.plan.spawn()?, self.inputs.clone()))
    }

    /// The time of each layer that runs on the engine, the best of `runs` runs over zeros.
    ///
    /// # Errors
    /// Where a segment cannot be run.
    pub fn layers(&self, runs: usize) -> TractResult<Vec<LayerTime>> {
        let mut all = Vec::new();
        for (nth, segment) in self.segments.iter().enumerate() {
            let infos = segment.plan().steps();
            let zeros = |&n: &usize| tract_onnx::prelude::Tensor::zero::<f32>(&[1, n]).map(IntoTValue::into_tvalue);
            let inputs: TVec<TValue> = segment.plan().input_lengths().iter().map(zeros).collect::<TractResult<_>>()?;
            let mut best = vec![f64::INFINITY; infos.len()];
            for _ in 0..runs.max(1) {
                // A layer may run in several pieces.
                let mut spent = vec![0.0; infos.len()];
                let mut last = Instant::now();
                segment.run(&inputs, &mut |at| {
                    let now = Instant::now();
                    spent[at] += (now - last).as_secs_f64();
                    last = Instant::now();
                })?;
                best.iter_mut().zip(spent).for_each(|(best, spent)| *best = best.min(spent));
            }
            let reports = self.report.as_ref().and_then(|r| r.segments.get(nth)).map_or(&[][..], |s| &s.layers[..]);
            for (info, seconds) in infos.iter().zip(best) {
                let report = reports.iter().find(|l| l.name == info.name && l.kind == info.kind);
                let shape = report.map_or_else(String::new, |l| {
                    let map = |[h, w, c]: [usize; 3]| format!("{h}x{w}x{c}");
                    let from = l.inputs.first().map_or_else(String::new, |&i| map(i));
                    let kernel = l.kernel.map_or_else(String::new, |[h, w]| format!(" {h}x{w}"));
                    let algorithm = l.algorithm.map_or_else(String::new, |a| format!(" {a:?}"));
                    format!("{from} -> {}{kernel}{algorithm}", map(l.output))
                });
                let gflop = info.flops as f64 / 1e9;
                all.push(LayerTime { name: info.name.clone(), kind: info.kind, shape, us: seconds * 1e6, gflop });
            }
        }
        Ok(all)
    }
}

impl Turn {
    /// One call, over [`Runner::batch`] images.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run(&mut self) -> TractResult<()> {
        self.0.run(self.1.clone()).map(drop)
    }
}
