//! What is done to maps beside convolving them. All loops run over the channels innermost, which lie side by side.

use crate::ir::{Divisor, Window};
use crate::kernels::Activation;

/// Maps that are read: `images` of `[height, width, channels]`, a pitch from pixel to pixel.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub values: &'a [f32],
    pub pitch: usize,
    pub shape: [usize; 3],
    pub images: usize,
}

/// Maps that are written.
pub(super) struct MapMut<'a> {
    pub values: &'a mut [f32],
    pub pitch: usize,
    pub shape: [usize; 3],
    pub images: usize,
}

impl<'a> Map<'a> {
    fn pixels(&self) -> usize {
        self.images * self.shape[0] * self.shape[1]
    }

    /// Channels of a pixel, counted through all images.
    fn pixel(&self, at: usize) -> &'a [f32] {
        &self.values[at * self.pitch..][..self.shape[2]]
    }
}

impl MapMut<'_> {
    fn pixels(&self) -> usize {
        self.images * self.shape[0] * self.shape[1]
    }

    fn pixel(&mut self, at: usize) -> &mut [f32] {
        &mut self.values[at * self.pitch..][..self.shape[2]]
    }
}

/// Pixels that are transposed at a time.
const BLOCK: usize = 16;

/// From channels, rows, columns.
pub(super) fn import(from: &[f32], mut to: MapMut<'_>) {
    let [h, w, c] = to.shape;
    let area = h * w;
    for image in 0..to.images {
        let from = &from[image * area * c..][..area * c];
        for first in (0..area).step_by(BLOCK) {
            let pixels = first..area.min(first + BLOCK);
            for channel in 0..c {
                let row = &from[channel * area..][..area];
                for pixel in pixels.clone() {
                    to.pixel(image * area + pixel)[channel] = row[pixel];
                }
            }
        }
    }
}

/// Into channels, rows, columns.
pub(super) fn export(from: Map<'_>, to: &mut [f32]) {
    let [h, w, c] = from.shape;
    let area = h * w;
    for image in 0..from.images {
        let to = &mut to[image * area * c..][..area * c];
        for first in (0..area).step_by(BLOCK) {
            let pixels = first..area.min(first + BLOCK);
            for channel in 0..c {
                let row = &mut to[channel * area..][..area];
                for pixel in pixels.clone() {
                    row[pixel] = from.values[(image * area + pixel) * from.pitch + channel];
                }
            }
        }
    }
}

/// Every tap of a window that lies in the map, as `(pixel of the image)`.
fn taps(window: &Window, [h, w]: [usize; 2], y: usize, x: usize) -> impl Iterator<Item = usize> + use<'_> {
    let along = move |axis: usize, at: usize, size: usize| {
        (0..window.kernel[axis]).filter_map(move |k| {
            (at * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pad[axis]).filter(|&p| p < size)
        })
    };
    along(0, y, h).flat_map(move |row| along(1, x, w).map(move |column| row * w + column))
}

/// The largest of each window. As in tract, NaN is no value to compare with, and nothing is below the lowest finite number.
pub(super) fn max_pool(window: &Window, from: Map<'_>, to: &mut MapMut<'_>) {
    let ([h, w, _], [oh, ow]) = (from.shape, window.output);
    for (image, y, x) in (0..from.images).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        let out = to.pixel((image * oh + y) * ow + x);
        out.fill(f32::MIN);
        for tap in taps(window, [h, w], y, x) {
            for (out, &value) in out.iter_mut().zip(from.pixel(image * h * w + tap)) {
                *out = if *out < value { value } else { *out };
            }
        }
    }
}

/// Sum or average of each window.
pub(super) fn avg_pool(window: &Window, divisor: Divisor, from: Map<'_>, to: &mut MapMut<'_>) {
    let ([h, w, _], [oh, ow]) = (from.shape, window.output);
    for (image, y, x) in (0..from.images).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        let out = to.pixel((image * oh + y) * ow + x);
        out.fill(0.0);
        let mut valid = 0;
        for tap in taps(window, [h, w], y, x) {
            valid += 1;
            for (out, &value) in out.iter_mut().zip(from.pixel(image * h * w + tap)) {
                *out += value;
            }
        }
        let count = match divisor {
            Divisor::One => continue,
            Divisor::Valid => valid,
            Divisor::Padded(size) => {
                let along = |axis: usize, at: usize| {
                    (0..window.kernel[axis]).filter(|k| at * window.stride[axis] + k * window.dilation[axis] < size[axis]).count()
                };
                along(0, y) * along(1, x)
            }
        };
        let share = 1.0 / count as f32;
        out.iter_mut().for_each(|v| *v *= share);
    }
}

/// Sum over all pixels times `factor`. Rows are summed on their own first: one long sum of a large map would lose its last digits.
pub(super) fn global_sum(factor: f32, from: Map<'_>, to: &mut MapMut<'_>, scratch: &mut [f32]) {
    let [h, w, c] = from.shape;
    let row_sum = &mut scratch[..c];
    for image in 0..from.images {
        to.pixel(image).fill(0.0);
        for row in 0..h {
            row_sum.fill(0.0);
            for column in 0..w {
                for (sum, &value) in row_sum.iter_mut().zip(from.pixel((image * h + row) * w + column)) {
                    *sum += value;
                }
            }
            for (out, sum) in to.pixel(image).iter_mut().zip(&*row_sum) {
                *out += sum;
            }
        }
        to.pixel(image).iter_mut().for_each(|v| *v *= factor);
    }
}

/// `x * scale + shift`, then `then`.
pub(super) fn scale_shift(scale: &[f32], shift: &[f32], from: Map<'_>, to: &mut MapMut<'_>, then: impl Fn(f32) -> f32) {
    for at in 0..from.pixels() {
        let constants = scale.iter().zip(shift);
        for ((out, &value), (scale, shift)) in to.pixel(at).iter_mut().zip(from.pixel(at)).zip(constants) {
            *out = then(value * scale + shift);
        }
    }
}

/// A value of each of two maps.
pub(super) fn of_two(x: Map<'_>, y: Map<'_>, to: &mut MapMut<'_>, make: impl Fn(f32, f32) -> f32) {
    for at in 0..x.pixels() {
        for ((out, &a), &b) in to.pixel(at).iter_mut().zip(x.pixel(at)).zip(y.pixel(at)) {
            *out = make(a, b);
        }
    }
}

/// Each channel of a map times its factor.
pub(super) fn mul_channels(x: Map<'_>, y: Map<'_>, to: &mut MapMut<'_>) {
    let area = x.shape[0] * x.shape[1];
    for at in 0..x.pixels() {
        for ((out, &a), &b) in to.pixel(at).iter_mut().zip(x.pixel(at)).zip(y.pixel(at / area)) {
            *out = a * b;
        }
    }
}

/// The same values elsewhere.
pub(super) fn copy(from: Map<'_>, to: &mut MapMut<'_>) {
    for at in 0..from.pixels() {
        to.pixel(at).copy_from_slice(from.pixel(at));
    }
}

/// Channels `groups` by `c / groups`, transposed.
pub(super) fn shuffle(groups: usize, from: Map<'_>, to: &mut MapMut<'_>) {
    let each = from.shape[2] / groups;
    for at in 0..from.pixels() {
        let values = from.pixel(at);
        for (place, out) in to.pixel(at).chunks_exact_mut(groups).enumerate() {
            for (group, out) in out.iter_mut().enumerate() {
                *out = values[group * each + place];
            }
        }
    }
}

/// Zeros around.
pub(super) fn pad([top, left, _, _]: [usize; 4], from: Map<'_>, to: &mut MapMut<'_>) {
    let ([h, w, _], [oh, ow, _]) = (from.shape, to.shape);
    for at in 0..to.pixels() {
        let (image, y, x) = (at / (oh * ow), at / ow % oh, at % ow);
        let inner = y.checked_sub(top).filter(|&y| y < h).zip(x.checked_sub(left).filter(|&x| x < w));
        match inner {
            Some((y, x)) => to.pixel(at).copy_from_slice(from.pixel((image * h + y) * w + x)),
            None => to.pixel(at).fill(0.0),
        }
    }
}

/// In place.
pub(super) fn activate(map: &mut MapMut<'_>, activation: Activation) {
    let mut each = |f: &dyn Fn(&mut [f32])| (0..map.pixels()).for_each(|at| f(map.pixel(at)));
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    match activation {
        Activation::None => (),
        Activation::Relu => each(&|p| p.iter_mut().for_each(|v| *v = v.max(0.0))),
        Activation::Clamp(low, high) => each(&|p| p.iter_mut().for_each(|v| *v = v.max(low).min(high))),
        Activation::Silu => each(&|p| p.iter_mut().for_each(|v| *v *= sigmoid(*v))),
        Activation::Sigmoid => each(&|p| p.iter_mut().for_each(|v| *v = sigmoid(*v))),
        Activation::HardSwish => each(&|p| p.iter_mut().for_each(|v| *v = *v * (*v + 3.0).clamp(0.0, 6.0) / 6.0)),
    }
}
