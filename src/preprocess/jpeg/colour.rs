//! From a row of samples to RGB, to the bit as libjpeg and Pillow.

use crate::preprocess::pixels::product;

/// What three of the components mean. A fourth is black, inverted, as Adobe writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// JFIF's YCbCr; with a fourth, YCCK.
    YCbCr,
    /// RGB as it is; with a fourth, inverted CMYK.
    Rgb,
}

/// A row of red, green and blue apart.
#[derive(Debug)]
pub(super) struct Line([Vec<u8>; 3]);

impl Line {
    pub(super) fn new(width: usize) -> Self {
        Self([(); 3].map(|()| vec![0; width]))
    }
}

/// Grey to RGB.
pub(super) fn grey(samples: &[u8], out: &mut [u8]) {
    for (out, &sample) in out.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
        *out = [sample; 3];
    }
}

impl Model {
    /// Three components to RGB.
    pub(super) fn three(self, samples: [&[u8]; 3], line: &mut Line, out: &mut [u8]) {
        match self {
            Self::Rgb => interleave(samples, out),
            Self::YCbCr => {
                ycbcr(samples, line);
                let [r, g, b] = &line.0;
                interleave([r, g, b], out);
            }
        }
    }

    /// Four components to RGB: inverted inks, each multiplied by inverted black. YCCK holds the inks as YCbCr.
    pub(super) fn four(self, [c, m, y, k]: [&[u8]; 4], line: &mut Line, out: &mut [u8]) {
        self.three([c, m, y], line, out);
        let inverse = if self == Self::YCbCr { 255 } else { 0 };
        for (out, &black) in out.as_chunks_mut::<3>().0.iter_mut().zip(k) {
            *out = out.map(|v| product(v ^ inverse, black));
        }
    }
}

/// A fraction of 16 bits as an integer.
const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// JFIF, with coefficients of 16 fractional bits. What exceeds 16 bits of them is added apart: the products are then of 16-bit numbers, as
/// vector units have them.
fn ycbcr([y, cb, cr]: [&[u8]; 3], line: &mut Line) {
    const R_CR: i16 = (fixed(1.402) - 65536) as i16;
    const G_CB: i16 = (-fixed(0.344_14)) as i16;
    const G_CR: i16 = (65536 - fixed(0.714_14)) as i16;
    const B_CB: i16 = (fixed(1.772) - 2 * 65536) as i16;
    let times = |a: i16, b: i16| i32::from(a) * i32::from(b);
    let byte = |v: i16| v.clamp(0, 255) as u8;
    let [red, green, blue] = &mut line.0;
    let into = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (((r, g), b), ((&y, &cb), &cr)) in into.zip(y.iter().zip(cb).zip(cr)) {
        let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
        *r = byte(y + cr + ((times(cr, R_CR) + 32768) >> 16) as i16);
        *g = byte(y - cr + ((times(cb, G_CB) + times(cr, G_CR) + 32768) >> 16) as i16);
        *b = byte(y + 2 * cb + ((times(cb, B_CB) + 32768) >> 16) as i16);
    }
}

/// Three rows to one of pixels.
fn interleave([r, g, b]: [&[u8]; 3], out: &mut [u8]) {
    // Four pixels are three words; written so, few bytes are moved one by one.
    let (fours, rest) = out.as_chunks_mut::<12>();
    let ((r4, r), (g4, g), (b4, b)) = (r.as_chunks::<4>(), g.as_chunks::<4>(), b.as_chunks::<4>());
    for (((out, r), g), b) in fours.iter_mut().zip(r4).zip(g4).zip(b4) {
        let pixel = |i: usize| u32::from(r[i]) | u32::from(g[i]) << 8 | u32::from(b[i]) << 16;
        let p = [pixel(0), pixel(1), pixel(2), pixel(3)];
        let words = [p[0] | p[1] << 24, p[1] >> 8 | p[2] << 16, p[2] >> 16 | p[3] << 8];
        for (out, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *out = word.to_le_bytes();
        }
    }
    for (((out, &r), &g), &b) in rest.as_chunks_mut::<3>().0.iter_mut().zip(r).zip(g).zip(b) {
        *out = [r, g, b];
    }
}
