//! A graph made ready to run: steps over one arena, whose layout is decided once. Offsets are for one image and are multiplied by the number of
//! images, so that one plan serves every batch.

mod arena;
mod bands;
mod placement;
mod run;
mod steps;

use tract_core::ops::element_wise::ElementWiseOp;

use crate::ir::{ConvLayer, Divisor, Dtype, Graph, Kind, ValueId, Window};
use crate::kernels::{Activation, Banded, Bf16, Conv, ConvBf16, ConvInt8, Isa, Part, PoolShape, Pooling, Stepped};

pub use run::Buffers;
pub(crate) use steps::applied;

/// Where a value lies in the arena, for one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// First word (of 32 bits) of the buffer that it lies in.
    pub start: usize,
    /// Words of that buffer.
    pub size: usize,
    /// Its first channel within the buffer's.
    pub channel: usize,
    /// Channels of the buffer: elements from one pixel to the next.
    pub pitch: usize,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Element type.
    pub dtype: Dtype,
}

/// A convolution by the type of what it reads.
#[derive(Debug)]
pub(crate) enum Convolution {
    F32(Conv),
    Bf16(ConvBf16),
    Int8(ConvInt8),
    /// A pointwise one and the depthwise one behind it, together.
    BandedF32(Banded<f32>),
    BandedBf16(Banded<Bf16>),
}

impl Convolution {
    /// The two of [`Kind::Banded`], over maps of `dtype`.
    fn banded(two: &(ConvLayer, Activation, ConvLayer), activation: Activation, dtype: Dtype) -> Self {
        fn part(conv: &ConvLayer, activation: Activation) -> Part<'_> {
            Part { shape: conv.shape, weights: &conv.weights, bias: &conv.bias, activation }
        }
        let (first, second) = (part(&two.0, two.1), part(&two.2, activation));
        if dtype == Dtype::Bf16 { Self::BandedBf16(Banded::new(&first, &second)) } else { Self::BandedF32(Banded::new(&first, &second)) }
    }

    /// From values of `x` and `residual` (if there is one) to those of `to`.
    fn new(conv: &ConvLayer, activation: Activation, x: Dtype, residual: Option<Dtype>, to: Dtype, isa: Isa) -> Self {
        let ConvLayer { shape, weights, steps, bias, algorithm } = conv;
        match x {
            Dtype::F32 => Self::F32(Conv::new_with(*shape, weights, bias, activation, *algorithm, isa)),
            Dtype::Bf16 => Self::Bf16(ConvBf16::new(*shape, weights, bias, activation, *algorithm)),
            Dtype::U8(x) => {
                let residual = residual.and_then(Dtype::quantized);
                Self::Int8(ConvInt8::new(*shape, Stepped { weights, steps, bias }, activation, x, residual, to.quantized()))
            }
        }
    }

    fn weight_bytes(&self) -> usize {
        match self {
            Self::F32(conv) => conv.weight_bytes(),
            Self::Bf16(conv) => conv.weight_bytes(),
            Self::Int8(conv) => conv.weight_bytes(),
            Self::BandedF32(two) => two.weight_bytes(),
            Self::BandedBf16(two) => two.weight_bytes(),
        }
    }

    fn scratch(&self, images: usize) -> usize {
        match self {
            Self::F32(conv) => conv.scratch(images),
            Self::Bf16(conv) => conv.scratch(images),
            Self::Int8(conv) => conv.scratch(images),
            Self::BandedF32(two) => two.scratch(),
            Self::BandedBf16(two) => two.scratch(),
        }
    }
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// An input, from tract's order into the engine's.
    Import { input: usize, to: View },
    /// A convolution.
    Conv { conv: Box<Convolution>, x: View, residual: Option<View>, to: View },
    /// The largest or the average of a window.
    Pool { shape: PoolShape, x: View, to: View, activation: Activation },
    /// Sum of a window.
    SumPool { window: Window, x: View, to: View, activation: Activation },
    /// Sum of all pixels, times a factor.
    GlobalSum { factor: f32, x: View, to: View, activation: Activation },
    /// `x * scale + shift`.
    ScaleShift { scale: Vec<f32>, shift: Vec<f32>, x: View, to: View, activation: Activation },
    /// The same of each pixel's channels with a mean of 0 and a variance of 1.
    LayerNorm { epsilon: f32, scale: Vec<f32>, shift: Vec<f32>, x: View, to: View, activation: Activation },
    /// Each pixel's channels over their mean.
    OverMean { epsilon: f32, x: View, to: View, activation: Activation },
    /// Two maps of one shape.
    Add { x: View, y: View, to: View, activation: Activation },
    /// Two maps of one shape.
    Sub { x: View, y: View, to: View, activation: Activation },
    /// Two maps of one shape.
    Mul { x: View, y: View, to: View, activation: Activation },
    /// A map and one factor for each channel.
    MulChannels { x: View, y: View, to: View, activation: Activation },
    /// `x * scale + shift`, one of each for all channels: from floats to bytes, or back.
    Convert { by: Uniform, x: View, to: View, activation: Activation },
    /// A map as it is, or activated.
    Copy { x: View, to: View, activation: Activation },
    /// A function of tract's, value by value.
    Function { op: ElementWiseOp, x: View, to: View, activation: Activation },
    /// Channels in another order.
    Shuffle { groups: usize, x: View, to: View },
    /// Zeros around.
    Pad { pad: [usize; 4], x: View, to: View },
    /// An output, into tract's order.
    Export { from: View, output: usize },
}

/// A factor and an addend for all values, written out for `pixels` times the channels: where pixels lie side by side, that many are computed as one.
#[derive(Debug)]
pub(crate) struct Uniform {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub pixels: usize,
}

impl Uniform {
    fn new((scale, shift): (f32, f32), view: &View) -> Self {
        let [h, w, channels] = view.shape;
        // A power of two that divides the pixels, so that few channels fill vectors all the same.
        let pixels = 1 << (h * w).trailing_zeros().min(4);
        Self { scale: vec![scale; pixels * channels], shift: vec![shift; pixels * channels], pixels }
    }
}

/// What a step is for, in reports and measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInfo {
    /// Name of the layer, or of the value that is moved.
    pub name: String,
    /// What kind of work it is.
    pub kind: &'static str,
    /// Floating-point operations for an image, by the count of the direct convolution.
    pub flops: u64,
}

/// A network ready to run, shared by all that run it.
#[derive(Debug)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) infos: Vec<StepInfo>,
    /// The processor's instructions.
    pub(crate) isa: Isa,
    /// Words of one image's arena.
    pub(crate) arena: usize,
    /// Elements of each input and output of one image.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    weight_bytes: usize,
}

impl Plan {
    /// Lays out `graph` and packs its weights.
    pub fn new(mut graph: Graph) -> Self {
        bands::join(&mut graph);
        let placement = placement::place(&graph);
        let lifetimes = arena::lifetimes(&graph, &placement);
        let (offsets, arena) = arena::offsets(&graph, &placement, &lifetimes);
        // Each layer's plain weights go as soon as they are packed.
        let layers = std::mem::take(&mut graph.layers);
        let view = |value: ValueId| {
            let (root, channel) = placement.of(value);
            let whole = &graph.values[root];
            View {
                start: offsets[root],
                size: whole.words(),
                channel,
                pitch: whole.channels(),
                shape: graph.values[value].shape,
                dtype: graph.values[value].dtype,
            }
        };
        let isa = Isa::best();
        let mut plan = Plan {
            isa,
            steps: Vec::new(),
            infos: Vec::new(),
            arena,
            inputs: graph.inputs.iter().map(|&v| graph.values[v].len()).collect(),
            outputs: graph.outputs.iter().map(|&v| graph.values[v].len()).collect(),
            weight_bytes: 0,
        };
        for (input, &value) in graph.inputs.iter().enumerate() {
            plan.push(Step::Import { input, to: view(value) }, &graph.values[value].name, "import", 0);
        }
        let export = |plan: &mut Plan, value: ValueId| {
            for (output, _) in graph.outputs.iter().enumerate().filter(|(_, v)| **v == value) {
                plan.push(Step::Export { from: view(value), output }, &graph.values[value].name, "export", 0);
            }
        };
        graph.inputs.iter().for_each(|&v| export(&mut plan, v));
        for layer in layers {
            let (to, activation, flops) = (view(layer.output), layer.activation, Graph::flops(&layer));
            let x = view(layer.inputs[0]);
            let y = || view(*layer.inputs.get(1).unwrap_or(&layer.inputs[0]));
            let step = match &layer.kind {
                Kind::Conv(c) => {
                    let residual = (layer.inputs.len() > 1).then(y);
                    let conv = Box::new(Convolution::new(c, activation, x.dtype, residual.map(|r| r.dtype), to.dtype, isa));
                    plan.weight_bytes += conv.weight_bytes();
                    Step::Conv { conv, x, residual, to }
                }
                Kind::Banded(two) => {
                    let conv = Box::new(Convolution::banded(two, activation, x.dtype));
                    plan.weight_bytes += conv.weight_bytes();
                    Step::Conv { conv, x, residual: None, to }
                }
                Kind::MaxPool(window) => Step::Pool { shape: pool_shape(window, x.shape, Pooling::Max), x, to, activation },
                Kind::AvgPool(window, Divisor::One) => Step::SumPool { window: *window, x, to, activation },
                Kind::AvgPool(window, divisor) => {
                    let [h, w, _] = x.shape;
                    let [top, left] = window.pad;
                    let counted = if let Divisor::Padded([ph, pw]) = divisor { [top, left, ph - h - top, pw - w - left] } else { [0; 4] };
                    Step::Pool { shape: pool_shape(window, x.shape, Pooling::Average { counted }), x, to, activation }
                }
                Kind::GlobalSum(factor) => Step::GlobalSum { factor: *factor, x, to, activation },
                Kind::ScaleShift { scale, shift } => {
                    plan.weight_bytes += 4 * (scale.len() + shift.len());
                    Step::ScaleShift { scale: scale.clone(), shift: shift.clone(), x, to, activation }
                }
                Kind::LayerNorm { epsilon, scale, shift } => {
                    plan.weight_bytes += 4 * (scale.len() + shift.len());
                    Step::LayerNorm { epsilon: *epsilon, scale: scale.clone(), shift: shift.clone(), x, to, activation }
                }
                Kind::OverMean(epsilon) => Step::OverMean { epsilon: *epsilon, x, to, activation },
                Kind::Add => Step::Add { x, y: y(), to, activation },
                Kind::Sub => Step::Sub { x, y: y(), to, activation },
                Kind::Mul => Step::Mul { x, y: y(), to, activation },
                Kind::MulChannels => Step::MulChannels { x, y: y(), to, activation },
                Kind::Quantize(how) => Step::Convert { by: Uniform::new(how.quantize(), &x), x, to, activation },
                Kind::Identity if x.dtype.quantized().is_some() && to.dtype == Dtype::F32 => {
                    let how = x.dtype.quantized().map_or((1.0, 0.0), |how| how.dequantize());
                    Step::Convert { by: Uniform::new(how, &x), x, to, activation }
                }
                Kind::Identity => Step::Copy { x, to, activation },
                Kind::Function(op) => Step::Function { op: op.clone(), x, to, activation },
                Kind::Shuffle(groups) => Step::Shuffle { groups: *groups, x, to },
                Kind::Pad(pad) => Step::Pad { pad: *pad, x, to },
                // A slice is a view of what it was cut from.
                Kind::Slice(_) => {
                    export(&mut plan, layer.output);
                    continue;
                }
                Kind::Concat => {
                    let mut channel = 0;
                    for &input in &layer.inputs {
                        let channels = graph.values[input].channels();
                        let part = View { channel: to.channel + channel, shape: graph.values[input].shape, ..to };
                        // What was written in place is there already.
                        if view(input) != part {
                            plan.push(Step::Copy { x: view(input), to: part, activation }, &layer.name, "concat", 0);
                        }
                        channel += channels;
                    }
                    export(&mut plan, layer.output);
                    continue;
                }
            };
            plan.push(step, &layer.name, layer.kind.name(), flops);
            export(&mut plan, layer.output);
        }
        plan
    }

    fn push(&mut self, step: Step, name: &str, kind: &'static str, flops: u64) {
        self.steps.push(step);
        self.infos.push(StepInfo { name: name.to_owned(), kind, flops });
    }

    /// What each step is.
    pub fn steps(&self) -> &[StepInfo] {
        &self.infos
    }

    /// Elements of an image of each input.
    pub fn input_lengths(&self) -> &[usize] {
        &self.inputs
    }

    /// Bytes of weights as packed.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Bytes of activations for each image that runs at once.
    pub fn arena_bytes(&self) -> usize {
        self.arena * size_of::<f32>()
    }

    /// Floating-point operations of an image.
    pub fn flops(&self) -> u64 {
        self.infos.iter().map(|i| i.flops).sum()
    }
}

/// The window as the kernels have it: padded at the end as far as the last window reaches.
fn pool_shape(window: &Window, [h, w, channels]: [usize; 3], pooling: Pooling) -> PoolShape {
    let [top, left] = window.pad;
    let (bottom, right) = (window.reach(0).saturating_sub(h + top), window.reach(1).saturating_sub(w + left));
    let Window { kernel, stride, dilation, .. } = *window;
    PoolShape { input: [h, w], channels, kernel, stride, dilation, pad: [top, left, bottom, right], pooling }
}
