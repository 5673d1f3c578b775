//! From pixels to the network's input: torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize`.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use sha2::{Digest, Sha256};

use super::{Pixels, rejected};
use crate::config::{Channels, Interpolation, Preprocess, ResizeMode};
use crate::flow::{Reason, Rejection};
use crate::model::Tensor;

/// Makes tensors, with buffers that are kept from picture to picture. One for each thread.
pub struct Preprocessor {
    config: Preprocess,
    resizer: Resizer,
    options: ResizeOptions,
    resized: Vec<u8>,
    /// For each channel what each of the 256 values becomes, computed as torch does it: in 32 bits, one operation after the other.
    table: [[f32; 256]; 3],
}

impl Preprocessor {
    /// A maker of tensors by `config`.
    pub fn new(config: Preprocess) -> Self {
        // Pillow's bicubic has a = -0.5, which is Catmull and Rom's.
        let filter = match config.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        let mut table = [[0.0; 256]; 3];
        for (channel, values) in table.iter_mut().enumerate() {
            for (value, out) in values.iter_mut().enumerate() {
                *out = (value as f32 / config.scale - config.mean[channel]) / config.std[channel];
            }
        }
        Self { config, resizer: Resizer::new(), options, resized: Vec::new(), table }
    }

    /// Bytes of one tensor.
    pub fn tensor_bytes(&self) -> usize {
        3 * (self.config.crop as usize).pow(2) * size_of::<f32>()
    }

    /// Width and height after `Resize`, for a picture of `width` x `height`.
    pub fn resized_to(&self, width: u32, height: u32) -> (u32, u32) {
        let side = self.config.resize;
        if self.config.resize_mode == ResizeMode::Exact {
            return (side, side);
        }
        // torchvision: int(size * long / short)
        let long = |long: u32, short: u32| u32::try_from(u64::from(side) * u64::from(long) / u64::from(short.max(1))).unwrap_or(u32::MAX);
        if width <= height { (side, long(height, width)) } else { (long(width, height), side) }
    }

    /// The tensor of one picture. A picture so long and thin that its resized form would be larger than any picture may be is rejected.
    pub fn tensor(&mut self, image: &Pixels) -> Result<Tensor, Rejection> {
        let (width, height) = self.resized_to(image.width, image.height);
        let bytes = 3 * u64::from(width) * u64::from(height);
        if bytes > MAX_RESIZED {
            let detail = format!("{} x {} pixels become {width} x {height} when resized", image.width, image.height);
            return Err(rejected(Reason::TooManyPixels, detail));
        }
        self.resized.resize(bytes as usize, 0);
        let failed = |e: &dyn std::fmt::Display| rejected(Reason::CorruptImage, format!("resizing: {e}"));
        let from = ImageRef::new(image.width, image.height, &image.rgb, PixelType::U8x3).map_err(|e| failed(&e))?;
        let mut to = Image::from_slice_u8(width, height, &mut self.resized, PixelType::U8x3).map_err(|e| failed(&e))?;
        self.resizer.resize(&from, &mut to, &self.options).map_err(|e| failed(&e))?;
        Ok(self.crop(width as usize, height as usize))
    }

    /// Cuts out the centre (what lies outside the picture is black, as torchvision pads it) and normalises.
    fn crop(&self, width: usize, height: usize) -> Tensor {
        let side = self.config.crop as usize;
        let mut values = Vec::with_capacity(3 * side * side);
        let (left, top) = (offset(width, side), offset(height, side));
        for channel in 0..3 {
            let table = &self.table[channel];
            let from = match self.config.channels {
                Channels::Rgb => channel,
                Channels::Bgr => 2 - channel,
            };
            for y in 0..side as i64 {
                let row = usize::try_from(top + y).ok().filter(|row| *row < height);
                let row = row.map(|row| &self.resized[3 * width * row..3 * width * (row + 1)]);
                values.extend((0..side as i64).map(|x| {
                    let column = usize::try_from(left + x).ok().filter(|column| *column < width);
                    let value = row.zip(column).map_or(0, |(row, column)| row[3 * column + from]);
                    table[usize::from(value)]
                }));
            }
        }
        Tensor { values, shape: [3, side, side] }
    }
}

/// Most bytes of a resized picture: 64 MiB, or 87,000 x 256 pixels.
const MAX_RESIZED: u64 = 64 << 20;

/// Where the cut begins along a side of `length`; negative where the picture is smaller than the cut. torchvision rounds half to even when it cuts
/// (Python's `round`) and pads by the floor of half of what is missing.
fn offset(length: usize, side: usize) -> i64 {
    if length >= side { ((length - side) as f64 / 2.0).round_ties_even() as i64 } else { -(((side - length) / 2) as i64) }
}

/// SHA-256 in hex over all that decides what the pixels of a picture become.
pub fn digest(config: &Preprocess) -> String {
    use std::fmt::Write;
    let text = serde_json::to_string(config).unwrap_or_default();
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
