//! Convolution as matmuls of register tiles, one for each kernel offset, over input rows read where they lie: channels-last, an output pixel's input at one
//! kernel offset is a run of consecutive channels, so nothing is gathered first. Offsets outside the image read a row of zeros (for quantised maps, of what stands for zero).

use super::element::Packs;
use super::elementwise::{Applies, Job, Operand};
use super::memory::{LINE, Packed, aligned};
use super::tile::{self, Multiplies, ROWS, Tile, Tiles};
use super::{Activation, ConvArgs, ConvShape, Isa};
use std::marker::PhantomData;
use std::ops::Range;

mod pack;
pub(super) use pack::Rescale;
use pack::Rescaled;

/// Most runs of one block, as their pointers are kept on the stack.
const RUNS: usize = 32;
/// Weights of a block: what one tile walks through is this many words of K at most, so that a block's panel (256 bytes a word) and the next one's
/// stay in L2 together.
const DEPTH: usize = 1280;
/// Up to this many input channels, the image is copied with its padding first, and a run spans a whole row of the kernel.
const FEW_CHANNELS: usize = 16;
/// Bytes of weights up to which all output channels of [`TILES_AT_ONCE`] tiles are computed together.
const WEIGHTS_KEPT: usize = 512 << 10;
const TILES_AT_ONCE: usize = 8;

/// Consecutive input values at one kernel offset.
#[derive(Debug, Clone, Copy)]
struct Run {
    ky: usize,
    kx: usize,
    /// First channel within the group.
    channel: usize,
    len: usize,
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
    /// For each block: first run, runs, words.
    blocks: Vec<(usize, usize, usize)>,
    /// Whether the image is copied with its padding first.
    copied: bool,
    of: PhantomData<I>,
}

/// The output pixels of a call, in order.
#[derive(Clone, Copy, Default)]
struct Pixel {
    image: usize,
    y: usize,
    x: usize,
}

impl Pixel {
    #[inline(always)]
    fn step(&mut self, [h, w]: [usize; 2]) {
        self.x += 1;
        if self.x == w {
            self.x = 0;
            self.y += 1;
            if self.y == h {
                self.y = 0;
                self.image += 1;
            }
        }
    }
}

impl<I: Packs> Direct<I> {
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
        let [oh, ow] = shape.output();
        let vectors = (shape.out_channels / shape.groups).div_ceil(self.isa.lanes());
        let widest = tile::panels(self.isa, vectors).map(|(_, count)| count).max().unwrap_or(1);
        let most = tile::most_rows(self.isa, widest);
        let tiles = Tiles::new(args.images * oh * ow, most);
        let mut pointers = [[std::ptr::null(); ROWS]; RUNS];
        // Weights that stay in L2 anyway: all of a few pixels' channels first, so that input and output pass through the cache once.
        let part = if self.weights.len() * 4 <= WEIGHTS_KEPT { TILES_AT_ONCE } else { tiles.count };
        for first in (0..tiles.count).step_by(part) {
            let range = first..(first + part).min(tiles.count);
            for group in 0..shape.groups {
                for panel in tile::panels(self.isa, vectors) {
                    self.panel(&shape, activation, args, &mut pointers, tiles, range.clone(), group, panel);
                }
            }
        }
    }

    /// Computes the tiles of `range` for the output channels of one panel (its first vector within the group, its vectors).
    #[allow(clippy::too_many_arguments)]
    fn panel<O: Packs>(
        &self,
        shape: &ConvShape,
        activation: Activation,
        args: &mut ConvArgs<'_, I, O>,
        pointers: &mut [[*const I; ROWS]; RUNS],
        tiles: Tiles,
        range: Range<usize>,
        group: usize,
        (first, count): (usize, usize),
    ) where
        I: Multiplies<O> + Multiplies<f32>,
        f32: Applies<O>,
    {
        let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let lanes = self.isa.lanes();
        let first_vector = group * group_out.div_ceil(lanes) + first;
        let width = count * lanes;
        let columns = width.min(group_out - first * lanes);
        let column = group * group_out + first * lanes;
        let input = args.input[group * group_in..].as_ptr();
        let bias = self.bias.as_ptr().wrapping_add(first_vector * lanes);
        let mut panel = self.weights.as_ptr().wrapping_add(first_vector * lanes * self.depth);
        let of_sums = |of: fn(&Rescaled) -> &Packed| {
            self.rescale.as_ref().map_or(std::ptr::null(), |r| of(r).as_ptr().wrapping_add(first_vector * lanes))
        };
        let (scale, shift) = (of_sums(|r| &r.scale), of_sums(|r| &r.shift));
        let residual_scale = self.rescale.as_ref().map_or(1.0, |r| r.residual);
        let bounds = self.rescale.as_ref().map_or(activation.bounds(), |r| Some(r.bounds));
        let output = shape.output();
        let pointwise = shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.pad == [0; 4];
        // Where consecutive pixels are consecutive memory, the first panel asks for the input of the tiles that follow: beyond this range, or two further.
        let streamed = pointwise && column == 0 && self.blocks.len() == 1 && args.input_pitch == shape.in_channels;
        let ahead = if range.len() <= TILES_AT_ONCE { TILES_AT_ONCE * tiles.most() } else { 2 * tiles.most() };
        let soon_step = tile::soon_step(self.isa, width * 4, range.len());
        // Sums that are not finished are kept in the output, or apart where that is too narrow for them: those of a tile, if it is finished next.
        let (sums, sums_pitch, sums_step) = match O::as_sums(args.output[column..].as_mut_ptr()) {
            Some(output) => (output.wrapping_add(tiles.first_row(range.start) * args.output_pitch), args.output_pitch, args.output_pitch),
            None if self.blocks.len() > 1 => {
                let rows = tiles.first_row(range.end) - tiles.first_row(range.start);
                (aligned(args.scratch, rows * width).as_mut_ptr(), width, width)
            }
            None => (aligned(args.scratch, ROWS * width).as_mut_ptr(), width, 0),
        };
        for (block, &(first_run, run_count, words)) in self.blocks.iter().enumerate() {
            let (runs, lens) = (&self.runs[first_run..][..run_count], &self.lens[first_run..][..run_count]);
            let last = block + 1 == self.blocks.len();
            let next = panel.wrapping_add(words * width);
            let start = tiles.first_row(range.start);
            let mut at = start;
            let mut pixel = Pixel { image: at / (output[0] * output[1]), y: at / output[1] % output[0], x: at % output[1] };
            for index in range.clone() {
                let rows = tiles.rows(index);
                if pointwise {
                    for (run, pointers) in runs.iter().zip(&mut *pointers) {
                        for (row, pointer) in pointers[..rows].iter_mut().enumerate() {
                            *pointer = input.wrapping_add((at + row) * args.input_pitch + run.channel);
                        }
                    }
                } else {
                    let mut windows = [(0, 0, input); ROWS];
                    for window in &mut windows[..rows] {
                        let (y, x) = (pixel.y * shape.stride[0], pixel.x * shape.stride[1]);
                        let first = ((pixel.image * shape.input[0] + y) * shape.input[1] + x) * args.input_pitch;
                        *window = (y, x, input.wrapping_add(first));
                        pixel.step(output);
                    }
                    self.point(shape, runs, args.input_pitch, &windows[..rows], pointers);
                }
                let asked = (index - range.start) * words * soon_step;
                let (soon, soon_step) = if range.start == 0 && asked < words * width * 4 {
                    (next.cast::<i8>().wrapping_add(asked), soon_step)
                } else if streamed {
                    (input.wrapping_add((at + ahead) * args.input_pitch).cast(), tiles.most() * 4)
                } else {
                    (panel.cast(), 0)
                };
                let (residual, residual_pitch) = args
                    .residual
                    .filter(|_| last)
                    .map_or((std::ptr::null(), 0), |(values, pitch)| (values[at * pitch + column..].as_ptr(), pitch));
                let out = args.output[at * args.output_pitch + column..].as_mut_ptr();
                // Rows and columns to the tile that follows: of this panel, of the next one, or of what comes after all panels.
                let (down, right) = if index + 1 < range.end {
                    (rows as isize, 0)
                } else if column + columns < shape.out_channels {
                    (start as isize - at as isize, columns as isize)
                } else {
                    (rows as isize, -(column as isize))
                };
                let sums = sums.wrapping_add((at - start) * sums_step);
                let finished = last && bounds.is_some();
                let tile = Tile {
                    rows: &pointers[..run_count],
                    lens,
                    panel,
                    soon,
                    soon_step,
                    start: if block == 0 { bias } else { std::ptr::null() },
                    sums,
                    sums_pitch,
                    out,
                    out_pitch: args.output_pitch,
                    columns,
                    scale,
                    shift,
                    residual,
                    residual_pitch,
                    residual_scale,
                    out_ahead: out.wrapping_offset(down * args.output_pitch as isize + right),
                    residual_ahead: if residual.is_null() { out } else { residual.wrapping_offset(down * residual_pitch as isize + right) },
                    bounds: bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
                };
                if finished {
                    // SAFETY: `isa` was checked. Every pointer of a row reaches `len` values: of a pixel inside the input, whose length the caller
                    // checked, or of what lies outside, which is as long as the longest run. The panel holds `width` weights for each word. Output and residual
                    // reach `columns` values of `rows` pixels, and so do the sums.
                    unsafe { I::run(self.isa, rows, count, &tile) };
                } else {
                    // SAFETY: as above.
                    unsafe { I::run(self.isa, rows, count, &tile.unfinished(rows)) };
                }
                if last && bounds.is_none() {
                    let job = Job {
                        pixels: rows,
                        channels: columns,
                        input: sums,
                        pitch: sums_pitch,
                        scale: std::ptr::null(),
                        shift: std::ptr::null(),
                        addend: Operand { at: residual, step: residual_pitch },
                        activation,
                        output: out,
                        output_pitch: args.output_pitch,
                    };
                    // SAFETY: the tile that was just written, its residual and its output.
                    unsafe { f32::apply(self.isa, &job) };
                }
                at += rows;
            }
            panel = next;
        }
    }

    /// Sets, for each run, where the values of a tile's rows lie, given where the window of each begins (down, across, and where that pixel would lie were
    /// there no padding). Runs that lie in the padding read what lies outside.
    #[inline(always)]
    fn point(
        &self,
        shape: &ConvShape,
        runs: &[Run],
        pitch: usize,
        windows: &[(usize, usize, *const I)],
        pointers: &mut [[*const I; ROWS]; RUNS],
    ) {
        let ConvShape { input: [h, w], pad: [top, left, ..], kernel, dilation, .. } = *shape;
        let [down, across] = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis]);
        let inside =
            shape.pad == [0; 4] || windows.iter().all(|(y, x, _)| *y >= top && y + down < top + h && *x >= left && x + across < left + w);
        for (run, pointers) in runs.iter().zip(pointers) {
            let (ky, kx) = (run.ky * dilation[0], run.kx * dilation[1]);
            // Wraps where the window begins outside the image; it comes back inside, or is not used.
            let step = (ky * w + kx).wrapping_sub(top * w + left).wrapping_mul(pitch).wrapping_add(run.channel);
            for (pointer, (y, x, first)) in pointers.iter_mut().zip(windows) {
                let (iy, ix) = ((y + ky).wrapping_sub(top), (x + kx).wrapping_sub(left));
                *pointer = if inside || (iy < h && ix < w) { first.wrapping_add(step) } else { self.outside.as_ptr().cast() };
            }
        }
    }
}
