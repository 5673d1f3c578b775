//! A convolution over bf16: input and weights are, sums are f32, and the output is either. The few weights of a depthwise convolution stay f32.

use super::algorithm::{Algorithm, candidates};
use super::depthwise::{Depthwise, Slides};
use super::direct::Direct;
use super::elementwise::Applies;
use super::tile::Multiplies;
use super::winograd::{Transforms, Winograd};
use super::{Activation, Bf16, ConvArgs, ConvShape, Isa, has_bf16};

#[derive(Debug, Clone)]
enum Packed {
    Direct(Direct<Bf16>),
    Depthwise(Depthwise),
    Winograd(Winograd<Bf16, 2, 4>),
}

/// A convolution over bf16 ready to run.
#[derive(Debug, Clone)]
pub struct ConvBf16 {
    shape: ConvShape,
    packed: Packed,
    activation: Activation,
}

impl ConvBf16 {
    /// Packs `weights` (`[out_channels, in_channels / groups, kh, kw]`) and `bias` (`[out_channels]`).
    ///
    /// # Panics
    /// If the processor does not multiply bf16 (see [`has_bf16`]), and as [`super::Conv::new_with`].
    pub fn new(shape: ConvShape, weights: &[f32], bias: &[f32], activation: Activation, algorithm: Algorithm) -> Self {
        assert!(has_bf16(), "the processor does not multiply bf16");
        shape.assert_fits(weights, bias);
        assert!(candidates(&shape, size_of::<Bf16>()).contains(&algorithm), "{algorithm:?} does not compute {shape:?} in bf16");
        let isa = Isa::best();
        let packed = match algorithm {
            Algorithm::Direct if Depthwise::fits(&shape, isa) => Packed::Depthwise(Depthwise::new(shape, weights, bias, isa)),
            Algorithm::Direct => Packed::Direct(Direct::new(shape, weights, bias, isa)),
            _ => Packed::Winograd(Winograd::new(shape, weights, bias, isa)),
        };
        Self { shape, packed, activation }
    }

    /// Whether the weights of such a convolution are rounded to bf16 as they are; Winograd's are rounded at the points.
    pub fn rounds_weights(shape: &ConvShape, algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Direct && !Depthwise::fits(shape, Isa::best())
    }

    /// Its shape.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Words of scratch memory that [`ConvBf16::run`] needs for `images`.
    pub fn scratch(&self, images: usize) -> usize {
        match &self.packed {
            Packed::Direct(direct) => direct.scratch(images, true),
            Packed::Depthwise(_) => 0,
            Packed::Winograd(winograd) => winograd.scratch(images),
        }
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        match &self.packed {
            Packed::Direct(direct) => direct.weight_bytes(),
            Packed::Depthwise(depthwise) => depthwise.weight_bytes(),
            Packed::Winograd(winograd) => winograd.weight_bytes(),
        }
    }

    /// Computes. Allocates nothing.
    ///
    /// # Panics
    /// As [`super::Conv::run`].
    pub fn run<O: Transforms>(&self, args: ConvArgs<'_, Bf16, O>)
    where
        Bf16: Multiplies<O> + Slides<O>,
        f32: Applies<O>,
    {
        if args.check(&self.shape) {
            return;
        }
        match &self.packed {
            Packed::Direct(direct) => direct.run(self.activation, args),
            Packed::Depthwise(depthwise) => depthwise.run(self.activation, args),
            Packed::Winograd(winograd) => winograd.run(self.activation, args),
        }
    }
}
