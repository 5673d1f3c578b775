//! What decoders of the `image` crate have in common; and BMP, which needs no more.

use image::codecs::bmp::BmpDecoder;
use image::{ImageDecoder, Limits};

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, pixels};

/// What decoders and conversion need beside the pictures: tables, windows, rows.
pub(super) const TABLES: usize = 256 << 10;

/// A picture's size, and the bytes that it takes.
pub(super) fn size(width: u32, height: u32, bytes_per_pixel: usize, more: usize) -> Size {
    let pixels = (width as usize).saturating_mul(height as usize);
    Size { width, height, bytes: pixels.saturating_mul(bytes_per_pixel).saturating_add(more).saturating_add(TABLES) }
}

/// Reads a BMP's headers.
pub(super) fn bmp_size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    let decoder = BmpDecoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    let (width, height) = decoder.dimensions();
    let per_pixel = usize::from(decoder.color_type().bytes_per_pixel()).max(3);
    Ok(size(width, height, per_pixel, width as usize * 8))
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

/// Decodes to RGB.
pub(super) fn finish(mut decoder: impl ImageDecoder, expected: &Header) -> Result<Picture, Failure> {
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
    Ok(Picture { pixels: pixels::rgb(samples, colour.channel_count().into()), width, height, exif })
}
