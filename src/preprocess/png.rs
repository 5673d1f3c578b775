//! PNG, through the `png` crate.

use png::{Decoder, Limits, Transformations};

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, pixels, plain};

/// What the decoder may take beside the picture: rows before and after unfiltering, and the EXIF block, which it reads into a buffer that doubles and
/// copies. It is told to pass over text and profiles.
fn beside(bytes: &[u8], width: u32) -> usize {
    let row = (width as usize).saturating_mul(16);
    row.saturating_add(4 * largest_exif(bytes)).saturating_add(plain::TABLES)
}

/// Bytes of the largest EXIF chunk, or of the body where a chunk's length leads out of it.
fn largest_exif(bytes: &[u8]) -> usize {
    let mut rest = bytes.get(8..).unwrap_or_default();
    let mut largest = 0;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..] == b"eXIf" {
            largest = largest.max(length.min(bytes.len()));
        }
        rest = after.get(length.saturating_add(4)..).unwrap_or_default();
    }
    largest
}

/// Reads the header chunk.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Failure> {
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
    Ok(plain::size(width, height, per_pixel, beside(bytes, width)))
}

/// Decodes to RGB.
pub(super) fn decode(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    let limits = Limits { bytes: beside(bytes, expected.width) };
    let mut decoder = Decoder::new_with_limits(Watched::new(bytes, watch), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    if decoder.read_header_info().map_err(Failure::decoding)?.size() != (expected.width, expected.height) {
        return Err(Failure::corrupt("the headers contradict each other"));
    }
    let mut reader = decoder.read_info().map_err(Failure::decoding)?;
    let length = reader.output_buffer_size().filter(|&n| n <= expected.decode_bytes);
    let mut samples = vec![0; length.ok_or_else(|| Failure::corrupt("the picture is larger than its header says"))?];
    reader.next_frame(&mut samples).map_err(Failure::decoding)?;
    let (colour, depth) = reader.output_color_type();
    let samples = if depth == png::BitDepth::Sixteen { pixels::high_bytes(samples) } else { samples };
    let exif = reader.info().exif_metadata.as_ref().map(|exif| exif.to_vec());
    Ok(Picture { pixels: pixels::rgb(samples, colour.samples()), width: expected.width, height: expected.height, exif })
}
