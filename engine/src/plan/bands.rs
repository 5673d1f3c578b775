//! Which layers run together, a few rows at a time: see [`crate::kernels::Banded`].

use crate::ir::{Dtype, Graph, Kind, Layer};
use crate::kernels::{Algorithm, bands};

/// Joins each pointwise convolution with the depthwise one that follows it and alone reads it, where the map between is large.
pub(super) fn join(graph: &mut Graph) {
    let uses = graph.uses();
    let mut layers: Vec<Layer> = Vec::with_capacity(graph.layers.len());
    for layer in std::mem::take(&mut graph.layers) {
        let Some(before) = layers.pop_if(|before| fit(graph, &uses, before, &layer)) else {
            layers.push(layer);
            continue;
        };
        let (Kind::Conv(first), Kind::Conv(second)) = (before.kind, layer.kind) else {
            unreachable!("both are convolutions");
        };
        let name = format!("{} and {}", before.name, layer.name);
        let kind = Kind::Banded(Box::new((first, before.activation, second)));
        layers.push(Layer { name, kind, activation: layer.activation, inputs: before.inputs, output: layer.output });
    }
    graph.layers = layers;
}

fn fit(graph: &Graph, uses: &[usize], before: &Layer, layer: &Layer) -> bool {
    let (Kind::Conv(first), Kind::Conv(second)) = (&before.kind, &layer.kind) else { return false };
    let dtypes = [before.inputs[0], before.output, layer.output].map(|v| graph.values[v].dtype);
    layer.inputs == [before.output]
        && before.inputs.len() == 1
        && uses[before.output] == 1
        && first.algorithm == Algorithm::Direct
        && matches!(dtypes, [Dtype::F32, Dtype::F32, Dtype::F32] | [Dtype::Bf16, Dtype::Bf16, Dtype::Bf16])
        && bands(&first.shape, &second.shape, dtypes[0].bytes())
}
