//! WebP, through the `image` crate's decoder.

mod lossless;
mod lossy;

use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, plain};

/// Reads the headers of chunks and pictures.
pub(super) fn size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    let declared = bytes.get(4..8).and_then(<[u8]>::first_chunk).map_or(0, |n| u32::from_le_bytes(*n) as usize);
    if declared.saturating_add(8) > bytes.len() {
        return Err(Failure::corrupt(format!("the file is truncated: {} bytes of {}", bytes.len(), declared.saturating_add(8))));
    }
    let decoder = WebPDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    let (width, height) = decoder.dimensions();
    let tables = tables(bytes.get(12..).unwrap_or_default(), (width, height), watch)?;
    // Animated: the frame, its planes, the canvas, the copy. With alpha: RGBA, planes, alpha and what alpha is decoded in. Else lossless, which
    // is decoded as RGBA and copied.
    let per_pixel = match (decoder.has_animation(), decoder.color_type().has_alpha()) {
        (true, _) => 4 + 4 + 4 + 2,
        (false, true) => 4 + 2 + 1 + 4,
        (false, false) => 4 + 3,
    };
    // Planes are made of whole blocks; lossy data is copied, into a buffer that doubles.
    let more = 4 * bytes.len() + (width as usize + height as usize) * 64;
    Ok(plain::size(width, height, per_pixel, more.saturating_add(tables)))
}

/// Decodes to RGB, the first frame of an animation.
pub(super) fn decode(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    plain::finish(WebPDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?, expected)
}

/// Chunks: name and body, as far as that is there.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let name = &rest[..4];
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((name, &after[..length.min(after.len())]))
    })
}

/// What the code tables of the picture take. Of each kind of chunk the decoder takes the first, and of an animation the first frame.
///
/// # Errors
/// Pictures whose own headers ask for more than the file's do, or than there is.
fn tables(bytes: &[u8], canvas: (u32, u32), watch: &Watch) -> Result<usize, Failure> {
    let first = |within, wanted: &[u8; 4]| chunks(within).find(|(name, _)| name == wanted).map(|(_, body)| body);
    let frame = first(bytes, b"ANMF").and_then(|frame| frame.split_first_chunk::<16>());
    let mut bytes_taken = 0;
    for (within, size) in [Some((bytes, canvas)), frame.map(|(head, inside)| (inside, frame_size(head)))].into_iter().flatten() {
        if size.0 > canvas.0 || size.1 > canvas.1 {
            return Err(Failure::corrupt("a frame of the WebP is larger than its canvas"));
        }
        if let Some(picture) = first(within, b"VP8 ") {
            lossy::check(picture, size)?;
        }
        if let Some(picture) = first(within, b"VP8L") {
            bytes_taken += lossless::tables(picture, None, watch)?;
        }
        if let Some([head, alpha @ ..]) = first(within, b"ALPH")
            && head & 3 == 1
        {
            bytes_taken += lossless::tables(alpha, Some(size), watch)?;
        }
    }
    Ok(bytes_taken)
}

/// Width and height of an animation's frame.
fn frame_size(head: &[u8; 16]) -> (u32, u32) {
    let side = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) + 1;
    (side(6), side(9))
}
