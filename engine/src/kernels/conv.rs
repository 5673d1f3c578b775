//! A convolution with its weights packed, bias, residual and activation fused.

use super::algorithm::{Algorithm, candidates};
use super::depthwise::Depthwise;
use super::direct::Direct;
use super::winograd::Winograd;
use super::{Activation, ConvShape, Isa};

#[derive(Debug, Clone)]
enum Packed {
    Direct(Direct),
    Depthwise(Depthwise),
    Winograd2(Winograd<2, 4>),
    Winograd4(Winograd<4, 6>),
}

/// A convolution ready to run.
#[derive(Debug, Clone)]
pub struct Conv {
    shape: ConvShape,
    packed: Packed,
    activation: Activation,
}

/// One call's tensors. `input` is `[n, h, w, in_channels]`, `output` and `residual` are `[n, oh, ow, out_channels]`, each seen through its pitch.
pub struct ConvArgs<'a> {
    /// Images.
    pub images: usize,
    /// Values of the input.
    pub input: &'a [f32],
    /// Elements from one input pixel to the next.
    pub input_pitch: usize,
    /// Values added before the activation, and their pitch.
    pub residual: Option<(&'a [f32], usize)>,
    /// Where the result goes.
    pub output: &'a mut [f32],
    /// Elements from one output pixel to the next.
    pub output_pitch: usize,
    /// At least [`Conv::scratch`] values, whose contents do not matter.
    pub scratch: &'a mut [f32],
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
        let groups = shape.groups;
        assert!(
            shape.in_channels > 0 && groups > 0 && shape.in_channels.is_multiple_of(groups) && shape.out_channels.is_multiple_of(groups),
            "groups divide channels"
        );
        assert!(
            shape.stride.iter().chain(&shape.dilation).chain(&shape.kernel).all(|x| *x > 0),
            "strides, dilations and kernels begin at 1"
        );
        let taps = shape.kernel[0] * shape.kernel[1] * shape.in_channels / groups;
        assert_eq!(weights.len(), shape.out_channels * taps, "weights are [out_channels, in_channels / groups, kh, kw]");
        assert_eq!(bias.len(), shape.out_channels, "bias is [out_channels]");
        assert!(candidates(&shape).contains(&algorithm), "{algorithm:?} does not compute {shape:?}");
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
            Packed::Direct(direct) => direct.scratch(),
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
        let shape = &self.shape;
        let [oh, ow] = shape.output();
        check("input", args.input.len(), args.images * shape.input[0] * shape.input[1], shape.in_channels, args.input_pitch);
        check("output", args.output.len(), args.images * oh * ow, shape.out_channels, args.output_pitch);
        if let Some((residual, pitch)) = args.residual {
            check("residual", residual.len(), args.images * oh * ow, shape.out_channels, pitch);
        }
        if args.images * oh * ow * shape.out_channels == 0 {
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

/// Panics unless `len` values hold `pixels` pixels of `channels`, `pitch` apart.
pub(super) fn check(what: &str, len: usize, pixels: usize, channels: usize, pitch: usize) {
    assert!(pitch >= channels, "the {what}'s pitch of {pitch} is below its {channels} channels");
    let needed = pixels.checked_sub(1).map_or(0, |before| before * pitch + channels);
    assert!(len >= needed, "the {what} has {len} values of {needed}");
}
