//! A convolution with its weights packed, bias, residual and activation fused.

use super::{Activation, ConvShape, reference};

/// A convolution ready to run.
#[derive(Debug, Clone)]
pub struct Conv {
    shape: ConvShape,
    weights: Vec<f32>,
    bias: Vec<f32>,
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
    /// Packs `weights` (`[out_channels, in_channels / groups, kh, kw]`) and `bias` (`[out_channels]`).
    pub fn new(shape: ConvShape, weights: &[f32], bias: &[f32], activation: Activation) -> Self {
        Self { shape, weights: weights.to_vec(), bias: bias.to_vec(), activation }
    }

    /// Its shape.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Values of scratch memory that [`Conv::run`] needs for `images`.
    pub fn scratch(&self, _images: usize) -> usize {
        0
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.len() * 4
    }

    /// Computes.
    pub fn run(&self, args: ConvArgs<'_>) {
        reference::conv(&self.shape, &self.weights, &self.bias, self.activation, args);
    }
}
