//! JPEG: sequential and progressive, Huffman-coded, 8 bits a sample.
//!
//! Pixels are those of libjpeg-turbo with its default settings, and so Pillow's, to the bit: networks were trained on them, and a decoder that
//! rounds elsewhere moves what is near a tie. The libraries in safe Rust round otherwise in all three places ([`idct`], [`upsample`],
//! [`colour`]); hence this one.

mod bits;
mod colour;
mod decoder;
mod header;
mod huffman;
mod idct;
mod rows;
mod scan;
mod standard;
#[cfg(test)]
mod tests;
mod upsample;

pub(super) use decoder::decode;

use super::{Failure, Size};
use header::{Frame, Segments};

/// Walks the segments up to the first scan. Nothing is allocated.
///
/// # Errors
/// Says what is wrong, or what is not supported.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Failure> {
    let mut segments = Segments::new(bytes);
    let mut found: Option<Frame> = None;
    loop {
        let (marker, body) = segments.next().ok_or_else(|| Failure::corrupt("the JPEG ends before its picture begins"))?;
        match marker {
            0xDA => {
                let frame = found.ok_or_else(|| Failure::corrupt("the JPEG has no frame header before its first scan"))?;
                let in_scan = body.first().copied().map_or(0, usize::from);
                return Ok(Size { width: frame.width, height: frame.height, bytes: frame.bytes(in_scan, bytes.len()) });
            }
            0xD9 => return Err(Failure::corrupt("the JPEG has no picture")),
            _ => frame_header(marker, body, &mut found)?,
        }
    }
}

/// Reads the segment if it is a frame header.
fn frame_header(marker: u8, body: &[u8], found: &mut Option<Frame>) -> Result<(), Failure> {
    match marker {
        0xC0..=0xC2 if found.is_some() => Err(Failure::corrupt("the JPEG has two frame headers")),
        0xC0..=0xC2 => {
            *found = Some(Frame::read(body, marker == 0xC2)?);
            Ok(())
        }
        0xC3 | 0xC5..=0xC7 => Err(Failure::corrupt("lossless and hierarchical JPEG are not supported")),
        0xC9..=0xCB | 0xCD..=0xCF => Err(Failure::corrupt("arithmetic-coded JPEG is not supported")),
        _ => Ok(()),
    }
}
