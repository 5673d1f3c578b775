//! The inverse DCT, to the bit what libjpeg calls "islow": the fast algorithm with 11 multiplications of Loeffler, Ligtenberg and Moschytz,
//! "Practical fast 1-D DCT algorithms with 11 multiplications" (ICASSP 1989), once over columns and once over rows, with constants of 13
//! fractional bits; 2 fractional bits are kept between the two.

type Rows = [[i16; 8]; 8];

const fn fixed(x: f64) -> i16 {
    (x * 8192.0 + 0.5) as i16
}

// cos and sin of multiples of pi/16 times sqrt(2), and their sums and differences.
const F_0_298: i16 = fixed(0.298_631_336);
const F_0_390: i16 = fixed(0.390_180_644);
const F_0_541: i16 = fixed(0.541_196_100);
const F_0_765: i16 = fixed(0.765_366_865);
const F_0_899: i16 = fixed(0.899_976_223);
const F_1_175: i16 = fixed(1.175_875_602);
const F_1_501: i16 = fixed(1.501_321_110);
const F_1_847: i16 = fixed(1.847_759_065);
const F_1_961: i16 = fixed(1.961_570_560);
const F_2_053: i16 = fixed(2.053_119_869);
const F_2_562: i16 = fixed(2.562_915_447);
const F_3_072: i16 = fixed(3.072_711_026);

/// A product of 16-bit numbers: written so, it is one that vector units of every x86-64 have.
#[inline(always)]
fn times(a: i16, b: i16) -> i32 {
    i32::from(a) * i32::from(b)
}

/// The transform of 8 columns at a time: `SHIFT` bits are rounded away.
#[inline(always)]
fn pass<const SHIFT: u32>(x: &Rows) -> Rows {
    let mut out = [[0; 8]; 8];
    for c in 0..8 {
        // Sums of 16 bits do not overflow with what an encoder can have written; with anything else they wrap.
        let (x0, x1, x2, x3, x4, x5, x6, x7) = (x[0][c], x[1][c], x[2][c], x[3][c], x[4][c], x[5][c], x[6][c], x[7][c]);
        let half = times(x2.wrapping_add(x6), F_0_541);
        let t2 = half - times(x6, F_1_847);
        let t3 = half + times(x2, F_0_765);
        let t0 = i32::from(x0.wrapping_add(x4)) << 13;
        let t1 = i32::from(x0.wrapping_sub(x4)) << 13;
        let rounding = 1 << (SHIFT - 1);
        let even = [t0 + t3 + rounding, t1 + t2 + rounding, t1 - t2 + rounding, t0 - t3 + rounding];

        let (z3, z4) = (x7.wrapping_add(x3), x5.wrapping_add(x1));
        let z5 = times(z3.wrapping_add(z4), F_1_175);
        let z1 = times(x7.wrapping_add(x1), F_0_899);
        let z2 = times(x5.wrapping_add(x3), F_2_562);
        let z3 = z5 - times(z3, F_1_961);
        let z4 = z5 - times(z4, F_0_390);
        let odd = [times(x1, F_1_501) - z1 + z4, times(x3, F_3_072) - z2 + z3, times(x5, F_2_053) - z2 + z4, times(x7, F_0_298) - z1 + z3];
        for i in 0..4 {
            out[i][c] = narrow((even[i].wrapping_add(odd[i])) >> SHIFT);
            out[7 - i][c] = narrow((even[i].wrapping_sub(odd[i])) >> SHIFT);
        }
    }
    out
}

#[inline(always)]
fn narrow(v: i32) -> i16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[inline(always)]
fn transposed(x: &Rows) -> Rows {
    let mut out = [[0; 8]; 8];
    for r in 0..8 {
        for c in 0..8 {
            out[c][r] = x[r][c];
        }
    }
    out
}

/// `block`: dequantised coefficients, rows of frequencies. `out`: 8 rows of samples, `stride` bytes apart.
pub(super) fn inverse(block: &[i16; 64], out: &mut [u8], stride: usize) {
    let (rows, _) = block.as_chunks::<8>();
    let mut x = [[0; 8]; 8];
    x.copy_from_slice(rows);
    let x = pass::<18>(&transposed(&pass::<11>(&x)));
    let x = transposed(&x);
    for (samples, row) in out.chunks_mut(stride).zip(&x) {
        let samples: &mut [u8] = &mut samples[..8];
        for (sample, v) in samples.iter_mut().zip(row) {
            *sample = (v.saturating_add(128)).clamp(0, 255) as u8;
        }
    }
}

/// What [`inverse`] gives for a block that has nothing but a mean.
pub(super) fn flat(dc: i16, out: &mut [u8], stride: usize) {
    let sample = (((i32::from(dc) + 4) >> 3) + 128).clamp(0, 255) as u8;
    for samples in out.chunks_mut(stride).take(8) {
        samples[..8].fill(sample);
    }
}
