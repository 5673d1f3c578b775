//! From bytes to 8-bit RGB.

use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::probe::{by_name, of};
use super::{Header, Limits, jpeg, rejected};
use crate::flow::{Reason, Rejection};

/// A decoded picture: `3 * width * height` bytes, row by row, red first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// The bytes.
    pub rgb: Vec<u8>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Decodes what [`super::probe`] found. A panic of a decoder is that picture's fault, and contained.
pub fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Pixels, Rejection> {
    let begun = Instant::now();
    let decoded = catch_unwind(AssertUnwindSafe(|| by_format(bytes, header, limits, begun)))
        .unwrap_or_else(|_| Err(rejected(Reason::CorruptImage, format!("{}: the decoder panicked", header.format))));
    // Decoders that read everything first do not notice the deadline while they work.
    if begun.elapsed() > limits.timeout {
        let detail = format!("{}: decoding took longer than {} ms", header.format, limits.timeout.as_millis());
        return Err(rejected(Reason::DecodeTimeout, detail));
    }
    decoded
}

fn by_format(bytes: &[u8], header: &Header, limits: &Limits, begun: Instant) -> Result<Pixels, Rejection> {
    let corrupt = |detail: &str| rejected(Reason::CorruptImage, format!("{}: {detail}", header.format));
    let Some(format) = by_name(header.format) else { return Err(corrupt("unknown format")) };
    if format == ImageFormat::Gif {
        return gif_frame(bytes, header);
    }
    if format == ImageFormat::Jpeg && !jpeg::is_whole(bytes) {
        return Err(corrupt("the file is truncated: it ends before its end-of-image marker"));
    }
    let reader = Deadline { inner: Cursor::new(bytes), end: begun + limits.timeout };
    let mut decoder = ImageReader::with_format(reader, format).into_decoder().map_err(|e| of(format, &e))?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(header.decode_bytes as u64);
    decoder.set_limits(bounds).map_err(|e| of(format, &e))?;
    let orientation = if limits.exif { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms };
    let mut image = DynamicImage::ImageRgb8(rgb8(DynamicImage::from_decoder(decoder).map_err(|e| of(format, &e))?));
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    Ok(Pixels { rgb: image.into_bytes(), width, height })
}

/// As Pillow's `convert("RGB")`: alpha is dropped, of 16 bits the high eight count.
fn rgb8(image: DynamicImage) -> image::RgbImage {
    let high = |v: u16| (v >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(image) => image,
        DynamicImage::ImageLuma16(i) => map(i.width(), i.height(), i.as_raw(), 1, |p| [high(p[0]); 3]),
        DynamicImage::ImageLumaA16(i) => map(i.width(), i.height(), i.as_raw(), 2, |p| [high(p[0]); 3]),
        DynamicImage::ImageRgb16(i) => map(i.width(), i.height(), i.as_raw(), 3, |p| [high(p[0]), high(p[1]), high(p[2])]),
        DynamicImage::ImageRgba16(i) => map(i.width(), i.height(), i.as_raw(), 4, |p| [high(p[0]), high(p[1]), high(p[2])]),
        other => other.into_rgb8(),
    }
}

fn map<T>(width: u32, height: u32, raw: &[T], channels: usize, pixel: impl Fn(&[T]) -> [u8; 3]) -> image::RgbImage {
    let rgb = raw.chunks_exact(channels).flat_map(pixel).collect();
    image::RgbImage::from_raw(width, height, rgb).unwrap_or_default()
}

/// The first frame on its canvas. What the frame does not cover has the transparent colour, or else the first of the palette.
fn gif_frame(bytes: &[u8], header: &Header) -> Result<Pixels, Rejection> {
    let corrupt = |detail: String| rejected(Reason::CorruptImage, format!("gif: {detail}"));
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    if let Some(limit) = std::num::NonZeroU64::new(header.decode_bytes as u64) {
        options.set_memory_limit(gif::MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(bytes).map_err(|e| corrupt(e.to_string()))?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(|e| corrupt(e.to_string()))?;
    let frame = frame.ok_or_else(|| corrupt("the file has no frame".into()))?;
    let palette = frame.palette.as_ref().or(global.as_ref()).ok_or_else(|| corrupt("the file has no palette".into()))?;
    let colour = |index: u8| -> [u8; 3] {
        match palette.get(usize::from(index) * 3..usize::from(index) * 3 + 3) {
            Some(&[r, g, b]) => [r, g, b],
            _ => [0; 3],
        }
    };
    let (width, height) = (header.width as usize, header.height as usize);
    let mut rgb = colour(frame.transparent.unwrap_or(0)).repeat(width * height);
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let across = usize::from(frame.width);
    for (y, row) in frame.buffer.chunks_exact(across.max(1)).enumerate().take_while(|(y, _)| top + y < height) {
        for (x, index) in row.iter().enumerate().take_while(|(x, _)| left + x < width) {
            let at = 3 * ((top + y) * width + left + x);
            rgb[at..at + 3].copy_from_slice(&colour(*index));
        }
    }
    Ok(Pixels { rgb, width: header.width, height: header.height })
}

/// A reader that stops at a deadline, so that a decoder cannot work on for ever.
struct Deadline<'a> {
    inner: Cursor<&'a [u8]>,
    end: Instant,
}

impl Deadline<'_> {
    fn check(&self) -> std::io::Result<()> {
        if Instant::now() > self.end { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.check()?;
        self.inner.read(buffer)
    }
}

impl BufRead for Deadline<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.check()?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

impl Seek for Deadline<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}
