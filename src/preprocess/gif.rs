//! GIF: the first frame on its canvas, as Pillow shows it.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size};

fn options(memory: usize) -> DecodeOptions {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(memory as u64).unwrap_or(NonZeroU64::MIN)));
    options
}

/// Reads up to the first frame's header (GIF89a, section 20), past comments and the like, which the decoder would keep. Pillow enlarges the canvas
/// where the frame sticks out of it, and so does this.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Failure> {
    let ends = || Failure::corrupt("the GIF ends before its first frame");
    let number = |at: usize| bytes.get(at..at + 2).map(|n| u32::from(u16::from_le_bytes([n[0], n[1]]))).ok_or_else(ends);
    let (width, height, flags) = (number(6)?, number(8)?, *bytes.get(10).ok_or_else(ends)?);
    let mut at = 13 + if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    loop {
        match bytes.get(at).ok_or_else(ends)? {
            0x2C => break,
            0x21 => {
                at += 2;
                while let length @ 1.. = *bytes.get(at).ok_or_else(ends)? {
                    at += 1 + usize::from(length);
                }
                at += 1;
            }
            0x3B => return Err(Failure::corrupt("the GIF has no frame")),
            other => return Err(Failure::corrupt(format!("the GIF has a block of the unknown kind {other}"))),
        }
    }
    let [left, top, frame_width, frame_height] = [1, 3, 5, 7].map(|field| number(at + field));
    let (frame_width, frame_height) = (frame_width?, frame_height?);
    let (width, height) = (width.max(left? + frame_width), height.max(top? + frame_height));
    let indices = frame_width as usize * frame_height as usize;
    Ok(Size { width, height, bytes: width as usize * height as usize * 3 + indices + 2 * bytes.len() + (128 << 10) })
}

/// Decodes to RGB. A transparent pixel has the colour that the palette gives it, and so has what the frame leaves uncovered: the transparent
/// colour's, or that of index 0.
pub(super) fn decode(bytes: &[u8], canvas: &Header, watch: &Watch) -> Result<Picture, Failure> {
    let mut decoder = options(canvas.decode_bytes).read_info(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    decoder.next_frame_info().map_err(Failure::decoding)?;
    let palette = decoder.palette().map(<[u8]>::to_vec).unwrap_or_default();
    let frame = decoder.current_frame_info().ok_or_else(|| Failure::corrupt("the GIF has no frame"))?;
    let (left, top, width) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    let uncovered = frame.transparent.unwrap_or(0);
    let mut indices = vec![0; width * usize::from(frame.height)];
    // The header may be another file's, if the caller mixed them up.
    if left + width > canvas.width as usize || top + indices.len() / width.max(1) > canvas.height as usize {
        return Err(Failure::corrupt("the headers contradict each other"));
    }
    decoder.read_into_buffer(&mut indices).map_err(Failure::decoding)?;

    // Where there is no palette entry Pillow has the grey of that number.
    let mut colours: [[u8; 3]; 256] = std::array::from_fn(|i| [i as u8; 3]);
    for (colour, entry) in colours.iter_mut().zip(palette.chunks_exact(3)) {
        colour.copy_from_slice(entry);
    }
    let stride = canvas.width as usize;
    let mut pixels = colours[usize::from(uncovered)].repeat(stride * canvas.height as usize);
    if width > 0 {
        for (y, row) in indices.chunks_exact(width).enumerate() {
            let start = ((top + y) * stride + left) * 3;
            for (out, &index) in pixels[start..start + width * 3].chunks_exact_mut(3).zip(row) {
                out.copy_from_slice(&colours[usize::from(index)]);
            }
        }
    }
    Ok(Picture { pixels, width: canvas.width, height: canvas.height, exif: None })
}
