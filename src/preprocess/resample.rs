//! Pillow's antialiased resampling of 8-bit RGB, to the bit.
//!
//! The method is that of Pillow's `Resample.c` (two passes, across first, weights in fixed point with 22 bits, 8-bit pixels between the passes).
//! It is here, and not a library's, because a library's weights have fewer bits: on busy pictures its pixels differ from torchvision's by a tenth of
//! a level on average. And of a picture of any shape only that part is computed which the crop shows.

use crate::config::Interpolation;

const BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (BITS - 1);

/// The weights of the source pixels for a run of target pixels along one axis.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// First source pixel and number of source pixels of each target pixel.
    spans: Vec<(usize, usize)>,
    /// All the weights, `stride` for each target pixel.
    values: Vec<i32>,
    stride: usize,
}

/// How wide a filter is, in pixels of the larger of source and target, to each side.
fn support(filter: Interpolation) -> f64 {
    match filter {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

fn filter(kind: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match kind {
        Interpolation::Bilinear if x < 1.0 => 1.0 - x,
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// Most source pixels that one target pixel may draw on.
pub(super) fn taps(kind: Interpolation, source: u32, target: u64) -> usize {
    let scale = (f64::from(source) / target as f64).max(1.0);
    (support(kind) * scale).ceil() as usize * 2 + 1
}

impl Weights {
    /// The weights of target pixels `from..from + length` of `target`, when `source` pixels become `target`.
    fn fill(&mut self, kind: Interpolation, source: u32, target: u64, from: u64, length: usize) {
        let scale = f64::from(source) / target as f64;
        let widening = scale.max(1.0);
        let support = support(kind) * widening;
        let step = 1.0 / widening;
        self.stride = taps(kind, source, target).min(source as usize);
        self.spans.clear();
        self.values.clear();
        let mut exact = Vec::with_capacity(self.stride);
        for i in 0..length {
            let centre = ((from + i as u64) as f64 + 0.5) * scale;
            // The conversions truncate and saturate: what is below 0 becomes 0.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(source as usize);
            exact.clear();
            exact.extend((first..end).map(|x| filter(kind, (x as f64 - centre + 0.5) * step)));
            let sum: f64 = exact.iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            self.spans.push((first, exact.len()));
            self.values.extend(exact.iter().map(|w| {
                let fixed = w / sum * f64::from(1 << BITS);
                (fixed + if fixed < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            self.values.resize(self.spans.len() * self.stride, 0);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.spans.iter().zip(self.values.chunks(self.stride.max(1))).map(|(&(first, count), values)| (first, &values[..count]))
    }

    /// First source pixel of all, and the one after the last.
    fn extent(&self) -> (usize, usize) {
        let first = self.spans.first().map_or(0, |s| s.0);
        (first, self.spans.iter().map(|s| s.0 + s.1).max().unwrap_or(first).max(first))
    }
}

/// One axis: `source` pixels become `target`, of which `length` from `from` on are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) source: u32,
    pub(super) target: u64,
    pub(super) from: u64,
    pub(super) length: usize,
}

impl Axis {
    fn changes(&self) -> bool {
        u64::from(self.source) != self.target
    }

    /// Most source pixels that are drawn on, all in all.
    pub(super) fn reach(&self, kind: Interpolation) -> usize {
        let scale = f64::from(self.source) / self.target as f64;
        ((self.length as f64 * scale).ceil() as usize).saturating_add(taps(kind, self.source, self.target)).min(self.source as usize)
    }
}

/// The buffers of [`Resampler::run`], used again and again.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    across: Weights,
    down: Weights,
    between: Vec<u8>,
    sums: Vec<i32>,
    made: Vec<u8>,
}

impl Resampler {
    /// The wanted part of the resized picture: `y.length` rows of `x.length` RGB pixels.
    pub(super) fn run(&mut self, rgb: &[u8], kind: Interpolation, x: Axis, y: Axis) -> &[u8] {
        let width = x.source as usize * 3;
        let row = x.length * 3;
        // Down, only the rows that the second pass will look at.
        let vertical = y.changes();
        let (top, bottom) = if vertical {
            self.down.fill(kind, y.source, y.target, y.from, y.length);
            self.down.extent()
        } else {
            (y.from as usize, y.from as usize + y.length)
        };
        let rows = rgb.chunks_exact(width).take(bottom).skip(top);
        if x.changes() {
            self.across.fill(kind, x.source, x.target, x.from, x.length);
            self.between.resize((bottom - top) * row, 0);
            for (from, to) in rows.zip(self.between.chunks_exact_mut(row)) {
                for ((first, weights), to) in self.across.iter().zip(to.chunks_exact_mut(3)) {
                    let mut sums = [HALF; 3];
                    for (pixel, weight) in from[first * 3..(first + weights.len()) * 3].chunks_exact(3).zip(weights) {
                        sums[0] += i32::from(pixel[0]) * weight;
                        sums[1] += i32::from(pixel[1]) * weight;
                        sums[2] += i32::from(pixel[2]) * weight;
                    }
                    (to[0], to[1], to[2]) = (level(sums[0]), level(sums[1]), level(sums[2]));
                }
            }
        } else {
            let start = x.from as usize * 3;
            self.between.clear();
            for r in rows {
                self.between.extend_from_slice(&r[start..start + row]);
            }
        }
        if !vertical {
            return &self.between;
        }
        self.made.resize(y.length * row, 0);
        self.sums.resize(row, 0);
        for ((first, weights), to) in self.down.iter().zip(self.made.chunks_exact_mut(row)) {
            self.sums.fill(HALF);
            for (line, &weight) in self.between[(first - top) * row..].chunks_exact(row).zip(weights) {
                for (sum, &value) in self.sums.iter_mut().zip(line) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (to, &sum) in to.iter_mut().zip(&self.sums) {
                *to = level(sum);
            }
        }
        &self.made
    }

    /// Gives memory back that only an unusual picture needed.
    pub(super) fn trim(&mut self, keep: usize) {
        let weights = self.across.values.capacity() + self.down.values.capacity();
        if self.between.capacity() > keep || weights * size_of::<i32>() > keep {
            *self = Self::default();
        }
    }
}

fn level(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}
