//! Convolutions, pooling, linear layers; and the table of all operators.

use tract_core::internal::*;
use tract_core::ops::array::{Pad, PadMode, Slice, StridedSlice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::math::Square;
use tract_core::ops::nn::{DataFormat, HardSwish, LeakyRelu, Reduce, Reducer, Sigmoid, gelu_exact::GeluExact, silu::Silu};
use tract_core::ops::quant::DequantizeLinearF32;

use super::{Lowering, Made, Refusal};
use crate::ir::{ConvLayer, Divisor, Kind, Window};
use crate::kernels::{Activation, ConvShape};
use crate::plan::applied;

/// Kernels, strides, dilations and paddings beyond it are no network's.
const FARTHEST: usize = 1 << 15;

impl Lowering<'_> {
    /// What `node` is in the engine's terms.
    pub(super) fn made(&mut self, node: &TypedNode) -> Result<Made, Refusal> {
        if let Some(op) = node.op_as::<Conv>() {
            self.conv(node, op)
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            self.binary(node, op)
        } else if self.quantizes(node) {
            self.quantize(node)
        } else if node.op_is::<DequantizeLinearF32>() {
            self.dequantize(node)
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            self.element_wise(node, op)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            self.max_pool(node, op)
        } else if let Some(op) = node.op_as::<SumPool>() {
            self.sum_pool(node, op)
        } else if let Some(op) = node.op_as::<Reduce>() {
            self.reduce(node, op)
        } else if let Some(op) = node.op_as::<EinSum>() {
            self.linear(node, op)
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            self.concat(node, op)
        } else if let Some(op) = node.op_as::<AxisOp>() {
            self.axis(node, op)
        } else if let Some(op) = node.op_as::<Slice>() {
            let start = op.start.to_i64().map_err(|_| Refusal::from("slices by the batch"))?;
            self.slice(node, op.axis, start)
        } else if let Some(op) = node.op_as::<StridedSlice>() {
            self.strided_slice(node, op)
        } else if let Some(op) = node.op_as::<Pad>() {
            self.pad(node, op)
        } else if node.op_is::<Identity>() || node.op_as::<Cast>().is_some_and(|c| c.to == f32::datum_type()) {
            self.same(node.inputs[0])
        } else {
            Err(format!("the engine has no {}", node.op.name()).into())
        }
    }

    fn conv(&mut self, node: &TypedNode, op: &Conv) -> Result<Made, Refusal> {
        let (&[x, kernel, bias], None) = (&node.inputs[..], op.q_params) else { return Err("is quantised".into()) };
        let (value, [h, w, c]) = self.map(x)?;
        let (kernel, spec) = (self.floats(kernel, "weights")?, &op.pool_spec);
        let (mut bias, _) = self.floats(bias, "biases")?;
        let (o, groups) = (spec.output_channels, op.group);
        let [kh, kw] = kernel_size(spec)?;
        if spec.input_channels != c || groups == 0 || c % groups != 0 || o % groups != 0 || o == 0 {
            return Err(Refusal::Wrong(format!("{o} channels in {groups} groups over an input of {c}")));
        }
        let weights = oihw(kernel, op.kernel_fmt, [o, c / groups, kh, kw])?;
        let steps = self.steps(&weights, o);
        if bias.len() == 1 {
            bias = vec![bias[0]; o];
        }
        if bias.len() != o {
            return Err(Refusal::Wrong(format!("{} biases for {o} channels", bias.len())));
        }
        let (pad, output) = padding(spec, [h, w])?;
        let shape = ConvShape {
            input: [h, w],
            in_channels: c,
            out_channels: o,
            kernel: [kh, kw],
            stride: [spec.stride(0), spec.stride(1)],
            dilation: [spec.dilation(0), spec.dilation(1)],
            pad,
            groups,
        };
        if output != shape.output() {
            return Err(format!("rounds its output to {} x {}", output[0], output[1]).into());
        }
        let kind = Kind::Conv(ConvLayer { steps, ..ConvLayer::new(shape, weights, bias) });
        Ok(Made::layer(kind, vec![value], [output[0], output[1], o]))
    }

    fn linear(&mut self, node: &TypedNode, op: &EinSum) -> Result<Made, Refusal> {
        let &[a, b] = &node.inputs[..] else { return Err("is quantised".into()) };
        let axes = op.axes.to_string();
        let Some(((left, right), out)) = axes.split_once("->").and_then(|(i, o)| Some((i.split_once(',')?, o))) else {
            return Err(format!("is the product {axes}").into());
        };
        let (x, weights, of_x, of_w) = match self.constant(a) {
            None => (a, b, left, right),
            Some(_) => (b, a, right, left),
        };
        let operand = self.operand(x)?;
        // The same places, batch included, but for the channels; and a matrix of both channels.
        let (x_axes, out_axes): (Vec<char>, Vec<char>) = (of_x.chars().collect(), out.chars().collect());
        let channels = operand.channel_axis(&self.out.graph);
        let at = channels.unwrap_or(1);
        let others = |axes: &[char]| axes.iter().enumerate().filter(|(place, _)| *place != at).map(|(_, axis)| *axis).collect::<Vec<_>>();
        let transposed = match (x_axes.get(at), out_axes.get(at), &of_w.chars().collect::<Vec<_>>()[..]) {
            (Some(i), Some(o), [p, q]) if others(&x_axes) == others(&out_axes) && i != o && p != q => match (p == o, p == i) {
                (true, _) if q == i => false,
                (_, true) if q == o => true,
                _ => return Err(format!("is the product {axes}").into()),
            },
            _ => return Err(format!("is the product {axes}").into()),
        };
        let [h, w, c] = self.out.graph.values[operand.value].shape;
        let (weights, shape) = self.floats(weights, "weights")?;
        let &[rows, columns] = &shape[..] else { return Err(Refusal::Wrong(format!("weights of shape {shape:?}"))) };
        let (o, k) = if transposed { (columns, rows) } else { (rows, columns) };
        let weights = if transposed { (0..o * k).map(|at| weights[at % k * o + at / k]).collect() } else { weights };
        let steps = self.steps(&weights, o);
        // Over a map that was flattened this is a convolution as large as the map: no transposition is needed, for the weights are in its order.
        let (kernel, out) = match &operand.tail[..] {
            [all] if *all == c * h * w && k == *all => ([h, w], [1, 1, o]),
            _ if channels.is_some() && k == c => ([1, 1], [h, w, o]),
            _ => return Err(format!("multiplies {:?} by {shape:?}", operand.tail).into()),
        };
        let shape =
            ConvShape { input: [h, w], in_channels: c, out_channels: o, kernel, stride: [1, 1], dilation: [1, 1], pad: [0; 4], groups: 1 };
        let conv = ConvLayer { steps, ..ConvLayer::new(shape, weights, vec![0.0; o]) };
        Ok(Made::layer(Kind::Conv(conv), vec![operand.value], out).ordered_as(&operand))
    }

    fn window(&mut self, node: &TypedNode, spec: &PoolSpec) -> Result<(usize, usize, Window, [usize; 2]), Refusal> {
        let (value, [h, w, c]) = self.map(node.inputs[0])?;
        let kernel = kernel_size(spec)?;
        let (pad, output) = padding(spec, [h, w])?;
        let window = Window {
            kernel,
            stride: [spec.stride(0), spec.stride(1)],
            dilation: [spec.dilation(0), spec.dilation(1)],
            pad: [pad[0], pad[1]],
            output,
        };
        let padded = [h + pad[0] + pad[2], w + pad[1] + pad[3]];
        // A window that sees nothing but padding has no largest value and no average.
        let sees_some = |axis: usize| {
            let size = [h, w][axis];
            (0..window.output[axis]).all(|at| {
                (0..kernel[axis])
                    .any(|k| (at * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pad[axis]).is_some_and(|p| p < size))
            })
        };
        if !sees_some(0) || !sees_some(1) {
            return Err("has windows that see only padding".into());
        }
        Ok((value, c, window, padded))
    }

    fn max_pool(&mut self, node: &TypedNode, op: &MaxPool) -> Result<Made, Refusal> {
        let (value, c, window, _) = self.window(node, &op.pool_spec)?;
        Ok(Made::layer(Kind::MaxPool(window), vec![value], [window.output[0], window.output[1], c]))
    }

    fn sum_pool(&mut self, node: &TypedNode, op: &SumPool) -> Result<Made, Refusal> {
        let (value, c, window, padded) = self.window(node, &op.pool_spec)?;
        let [h, w, _] = self.out.graph.values[value].shape;
        let one_to_one = window.kernel == [1, 1] && window.stride == [1, 1] && window.output == [h, w] && window.pad == [0, 0];
        if one_to_one && !self.out.imports.contains_key(&value) {
            return self.same(node.inputs[0]);
        }
        let divisor = match (op.normalize, op.count_include_pad) {
            (false, _) => Divisor::One,
            (true, false) => Divisor::Valid,
            (true, true) => Divisor::Padded(padded),
        };
        if window.kernel == [h, w] && window.output == [1, 1] && window.pad == [0, 0] && window.dilation == [1, 1] {
            let scale = if op.normalize { 1.0 / (h * w) as f32 } else { 1.0 };
            return Ok(Made::layer(Kind::GlobalSum(scale), vec![value], [1, 1, c]));
        }
        Ok(Made::layer(Kind::AvgPool(window, divisor), vec![value], [window.output[0], window.output[1], c]))
    }

    fn reduce(&mut self, node: &TypedNode, op: &Reduce) -> Result<Made, Refusal> {
        let operand = self.operand(node.inputs[0])?;
        let (value, [h, w, c]) = (operand.value, self.out.graph.values[operand.value].shape);
        if !(operand.is_map(&self.out.graph) && *op.axes == [2, 3] || operand.channels_last && *op.axes == [1, 2]) {
            return Err(format!("reduces the axes {:?} of {:?}", op.axes, operand.tail).into());
        }
        let kind = match op.reducer {
            Reducer::Sum => Kind::GlobalSum(1.0),
            Reducer::Max => Kind::MaxPool(Window { kernel: [h, w], stride: [1, 1], dilation: [1, 1], pad: [0, 0], output: [1, 1] }),
            _ => return Err(format!("reduces to {:?}", op.reducer).into()),
        };
        Ok(Made::layer(kind, vec![value], [1, 1, c]).ordered_as(&operand))
    }

    fn element_wise(&mut self, node: &TypedNode, op: &ElementWiseOp) -> Result<Made, Refusal> {
        let activation = if op.0.is::<Sigmoid>() {
            Activation::Sigmoid
        } else if op.0.is::<Silu>() {
            Activation::Silu
        } else if op.0.is::<HardSwish>() {
            Activation::HardSwish
        } else if op.0.is::<GeluExact>() {
            Activation::Gelu
        } else if let Some(&LeakyRelu { alpha }) = op.0.downcast_ref()
            && alpha.is_finite()
        {
            Activation::Leaky(alpha)
        } else {
            Activation::None
        };
        let x = self.operand(node.inputs[0])?;
        let shape = self.out.graph.values[x.value].shape;
        if activation != Activation::None {
            return Ok(Made::activation(activation, x.value, shape).ordered_as(&x));
        }
        if op.0.is::<Square>() {
            return Ok(Made::layer(Kind::Mul, vec![x.value, x.value], shape).ordered_as(&x));
        }
        // Every function of single values is tract's as good as in a map of its own, if it is one of floats.
        if applied(op, 2, |_| (), |_| ()).is_err() {
            return Err(format!("the engine has no {}", op.0.name()).into());
        }
        Ok(Made::layer(Kind::Function(op.clone()), vec![x.value], shape).ordered_as(&x))
    }

    fn pad(&mut self, node: &TypedNode, op: &Pad) -> Result<Made, Refusal> {
        let zero = |t: &Tensor| t.cast_to_scalar::<f32>().is_ok_and(|v| v == 0.0);
        if !matches!(&op.mode, PadMode::Constant(t) if zero(t)) {
            return Err("pads with something else than zeros".into());
        }
        let &[(0, 0), (0, 0), (top, bottom), (left, right)] = &op.pads[..] else { return Err("pads batch or channels".into()) };
        if [top, bottom, left, right].iter().any(|&p| p > FARTHEST) {
            return Err(format!("is padded by {:?}", op.pads).into());
        }
        let (value, [h, w, c]) = self.map(node.inputs[0])?;
        Ok(Made::layer(Kind::Pad([top, left, bottom, right]), vec![value], [h + top + bottom, w + left + right, c]))
    }
}

/// Height and width of a kernel over maps with channels first.
fn kernel_size(spec: &PoolSpec) -> Result<[usize; 2], Refusal> {
    let &[h, w] = &spec.kernel_shape[..] else { return Err(format!("has a kernel of {} axes", spec.kernel_shape.len()).into()) };
    if spec.data_format != DataFormat::NCHW {
        return Err(format!("has its input as {:?}", spec.data_format).into());
    }
    if h * w == 0 || (0..2).any(|a| spec.stride(a) == 0 || spec.dilation(a) == 0) {
        return Err(Refusal::Wrong(format!(
            "a kernel of {h} x {w} with strides {:?} and dilations {:?}",
            spec.strides(),
            spec.dilations()
        )));
    }
    if (0..2).any(|a| [[h, w][a], spec.stride(a), spec.dilation(a)].iter().any(|&v| v > FARTHEST)) {
        return Err(format!("has a kernel of {h} x {w} with strides {:?} and dilations {:?}", spec.strides(), spec.dilations()).into());
    }
    Ok([h, w])
}

/// How the borders are padded (top, left, bottom, right), within reason, and the height and width of the output.
fn padding(spec: &PoolSpec, size: [usize; 2]) -> Result<([usize; 4], [usize; 2]), Refusal> {
    // An absurd number could overflow before it is seen in a result.
    if let PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) = &spec.padding
        && (before.len() != 2 || after.len() != 2 || before.iter().chain(after).any(|&p| p > FARTHEST))
    {
        return Err(format!("is padded by {before:?} and {after:?}").into());
    }
    let along = spec.computed_padding(&size);
    let pad = [along[0].pad_before, along[1].pad_before, along[0].pad_after, along[1].pad_after];
    Ok((pad, [along[0].convoluted, along[1].convoluted]))
}

/// Weights in the order output channel, input channel, row, column.
fn oihw((weights, shape): (Vec<f32>, TVec<usize>), format: KernelFormat, due: [usize; 4]) -> Result<Vec<f32>, Refusal> {
    // where each of o, i, h, w stands
    let places = match format {
        KernelFormat::OIHW => [0, 1, 2, 3],
        KernelFormat::OHWI => [0, 3, 1, 2],
        KernelFormat::HWIO => return Err("has its weights as HWIO".into()),
    };
    if shape.len() != 4 || (0..4).any(|a| shape[places[a]] != due[a]) {
        return Err(Refusal::Wrong(format!("weights of shape {shape:?} where {due:?} were due")));
    }
    if places == [0, 1, 2, 3] {
        return Ok(weights);
    }
    let mut strides = [1; 4];
    for axis in (0..3).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    let [_, i, h, w] = due;
    let at = |n: usize| [n / (i * h * w), n / (h * w) % i, n / w % h, n % w];
    Ok((0..weights.len()).map(|n| weights[at(n).iter().zip(places).map(|(x, place)| x * strides[place]).sum::<usize>()]).collect())
}
