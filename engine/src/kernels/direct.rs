//! Convolution as matmuls of register tiles, one for each kernel offset, over input rows read where they lie: channels-last, an output pixel's input at one
//! kernel offset is a run of consecutive channels, so nothing is gathered first. Offsets outside the image read a row of zeros (for quantised maps, of what stands for zero).

use super::element::Packs;
use super::elementwise::Applies;
use super::memory::{LINE, Packed, aligned};
use super::tile::{self, Multiplies, ROWS, Tiles};
use super::{Activation, ConvArgs, ConvShape, Isa};
use std::marker::PhantomData;

mod pack;
mod panel;
pub(super) use pack::Rescale;
use pack::{Columns, Rescaled};
use panel::{Grid, Panel, Pixel};

/// Most runs of one block, as their pointers are kept on the stack.
const RUNS: usize = 32;
/// Weights of a block: what one tile walks through is this many words of K at most, so that a block's panel (256 bytes a word) and the next one's
/// stay in L2 together.
const DEPTH: usize = 1280;
/// Up to this many input channels, the image is copied with its padding first, and a run spans a whole row of the kernel.
const FEW_CHANNELS: usize = 16;
/// Bytes of weights up to which all output channels of some tiles are computed together.
const WEIGHTS_KEPT: usize = 512 << 10;

/// Consecutive input values at one kernel offset.
#[derive(Debug, Clone, Copy)]
struct Run {
    ky: usize,
    kx: usize,
    /// First channel within the group.
    channel: usize,
    len: usize,
}

impl Run {
    /// Elements from where a window would begin, were there no padding, to this run.
    fn offset(&self, shape: &ConvShape, pitch: usize) -> isize {
        let ConvShape { input: [_, w], pad: [top, left, ..], dilation, .. } = *shape;
        let pixels = (self.ky * dilation[0] * w + self.kx * dilation[1]) as isize - (top * w + left) as isize;
        pixels * pitch as isize + self.channel as isize
    }
}

/// Packed weights for input of `I`, and the order in which they are used.
#[derive(Debug, Clone)]
pub(super) struct Direct<I> {
    shape: ConvShape,
    isa: Isa,
    /// For each group and panel: for each word of each run, the panel's vectors.
    weights: Packed,
    /// For each group, whole vectors.
    bias: Packed,
    /// What lies outside the image, as long as the longest run.
    outside: Packed,
    /// One value of it.
    border: I,
    /// What becomes of sums of whole numbers.
    rescale: Option<Rescaled>,
    runs: Vec<Run>,
    lens: Vec<u32>,
    /// Words of all runs together.
    depth: usize,
    /// Of each group.
    panels: Vec<Columns>,
    /// For each block: first run, runs, words.
    blocks: Vec<(usize, usize, usize)>,
    /// Whether the image is copied with its padding first.
    copied: bool,
    of: PhantomData<I>,
}

impl<I: Packs> Direct<I> {
    /// Tiles whose output channels are computed together: few enough that their input stays in L1, many enough that a panel's beginning does not count.
    const TILES_AT_ONCE: usize = 8 * I::OF_A_WORD;

    pub(super) fn weight_bytes(&self) -> usize {
        let of_sums = 1 + 2 * usize::from(self.rescale.is_some());
        (self.weights.len() + self.bias.len() * of_sums) * 4
    }

    /// Height and width of the image with its padding.
    fn padded(&self) -> [usize; 2] {
        let ConvShape { input: [h, w], pad: [top, left, bottom, right], .. } = self.shape;
        [h + top + bottom, w + left + right]
    }

    /// Words of an image with its padding, and one more for the last run to end in.
    fn copy_words(&self) -> usize {
        let [h, w] = self.padded();
        if self.copied { (h * w * self.shape.in_channels).div_ceil(I::OF_A_WORD) + 1 } else { 0 }
    }

    /// Words of a panel's sums: of all pixels where they are computed in several blocks, else of a tile.
    fn sums_words(&self, images: usize) -> usize {
        let pixels = images * self.shape.output().iter().product::<usize>();
        let rows = if self.blocks.len() > 1 { pixels } else { ROWS };
        rows * tile::most_vectors(self.isa) * self.isa.lanes()
    }

    /// Words of scratch memory for `images`; `sums` where sums cannot be kept in the output.
    pub(super) fn scratch(&self, images: usize, sums: bool) -> usize {
        let sums = if sums { self.sums_words(images) + LINE } else { 0 };
        let copy = if self.copied { self.copy_words() + LINE } else { 0 };
        copy + sums
    }

    /// Computes; the caller has checked that the tensors are as long as their shapes and pitches say, and for bf16 and u8 that the processor has them.
    pub(super) fn run<O: Packs>(&self, activation: Activation, mut args: ConvArgs<'_, I, O>)
    where
        I: Multiplies<O> + Multiplies<f32>,
        f32: Applies<O>,
    {
        if !self.copied {
            return self.rows(self.shape, activation, &mut args);
        }
        let ConvShape { input: [h, w], in_channels: channels, pad: [top, left, ..], .. } = self.shape;
        let [padded_h, padded_w] = self.padded();
        let pixels = self.shape.output().iter().product::<usize>();
        let (scratch, rest) = args.scratch.split_at_mut(self.copy_words() + LINE);
        let scratch = I::of_words_mut(aligned(scratch, self.copy_words()));
        // The border stays what it is from image to image.
        for (y, line) in scratch.chunks_exact_mut(padded_w * channels).take(padded_h).enumerate() {
            if y < top || y >= top + h {
                line.fill(self.border);
            } else {
                line[..left * channels].fill(self.border);
                line[(left + w) * channels..].fill(self.border);
            }
        }
        for image in 0..args.images {
            for y in 0..h {
                let to = &mut scratch[((top + y) * padded_w + left) * channels..][..w * channels];
                let from = &args.input[(image * h + y) * w * args.input_pitch..];
                if args.input_pitch == channels {
                    to.copy_from_slice(&from[..w * channels]);
                } else {
                    for (x, to) in to.chunks_exact_mut(channels).enumerate() {
                        to.copy_from_slice(&from[x * args.input_pitch..][..channels]);
                    }
                }
            }
            let mut one = ConvArgs {
                images: 1,
                input: scratch,
                input_pitch: channels,
                residual: args.residual.map(|(values, pitch)| (&values[image * pixels * pitch..], pitch)),
                output: &mut args.output[image * pixels * args.output_pitch..],
                output_pitch: args.output_pitch,
                scratch: rest,
            };
            self.rows(ConvShape { input: [padded_h, padded_w], pad: [0; 4], ..self.shape }, activation, &mut one);
        }
    }

    /// As [`Direct::run`], on maps of another height (with their padding, where they are copied).
    pub(super) fn rows<O: Packs>(&self, shape: ConvShape, activation: Activation, args: &mut ConvArgs<'_, I, O>)
    where
        I: Multiplies<O> + Multiplies<f32>,
        f32: Applies<O>,
    {
        let pointwise = shape.pointwise();
        // Where every pixel is for itself, all of them are one line.
        let shape = if pointwise { ConvShape { input: [1, args.images * shape.input[0] * shape.input[1]], ..shape } } else { shape };
        let images = if pointwise { 1 } else { args.images };
        let grid = Grid::new(&shape, args.input_pitch);
        let [oh, ow] = grid.output;
        let widest = self.panels.iter().map(|panel| panel.count).max().unwrap_or(1);
        let tiles = Tiles::new(images * oh * ow, tile::most_rows(self.isa, widest));
        let mut table = [[std::ptr::null(); ROWS]; RUNS];
        // Weights that stay in L2 anyway: all of a few pixels' channels first, so that input and output pass through the cache once.
        let part = if self.weights.len() * 4 <= WEIGHTS_KEPT { Self::TILES_AT_ONCE } else { tiles.count };
        for first in (0..tiles.count).step_by(part) {
            let range = first..(first + part).min(tiles.count);
            let pixel = Pixel::new(tiles.first_row(first), grid.output);
            for group in 0..shape.groups {
                for &columns in &self.panels {
                    let range = range.clone();
                    let panel = Panel { shape: &shape, pointwise, activation, grid: &grid, tiles, pixel, range, group, columns };
                    self.panel(&panel, args, &mut table);
                }
            }
        }
    }
}
