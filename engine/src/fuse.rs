//! Makes few layers of many: what can be folded into weights is, and what can be done while a value is still in a register is done there.

use crate::ir::{ConvLayer, Graph, Kind, Layer, ValueId};
use crate::kernels::{Activation, ConvShape};

/// Fuses until nothing changes.
pub(crate) fn fuse(graph: &mut Graph) {
    while drop_unused(graph)
        || nothing(graph)
        || quantized(graph)
        || swish(graph)
        || scale(graph)
        || activation(graph)
        || pad(graph)
        || residual(graph)
        || prefix(graph)
        || multiplied(graph)
    {}
}

/// The only reader of `value` may take over its maker's work.
fn sole_maker(makers: &[Option<usize>], uses: &[usize], value: ValueId) -> Option<usize> {
    makers[value].filter(|_| uses[value] == 1)
}

fn drop_unused(graph: &mut Graph) -> bool {
    let uses = graph.uses();
    let before = graph.layers.len();
    graph.layers.retain(|l| uses[l.output] > 0);
    graph.layers.len() != before
}

/// Layers that leave everything as it is.
fn nothing(graph: &mut Graph) -> bool {
    for layer in &mut graph.layers {
        if let Kind::ScaleShift { scale, shift } = &layer.kind
            && scale.iter().all(|&s| s == 1.0)
            && shift.iter().all(|&s| s == 0.0)
        {
            layer.kind = Kind::Identity;
        }
    }
    let same = |l: &Layer| l.kind == Kind::Identity && l.activation == Activation::None;
    let Some(at) = graph.layers.iter().position(same) else { return false };
    rename(graph, at, graph.layers[at].inputs[0]);
    true
}

/// Layer `at` goes, and who read what it made reads `to`.
fn rename(graph: &mut Graph, at: usize, to: ValueId) {
    let from = graph.layers.remove(at).output;
    for value in graph.layers.iter_mut().flat_map(|l| &mut l.inputs).chain(&mut graph.outputs).filter(|v| **v == from) {
        *value = to;
    }
}

/// What is quantised twice in the same way, itself or as the largest of what is, or by two layers.
fn quantized(graph: &mut Graph) -> bool {
    let makers = graph.makers();
    for at in 0..graph.layers.len() {
        let Kind::Quantize(how) = graph.layers[at].kind else { continue };
        let x = graph.layers[at].inputs[0];
        let mut from = x;
        while let Some(Layer { kind: Kind::MaxPool(_), activation: Activation::None, inputs, .. }) = makers[from].map(|m| &graph.layers[m])
        {
            from = inputs[0];
        }
        if makers[from].is_some_and(|m| graph.layers[m].kind == Kind::Quantize(how)) {
            rename(graph, at, x);
            return true;
        }
        let same = |l: &Layer| l.kind == Kind::Quantize(how) && l.inputs == [x];
        if let Some(first) = graph.layers[..at].iter().find(|l| same(l)).map(|l| l.output) {
            rename(graph, at, first);
            return true;
        }
    }
    false
}

/// `x * sigmoid(x)` and `x * hard_sigmoid(x)`.
fn swish(graph: &mut Graph) -> bool {
    let (makers, uses) = (graph.makers(), graph.uses());
    let mut changed = false;
    for at in 0..graph.layers.len() {
        if graph.layers[at].kind != Kind::Mul || graph.layers[at].activation != Activation::None {
            continue;
        }
        let &[a, b] = &graph.layers[at].inputs[..] else { continue };
        for (x, gate) in [(a, b), (b, a)] {
            let Some(gate) = sole_maker(&makers, &uses, gate).map(|m| &graph.layers[m]).filter(|l| l.inputs == [x]) else { continue };
            let swish = match (&gate.kind, gate.activation) {
                (Kind::Identity, Activation::Sigmoid) => Some((Activation::Silu, 1.0)),
                (Kind::ScaleShift { scale, shift }, Activation::Clamp(low, high)) if is_hard_sigmoid(scale, shift, low, high) => {
                    Some((Activation::HardSwish, high))
                }
                _ => None,
            };
            if let Some((activation, times)) = swish {
                let layer = &mut graph.layers[at];
                layer.inputs = vec![x];
                layer.kind = Kind::Identity;
                layer.activation = activation;
                if times != 1.0 {
                    // x * clamp(x + 3, 0, 6) is six times the hard swish.
                    times_after(graph, at, times);
                    return true;
                }
                changed = true;
                break;
            }
        }
    }
    changed
}

/// `clamp(x / 6 + 1 / 2, 0, 1)`, times anything.
fn is_hard_sigmoid(scale: &[f32], shift: &[f32], low: f32, high: f32) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-6 * high.abs();
    low == 0.0 && high > 0.0 && scale.iter().all(|&s| near(s, high / 6.0)) && shift.iter().all(|&s| near(s, high / 2.0))
}

/// Multiplies what layer `at` makes.
fn times_after(graph: &mut Graph, at: usize, factor: f32) {
    let output = graph.layers[at].output;
    let value = graph.values[output].clone();
    graph.values.push(value);
    let between = graph.values.len() - 1;
    graph.layers[at].output = between;
    let channels = graph.values[output].channels();
    let kind = Kind::ScaleShift { scale: vec![factor; channels], shift: vec![0.0; channels] };
    let name = graph.layers[at].name.clone();
    graph.layers.insert(at + 1, Layer { name, kind, activation: Activation::None, inputs: vec![between], output });
}

/// A scale and shift joins the layer before it.
fn scale(graph: &mut Graph) -> bool {
    let (makers, uses) = (graph.makers(), graph.uses());
    for at in 0..graph.layers.len() {
        let layer = &graph.layers[at];
        let (Kind::ScaleShift { scale, shift }, &[x]) = (&layer.kind, &layer.inputs[..]) else { continue };
        let Some(before) = sole_maker(&makers, &uses, x) else { continue };
        if graph.layers[before].activation != Activation::None || graph.layers[before].inputs.len() != 1 {
            continue;
        }
        let (scale, shift) = (scale.clone(), shift.clone());
        match &mut graph.layers[before].kind {
            Kind::Conv(conv) => {
                let each = conv.weights.len() / scale.len();
                for (channel, weights) in conv.weights.chunks_exact_mut(each).enumerate() {
                    weights.iter_mut().for_each(|w| *w *= scale[channel]);
                    conv.bias[channel] = conv.bias[channel] * scale[channel] + shift[channel];
                    if let Some(step) = conv.steps.get_mut(channel) {
                        *step *= scale[channel];
                    }
                }
            }
            Kind::ScaleShift { scale: first, shift: offset } | Kind::LayerNorm { scale: first, shift: offset, .. } => {
                for channel in 0..scale.len() {
                    first[channel] *= scale[channel];
                    offset[channel] = offset[channel] * scale[channel] + shift[channel];
                }
            }
            Kind::GlobalSum(factor) if shift.iter().all(|&s| s == 0.0) && scale.iter().all(|&s| s == scale[0]) => *factor *= scale[0],
            _ => continue,
        }
        take_over(graph, before, at);
        return true;
    }
    false
}

/// An activation joins the layer before it.
fn activation(graph: &mut Graph) -> bool {
    let (makers, uses) = (graph.makers(), graph.uses());
    for at in 0..graph.layers.len() {
        let layer = &graph.layers[at];
        let (Kind::Identity, &[x]) = (&layer.kind, &layer.inputs[..]) else { continue };
        let Some(before) = sole_maker(&makers, &uses, x) else { continue };
        let can = !matches!(
            graph.layers[before].kind,
            Kind::Concat | Kind::Slice(_) | Kind::Shuffle(_) | Kind::Pad(_) | Kind::MaxPool(_) | Kind::Quantize(_)
        );
        let Some(both) = one_after_the_other(graph.layers[before].activation, layer.activation).filter(|_| can) else { continue };
        graph.layers[before].activation = both;
        take_over(graph, before, at);
        return true;
    }
    false
}

/// One activation for two, if there is one. Clamps of NaN are those of the first bound in `max` and then `min`.
fn one_after_the_other(first: Activation, then: Activation) -> Option<Activation> {
    let bounds = |a: Activation| match a {
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Clamp(low, high) => Some((low, high)),
        _ => None,
    };
    if first == Activation::None {
        return Some(then);
    }
    let ((a, b), (c, d)) = (bounds(first)?, bounds(then)?);
    let (low, high) = (a.max(c).min(d), b.max(c).min(d));
    Some(if (low, high) == (0.0, f32::INFINITY) { Activation::Relu } else { Activation::Clamp(low, high) })
}

/// The layer `before` makes what `at` made, and `at` goes.
fn take_over(graph: &mut Graph, before: usize, at: usize) {
    graph.layers[before].output = graph.layers[at].output;
    graph.layers.remove(at);
}

/// Zeros around a map join the padding of the convolution that reads it.
fn pad(graph: &mut Graph) -> bool {
    let (makers, uses) = (graph.makers(), graph.uses());
    for at in 0..graph.layers.len() {
        let Some(&x) = graph.layers[at].inputs.first() else { continue };
        let Some(before) = sole_maker(&makers, &uses, x) else { continue };
        let Kind::Pad(zeros) = graph.layers[before].kind else { continue };
        let inner = graph.layers[before].inputs[0];
        let [h, w, _] = graph.values[inner].shape;
        let Kind::Conv(conv) = &mut graph.layers[at].kind else { continue };
        for (pad, zeros) in conv.shape.pad.iter_mut().zip(zeros) {
            *pad += zeros;
        }
        conv.shape.input = [h, w];
        graph.layers[at].inputs[0] = inner;
        graph.layers.remove(before);
        return true;
    }
    false
}

/// A sum of two maps joins the later of the convolutions that make them. If that was to be rounded before the sum, it is not: the sum is the more exact.
fn residual(graph: &mut Graph) -> bool {
    let (makers, uses) = (graph.makers(), graph.uses());
    for at in 0..graph.layers.len() {
        let (Kind::Add, &[a, b]) = (&graph.layers[at].kind, &graph.layers[at].inputs[..]) else { continue };
        let free = |value: ValueId| {
            let maker = sole_maker(&makers, &uses, value)?;
            let maker = match graph.layers[maker].kind {
                Kind::Quantize(_) => sole_maker(&makers, &uses, graph.layers[maker].inputs[0])?,
                _ => maker,
            };
            Some(maker).filter(|&m| {
                let layer = &graph.layers[m];
                matches!(layer.kind, Kind::Conv(_)) && layer.activation == Activation::None && layer.inputs.len() == 1
            })
        };
        let (conv, other) = match (free(a), free(b)) {
            (Some(x), Some(y)) if x > y => (x, b),
            (_, Some(y)) => (y, a),
            (Some(x), None) => (x, b),
            (None, None) => continue,
        };
        // It moves to where the sum stood, for the other map may be made only after where it is.
        let add = graph.layers.remove(at);
        let mut layer = graph.layers.remove(conv);
        layer.inputs.push(other);
        layer.activation = add.activation;
        layer.output = add.output;
        graph.layers.insert(at - 1, layer);
        return true;
    }
    false
}

/// Output channels of each input channel, at most, that become convolutions of their own.
const MOST_TIMES: usize = 4;

/// A depthwise convolution that makes several channels of each, as so many that make one: the kernels know those, and the other way takes ten times as long.
fn multiplied(graph: &mut Graph) -> bool {
    let times = |layer: &Layer| match &layer.kind {
        Kind::Conv(ConvLayer { shape: s, .. }) if layer.inputs.len() == 1 && s.groups == s.in_channels && s.groups > 1 => {
            s.out_channels / s.groups
        }
        _ => 1,
    };
    let Some(at) = graph.layers.iter().position(|l| (2..=MOST_TIMES).contains(&times(l))) else { return false };
    let layer = graph.layers.remove(at);
    let times = times(&layer);
    let Kind::Conv(conv) = &layer.kind else { return false };
    let groups = conv.shape.groups;
    let [h, w, channels] = graph.values[layer.output].shape;
    let mut made = Vec::with_capacity(times + 2);
    let mut parts = Vec::with_capacity(times);
    for nth in 0..times {
        // Of each input channel's output channels the nth.
        let every = |values: &[f32]| -> Vec<f32> {
            let each = values.len() / channels;
            (0..groups * usize::from(each > 0)).flat_map(|g| &values[(g * times + nth) * each..][..each]).copied().collect()
        };
        let shape = ConvShape { out_channels: groups, ..conv.shape };
        let part = ConvLayer { steps: every(&conv.steps), ..ConvLayer::new(shape, every(&conv.weights), every(&conv.bias)) };
        parts.push(graph.value(&layer.name, [h, w, groups]));
        made.push(Layer { kind: Kind::Conv(part), output: parts[nth], ..layer.clone_without_weights() });
    }
    let joined = graph.value(&layer.name, [h, w, channels]);
    let moves = |kind, inputs, output| Layer { name: layer.name.clone(), kind, activation: Activation::None, inputs, output };
    made.push(moves(Kind::Concat, parts, joined));
    made.push(moves(Kind::Shuffle(times), vec![joined], layer.output));
    graph.layers.splice(at..at, made);
    true
}

/// A concatenation that begins with all of an earlier one reads that one instead, so that DenseNet's growing lists grow in place.
fn prefix(graph: &mut Graph) -> bool {
    let concats: Vec<usize> = (0..graph.layers.len()).filter(|&l| graph.layers[l].kind == Kind::Concat).collect();
    for (nth, &later) in concats.iter().enumerate().rev() {
        let inputs = &graph.layers[later].inputs;
        let longest = concats[..nth]
            .iter()
            .filter(|&&l| graph.layers[l].activation == Activation::None && inputs.len() > graph.layers[l].inputs.len())
            .filter(|&&l| inputs.starts_with(&graph.layers[l].inputs))
            .max_by_key(|&&l| graph.layers[l].inputs.len());
        if let Some(&earlier) = longest {
            let mut shorter = vec![graph.layers[earlier].output];
            shorter.extend_from_slice(&inputs[graph.layers[earlier].inputs.len()..]);
            graph.layers[later].inputs = shorter;
            return true;
        }
    }
    false
}
