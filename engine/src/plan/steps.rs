//! What moves values about, and what is too rare for a kernel. All loops run over the channels innermost, which lie side by side.

use crate::ir::Window;
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
    pub(super) fn pixels(&self) -> usize {
        self.images * self.shape[0] * self.shape[1]
    }

    /// Channels of a pixel, counted through all images.
    fn pixel(&self, at: usize) -> &'a [f32] {
        &self.values[at * self.pitch..][..self.shape[2]]
    }
}

impl MapMut<'_> {
    pub(super) fn pixels(&self) -> usize {
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
        (0..window.kernel[axis])
            .filter_map(move |k| (at * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pad[axis]).filter(|&p| p < size))
    };
    along(0, y, h).flat_map(move |row| along(1, x, w).map(move |column| row * w + column))
}

/// Sum of each window.
pub(super) fn sum_pool(window: &Window, from: Map<'_>, to: &mut MapMut<'_>) {
    let ([h, w, _], [oh, ow]) = (from.shape, window.output);
    for (image, y, x) in (0..from.images).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        let out = to.pixel((image * oh + y) * ow + x);
        out.fill(0.0);
        for tap in taps(window, [h, w], y, x) {
            for (out, &value) in out.iter_mut().zip(from.pixel(image * h * w + tap)) {
                *out += value;
            }
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

/// In place, times `factor`.
pub(super) fn times(factor: f32, map: &mut MapMut<'_>) {
    for at in 0..map.pixels() {
        map.pixel(at).iter_mut().for_each(|v| *v *= factor);
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
