//! Resize, crop, scale, normalise: torchvision's evaluation transforms on Pillow's pixels.

use sha2::{Digest, Sha256};

use super::Decoded;
use super::resample::{Axis, Resampler, taps};
use crate::config::{Channels, Interpolation, Preprocess, ResizeMode};
use crate::model::Tensor;

/// Scratch memory that a preprocessor keeps between pictures; what is more goes back.
const KEEP: usize = 8 << 20;

/// Makes tensors of pictures: `Resize`, `CenterCrop`, `ToTensor`, `Normalize` of torchvision, on 8-bit pixels and with Pillow's antialiased
/// filters (triangle; Catmull-Rom with a = -0.5). One for each worker thread: it reuses its buffers.
#[derive(Debug)]
pub struct Preprocessor {
    config: Preprocess,
    /// What each 8-bit value becomes, for each channel of the tensor.
    values: [[f32; 256]; 3],
    resampler: Resampler,
}

impl Preprocessor {
    /// Prepares for `config`.
    pub fn new(config: Preprocess) -> Self {
        Self { values: values(&config), config, resampler: Resampler::default() }
    }

    /// The tensor of `picture`: `[3, crop, crop]`, channels in the order of the configuration.
    pub fn tensor(&mut self, picture: &Decoded) -> Tensor {
        let pixels = self.pixels(picture);
        self.normalised(&pixels)
    }

    /// `picture` resized, and its middle cut out.
    pub fn pixels(&mut self, picture: &Decoded) -> Pixels {
        let [x, y] = axes(&self.config, picture.width, picture.height);
        let rgb = self.resampler.run(&picture.rgb, self.config.interpolation, x, y).to_vec();
        self.resampler.trim(KEEP);
        Pixels { rgb, width: x.length, height: y.length }
    }

    /// The tensor of such pixels. Where they are fewer than the crop, torchvision pads with black, which is then normalised like any other pixel.
    pub fn normalised(&self, pixels: &Pixels) -> Tensor {
        let crop = self.config.crop as usize;
        let (left, top) = ((crop - pixels.width) / 2, (crop - pixels.height) / 2);
        let mut tensor = Tensor::zeros((3, crop, crop));
        for (channel, (mut plane, values)) in tensor.outer_iter_mut().zip(&self.values).enumerate() {
            if (pixels.width, pixels.height) != (crop, crop) {
                plane.fill(values[0]);
            }
            let sample = if self.config.channels == Channels::Bgr { 2 - channel } else { channel };
            for (mut to, from) in plane.outer_iter_mut().skip(top).zip(pixels.rgb.chunks_exact(pixels.width * 3)) {
                for (to, pixel) in to.iter_mut().skip(left).zip(from.chunks_exact(3)) {
                    *to = values[usize::from(pixel[sample])];
                }
            }
        }
        tensor
    }
}

/// The middle of a resized picture: RGB with 8 bits a channel, rows from the top, no padding; neither side is longer than the crop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

/// torchvision's `Resize`: both sides, or the short one and the long one truncated.
fn resized(config: &Preprocess, width: u32, height: u32) -> (u64, u64) {
    let size = u64::from(config.resize);
    if config.resize_mode == ResizeMode::Exact {
        return (size, size);
    }
    let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
    // In floating point, as Python divides.
    let long = (((size * long) as f64 / short as f64) as u64).max(1);
    if width <= height { (size, long) } else { (long, size) }
}

/// What is wanted of the resized picture, across and down: torchvision's `CenterCrop`, whose start is rounded half to even.
fn axes(config: &Preprocess, width: u32, height: u32) -> [Axis; 2] {
    let (across, down) = resized(config, width, height);
    let crop = u64::from(config.crop);
    [(width, across), (height, down)].map(|(source, target)| {
        let from = ((target.saturating_sub(crop)) as f64 / 2.0).round_ties_even() as u64;
        Axis { source, target, from, length: target.min(crop) as usize }
    })
}

/// Upper bound of the bytes that [`Preprocessor::tensor`] takes beside the picture.
pub(super) fn scratch_bytes(config: &Preprocess, width: u32, height: u32) -> usize {
    let [x, y] = axes(config, width, height);
    let kind = config.interpolation;
    let weights = |axis: Axis| (axis.length + 4).saturating_mul(taps(kind, axis.source, axis.target).min(axis.source as usize) * 4 + 16);
    // Vectors that grow by themselves may be twice as large as what is in them.
    let between = y.reach(kind).saturating_mul(x.length * 3).saturating_mul(2);
    let made = x.length * (y.length * 3 * 2 + 3 * 4 * 2);
    let tensor = 3 * (config.crop as usize).pow(2) * size_of::<f32>();
    between
        .saturating_add(made)
        .saturating_add(tensor)
        .saturating_add(weights(x).saturating_mul(2))
        .saturating_add(weights(y).saturating_mul(2))
}

/// `(value / scale - mean) / std` in single precision, as torch computes it.
fn values(config: &Preprocess) -> [[f32; 256]; 3] {
    std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / config.scale - config.mean[c]) / config.std[c]))
}

/// SHA-256, in hexadecimal digits, over everything that decides which tensor a picture becomes. Two configurations that make the same tensors
/// (as `scale: 255, mean: 0.5` and `scale: 1, mean: 127.5` may) have the same digest.
pub fn digest(config: &Preprocess) -> String {
    let mut hash = Sha256::new();
    hash.update(b"lakelens.preprocess.v1\0");
    let (resize, mode) = match config.resize_mode {
        ResizeMode::Short => (config.resize, b's'),
        ResizeMode::Exact => (config.resize, b'e'),
    };
    let filter = match config.interpolation {
        Interpolation::Bilinear => b'l',
        Interpolation::Bicubic => b'c',
    };
    let order = match config.channels {
        Channels::Rgb => b'r',
        Channels::Bgr => b'b',
    };
    hash.update(resize.to_le_bytes());
    hash.update(config.crop.to_le_bytes());
    hash.update([mode, filter, order]);
    for value in values(config).as_flattened() {
        // Adding 0 makes -0 the same as 0.
        hash.update((value + 0.0).to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
