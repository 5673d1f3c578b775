//! Winograd's minimal filtering for 3x3 convolutions of stride 1, F(2x2) and F(4x4): 2.25 and 4 times fewer multiplications than the direct
//! convolution, for weights 1.78 and 4 times as large. After Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (2015).
//!
//! An output tile of `M x M` needs a patch of `A x A` input values, `A = M + 2`. Both patch and kernel are evaluated as polynomials at `A` points in each
//! direction, multiplied point by point, and the product is interpolated: the multiplication over all channels is, at each of the `A * A` points, a matmul
//! of tiles by channels, on the same register tiles as the direct convolution. Tiles are taken in blocks, so that what is between stays in L2. Over bf16 the
//! values at the points are rounded to it, and the products stay f32.

use std::marker::PhantomData;

use super::memory::{LINE, Packed, aligned};
use super::tile::{self, Multiplies, ROWS, Tile, Tiles};
use super::{Activation, ConvArgs, ConvShape, Isa};

mod transform;
use transform::Placed;
pub(super) use transform::Transforms;

/// Points of F(4x4) besides 0 and infinity: plus and minus each of these. The usual 1 and 2 lose 2.2 times as much (4 times at worst); these had the
/// least error of a search over sixteenths, and their powers are exact in f32.
const NEAR: f64 = 11.0 / 16.0;
const FAR: f64 = 1.5;
/// Bytes of transformed input and products of a block of tiles.
const BLOCK: usize = 768 << 10;

/// Packed weights of F(`M`x`M`), `A = M + 2`.
#[derive(Debug, Clone)]
pub(super) struct Winograd<I, const M: usize, const A: usize> {
    shape: ConvShape,
    isa: Isa,
    /// For each panel and point: for each word of input channels, the panel's vectors.
    weights: Packed,
    bias: Packed,
    /// Of in_channels, read in the place of pixels outside.
    zeros: Packed,
    /// Where the products' sums start.
    start: Packed,
    of: PhantomData<I>,
}

/// Tiles of one block and how its buffers lie.
#[derive(Clone, Copy)]
struct Block {
    tiles: usize,
    /// Words from one point to the next, of the input and of the products; no power of two, lest all points fall on one set of the cache.
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

impl<I: Transforms, const M: usize, const A: usize> Winograd<I, M, A> {
    const POINTS: usize = A * A;

    /// Packs `weights` (`[out, in, 3, 3]`) and `bias` of a convolution that [`super::candidates`] allows.
    pub(super) fn new(shape: ConvShape, weights: &[f32], bias: &[f32], isa: Isa) -> Self {
        let lanes = isa.lanes();
        let channels = shape.in_channels;
        let words = channels.div_ceil(I::OF_A_WORD);
        let vectors = shape.out_channels.div_ceil(lanes);
        let points = kernel_points::<M>();
        // One kernel at the points.
        let at_points = |kernel: &[f32]| {
            let mut values = [[0.0; A]; A];
            for (across, values) in points.iter().zip(&mut values) {
                let row: [f64; 3] = std::array::from_fn(|x| (0..3).map(|y| across[y] * f64::from(kernel[y * 3 + x])).sum());
                for (along, value) in points.iter().zip(values) {
                    *value = (0..3).map(|x| along[x] * row[x]).sum::<f64>() as f32;
                }
            }
            values
        };
        let packed = Packed::new(Self::POINTS * words * vectors * lanes, |to| {
            for (first, count) in tile::panels(isa, vectors) {
                let width = count * lanes;
                let panel = first * lanes * Self::POINTS * words;
                // Columns within words, so that what is written stays in cache until its lines are full.
                for word in 0..words {
                    for column in 0..width.min(shape.out_channels - first * lanes) {
                        let of_column = &weights[(first * lanes + column) * channels * 9..][..channels * 9];
                        let kernels = of_column.chunks_exact(9).skip(word * I::OF_A_WORD).take(I::OF_A_WORD);
                        let mut values = [[[0.0; A]; A]; 2];
                        kernels.zip(&mut values).for_each(|(kernel, to)| *to = at_points(kernel));
                        for (i, j) in (0..A).flat_map(|i| (0..A).map(move |j| (i, j))) {
                            to[panel + ((i * A + j) * words + word) * width + column] = I::word(0, |n| values[n][i][j]);
                        }
                    }
                }
            }
        });
        let bias = Packed::padded(bias, vectors * lanes);
        let [zeros, start] = [channels, tile::most_vectors(isa) * lanes].map(|len| Packed::new(len, |_| {}));
        Self { shape, isa, weights: packed, bias, zeros, start, of: PhantomData }
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
        let most = (BLOCK / (Self::POINTS * (self.shape.in_channels.div_ceil(I::OF_A_WORD) + width) * 4)).max(ROWS);
        let tiles = all.div_ceil(all.div_ceil(most).max(1));
        let odd_lines = |words: usize| (words.div_ceil(LINE) | 1) * LINE;
        let input = (tiles * self.shape.in_channels).div_ceil(I::OF_A_WORD);
        Block { tiles, input_point: odd_lines(input), product_point: odd_lines(tiles * width) }
    }

    pub(super) fn scratch(&self, images: usize) -> usize {
        let block = self.block(images);
        Self::POINTS * (block.input_point + block.product_point) + LINE
    }

    /// Computes; the caller has checked that the tensors are as long as their shapes and pitches say, and for bf16 that the processor has it.
    pub(super) fn run<O: Transforms>(&self, activation: Activation, args: ConvArgs<'_, I, O>)
    where
        I: Multiplies<f32>,
    {
        let [down, across] = self.tiles();
        let all = args.images * down * across;
        let block = self.block(args.images);
        let scratch = aligned(args.scratch, Self::POINTS * (block.input_point + block.product_point));
        let (input, products) = scratch.split_at_mut(Self::POINTS * block.input_point);
        let input = I::of_words_mut(input);
        let lanes = self.isa.lanes();
        let channels = self.shape.in_channels;
        for first in (0..all).step_by(block.tiles) {
            let count = block.tiles.min(all - first);
            let place = |index: usize| (index / (down * across), index / across % down * M, index % across * M);
            for index in 0..count {
                let (image, y, x) = place(first + index);
                let patch = self.patch(args.input, args.input_pitch, image, y, x);
                // SAFETY: `isa` was checked; each pixel has `channels` values, and the block has room for its tiles.
                unsafe {
                    I::evaluate::<A>(self.isa, &patch, channels, input[index * channels..].as_mut_ptr(), block.input_point * I::OF_A_WORD)
                };
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
                    unsafe { O::interpolate::<M, A>(self.isa, &placed) };
                }
            }
        }
    }

    /// Where the pixels of a tile's patch lie; zeros for those in the padding.
    #[inline(always)]
    fn patch(&self, input: &[I], pitch: usize, image: usize, y: usize, x: usize) -> [[*const I; A]; A] {
        let ConvShape { input: [h, w], pad, .. } = self.shape;
        let mut pixels = [[self.zeros.as_ptr().cast(); A]; A];
        // Above and to the left of the image wraps to huge numbers, which are outside, too.
        let (y, x) = (y.wrapping_sub(pad[0]), x.wrapping_sub(pad[1]));
        for (i, line) in pixels.iter_mut().enumerate() {
            let y = y.wrapping_add(i);
            for (j, pixel) in line.iter_mut().enumerate() {
                let x = x.wrapping_add(j);
                if y < h && x < w {
                    *pixel = input.as_ptr().wrapping_add(((image * h + y) * w + x) * pitch);
                }
            }
        }
        pixels
    }

    /// The products of all points for `count` tiles and one panel.
    fn multiply(&self, input: &[I], products: &mut [f32], block: Block, count: usize, vector: usize, vectors: usize)
    where
        I: Multiplies<f32>,
    {
        let channels = self.shape.in_channels;
        let words = channels.div_ceil(I::OF_A_WORD);
        let width = vectors * self.isa.lanes();
        let tiles = Tiles::new(count, tile::most_rows(self.isa, vectors));
        let mut panel = self.weights.as_ptr().wrapping_add(vector * self.isa.lanes() * Self::POINTS * words);
        let soon_step = tile::soon_step(self.isa, width * 4, tiles.count);
        for point in 0..Self::POINTS {
            let next = panel.wrapping_add(words * width);
            let mut soon = next.cast::<i8>();
            let mut at = 0;
            for (rows, tiles) in tiles.heights() {
                let from = input[point * block.input_point * I::OF_A_WORD + at * channels..].as_ptr();
                let out = products[point * block.product_point + at * width..].as_mut_ptr();
                let tile = Tile {
                    rows: std::array::from_fn(|row| from.wrapping_add(row * channels)),
                    offsets: &[0],
                    table: std::ptr::null(),
                    tiles,
                    rows_step: rows * channels,
                    lens: &[channels as u32],
                    panel,
                    soon,
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
                    sums_are_floats: false,
                    interleaved: false,
                    residual_pitch: 0,
                    out_ahead: out.wrapping_add(tiles * rows * width),
                    residual_ahead: out.cast_const(),
                    bounds: (f32::NEG_INFINITY, f32::INFINITY),
                };
                // SAFETY: `isa` was checked; `tiles` times `rows` tiles from this one lie inside the block, each of `channels` values here and `width` there;
                // the panel holds `width` words for each word of channels.
                unsafe { I::run(self.isa, rows, vectors, &tile) };
                at += tiles * rows;
                soon = soon.wrapping_add(tiles * words * soon_step);
            }
            panel = next;
        }
    }
}
