//! From samples of components to pixels: one row of MCUs at a time goes in, rows of pixels come out.

use super::header::Frame;
use super::{colour, upsample};

/// How a component's samples become as many as the picture has pixels. A triangle filter where libjpeg has one ("fancy upsampling"), else
/// samples are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scaling {
    across: usize,
    down: usize,
    smooth: bool,
}

/// One component's samples.
#[derive(Debug)]
struct Plane {
    /// The last row of the row of MCUs before this one, then this one's.
    samples: Vec<u8>,
    /// Bytes from row to row.
    stride: usize,
    /// Rows of samples in a row of MCUs.
    rows: usize,
    /// Samples across and down that belong to the picture.
    width: usize,
    height: usize,
    scaling: Scaling,
    /// A row of the picture's width, where the samples are fewer.
    scaled: Vec<u8>,
}

impl Plane {
    /// Row `y` of all, which must be in this row of MCUs or the last of the one before.
    fn row(&self, y: usize, first: usize) -> &[u8] {
        let at = (y + 1 - first) * self.stride;
        &self.samples[at..at + self.width]
    }

    /// Makes row `y` of the picture; `first` is the row of samples with which this row of MCUs begins.
    fn scale(&mut self, y: usize, first: usize, sums: &mut [i16]) {
        let Scaling { across, down, smooth } = self.scaling;
        if (across, down) == (1, 1) {
            return;
        }
        let near = y / down;
        let mut scaled = std::mem::take(&mut self.scaled);
        let row = self.row(near, first);
        if !smooth {
            upsample::repeat(row, across, &mut scaled);
        } else if down == 1 {
            upsample::across(row, &mut scaled);
        } else {
            // Beyond the first and last row the same row is seen again.
            let upper = y.is_multiple_of(2);
            let far = if upper { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
            let far = self.row(far, first);
            if across == 1 {
                upsample::down(row, far, upper, &mut scaled);
            } else {
                upsample::both(row, far, sums, &mut scaled);
            }
        }
        self.scaled = scaled;
    }

    fn pixels(&self, y: usize, first: usize) -> &[u8] {
        if (self.scaling.across, self.scaling.down) == (1, 1) { self.row(y, first) } else { &self.scaled }
    }
}

/// The rows between two rows of MCUs.
#[derive(Debug)]
pub(super) struct Rows {
    planes: Vec<Plane>,
    colour: colour::Model,
    sums: Vec<i16>,
    line: colour::Line,
    width: usize,
    height: usize,
    v_max: usize,
    down: usize,
}

impl Rows {
    pub(super) fn new(frame: &Frame, colour: colour::Model) -> Self {
        let planes: Vec<Plane> = frame
            .components
            .iter()
            .map(|c| {
                let (across, down) = (frame.h_max / c.h, frame.v_max / c.v);
                // Too narrow for the filter across, libjpeg repeats samples both ways.
                let smooth = matches!((across, down), (1, 2)) || (matches!((across, down), (2, 1 | 2)) && c.width > 2);
                let stride = c.stride * 8;
                Plane {
                    samples: vec![0; stride * (8 * c.v + 1)],
                    stride,
                    rows: 8 * c.v,
                    width: c.width,
                    height: c.height,
                    scaling: Scaling { across, down, smooth },
                    scaled: vec![0; if (across, down) == (1, 1) { 0 } else { c.width * across }],
                }
            })
            .collect();
        let widest = planes.iter().map(|p| p.width).max().unwrap_or(0);
        Self {
            planes,
            colour,
            sums: vec![0; widest],
            line: colour::Line::new(frame.width as usize),
            width: frame.width as usize,
            height: frame.height as usize,
            v_max: frame.v_max,
            down: frame.down,
        }
    }

    /// Where a block of 8 x 8 samples goes, from its upper left corner on, and the bytes from row to row. `x` and `y` count blocks of this
    /// component, `y` in this row of MCUs.
    #[inline(always)]
    pub(super) fn block(&mut self, component: usize, x: usize, y: usize) -> (&mut [u8], usize) {
        let plane = &mut self.planes[component];
        let at = (1 + 8 * y) * plane.stride + 8 * x;
        (&mut plane.samples[at..at + 7 * plane.stride + 8], plane.stride)
    }

    /// Writes the rows of pixels that the blocks of row `mcu_row` of MCUs complete. The last row of pixels of all but the last waits for the
    /// next, whose samples it may need.
    pub(super) fn finish(&mut self, mcu_row: usize, pixels: &mut [u8]) {
        let height = 8 * self.v_max;
        let begin = (mcu_row * height).saturating_sub(1);
        let end = if mcu_row + 1 == self.down { self.height } else { (mcu_row + 1) * height - 1 };
        for y in begin..end {
            for plane in &mut self.planes {
                plane.scale(y, mcu_row * plane.rows, &mut self.sums);
            }
            let row = &mut pixels[y * self.width * 3..(y + 1) * self.width * 3];
            let of = |i: usize| &self.planes[i].pixels(y, mcu_row * self.planes[i].rows)[..row.len() / 3];
            match self.planes.len() {
                1 => colour::grey(of(0), row),
                3 => self.colour.three([of(0), of(1), of(2)], &mut self.line, row),
                _ => self.colour.four([of(0), of(1), of(2), of(3)], &mut self.line, row),
            }
        }
        for plane in &mut self.planes {
            let last = plane.rows * plane.stride;
            plane.samples.copy_within(last.., 0);
        }
    }
}
