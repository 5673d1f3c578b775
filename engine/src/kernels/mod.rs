//! The arithmetic. Tensors are channels-last (`[n, h, w, c]`), seen through a *pitch*: the distance between two neighbouring pixels in elements, at
//! least the number of channels. A pitch above the number of channels is how a layer writes its share of a concatenation in place.

mod activation;
pub mod affinity;
mod algorithm;
mod banded;
mod conv;
mod conv_bf16;
mod conv_int8;
mod depthwise;
mod direct;
mod element;
pub mod elementwise;
mod isa;
mod layout;
mod memory;
pub mod peak;
mod pool;
#[cfg(test)]
mod reference;
mod simd;
mod strips;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bf16;
#[cfg(test)]
mod tests_int8;
mod tile;
mod winograd;

pub(crate) use activation::activate;
pub use algorithm::{Algorithm, candidates, cost, weight_bytes};
pub use banded::{Banded, Part, bands};
pub use conv::{Conv, ConvArgs};
pub use conv_bf16::ConvBf16;
pub(crate) use conv_int8::nearest;
pub use conv_int8::{ConvInt8, Quantized, Stepped};
pub use element::{Bf16, Number, U8};
pub use isa::{Isa, has_bf16, has_int8};
pub use layout::{Interleaves, channels_last};
pub use memory::Memory;
pub use pool::{PoolShape, Pooling, global_average, pool};
use std::ops::Range;

/// A convolution: of one image, independent of how many run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of the input, a multiple of `groups`.
    pub in_channels: usize,
    /// Channels of the output, a multiple of `groups`.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Down and across; 1 where the kernel is dense.
    pub dilation: [usize; 2],
    /// Zeros around the input: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Groups; as many as there are channels is a depthwise convolution.
    pub groups: usize,
}

impl ConvShape {
    /// The usual one: square picture and kernel, padded so that stride 1 keeps the size, dense, one group.
    pub const fn square(size: usize, in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            input: [size; 2],
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [kernel / 2; 4],
            groups: 1,
        }
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let along = |axis: usize| {
            let padded = self.input[axis] + self.pad[axis] + self.pad[axis + 2];
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            (padded.saturating_sub(reach)) / self.stride[axis] + usize::from(padded >= reach)
        };
        [along(0), along(1)]
    }

    /// Whether every output pixel is made of the one input pixel in its place.
    fn pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0; 4]
    }

    /// The places of the output along `axis` whose windows lie inside the image.
    fn inside(&self, axis: usize) -> Range<usize> {
        let reach = (self.kernel[axis] - 1) * self.dilation[axis];
        let end = (self.input[axis] + self.pad[axis]).checked_sub(reach).map_or(0, |room| room.div_ceil(self.stride[axis]));
        self.pad[axis].div_ceil(self.stride[axis])..end.min(self.output()[axis])
    }

    /// Floating-point operations for one image: two for each multiply-add of the direct convolution.
    pub fn flops(&self) -> u64 {
        let [h, w] = self.output();
        let taps = self.kernel[0] * self.kernel[1] * self.in_channels / self.groups;
        2 * (h * w * self.out_channels * taps) as u64
    }
}

/// What is done to each value after bias and residual were added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// Between two bounds; ReLU6 is `Clamp(0, 6)`.
    Clamp(f32, f32),
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x * clamp(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `x`, and below 0 this share of it.
    Leaky(f32),
    /// `x` times the share of the standard normal distribution that lies below it: Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    Gelu,
}
