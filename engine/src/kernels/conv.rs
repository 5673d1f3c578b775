//! A convolution with its weights packed, bias, residual and activation fused.

use super::algorithm::{Algorithm, candidates};
use super::depthwise::Depthwise;
use super::direct::Direct;
use super::winograd::Winograd;
use super::{Activation, ConvShape, Isa};

#[derive(Debug, Clone)]
enum Packed {
    Direct(Direct<f32>),
    Depthwise(Depthwise),
    Winograd2(Winograd<f32, 2, 4>),
    Winograd4(Winograd<f32, 4, 6>),
}

/// A convolution ready to run.
#[derive(Debug, Clone)]
pub struct Conv {
    shape: ConvShape,
    packed: Packed,
    activation: Activation,
}

/// One call's tensors. `input` is `[n, h, w, in_channels]`, `output` and `residual` are `[n, oh, ow, out_channels]`, each seen through its pitch.
pub struct ConvArgs<'a, I = f32, O = f32> {
    /// Images.
    pub images: usize,
    /// Values of the input.
    pub input: &'a [I],
    /// Elements from one input pixel to the next.
    pub input_pitch: usize,
    /// Values added before the activation, and their pitch.
    pub residual: Option<(&'a [O], usize)>,
    /// Where the result goes.
    pub output: &'a mut [O],
    /// Elements from one output pixel to the next.
    pub output_pitch: usize,
    /// At least [`Conv::scratch`] values, whose contents do not matter.
    pub scratch: &'a mut [f32],
}

impl<I, O> ConvArgs<'_, I, O> {
    /// Panics unless the tensors are as long as their shapes and pitches say; true where there is nothing to compute.
    pub(super) fn check(&self, shape: &ConvShape) -> bool {
        let [oh, ow] = shape.output();
        check("input", self.input.len(), self.images * shape.input[0] * shape.input[1], shape.in_channels, self.input_pitch);
        check("output", self.output.len(), self.images * oh * ow, shape.out_channels, self.output_pitch);
        if let Some((residual, pitch)) = self.residual {
            check("residual", residual.len(), self.images * oh * ow, shape.out_channels, pitch);
        }
        self.images * oh * ow * shape.out_channels == 0
    }
}

impl Conv {
    /// Packs `weights` (`[out_channels, in_channels / groups, kh, kw]`) and `bias` (`[out_channels]`) for the best instructions of this processor and
    /// the algorithm that needs the least memory.
    ///
    /// # Panics
    /// As [`Conv::new_with`].
    pub fn new(shape: ConvShape, weights: &[f32], bias: &[f32], activation: Activation) -> Self {
        Self::new_with(shape, weights, bias, activation, Algorithm::Direct, Isa::best())
    }

    /// Packs for one algorithm (of [`candidates`]) and instruction set (lowered to what the processor has).
    ///
    /// # Panics
    /// If the algorithm is no candidate, `weights` or `bias` are not as long as the shape says, the groups do not divide the channels, or a stride or dilation is 0.
    pub fn new_with(shape: ConvShape, weights: &[f32], bias: &[f32], activation: Activation, algorithm: Algorithm, isa: Isa) -> Self {
        shape.assert_fits(weights, bias);
        assert!(candidates(&shape, size_of::<f32>()).contains(&algorithm), "{algorithm:?} does not compute {shape:?}");
        let isa = isa.checked();
        let packed = match algorithm {
            Algorithm::Direct if Depthwise::fits(&shape, isa) => Packed::Depthwise(Depthwise::new(shape, weights, bias, isa)),
            Algorithm::Direct => Packed::Direct(Direct::new(shape, weights, bias, isa)),
            Algorithm::Winograd2 => Packed::Winograd2(Winograd::new(shape, weights, bias, isa)),
            Algorithm::Winograd4 => Packed::Winograd4(Winograd::new(shape, weights, bias, isa)),
        };
        Self { shape, packed, activation }
    }

    /// Its shape.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Values of scratch memory that [`Conv::run`] needs for `images`.
    pub fn scratch(&self, images: usize) -> usize {
        match &self.packed {
            Packed::Direct(direct) => direct.scratch(images, false),
            Packed::Depthwise(_) => 0,
            Packed::Winograd2(winograd) => winograd.scratch(images),
            Packed::Winograd4(winograd) => winograd.scratch(images),
        }
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        match &self.packed {
            Packed::Direct(direct) => direct.weight_bytes(),
            Packed::Depthwise(depthwise) => depthwise.weight_bytes(),
            Packed::Winograd2(winograd) => winograd.weight_bytes(),
            Packed::Winograd4(winograd) => winograd.weight_bytes(),
        }
    }

    /// Computes. Allocates nothing.
    ///
    /// # Panics
    /// If a tensor is shorter than its shape and pitch say, or a pitch is below its number of channels.
    pub fn run(&self, args: ConvArgs<'_>) {
        if args.check(&self.shape) {
            return;
        }
        match &self.packed {
            Packed::Direct(direct) => direct.run(self.activation, args),
            Packed::Depthwise(depthwise) => depthwise.run(self.activation, args),
            Packed::Winograd2(winograd) => winograd.run(self.activation, args),
            Packed::Winograd4(winograd) => winograd.run(self.activation, args),
        }
    }
}

impl ConvShape {
    /// Panics unless weights and bias are as long as the shape says, and it can be computed.
    pub(super) fn assert_fits(&self, weights: &[f32], bias: &[f32]) {
        let groups = self.groups;
        assert!(
            self.in_channels > 0 && groups > 0 && self.in_channels.is_multiple_of(groups) && self.out_channels.is_multiple_of(groups),
            "groups divide channels"
        );
        assert!(self.stride.iter().chain(&self.dilation).chain(&self.kernel).all(|x| *x > 0), "strides, dilations and kernels begin at 1");
        let taps = self.kernel[0] * self.kernel[1] * self.in_channels / groups;
        assert_eq!(weights.len(), self.out_channels * taps, "weights are [out_channels, in_channels / groups, kh, kw]");
        assert_eq!(bias.len(), self.out_channels, "bias is [out_channels]");
    }
}

/// Panics unless `len` values hold `pixels` pixels of `channels`, `pitch` apart.
pub(super) fn check(what: &str, len: usize, pixels: usize, channels: usize, pitch: usize) {
    assert!(pitch >= channels, "the {what}'s pitch of {pitch} is below its {channels} channels");
    let needed = pixels.checked_sub(1).map_or(0, |before| before * pitch + channels);
    assert!(len >= needed, "the {what} has {len} values of {needed}");
}
