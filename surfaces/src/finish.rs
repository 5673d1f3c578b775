//! What a camera and a file make of a drawn picture: colours, defocus, the sensor's noise, JPEG. The same functions harden pictures for tests.

use std::sync::LazyLock;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, ExtendedColorType, ImageError, RgbImage};

use crate::rng::Rng;

/// What is done to a picture after it was drawn.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Standard deviation of the defocus, in pixels.
    pub blur: f32,
    /// Standard deviation of the sensor's noise, of 255.
    pub noise: f32,
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    /// JPEG's, 1 to 100.
    pub quality: u8,
}

impl Finish {
    /// An ordinary camera's, for a picture with this short side.
    pub fn ordinary(rng: &mut Rng, short: u32) -> Self {
        Self {
            blur: if rng.chance(0.5) { 0.0 } else { short as f32 * 0.006 * rng.unit() },
            noise: if rng.chance(0.3) { 0.0 } else { 8.0 * rng.unit() * rng.unit() },
            brightness: rng.range(0.92, 1.08),
            contrast: rng.range(0.82, 1.12),
            saturation: rng.range(0.8, 1.15),
            quality: rng.range(55.0, 98.0) as u8,
        }
    }

    /// Colours, defocus, noise, and bytes; not yet JPEG. `pixels` are in rows of `width`.
    pub(crate) fn develop(&self, mut pixels: Vec<[f32; 3]>, width: u32, height: u32, rng: &mut Rng) -> RgbImage {
        for pixel in &mut pixels {
            let grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
            *pixel = pixel.map(|channel| {
                let vivid = grey + (channel - grey) * self.saturation;
                (self.brightness * ((vivid - 0.5) * self.contrast + 0.5)).clamp(0.0, 1.0) * 255.0
            });
        }
        let mut values = pixels.into_flattened();
        if self.blur > MIN_SIGMA {
            blur_values(&mut values, width as usize, self.blur);
        }
        if self.noise > 0.0 {
            add_noise(&mut values, self.noise, rng);
        }
        to_image(&values, width, height)
    }
}

/// A narrower Gaussian changes no byte.
const MIN_SIGMA: f32 = 0.2;

/// Blurs with a Gaussian whose standard deviation is `sigma` pixels; the border's pixels go on beyond it.
#[must_use]
pub fn blur(image: &RgbImage, sigma: f32) -> RgbImage {
    let mut values = to_values(image);
    if sigma > MIN_SIGMA {
        blur_values(&mut values, image.width() as usize, sigma);
    }
    to_image(&values, image.width(), image.height())
}

/// Adds independent Gaussian noise to every channel of every pixel, `sigma` of 255.
#[must_use]
pub fn noisy(image: &RgbImage, sigma: f32, seed: u64) -> RgbImage {
    let mut values = to_values(image);
    add_noise(&mut values, sigma, &mut Rng::new(&[seed]));
    to_image(&values, image.width(), image.height())
}

/// The picture as a JPEG file of this quality, 1 to 100.
///
/// # Errors
/// If the picture has no pixels, or more than 65,535 in a row or column.
pub fn jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::with_capacity(image.len() / 4 + 1024);
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100));
    encoder.encode(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8).map(|()| bytes)
}

/// The picture in a JPEG file.
///
/// # Errors
/// If it is none.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    Ok(DynamicImage::from_decoder(JpegDecoder::new(std::io::Cursor::new(bytes))?)?.into_rgb8())
}

fn to_values(image: &RgbImage) -> Vec<f32> {
    image.as_raw().iter().map(|&byte| f32::from(byte)).collect()
}

fn to_image(values: &[f32], width: u32, height: u32) -> RgbImage {
    let bytes = values.iter().map(|&value| (value + 0.5) as u8).collect();
    RgbImage::from_raw(width, height, bytes).unwrap_or_default() // three values a pixel: it always fits
}

/// Both passes of a separable Gaussian, cut at three standard deviations.
fn blur_values(values: &mut [f32], width: usize, sigma: f32) {
    let radius = (3.0 * sigma).ceil() as usize;
    let weights: Vec<f32> = (0..=radius).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let all = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    let weights: Vec<f32> = weights.iter().map(|weight| weight / all).collect();
    let (row, height) = (3 * width, values.len() / (3 * width).max(1));
    let mut wide = vec![0.0f32; row + 6 * radius];
    for line in values.chunks_exact_mut(row) {
        for (i, value) in wide.iter_mut().enumerate() {
            let pixel = (i / 3).saturating_sub(radius).min(width - 1);
            *value = line[3 * pixel + i % 3];
        }
        line.fill(0.0);
        for tap in 0..=2 * radius {
            accumulate(line, &wide[3 * tap..], weights[tap.abs_diff(radius)]);
        }
    }
    let source = values.to_vec();
    for (y, line) in values.chunks_exact_mut(row).enumerate() {
        line.fill(0.0);
        for tap in 0..=2 * radius {
            let from = (y + tap).saturating_sub(radius).min(height - 1);
            accumulate(line, &source[from * row..], weights[tap.abs_diff(radius)]);
        }
    }
}

fn accumulate(line: &mut [f32], source: &[f32], weight: f32) {
    for (value, &other) in line.iter_mut().zip(source) {
        *value += weight * other;
    }
}

/// 4,096 numbers with a normal distribution: Box and Muller's transform of evenly spread pairs, as far as 3.5 standard deviations.
static NORMAL: LazyLock<Vec<f32>> = LazyLock::new(|| {
    (0..4096u32)
        .map(|i| {
            let (radius, turn) = ((i / 16) as f32, (i % 16) as f32 + (i / 16) as f32 * 0.618);
            let radius = (-2.0 * ((radius + 0.5) / 256.0).ln()).sqrt();
            radius * (turn / 16.0 * std::f32::consts::TAU).cos()
        })
        .collect()
});

fn add_noise(values: &mut [f32], sigma: f32, rng: &mut Rng) {
    let normal: &[f32] = &NORMAL;
    for group in values.chunks_mut(5) {
        let mut bits = rng.bits();
        for value in group {
            *value += sigma * normal[(bits & 4095) as usize];
            bits >>= 12;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(side: u32) -> RgbImage {
        RgbImage::from_pixel(side, side, image::Rgb([128; 3]))
    }

    #[test]
    fn noise_has_the_deviation_asked_for() {
        let image = noisy(&grey(200), 25.0, 1);
        let values: Vec<f64> = image.as_raw().iter().map(|&byte| f64::from(byte) - 128.0).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        assert!(mean.abs() < 0.5 && (deviation - 25.0).abs() < 0.5, "mean {mean}, deviation {deviation}");
    }

    #[test]
    fn a_blurred_point_is_a_gaussian() {
        let mut image = RgbImage::new(41, 41);
        image.put_pixel(20, 20, image::Rgb([255; 3]));
        let sigma = 1.5f32;
        let blurred = blur(&image, sigma);
        for (x, y) in [(20, 20), (22, 20), (20, 23), (21, 21)] {
            let square = ((x as f32 - 20.0).powi(2) + (y as f32 - 20.0).powi(2)) / (2.0 * sigma * sigma);
            let expected = 255.0 * (-square).exp() / (std::f32::consts::TAU * sigma * sigma);
            let found = f32::from(blurred.get_pixel(x, y).0[1]);
            assert!((found - expected).abs() < 1.0, "{found}, not {expected}, at {x}, {y}");
        }
        assert_eq!(blur(&grey(30), 4.0), grey(30), "nothing gets lost at the border");
    }

    #[test]
    fn quality_decides_the_size() {
        let image = noisy(&grey(64), 30.0, 2);
        let (small, large) = (jpeg(&image, 20).unwrap(), jpeg(&image, 90).unwrap());
        assert!(small.len() * 2 < large.len());
        assert_eq!(decode(&small).unwrap().dimensions(), (64, 64));
        assert!(decode(b"no picture").is_err());
        assert!(jpeg(&RgbImage::new(0, 0), 90).is_err());
    }
}
