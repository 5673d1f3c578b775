//! From what decoders give to RGB with 8 bits a channel, as Pillow's `convert("RGB")`.

/// Drops all but the first three of `channels` interleaved samples, in place.
pub(super) fn keep_three(mut pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    debug_assert!(channels >= 3);
    let count = pixels.len() / channels;
    if channels > 3 {
        for i in 0..count {
            pixels.copy_within(i * channels..i * channels + 3, i * 3);
        }
    }
    pixels.truncate(count * 3);
    pixels.shrink_to_fit();
    pixels
}

/// Repeats the first of `channels` interleaved samples three times.
pub(super) fn spread_grey(pixels: &[u8], channels: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(pixels.len() / channels * 3);
    for p in pixels.chunks_exact(channels) {
        rgb.extend_from_slice(&[p[0]; 3]);
    }
    rgb
}

/// `channels` interleaved samples of 8 bits to RGB: grey (1), grey with alpha (2), RGB (3), RGB with more (4 and up).
pub(super) fn rgb(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    if channels < 3 { spread_grey(&pixels, channels) } else { keep_three(pixels, channels) }
}

/// Keeps the high byte of 16-bit samples, which stands first, in place.
pub(super) fn high_bytes(mut samples: Vec<u8>) -> Vec<u8> {
    let count = samples.len() / 2;
    for i in 0..count {
        samples[i] = samples[2 * i];
    }
    samples.truncate(count);
    samples.shrink_to_fit();
    samples
}

/// Pillow's product of two values of which 255 is one.
pub(super) fn product(a: u8, b: u8) -> u8 {
    let t = u32::from(a) * u32::from(b) + 128;
    (((t >> 8) + t) >> 8) as u8
}

/// CMYK, 255 being full ink, to RGB as Pillow does it: `(255 - ink) * (255 - black)`. No colour profile is applied.
pub(super) fn cmyk(pixels: &[u8], samples: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(pixels.len() / samples * 3);
    for p in pixels.chunks_exact(samples) {
        rgb.extend_from_slice(&[product(255 - p[0], 255 - p[3]), product(255 - p[1], 255 - p[3]), product(255 - p[2], 255 - p[3])]);
    }
    rgb
}

/// YCbCr of JFIF to RGB, in place.
pub(super) fn ycbcr(mut pixels: Vec<u8>) -> Vec<u8> {
    for p in pixels.chunks_exact_mut(3) {
        let (y, cb, cr) = (f32::from(p[0]), f32::from(p[1]) - 128.0, f32::from(p[2]) - 128.0);
        for (out, v) in p.iter_mut().zip([y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]) {
            *out = v.round().clamp(0.0, 255.0) as u8;
        }
    }
    pixels
}
