//! Which maps of a quantised network are bytes, which layers compute on them, and where bytes become floats again for layers that do not.

use std::collections::HashMap;

use crate::ir::{Dtype, Graph, Kind, Layer, ValueId};
use crate::kernels::{Activation, ConvInt8};

/// Gives every value its type, and every layer inputs of types that it computes from.
pub(super) fn apply(graph: &mut Graph) {
    for at in 0..graph.layers.len() {
        let layer = &graph.layers[at];
        let (x, output) = (graph.values[layer.inputs[0]].dtype, layer.output);
        let alike = || layer.inputs.iter().all(|&v| graph.values[v].dtype == x);
        graph.values[output].dtype = match layer.kind {
            Kind::Quantize(how) => Dtype::U8(how),
            // They move numbers, whatever those stand for.
            Kind::MaxPool(_) | Kind::Slice(_) | Kind::Shuffle(_) | Kind::Concat if layer.activation == Activation::None && alike() => x,
            _ => Dtype::F32,
        };
    }
    activate_apart(graph);
    round_where_made(graph);
    float_where_read(graph);
    ends_in_floats(graph);
}

/// An activation that a convolution over bytes has not is a layer of its own: the convolution is worth more.
fn activate_apart(graph: &mut Graph) {
    let mut layers = Vec::with_capacity(graph.layers.len());
    for layer in std::mem::take(&mut graph.layers) {
        if !multiplies(graph, &layer) && multiplies_with(graph, &layer, Activation::None) {
            layers.extend(graph.activated_apart(layer));
        } else {
            layers.push(layer);
        }
    }
    graph.layers = layers;
}

/// Whether any convolution computes on bytes.
pub(crate) fn multiplies_bytes(graph: &Graph) -> bool {
    graph.layers.iter().any(|layer| multiplies(graph, layer))
}

/// Whether a convolution can read the bytes that its input is.
fn multiplies(graph: &Graph, layer: &Layer) -> bool {
    multiplies_with(graph, layer, layer.activation)
}

/// The same, if its activation were this one.
fn multiplies_with(graph: &Graph, layer: &Layer, activation: Activation) -> bool {
    let Kind::Conv(conv) = &layer.kind else { return false };
    let bytes = graph.values[layer.inputs[0]].dtype.quantized().is_some();
    bytes && !conv.steps.is_empty() && ConvInt8::computes(&conv.shape, activation)
}

/// A convolution over bytes whose only reader rounds it stores bytes itself.
fn round_where_made(graph: &mut Graph) {
    let (makers, uses) = (graph.makers(), graph.uses());
    let mut gone = Vec::new();
    for at in 0..graph.layers.len() {
        let (Kind::Quantize(_), x) = (&graph.layers[at].kind, graph.layers[at].inputs[0]) else { continue };
        let Some(maker) = makers[x].filter(|&m| uses[x] == 1 && multiplies(graph, &graph.layers[m])) else { continue };
        // What is added must be bytes, too.
        if graph.layers[maker].inputs.get(1).is_none_or(|&y| graph.values[y].dtype.quantized().is_some()) {
            graph.layers[maker].output = graph.layers[at].output;
            gone.push(at);
        }
    }
    for at in gone.into_iter().rev() {
        graph.layers.remove(at);
    }
}

/// A layer that turns the bytes `from` into floats, to be put where they are first needed.
fn dequantize(graph: &mut Graph, from: ValueId) -> Layer {
    let mut value = graph.values[from].clone();
    value.dtype = Dtype::F32;
    graph.values.push(value);
    let (name, output) = (graph.values[from].name.clone(), graph.values.len() - 1);
    Layer { name, kind: Kind::Identity, activation: Activation::None, inputs: vec![from], output }
}

/// Floats in the place of bytes for layers that do not compute on them.
fn float_where_read(graph: &mut Graph) {
    let mut floats: HashMap<ValueId, ValueId> = HashMap::new();
    let mut layers = Vec::with_capacity(graph.layers.len());
    for mut layer in std::mem::take(&mut graph.layers) {
        let to_bytes = graph.values[layer.output].dtype.quantized().is_some();
        for place in 0..layer.inputs.len() {
            let from = layer.inputs[place];
            let reads = match layer.kind {
                Kind::Conv(_) if place == 0 => multiplies(graph, &layer),
                // What is added to floats is floats.
                Kind::Conv(_) => to_bytes,
                Kind::Identity | Kind::GlobalSum(_) => true,
                Kind::Quantize(_) => false,
                _ => to_bytes,
            };
            if reads || graph.values[from].dtype.quantized().is_none() {
                continue;
            }
            layer.inputs[place] = match floats.get(&from) {
                Some(&there) => there,
                None => {
                    let between = dequantize(graph, from);
                    let output = between.output;
                    layers.push(between);
                    floats.insert(from, output);
                    output
                }
            };
        }
        layers.push(layer);
    }
    graph.layers = layers;
}

/// Floats in the place of bytes that come in or go out.
pub(crate) fn ends_in_floats(graph: &mut Graph) {
    for at in 0..graph.outputs.len() {
        let from = graph.outputs[at];
        if graph.values[from].dtype.quantized().is_some() {
            let layer = dequantize(graph, from);
            // Several outputs may be one value.
            graph.outputs.iter_mut().filter(|v| **v == from).for_each(|v| *v = layer.output);
            graph.layers.push(layer);
        }
    }
    for at in 0..graph.inputs.len() {
        let to = graph.inputs[at];
        if let Dtype::U8(how) = graph.values[to].dtype {
            let mut value = graph.values[to].clone();
            value.dtype = Dtype::F32;
            let name = value.name.clone();
            graph.values.push(value);
            graph.inputs[at] = graph.values.len() - 1;
            let layer = Layer { name, kind: Kind::Quantize(how), activation: Activation::None, inputs: vec![graph.inputs[at]], output: to };
            graph.layers.insert(0, layer);
        }
    }
}
