//! The engine's own small graph: layers over channels-last values. Everything is said of *one* image; how many run at once is known only when running.

use tract_core::ops::element_wise::ElementWiseOp;

use crate::kernels::{Activation, Algorithm, ConvShape, Quantized};

/// Place of a [`Value`] in [`Graph::values`].
pub type ValueId = usize;

/// Type of a value's elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// The upper half of that.
    Bf16,
    /// A whole number from 0 to 255, and what it stands for.
    U8(Quantized),
}

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
            Dtype::U8(_) => 1,
        }
    }

    /// What numbers stand for, if the values are some.
    pub fn quantized(self) -> Option<Quantized> {
        if let Dtype::U8(quantized) = self { Some(quantized) } else { None }
    }
}

/// Activations of one image: `[height, width, channels]`. A vector is a map of one pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Name of the node that makes it, for messages.
    pub name: String,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Element type.
    pub dtype: Dtype,
}

impl Value {
    /// Elements of one image.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Words of 32 bits that one image takes.
    pub fn words(&self) -> usize {
        (self.len() * self.dtype.bytes()).div_ceil(4)
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.shape[2]
    }

    /// Pixels.
    pub fn pixels(&self) -> usize {
        self.shape[0] * self.shape[1]
    }
}

/// A pooling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Down and across.
    pub dilation: [usize; 2],
    /// Above and left of the input.
    pub pad: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Window {
    /// Places of the padded input along `axis` from its start to the end of the last window.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        (self.output[axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }
}

/// What an average is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Divisor {
    /// By nothing: the sum.
    One,
    /// By the taps that lie in the input.
    Valid,
    /// By the taps that lie in the input or its padding; the padded size is given, for a window may reach past it where sizes are rounded up.
    Padded([usize; 2]),
}

/// What a layer computes from its inputs (`x`, then the others in order), before its activation.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A convolution, or a linear layer (a convolution of all that there is). A second input, if there is one, is added before the activation.
    Conv(ConvLayer),
    /// Largest value of a window.
    MaxPool(Window),
    /// Sum or average of a window.
    AvgPool(Window, Divisor),
    /// Sum of all pixels times a constant: with one pixel's share, the average.
    GlobalSum(f32),
    /// `x * scale + shift`, one of each for a channel.
    ScaleShift {
        /// Factors.
        scale: Vec<f32>,
        /// Added afterwards.
        shift: Vec<f32>,
    },
    /// Each pixel's channels with a mean of 0 and a variance of 1, and then as [`Kind::ScaleShift`].
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Factors.
        scale: Vec<f32>,
        /// Added afterwards.
        shift: Vec<f32>,
    },
    /// Each pixel's channels over their mean, to which this is added: the global response normalisation of ConvNeXt V2 (Woo et al., 2023).
    OverMean(f32),
    /// `x + y`, of one shape.
    Add,
    /// `x - y`, of one shape.
    Sub,
    /// `x * y`, of one shape.
    Mul,
    /// `x * y`, where `y` has one pixel: squeeze and excite.
    MulChannels,
    /// `x` itself: an activation on its own.
    Identity,
    /// A function of each value that the engine has none for: tract computes it, on a copy.
    Function(ElementWiseOp),
    /// All inputs, one after the other along the channels.
    Concat,
    /// Channels from a first one on.
    Slice(usize),
    /// Channel `a * groups + b` of the output is channel `b * (channels / groups) + a` of the input.
    Shuffle(usize),
    /// Zeros around the input: top, left, bottom, right.
    Pad([usize; 4]),
    /// `x` rounded to what a byte can stand for.
    Quantize(Quantized),
    /// A pointwise convolution and its activation, and the depthwise convolution that alone reads it: made by the plan, which runs them together.
    Banded(Box<(ConvLayer, Activation, ConvLayer)>),
}

/// A convolution and its constants.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvLayer {
    /// Its shape.
    pub shape: ConvShape,
    /// `[out_channels, in_channels / groups, kh, kw]`.
    pub weights: Vec<f32>,
    /// Where weights are quantised, `[out_channels]`: the step of which a channel's weights are whole multiples, from -128 to 127. Empty otherwise.
    pub steps: Vec<f32>,
    /// `[out_channels]`.
    pub bias: Vec<f32>,
    /// How it is computed.
    pub algorithm: Algorithm,
}

impl ConvLayer {
    /// A convolution multiplied out; whether there is a better way is seen when all are known.
    pub fn new(shape: ConvShape, weights: Vec<f32>, bias: Vec<f32>) -> Self {
        Self { shape, weights, steps: Vec::new(), bias, algorithm: Algorithm::Direct }
    }
}

impl Kind {
    /// A short name, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Conv(c) if c.shape.groups > 1 && c.shape.groups == c.shape.in_channels => "depthwise",
            Kind::Conv(c) if c.shape.input == [1, 1] => "linear",
            Kind::Conv(_) => "conv",
            Kind::MaxPool(_) => "max pool",
            Kind::AvgPool(..) => "average pool",
            Kind::GlobalSum(_) => "global pool",
            Kind::ScaleShift { .. } => "scale and shift",
            Kind::LayerNorm { .. } => "layer norm",
            Kind::OverMean(_) => "over mean",
            Kind::Add => "add",
            Kind::Sub => "subtract",
            Kind::Mul => "multiply",
            Kind::MulChannels => "multiply channels",
            Kind::Identity => "activation",
            Kind::Function(_) => "function",
            Kind::Concat => "concat",
            Kind::Slice(_) => "slice",
            Kind::Shuffle(_) => "shuffle",
            Kind::Pad(_) => "pad",
            Kind::Quantize(_) => "quantize",
            Kind::Banded(_) => "conv and depthwise",
        }
    }
}

/// One step of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name of the node that it came from; of the first one where several were fused.
    pub name: String,
    /// What it computes.
    pub kind: Kind,
    /// Done to each value afterwards.
    pub activation: Activation,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
}

/// Layers in an order in which they can run.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// All values.
    pub values: Vec<Value>,
    /// All layers; each value is made by at most one of them.
    pub layers: Vec<Layer>,
    /// Values that come from outside.
    pub inputs: Vec<ValueId>,
    /// Values that are wanted outside.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// Adds a value.
    pub fn value(&mut self, name: &str, shape: [usize; 3]) -> ValueId {
        self.values.push(Value { name: name.to_owned(), shape, dtype: Dtype::F32 });
        self.values.len() - 1
    }

    /// The layer without its activation, and that as a layer of its own behind it.
    pub(crate) fn activated_apart(&mut self, mut layer: Layer) -> [Layer; 2] {
        let value = self.values[layer.output].clone();
        self.values.push(value);
        let between = self.values.len() - 1;
        let output = std::mem::replace(&mut layer.output, between);
        let activation = std::mem::replace(&mut layer.activation, Activation::None);
        let apart = Layer { name: layer.name.clone(), kind: Kind::Identity, activation, inputs: vec![between], output };
        [layer, apart]
    }

    /// How often each value is read, an output counting as one more.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        for &value in self.layers.iter().flat_map(|l| &l.inputs).chain(&self.outputs) {
            uses[value] += 1;
        }
        uses
    }

    /// Which layer makes each value.
    pub fn makers(&self) -> Vec<Option<usize>> {
        let mut makers = vec![None; self.values.len()];
        for (at, layer) in self.layers.iter().enumerate() {
            makers[layer.output] = Some(at);
        }
        makers
    }

    /// Floating-point operations of a layer for one image, convolutions only: the rest does not count towards a peak.
    pub fn flops(layer: &Layer) -> u64 {
        match &layer.kind {
            Kind::Conv(conv) => conv.shape.flops(),
            Kind::Banded(two) => two.0.shape.flops() + two.2.shape.flops(),
            _ => 0,
        }
    }
}

impl Layer {
    /// The layer without what it computes, for the moment in which that moves.
    pub(crate) fn clone_without_weights(&self) -> Layer {
        Layer {
            name: self.name.clone(),
            kind: Kind::Identity,
            activation: self.activation,
            inputs: self.inputs.clone(),
            output: self.output,
        }
    }
}
