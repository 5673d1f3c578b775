//! From a file's bytes to the network's input: what kind of picture it is, its pixels as RGB, and the tensor that torchvision would make of them.
//!
//! # Whose pixels
//!
//! A picture is what `Image.open(f).convert("RGB")` of Pillow gives, which is what a network trained with torchvision has seen:
//!
//! - The format is found in the content, never in a name. Animations give their first frame.
//! - Alpha is dropped, not blended: a transparent pixel has the colour that the file gives it.
//! - CMYK becomes `(255 - ink) * (255 - black) / 255`, without a colour profile; in a JPEG the inks are taken as inverted, as Adobe writes them.
//!   A print shop would do better with the profile; Pillow's way is followed, since that is what networks were trained on.
//! - A GIF's frame stands on its canvas; the rest of it has the transparent colour, or colour 0.
//! - TIFF is turned as its orientation tag says, always; the other formats only if asked (`decode.exif`), as torchvision's users do not.
//! - 16-bit colour keeps its high byte. **16-bit grey does too, and here Pillow is not followed**: it clips at 255, by which nearly every 16-bit
//!   picture becomes white. 32-bit integers and floating point (TIFF) are clipped to 0..=255, as Pillow does it, for want of a scale.
//! - JPEG is the same to the bit. Two kinds of file that no camera writes are not: with coefficients beyond what 8-bit samples can give, and
//!   progressive ones that leave coefficients out for good, which libjpeg smooths.
//! - Lossy WebP differs by rounding, a few levels a pixel.
//!
//! A truncated file is an error, as with Pillow; so is a JPEG without its end marker. Stricter than Pillow: entropy-coded JPEG data that cannot be
//! decoded (Pillow goes on with noise), a PNG chunk whose checksum is wrong, and a PNG without the beginning of its end chunk. Not supported, though
//! Pillow reads them: arithmetic-coded JPEG, and JPEG compression inside TIFF.
//!
//! # Bounds
//!
//! [`probe`] reads headers only and allocates nothing that a header asks for. [`Header::decode_bytes`] is an upper bound of what [`decode`] and
//! [`Preprocessor::tensor`] take for this file, and the decoders are held to it where they can be.

pub mod bench;
mod gif;
mod jpeg;
mod pixels;
mod plain;
mod png;
mod reader;
mod resample;
mod tensor;
mod tiff;
mod webp;

use std::borrow::Cow;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use image::ImageFormat;
use image::metadata::Orientation;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::panic_text;
use crate::flow::{Reason, Rejection, Stage};
use crate::telemetry::escape;
use reader::Watch;
pub use tensor::{Pixels, Preprocessor, digest};

/// What an image may cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// Most pixels (width times height).
    pub max_pixels: u64,
    /// Longest time for one image.
    pub timeout: Duration,
    /// Turn the image as its EXIF orientation says.
    pub exif: bool,
    /// How pixels become the tensor; counts in [`Header::decode_bytes`].
    pub preprocess: config::Preprocess,
}

impl Limits {
    /// The limits that a pipeline and a model set.
    pub fn new(fetch: &config::Fetch, decode: &config::Decode, preprocess: &config::Preprocess) -> Self {
        Self { max_pixels: fetch.max_pixels.0, timeout: decode.timeout.0, exif: decode.exif, preprocess: preprocess.clone() }
    }
}

/// What a file's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `jpeg`, `png`, `webp`, `gif`, `bmp` or `tiff`.
    pub format: &'static str,
    /// Pixels across, before any turning.
    pub width: u32,
    /// Pixels down, before any turning.
    pub height: u32,
    /// Upper bound of the bytes that decoding and resizing take, beside the file itself.
    pub decode_bytes: usize,
}

/// A picture: RGB with 8 bits a channel, rows from the top, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Why a file is no picture. What the decoders' errors become.
#[derive(Debug)]
struct Failure(Cow<'static, str>);

impl Failure {
    fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }

    fn decoding(error: impl Display) -> Self {
        Self(error.to_string().into())
    }
}

/// What a format's headers say: size, and the bytes that its decoder takes, the picture included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
    bytes: usize,
}

/// What a format's decoder gives.
struct Picture {
    pixels: Vec<u8>,
    width: u32,
    height: u32,
    exif: Option<Vec<u8>>,
}

const FORMATS: [(ImageFormat, &str); 6] = [
    (ImageFormat::Jpeg, "jpeg"),
    (ImageFormat::Png, "png"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Gif, "gif"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::Tiff, "tiff"),
];

/// The name of a format as [`Header::format`] has it.
pub fn format_named(name: &str) -> Option<&'static str> {
    FORMATS.into_iter().map(|(_, known)| known).find(|known| *known == name)
}

/// The longest detail that a rejection carries, in characters.
const DETAIL: usize = 300;

fn reject(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Rejection {
    let detail = detail.into();
    let detail = if detail.chars().nth(DETAIL).is_some() { detail.chars().take(DETAIL).collect::<String>().into() } else { detail };
    Rejection::new(Stage::Decode, reason, detail)
}

fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str), Rejection> {
    if bytes.is_empty() {
        return Err(reject(Reason::Empty, "the file has no bytes"));
    }
    match image::guess_format(bytes) {
        Ok(found) => FORMATS.into_iter().find(|(format, _)| *format == found).ok_or_else(|| {
            let name = found.extensions_str().first().copied().unwrap_or("other");
            reject(Reason::UnsupportedFormat, format!("the file looks like {name}, which is not supported"))
        }),
        Err(_) => {
            let head = bytes[..bytes.len().min(8)].escape_ascii();
            Err(reject(Reason::UnsupportedFormat, format!("not an image of a known format: it begins with \"{head}\"")))
        }
    }
}

/// Contains panics of decoders and tells a timeout from a broken file.
fn contained<T>(format: &str, watch: &Watch, limits: &Limits, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Rejection> {
    let result = catch_unwind(AssertUnwindSafe(work));
    let failed = !matches!(result, Ok(Ok(_)));
    if failed && watch.expired() {
        return Err(reject(Reason::DecodeTimeout, format!("decoding the {format} took longer than {:?} (decode.timeout)", limits.timeout)));
    }
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure(detail))) => Err(reject(Reason::CorruptImage, format!("{format}: {detail}"))),
        Err(_) => Err(reject(Reason::CorruptImage, format!("{format}: the decoder gave up on the file (it panicked)"))),
    }
}

/// Finds the format in the content and reads the headers.
///
/// # Errors
/// `empty`, `unsupported_format`, `corrupt_image`, `too_many_pixels`; `decode_timeout` if even that took too long.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, Rejection> {
    let (kind, format) = format_of(bytes)?;
    let watch = Watch::until(Instant::now() + limits.timeout);
    let Size { width, height, bytes: needed } = contained(format, &watch, limits, || match kind {
        ImageFormat::Jpeg => jpeg::size(bytes),
        ImageFormat::Png => png::size(bytes),
        ImageFormat::WebP => webp::size(bytes, &watch),
        ImageFormat::Gif => gif::size(bytes),
        ImageFormat::Bmp => plain::bmp_size(bytes, &watch),
        _ => tiff::size(bytes),
    })?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(reject(Reason::CorruptImage, format!("{format}: the picture is {width} x {height} pixels")));
    }
    if pixels > limits.max_pixels {
        let detail = format!("{width} x {height} pixels are more than fetch.max_pixels allows ({})", limits.max_pixels);
        return Err(reject(Reason::TooManyPixels, detail));
    }
    let picture = usize::try_from(pixels.saturating_mul(3)).unwrap_or(usize::MAX);
    // Turning the picture makes a second one.
    let turning = if limits.exif || kind == ImageFormat::Tiff { picture.saturating_mul(2) } else { 0 };
    let resizing = picture.saturating_add(tensor::scratch_bytes(&limits.preprocess, width, height));
    Ok(Header { format, width, height, decode_bytes: needed.max(turning).max(resizing) })
}

/// Decodes a file that [`probe`] has looked at.
///
/// # Errors
/// `corrupt_image` (truncated files and panics of decoders too), `decode_timeout`; what [`probe`] says where `header` is not this file's.
pub fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, Rejection> {
    let (kind, format) = format_of(bytes)?;
    let watch = Watch::until(Instant::now() + limits.timeout);
    let (picture, orientation) = contained(format, &watch, limits, || {
        let picture = match kind {
            ImageFormat::Jpeg => jpeg::decode(bytes, header, &watch)?,
            ImageFormat::Png => png::decode(bytes, header, &watch)?,
            ImageFormat::WebP => webp::decode(bytes, header, &watch)?,
            ImageFormat::Gif => gif::decode(bytes, header, &watch)?,
            ImageFormat::Bmp => plain::bmp(bytes, header, &watch)?,
            _ => {
                let (picture, orientation) = tiff::decode(bytes, header, &watch)?;
                return Ok((picture, orientation.and_then(Orientation::from_exif)));
            }
        };
        let orientation = picture.exif.as_deref().filter(|_| limits.exif).and_then(Orientation::from_exif_chunk);
        Ok((picture, orientation))
    })?;
    if watch.expired() {
        return Err(reject(Reason::DecodeTimeout, format!("decoding the {format} took longer than {:?} (decode.timeout)", limits.timeout)));
    }
    turned(picture, orientation.unwrap_or(Orientation::NoTransforms))
        .ok_or_else(|| reject(Reason::CorruptImage, format!("{format}: the decoder gave a picture of another size than its header says")))
}

/// [`Preprocessor::pixels`], whose panic is a rejection.
///
/// # Errors
/// `corrupt_image`.
pub fn crop(preprocessor: &mut Preprocessor, limits: &Limits, picture: &Decoded) -> Result<Pixels, Rejection> {
    catch_unwind(AssertUnwindSafe(|| preprocessor.pixels(picture))).map_err(|panic| {
        // It may have left it half changed.
        *preprocessor = Preprocessor::new(limits.preprocess.clone());
        let detail = format!("resizing panicked: {}", panic_text(&*panic));
        tracing::error!("{}; this is a bug, please report it with the image", escape(&detail));
        reject(Reason::CorruptImage, detail)
    })
}

/// Turns the picture. `None` if its pixels are not as many as they should be.
fn turned(picture: Picture, orientation: Orientation) -> Option<Decoded> {
    let Picture { pixels, width, height, .. } = picture;
    let rgb = image::RgbImage::from_raw(width, height, pixels).filter(|i| i.as_raw().len() == width as usize * height as usize * 3)?;
    let mut image = image::DynamicImage::ImageRgb8(rgb);
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    Some(Decoded { rgb: image.into_rgb8().into_raw(), width, height })
}

#[cfg(test)]
mod tests;
