//! TIFF, through the `tiff` crate, with palettes, which that crate does not know.

use std::borrow::Cow;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{CompressionMethod, Tag};

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, pixels};

/// A decoder at the first page, and the palette where there is one.
struct Opened<'a> {
    decoder: Decoder<Watched<'a>>,
    colours: Option<Vec<u16>>,
    colour: ColorType,
}

/// Makes a palette picture a grey one (of indices), which the decoder can read.
fn without_palette(bytes: &[u8]) -> Cow<'_, [u8]> {
    match palette_tag(bytes) {
        Some(at) => {
            let mut copy = bytes.to_vec();
            let one = if bytes[0] == b'I' { [1, 0] } else { [0, 1] };
            copy[at..at + 2].copy_from_slice(&one);
            Cow::Owned(copy)
        }
        None => Cow::Borrowed(bytes),
    }
}

/// Reads numbers in the file's byte order.
struct Numbers<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Numbers<'_> {
    /// `length` bytes (at most 8) as a number.
    fn at(&self, at: u64, length: usize) -> Option<u64> {
        let start = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(length)?)?;
        let push = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if self.little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) })
    }
}

/// An entry of a directory: where it stands, its tag, type and count.
type Entry = (u64, u64, u64, u64);

/// The entries of the first directory, and whether the file is a BigTIFF.
fn entries(bytes: &[u8]) -> Option<(Vec<Entry>, bool)> {
    let numbers = Numbers { bytes, little: bytes.starts_with(b"II") };
    let big = numbers.at(2, 2)? == 43;
    let directory = if big { numbers.at(8, 8)? } else { numbers.at(4, 4)? };
    let (counter, entry, wide) = if big { (8, 20, 8) } else { (2, 12, 4) };
    let count = numbers.at(directory, counter)?.min(u64::from(u16::MAX));
    let mut list = Vec::new();
    for i in 0..count {
        let at = directory.checked_add(counter as u64)?.checked_add(entry * i)?;
        list.push((at, numbers.at(at, 2)?, numbers.at(at.checked_add(2)?, 2)?, numbers.at(at.checked_add(4)?, wide)?));
    }
    Some((list, big))
}

/// Refuses a directory whose values could not be in the file: the decoder would make room for them first.
fn check_directory(bytes: &[u8]) -> Result<(), Failure> {
    let (entries, _) = entries(bytes).ok_or_else(|| Failure::corrupt("the TIFF ends before its first directory does"))?;
    match entries.iter().find(|e| e.3 > bytes.len() as u64) {
        Some((_, tag, _, count)) => Err(Failure::corrupt(format!("the TIFF's tag {tag} says that it has {count} values"))),
        None => Ok(()),
    }
}

/// Where the first directory says that the picture has a palette (classic TIFF only).
fn palette_tag(bytes: &[u8]) -> Option<usize> {
    let numbers = Numbers { bytes, little: bytes.starts_with(b"II") };
    let (entries, big) = entries(bytes)?;
    let (at, ..) = entries.into_iter().find(|e| !big && (e.1, e.2) == (262, 3))?;
    (numbers.at(at + 8, 2)? == 3).then_some(usize::try_from(at).ok()? + 8)
}

fn open<'a>(bytes: &'a [u8], limit: usize, watch: &'a Watch) -> Result<Opened<'a>, Failure> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    let mut decoder = Decoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?.with_limits(limits);
    let colour = decoder.colortype().map_err(Failure::decoding)?;
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(Failure::decoding)?;
    let compression = compression.and_then(CompressionMethod::from_u16);
    // The pictures inside would be decoded with no bound on their size.
    if matches!(compression, Some(CompressionMethod::JPEG | CompressionMethod::ModernJPEG)) {
        return Err(Failure::corrupt("TIFF with JPEG compression is not supported"));
    }
    Ok(Opened { decoder, colours: None, colour })
}

/// Reads the first directory.
pub(super) fn size(bytes: &[u8], watch: &Watch) -> Result<Size, Failure> {
    check_directory(bytes)?;
    let patched = without_palette(bytes);
    let mut opened = open(&patched, usize::MAX, watch)?;
    let decoder = &mut opened.decoder;
    let (width, height) = decoder.dimensions().map_err(Failure::decoding)?;
    if width == 0 || height == 0 {
        return Err(Failure::corrupt("the TIFF's width or height is 0"));
    }
    let samples = match opened.colour {
        ColorType::Multiband { num_samples, .. } => usize::from(num_samples),
        other => usize::from(other.num_samples()),
    };
    let stored =
        decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(Failure::decoding)?.map_or(samples, usize::from).max(samples);
    if stored > 16 {
        return Err(Failure::corrupt(format!("TIFF with {stored} samples a pixel is not supported")));
    }
    let per_pixel = stored * usize::from(opened.colour.bit_depth()).div_ceil(8);
    let (chunk_width, _) = decoder.chunk_dimensions();
    let pixels = (width as usize).saturating_mul(height as usize);
    // The samples, the RGB picture where it is not made in their place, rows of a chunk, and the copy that is read for a palette.
    let picture = if per_pixel == 3 { 0 } else { 3 };
    let rows = (chunk_width as usize).max(width as usize).saturating_mul(per_pixel).saturating_mul(4);
    let copy = if matches!(patched, Cow::Owned(_)) { bytes.len() } else { 0 };
    let bytes = pixels.saturating_mul(per_pixel + picture).saturating_add(rows).saturating_add(copy).saturating_add(4 << 20);
    Ok(Size { width, height, bytes })
}

/// Decodes the first page to RGB; the second value is its orientation tag, which Pillow obeys.
pub(super) fn decode(bytes: &[u8], page: &Header, watch: &Watch) -> Result<(Picture, Option<u8>), Failure> {
    let patched = without_palette(bytes);
    let mut opened = open(&patched, page.decode_bytes, watch)?;
    let decoder = &mut opened.decoder;
    if decoder.dimensions().map_err(Failure::decoding)? != (page.width, page.height) {
        return Err(Failure::corrupt("the headers contradict each other"));
    }
    if matches!(patched, Cow::Owned(_)) {
        opened.colours = Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(Failure::decoding)?);
    }
    let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(Failure::decoding)?;
    if samples.as_buffer(0).byte_len() < layout.complete_len {
        return Err(Failure::corrupt("the TIFF's planes do not fit its header"));
    }
    let bits = usize::from(opened.colour.bit_depth());
    let count = page.width as usize * page.height as usize;
    let bytes = to_bytes(samples, bits, page.width as usize);
    let bytes = if layout.planes > 1 { interleave(&bytes, layout.planes) } else { bytes };
    let channels = bytes.len() / count;
    if channels == 0 || bytes.len() != count * channels {
        return Err(Failure::corrupt("the TIFF has not as many samples as its header says"));
    }
    let pixels = match (opened.colour, opened.colours) {
        (_, Some(colours)) => apply_palette(&bytes, channels, &colours, bits)?,
        (ColorType::CMYK(_) | ColorType::CMYKA(_), _) if channels >= 4 => pixels::cmyk(&bytes, channels),
        (ColorType::YCbCr(_), _) if channels >= 3 => pixels::ycbcr(pixels::keep_three(bytes, channels)),
        (ColorType::Gray(1 | 2 | 4), _) => pixels::spread_grey(&scale(bytes, bits), channels),
        (ColorType::Gray(_) | ColorType::GrayA(_) | ColorType::Multiband { .. }, _) => pixels::spread_grey(&bytes, channels),
        (ColorType::RGB(_) | ColorType::RGBA(_), _) if channels >= 3 => pixels::keep_three(bytes, channels),
        (other, _) => return Err(Failure::corrupt(format!("TIFF with the colours {other:?} is not supported"))),
    };
    Ok((Picture { pixels, width: page.width, height: page.height, exif: None }, orientation))
}

/// One byte a sample. 16 bits: the high byte. Other integers and floating point are clipped to 0..=255, as Pillow does it.
fn to_bytes(samples: DecodingResult, bits: usize, width: usize) -> Vec<u8> {
    fn clip<T>(values: Vec<T>, f: impl Fn(T) -> f64) -> Vec<u8> {
        values.into_iter().map(|v| f(v).clamp(0.0, 255.0) as u8).collect()
    }
    match samples {
        DecodingResult::U8(v) if bits < 8 => unpack(&v, bits, width),
        DecodingResult::U8(v) => v,
        DecodingResult::U16(v) => v.into_iter().map(|v| (v >> 8) as u8).collect(),
        DecodingResult::U32(v) => clip(v, f64::from),
        DecodingResult::U64(v) => clip(v, |v| v as f64),
        DecodingResult::F16(v) => clip(v, |v| f64::from(v.to_f32())),
        DecodingResult::F32(v) => clip(v, f64::from),
        DecodingResult::F64(v) => clip(v, |v| v),
        DecodingResult::I8(v) => clip(v, f64::from),
        DecodingResult::I16(v) => clip(v, f64::from),
        DecodingResult::I32(v) => clip(v, f64::from),
        DecodingResult::I64(v) => clip(v, |v| v as f64),
    }
}

/// Samples of 1, 2 or 4 bits, rows of which begin at a byte.
fn unpack(packed: &[u8], bits: usize, width: usize) -> Vec<u8> {
    let row = (width * bits).div_ceil(8).max(1);
    let mask = ((1_u16 << bits) - 1) as u8;
    let sample = |row: &[u8], x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
    packed.chunks_exact(row).flat_map(|r| (0..width).map(move |x| sample(r, x))).collect()
}

/// Stretches samples of fewer than 8 bits over 0..=255.
fn scale(mut samples: Vec<u8>, bits: usize) -> Vec<u8> {
    let factor = (255 / ((1_u16 << bits) - 1)) as u8;
    samples.iter_mut().for_each(|s| *s = s.wrapping_mul(factor));
    samples
}

fn interleave(planes: &[u8], count: usize) -> Vec<u8> {
    let length = planes.len() / count;
    (0..length).flat_map(|i| (0..count).map(move |p| planes[p * length + i])).collect()
}

/// A palette is all reds, all greens, all blues, of 16 bits.
fn apply_palette(indices: &[u8], channels: usize, colours: &[u16], bits: usize) -> Result<Vec<u8>, Failure> {
    let entries = 1 << bits.min(8);
    if colours.len() < 3 * entries {
        return Err(Failure::corrupt("the TIFF's palette is too short"));
    }
    let mut rgb = Vec::with_capacity(indices.len() / channels * 3);
    for index in indices.chunks_exact(channels) {
        let i = usize::from(index[0]) & (entries - 1);
        rgb.extend([0, 1, 2].map(|c| (colours[c * entries + i] >> 8) as u8));
    }
    Ok(rgb)
}
