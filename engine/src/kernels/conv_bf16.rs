//! A convolution over bf16: input and weights are, sums are f32, and the output is either. The few weights of a depthwise convolution stay f32.

use super::depthwise::{Depthwise, Slides};
use super::direct::Direct;
use super::element::Packs;
use super::elementwise::Applies;
use super::tile::Multiplies;
use super::{Activation, Bf16, ConvArgs, ConvShape, Isa, has_bf16};

#[derive(Debug, Clone)]
enum Packed {
    Direct(Direct<Bf16>),
    Depthwise(Depthwise),
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
    /// If the processor does not multiply bf16 (see [`has_bf16`]), and as [`super::Conv::new`].
    pub fn new(shape: ConvShape, weights: &[f32], bias: &[f32], activation: Activation) -> Self {
        assert!(has_bf16(), "the processor does not multiply bf16");
        shape.assert_fits(weights, bias);
        let isa = Isa::best();
        let packed = if Depthwise::fits(&shape, isa) {
            Packed::Depthwise(Depthwise::new(shape, weights, bias, isa))
        } else {
            Packed::Direct(Direct::new(shape, weights, bias, isa))
        };
        Self { shape, packed, activation }
    }

    /// Whether the weights of such a convolution are rounded to bf16.
    pub fn rounds_weights(shape: &ConvShape) -> bool {
        !Depthwise::fits(shape, Isa::best())
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
        }
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        match &self.packed {
            Packed::Direct(direct) => direct.weight_bytes(),
            Packed::Depthwise(depthwise) => depthwise.weight_bytes(),
        }
    }

    /// Computes. Allocates nothing.
    ///
    /// # Panics
    /// As [`super::Conv::run`].
    pub fn run<O: Packs>(&self, args: ConvArgs<'_, Bf16, O>)
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
        }
    }
}
