//! Depthwise convolution: each channel has a kernel of its own, so there is nothing to multiply by more than one thing. It is bound by loads; vectors run
//! over channels. The usual kernels are computed in [`strips`], others pixel by pixel.
//!
//! Groups that are narrower than a vector are much the same: the vector holds several groups, and each of a group's input channels in turn is spread over
//! the group's lanes.

use super::activation::apply;
use super::element::{Bf16, Element, Number};
use super::isa::{for_each_isa, with_bf16};
use super::memory::Packed;
use super::simd::Simd;
use super::strips::{self, Plane};
use super::{Activation, ConvArgs, ConvShape, Isa};

/// Packed weights: for each kernel offset and each input channel of a group, all output channels.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    shape: ConvShape,
    isa: Isa,
    weights: Packed,
    bias: Packed,
    /// Values from one kernel offset's weights to the next's, for one input channel.
    stride: usize,
    /// For each input channel of a group, the lanes that it is spread from.
    patterns: Vec<i32>,
}

/// Read in the place of pixels outside the image.
static ZEROS: [f32; 16] = [0.0; 16]; // as good for 32 of bf16

/// One row of output pixels.
pub struct Row<'a, I, O> {
    shape: &'a ConvShape,
    channels: usize,
    weights: *const f32,
    weight_stride: usize,
    bias: *const f32,
    patterns: &'a [i32],
    /// The image's first pixel.
    input: *const I,
    input_pitch: usize,
    /// The output row's first pixel, and the residual's (or null).
    output: *mut O,
    output_pitch: usize,
    residual: *const O,
    residual_pitch: usize,
    y: usize,
    width: usize,
    activation: Activation,
}

impl Depthwise {
    /// Whether this shape is one, or has groups of 2, 4 or 8 channels that fill vectors.
    pub(super) fn fits(shape: &ConvShape, isa: Isa) -> bool {
        let group = shape.in_channels / shape.groups;
        shape.groups > 1 && shape.in_channels == shape.out_channels && matches!(group, 1 | 2 | 4 | 8) && group < isa.lanes()
    }

    /// Packs `weights` (`[channels, channels / groups, kh, kw]`) and `bias`.
    pub(super) fn new(shape: ConvShape, weights: &[f32], bias: &[f32], isa: Isa) -> Self {
        let (channels, taps, group) = (shape.in_channels, shape.kernel[0] * shape.kernel[1], shape.in_channels / shape.groups);
        let stride = channels.next_multiple_of(isa.lanes());
        let weights = Packed::new(stride * taps * group, |to| {
            for (index, kernel) in weights.chunks_exact(taps).enumerate() {
                let (channel, from) = (index / group, index % group);
                for (tap, weight) in kernel.iter().enumerate() {
                    to[(tap * group + from) * stride + channel] = *weight;
                }
            }
        });
        let patterns = (0..group).flat_map(|from| (0..isa.lanes()).map(move |lane| (lane / group * group + from) as i32)).collect();
        Self { shape, isa, weights, bias: Packed::padded(bias, stride), stride, patterns }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        (self.weights.len() + self.bias.len()) * 4
    }

    /// Computes; the caller has checked that the tensors are as long as their shapes and pitches say.
    pub(super) fn run<I: Slides<O>, O: Number>(&self, activation: Activation, args: ConvArgs<'_, I, O>) {
        self.run_as(&self.shape, activation, args);
    }

    /// As [`Depthwise::run`], on maps of another height and padding.
    pub(super) fn run_as<I: Slides<O>, O: Number>(&self, shape: &ConvShape, activation: Activation, args: ConvArgs<'_, I, O>) {
        let [oh, ow] = shape.output();
        if strips::fits(shape) {
            return self.strips(shape, activation, args);
        }
        for line in 0..args.images * oh {
            let (image, y) = (line / oh, line % oh);
            let row = Row {
                shape,
                channels: shape.in_channels,
                weights: self.weights.as_ptr(),
                weight_stride: self.stride,
                bias: self.bias.as_ptr(),
                patterns: &self.patterns,
                input: args.input[image * shape.input[0] * shape.input[1] * args.input_pitch..].as_ptr(),
                input_pitch: args.input_pitch,
                output: args.output[line * ow * args.output_pitch..].as_mut_ptr(),
                output_pitch: args.output_pitch,
                residual: args.residual.map_or(std::ptr::null(), |(values, pitch)| values[line * ow * pitch..].as_ptr()),
                residual_pitch: args.residual.map_or(0, |(_, pitch)| pitch),
                y,
                width: ow,
                activation,
            };
            // SAFETY: `isa` was checked; the image, the output row and the residual row lie inside their tensors, and weights and bias are whole vectors.
            unsafe { I::row(self.isa, &row) };
        }
    }

    fn strips<I: Slides<O>, O: Number>(&self, shape: &ConvShape, activation: Activation, args: ConvArgs<'_, I, O>) {
        let [of_input, of_output] = [shape.input, shape.output()].map(|[h, w]| h * w);
        for image in 0..args.images {
            let plane = Plane {
                shape,
                weights: self.weights.as_ptr(),
                weight_stride: self.stride,
                bias: self.bias.as_ptr(),
                input: args.input[image * of_input * args.input_pitch..].as_ptr(),
                input_pitch: args.input_pitch,
                output: args.output[image * of_output * args.output_pitch..].as_mut_ptr(),
                output_pitch: args.output_pitch,
                residual: args.residual.map_or(std::ptr::null(), |(values, pitch)| values[image * of_output * pitch..].as_ptr()),
                residual_pitch: args.residual.map_or(0, |(_, pitch)| pitch),
                activation,
            };
            // SAFETY: `isa` was checked, and the shape is one of those; the image's input, output and residual lie inside their tensors, and weights and
            // bias are whole vectors.
            unsafe { I::plane(self.isa, &plane) };
        }
    }
}

/// Computes a row.
///
/// # Safety
/// As for [`Simd`]; the row's pointers reach what its fields say.
#[inline(always)]
unsafe fn row<S: Simd, I: Element<S>, O: Element<S>>(row: &Row<'_, I, O>) {
    // SAFETY: the caller's promise, passed on; strips lie within the row.
    unsafe {
        match row.patterns.len() / S::LANES {
            2 => grouped::<S, I, O, 2, 6>(row),
            4 => grouped::<S, I, O, 4, 6>(row),
            8 => grouped::<S, I, O, 8, 6>(row),
            _ => pixels::<S, I, O>(row),
        }
    }
}

for_each_isa! {
    /// See [`row`].
    unsafe fn row_on(line: &Row<'_, f32, f32>) => row::<f32, f32>
}

/// Types that depthwise convolutions are computed from and to.
///
/// # Safety
/// Of both functions: as for [`row`] and [`strips::plane`]; `isa` is one that the processor has. For bf16 it has those instructions.
pub trait Slides<O>: Number {
    #[doc(hidden)]
    unsafe fn row(isa: Isa, line: &Row<'_, Self, O>);
    #[doc(hidden)]
    unsafe fn plane(isa: Isa, plane: &Plane<'_, Self, O>);
}

impl Slides<f32> for f32 {
    unsafe fn row(isa: Isa, line: &Row<'_, f32, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { row_on(isa, line) }
    }
    unsafe fn plane(isa: Isa, plane: &Plane<'_, f32, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { strips::plane_on(isa, plane) }
    }
}

macro_rules! slides {
    ($($row:ident, $plane:ident: $o:ty;)*) => {
        $(with_bf16! {
            /// See [`row`].
            unsafe fn $row(line: &Row<'_, Bf16, $o>) => row::<Bf16, $o>
        }

        impl Slides<$o> for Bf16 {
            unsafe fn row(_: Isa, line: &Row<'_, Bf16, $o>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { $row(line) }
            }
            unsafe fn plane(_: Isa, plane: &Plane<'_, Bf16, $o>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { strips::$plane(plane) }
            }
        })*
    };
}

slides! {
    row_of_bf16, plane_of_bf16: Bf16;
    row_from_bf16, plane_from_bf16: f32;
}

/// The kernel rows that lie inside the image, and the input row of the first.
#[inline(always)]
fn kernel_rows<I, O>(row: &Row<'_, I, O>) -> impl Iterator<Item = (usize, usize)> + use<I, O> {
    let (shape, y) = (*row.shape, row.y);
    (0..shape.kernel[0]).filter_map(move |ky| {
        let iy = (y * shape.stride[0] + ky * shape.dilation[0]).wrapping_sub(shape.pad[0]);
        (iy < shape.input[0]).then_some((ky, iy))
    })
}

/// All pixels of a row one by one, for any kernel.
///
/// # Safety
/// As for [`row`].
#[inline(always)]
unsafe fn pixels<S: Simd, I: Element<S>, O: Element<S>>(row: &Row<'_, I, O>) {
    let shape = row.shape;
    for x in 0..row.width {
        for channel in (0..row.channels).step_by(S::LANES) {
            let count = S::LANES.min(row.channels - channel);
            // SAFETY: only pixels inside the image are read, and vectors are cut to the channels that exist.
            unsafe {
                let mut sum = S::load(row.bias.add(channel));
                for (ky, iy) in kernel_rows(row) {
                    for kx in 0..shape.kernel[1] {
                        let ix = (x * shape.stride[1] + kx * shape.dilation[1]).wrapping_sub(shape.pad[1]);
                        if ix < shape.input[1] {
                            let value = I::load_part(row.input.add((iy * shape.input[1] + ix) * row.input_pitch + channel), count);
                            let weight = S::load(row.weights.add((ky * shape.kernel[1] + kx) * row.weight_stride + channel));
                            sum = S::fma(value, weight, sum);
                        }
                    }
                }
                finish::<S, I, O>(row, channel, x, sum, count);
            }
        }
    }
}

/// All strips of `P` pixels of a row, for groups of `G` channels and any kernel.
///
/// # Safety
/// As for [`row`].
#[inline(always)]
unsafe fn grouped<S: Simd, I: Element<S>, O: Element<S>, const G: usize, const P: usize>(row: &Row<'_, I, O>) {
    let shape = row.shape;
    for channel in (0..row.channels).step_by(S::LANES) {
        let count = S::LANES.min(row.channels - channel);
        for x in (0..row.width).step_by(P) {
            // SAFETY: pixels outside the image are read from ZEROS, and vectors are cut to the channels that exist.
            unsafe {
                let mut sums = [S::load(row.bias.add(channel)); P];
                for (ky, iy) in kernel_rows(row) {
                    let line = row.input.add(iy * shape.input[1] * row.input_pitch + channel);
                    for kx in 0..shape.kernel[1] {
                        let mut values = [S::splat(0.0); P];
                        for (p, value) in values.iter_mut().enumerate() {
                            let ix = ((x + p) * shape.stride[1] + kx * shape.dilation[1]).wrapping_sub(shape.pad[1]);
                            let from = if ix < shape.input[1] { line.add(ix * row.input_pitch) } else { ZEROS.as_ptr().cast() };
                            *value = if count == S::LANES { I::load(from) } else { I::load_part(from, count) };
                        }
                        let weights = row.weights.add((ky * shape.kernel[1] + kx) * G * row.weight_stride + channel);
                        for from in 0..G {
                            let weight = S::load(weights.add(from * row.weight_stride));
                            for (sum, value) in sums.iter_mut().zip(values) {
                                *sum = S::fma(S::spread(value, row.patterns.as_ptr().add(from * S::LANES)), weight, *sum);
                            }
                        }
                    }
                }
                for (p, sum) in sums.into_iter().enumerate().take(row.width - x) {
                    finish::<S, I, O>(row, channel, x + p, sum, count);
                }
            }
        }
    }
}

/// Adds the residual, applies the activation and stores.
///
/// # Safety
/// As for [`row`].
#[inline(always)]
unsafe fn finish<S: Simd, I, O: Element<S>>(row: &Row<'_, I, O>, channel: usize, x: usize, mut sum: S::V, count: usize) {
    // SAFETY: the pixel exists, and `count` of its channels from `channel` on.
    unsafe {
        if !row.residual.is_null() {
            sum = S::add(sum, O::load_part(row.residual.add(x * row.residual_pitch + channel), count));
        }
        sum = apply::<S>(sum, row.activation);
        let to = row.output.add(x * row.output_pitch + channel);
        if count == S::LANES { O::store(to, sum) } else { O::store_part(to, sum, count) }
    }
}
