//! Which nodes are quantised, and so which tensors are rounded.

use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::super::heads::constants;
use super::super::onnx::floats;
use super::graph::{Wires, attribute, int};

/// A convolution or matrix product with constant weights.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Index of its node.
    pub node: usize,
    /// What people call it.
    pub name: String,
    /// The tensor that it reads.
    pub input: String,
    /// The tensor that it makes, before any activation.
    pub output: String,
    /// Its weights in the file.
    pub weight: String,
    /// Sizes of the weights.
    pub dims: Vec<usize>,
    /// The weights' axis of output channels.
    pub axis: usize,
    /// The weights themselves.
    pub values: Vec<f32>,
    /// One number for each output channel, if it adds any.
    pub bias: Option<Vec<f32>>,
    /// Groups of channels; 1 for a matrix product.
    pub groups: usize,
}

impl Layer {
    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.dims[self.axis]
    }

    /// The output channel of each weight, in the order of [`Layer::values`].
    pub fn channel_of(&self) -> impl Fn(usize) -> usize {
        let (inner, channels) = (self.dims[self.axis + 1..].iter().product::<usize>().max(1), self.channels());
        move |at| at / inner % channels
    }

    /// The input channel of each weight.
    pub fn input_of(&self) -> impl Fn(usize) -> usize {
        let inner = self.dims[2..].iter().product::<usize>().max(1);
        let (of_group, out, axis, channels) = (self.dims[1], self.channels() / self.groups, self.axis, self.channels());
        // [out, in / groups, kernel...], or [in, out] where the output channels stand last.
        move |at| match axis {
            0 => at / inner / of_group / out * of_group + at / inner % of_group,
            _ => at / channels,
        }
    }
}

/// All layers that can be quantised, in the order of the graph.
pub(super) fn layers(graph: &GraphProto) -> Vec<Layer> {
    let constants: HashMap<&str, _> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let layer = |(at, node): (usize, &NodeProto)| {
        let weight = node.input.get(1)?;
        let tensor = constants.get(weight.as_str())?;
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().ok()?;
        let plain = |name: &str, value: f32| attribute(node, name).is_none_or(|a| a.f == value);
        let (axis, fits) = match node.op_type.as_str() {
            "Conv" => (0, dims.len() >= 3),
            "Gemm" => {
                let plain = plain("alpha", 1.0) && plain("beta", 1.0) && int(node, "transA", 0) == 0;
                (usize::from(int(node, "transB", 0) == 0), dims.len() == 2 && plain)
            }
            "MatMul" => (1, dims.len() == 2),
            _ => return None,
        };
        let values = floats(tensor).filter(|v| fits && !v.is_empty() && v.iter().all(|w| w.is_finite()))?;
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => Some(floats(constants.get(name.as_str())?).filter(|b| b.len() == dims[axis])?),
            None => None,
        };
        Some(Layer {
            node: at,
            name: if node.name.is_empty() { node.output[0].clone() } else { node.name.clone() },
            input: node.input[0].clone(),
            output: node.output[0].clone(),
            weight: weight.clone(),
            groups: usize::try_from(int(node, "group", 1)).ok().filter(|&g| g > 0 && dims[axis].is_multiple_of(g))?,
            dims,
            axis,
            values,
            bias,
        })
    };
    let varying = constants_of(graph);
    graph.node.iter().enumerate().filter_map(layer).filter(|l| varying(&l.input)).collect()
}

fn constants_of(graph: &GraphProto) -> impl Fn(&str) -> bool {
    let constant = constants(graph);
    move |tensor| !constant.contains(tensor)
}

/// How a rounded tensor gets its scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scale {
    /// From its own range.
    Own,
    /// That of another tensor, of whose values it is made.
    As(String),
}

/// The rounded tensors, where the layers in `float` (indices into `layers`) are left alone.
///
/// A tensor is rounded if a node that computes in integers reads it; all that read it then read it rounded, so that it need not be kept twice. Integers are
/// computed with by the layers, and by additions, concatenations and poolings of what such layers make.
pub(super) fn rounded(graph: &GraphProto, layers: &[Layer], float: &HashSet<usize>) -> BTreeMap<String, Scale> {
    let wires = Wires::new(graph);
    let constant = constants(graph);
    let quantised: HashSet<usize> = layers.iter().enumerate().filter(|(i, _)| !float.contains(i)).map(|(_, l)| l.node).collect();
    let mut integer = quantised.clone();
    let mut tensors: BTreeMap<String, Scale> = BTreeMap::new();
    // What makes a tensor, activations after it left out.
    let made_in_integers = |tensor: &str, integer: &HashSet<usize>| {
        let mut tensor = tensor;
        loop {
            match wires.producer(tensor) {
                Some((_, node)) if matches!(node.op_type.as_str(), "Relu" | "Clip") => tensor = &node.input[0],
                Some((at, _)) => return integer.contains(&at),
                None => return false,
            }
        }
    };
    for (at, node) in graph.node.iter().enumerate() {
        if quantised.contains(&at) {
            tensors.entry(node.input[0].clone()).or_insert(Scale::Own);
            continue;
        }
        let inputs: Vec<&String> = node.input.iter().filter(|t| !t.is_empty() && !constant.contains(t.as_str())).collect();
        let reads_integers =
            inputs.iter().all(|t| made_in_integers(t, &integer) || wires.consumers(t).iter().any(|c| quantised.contains(c)));
        let joins = match node.op_type.as_str() {
            "Add" => inputs.len() == 2 && node.input.len() == 2,
            "MaxPool" | "AveragePool" | "GlobalAveragePool" => true,
            // Where other nodes read it too, it is better rounded once and later.
            "Concat" => wires.consumers(&node.output[0]).iter().all(|c| quantised.contains(c) || graph.node[*c].op_type.ends_with("Pool")),
            _ => false,
        };
        if !joins || !reads_integers || inputs.is_empty() {
            continue;
        }
        integer.insert(at);
        for input in &inputs {
            tensors.entry((*input).clone()).or_insert(Scale::Own);
        }
        if node.op_type == "MaxPool" {
            tensors.insert(node.output[0].clone(), Scale::As(inputs[0].clone()));
        }
    }
    // The largest of rounded values is one of them, but there is no need to say so where nobody asks.
    tensors.retain(|tensor, scale| *scale == Scale::Own || wires.consumers(tensor).iter().any(|c| integer.contains(c)));
    tensors
}
