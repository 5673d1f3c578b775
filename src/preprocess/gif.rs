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

/// Reads up to the first frame's header; its pixels are not touched. Pillow enlarges the canvas where the frame sticks out of it, and so does
/// this.
pub(super) fn size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    // A frame's header is kilobytes; comments and the like are bounded by the body.
    let mut decoder = options(bytes.len() + (1 << 20)).read_info(Watched::new(bytes, watch)).map_err(Failure::decoding)?;
    let (width, height) = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(Failure::decoding)?.ok_or_else(|| Failure::corrupt("the GIF has no frame"))?;
    let (right, bottom) = (u32::from(frame.left) + u32::from(frame.width), u32::from(frame.top) + u32::from(frame.height));
    let (width, height) = (u32::from(width).max(right), u32::from(height).max(bottom));
    let indices = usize::from(frame.width) * usize::from(frame.height);
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
