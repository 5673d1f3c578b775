//! Pillow's antialiased resampling, to the bit.
//!
//! The method is that of Pillow's `ImagingResample` for 8-bit channels: a separable filter stretched by the scale, coefficients in fixed point with 22
//! fraction bits, rows first, and a rounding to 8 bits between the two passes. Libraries of the same method differ by a bit or two in the coefficients,
//! which is enough to turn the best label of pictures on the edge between two: hence our own. Output pixels do not depend on each other, so
//! only those that the crop keeps are computed.

use std::ops::Range;

use crate::config::Interpolation;

/// Fraction bits of a coefficient: 8 bits for the pixel and 2 for the overshoot of a bicubic leave 22 of 32.
const BITS: u32 = 32 - 8 - 2;

/// The source pixels that make one output pixel, and their weights.
struct Taps {
    first: usize,
    weights: Range<usize>,
}

/// The weights along one axis.
struct Axis {
    taps: Vec<Taps>,
    weights: Vec<i32>,
}

/// Buffers that are kept from picture to picture.
#[derive(Default)]
pub struct Resampler {
    rows: Vec<u8>,
    sums: Vec<i32>,
}

/// A picture of 8-bit RGB.
pub struct Source<'a> {
    /// `3 * width * height` bytes.
    pub rgb: &'a [u8],
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Resampler {
    /// Resizes `from` to `size` (width, height) and gives the pixels of `columns` x `rows` of the result, row by row, in `out`.
    pub fn resize(
        &mut self,
        from: &Source,
        size: (usize, usize),
        filter: Interpolation,
        columns: Range<usize>,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let across = Axis::new(from.width, size.0, filter, columns);
        let down = Axis::new(from.height, size.1, filter, rows);
        let (Some(first), Some(last)) = (down.taps.first(), down.taps.last()) else { return };
        // Only the source rows that some output row needs.
        let needed = first.first..last.first + last.weights.len();
        let stride = 3 * across.taps.len();
        self.rows.clear();
        self.rows.reserve(stride * needed.len());
        for y in needed.clone() {
            let row = &from.rgb[3 * from.width * y..3 * from.width * (y + 1)];
            // Pillow leaves a pass out that changes nothing; here its weights are 1 and it copies.
            for tap in &across.taps {
                let mut sum = [1 << (BITS - 1); 3];
                let weights = &across.weights[tap.weights.clone()];
                for (pixel, weight) in row[3 * tap.first..].chunks_exact(3).zip(weights) {
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                self.rows.extend(sum.map(clip));
            }
        }
        out.reserve(stride * down.taps.len());
        for tap in &down.taps {
            self.sums.clear();
            self.sums.resize(stride, 1 << (BITS - 1));
            for (n, weight) in down.weights[tap.weights.clone()].iter().enumerate() {
                let at = (tap.first - needed.start + n) * stride;
                for (sum, value) in self.sums.iter_mut().zip(&self.rows[at..at + stride]) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(self.sums.iter().map(|sum| clip(*sum)));
        }
    }
}

fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

impl Axis {
    fn new(from: usize, to: usize, filter: Interpolation, kept: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = match filter {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        } * stretch;
        let mut axis = Self { taps: Vec::with_capacity(kept.len()), weights: Vec::new() };
        let mut exact = Vec::new();
        for place in kept {
            let centre = (place as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((first..end).map(|x| weight(filter, (x as f64 - centre + 0.5) / stretch)));
            let sum: f64 = exact.iter().sum();
            let begin = axis.weights.len();
            axis.weights.extend(exact.iter().map(|w| {
                let scaled = if sum == 0.0 { *w } else { w / sum } * f64::from(1 << BITS);
                (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            axis.taps.push(Taps { first, weights: begin..axis.weights.len() });
        }
        axis
    }
}

/// The triangle, and Keys' cubic with a = -0.5 (Keys, 1981).
fn weight(filter: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Interpolation::Bicubic => 0.0,
    }
}
