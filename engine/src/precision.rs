//! What a network computes with. For int8 see [`quantized`]. In bf16, maps and the weights of the convolutions over them are bf16, and sums are f32; vectors (maps of one pixel: the
//! embedding, the logits, the factors of a squeeze-and-excitation) and small linear layers between them stay f32, for they are few.

use crate::Error;
use crate::ir::{Dtype, Graph, Kind, Layer, Value};
use crate::kernels::{Activation, Bf16, ConvBf16, has_bf16, has_int8};

mod quantized;
pub(crate) use quantized::{ends_in_floats, multiplies_bytes};

/// What a network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    F32,
    /// Maps and weights in bfloat16, sums in f32.
    Bf16,
    /// What is quantised in the model (pairs of QuantizeLinear and DequantizeLinear, weights included) in bytes, sums in i32; the rest in f32.
    Int8,
}

/// Weights from which a linear layer reads its vector rounded to bf16, too: it waits for its weights, and those are half as many bytes.
const LARGE: usize = 1 << 18;

/// Whether this processor has the instructions.
pub(crate) fn check(precision: Precision) -> Result<(), Error> {
    if precision == Precision::Bf16 && !has_bf16() {
        return Err(Error::Processor("bf16"));
    }
    if precision == Precision::Int8 && !has_int8() {
        return Err(Error::Processor("int8"));
    }
    Ok(())
}

/// Gives every value its type, and converts vectors where they are wanted in bf16.
pub(crate) fn apply(graph: &mut Graph, precision: Precision) {
    match precision {
        Precision::F32 => (),
        Precision::Bf16 => to_bf16(graph),
        Precision::Int8 => quantized::apply(graph),
    }
}

/// Rounds weights as their layers will, so that whoever looks at a layer sees those that it is computed with. Algorithms are chosen by then.
pub(crate) fn round_weights(graph: &mut Graph) {
    let values = &graph.values;
    for layer in &mut graph.layers {
        if let Kind::Conv(conv) = &mut layer.kind
            && values[layer.inputs[0]].dtype == Dtype::Bf16
            && ConvBf16::rounds_weights(&conv.shape, conv.algorithm)
        {
            conv.weights.iter_mut().for_each(|w| *w = Bf16::from(*w).into());
        }
    }
}

fn to_bf16(graph: &mut Graph) {
    for value in &mut graph.values {
        value.dtype = if value.pixels() > 1 { Dtype::Bf16 } else { Dtype::F32 };
    }
    let mut layers = Vec::with_capacity(graph.layers.len());
    for mut layer in std::mem::take(&mut graph.layers) {
        let x = layer.inputs[0];
        let large = matches!(&layer.kind, Kind::Conv(conv) if conv.weights.len() >= LARGE);
        if graph.values[x].dtype == Dtype::F32 && (large || graph.values[layer.output].dtype == Dtype::Bf16) {
            graph.values.push(Value { dtype: Dtype::Bf16, ..graph.values[x].clone() });
            let output = graph.values.len() - 1;
            layers.push(Layer { name: layer.name.clone(), kind: Kind::Identity, activation: Activation::None, inputs: vec![x], output });
            layer.inputs[0] = output;
        }
        // Its kernel stores before the activation, and what is stored is rounded: a layer of its own, which its self-test knows.
        let rounds_first =
            matches!(layer.kind, Kind::AvgPool(..) | Kind::GlobalSum(_) | Kind::OverMean(_) | Kind::Sub | Kind::Mul | Kind::Function(_));
        if rounds_first && layer.activation != Activation::None && graph.values[layer.output].dtype == Dtype::Bf16 {
            layers.extend(graph.activated_apart(layer));
        } else {
            layers.push(layer);
        }
    }
    graph.layers = layers;
}
