//! PNG, WebP and BMP, through the `image` crate's decoders.

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, Limits};

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, pixels};

/// What decoders and conversion need beside the pictures: tables, windows, rows.
const TABLES: usize = 256 << 10;

fn size(width: u32, height: u32, bytes_per_pixel: usize, more: usize) -> Size {
    let pixels = (width as usize).saturating_mul(height as usize);
    Size { width, height, bytes: pixels.saturating_mul(bytes_per_pixel).saturating_add(more).saturating_add(TABLES) }
}

/// Reads a PNG's first chunk.
pub(super) fn png_size(bytes: &[u8]) -> Result<Size, Failure> {
    let header: &[u8; 18] =
        bytes.get(12..30).and_then(<[u8]>::first_chunk).ok_or_else(|| Failure::corrupt("the PNG ends in its header"))?;
    if &header[..4] != b"IHDR" {
        return Err(Failure::corrupt("the PNG does not begin with its header chunk"));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (width, height, depth, colour) = (number(4), number(8), header[12], header[13]);
    if width == 0 || height == 0 {
        return Err(Failure::corrupt("the PNG's width or height is 0"));
    }
    // What the decoder gives for a pixel, plus the RGB picture where that is wider than it; a palette or grey picture may turn out to have alpha.
    let per_pixel = match (colour, depth > 8) {
        (0, false) => 2 + 3,
        (0, true) => 4 + 3,
        (2 | 3, false) => 4,
        (4, false) => 2 + 3,
        (4, true) => 4 + 3,
        (6, false) => 4,
        (2 | 6, true) => 8,
        _ => return Err(Failure::corrupt(format!("the PNG's colour type is {colour} with {depth} bits, which does not exist"))),
    };
    // A row before and after unfiltering; chunks beside the picture (profiles, text) are kept and at most inflated to the crate's own bound.
    let row = (width as usize).saturating_mul(16);
    Ok(size(width, height, per_pixel, row.saturating_add(2 * bytes.len())))
}

/// Reads a WebP's chunk headers.
pub(super) fn webp_size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    let declared = bytes.get(4..8).and_then(<[u8]>::first_chunk).map_or(0, |n| u32::from_le_bytes(*n) as usize);
    if declared.saturating_add(8) > bytes.len() {
        return Err(Failure::corrupt(format!("the file is truncated: {} bytes of {}", bytes.len(), declared.saturating_add(8))));
    }
    let decoder = WebPDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    let (width, height) = decoder.dimensions();
    // The decoder allocates what a lossy frame's own header says before it compares that with the canvas.
    let canvas = u64::from(width) * u64::from(height);
    if largest_vp8(bytes.get(12..).unwrap_or_default()) > canvas {
        return Err(Failure::corrupt("a frame of the WebP is larger than its canvas"));
    }
    // Animated: the frame, its planes, the canvas, the copy. With alpha: RGBA, planes, alpha and what alpha is decoded in. Else lossless, which
    // is decoded as RGBA and copied.
    let per_pixel = match (decoder.has_animation(), decoder.color_type().has_alpha()) {
        (true, _) => 4 + 4 + 4 + 2,
        (false, true) => 4 + 2 + 1 + 4,
        (false, false) => 4 + 3,
    };
    // Planes are made of whole blocks; compressed parts are copied; the code tables of lossless grow with the body.
    Ok(size(width, height, per_pixel, 2 * bytes.len() + (width as usize + height as usize) * 64 + (8 << 20).min(16 * bytes.len())))
}

/// Pixels of the largest lossy frame among the chunks, those inside animation frames included.
fn largest_vp8(chunks: &[u8]) -> u64 {
    let mut rest = chunks;
    let mut largest = 0;
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let inside = &body[..length.min(body.len())];
        match &header[..4] {
            b"VP8 " => {
                if let Some(&[w0, w1, h0, h1]) = inside.get(6..10) {
                    let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3FFF);
                    largest = largest.max(side(w0, w1) * side(h0, h1));
                }
            }
            b"ANMF" => largest = largest.max(largest_vp8(inside.get(16..).unwrap_or_default())),
            _ => {}
        }
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    largest
}

/// Reads a BMP's headers.
pub(super) fn bmp_size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    let decoder = BmpDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    let (width, height) = decoder.dimensions();
    let per_pixel = usize::from(decoder.color_type().bytes_per_pixel()).max(3);
    Ok(size(width, height, per_pixel, width as usize * 8))
}

/// Decodes a PNG to RGB.
pub(super) fn png(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    let limits = limits(expected);
    finish(PngDecoder::with_limits(Watched::new(bytes, watch), limits).map_err(Failure::decoding)?, expected)
}

/// Decodes a WebP, the first frame of an animated one, to RGB.
pub(super) fn webp(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    finish(WebPDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?, expected)
}

/// Decodes a BMP to RGB.
pub(super) fn bmp(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    finish(BmpDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?, expected)
}

fn limits(expected: &Header) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(expected.width);
    limits.max_image_height = Some(expected.height);
    limits.max_alloc = Some(expected.decode_bytes as u64);
    limits
}

fn finish(mut decoder: impl ImageDecoder, expected: &Header) -> Result<Picture, Failure> {
    let (width, height) = decoder.dimensions();
    if (width, height) != (expected.width, expected.height) {
        return Err(Failure::corrupt("the headers contradict each other"));
    }
    decoder.set_limits(limits(expected)).map_err(Failure::decoding)?;
    let colour = decoder.color_type();
    let length = usize::try_from(decoder.total_bytes()).ok().filter(|&n| n <= expected.decode_bytes);
    let length = length.ok_or_else(|| Failure::corrupt("the picture is larger than its header says"))?;
    let exif = decoder.exif_metadata().ok().flatten();
    let mut samples = vec![0; length];
    decoder.read_image(&mut samples).map_err(Failure::decoding)?;
    let samples = match colour {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => pixels::high_bytes(samples),
        _ => samples,
    };
    Ok(Picture { pixels: pixels::rgb(samples, colour.channel_count().into()), width, height, exif })
}
