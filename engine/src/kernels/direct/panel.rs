//! The tiles of one panel of weights. Between two tiles the multipliers stand still, so little is done there: what tiles have in common is written once.

use super::super::element::Packs;
use super::super::elementwise::{Applies, Job, Operand};
use super::super::memory::{Packed, aligned};
use super::super::tile::{self, Multiplies, ROWS, Tile, Tiles};
use super::super::{Activation, ConvArgs, ConvShape};
use super::pack::{Columns, Rescaled};
use super::{Direct, RUNS, Run};
use std::ops::Range;

/// What is computed: the tiles of `range` for some output channels of `group`.
pub(super) struct Panel<'a> {
    pub shape: &'a ConvShape,
    /// Whether every output pixel is made of one of the input, and pixels are one line.
    pub pointwise: bool,
    pub activation: Activation,
    pub grid: &'a Grid,
    pub tiles: Tiles,
    /// The first pixel of `range`.
    pub pixel: Pixel,
    pub range: Range<usize>,
    pub group: usize,
    pub columns: Columns,
}

/// The output pixels of a call, in order.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    image: usize,
    y: usize,
    x: usize,
}

impl Pixel {
    pub(super) fn new(at: usize, [h, w]: [usize; 2]) -> Self {
        Self { image: at / (h * w), y: at / w % h, x: at % w }
    }

    /// Steps over `pixels`, which end within the line or with it.
    #[inline(always)]
    fn step(&mut self, pixels: usize, [h, w]: [usize; 2]) {
        self.x += pixels;
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
    /// Computes a panel's tiles.
    pub(super) fn panel<O: Packs>(&self, of: &Panel<'_>, args: &mut ConvArgs<'_, I, O>, table: &mut [[*const I; ROWS]; RUNS])
    where
        I: Multiplies<O> + Multiplies<f32>,
        f32: Applies<O>,
    {
        let &Panel {
            shape,
            pointwise,
            activation,
            grid,
            tiles,
            pixel: first_pixel,
            ref range,
            group,
            columns: Columns { first, count, interleaved },
        } = of;
        let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let lanes = self.isa.lanes();
        let first_vector = group * group_out.div_ceil(lanes) + first;
        let width = count * lanes;
        let columns = width.min(group_out - first * lanes);
        let column = group * group_out + first * lanes;
        let input = args.input[group * group_in..].as_ptr();
        let bias = self.bias.as_ptr().wrapping_add(first_vector * lanes);
        let of_sums = |of: fn(&Rescaled) -> &Packed| {
            self.rescale.as_ref().map_or(std::ptr::null(), |r| of(r).as_ptr().wrapping_add(first_vector * lanes))
        };
        let bounds = self.rescale.as_ref().map_or(activation.bounds(), |r| Some(r.bounds));
        let output = grid.output;
        // Where consecutive pixels are consecutive memory, the first panel asks for the input of the tiles that follow: beyond this range, or two further.
        let streamed = pointwise && column == 0 && self.blocks.len() == 1 && args.input_pitch == shape.in_channels;
        let ahead = if range.len() <= Self::TILES_AT_ONCE { Self::TILES_AT_ONCE * tiles.most() } else { 2 * tiles.most() };
        let next_step = tile::soon_step(self.isa, width * 4, range.len());
        let start = tiles.first_row(range.start);
        // Sums that are not finished are kept in the output, or apart where that is too narrow for them: those of a tile, if it is finished next.
        let (sums, sums_pitch, sums_step) = match O::as_sums(args.output[column..].as_mut_ptr()) {
            Some(output) => (output.wrapping_add(start * args.output_pitch), args.output_pitch, args.output_pitch),
            None if self.blocks.len() > 1 => {
                let rows = tiles.first_row(range.end) - start;
                (aligned(args.scratch, rows * width).as_mut_ptr(), width, width)
            }
            None => (aligned(args.scratch, ROWS * width).as_mut_ptr(), width, 0),
        };
        let mut offsets = [0; RUNS];
        let mut panel = self.weights.as_ptr().wrapping_add(first_vector * lanes * self.depth);
        let common = Tile {
            rows: [input; ROWS],
            offsets: &[],
            table: std::ptr::null(),
            tiles: 1,
            rows_step: 0,
            lens: &[],
            panel,
            soon: std::ptr::null(),
            soon_step: 0,
            start: bias,
            sums,
            sums_pitch,
            out: args.output[column..].as_mut_ptr(),
            out_pitch: args.output_pitch,
            columns,
            scale: of_sums(|r| &r.scale),
            shift: of_sums(|r| &r.shift),
            sums_are_floats: self.rescale.as_ref().is_some_and(|r| r.sums_are_floats),
            interleaved,
            residual: std::ptr::null(),
            residual_pitch: 0,
            residual_scale: self.rescale.as_ref().map_or(1.0, |r| r.residual),
            out_ahead: std::ptr::null(),
            residual_ahead: std::ptr::null(),
            bounds: bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
        };
        for (block, &(first_run, run_count, words)) in self.blocks.iter().enumerate() {
            let runs = &self.runs[first_run..][..run_count];
            let last = block + 1 == self.blocks.len();
            let finished = last && bounds.is_some();
            let residual = args.residual.filter(|_| last);
            let next = panel.wrapping_add(words * width);
            for (offset, run) in offsets.iter_mut().zip(runs) {
                *offset = run.offset(shape, args.input_pitch);
            }
            let mut tile = Tile {
                offsets: &offsets[..run_count],
                lens: &self.lens[first_run..][..run_count],
                panel,
                start: if block == 0 { bias } else { std::ptr::null() },
                ..common
            };
            let mut pixel = first_pixel;
            let mut at = start;
            let mut index = range.start;
            while index < range.end {
                let (rows, pixel_of_tile) = (tiles.rows(index), pixel);
                tile.table = std::ptr::null();
                let asked = (index - range.start) * words * next_step;
                let asking = range.start == 0 && asked < words * width * 4;
                // As many tiles as form a grid are computed together, if nothing is to be done with each of them afterwards.
                let mut together = if finished { grid.tiles(pixel, rows).min(tiles.alike(index, range.end)) } else { 0 };
                if asking {
                    together = together.min((words * width * 4 - asked).div_ceil(words * next_step));
                }
                if together > 0 {
                    (tile.tiles, tile.rows_step) = (together, rows * grid.step);
                    let mut first = input.wrapping_add(grid.at(pixel));
                    for pointer in &mut tile.rows[..rows] {
                        *pointer = first;
                        first = first.wrapping_add(grid.step);
                    }
                    pixel.step(together * rows, output);
                } else {
                    tile.tiles = 1;
                    if !grid.point(input, &mut pixel, &mut tile.rows[..rows]) {
                        self.look_up(of, runs, pixel_of_tile, &tile.rows[..rows], tile.offsets, table);
                        tile.table = table.as_ptr();
                    }
                }
                let pixels = rows * tile.tiles;
                (tile.soon, tile.soon_step) = if asking {
                    (next.cast::<i8>().wrapping_add(asked), next_step)
                } else if streamed {
                    (input.wrapping_add((at + ahead) * args.input_pitch).cast(), tiles.most() * 4)
                } else {
                    (tile.panel.cast(), 0)
                };
                index += tile.tiles;
                // Rows and columns to the tile that follows: of this panel, of the next one, or of what comes after all panels.
                let (down, right) = if index < range.end {
                    (pixels as isize, 0)
                } else if column + columns < shape.out_channels {
                    (start as isize - at as isize, columns as isize)
                } else {
                    (pixels as isize, -(column as isize))
                };
                tile.out = args.output[at * args.output_pitch + column..].as_mut_ptr();
                tile.out_ahead = tile.out.wrapping_offset(down * args.output_pitch as isize + right);
                tile.residual_ahead = tile.out;
                if let Some((values, pitch)) = residual {
                    (tile.residual, tile.residual_pitch) = (values[at * pitch + column..].as_ptr(), pitch);
                    tile.residual_ahead = tile.residual.wrapping_offset(down * pitch as isize + right);
                }
                tile.sums = sums.wrapping_add((at - start) * sums_step);
                if finished {
                    // SAFETY: `isa` was checked. Every pointer of a row reaches `len` values: of a pixel inside the input, whose length the caller
                    // checked, or of what lies outside, which is as long as the longest run; those of further tiles lie in the same line, inside the
                    // image, as `Grid::tiles` counted them. The panel holds `width` weights for each word. Output and residual reach `columns` values
                    // of `pixels` pixels, and so do the sums where there are several blocks; where there is one, they are not read.
                    unsafe { I::run(self.isa, rows, count, &tile) };
                } else {
                    // SAFETY: as above, and the sums reach `columns` values of the only tile.
                    unsafe { I::run(self.isa, rows, count, &tile.unfinished(rows)) };
                }
                if last && bounds.is_none() {
                    let job = Job {
                        pixels: rows,
                        channels: columns,
                        input: tile.sums,
                        pitch: sums_pitch,
                        epsilon: None,
                        scale: std::ptr::null(),
                        shift: std::ptr::null(),
                        addend: Operand { at: tile.residual, step: tile.residual_pitch },
                        activation,
                        output: tile.out,
                        output_pitch: args.output_pitch,
                    };
                    // SAFETY: the tile that was just written, its residual and its output.
                    unsafe { f32::apply(self.isa, &job) };
                }
                at += pixels;
            }
            panel = next;
        }
    }

    /// Sets, for each run, where the values of a tile's rows lie, whose first pixel is `from`. Runs that lie in the padding read what lies outside.
    fn look_up(
        &self,
        of: &Panel<'_>,
        runs: &[Run],
        mut from: Pixel,
        rows: &[*const I],
        offsets: &[isize],
        table: &mut [[*const I; ROWS]; RUNS],
    ) {
        let ConvShape { input: [h, w], pad: [top, left, ..], stride, dilation, .. } = *of.shape;
        for (row, first) in rows.iter().enumerate() {
            let (y, x) = (from.y * stride[0], from.x * stride[1]);
            from.step(1, of.grid.output);
            for ((run, offset), pointers) in runs.iter().zip(offsets).zip(&mut *table) {
                // Both wrap where they begin above or to the left, to huge numbers, which are outside, too.
                let (iy, ix) = ((y + run.ky * dilation[0]).wrapping_sub(top), (x + run.kx * dilation[1]).wrapping_sub(left));
                pointers[row] = if iy < h && ix < w { first.wrapping_offset(*offset) } else { self.outside.as_ptr().cast() };
            }
        }
    }
}

/// Where the windows of output pixels begin (were there no padding).
pub(super) struct Grid {
    input: [usize; 2],
    pub output: [usize; 2],
    stride: [usize; 2],
    /// Elements from a pixel to the next, and from an output pixel's window to the next.
    pitch: usize,
    step: usize,
    /// Rows and columns of the output whose windows lie inside the image.
    inside: [Range<usize>; 2],
}

impl Grid {
    pub(super) fn new(shape: &ConvShape, pitch: usize) -> Self {
        let ConvShape { input, stride, .. } = *shape;
        let inside = [0, 1].map(|axis| shape.inside(axis));
        Self { input, output: shape.output(), stride, pitch, step: stride[1] * pitch, inside }
    }

    /// Elements from the first image's first pixel to where the window of `pixel` begins.
    #[inline(always)]
    fn at(&self, pixel: Pixel) -> usize {
        ((pixel.image * self.input[0] + pixel.y * self.stride[0]) * self.input[1] + pixel.x * self.stride[1]) * self.pitch
    }

    /// How many tiles of `rows` pixels from `pixel` on lie in one line, inside the image.
    #[inline(always)]
    fn tiles(&self, pixel: Pixel, rows: usize) -> usize {
        if self.inside[0].contains(&pixel.y) && self.inside[1].contains(&pixel.x) { (self.inside[1].end - pixel.x) / rows } else { 0 }
    }

    /// Sets where the windows of a tile's pixels begin, from `pixel` on, which moves behind them; and whether all of them lie inside the image.
    fn point<I>(&self, input: *const I, pixel: &mut Pixel, rows: &mut [*const I]) -> bool {
        let mut inside = true;
        for pointer in rows {
            *pointer = input.wrapping_add(self.at(*pixel));
            inside &= self.inside[0].contains(&pixel.y) && self.inside[1].contains(&pixel.x);
            pixel.step(1, self.output);
        }
        inside
    }
}
