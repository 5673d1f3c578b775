//! JPEG, through zune-jpeg.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::reader::{JpegBytes, Watch};
use super::{Failure, Header, Picture, Size};

/// Walks the segments up to the first scan. Nothing is allocated.
///
/// # Errors
/// Says what is wrong, or what is not supported (Pillow refuses most of it too: lossless, 12 bits, 2 components).
pub(super) fn size(bytes: &[u8]) -> Result<Size, Failure> {
    let mut segments = Segments { bytes, at: 2 };
    let mut found: Option<StartOfFrame> = None;
    loop {
        let (marker, body) = segments.next().ok_or_else(|| Failure::corrupt("the JPEG ends before its picture begins"))?;
        match marker {
            0xC0..=0xC2 if found.is_some() => return Err(Failure::corrupt("the JPEG has two frame headers")),
            0xC0..=0xC2 => found = Some(StartOfFrame::read(body, marker == 0xC2)?),
            0xC3 | 0xC5..=0xC7 => return Err(Failure::corrupt("lossless and hierarchical JPEG are not supported")),
            0xC9..=0xCB | 0xCD..=0xCF => return Err(Failure::corrupt("arithmetic-coded JPEG is not supported")),
            0xDA => {
                let frame = found.ok_or_else(|| Failure::corrupt("the JPEG has no frame header before its first scan"))?;
                let complete = body.first().copied().map(usize::from) == Some(frame.components);
                // Profiles and other metadata are copied, some of it twice.
                let metadata = 2 * segments.at;
                return Ok(Size { width: frame.width, height: frame.height, bytes: frame.bytes(complete) + metadata });
            }
            0xD9 => return Err(Failure::corrupt("the JPEG has no picture")),
            _ => {}
        }
    }
}

/// The frame header.
#[derive(Debug)]
struct StartOfFrame {
    width: u32,
    height: u32,
    components: usize,
    progressive: bool,
    /// Bytes of all coefficients.
    coefficients: usize,
    /// Bytes of one row of blocks of all components at full resolution.
    stripe: usize,
}

impl StartOfFrame {
    fn read(body: &[u8], progressive: bool) -> Result<Self, Failure> {
        let short = || Failure::corrupt("the JPEG's frame header is cut short");
        let head: &[u8; 6] = body.first_chunk().ok_or_else(short)?;
        let [precision, h1, h0, w1, w0, components] = *head;
        let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
        if precision != 8 {
            return Err(Failure::corrupt(format!("JPEG with {precision} bits a sample is not supported")));
        }
        if !matches!(components, 1 | 3 | 4) {
            return Err(Failure::corrupt(format!("JPEG with {components} components is not supported")));
        }
        if width == 0 || height == 0 {
            return Err(Failure::corrupt("the JPEG's width or height is 0"));
        }
        let table = body.get(6..6 + 3 * usize::from(components)).ok_or_else(short)?;
        let sampling = || table.chunks_exact(3).map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15)));
        if sampling().any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(Failure::corrupt("the JPEG's sampling factors are not between 1 and 4"));
        }
        let (h_max, v_max) = sampling().fold((1, 1), |(a, b), (h, v)| (a.max(h), b.max(v)));
        let (across, down) = ((width as usize).div_ceil(8 * h_max), (height as usize).div_ceil(8 * v_max));
        let blocks: usize = sampling().map(|(h, v)| h * v).sum();
        Ok(Self {
            width,
            height,
            components: components.into(),
            progressive,
            coefficients: across * down * blocks * 64 * size_of::<i16>(),
            stripe: across * 64 * h_max * v_max * usize::from(components) * size_of::<i16>(),
        })
    }

    /// Bytes that decoding takes: the picture, a few rows of samples, and all coefficients where the decoder must keep them: in progressive
    /// files, and where the first scan leaves components out.
    fn bytes(&self, complete_scan: bool) -> usize {
        let picture = self.width as usize * self.height as usize * 3;
        let kept = if self.progressive || !complete_scan { self.coefficients } else { 0 };
        picture + kept + 6 * self.stripe + (64 << 10)
    }
}

/// The segments of a JPEG: marker and body.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // What stands between segments is skipped, as libjpeg does.
            while *self.bytes.get(self.at)? != 0xFF {
                self.at += 1;
            }
            while *self.bytes.get(self.at)? == 0xFF {
                self.at += 1;
            }
            let marker = self.bytes[self.at];
            self.at += 1;
            match marker {
                0x00 | 0x01 | 0xD0..=0xD8 => {}
                0xD9 => return Some((marker, &[])),
                _ => {
                    let length = usize::from(u16::from_be_bytes([*self.bytes.get(self.at)?, *self.bytes.get(self.at + 1)?]));
                    let body = self.bytes.get(self.at + 2..self.at + length)?;
                    self.at += length;
                    return Some((marker, body));
                }
            }
        }
    }
}

/// Decodes to RGB. The EXIF block comes along.
///
/// Truncation is what Pillow makes of it: every byte up to the end-of-image marker must be there, what follows does not matter. Unlike
/// libjpeg, which goes on with a warning, entropy-coded data that cannot be decoded is an error: half a picture of noise is no picture.
pub(super) fn decode(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    let options = DecoderOptions::new_fast().set_strict_mode(false).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(JpegBytes::new(bytes, watch), options);
    let failed = |e: &dyn std::fmt::Display| {
        if watch.past_end() { Failure::corrupt(format!("the file is truncated: {e}")) } else { Failure::corrupt(e.to_string()) }
    };
    decoder.decode_headers().map_err(|e| failed(&e))?;
    if decoder.dimensions() != Some((expected.width as usize, expected.height as usize)) {
        return Err(Failure::corrupt("the JPEG's headers contradict each other"));
    }
    // From here on strictly; not before, since stray bytes between headers are common and harmless.
    decoder.set_options(decoder.options().set_strict_mode(true));
    let mut pixels = vec![0; expected.width as usize * expected.height as usize * 3];
    if decoder.output_buffer_size() != Some(pixels.len()) {
        return Err(Failure::corrupt("the JPEG's colour space is not supported"));
    }
    decoder.decode_into(&mut pixels).map_err(|e| failed(&e))?;
    if watch.past_end() {
        return Err(Failure::corrupt("the file is truncated: its end-of-image marker is missing"));
    }
    let exif = decoder.exif().cloned();
    Ok(Picture { pixels, width: expected.width, height: expected.height, exif })
}
