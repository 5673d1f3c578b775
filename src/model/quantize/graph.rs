//! An ONNX graph in a form that is easy to quantise: constants are initialisers, batch normalisation and padding are part of the convolution.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::{DatumType, Tensor};

use super::super::compile;
use super::super::heads::constants;
use super::super::onnx::{Source, floats, tensor};
use super::super::weights;
use crate::{Error, Result};

/// Who makes and who reads each tensor, by index of the node.
pub(super) struct Wires<'a> {
    graph: &'a GraphProto,
    producer: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    outputs: HashSet<&'a str>,
}

impl<'a> Wires<'a> {
    pub fn new(graph: &'a GraphProto) -> Self {
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut producer = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            node.input.iter().filter(|t| !t.is_empty()).for_each(|t| consumers.entry(t).or_default().push(i));
            producer.extend(node.output.iter().filter(|t| !t.is_empty()).map(|t| (t.as_str(), i)));
        }
        Self { graph, producer, consumers, outputs: graph.output.iter().map(|o| o.name.as_str()).collect() }
    }

    /// The node that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<(usize, &'a NodeProto)> {
        let at = *self.producer.get(tensor)?;
        Some((at, &self.graph.node[at]))
    }

    /// The nodes that read `tensor`; one that reads it twice stands there twice.
    pub fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], |c| c)
    }

    /// The node that reads `tensor`, if only one does and it is no output of the graph.
    fn only_consumer(&self, tensor: &str) -> Option<usize> {
        match self.consumers(tensor) {
            [one] if !self.outputs.contains(tensor) => Some(*one),
            _ => None,
        }
    }
}

/// A tensor of 32-bit floats.
pub(super) fn float_tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    tensor(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// An integer attribute.
pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// Brings the graph into the form that is quantised. It computes the same, to rounding.
///
/// # Errors
/// [`Error::Config`] if the graph is of an operator set before 13, which has no scale for each channel, or if tract cannot read it.
pub(super) fn normalise(source: &mut Source, crop: usize) -> Result<()> {
    let version = source.proto.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx").map_or(1, |o| o.version);
    if version < 13 {
        return Err(Error::config(format_args!(
            "{}: ONNX operator set {version} has no scales for each channel; export the model with operator set 13 or later",
            source.path.display()
        )));
    }
    // Of weights that are only stored in bytes, the floats that they stand for are quantised.
    weights::written_out(source.graph_mut());
    if source.graph().node.iter().any(|n| n.op_type == "DequantizeLinear" || n.op_type.starts_with("QLinear")) {
        return Err(Error::config(format_args!("{}: it is quantised already; give the model in 32-bit floats", source.path.display())));
    }
    fold_constants(source, crop)?;
    let graph = source.graph_mut();
    // Shapes that the exporter noted speak of tensors that may not be there any longer.
    graph.value_info.clear();
    fold_padding(graph);
    fold_batch_norm(graph);
    drop_unused(graph);
    Ok(())
}

/// Makes initialisers of all constants, as tract computes them, those in other files included.
fn fold_constants(source: &mut Source, crop: usize) -> Result<()> {
    let failed = |e| Error::config(format_args!("{}: tract cannot run this graph: {e:#}", source.path.display()));
    let graph = source.graph();
    let constant = constants(graph);
    let inline: HashSet<&str> = graph.initializer.iter().filter(|t| t.data_location.unwrap_or(0) == 0).map(|t| t.name.as_str()).collect();
    let varies = |n: &&NodeProto| !n.output.iter().all(|o| constant.contains(o.as_str()));
    let read = graph.node.iter().filter(varies).flat_map(|n| &n.input).chain(graph.output.iter().map(|o| &o.name));
    let mut seen = HashSet::new();
    let wanted = read.filter(|t| constant.contains(t.as_str()) && !inline.contains(t.as_str()) && seen.insert(t.as_str()));
    let wanted: Vec<String> = wanted.cloned().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut probe = Source { proto: source.proto.clone(), path: source.path.clone(), digest: String::new(), bytes: 0 };
    let value = |name: &String| tract_onnx::pb::ValueInfoProto { name: name.clone(), ..Default::default() };
    probe.graph_mut().output = wanted.iter().map(value).collect();
    let batch = compile::input(&probe)?.batch.unwrap_or(1);
    let model = compile::typed(&probe, batch, crop).and_then(|m| m.into_decluttered()).map_err(failed)?;
    let mut folded = Vec::new();
    for (slot, name) in wanted.iter().enumerate() {
        // What tract leaves open, or holds as a symbol, stays as the file has it.
        if let Some(constant) = &model.output_fact(slot).map_err(failed)?.konst
            && let Some(tensor) = initialiser(name, constant)
        {
            folded.push(tensor);
        }
    }
    let names: HashSet<String> = folded.iter().map(|t| t.name.clone()).collect();
    let graph = source.graph_mut();
    graph.node.iter_mut().flat_map(|n| &mut n.output).filter(|o| names.contains(o.as_str())).for_each(String::clear);
    graph.node.retain(|n| n.output.iter().any(|o| !o.is_empty()));
    graph.initializer.retain(|t| !names.contains(&t.name));
    graph.initializer.extend(folded);
    drop_unused(graph);
    Ok(())
}

fn initialiser(name: &str, value: &Tensor) -> Option<TensorProto> {
    let (kind, value) = match value.datum_type() {
        DatumType::F32 => (DataType::Float, value.clone()),
        DatumType::F64 => (DataType::Double, value.clone()),
        DatumType::F16 => (DataType::Float16, value.clone()),
        DatumType::I32 => (DataType::Int32, value.clone()),
        DatumType::Bool => (DataType::Bool, value.clone()),
        DatumType::I64 | DatumType::TDim => (DataType::Int64, value.cast_to_dt(DatumType::I64).ok()?.into_owned()),
        _ => return None,
    };
    Some(tensor(name, value.shape(), kind, value.try_as_plain_ram().ok()?.as_bytes().to_vec()))
}

/// Nodes and initialisers that nothing reads. ONNX lists nodes in an order in which they can run, so one pass backwards finds them.
fn drop_unused(graph: &mut GraphProto) {
    let mut read: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut keep = vec![true; graph.node.len()];
    for (node, keep) in graph.node.iter().zip(&mut keep).rev() {
        // A node with a subgraph may read anything.
        let nested = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).flat_map(|g| &g.node).flat_map(|n| &n.input);
        *keep = node.output.iter().any(|o| read.contains(o));
        if *keep {
            read.extend(node.input.iter().chain(nested).cloned());
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    graph.initializer.retain(|t| read.contains(&t.name));
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    // Older files list their weights among the inputs as well.
    graph.input.retain(|i| !weights.contains(i.name.as_str()) || read.contains(&i.name));
}

/// Gives convolutions the zeros that a `Pad` before them adds.
fn fold_padding(graph: &mut GraphProto) {
    for at in 0..graph.node.len() {
        let Some((tensor, pads)) = padding(graph, &graph.node[at]) else { continue };
        let wires = Wires::new(graph);
        let readers = wires.consumers(&graph.node[at].output[0]).to_vec();
        let explicit = |n: &NodeProto| attribute(n, "auto_pad").is_none_or(|a| a.s.is_empty() || a.s == b"NOTSET");
        let convs = |&i: &usize| graph.node[i].op_type == "Conv" && explicit(&graph.node[i]);
        if readers.is_empty() || wires.outputs.contains(graph.node[at].output[0].as_str()) || !readers.iter().all(convs) {
            continue;
        }
        for i in readers {
            let node = &mut graph.node[i];
            node.input[0].clone_from(&tensor);
            match node.attribute.iter_mut().find(|a| a.name == "pads") {
                Some(own) => own.ints.iter_mut().zip(&pads).for_each(|(own, more)| *own += more),
                None => node.attribute.push(AttributeProto {
                    name: "pads".into(),
                    r#type: tract_onnx::pb::attribute_proto::AttributeType::Ints as i32,
                    ints: pads.clone(),
                    ..Default::default()
                }),
            }
        }
    }
    drop_unused(graph);
}

/// What a `Pad` of zeros pads, and how much on the axes after batch and channels, if it is known and leaves those two alone.
fn padding(graph: &GraphProto, node: &NodeProto) -> Option<(String, Vec<i64>)> {
    if node.op_type != "Pad" || attribute(node, "mode").is_some_and(|a| a.s != b"constant") || node.input.len() > 3 {
        return None;
    }
    let constant = |name: &String| graph.initializer.iter().find(|t| t.name == *name);
    if let Some(value) = node.input.get(2).filter(|name| !name.is_empty())
        && floats(constant(value)?)?.iter().any(|&v| v != 0.0)
    {
        return None;
    }
    let pads = constant(node.input.get(1)?)?;
    let pads: Vec<i64> = if pads.int64_data.is_empty() {
        pads.raw_data.chunks_exact(8).map(|b| b.try_into().map_or(-1, i64::from_le_bytes)).collect()
    } else {
        pads.int64_data.clone()
    };
    let rank = pads.len() / 2;
    let outer = |&(axis, _): &(usize, &i64)| axis % rank < 2;
    let (outer, inner): (Vec<_>, Vec<_>) = pads.iter().enumerate().filter(|_| rank > 2).partition(outer);
    (!inner.is_empty() && outer.iter().all(|(_, p)| **p == 0) && inner.iter().all(|(_, p)| **p >= 0))
        .then(|| (node.input[0].clone(), inner.into_iter().map(|(_, &p)| p).collect()))
}

/// Puts the scale and shift of a batch normalisation into the convolution before it.
fn fold_batch_norm(graph: &mut GraphProto) {
    for at in 0..graph.node.len() {
        let Some((conv, weight, bias)) = folded(graph, at) else { continue };
        let norm = std::mem::take(&mut graph.node[at]);
        let conv = &mut graph.node[conv];
        conv.input.truncate(1);
        conv.input.extend([weight.name.clone(), bias.name.clone()]);
        conv.output = vec![norm.output[0].clone()];
        graph.initializer.extend([weight, bias]);
    }
    graph.node.retain(|n| !n.op_type.is_empty());
}

/// The convolution before the batch normalisation at `at`, and what its weights and bias become.
fn folded(graph: &GraphProto, at: usize) -> Option<(usize, TensorProto, TensorProto)> {
    let norm = &graph.node[at];
    if norm.op_type != "BatchNormalization" || norm.input.len() != 5 || int(norm, "training_mode", 0) != 0 {
        return None;
    }
    let wires = Wires::new(graph);
    let (index, conv) = wires.producer(&norm.input[0])?;
    if conv.op_type != "Conv" || wires.only_consumer(&norm.input[0]) != Some(at) {
        return None;
    }
    let constant = |name: &String| graph.initializer.iter().find(|t| t.name == *name);
    let weight = constant(conv.input.get(1)?)?;
    let mut values = floats(weight)?;
    let channels = usize::try_from(*weight.dims.first()?).ok()?;
    let mut of = norm.input[1..].iter().map(|name| floats(constant(name)?).filter(|v| v.len() == channels));
    let [scale, shift, mean, variance] = [of.next()??, of.next()??, of.next()??, of.next()??];
    let mut bias = match conv.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => floats(constant(name)?)?,
        None => vec![0.0; channels],
    };
    let epsilon = attribute(norm, "epsilon").map_or(1e-5, |a| a.f);
    for (c, filter) in values.chunks_mut(weight.dims[1..].iter().product::<i64>().max(1) as usize).enumerate() {
        let factor = f64::from(scale[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        bias[c] = ((f64::from(bias[c]) - f64::from(mean[c])) * factor + f64::from(shift[c])) as f32;
    }
    let dims: Vec<usize> = weight.dims.iter().map(|&d| d as usize).collect();
    // Another layer may use the same weights with another normalisation, so the new ones have the output's name.
    let name = |what: &str| format!("{}/{what}", norm.output[0]);
    Some((index, float_tensor(&name("weight"), &dims, &values), float_tensor(&name("bias"), &[channels], &bias)))
}
