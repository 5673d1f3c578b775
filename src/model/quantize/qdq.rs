//! Writing a quantised graph as onnxruntime's `quantize_static` does: in floats, with pairs of `QuantizeLinear` and `DequantizeLinear` where values
//! are rounded. A runtime that knows the pattern computes in integers, any other the same in floats.

use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType, tensor_proto::DataType};

use super::super::onnx;
use super::graph::float_tensor;
use super::layers::{Layer, Scale};
use super::range::Grid;
use super::weights::Integers;

/// A layer and what it becomes.
pub(super) struct Quantised<'a> {
    pub layer: &'a Layer,
    pub integers: Integers,
    pub input: Grid,
}

/// The graph with pairs around the `rounded` tensors, and with the layers' weights in integers.
pub(super) fn write(
    graph: &GraphProto,
    rounded: &BTreeMap<String, Scale>,
    grids: &BTreeMap<String, Grid>,
    layers: &[Quantised<'_>],
) -> GraphProto {
    let mut out = Writer {
        graph: GraphProto { node: Vec::with_capacity(graph.node.len() * 3), ..graph.clone() },
        taken: graph.node.iter().flat_map(|n| &n.output).chain(graph.initializer.iter().map(|t| &t.name)).cloned().collect(),
        rounded: HashMap::new(),
    };
    let at: HashMap<usize, &Quantised<'_>> = layers.iter().map(|q| (q.layer.node, q)).collect();
    for input in &graph.input {
        out.round(&input.name, rounded, grids);
    }
    for (i, node) in graph.node.iter().enumerate() {
        let mut node = node.clone();
        for input in &mut node.input {
            if let Some(instead) = out.rounded.get(input) {
                input.clone_from(&instead.output);
            }
        }
        if let Some(quantised) = at.get(&i) {
            let (weight, bias) = out.weights(quantised);
            node.input.truncate(1);
            node.input.push(weight);
            match bias {
                Some(bias) if node.op_type == "MatMul" => {
                    // It has no bias of its own.
                    let sum = std::mem::replace(&mut node.output[0], out.name(&quantised.layer.output, "_product"));
                    let input = vec![node.output[0].clone(), bias];
                    out.graph.node.push(node);
                    node = NodeProto { name: format!("{sum}_bias"), op_type: "Add".into(), input, output: vec![sum], ..Default::default() };
                }
                bias => node.input.extend(bias),
            }
        }
        let made = node.output.clone();
        out.graph.node.push(node);
        made.iter().for_each(|tensor| out.round(tensor, rounded, grids));
    }
    let read: HashSet<&str> = out.graph.node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let used = |name: &str| read.contains(name) || outputs.contains(name);
    let dropped: HashSet<String> = out.graph.initializer.iter().filter(|t| !used(&t.name)).map(|t| t.name.clone()).collect();
    out.graph.initializer.retain(|t| !dropped.contains(&t.name));
    out.graph.input.retain(|i| !dropped.contains(&i.name));
    out.graph
}

/// A tensor that is rounded, by the names in the file.
struct Pair {
    scale: String,
    zero: String,
    output: String,
}

struct Writer {
    graph: GraphProto,
    taken: HashSet<String>,
    rounded: HashMap<String, Pair>,
}

impl Writer {
    /// A name that nothing has yet.
    fn name(&mut self, base: &str, what: &str) -> String {
        let mut name = format!("{base}{what}");
        let mut more = 1;
        while !self.taken.insert(name.clone()) {
            more += 1;
            name = format!("{base}_{more}{what}");
        }
        name
    }

    fn node(&mut self, op: &str, inputs: [&str; 3], output: &str, axis: Option<usize>) {
        let axis = axis.map(|axis| AttributeProto {
            name: "axis".into(),
            r#type: AttributeType::Int as i32,
            i: axis as i64,
            ..Default::default()
        });
        self.graph.node.push(NodeProto {
            name: output.strip_suffix("_Output").unwrap_or(output).to_owned(),
            op_type: op.to_owned(),
            input: inputs.map(str::to_owned).into(),
            output: vec![output.to_owned()],
            attribute: axis.into_iter().collect(),
            ..Default::default()
        });
    }

    /// Puts a pair after `tensor`, if it is one of those.
    fn round(&mut self, tensor: &str, rounded: &BTreeMap<String, Scale>, grids: &BTreeMap<String, Grid>) {
        let Some(scale) = rounded.get(tensor) else { return };
        let (scale, zero) = match scale {
            Scale::As(other) => match self.rounded.get(other) {
                Some(pair) => (pair.scale.clone(), pair.zero.clone()),
                None => return,
            },
            Scale::Own => {
                let Some(grid) = grids.get(tensor) else { return };
                let (scale, zero) = (self.name(tensor, "_scale"), self.name(tensor, "_zero_point"));
                self.graph.initializer.push(float_tensor(&scale, &[], &[grid.scale]));
                self.graph.initializer.push(onnx::tensor(&zero, &[], DataType::Uint8, vec![grid.zero]));
                (scale, zero)
            }
        };
        let (integers, output) = (self.name(tensor, "_QuantizeLinear_Output"), self.name(tensor, "_DequantizeLinear_Output"));
        self.node("QuantizeLinear", [tensor, &scale, &zero], &integers, None);
        self.node("DequantizeLinear", [&integers, &scale, &zero], &output, None);
        self.rounded.insert(tensor.to_owned(), Pair { scale, zero, output });
    }

    /// Integers as initialisers with a `DequantizeLinear` each: the names of weights and bias in floats.
    fn weights(&mut self, quantised: &Quantised<'_>) -> (String, Option<String>) {
        let Quantised { layer, integers, input } = quantised;
        let channels = layer.channels();
        let (weights, scales) = (integers.weights.iter().map(|&w| w as u8).collect(), &integers.scales);
        let weight = self.constant(&layer.weight, (&layer.dims, DataType::Int8, weights), scales, layer.axis);
        let bias = integers.bias.as_ref().map(|bias| {
            // As a single-precision product, which is what runtimes compare it with.
            let scales: Vec<f32> = scales.iter().map(|s| s * input.scale).collect();
            let bytes = bias.iter().flat_map(|b| b.to_le_bytes()).collect();
            self.constant(&format!("{}_bias", layer.output), (&[channels], DataType::Int32, bytes), &scales, 0)
        });
        (weight, bias)
    }

    fn constant(&mut self, base: &str, (dims, kind, bytes): (&[usize], DataType, Vec<u8>), scales: &[f32], axis: usize) -> String {
        let names = ["_quantized", "_scale", "_zero_point", "_DequantizeLinear_Output"].map(|what| self.name(base, what));
        let [values, scale, zero, output] = &names;
        let zeros = vec![0; scales.len() * if kind == DataType::Int32 { 4 } else { 1 }];
        self.graph.initializer.extend([
            onnx::tensor(values, dims, kind, bytes),
            float_tensor(scale, &[scales.len()], scales),
            onnx::tensor(zero, &[scales.len()], kind, zeros),
        ]);
        self.node("DequantizeLinear", [values, scale, zero], output, Some(axis));
        names[3].clone()
    }
}
