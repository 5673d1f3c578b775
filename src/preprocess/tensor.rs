//! From pixels to the network's input: torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize`.

use std::ops::Range;

use super::resample::{Resampler, Source};
use super::{Pixels, rejected};
use crate::config::{Channels, Preprocess, ResizeMode};
use crate::flow::{Reason, Rejection};
use crate::model::Tensor;

/// Longest side of a resized picture. Only the crop is computed, but weights are kept for its whole reach.
const MAX_SIDE: u64 = 1 << 24;

/// Makes tensors, with buffers that are kept from picture to picture. One for each thread.
pub struct Preprocessor {
    config: Preprocess,
    resampler: Resampler,
    cut: Vec<u8>,
    /// For each channel what each of the 256 values becomes, computed as torch does it: in 32 bits, one operation after the other.
    table: [[f32; 256]; 3],
}

impl Preprocessor {
    /// A maker of tensors by `config`.
    pub fn new(config: Preprocess) -> Self {
        let mut table = [[0.0; 256]; 3];
        for (channel, values) in table.iter_mut().enumerate() {
            for (value, out) in values.iter_mut().enumerate() {
                *out = (value as f32 / config.scale - config.mean[channel]) / config.std[channel];
            }
        }
        Self { config, resampler: Resampler::default(), cut: Vec::new(), table }
    }

    /// Bytes of one tensor.
    pub fn tensor_bytes(&self) -> usize {
        3 * (self.config.crop as usize).pow(2) * size_of::<f32>()
    }

    /// Width and height after `Resize`, for a picture of `width` x `height`.
    pub fn resized_to(&self, width: u32, height: u32) -> (u64, u64) {
        let side = u64::from(self.config.resize);
        let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
        // torchvision: int(size * long / short)
        match self.config.resize_mode {
            ResizeMode::Exact => (side, side),
            ResizeMode::Short if width <= height => (side, side * height / width),
            ResizeMode::Short => (side * width / height, side),
        }
    }

    /// The tensor of one picture. One so long and thin that its resized side would be beyond all measure is rejected.
    pub fn tensor(&mut self, image: &Pixels) -> Result<Tensor, Rejection> {
        let (width, height) = self.resized_to(image.width, image.height);
        if width.max(height) > MAX_SIDE {
            let detail = format!("{} x {} pixels become {width} x {height} when resized", image.width, image.height);
            return Err(rejected(Reason::TooManyPixels, detail));
        }
        let (width, height) = (width as usize, height as usize);
        let side = self.config.crop as usize;
        let (columns, left) = cut(width, side);
        let (rows, top) = cut(height, side);
        let source = Source { rgb: &image.rgb, width: image.width as usize, height: image.height as usize };
        let filter = self.config.interpolation;
        self.resampler.resize(&source, (width, height), filter, columns.clone(), rows.clone(), &mut self.cut);
        let mut values = Vec::with_capacity(3 * side * side);
        let stride = 3 * columns.len();
        for channel in 0..3 {
            let table = &self.table[channel];
            let from = match self.config.channels {
                Channels::Rgb => channel,
                Channels::Bgr => 2 - channel,
            };
            // What lies outside the picture is black, as torchvision pads it.
            values.resize(values.len() + top * side, table[0]);
            for row in self.cut.chunks_exact(stride) {
                values.resize(values.len() + left, table[0]);
                values.extend(row.iter().skip(from).step_by(3).map(|value| table[usize::from(*value)]));
                values.resize(values.len() + side - left - columns.len(), table[0]);
            }
            values.resize((channel + 1) * side * side, table[0]);
        }
        Ok(Tensor { values, shape: [3, side, side] })
    }
}

/// The part of a side of `length` that a centred cut of `side` keeps, and how much of the cut lies before the picture. torchvision rounds half to even
/// when it cuts (Python's `round`), and pads by the floor of half of what is missing.
fn cut(length: usize, side: usize) -> (Range<usize>, usize) {
    if length >= side {
        let first = ((length - side) as f64 / 2.0).round_ties_even() as usize;
        (first..first + side, 0)
    } else {
        (0..length, (side - length) / 2)
    }
}
