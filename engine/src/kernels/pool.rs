//! Pooling over windows.

use super::conv::check;
use super::element::{Bf16, Element, Number, U8};
use super::isa::{for_each_isa, has_bf16, has_int8, with_bf16, with_int8};
use super::simd::Simd;
use super::{ConvShape, Isa};

/// What becomes of a window's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The largest; padding counts as nothing, what is not a number is passed over, and a window of nothing gives `f32::MIN`, as in tract.
    Max,
    /// The mean over the window's positions inside the image and inside `counted`, the zeros around it that count as values (top, left, bottom, right):
    /// `[0; 4]` for none of them, [`PoolShape::pad`] for all. A window of no positions gives NaN.
    Average { counted: [usize; 4] },
}

/// A pooling: of one image, independent of how many run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of input and output.
    pub channels: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Down and across; 1 where the window is dense.
    pub dilation: [usize; 2],
    /// Around the input: top, left, bottom, right. An output size that is rounded up takes more at the bottom and the right.
    pub pad: [usize; 4],
    /// What becomes of a window's values.
    pub pooling: Pooling,
}

impl PoolShape {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        self.as_conv().output()
    }

    /// The convolution with the same windows.
    fn as_conv(&self) -> ConvShape {
        let Self { input, channels, kernel, stride, dilation, pad, .. } = *self;
        ConvShape { input, in_channels: channels, out_channels: channels, kernel, stride, dilation, pad, groups: channels }
    }

    /// The window's offsets along `axis` that lie within the image extended by `extra` before and after it: (first, count).
    pub(super) fn window(&self, axis: usize, at: usize, extra: [usize; 2]) -> (usize, usize) {
        let position = |k: usize| at * self.stride[axis] + k * self.dilation[axis] + extra[0];
        let inside = |k: &usize| (self.pad[axis]..self.pad[axis] + extra[0] + self.input[axis] + extra[1]).contains(&position(*k));
        let first = (0..self.kernel[axis]).find(inside).unwrap_or(0);
        (first, (first..self.kernel[axis]).take_while(inside).count())
    }
}

/// Pools `images` images: `input` is `[n, h, w, channels]` and `output` `[n, oh, ow, channels]`, each seen through its pitch.
///
/// # Panics
/// If a tensor is shorter than its shape and pitch say, a pitch is below the channels, or the types are not this processor's.
pub fn pool<I: Pools<O>, O: Number>(
    isa: Isa,
    shape: &PoolShape,
    images: usize,
    (input, input_pitch): (&[I], usize),
    (output, output_pitch): (&mut [O], usize),
) {
    assert!(I::present(), "the processor lacks the instructions for these types");
    let isa = isa.checked();
    let ([h, w], [oh, ow]) = (shape.input, shape.output());
    check("input", input.len(), images * h * w, shape.channels, input_pitch);
    check("output", output.len(), images * oh * ow, shape.channels, output_pitch);
    if h * w * shape.channels == 0 {
        return;
    }
    let counted = if let Pooling::Average { counted } = shape.pooling { counted } else { [0; 4] };
    // Where windows lie inside the image from left to right, all of a line are taken in one call.
    let whole = shape.as_conv().inside(1);
    for line in 0..images * oh {
        let (image, y) = (line / oh, line % oh);
        let (ky, rows) = shape.window(0, y, [0; 2]);
        let (_, counted_rows) = shape.window(0, y, [counted[0], counted[2]]);
        let mut x = 0;
        while x < ow {
            let together = if whole.contains(&x) { whole.end - x } else { 1 };
            let (kx, columns) = shape.window(1, x, [0; 2]);
            let (_, counted_columns) = shape.window(1, x, [counted[1], counted[3]]);
            // Where the window has no pixel, there is nothing to read.
            let iy = (y * shape.stride[0] + ky * shape.dilation[0]).saturating_sub(shape.pad[0]).min(h - 1);
            let ix = (x * shape.stride[1] + kx * shape.dilation[1]).saturating_sub(shape.pad[1]).min(w - 1);
            let windows = Windows {
                first: input[((image * h + iy) * w + ix) * input_pitch..].as_ptr(),
                rows,
                columns,
                row_step: shape.dilation[0] * w * input_pitch,
                column_step: shape.dilation[1] * input_pitch,
                channels: shape.channels,
                mean_of: matches!(shape.pooling, Pooling::Average { .. }).then_some((counted_rows * counted_columns) as f32),
                output: output[(line * ow + x) * output_pitch..].as_mut_ptr(),
                count: together,
                step: shape.stride[1] * input_pitch,
                output_step: output_pitch,
            };
            // SAFETY: `isa` was checked; the rows and columns of the windows that are counted lie inside the image, whose length was checked, and so do
            // the output's pixels.
            unsafe { I::reduce(isa, &windows) };
            x += together;
        }
    }
}

/// The mean over all `pixels` of each image: `output` is `[n, channels]`, seen through its pitch.
///
/// # Panics
/// As [`pool`].
pub fn global_average<I: Pools<O>, O: Number>(
    isa: Isa,
    (images, pixels, channels): (usize, usize, usize),
    (input, input_pitch): (&[I], usize),
    (output, output_pitch): (&mut [O], usize),
) {
    let pooling = Pooling::Average { counted: [0; 4] };
    let shape = PoolShape { input: [1, pixels], channels, kernel: [1, pixels], stride: [1; 2], dilation: [1; 2], pad: [0; 4], pooling };
    pool(isa, &shape, images, (input, input_pitch), (output, output_pitch));
}

/// The values that become one output pixel, and those of further ones that lie alike beside it.
pub struct Windows<I, O> {
    /// Windows.
    count: usize,
    /// Values from one to the next, of the input and of the output.
    step: usize,
    output_step: usize,
    /// The first one's first pixel that is counted.
    first: *const I,
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
    channels: usize,
    /// What the sum is divided by; the largest is wanted where there is none.
    mean_of: Option<f32>,
    output: *mut O,
}

/// Vectors of channels taken at once, so that additions need not wait for each other.
const WIDE: usize = 4;

/// Reduces windows.
///
/// # Safety
/// As for [`Simd`]; `rows` by `columns` pixels of `channels` values lie where the steps lead from each of `count` windows, and the output has a pixel for each.
#[inline(always)]
unsafe fn reduce<S: Simd, I: Element<S>, O: Element<S>>(w: &Windows<I, O>) {
    for window in 0..w.count {
        let (mut channel, from, to) = (0, w.first.wrapping_add(window * w.step), w.output.wrapping_add(window * w.output_step));
        while channel < w.channels {
            let left = w.channels - channel;
            // SAFETY: no more channels are taken than are left.
            unsafe {
                if left >= WIDE * S::LANES {
                    reduce_channels::<S, I, O, WIDE, false>(w, from.add(channel), to.add(channel), S::LANES);
                    channel += WIDE * S::LANES;
                } else {
                    reduce_channels::<S, I, O, 1, true>(w, from.add(channel), to.add(channel), left.min(S::LANES));
                    channel += left.min(S::LANES);
                }
            }
        }
    }
}

/// Reduces `N` vectors of channels of the window at `from`; the only one has `count` values where `PART`.
///
/// # Safety
/// As for [`reduce`].
#[inline(always)]
unsafe fn reduce_channels<S: Simd, I: Element<S>, O: Element<S>, const N: usize, const PART: bool>(
    w: &Windows<I, O>,
    from: *const I,
    to: *mut O,
    count: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut values = [S::splat(if w.mean_of.is_some() { 0.0 } else { f32::MIN }); N];
        for y in 0..w.rows {
            for x in 0..w.columns {
                let from = from.add(y * w.row_step + x * w.column_step);
                for (v, value) in values.iter_mut().enumerate() {
                    let from = from.add(v * S::LANES);
                    let next = if PART { I::load_part(from, count) } else { I::load(from) };
                    *value = if w.mean_of.is_some() { S::add(*value, next) } else { S::max(next, *value) };
                }
            }
        }
        for (v, value) in values.into_iter().enumerate() {
            let value = w.mean_of.map_or(value, |count| S::div(value, S::splat(count)));
            let to = to.add(v * S::LANES);
            if PART { O::store_part(to, value, count) } else { O::store(to, value) }
        }
    }
}

/// The largest numbers of windows of bytes, compared as such.
///
/// # Safety
/// As for [`reduce`]; the processor has AVX-512 BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn largest_bytes(w: &Windows<U8, U8>) {
    use std::arch::x86_64::*;
    for window in 0..w.count {
        let (from, to) = (w.first.wrapping_add(window * w.step), w.output.wrapping_add(window * w.output_step));
        for channel in (0..w.channels).step_by(64) {
            let left = w.channels - channel;
            let mask = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            // SAFETY: the caller's promise; the mask leaves only the channels that are left.
            unsafe {
                let mut largest = _mm512_setzero_si512();
                for y in 0..w.rows {
                    for x in 0..w.columns {
                        let from = from.add(y * w.row_step + x * w.column_step + channel);
                        largest = _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(mask, from.cast()));
                    }
                }
                _mm512_mask_storeu_epi8(to.add(channel).cast(), mask, largest);
            }
        }
    }
}

for_each_isa! {
    /// See [`reduce`].
    unsafe fn reduce_on(w: &Windows<f32, f32>) => reduce::<f32, f32>
}

with_bf16! {
    /// See [`reduce`].
    unsafe fn reduce_of_bf16(w: &Windows<Bf16, Bf16>) => reduce::<Bf16, Bf16>
}

with_bf16! {
    /// See [`reduce`].
    unsafe fn reduce_from_bf16(w: &Windows<Bf16, f32>) => reduce::<Bf16, f32>
}

with_int8! {
    /// See [`reduce`].
    unsafe fn reduce_of_u8(w: &Windows<U8, U8>) => reduce::<U8, U8>
}

with_int8! {
    /// See [`reduce`].
    unsafe fn reduce_from_u8(w: &Windows<U8, f32>) => reduce::<U8, f32>
}

/// As [`reduce`], of bytes for bytes.
///
/// # Safety
/// As for [`reduce`]; the processor multiplies bytes, and so has the other instructions for them.
unsafe fn of_u8(w: &Windows<U8, U8>) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if w.mean_of.is_none() {
            return largest_bytes(w);
        }
        reduce_of_u8(w)
    }
}

/// Types that are pooled from and to.
///
/// # Safety
/// Of [`Pools::reduce`]: as for [`reduce`]; `isa` is one that the processor has, and the types are [`Pools::present`].
pub trait Pools<O>: Number {
    /// Whether the processor has the instructions for these types.
    fn present() -> bool;
    #[doc(hidden)]
    unsafe fn reduce(isa: Isa, w: &Windows<Self, O>);
}

impl Pools<f32> for f32 {
    fn present() -> bool {
        true
    }
    unsafe fn reduce(isa: Isa, w: &Windows<Self, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { reduce_on(isa, w) }
    }
}

macro_rules! pools {
    ($has:ident; $($name:ident: $i:ty => $o:ty;)*) => {
        $(impl Pools<$o> for $i {
            fn present() -> bool {
                $has()
            }
            unsafe fn reduce(_: Isa, w: &Windows<Self, $o>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { $name(w) }
            }
        })*
    };
}

pools! {
    has_bf16;
    reduce_of_bf16: Bf16 => Bf16;
    reduce_from_bf16: Bf16 => f32;
}

pools! {
    has_int8;
    of_u8: U8 => U8;
    reduce_from_u8: U8 => f32;
}
