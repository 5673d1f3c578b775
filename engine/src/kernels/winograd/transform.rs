//! Winograd's transformations: patches of the input to their values at the points, and products at the points to pixels of the output.

use super::super::activation::apply;
use super::super::element::{Bf16, Element, Packs};
use super::super::isa::{for_each_isa, with_bf16};
use super::super::simd::Simd;
use super::super::{Activation, Isa};
use super::{FAR, NEAR};

/// One dimension of a patch at the points.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn evaluate_1d<S: Simd, const A: usize>(d: [S::V; A]) -> [S::V; A] {
    let mut to = d;
    // SAFETY: the caller's promise.
    unsafe {
        if A == 4 {
            to[0] = S::sub(d[0], d[2]);
            to[1] = S::add(d[1], d[2]);
            to[2] = S::sub(d[2], d[1]);
            to[3] = S::sub(d[3], d[1]);
            return to;
        }
        let (a, b) = (S::splat(NEAR as f32), S::splat(FAR as f32));
        let (minus_a, minus_b) = (S::splat(-NEAR as f32), S::splat(-FAR as f32));
        let (minus_aa, minus_bb) = (S::splat((-NEAR * NEAR) as f32), S::splat((-FAR * FAR) as f32));
        let (aabb, minus_sum) = (S::splat((NEAR * NEAR * FAR * FAR) as f32), S::splat((-NEAR * NEAR - FAR * FAR) as f32));
        let (even_a, odd_a) = (S::fma(minus_bb, d[2], d[4]), S::fma(minus_bb, d[1], d[3]));
        let (even_b, odd_b) = (S::fma(minus_aa, d[2], d[4]), S::fma(minus_aa, d[1], d[3]));
        to[0] = S::fma(aabb, d[0], S::fma(minus_sum, d[2], d[4]));
        to[1] = S::fma(a, odd_a, even_a);
        to[2] = S::fma(minus_a, odd_a, even_a);
        to[3] = S::fma(b, odd_b, even_b);
        to[4] = S::fma(minus_b, odd_b, even_b);
        to[5] = S::fma(aabb, d[1], S::fma(minus_sum, d[3], d[5]));
    }
    to
}

/// One dimension of a tile from its values at the points.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn interpolate_1d<S: Simd, const M: usize, const A: usize>(m: [S::V; A]) -> [S::V; M] {
    let mut to = [m[0]; M];
    // SAFETY: the caller's promise.
    unsafe {
        if M == 2 {
            to[0] = S::add(m[0], S::add(m[1], m[2]));
            to[1] = S::add(S::sub(m[1], m[2]), m[3]);
            return to;
        }
        let power = |p: f64, n: i32| S::splat(p.powi(n) as f32);
        let (sum_a, difference_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_b, difference_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        to[0] = S::add(m[0], S::add(sum_a, sum_b));
        to[1] = S::fma(power(FAR, 1), difference_b, S::mul(power(NEAR, 1), difference_a));
        to[2] = S::fma(power(FAR, 2), sum_b, S::mul(power(NEAR, 2), sum_a));
        to[3] = S::fma(power(FAR, 3), difference_b, S::fma(power(NEAR, 3), difference_a, m[5]));
    }
    to
}

/// Evaluates a patch: `to[point * stride + channel]`.
///
/// # Safety
/// As for [`Simd`]; each pixel of the patch has `channels` values, and so has `to` for each point.
#[inline(always)]
unsafe fn evaluate<S: Simd, E: Element<S>, const A: usize>(patch: &[[*const E; A]; A], channels: usize, to: *mut E, stride: usize) {
    for channel in (0..channels).step_by(S::LANES) {
        // SAFETY: the caller's promise; the last vector is cut to the channels that are left.
        unsafe {
            if channel + S::LANES <= channels {
                evaluate_vector::<S, E, A, true>(patch, channel, S::LANES, to, stride);
            } else {
                evaluate_vector::<S, E, A, false>(patch, channel, channels - channel, to, stride);
            }
        }
    }
}

/// As [`evaluate`], for the `count` channels from `channel` on, a whole vector where `WHOLE`.
///
/// # Safety
/// As for [`evaluate`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // what a closure loads would be a call
unsafe fn evaluate_vector<S: Simd, E: Element<S>, const A: usize, const WHOLE: bool>(
    patch: &[[*const E; A]; A],
    channel: usize,
    count: usize,
    to: *mut E,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut half = [[S::splat(0.0); A]; A];
        for j in 0..A {
            let mut column = [S::splat(0.0); A];
            for i in 0..A {
                let from = patch[i][j].add(channel);
                column[i] = if WHOLE { E::load(from) } else { E::load_part(from, count) };
            }
            let column = evaluate_1d::<S, A>(column);
            for i in 0..A {
                half[i][j] = column[i];
            }
        }
        for i in 0..A {
            let row = evaluate_1d::<S, A>(half[i]);
            for j in 0..A {
                let to = to.add((i * A + j) * stride + channel);
                if WHOLE { E::store(to, row[j]) } else { E::store_part(to, row[j], count) }
            }
        }
    }
}

for_each_isa! {
    /// See [`evaluate`].
    unsafe fn evaluate_on<const A: usize>(patch: &[[*const f32; A]; A], channels: usize, to: *mut f32, stride: usize) => evaluate::<f32>
}

with_bf16! {
    /// See [`evaluate`].
    unsafe fn evaluate_bf16<const A: usize>(patch: &[[*const Bf16; A]; A], channels: usize, to: *mut Bf16, stride: usize) => evaluate::<Bf16>
}

/// A tile's products and where its pixels go.
pub struct Placed<O> {
    pub products: *const f32,
    pub product_point: usize,
    pub bias: *const f32,
    pub columns: usize,
    pub output: *mut O,
    pub output_pitch: usize,
    /// Or null.
    pub residual: *const O,
    pub residual_pitch: usize,
    /// Pixels from one row of the output to the next.
    pub image_width: usize,
    /// Rows and columns of the tile that lie inside the output.
    pub rows: usize,
    pub across: usize,
    pub activation: Activation,
}

/// Interpolates a tile and finishes its pixels.
///
/// # Safety
/// As for [`Simd`]; the products and the bias are whole vectors for all columns at each point, and each pixel of output and residual has `columns` values.
#[inline(always)]
unsafe fn interpolate<S: Simd, O: Element<S>, const M: usize, const A: usize>(t: &Placed<O>) {
    let whole = t.rows == M && t.across == M;
    for column in (0..t.columns).step_by(S::LANES) {
        // SAFETY: the caller's promise; the faster one only where the whole tile and a whole vector exist.
        unsafe {
            if whole && column + S::LANES <= t.columns {
                interpolate_vector::<S, O, M, A, true>(t, column);
            } else {
                interpolate_vector::<S, O, M, A, false>(t, column);
            }
        }
    }
}

/// As [`interpolate`], for one vector of columns; all of it exists where `WHOLE`.
///
/// # Safety
/// As for [`interpolate`].
#[inline(always)]
unsafe fn interpolate_vector<S: Simd, O: Element<S>, const M: usize, const A: usize, const WHOLE: bool>(t: &Placed<O>, column: usize) {
    // SAFETY: the caller's promise; vectors are cut to the columns that exist and tiles to the pixels.
    unsafe {
        let (rows, across, count) = if WHOLE { (M, M, S::LANES) } else { (t.rows, t.across, S::LANES.min(t.columns - column)) };
        let mut half = [[S::splat(0.0); A]; M];
        for j in 0..A {
            let products = std::array::from_fn(|i| S::load(t.products.add((i * A + j) * t.product_point + column)));
            for (row, value) in half.iter_mut().zip(interpolate_1d::<S, M, A>(products)) {
                row[j] = value;
            }
        }
        let bias = S::load(t.bias.add(column));
        for (y, row) in half.into_iter().enumerate() {
            let row: [S::V; M] = interpolate_1d::<S, M, A>(row);
            for (x, value) in row.into_iter().enumerate() {
                if !WHOLE && (y >= rows || x >= across) {
                    continue;
                }
                let pixel = y * t.image_width + x;
                let mut value = S::add(value, bias);
                if !t.residual.is_null() {
                    let from = t.residual.add(pixel * t.residual_pitch + column);
                    value = S::add(value, if WHOLE { O::load(from) } else { O::load_part(from, count) });
                }
                value = apply::<S>(value, t.activation);
                let to = t.output.add(pixel * t.output_pitch + column);
                if WHOLE { O::store(to, value) } else { O::store_part(to, value, count) }
            }
        }
    }
}

for_each_isa! {
    /// See [`interpolate`].
    unsafe fn interpolate_on<const M: usize, const A: usize>(t: &Placed<f32>) => interpolate::<f32>
}

with_bf16! {
    /// See [`interpolate`].
    unsafe fn interpolate_bf16<const M: usize, const A: usize>(t: &Placed<Bf16>) => interpolate::<Bf16>
}

/// Numbers that maps are made of which tiles are taken from and put into.
///
/// # Safety
/// Of both functions: `isa` is one that the processor has, and for bf16 it has its instructions; else as for [`evaluate`] and [`interpolate`].
pub trait Transforms: Packs {
    #[doc(hidden)]
    unsafe fn evaluate<const A: usize>(isa: Isa, patch: &[[*const Self; A]; A], channels: usize, to: *mut Self, stride: usize);
    #[doc(hidden)]
    unsafe fn interpolate<const M: usize, const A: usize>(isa: Isa, t: &Placed<Self>);
}

impl Transforms for f32 {
    unsafe fn evaluate<const A: usize>(isa: Isa, patch: &[[*const Self; A]; A], channels: usize, to: *mut Self, stride: usize) {
        // SAFETY: the caller's promise, passed on, here and below.
        unsafe { evaluate_on::<A>(isa, patch, channels, to, stride) }
    }
    unsafe fn interpolate<const M: usize, const A: usize>(isa: Isa, t: &Placed<Self>) {
        // SAFETY: as above.
        unsafe { interpolate_on::<M, A>(isa, t) }
    }
}

impl Transforms for Bf16 {
    unsafe fn evaluate<const A: usize>(_: Isa, patch: &[[*const Self; A]; A], channels: usize, to: *mut Self, stride: usize) {
        // SAFETY: as above.
        unsafe { evaluate_bf16::<A>(patch, channels, to, stride) }
    }
    unsafe fn interpolate<const M: usize, const A: usize>(_: Isa, t: &Placed<Self>) {
        // SAFETY: as above.
        unsafe { interpolate_bf16::<M, A>(t) }
    }
}
