//! A convolution over maps that are quantised to bytes: products of u8 and s8 are summed in i32, and each output channel's sum is scaled, rounded and
//! stored as u8 again, or as f32. See Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018).

use super::depthwise::Depthwise;
use super::direct::{Direct, Rescale};
use super::element::{Packs, U8};
use super::elementwise::Applies;
use super::tile::Multiplies;
use super::{Activation, ConvArgs, ConvShape, Isa, has_int8};

/// What the numbers of a quantised map stand for: `q` is `(q - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantized {
    /// Distance of two neighbouring values; finite and above 0.
    pub scale: f32,
    /// The number that stands for 0.
    pub zero: u8,
}

impl Quantized {
    /// Factor and addend that turn values into numbers.
    pub fn quantize(self) -> (f32, f32) {
        (1.0 / self.scale, self.zero.into())
    }

    /// Factor and addend that turn numbers into values.
    pub fn dequantize(self) -> (f32, f32) {
        (self.scale, -f32::from(self.zero) * self.scale)
    }

    /// The least and the largest value.
    pub fn range(self) -> (f32, f32) {
        (-f32::from(self.zero) * self.scale, (255.0 - f32::from(self.zero)) * self.scale)
    }
}

/// Weights that are whole multiples, from -128 to 127, of a step of their output channel.
#[derive(Debug, Clone, Copy)]
pub struct Stepped<'a> {
    /// `[out_channels, in_channels / groups, kh, kw]`.
    pub weights: &'a [f32],
    /// `[out_channels]`; 0 where all of a channel's weights are.
    pub steps: &'a [f32],
    /// `[out_channels]`.
    pub bias: &'a [f32],
}

impl Stepped<'_> {
    /// The weights in steps.
    fn whole(&self) -> Vec<f32> {
        let of_channel = self.weights.len() / self.steps.len();
        let mut whole = Vec::with_capacity(self.weights.len());
        for (weights, step) in self.weights.chunks_exact(of_channel).zip(self.steps) {
            let steps = if *step == 0.0 { 0.0 } else { 1.0 / step };
            whole.extend(weights.iter().map(|w| nearest(w * steps)));
        }
        whole
    }
}

/// The nearest whole number of one below 2^22: the sum has no bits left for what comes after the point. `round` is a call where the compiler may not use
/// the instruction.
pub(crate) fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + SHIFT) - SHIFT
}

/// A convolution over bytes ready to run.
#[derive(Debug, Clone)]
pub struct ConvInt8 {
    shape: ConvShape,
    direct: Direct<U8>,
    output: Option<Quantized>,
}

/// Added to a sum whose distance from 0 is at most [`FLOATS`], it makes the bits of the f32 `1.5 * 2^23 + sum`, and so spares the instruction that turns it
/// into one. What is to be taken off again goes into the shift, which is rounded for it by at most three quarters of a unit of the sum (2^-24 of `1.5 * 2^23`).
const FLOAT: i32 = 0x4b40_0000;
const SHIFT: f32 = 12_582_912.0;
const FLOATS: f32 = 4_194_303.0;
/// The most that a unit of a sum may be of a step of the output for that rounding not to count.
const FINEST: f32 = 1.0 / 64.0;

/// Most products of a sum: 255 times 128 of them lie within i32, with room for where the sum begins.
const DEEPEST: usize = i32::MAX as usize / (2 * 255 * 128);

impl ConvInt8 {
    /// Whether such a convolution is computed: sums must fit i32, an activation must be no more than bounds, and channels must have something to share.
    pub fn computes(shape: &ConvShape, activation: Activation) -> bool {
        !Depthwise::fits(shape, Isa::best())
            && shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups <= DEEPEST
            && activation.bounds().is_some()
    }

    /// Packs a convolution from maps of `input` to `output` (f32 where it is none). A residual is of the output's type, and then of `residual`.
    ///
    /// # Panics
    /// If the processor does not multiply bytes (see [`has_int8`]), the convolution is none that it [computes](Self::computes), and as [`super::Conv::new`].
    pub fn new(
        shape: ConvShape,
        stepped: Stepped<'_>,
        activation: Activation,
        input: Quantized,
        residual: Option<Quantized>,
        output: Option<Quantized>,
    ) -> Self {
        assert!(has_int8(), "the processor does not multiply bytes");
        shape.assert_fits(stepped.weights, stepped.bias);
        assert_eq!(stepped.steps.len(), shape.out_channels, "steps are [out_channels]");
        assert!(Self::computes(&shape, activation), "{shape:?} with {activation:?} is not computed");
        let whole = stepped.whole();
        assert!(whole.iter().all(|w| (-128.0..=127.0).contains(w)), "weights are at most 128 steps");
        let (by, zero) = output.map_or((1.0, 0.0), Quantized::quantize);
        let (of_residual, shift_of_residual) = residual.map_or((1.0, 0.0), Quantized::dequantize);
        let (low, high) = activation.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let mut bounds = (low * by + zero, high * by + zero);
        let taps = whole.len() / shape.out_channels;
        let units = |step: &f32| (input.scale * step * by).abs() <= FINEST;
        let fits = |weights: &[f32]| 255.0 * weights.iter().map(|w| w.abs()).sum::<f32>() <= FLOATS;
        let sums_are_floats = output.is_some() && stepped.steps.iter().all(units) && whole.chunks_exact(taps).all(fits);
        let (first, off) = if sums_are_floats { (FLOAT, SHIFT) } else { (0, 0.0) };
        let (mut start, mut scale, mut shift, mut largest) = (Vec::new(), Vec::new(), Vec::new(), 0.0f32);
        for ((weights, step), bias) in whole.chunks_exact(taps).zip(stepped.steps).zip(stepped.bias) {
            // What the input's zero adds to a sum: border pixels hold it, too, so it is the same everywhere.
            let of_zero = i32::from(input.zero) * weights.iter().map(|w| *w as i32).sum::<i32>();
            let (by_step, addend) = (input.scale * step * by, (bias + shift_of_residual) * by + zero);
            start.push(f32::from_bits((first - of_zero) as u32));
            scale.push(by_step);
            shift.push((f64::from(addend) - f64::from(off) * f64::from(by_step)) as f32);
            let sum = 255.0 * weights.iter().map(|w| w.abs()).sum::<f32>() * by_step.abs();
            largest = largest.max(sum + addend.abs() + 255.0 * of_residual * by);
        }
        if output.is_some() {
            // Storing saturates, so bounds beyond it need not be applied, if no value lies beyond i32.
            let fits = largest < 2e9;
            bounds.0 = if bounds.0 <= 0.0 && fits { f32::NEG_INFINITY } else { bounds.0.max(0.0) };
            bounds.1 = if bounds.1 >= 255.0 && fits { f32::INFINITY } else { bounds.1.min(255.0) };
        }
        let rescale = Rescale { scale, shift, residual: of_residual * by, bounds, sums_are_floats, interleaved: output.is_some() };
        let border = U8::from(f32::from(input.zero));
        Self { shape, direct: Direct::of_whole(shape, &whole, &start, border, rescale, Isa::best()), output }
    }

    /// Its shape.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Words of scratch memory that [`ConvInt8::run`] needs for `images`.
    pub fn scratch(&self, images: usize) -> usize {
        self.direct.scratch(images, true)
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.direct.weight_bytes()
    }

    /// Computes. Allocates nothing.
    ///
    /// # Panics
    /// If the output is not of the type that was packed for, and as [`super::Conv::run`].
    pub fn run<O: Packs>(&self, args: ConvArgs<'_, U8, O>)
    where
        U8: Multiplies<O>,
        f32: Applies<O>,
    {
        assert_eq!(self.output.is_some(), size_of::<O>() == 1, "the output is of another type");
        if !args.check(&self.shape) {
            self.direct.run(Activation::None, args);
        }
    }
}
