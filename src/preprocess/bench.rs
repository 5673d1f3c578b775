//! What decoding and preprocessing cost, format by format, beside what a program gets that uses the `image` crate plainly.

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::{Decoded, FORMATS, Header, Limits, Preprocessor, decode, probe};
use crate::config::Preprocess;
use crate::{Context, Error, Result};

/// One line of `lakelens bench decode`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DecodeFigure {
    /// `jpeg`, `png` and so on.
    pub format: &'static str,
    /// How many different pictures were measured.
    pub images: usize,
    /// Milliseconds an image from bytes to RGB, headers included.
    pub ms_decode: f64,
    /// Milliseconds an image from RGB to the tensor.
    pub ms_preprocess: f64,
    /// Milliseconds an image that the baseline takes from bytes to resized RGB.
    pub baseline_ms: f64,
    /// What the baseline is.
    pub baseline_name: &'static str,
}

const BASELINE: &str = "image crate: load_from_memory, to_rgb8, imageops::resize (Triangle)";

/// Measures each format on this thread, for about `seconds` in all: on the pictures at `paths`, by their format, or on a drawn picture of
/// 500 x 375 pixels in each format. Ours and the baseline take turns, so that a change of the machine's speed meets both.
///
/// # Errors
/// A path that cannot be read, or none that is a picture.
pub fn bench_decode(seconds: f64, paths: Option<&[PathBuf]>) -> Result<Vec<DecodeFigure>> {
    let limits = Limits { max_pixels: u64::MAX, timeout: Duration::from_secs(600), exif: false, preprocess: Preprocess::default() };
    let mut files = match paths {
        Some(paths) => {
            paths.iter().map(|p| std::fs::read(p).context(format!("cannot read {}", p.display()))).collect::<Result<Vec<_>>>()?
        }
        None => drawn()?,
    };
    files.retain(|file| probe(file, &limits).and_then(|h| decode(file, &h, &limits)).is_ok());
    let groups: Vec<(&'static str, Vec<Vec<u8>>)> = FORMATS
        .into_iter()
        .map(|(_, name)| (name, files.iter().filter(|f| probe(f, &limits).is_ok_and(|h| h.format == name)).cloned().collect()))
        .filter(|(_, files): &(_, Vec<_>)| !files.is_empty())
        .collect();
    if groups.is_empty() {
        return Err(Error::failed("none of the files is a picture that can be decoded"));
    }
    let share = Duration::from_secs_f64((seconds / groups.len() as f64).clamp(0.0, 3600.0));
    groups.iter().map(|(format, files)| figure(format, files, share, &limits)).collect()
}

fn figure(format: &'static str, files: &[Vec<u8>], share: Duration, limits: &Limits) -> Result<DecodeFigure> {
    let mut preprocessor = Preprocessor::new(limits.preprocess.clone());
    let (mut decoding, mut preprocessing, mut baseline, mut count) = (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0_u32);
    let started = Instant::now();
    while count == 0 || started.elapsed() < share {
        for file in files {
            let begun = Instant::now();
            let picture = ours(file, limits)?;
            decoding += begun.elapsed();
            let begun = Instant::now();
            black_box(preprocessor.tensor(&picture));
            preprocessing += begun.elapsed();
            let begun = Instant::now();
            black_box(theirs(file)?);
            baseline += begun.elapsed();
            count += 1;
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(count);
    Ok(DecodeFigure {
        format,
        images: files.len(),
        ms_decode: ms(decoding),
        ms_preprocess: ms(preprocessing),
        baseline_ms: ms(baseline),
        baseline_name: BASELINE,
    })
}

fn ours(file: &[u8], limits: &Limits) -> Result<Decoded> {
    let header: Header = probe(file, limits).map_err(Error::failed)?;
    decode(file, &header, limits).map_err(Error::failed)
}

fn theirs(file: &[u8]) -> Result<RgbImage> {
    let picture = image::load_from_memory(file).context("the baseline cannot decode a picture")?.to_rgb8();
    let (width, height) = picture.dimensions();
    let short = width.min(height).max(1);
    let side = |length: u32| (u64::from(length) * 256 / u64::from(short)).min(u64::from(u32::MAX)) as u32;
    Ok(imageops::resize(&picture, side(width), side(height), FilterType::Triangle))
}

/// A picture of slopes, waves and grain in every format.
fn drawn() -> Result<Vec<Vec<u8>>> {
    let mut grain = 1_u32;
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(500, 375, |x, y| {
        grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (grain >> 28) as f32;
        let (u, v) = (x as f32, y as f32);
        Rgb([
            (110.0 + 90.0 * (u / 31.0).sin() + noise) as u8,
            (110.0 + 90.0 * ((u + v) / 47.0).cos() + noise) as u8,
            (u / 500.0 * 120.0 + v / 375.0 * 110.0 + noise) as u8,
        ])
    }));
    let write = |format: ImageFormat| {
        let mut out = Cursor::new(Vec::new());
        let written = match format {
            ImageFormat::Jpeg => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut out, 90)),
            _ => picture.write_to(&mut out, format),
        };
        written.map(|()| out.into_inner()).context(format!("cannot encode a picture as {}", format.to_mime_type()))
    };
    FORMATS.into_iter().map(|(format, _)| write(format)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_measured() {
        let figures = bench_decode(0.0, None).expect("figures");
        assert_eq!(figures.iter().map(|f| f.format).collect::<Vec<_>>(), FORMATS.map(|(_, name)| name));
        assert!(figures.iter().all(|f| f.ms_decode > 0.0 && f.ms_preprocess > 0.0 && f.baseline_ms > 0.0 && f.images == 1));
    }

    #[test]
    fn files_that_are_no_pictures_are_an_error() {
        assert!(bench_decode(0.0, Some(&[])).is_err());
        assert!(bench_decode(0.0, Some(&[PathBuf::from("/does/not/exist")])).is_err());
    }
}
