//! Before a model runs: a layer of each kind against tract's own operators, on random input. A kernel that is wrong on some machine must not label a
//! lake.

use std::collections::BTreeMap;

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::math::{add, div, erf, max, min, mul, rsqrt, square, sub};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, hard_swish, leaky_relu, sigmoid};

use crate::ir::{ConvLayer, Divisor, Dtype, Graph, Kind, Layer, Value, Window};
use crate::kernels::{Activation, Algorithm, Bf16};
use crate::plan::{Buffers, Plan};
use crate::precision::ends_in_floats;

/// Runs the cheapest layer of each kind.
///
/// # Errors
/// What differs, by how much, from what.
pub(crate) fn check(graph: &Graph, tolerance: f32) -> Result<(), String> {
    let mut kinds: BTreeMap<String, &Layer> = BTreeMap::new();
    for layer in &graph.layers {
        let Some(signature) = signature(graph, layer) else { continue };
        let cost = |l: &Layer| Graph::flops(l) as usize + graph.values[l.output].len();
        kinds
            .entry(signature)
            .and_modify(|cheapest| {
                if cost(layer) < cost(cheapest) {
                    *cheapest = layer
                }
            })
            .or_insert(layer);
    }
    kinds.into_iter().try_for_each(|(kind, layer)| {
        let difference = difference(graph, layer).map_err(|e| format!("layer {:?} ({kind}) cannot be compared: {e:#}", layer.name))?;
        let bf16 = |v: usize| graph.values[v].dtype == Dtype::Bf16;
        let at_points = matches!(&layer.kind, Kind::Conv(conv) if conv.algorithm != Algorithm::Direct) && bf16(layer.inputs[0]);
        let rounded = f32::from(u8::from(bf16(layer.output)) + 2 * u8::from(at_points));
        let tolerance = tolerance + rounded * ROUNDING;
        if difference <= tolerance {
            return Ok(());
        }
        Err(format!(
            "layer {:?} ({kind}) differs from tract's by {difference:.2e} of the largest value, more than {tolerance:.0e}",
            layer.name
        ))
    })
}

/// Layers of one signature run the same code; `None` for what only moves values.
fn signature(graph: &Graph, layer: &Layer) -> Option<String> {
    let of = |v: usize| match graph.values[v].dtype {
        Dtype::F32 => "",
        Dtype::Bf16 => " of bf16",
        Dtype::U8(_) => " of bytes",
    };
    let (x, made) = (of(layer.inputs[0]), of(layer.output));
    let what = match &layer.kind {
        Kind::Conv(ConvLayer { shape: s, algorithm, .. }) => format!(
            "{algorithm:?}, {:?} by {:?}, dilated {:?}, {}, {} inputs",
            s.kernel,
            s.stride,
            s.dilation,
            if s.groups == 1 {
                "dense"
            } else if s.groups == s.in_channels {
                "depthwise"
            } else {
                "grouped"
            },
            layer.inputs.len()
        ),
        Kind::MaxPool(w) | Kind::AvgPool(w, _) => format!("{:?} by {:?}", w.kernel, w.stride),
        Kind::GlobalSum(_)
        | Kind::ScaleShift { .. }
        | Kind::LayerNorm { .. }
        | Kind::OverMean(_)
        | Kind::Add
        | Kind::Sub
        | Kind::Mul
        | Kind::MulChannels => String::new(),
        Kind::Quantize(_) => String::new(),
        Kind::Function(op) => format!("{:?}", op.0),
        Kind::Identity if layer.activation != Activation::None || x != made => String::new(),
        _ => return None,
    };
    Some(format!("{} {what}{x} {:?}{made}", layer.kind.name(), layer.activation))
}

/// Of the largest value, what a value loses in bf16: half a unit of the eighth bit. Twice as much is more than Winograd's method loses in it: one value in
/// 300 of the typical one, six times that in the worst of the values compared.
const ROUNDING: f32 = 1.0 / 256.0;
/// Output channels that a dense convolution is tested with: whole tiles of every kernel, and a classifier of a hundred million weights costs nothing.
const CHANNELS: usize = 128;
/// Height and width that a convolution is tested with, if the layer's are larger: several tiles and a part of one.
const SIZE: [usize; 2] = [14, 19];

/// The layer alone. A convolution on a smaller map and with fewer output channels, for the same code runs on it in a fraction of the time.
fn alone(graph: &Graph, layer: &Layer) -> Graph {
    let mut made = graph.values[layer.output].clone();
    let mut inputs: Vec<Value> = layer.inputs.iter().map(|&v| graph.values[v].clone()).collect();
    let kind = match &layer.kind {
        Kind::Conv(conv) => {
            let mut shape = conv.shape;
            for (axis, size) in SIZE.into_iter().enumerate() {
                let reach = (shape.kernel[axis] - 1) * shape.dilation[axis] + 1;
                shape.input[axis] = shape.input[axis].min(size.max(reach));
            }
            if shape.groups == 1 {
                shape.out_channels = shape.out_channels.min(CHANNELS);
            }
            let weights = conv.weights[..conv.weights.len() / conv.shape.out_channels * shape.out_channels].to_vec();
            inputs[0].shape[..2].copy_from_slice(&shape.input);
            let [h, w] = shape.output();
            made.shape = [h, w, shape.out_channels];
            inputs[1..].iter_mut().for_each(|residual| residual.shape = made.shape);
            let of_channels = |values: &[f32]| values[..values.len().min(shape.out_channels)].to_vec();
            let (steps, bias) = (of_channels(&conv.steps), of_channels(&conv.bias));
            Kind::Conv(ConvLayer { shape, weights, steps, bias, algorithm: conv.algorithm })
        }
        other => other.clone(),
    };
    let count = inputs.len();
    let layer = Layer { kind, inputs: (0..count).collect(), output: count, ..layer.clone_without_weights() };
    inputs.push(made);
    Graph { values: inputs, layers: vec![layer], inputs: (0..count).collect(), outputs: vec![count] }
}

/// Largest difference over largest value between the engine's result and tract's.
fn difference(graph: &Graph, layer: &Layer) -> TractResult<f32> {
    let mut alone = alone(graph, layer);
    let layer = &alone.layers[0];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let shape = |v: usize| alone.values[v].shape;
    // Numbers that the layer's precision holds, for both.
    let mut number = |dtype: Dtype| match dtype {
        Dtype::F32 => random.next(),
        Dtype::Bf16 => Bf16::from(random.next()).into(),
        Dtype::U8(how) => {
            let (scale, shift) = how.dequantize();
            ((random.next() + 1.0) * 127.5).round() * scale + shift
        }
    };
    let values = |&v: &usize| &alone.values[v];
    let mut data: Vec<Vec<f32>> = alone.inputs.iter().map(values).map(|v| (0..v.len()).map(|_| number(v.dtype)).collect()).collect();
    if matches!(layer.kind, Kind::OverMean(_)) {
        // As where it is used: a mean of any values may be next to nothing.
        data.iter_mut().flatten().for_each(|v| *v = v.abs());
    }

    let mut model = TypedModel::default();
    let mut sources = Vec::new();
    for (at, &value) in alone.inputs.iter().enumerate() {
        let [h, w, c] = shape(value);
        sources.push(model.add_source(format!("in{at}"), f32::fact([1, c, h, w]))?);
    }
    let output = as_tract(&mut model, layer, &sources, shape(0))?;
    model.select_output_outlets(&[output])?;
    let tensors = alone.inputs.iter().zip(&data).map(|(&v, values)| {
        let [h, w, c] = shape(v);
        Ok(Tensor::from_shape(&[1, c, h, w], values)?.into_tvalue())
    });
    let due = model.into_runnable()?.run(tensors.collect::<TractResult<_>>()?)?;
    let due = due.first().context("no output")?.clone();
    let due = due.try_as_plain_ram()?;
    let due = due.as_slice::<f32>()?;

    let typical = typical(layer);
    let mut got = vec![0.0; alone.values[layer.output].len()];
    let inputs: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    // What a byte cannot stand for saturates, and half a step is lost by rounding.
    let (range, half) = match alone.values[alone.outputs[0]].dtype {
        Dtype::U8(how) => (how.range(), how.scale * 0.501),
        _ => ((f32::NEG_INFINITY, f32::INFINITY), 0.0),
    };
    ends_in_floats(&mut alone);
    Plan::new(alone).run(1, &inputs, &mut [&mut got], &mut Buffers::default());
    ensure!(due.len() == got.len(), "{} values where {} are due", got.len(), due.len());
    let largest = due.iter().fold(typical.max(f32::MIN_POSITIVE), |m, v| m.max(v.abs()));
    // A NaN on one side only is a difference without bound.
    let apart = |(a, b): (&f32, &f32)| {
        let lost = (a - b.max(range.0).min(range.1)).abs() - half;
        if a.is_nan() == b.is_nan() { lost.max(0.0) / largest } else { f32::INFINITY }
    };
    Ok(got.iter().zip(due).map(apart).fold(0.0, f32::max))
}

/// How large a convolution's values are on the random input, but for chance: the largest standard deviation of an output channel. Where there are many
/// values the largest is more than that, but the two of a small linear layer may both be next to nothing, as the rounding of their terms is not.
fn typical(layer: &Layer) -> f32 {
    let Kind::Conv(conv) = &layer.kind else { return 0.0 };
    let squares = |weights: &[f32]| weights.iter().map(|w| w * w).sum::<f32>();
    let largest = conv.weights.chunks(conv.weights.len() / conv.shape.out_channels).map(squares).fold(0.0, f32::max);
    // The variance of a value between -1 and 1 is a third.
    (largest / 3.0).sqrt()
}

/// The layer in tract's operators.
fn as_tract(model: &mut TypedModel, layer: &Layer, inputs: &[OutletId], of_x: [usize; 3]) -> TractResult<OutletId> {
    let x = inputs[0];
    let share = 1.0 / of_x[2] as f32;
    let mean_of = |model: &mut TypedModel, name: &str, of: OutletId| {
        let sum = model.wire_node(format!("{name}.sum"), Reduce::new(tvec!(1), Reducer::Sum), &[of])?[0];
        with_scalar(model, name, mul(), sum, share)
    };
    let wired = match &layer.kind {
        Kind::Conv(conv) => {
            let s = &conv.shape;
            let kernel = Tensor::from_shape(&[s.out_channels, s.in_channels / s.groups, s.kernel[0], s.kernel[1]], &conv.weights)?;
            let kernel = model.add_const("weights", kernel)?;
            let bias = model.add_const("bias", tensor1(&conv.bias))?;
            let mut spec = pool_spec(s.kernel, s.stride, s.dilation, s.in_channels);
            spec.padding = PaddingSpec::Explicit(tvec!(s.pad[0], s.pad[1]), tvec!(s.pad[2], s.pad[3]));
            spec.output_channels = s.out_channels;
            let conv = Conv::new(spec, KernelFormat::OIHW, s.groups, None);
            let made = model.wire_node("conv", conv, &[x, kernel, bias])?[0];
            match inputs.get(1) {
                Some(&residual) => model.wire_node("residual", add(), &[made, residual])?[0],
                None => made,
            }
        }
        Kind::MaxPool(w) => model.wire_node("pool", MaxPool::new(window_spec(w, None, of_x), None), &[x])?[0],
        Kind::AvgPool(w, divisor) => {
            let padded = if let Divisor::Padded(size) = divisor { Some(*size) } else { None };
            let pool = SumPool::new(window_spec(w, padded, of_x), padded.is_some(), *divisor != Divisor::One);
            model.wire_node("pool", pool, &[x])?[0]
        }
        Kind::GlobalSum(factor) => {
            let sum = model.wire_node("sum", Reduce::new(tvec!(2, 3), Reducer::Sum), &[x])?[0];
            with_scalar(model, "factor", mul(), sum, *factor)?
        }
        Kind::ScaleShift { scale, shift } => scaled_and_shifted(model, x, scale, shift)?,
        Kind::OverMean(epsilon) => {
            let mean = mean_of(model, "mean", x)?;
            let mean = with_scalar(model, "more", add(), mean, *epsilon)?;
            model.wire_node("over", div(), &[x, mean])?[0]
        }
        Kind::LayerNorm { epsilon, scale, shift } => {
            let mean = mean_of(model, "mean", x)?;
            let off = model.wire_node("off", sub(), &[x, mean])?[0];
            let squares = model.wire_node("squares", square(), &[off])?[0];
            let variance = mean_of(model, "variance", squares)?;
            let variance = with_scalar(model, "more", add(), variance, *epsilon)?;
            let factor = model.wire_node("factor", rsqrt(), &[variance])?[0];
            let normalized = model.wire_node("normalized", mul(), &[off, factor])?[0];
            scaled_and_shifted(model, normalized, scale, shift)?
        }
        Kind::Add => model.wire_node("sum", add(), inputs)?[0],
        Kind::Function(op) => model.wire_node("function", op.clone(), &[x])?[0],
        Kind::Sub => model.wire_node("difference", sub(), inputs)?[0],
        Kind::Mul | Kind::MulChannels => model.wire_node("product", mul(), inputs)?[0],
        _ => x,
    };
    match layer.activation {
        Activation::None => Ok(wired),
        Activation::Relu => with_scalar(model, "relu", max(), wired, 0.0),
        Activation::Clamp(low, high) => {
            let low = with_scalar(model, "low", max(), wired, low)?;
            with_scalar(model, "high", min(), low, high)
        }
        Activation::Sigmoid => Ok(model.wire_node("sigmoid", sigmoid(), &[wired])?[0]),
        Activation::Silu => {
            let gate = model.wire_node("sigmoid", sigmoid(), &[wired])?[0];
            Ok(model.wire_node("silu", mul(), &[wired, gate])?[0])
        }
        Activation::HardSwish => Ok(model.wire_node("hard_swish", hard_swish(), &[wired])?[0]),
        Activation::Leaky(share) => Ok(model.wire_node("leaky", leaky_relu(share), &[wired])?[0]),
        Activation::Gelu => {
            let scaled = with_scalar(model, "scaled_down", mul(), wired, std::f32::consts::FRAC_1_SQRT_2)?;
            let erf = model.wire_node("erf", erf(), &[scaled])?[0];
            let below = with_scalar(model, "plus_one", add(), erf, 1.0)?;
            let twice = model.wire_node("twice", mul(), &[wired, below])?[0];
            with_scalar(model, "half", mul(), twice, 0.5)
        }
    }
}

fn scaled_and_shifted(model: &mut TypedModel, x: OutletId, scale: &[f32], shift: &[f32]) -> TractResult<OutletId> {
    let of = |values: &[f32]| Tensor::from_shape(&[1, values.len(), 1, 1], values);
    let (scale, shift) = (model.add_const("scale", of(scale)?)?, model.add_const("shift", of(shift)?)?);
    let scaled = model.wire_node("scaled", mul(), &[x, scale])?[0];
    Ok(model.wire_node("shifted", add(), &[scaled, shift])?[0])
}

fn with_scalar(model: &mut TypedModel, name: &str, op: impl Into<Box<dyn TypedOp>>, x: OutletId, scalar: f32) -> TractResult<OutletId> {
    let scalar = model.add_const(format!("{name}.constant"), Tensor::from_shape(&[1, 1, 1, 1], &[scalar])?)?;
    Ok(model.wire_node(name, op, &[x, scalar])?[0])
}

fn pool_spec(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], channels: usize) -> PoolSpec {
    PoolSpec::new(
        DataFormat::NCHW,
        kernel.as_slice().into(),
        PaddingSpec::Valid,
        Some(dilation.as_slice().into()),
        Some(stride.as_slice().into()),
        channels,
        channels,
    )
}

/// A window in tract's terms. Where padding is not counted, the end is padded as far as the last window reaches: that adds nothing to a sum and no
/// candidate to a maximum.
fn window_spec(w: &Window, padded: Option<[usize; 2]>, [height, width, channels]: [usize; 3]) -> PoolSpec {
    let size = [height, width];
    let after = |axis: usize| padded.map_or(w.reach(axis), |p| p[axis]).saturating_sub(size[axis] + w.pad[axis]);
    let (before, after) = (w.pad.as_slice().into(), tvec!(after(0), after(1)));
    let mut spec = pool_spec(w.kernel, w.stride, w.dilation, channels);
    let rounds_up = (0..2).any(|axis| w.reach(axis) > size[axis] + w.pad[axis] + after[axis]);
    spec.padding = PaddingSpec::ExplicitOnnxPool(before, after, rounds_up);
    spec
}

/// Xorshift (Marsaglia, 2003), in [-1, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
