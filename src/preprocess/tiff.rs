//! TIFF, through the `tiff` crate, with palettes, which that crate does not know.

mod header;

use std::borrow::Cow;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::reader::{Watch, Watched};
use super::{Failure, Header, Picture, Size, pixels};
use header::Directory;

/// A decoder at the first page, and the palette where there is one.
struct Opened<'a> {
    decoder: Decoder<Watched<'a>>,
    colours: Option<Vec<u16>>,
    colour: ColorType,
}

/// Makes a palette picture a grey one (of indices), which the decoder can read.
fn without_palette<'a>(bytes: &'a [u8], directory: &Directory) -> Cow<'a, [u8]> {
    match directory.palette() {
        Some(at) => {
            let mut copy = bytes.to_vec();
            let one = if bytes[0] == b'I' { [1, 0] } else { [0, 1] };
            copy[at..at + 2].copy_from_slice(&one);
            Cow::Owned(copy)
        }
        None => Cow::Borrowed(bytes),
    }
}

fn open<'a>(bytes: &'a [u8], limit: usize, watch: &'a Watch) -> Result<Opened<'a>, Failure> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    let mut decoder = Decoder::new(Watched::new(bytes, watch)).map_err(Failure::decoding)?.with_limits(limits);
    let colour = decoder.colortype().map_err(Failure::decoding)?;
    Ok(Opened { decoder, colours: None, colour })
}

/// Reads the first directory.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Failure> {
    Directory::read(bytes)?.size()
}

/// Decodes the first page to RGB; the second value is its orientation tag, which Pillow obeys.
pub(super) fn decode(bytes: &[u8], page: &Header, watch: &Watch) -> Result<(Picture, Option<u8>), Failure> {
    let patched = without_palette(bytes, &Directory::read(bytes)?);
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
