//! Depthwise convolution with the usual kernels: square, dense, of 3, 5 or 7, at strides of 1 and 2. For one vector of channels, a strip of pixels of one
//! or two output rows is held in registers; each input value is loaded once for all outputs of the strip that it goes into. Where a strip touches
//! the left or right border, the columns that lie outside are known when compiling, and nothing is multiplied by zero.

use super::activation::apply;
use super::element::{Bf16, Element};
use super::isa::{for_each_isa, with_bf16};
use super::simd::Simd;
use super::{Activation, ConvShape};

/// Pixels of a strip: what the maps of the usual networks are a multiple of, 7, 14, 28, 56 and 112.
const STRIP: usize = 7;
/// Bytes of input rows that stay in L1 from one output row to the next.
const IN_L1: usize = 20 << 10;
/// Bytes of an image's input and output up to which they are read and written a few channels at a time: they stay in L2, so the order is free.
const IN_L2: usize = 1 << 20;

/// One image.
pub struct Plane<'a, I, O> {
    pub shape: &'a ConvShape,
    /// For each kernel offset, the channels in whole vectors, `weight_stride` apart.
    pub weights: *const f32,
    pub weight_stride: usize,
    pub bias: *const f32,
    pub input: *const I,
    pub input_pitch: usize,
    pub output: *mut O,
    pub output_pitch: usize,
    /// Or null.
    pub residual: *const O,
    pub residual_pitch: usize,
    pub activation: Activation,
}

/// Whether strips compute this shape.
pub(super) fn fits(shape: &ConvShape) -> bool {
    let ConvShape { kernel: [kh, kw], stride: [down, across], .. } = *shape;
    let [_, width] = shape.output();
    let known = matches!((kw, across), (3 | 5, 1 | 2) | (7, 1));
    // A strip is inside, or hangs over by no more than half a kernel; what lies between is seen strip by strip.
    shape.groups == shape.in_channels && shape.dilation == [1, 1] && kh == kw && down == across && known && width >= STRIP
}

/// Computes an image.
///
/// # Safety
/// As for [`Simd`]; the shape [`fits`], and the pointers reach what it says.
#[inline(always)]
unsafe fn plane<S: Simd, I: Element<S>, O: Element<S>>(p: &Plane<'_, I, O>) {
    // With 16 registers there is room for one row.
    let wide = S::LANES == 16;
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match (p.shape.kernel[1], p.shape.stride[1]) {
            (3, 1) if wide => rows::<S, I, O, 3, 1, 2, 9>(p),
            (3, 1) => rows::<S, I, O, 3, 1, 1, 9>(p),
            (3, _) => rows::<S, I, O, 3, 2, 1, 15>(p),
            (5, 1) if wide => rows::<S, I, O, 5, 1, 2, 11>(p),
            (5, 1) => rows::<S, I, O, 5, 1, 1, 11>(p),
            (5, _) => rows::<S, I, O, 5, 2, 1, 17>(p),
            _ => rows::<S, I, O, 7, 1, 1, 13>(p),
        }
    }
}

for_each_isa! {
    /// See [`plane`].
    pub(super) unsafe fn plane_on(p: &Plane<'_, f32, f32>) => plane::<f32, f32>
}

with_bf16! {
    /// See [`plane`].
    pub(super) unsafe fn plane_of_bf16(p: &Plane<'_, Bf16, Bf16>) => plane::<Bf16, Bf16>
}

with_bf16! {
    /// See [`plane`].
    pub(super) unsafe fn plane_from_bf16(p: &Plane<'_, Bf16, f32>) => plane::<Bf16, f32>
}

/// All rows, `R` at a time, for a kernel of `K` at a stride of `ST`; `C` input columns make a strip.
///
/// # Safety
/// As for [`plane`].
#[inline(always)]
unsafe fn rows<S: Simd, I: Element<S>, O: Element<S>, const K: usize, const ST: usize, const R: usize, const C: usize>(
    p: &Plane<'_, I, O>,
) {
    let [height, width] = p.shape.output();
    let channels = p.shape.in_channels;
    let of_a_vector = ((R - 1) * ST + K) * p.shape.input[1] * S::LANES * 4;
    let map = (p.shape.input[0] * p.shape.input[1] + height * width) * channels * 4;
    let block = if map <= IN_L2 { (IN_L1 / of_a_vector).max(1) * S::LANES } else { channels };
    for first in (0..channels).step_by(block) {
        let mut y = 0;
        while y < height {
            let two = R == 2 && y + 1 < height;
            for channel in (first..channels.min(first + block)).step_by(S::LANES) {
                let whole = channel + S::LANES <= channels;
                // SAFETY: the caller's promise; the rows exist, and vectors are cut to the channels that are left.
                unsafe {
                    match (two, whole) {
                        (true, true) => line::<S, I, O, K, ST, 2, C, true>(p, y, channel),
                        (true, false) => line::<S, I, O, K, ST, 2, C, false>(p, y, channel),
                        (false, true) => line::<S, I, O, K, ST, 1, C, true>(p, y, channel),
                        (false, false) => line::<S, I, O, K, ST, 1, C, false>(p, y, channel),
                    }
                }
            }
            y += 1 + usize::from(two);
        }
    }
}

/// Whether residual and activation come before a value is stored, for it would lose by being stored before them. Otherwise they are applied to whole rows
/// afterwards, which keeps their code out of the many kinds of strips.
const fn finished_in_registers<O>() -> bool {
    size_of::<O>() < size_of::<f32>()
}

/// One vector of channels of `R` output rows.
///
/// # Safety
/// As for [`plane`]; the rows exist, and with `WHOLE` all of the vector's channels do.
#[inline(always)]
unsafe fn line<
    S: Simd,
    I: Element<S>,
    O: Element<S>,
    const K: usize,
    const ST: usize,
    const R: usize,
    const C: usize,
    const WHOLE: bool,
>(
    p: &Plane<'_, I, O>,
    y: usize,
    channel: usize,
) {
    let [_, width] = p.shape.output();
    let (left, of_input) = (p.shape.pad[1], p.shape.input[1]);
    let mut x = 0;
    while x < width {
        // The last strip begins early enough to be whole; what it computes a second time comes out the same.
        let at = x.min(width - STRIP);
        let (outside_left, end) = (left.saturating_sub(at * ST), at * ST + C);
        let outside_right = end.saturating_sub(left + of_input);
        // SAFETY: the caller's promise; the columns outside are as many as each way to compute leaves out.
        unsafe {
            match (outside_left, outside_right) {
                (0, 0) => strip::<S, I, O, K, ST, R, C, 0, 0, WHOLE>(p, y, at, channel),
                (l, 0) if l == K / 2 => strip::<S, I, O, K, ST, R, C, 1, 0, WHOLE>(p, y, at, channel),
                (0, r) if r == K / 2 => strip::<S, I, O, K, ST, R, C, 0, 1, WHOLE>(p, y, at, channel),
                (l, r) if l == K / 2 && r == K / 2 => strip::<S, I, O, K, ST, R, C, 1, 1, WHOLE>(p, y, at, channel),
                _ => strip::<S, I, O, K, ST, R, C, 2, 2, WHOLE>(p, y, at, channel),
            }
        }
        x += STRIP;
    }
    if !finished_in_registers::<O>() && (!p.residual.is_null() || p.activation.bounds().is_none()) {
        let count = if WHOLE { S::LANES } else { p.shape.in_channels - channel };
        for at in y * width..(y + R) * width {
            // SAFETY: pixels of these rows, just written, and of the residual.
            unsafe {
                let to = p.output.add(at * p.output_pitch + channel);
                let mut value = O::load_part(to, count);
                if !p.residual.is_null() {
                    value = S::add(value, O::load_part(p.residual.add(at * p.residual_pitch + channel), count));
                }
                O::store_part(to, apply::<S>(value, p.activation), count);
            }
        }
    }
}

/// A strip of [`STRIP`] pixels from `x` on, of `R` rows. `L` and `Z` say which of its `C` columns lie outside, left and right: 0 none, 1 half a kernel, 2
/// that it is to be looked up.
///
/// # Safety
/// As for [`line`]; the strip lies within the row, and `L` and `Z` are true.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of three arrays at once
unsafe fn strip<
    S: Simd,
    I: Element<S>,
    O: Element<S>,
    const K: usize,
    const ST: usize,
    const R: usize,
    const C: usize,
    const L: usize,
    const Z: usize,
    const WHOLE: bool,
>(
    p: &Plane<'_, I, O>,
    y: usize,
    x: usize,
    channel: usize,
) {
    let ConvShape { input: [height, of_input], pad: [top, left, ..], in_channels, .. } = *p.shape;
    let count = if WHOLE { S::LANES } else { in_channels - channel };
    let outside = |c: usize| (L == 1 && c < K / 2) || (Z == 1 && c >= C - K / 2);
    // SAFETY: rows and columns outside the image are not read; vectors are cut to the channels that exist.
    unsafe {
        let mut sums = [[S::load(p.bias.add(channel)); STRIP]; R];
        // Both wrap where they begin outside; what is inside comes out right.
        let first_row = (y * ST).wrapping_sub(top);
        let first_column = (x * ST).wrapping_sub(left);
        for i in 0..(R - 1) * ST + K {
            let row = first_row.wrapping_add(i);
            if row >= height {
                continue;
            }
            let from = p.input.wrapping_add((row * of_input).wrapping_add(first_column).wrapping_mul(p.input_pitch).wrapping_add(channel));
            let values: [S::V; C] = std::array::from_fn(|c| {
                if outside(c) || (L == 2 && first_column.wrapping_add(c) >= of_input) {
                    return S::splat(0.0);
                }
                let from = from.wrapping_add(c * p.input_pitch);
                if WHOLE { I::load(from) } else { I::load_part(from, count) }
            });
            for r in 0..R {
                if i < r * ST || i - r * ST >= K {
                    continue;
                }
                let weights = p.weights.add((i - r * ST) * K * p.weight_stride + channel);
                for kx in 0..K {
                    let weight = S::load(weights.add(kx * p.weight_stride));
                    for pixel in 0..STRIP {
                        if !outside(pixel * ST + kx) {
                            sums[r][pixel] = S::fma(values[pixel * ST + kx], weight, sums[r][pixel]);
                        }
                    }
                }
            }
        }
        let [_, width] = p.shape.output();
        if p.residual.is_null()
            && let Some((low, high)) = p.activation.bounds()
        {
            if low != f32::NEG_INFINITY {
                let low = S::splat(low);
                sums.as_flattened_mut().iter_mut().for_each(|sum| *sum = S::max(low, *sum));
            }
            if high != f32::INFINITY {
                let high = S::splat(high);
                sums.as_flattened_mut().iter_mut().for_each(|sum| *sum = S::min(high, *sum));
            }
        } else if finished_in_registers::<O>() {
            for (r, pixel) in (0..R).flat_map(|r| (0..STRIP).map(move |pixel| (r, pixel))) {
                let mut value = sums[r][pixel];
                if !p.residual.is_null() {
                    let from = p.residual.add(((y + r) * width + x + pixel) * p.residual_pitch + channel);
                    value = S::add(value, if WHOLE { O::load(from) } else { O::load_part(from, count) });
                }
                sums[r][pixel] = apply::<S>(value, p.activation);
            }
        }
        for r in 0..R {
            let to = p.output.add(((y + r) * width + x) * p.output_pitch + channel);
            for pixel in 0..STRIP {
                let to = to.add(pixel * p.output_pitch);
                if WHOLE { O::store(to, sums[r][pixel]) } else { O::store_part(to, sums[r][pixel], count) }
            }
        }
    }
}
