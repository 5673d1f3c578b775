//! `lakelens model quantize`: a model in 8-bit integers, from the model in floats and pictures like those that it will see.

mod choose;
mod folder;
mod graph;
mod layers;
mod observe;
mod qdq;
mod range;
mod weights;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Serialize;
use tract_onnx::pb::ModelProto;

use self::layers::{Layer, Scale};
use self::observe::{Runner, Seen};
use self::range::Grid;
use super::compare::{Answer, Bar, Comparison, Pictures, compare, load_to_compare};
use super::heads::Heads;
use super::load::open;
use super::new_folder::NewFolder;
use super::onnx::Source;
use super::tract::Raw;
use super::{engine, scores};
use crate::config::{Activation, Precision};
use crate::{Error, Result};

/// What pictures are used for, by their numbers.
#[derive(Debug, Clone)]
pub struct Share {
    /// To find ranges and to choose layers.
    pub calibration: Vec<usize>,
    /// To see what came of it: these have no part in any choice.
    pub check: Vec<usize>,
}

/// A layer that was left in floats.
#[derive(Debug, Clone, Serialize)]
pub struct FloatLayer {
    #[serde(skip)]
    index: usize,
    /// Its name in the graph.
    pub name: String,
    /// Floating point operations an image.
    pub flops: u64,
    /// What was lost by quantising it alone: one less the mean cosine of the embedding or of the logits, whichever lost more.
    pub loss: f64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Quantized {
    /// Pictures that ranges come from.
    pub calibration: usize,
    /// Layers in integers.
    pub layers: usize,
    /// Layers left in floats.
    pub float: Vec<FloatLayer>,
    /// Share of the floating point operations that are done in integers.
    pub flops_in_integers: f64,
    /// On pictures that had no part in it, beside the model in f32.
    pub comparison: Comparison,
    /// What the quantised model was run with for that.
    pub precision: String,
    /// Bytes of the graph before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

/// All that candidates are made of.
struct Work<'a> {
    source: Source,
    heads: Heads,
    activation: Activation,
    crop: usize,
    layers: Vec<Layer>,
    seen: BTreeMap<String, Seen>,
    grids: BTreeMap<String, Grid>,
    read: &'a Pictures<'a>,
}

impl Work<'_> {
    /// The graph with all layers in integers but those in `float`.
    fn candidate(&self, float: &HashSet<usize>) -> ModelProto {
        let graph = self.source.graph();
        let rounded = layers::rounded(graph, &self.layers, float);
        let quantised = self.layers.iter().enumerate().filter(|(i, _)| !float.contains(i)).map(|(_, layer)| {
            let (input, seen) = (self.grid(&layer.input, &rounded), &self.seen[&layer.input]);
            let mut integers = weights::round(layer, input, None);
            // Of three axes it is not known which one has the channels.
            if seen.shape.len() != 3 {
                let shift = weights::mean_shift(layer, &integers, &seen.means());
                integers = weights::round(layer, input, Some(&shift));
            }
            qdq::Quantised { layer, integers, input }
        });
        let quantised: Vec<_> = quantised.collect();
        ModelProto { graph: Some(qdq::write(graph, &rounded, &self.grids, &quantised)), ..self.source.proto.clone() }
    }

    /// The grid of a rounded tensor, which may be that of another.
    fn grid(&self, tensor: &str, rounded: &BTreeMap<String, Scale>) -> Grid {
        let mut of = tensor;
        while let Some(Scale::As(other)) = rounded.get(of) {
            of = other;
        }
        self.grids[of]
    }

    /// What a graph gives: logits and embedding of each picture.
    fn run(&self, proto: &ModelProto, pictures: &[usize]) -> Result<Vec<Raw>> {
        Runner::new(proto, &self.source, &self.heads, self.crop, &[])?.answers(self.read, pictures)
    }

    /// What that says.
    fn answers(&self, given: &[Raw]) -> Vec<Answer> {
        let answer = |raw: &Raw| {
            let mut scores = raw.logits.clone();
            scores::activate(&mut scores, self.activation);
            let best = scores::top_k(&scores, 2, f32::NEG_INFINITY, &[]);
            let score = |nth: usize| best.get(nth).map_or(0.0, |l| l.score);
            Answer { best: best.first().map_or(0, |l| l.index), margin: score(0) - score(1), embedding: raw.embedding.clone() }
        };
        given.iter().map(answer).collect()
    }

    /// Floating point operations of a layer for one image: two for each weight and position that it is applied at.
    fn flops(&self, layer: &Layer) -> u64 {
        let shape = self.seen.get(&layer.output).map_or(&[][..], |s| &s.shape);
        2 * (layer.values.len() * shape.iter().skip(2).product::<usize>().max(1)) as u64
    }
}

/// Writes the model at `path` in integers to the folder `out`, if it reaches `bar` on the pictures held back.
///
/// # Errors
/// [`Error::Config`] if the model cannot be read or has nothing to quantise; [`Error::Failed`] if it stays below the bar, in which case nothing is
/// written, or if a picture cannot be read or the folder not be written.
pub fn quantize(path: &Path, out: &Path, (read, share): (&Pictures<'_>, &Share), bar: &Bar, force: bool) -> Result<Quantized> {
    let beside = NewFolder::new(out, force, path)?;
    let opened = open(path)?;
    let (mut source, heads, crop) = (opened.source, opened.heads, opened.file.preprocess.crop as usize);
    graph::normalise(&mut source, crop)?;
    let layers = layers::layers(source.graph());
    if layers.is_empty() {
        return Err(Error::config(format_args!("{}: no convolution or matrix product with constant weights", source.path.display())));
    }
    let rounded = layers::rounded(source.graph(), &layers, &HashSet::new());
    let mut tensors: Vec<String> = rounded.keys().cloned().collect();
    tensors.extend(layers.iter().map(|l| l.output.clone()));
    tensors.sort();
    tensors.dedup();
    let runner = Runner::new(&source.proto, &source, &heads, crop, &tensors)?;
    let seen = runner.ranges(read, &share.calibration, &tensors)?;
    let histograms = runner.histograms(read, &share.calibration, &seen)?;
    let grids = histograms.iter().map(|(name, h)| (name.clone(), h.grid())).collect();
    let activation = opened.file.outputs.activation.unwrap_or(Activation::Softmax);
    let due = runner.answers(read, &share.calibration)?;
    drop(runner);
    let work = Work { source, heads, activation, crop, layers, seen, grids, read };
    let chosen = choose::choose(&work, &due, &share.calibration, bar)?;
    let bytes_after = folder::write(&beside, path, &work.source, &chosen.proto)?;
    // On the engine where it has integers, else in floats on tract: the same but for rounding, and slower.
    let precision = if engine::options(Precision::Int8).is_ok() { Precision::Int8 } else { Precision::F32 };
    let (before, after) = (load_to_compare(path, Precision::F32)?, load_to_compare(beside.path(), precision)?);
    let comparison = compare((&before, read), (&after, read), &share.check)?;
    let all: u64 = work.layers.iter().map(|l| work.flops(l)).sum();
    let left: u64 = chosen.float.iter().map(|l| l.flops).sum();
    let done = Quantized {
        calibration: share.calibration.len(),
        layers: work.layers.len() - chosen.float.len(),
        float: chosen.float,
        flops_in_integers: 1.0 - left as f64 / all.max(1) as f64,
        precision: after.info().precision.to_string(),
        bytes_before: work.source.bytes,
        bytes_after,
        comparison,
    };
    if !done.comparison.reaches(bar) {
        let short = done.comparison.short_of(bar);
        return Err(Error::failed(format_args!(
            "the quantised model falls short on the pictures held back ({}): {short}; nothing was written. Give more pictures, and more like those that the \
             model will see, or ask for less",
            done.comparison.pictures
        )));
    }
    beside.keep(path)?;
    Ok(done)
}

impl std::fmt::Display for Quantized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.comparison)?;
        writeln!(
            f,
            "layers      {} in integers, {} in floats; {:.1}% of the operations in integers",
            self.layers,
            self.float.len(),
            100.0 * self.flops_in_integers
        )?;
        for layer in &self.float {
            writeln!(
                f,
                "  in floats {} ({:.1} MFLOP): quantised alone it costs a cosine of {:.5}",
                layer.name,
                layer.flops as f64 / 1e6,
                layer.loss
            )?;
        }
        writeln!(f, "size        {:.2} MB, was {:.2} MB", self.bytes_after as f64 / 1e6, self.bytes_before as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests;
