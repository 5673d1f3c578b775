//! What a file is, by its content, and what decoding it will cost, before anything is allocated for its pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{ImageDecoder, ImageFormat, ImageReader};

use super::{Limits, jpeg, rejected};
use crate::flow::{Reason, Rejection};

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `jpeg`, `png`, `webp`, `gif`, `bmp` or `tiff`.
    pub format: &'static str,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Upper estimate of the memory, in bytes, that decoding to 8-bit RGB takes beside the file itself.
    pub decode_bytes: usize,
}

/// Formats that are decoded, with their names in records.
const FORMATS: &[(ImageFormat, &str)] = &[
    (ImageFormat::Jpeg, "jpeg"),
    (ImageFormat::Png, "png"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Gif, "gif"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::Tiff, "tiff"),
];

/// Reads the header. Never looks at a name, never allocates by what the header claims.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, Rejection> {
    if bytes.is_empty() {
        return Err(rejected(Reason::Empty, "the file has no bytes"));
    }
    let format = image::guess_format(bytes).ok();
    let Some((format, name)) = format.and_then(|f| FORMATS.iter().find(|(known, _)| *known == f).copied()) else {
        return Err(rejected(Reason::UnsupportedFormat, "not a JPEG, PNG, WebP, GIF, BMP or TIFF file by its first bytes"));
    };
    let (width, height, bytes_per_pixel) = catch_unwind(AssertUnwindSafe(|| dimensions(bytes, format)))
        .unwrap_or_else(|_| Err(rejected(Reason::CorruptImage, format!("{name}: the decoder panicked on the header"))))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(rejected(Reason::CorruptImage, format!("{name}: {width} x {height} pixels")));
    }
    if pixels > limits.max_pixels {
        let detail = format!("{name}: {width} x {height} pixels, more than max_pixels {}", limits.max_pixels);
        return Err(rejected(Reason::TooManyPixels, detail));
    }
    let working = match format {
        // Coefficients of the whole picture, two bytes each; a copy of the file in any case.
        ImageFormat::Jpeg => bytes.len() as u64 + if jpeg::is_progressive(bytes) { 6 * pixels } else { 0 },
        // YUV planes, or the canvas of an animation.
        ImageFormat::WebP => 8 * pixels,
        // A strip or tile may be as large as the picture; interlacing needs a second copy.
        ImageFormat::Tiff | ImageFormat::Png => bytes_per_pixel * pixels,
        _ => 0,
    };
    // The decoder's own form, the RGB made of it, and what turning it by EXIF takes.
    let all = working + bytes_per_pixel * pixels + 3 * pixels + if limits.exif { 3 * pixels } else { 0 } + 65_536;
    Ok(Header { format: name, width, height, decode_bytes: usize::try_from(all).unwrap_or(usize::MAX) })
}

/// Width, height, and bytes a pixel of the decoder's own form.
fn dimensions(bytes: &[u8], format: ImageFormat) -> Result<(u32, u32, u64), Rejection> {
    if format == ImageFormat::Gif {
        let decoder = gif::DecodeOptions::new().read_info(bytes).map_err(|e| rejected(Reason::CorruptImage, format!("gif: {e}")))?;
        return Ok((u32::from(decoder.width()), u32::from(decoder.height()), 2));
    }
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(|e| of(format, &e))?;
    let (width, height) = decoder.dimensions();
    Ok((width, height, u64::from(decoder.color_type().bytes_per_pixel())))
}

/// The rejection that a decoder's error means.
pub(super) fn of(format: ImageFormat, error: &image::ImageError) -> Rejection {
    let name = FORMATS.iter().find(|(known, _)| *known == format).map_or("image", |(_, name)| name);
    let reason = match error {
        image::ImageError::Unsupported(_) => Reason::UnsupportedFormat,
        image::ImageError::Limits(_) => Reason::TooManyPixels,
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::TimedOut => Reason::DecodeTimeout,
        _ => Reason::CorruptImage,
    };
    let text: String = error.to_string().chars().take(300).collect();
    rejected(reason, format!("{name}: {text}"))
}

/// The format behind a record's name for it.
pub(super) fn by_name(name: &str) -> Option<ImageFormat> {
    FORMATS.iter().find(|(_, known)| *known == name).map(|(format, _)| *format)
}
