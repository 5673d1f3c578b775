//! Networks made of tract's operators, as its ONNX importer would make them.

#![allow(dead_code)] // each file of tests uses some of it

mod compare;
mod convnext;
mod quantized;
mod special;

pub use compare::*;

use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, atan, div, max, min, mul, sub, tanh};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, hard_swish, leaky_relu, sigmoid};

/// Something that a network may have in the middle.
#[derive(Debug, Clone)]
pub enum Layer {
    Conv {
        out: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad: usize,
        depthwise: bool,
    },
    Same {
        upper: bool,
        stride: usize,
    },
    Grouped,
    /// Depthwise, with so many output channels for each.
    Multiplied(usize),
    BatchNorm,
    Activation(u8),
    Residual,
    Dense,
    Branches,
    MaxPool {
        kernel: usize,
        stride: usize,
        pad: usize,
        up: bool,
    },
    AvgPool {
        kernel: usize,
        stride: usize,
        pad: usize,
        count_pad: bool,
        up: bool,
    },
    SqueezeExcite,
    SliceHalf,
    Shuffle,
    Pad(usize),
    /// A depthwise convolution, then channels last: a layer norm, a linear layer, a GELU and another linear layer; added to what went in.
    ConvNext {
        division: bool,
    },
    Function(u8),
    /// How strong each channel is over the whole map, against the mean of all, as a factor; with the channels last.
    ResponseNorm,
    Unknown,
    /// With the channels last.
    UnknownLast,
}

pub fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (1usize..20, 1usize..4, 1usize..3, 1usize..3, 0usize..3, any::<bool>())
            .prop_map(|(out, kernel, stride, dilation, pad, depthwise)| Layer::Conv { out, kernel, stride, dilation, pad, depthwise }),
        (any::<bool>(), 1usize..3).prop_map(|(upper, stride)| Layer::Same { upper, stride }),
        Just(Layer::Grouped),
        (2usize..4).prop_map(Layer::Multiplied),
        Just(Layer::BatchNorm),
        (0u8..6).prop_map(Layer::Activation),
        Just(Layer::Residual),
        Just(Layer::Dense),
        Just(Layer::Branches),
        (1usize..4, 1usize..3, any::<bool>(), any::<bool>()).prop_map(|(kernel, stride, pad, up)| Layer::MaxPool {
            kernel,
            stride,
            pad: usize::from(pad && kernel > 1),
            up
        }),
        (1usize..4, 1usize..3, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(kernel, stride, pad, count_pad, up)| {
            Layer::AvgPool { kernel, stride, pad: usize::from(pad && kernel > 1), count_pad, up }
        }),
        Just(Layer::SqueezeExcite),
        Just(Layer::SliceHalf),
        Just(Layer::Shuffle),
        (1usize..3).prop_map(Layer::Pad),
        any::<bool>().prop_map(|division| Layer::ConvNext { division }),
        (0u8..3).prop_map(Layer::Function),
        Just(Layer::ResponseNorm),
    ]
}

pub struct Builder {
    pub model: TypedModel,
    at: OutletId,
    shape: [usize; 3],
    random: u64,
    names: usize,
    /// Whether constants are whole multiples of a step, and maps are rounded.
    quantized: bool,
}

impl Builder {
    pub fn new(channels: usize, [h, w]: [usize; 2], seed: u64) -> TractResult<Self> {
        let mut model = TypedModel::default();
        let n = model.symbols.sym("N");
        let at = model.add_source("input", f32::fact([n.to_dim(), channels.to_dim(), h.to_dim(), w.to_dim()]))?;
        Ok(Self { model, at, shape: [channels, h, w], random: seed | 1, names: 0, quantized: false })
    }

    /// `layers`, then a classifier; the embedding as a second output.
    pub fn network(layers: &[Layer], channels: usize, size: [usize; 2], seed: u64, embedding: bool) -> TractResult<TypedModel> {
        let mut net = Self::new(channels, size, seed)?;
        layers.iter().try_for_each(|l| net.layer(l))?;
        // At least one convolution, so that there is something to take.
        net.conv(7, 1, 1, 1, [0; 4], 1)?;
        net.classifier(embedding)
    }

    /// A pool and a linear layer, and the network is done.
    fn classifier(mut self, embedding: bool) -> TractResult<TypedModel> {
        let net = &mut self;
        let pooled = net.pooled(net.at)?;
        let pooled = net.wire("squeeze", AxisOp::Rm(3), &[pooled])?;
        let pooled = net.wire("squeeze", AxisOp::Rm(2), &[pooled])?;
        let weights = net.constant(&[5, 7])?;
        let logits = net.wire("gemm", EinSum::new("mk,nk->mn".parse()?, f32::datum_type()), &[pooled, weights])?;
        let bias = net.constant(&[1, 5])?;
        let logits = net.wire("bias", add(), &[logits, bias])?;
        let outputs = if embedding { vec![logits, pooled] } else { vec![logits] };
        self.model.select_output_outlets(&outputs)?;
        Ok(self.model)
    }

    fn next(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn wire(&mut self, name: &str, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        self.names += 1;
        Ok(self.model.wire_node(format!("{name}.{}", self.names), op, inputs)?[0])
    }

    fn constant(&mut self, shape: &[usize]) -> TractResult<OutletId> {
        let steps = if self.quantized { 100.0 } else { f32::INFINITY };
        let on_a_step = |v: f32| if steps.is_finite() { (v * steps).round() / steps } else { v };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| on_a_step(self.next())).collect();
        self.names += 1;
        self.model.add_const(format!("constant.{}", self.names), Tensor::from_shape(shape, &values)?)
    }

    fn scalar(&mut self, value: f32) -> TractResult<OutletId> {
        self.names += 1;
        self.model.add_const(format!("constant.{}", self.names), Tensor::from_shape(&[1, 1, 1, 1], &[value])?)
    }

    fn spec(&self, kernel: usize, stride: usize, dilation: usize, padding: PaddingSpec, out: usize) -> PoolSpec {
        let two = |v: usize| tvec!(v, v);
        PoolSpec::new(DataFormat::NCHW, two(kernel), padding, Some(two(dilation)), Some(two(stride)), self.shape[0], out)
    }

    fn conv_with(&mut self, spec: PoolSpec, groups: usize) -> TractResult<()> {
        let (o, k) = (spec.output_channels, spec.kernel_shape[0]);
        let weights = self.constant(&[o, self.shape[0] / groups, k, k])?;
        let bias = self.constant(&[o])?;
        self.at = self.wire("conv", Conv::new(spec, KernelFormat::OIHW, groups, None), &[self.at, weights, bias])?;
        self.reshaped()
    }

    /// Reads the shape from the model.
    fn reshaped(&mut self) -> TractResult<()> {
        let fact = self.model.outlet_fact(self.at)?;
        for axis in 0..3 {
            self.shape[axis] = fact.shape[axis + 1].to_usize()?;
        }
        Ok(())
    }

    fn conv(&mut self, out: usize, kernel: usize, stride: usize, dilation: usize, pad: [usize; 4], groups: usize) -> TractResult<()> {
        let padding = PaddingSpec::Explicit(tvec!(pad[0], pad[1]), tvec!(pad[2], pad[3]));
        self.conv_with(self.spec(kernel, stride, dilation, padding, out), groups)
    }

    fn pooled(&mut self, x: OutletId) -> TractResult<OutletId> {
        let area = (self.shape[1] * self.shape[2]) as f32;
        let sum = self.wire("sum", Reduce::new(tvec!(2, 3), Reducer::Sum), &[x])?;
        let area = self.scalar(area)?;
        self.wire("mean", div(), &[sum, area])
    }

    fn layer(&mut self, layer: &Layer) -> TractResult<()> {
        let [c, h, w] = self.shape;
        match *layer {
            Layer::Conv { out, kernel, stride, dilation, pad, depthwise } => {
                // One less at the bottom, where there is most; a kernel that does not fit would leave a map without pixels.
                let pad = [pad, pad, pad.div_ceil(2), pad];
                if (kernel - 1) * dilation + 1 > (h + pad[0] + pad[2]).min(w + pad[1] + pad[3]) {
                    return Ok(());
                }
                let (out, groups) = if depthwise { (c, c) } else { (out, 1) };
                self.conv(out, kernel, stride, dilation, pad, groups)?;
            }
            Layer::Same { upper, stride } => {
                let padding = if upper { PaddingSpec::SameUpper } else { PaddingSpec::SameLower };
                self.conv_with(self.spec(3, stride, 1, padding, 6), 1)?;
            }
            Layer::Grouped if c.is_multiple_of(2) => self.conv(4, 3, 1, 1, [1; 4], 2)?,
            Layer::Multiplied(by) => self.conv(by * c, 3, 1, 1, [1; 4], c)?,
            Layer::BatchNorm => {
                let (scale, shift) = (self.constant(&[1, c, 1, 1])?, self.constant(&[1, c, 1, 1])?);
                let scaled = self.wire("bn", mul(), &[scale, self.at])?;
                self.at = self.wire("bn", add(), &[scaled, shift])?;
            }
            Layer::Activation(which) => self.activation(which)?,
            Layer::Residual => {
                let before = self.at;
                self.conv(c, 3, 1, 1, [1; 4], 1)?;
                self.layer(&Layer::BatchNorm)?;
                let sum = self.wire("residual", add(), &[self.at, before])?;
                self.at = sum;
                self.activation(0)?;
            }
            Layer::Dense => {
                let before = self.at;
                self.layer(&Layer::BatchNorm)?;
                self.activation(0)?;
                self.conv(3, 3, 1, 1, [1; 4], 1)?;
                let first = self.at;
                let joined = self.wire("concat", TypedConcat::new(1), &[before, first])?;
                self.at = joined;
                self.reshaped()?;
                self.conv(3, 1, 1, 1, [0; 4], 1)?;
                self.at = self.wire("concat", TypedConcat::new(1), &[before, first, self.at])?;
                self.reshaped()?;
            }
            Layer::Branches => {
                let before = self.at;
                self.conv(5, 1, 1, 1, [0; 4], 1)?;
                let one = self.at;
                (self.at, self.shape) = (before, [c, h, w]);
                self.conv(4, 3, 1, 1, [1; 4], 1)?;
                // One branch twice and one that nothing computes: these are copied.
                self.at = self.wire("concat", TypedConcat::new(1), &[one, self.at, one, before])?;
                self.reshaped()?;
            }
            Layer::MaxPool { kernel, stride, pad, up } if kernel <= h.min(w) => {
                let two = tvec!(pad, pad);
                let spec = self.spec(kernel, stride, 1, PaddingSpec::ExplicitOnnxPool(two.clone(), two, up), c);
                self.at = self.wire("max_pool", MaxPool::new(spec, None), &[self.at])?;
                self.reshaped()?;
            }
            Layer::AvgPool { kernel, stride, pad, count_pad, up } if kernel <= h.min(w) => {
                let two = tvec!(pad, pad);
                let spec = self.spec(kernel, stride, 1, PaddingSpec::ExplicitOnnxPool(two.clone(), two, up), c);
                self.at = self.wire("avg_pool", SumPool::new(spec, count_pad, true), &[self.at])?;
                self.reshaped()?;
            }
            Layer::SqueezeExcite => {
                let map = self.at;
                self.at = self.pooled(map)?;
                self.shape = [c, 1, 1];
                self.conv(2, 1, 1, 1, [0; 4], 1)?;
                self.activation(0)?;
                self.conv(c, 1, 1, 1, [0; 4], 1)?;
                self.activation(2)?;
                self.at = self.wire("excite", mul(), &[self.at, map])?;
                self.shape = [c, h, w];
            }
            Layer::SliceHalf if c > 1 => {
                let (first, second) = (Slice::new(1, 0, c / 2), Slice::new(1, c / 2, c));
                let (first, second) = (self.wire("slice", first, &[self.at])?, self.wire("slice", second, &[self.at])?);
                (self.at, self.shape) = (second, [c - c / 2, h, w]);
                self.conv(3, 1, 1, 1, [0; 4], 1)?;
                self.at = self.wire("concat", TypedConcat::new(1), &[first, self.at])?;
                self.reshaped()?;
            }
            Layer::Shuffle if c.is_multiple_of(2) => {
                // A convolution first: an input of tract's is not reshaped by the engine.
                self.conv(6, 1, 1, 1, [0; 4], 1)?;
                let dims = |d: &[usize]| d.iter().map(|d| d.to_dim()).collect::<TVec<_>>();
                let split = self.wire("split", AxisOp::Reshape(1, dims(&[6]), dims(&[2, 3])), &[self.at])?;
                let moved = self.wire("move", AxisOp::Move(1, 2), &[split])?;
                self.at = self.wire("join", AxisOp::Reshape(1, dims(&[3, 2]), dims(&[6])), &[moved])?;
            }
            Layer::Pad(by) => {
                let pads = vec![(0, 0), (0, 0), (by, 0), (1, by)];
                self.at = self.wire("pad", Pad::new(pads, PadMode::Constant(rctensor0(0f32))), &[self.at])?;
                self.reshaped()?;
            }
            Layer::ConvNext { division } => self.conv_next(division)?,
            Layer::UnknownLast => {
                let x = self.wire("last", AxisOp::Move(1, 3), &[self.at])?;
                let x = self.wire("unknown", max(), &[x, x])?;
                self.at = self.wire("first", AxisOp::Move(3, 1), &[x])?;
            }
            Layer::Unknown => self.at = self.wire("unknown", max(), &[self.at, self.at])?,
            Layer::ResponseNorm => self.response_norm()?,
            Layer::Function(which) => {
                let x = self.at;
                self.at = match which {
                    0 => self.wire("tanh", tanh(), &[x])?,
                    1 => self.wire("leaky", leaky_relu(0.1), &[x])?,
                    _ => {
                        let bent = self.wire("atan", atan(), &[x])?;
                        self.wire("difference", sub(), &[bent, x])?
                    }
                };
            }
            _ => (),
        }
        Ok(())
    }

    fn activation(&mut self, which: u8) -> TractResult<()> {
        let x = self.at;
        self.at = match which {
            0 => {
                let zero = self.scalar(0.0)?;
                self.wire("relu", max(), &[x, zero])?
            }
            1 => {
                let (zero, six) = (self.scalar(0.0)?, self.scalar(6.0)?);
                let low = self.wire("relu6.low", max(), &[x, zero])?;
                self.wire("relu6", min(), &[low, six])?
            }
            2 => self.wire("sigmoid", sigmoid(), &[x])?,
            3 => {
                let gate = self.wire("sigmoid", sigmoid(), &[x])?;
                self.wire("silu", mul(), &[x, gate])?
            }
            4 => self.wire("hard_swish", hard_swish(), &[x])?,
            _ => {
                let (three, zero, six) = (self.scalar(3.0)?, self.scalar(0.0)?, self.scalar(6.0)?);
                let shifted = self.wire("plus", add(), &[x, three])?;
                let low = self.wire("low", max(), &[shifted, zero])?;
                let gate = self.wire("high", min(), &[low, six])?;
                let product = self.wire("times", mul(), &[x, gate])?;
                self.wire("sixth", div(), &[product, six])?
            }
        };
        Ok(())
    }
}

/// Puts other numbers into a window.
pub fn spoil(spec: &mut PoolSpec, which: u8, a: usize, b: usize) {
    match which {
        0..=3 => spec.strides = Some(tvec!(a, b)),
        4 => spec.dilations = Some(tvec!(a, b)),
        5 => spec.kernel_shape = tvec!(a, b),
        6 => spec.padding = PaddingSpec::Explicit(tvec!(a, 1), tvec!(1, b)),
        _ => spec.padding = PaddingSpec::ExplicitOnnxPool(tvec!(a, 0), tvec!(b, 0), true),
    }
}
