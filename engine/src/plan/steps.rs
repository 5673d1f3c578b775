//! What moves values about, and what is too rare for a kernel. All loops run over the channels innermost, which lie side by side.

use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;

use crate::ir::Window;
use crate::kernels::{self, Activation, Interleaves, Isa, Number, channels_last};

/// Maps that are read: `images` of `[height, width, channels]`, a pitch from pixel to pixel.
#[derive(Clone, Copy)]
pub(super) struct Map<'a, T> {
    pub values: &'a [T],
    pub pitch: usize,
    pub shape: [usize; 3],
    pub images: usize,
}

/// Maps that are written.
pub(super) struct MapMut<'a, T> {
    pub values: &'a mut [T],
    pub pitch: usize,
    pub shape: [usize; 3],
    pub images: usize,
}

impl<'a, T> Map<'a, T> {
    pub(super) fn pixels(&self) -> usize {
        self.images * self.shape[0] * self.shape[1]
    }

    /// Channels of a pixel, counted through all images.
    fn pixel(&self, at: usize) -> &'a [T] {
        &self.values[at * self.pitch..][..self.shape[2]]
    }
}

impl<T> MapMut<'_, T> {
    pub(super) fn pixels(&self) -> usize {
        self.images * self.shape[0] * self.shape[1]
    }

    fn pixel(&mut self, at: usize) -> &mut [T] {
        &mut self.values[at * self.pitch..][..self.shape[2]]
    }
}

/// Pixels that are transposed at a time.
const BLOCK: usize = 16;

/// From channels, rows, columns.
pub(super) fn import<T: Interleaves>(isa: Isa, from: &[f32], to: MapMut<'_, T>) {
    let [h, w, c] = to.shape;
    for (from, image) in from.chunks_exact(h * w * c).zip(0..to.images) {
        channels_last(isa, (h * w, c), from, (&mut to.values[image * h * w * to.pitch..], to.pitch));
    }
}

/// Into channels, rows, columns.
pub(super) fn export<T: Number>(from: Map<'_, T>, to: &mut [f32]) {
    let [h, w, c] = from.shape;
    let area = h * w;
    for image in 0..from.images {
        let to = &mut to[image * area * c..][..area * c];
        for first in (0..area).step_by(BLOCK) {
            let pixels = first..area.min(first + BLOCK);
            for channel in 0..c {
                let row = &mut to[channel * area..][..area];
                for pixel in pixels.clone() {
                    row[pixel] = from.values[(image * area + pixel) * from.pitch + channel].into();
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
pub(super) fn sum_pool<I: Number, O: Number>(window: &Window, from: Map<'_, I>, to: &mut MapMut<'_, O>) {
    let ([h, w, channels], [oh, ow]) = (from.shape, window.output);
    for (image, y, x) in (0..from.images).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        for channel in 0..channels {
            let values = taps(window, [h, w], y, x).map(|tap| -> f32 { from.pixel(image * h * w + tap)[channel].into() });
            to.pixel((image * oh + y) * ow + x)[channel] = values.sum::<f32>().into();
        }
    }
}

/// A value of each of two maps.
pub(super) fn of_two<T: Number>(x: Map<'_, T>, y: Map<'_, T>, to: &mut MapMut<'_, T>, make: impl Fn(f32, f32) -> f32) {
    for at in 0..x.pixels() {
        for ((out, &a), &b) in to.pixel(at).iter_mut().zip(x.pixel(at)).zip(y.pixel(at)) {
            *out = make(a.into(), b.into()).into();
        }
    }
}

/// In place, times `factor`.
pub(super) fn times<T: Number>(factor: f32, map: &mut MapMut<'_, T>) {
    each(map, |v| v * factor);
}

/// In place.
pub(super) fn each<T: Number>(map: &mut MapMut<'_, T>, make: impl Fn(f32) -> f32) {
    for at in 0..map.pixels() {
        map.pixel(at).iter_mut().for_each(|v| *v = make((*v).into()).into());
    }
}

/// The same values elsewhere.
pub(super) fn copy<T: Number>(from: Map<'_, T>, to: &mut MapMut<'_, T>) {
    for at in 0..from.pixels() {
        to.pixel(at).copy_from_slice(from.pixel(at));
    }
}

/// Channels `groups` by `c / groups`, transposed.
pub(super) fn shuffle<T: Number>(groups: usize, from: Map<'_, T>, to: &mut MapMut<'_, T>) {
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
pub(super) fn pad<T: Number>([top, left, _, _]: [usize; 4], from: Map<'_, T>, to: &mut MapMut<'_, T>) {
    let ([h, w, _], [oh, ow, _]) = (from.shape, to.shape);
    for at in 0..to.pixels() {
        let (image, y, x) = (at / (oh * ow), at / ow % oh, at % ow);
        let inner = y.checked_sub(top).filter(|&y| y < h).zip(x.checked_sub(left).filter(|&x| x < w));
        match inner {
            Some((y, x)) => to.pixel(at).copy_from_slice(from.pixel((image * h + y) * w + x)),
            None => to.pixel(at).fill(T::default()),
        }
    }
}

/// Each pixel's channels over their mean plus `epsilon`.
pub(super) fn over_mean<I: Number, O: Number>(epsilon: f32, from: Map<'_, I>, to: &mut MapMut<'_, O>) {
    for at in 0..from.pixels() {
        let values = from.pixel(at);
        let mean = values.iter().map(|&v| v.into()).sum::<f32>() / values.len() as f32;
        to.pixel(at).iter_mut().zip(values).for_each(|(to, &value)| *to = (value.into() / (mean + epsilon)).into());
    }
}

/// A function of tract's, of every value. Where it fails, which it did not when it was tried, nothing is a number.
pub(super) fn function<I: Number, O: Number>(op: &ElementWiseOp, from: Map<'_, I>, to: &mut MapMut<'_, O>) {
    let channels = from.shape[2];
    let read = |values: &mut [f32]| {
        for (at, values) in values.chunks_exact_mut(channels).enumerate() {
            values.iter_mut().zip(from.pixel(at)).for_each(|(value, &from)| *value = from.into());
        }
    };
    let write = |values: &[f32]| {
        for (at, values) in values.chunks_exact(channels).enumerate() {
            to.pixel(at).iter_mut().zip(values).for_each(|(to, &value)| *to = value.into());
        }
    };
    if applied(op, from.pixels() * channels, read, write).is_err() {
        each(to, |_| f32::NAN);
    }
}

/// A function of tract's on so many values, which are written by `read` and then read by `write`.
///
/// # Errors
/// tract's.
pub(crate) fn applied(op: &ElementWiseOp, len: usize, read: impl FnOnce(&mut [f32]), write: impl FnOnce(&[f32])) -> TractResult<()> {
    let mut tensor = Tensor::zero::<f32>(&[len])?;
    read(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
    op.0.eval_in_place(&mut tensor, op.1)?;
    let done = tensor.try_as_plain_ram()?;
    let done = done.as_slice::<f32>()?;
    ensure!(done.len() == len, "{} values of {len}", done.len());
    write(done);
    Ok(())
}

/// In place.
pub(super) fn activate<T: Number>(map: &mut MapMut<'_, T>, activation: Activation) {
    if activation != Activation::None {
        each(map, |v| kernels::activate(v, activation));
    }
}
