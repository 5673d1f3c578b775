//! Winograd's minimal filtering for 3x3 convolutions of stride 1, F(2x2) and F(4x4): 2.25 and 4 times fewer multiplications than the direct
//! convolution, for weights 1.78 and 4 times as large. After Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (2015).
//!
//! An output tile of `M x M` needs a patch of `A x A` input values, `A = M + 2`. Both patch and kernel are evaluated as polynomials at `A` points in each
//! direction, multiplied point by point, and the product is interpolated: the multiplication over all channels is, at each of the `A * A` points, a matmul
//! of tiles by channels, on the same register tiles as the direct convolution. Tiles are taken in blocks, so that what is between stays in L2.

use super::activation::apply;
use super::isa::for_each_isa;
use super::memory::{LINE, Packed, aligned};
use super::simd::Simd;
use super::tile::{self, Multiplies, ROWS, Tile, Tiles};
use super::{Activation, ConvArgs, ConvShape, Isa};

/// Points of F(4x4) besides 0 and infinity: plus and minus each of these. The usual 1 and 2 lose 2.2 times as much (4 times at worst); these had the
/// least error of a search over sixteenths, and their powers are exact in f32.
const NEAR: f64 = 11.0 / 16.0;
const FAR: f64 = 1.5;
/// Bytes of transformed input and products of a block of tiles.
const BLOCK: usize = 768 << 10;

/// Packed weights of F(`M`x`M`), `A = M + 2`.
#[derive(Debug, Clone)]
pub(super) struct Winograd<const M: usize, const A: usize> {
    shape: ConvShape,
    isa: Isa,
    /// For each panel and point: for each input channel, the panel's vectors.
    weights: Packed,
    bias: Packed,
    /// Of in_channels, read in the place of pixels outside.
    zeros: Packed,
    /// Where the products' sums start.
    start: Packed,
}

/// Tiles of one block and how its buffers lie.
#[derive(Clone, Copy)]
struct Block {
    tiles: usize,
    /// Values from one point to the next, of the input and of the products; no power of two, lest all points fall on one set of the cache.
    input_point: usize,
    product_point: usize,
}

/// What evaluates a kernel of 3 at the points of F(`M`), one row a point.
fn kernel_points<const M: usize>() -> Vec<[f64; 3]> {
    if M == 2 {
        return vec![[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    }
    let (a, b) = (NEAR, FAR);
    let at = |p: f64, scale: f64| [1.0 / scale, p / scale, p * p / scale];
    let (scale_a, scale_b) = (2.0 * a * a * (a * a - b * b), 2.0 * b * b * (b * b - a * a));
    vec![at(0.0, a * a * b * b), at(a, scale_a), at(-a, scale_a), at(b, scale_b), at(-b, scale_b), [0.0, 0.0, 1.0]]
}

impl<const M: usize, const A: usize> Winograd<M, A> {
    const POINTS: usize = A * A;

    /// Packs `weights` (`[out, in, 3, 3]`) and `bias` of a convolution that [`super::candidates`] allows.
    pub(super) fn new(shape: ConvShape, weights: &[f32], bias: &[f32], isa: Isa) -> Self {
        let lanes = isa.lanes();
        let channels = shape.in_channels;
        let vectors = shape.out_channels.div_ceil(lanes);
        let points = kernel_points::<M>();
        let packed = Packed::new(Self::POINTS * channels * vectors * lanes, |to| {
            for (first, count) in tile::panels(isa, vectors) {
                let width = count * lanes;
                let panel = first * lanes * Self::POINTS * channels;
                // Columns within channels, so that what is written stays in cache until its lines are full.
                for channel in 0..channels {
                    for column in 0..width.min(shape.out_channels - first * lanes) {
                        let kernel: [f64; 9] =
                            std::array::from_fn(|i| f64::from(weights[((first * lanes + column) * channels + channel) * 9 + i]));
                        for (i, across) in points.iter().enumerate() {
                            let row: [f64; 3] = std::array::from_fn(|x| (0..3).map(|y| across[y] * kernel[y * 3 + x]).sum());
                            for (j, along) in points.iter().enumerate() {
                                let value: f64 = (0..3).map(|x| along[x] * row[x]).sum();
                                to[panel + ((i * A + j) * channels + channel) * width + column] = value as f32;
                            }
                        }
                    }
                }
            }
        });
        let bias = Packed::padded(bias, vectors * lanes);
        let [zeros, start] = [channels, tile::most_vectors(isa) * lanes].map(|len| Packed::new(len, |_| {}));
        Self { shape, isa, weights: packed, bias, zeros, start }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        (self.weights.len() + self.bias.len()) * 4
    }

    /// Tiles down and across one image.
    fn tiles(&self) -> [usize; 2] {
        self.shape.output().map(|size| size.div_ceil(M))
    }

    fn block(&self, images: usize) -> Block {
        let width = tile::most_vectors(self.isa) * self.isa.lanes();
        let all = images * self.tiles().iter().product::<usize>();
        let most = (BLOCK / (Self::POINTS * (self.shape.in_channels + width) * 4)).max(ROWS);
        let tiles = all.div_ceil(all.div_ceil(most).max(1));
        let odd_lines = |values: usize| (values.div_ceil(LINE) | 1) * LINE;
        Block { tiles, input_point: odd_lines(tiles * self.shape.in_channels), product_point: odd_lines(tiles * width) }
    }

    pub(super) fn scratch(&self, images: usize) -> usize {
        let block = self.block(images);
        Self::POINTS * (block.input_point + block.product_point) + LINE
    }

    /// Computes; the caller has checked that the tensors are as long as their shapes and pitches say.
    pub(super) fn run(&self, activation: Activation, args: ConvArgs<'_>) {
        let [down, across] = self.tiles();
        let all = args.images * down * across;
        let block = self.block(args.images);
        let scratch = aligned(args.scratch, Self::POINTS * (block.input_point + block.product_point));
        let (input, products) = scratch.split_at_mut(Self::POINTS * block.input_point);
        let lanes = self.isa.lanes();
        let channels = self.shape.in_channels;
        for first in (0..all).step_by(block.tiles) {
            let count = block.tiles.min(all - first);
            let place = |index: usize| (index / (down * across), index / across % down * M, index % across * M);
            for index in 0..count {
                let (image, y, x) = place(first + index);
                let patch = self.patch(args.input, args.input_pitch, image, y, x);
                // SAFETY: `isa` was checked; each pixel has `channels` values, and the block has room for its tiles.
                unsafe { evaluate_on::<A>(self.isa, &patch, channels, input[index * channels..].as_mut_ptr(), block.input_point) };
            }
            for (vector, vectors) in tile::panels(self.isa, self.shape.out_channels.div_ceil(lanes)) {
                self.multiply(input, products, block, count, vector, vectors);
                let column = vector * lanes;
                let columns = (vectors * lanes).min(self.shape.out_channels - column);
                let [oh, ow] = self.shape.output();
                for index in 0..count {
                    let (image, y, x) = place(first + index);
                    let pixel = (image * oh + y) * ow + x;
                    let placed = Placed {
                        products: products[index * vectors * lanes..].as_ptr(),
                        product_point: block.product_point,
                        bias: self.bias.as_ptr().wrapping_add(column),
                        columns,
                        output: args.output[pixel * args.output_pitch + column..].as_mut_ptr(),
                        output_pitch: args.output_pitch,
                        residual: args.residual.map_or(std::ptr::null(), |(values, pitch)| values[pixel * pitch + column..].as_ptr()),
                        residual_pitch: args.residual.map_or(0, |(_, pitch)| pitch),
                        image_width: ow,
                        rows: M.min(oh - y),
                        across: M.min(ow - x),
                        activation,
                    };
                    // SAFETY: `isa` was checked; `rows` by `across` pixels from this one lie inside the output and the residual, and each has
                    // `columns` values from `column` on; the products of the tile were just computed, whole vectors of them.
                    unsafe { interpolate_on::<M, A>(self.isa, &placed) };
                }
            }
        }
    }

    /// Where the pixels of a tile's patch lie; zeros for those in the padding.
    #[inline(always)]
    fn patch(&self, input: &[f32], pitch: usize, image: usize, y: usize, x: usize) -> [[*const f32; A]; A] {
        let ConvShape { input: [h, w], pad, .. } = self.shape;
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                // Above and to the left of the image wraps to huge numbers, which are outside, too.
                let (iy, ix) = ((y + i).wrapping_sub(pad[0]), (x + j).wrapping_sub(pad[1]));
                if iy < h && ix < w { input.as_ptr().wrapping_add(((image * h + iy) * w + ix) * pitch) } else { self.zeros.as_ptr() }
            })
        })
    }

    /// The products of all points for `count` tiles and one panel.
    fn multiply(&self, input: &[f32], products: &mut [f32], block: Block, count: usize, vector: usize, vectors: usize) {
        let channels = self.shape.in_channels;
        let width = vectors * self.isa.lanes();
        let tiles = Tiles::new(count, tile::most_rows(self.isa, vectors));
        let mut panel = self.weights.as_ptr().wrapping_add(vector * self.isa.lanes() * Self::POINTS * channels);
        let soon_step = tile::soon_step(self.isa, width * 4, tiles.count);
        for point in 0..Self::POINTS {
            let next = panel.wrapping_add(channels * width);
            let mut at = 0;
            for index in 0..tiles.count {
                let rows = tiles.rows(index);
                let from = input[point * block.input_point + at * channels..].as_ptr();
                let out = products[point * block.product_point + at * width..].as_mut_ptr();
                let tile = Tile {
                    rows: &[std::array::from_fn(|row| from.wrapping_add(row * channels))],
                    lens: &[channels as u32],
                    panel,
                    soon: next.cast::<i8>().wrapping_add(index * channels * soon_step),
                    soon_step,
                    start: self.start.as_ptr(),
                    sums: std::ptr::null_mut(),
                    sums_pitch: 0,
                    out,
                    out_pitch: width,
                    columns: width,
                    residual: std::ptr::null(),
                    residual_scale: 1.0,
                    scale: std::ptr::null(),
                    shift: std::ptr::null(),
                    residual_pitch: 0,
                    out_ahead: out.wrapping_add(rows * width),
                    residual_ahead: out,
                    bounds: (f32::NEG_INFINITY, f32::INFINITY),
                };
                // SAFETY: `isa` was checked; `rows` tiles from this one lie inside the block, each of `channels` values here and `width` there; the panel
                // holds `width` weights for each channel.
                unsafe { f32::run(self.isa, rows, vectors, &tile) };
                at += rows;
            }
            panel = next;
        }
    }
}

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
unsafe fn evaluate<S: Simd, const A: usize>(patch: &[[*const f32; A]; A], channels: usize, to: *mut f32, stride: usize) {
    for channel in (0..channels).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        // SAFETY: the caller's promise; the last vector is cut to the channels that are left.
        unsafe {
            let load = |from: *const f32| {
                let from = from.add(channel);
                if count == S::LANES { S::load(from) } else { S::load_part(from, count) }
            };
            let mut half = [[S::splat(0.0); A]; A];
            for j in 0..A {
                let column = evaluate_1d::<S, A>(std::array::from_fn(|i| load(patch[i][j])));
                for (row, value) in half.iter_mut().zip(column) {
                    row[j] = value;
                }
            }
            for (i, row) in half.into_iter().enumerate() {
                let row = evaluate_1d::<S, A>(row);
                for (j, value) in row.into_iter().enumerate() {
                    let to = to.add((i * A + j) * stride + channel);
                    if count == S::LANES { S::store(to, value) } else { S::store_part(to, value, count) }
                }
            }
        }
    }
}

for_each_isa! {
    /// See [`evaluate`].
    unsafe fn evaluate_on<const A: usize>(patch: &[[*const f32; A]; A], channels: usize, to: *mut f32, stride: usize) => evaluate
}

/// A tile's products and where its pixels go.
struct Placed {
    products: *const f32,
    product_point: usize,
    bias: *const f32,
    columns: usize,
    output: *mut f32,
    output_pitch: usize,
    residual: *const f32,
    residual_pitch: usize,
    /// Pixels from one row of the output to the next.
    image_width: usize,
    /// Rows and columns of the tile that lie inside the output.
    rows: usize,
    across: usize,
    activation: Activation,
}

/// Interpolates a tile and finishes its pixels.
///
/// # Safety
/// As for [`Simd`]; the products and the bias are whole vectors for all columns at each point, and each pixel of output and residual has `columns` values.
#[inline(always)]
unsafe fn interpolate<S: Simd, const M: usize, const A: usize>(t: &Placed) {
    let whole = t.rows == M && t.across == M;
    for column in (0..t.columns).step_by(S::LANES) {
        // SAFETY: the caller's promise; the faster one only where the whole tile and a whole vector exist.
        unsafe {
            if whole && column + S::LANES <= t.columns {
                interpolate_vector::<S, M, A, true>(t, column);
            } else {
                interpolate_vector::<S, M, A, false>(t, column);
            }
        }
    }
}

/// As [`interpolate`], for one vector of columns; all of it exists where `WHOLE`.
///
/// # Safety
/// As for [`interpolate`].
#[inline(always)]
unsafe fn interpolate_vector<S: Simd, const M: usize, const A: usize, const WHOLE: bool>(t: &Placed, column: usize) {
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
                    value = S::add(value, if WHOLE { S::load(from) } else { S::load_part(from, count) });
                }
                value = apply::<S>(value, t.activation);
                let to = t.output.add(pixel * t.output_pitch + column);
                if WHOLE { S::store(to, value) } else { S::store_part(to, value, count) }
            }
        }
    }
}

for_each_isa! {
    /// See [`interpolate`].
    unsafe fn interpolate_on<const M: usize, const A: usize>(t: &Placed) => interpolate
}
