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

/// The sum of two products of 16-bit numbers, for which every x86-64 has an instruction.
#[inline(always)]
fn two(a: i16, x: i16, b: i16, y: i16) -> i32 {
    (i32::from(a) * i32::from(x)).wrapping_add(i32::from(b) * i32::from(y))
}

/// The transform of columns, all at a time: `SHIFT` bits are rounded away. Only the first `ROWS` rows and `COLUMNS` columns are not zero.
#[inline(always)]
fn pass<const SHIFT: u32, const ROWS: usize, const COLUMNS: usize>(x: &Rows) -> Rows {
    let mut out = [[0; 8]; 8];
    for c in 0..COLUMNS {
        // Sums of 16 bits do not overflow with what an encoder can have written; with anything else they wrap.
        let at = |row: usize| if row < ROWS { x[row][c] } else { 0 };
        let (x0, x1, x2, x3, x4, x5, x6, x7) = (at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
        let t2 = two(x2, F_0_541, x6, F_0_541 - F_1_847);
        let t3 = two(x2, F_0_541 + F_0_765, x6, F_0_541);
        let t0 = i32::from(x0.wrapping_add(x4)) << 13;
        let t1 = i32::from(x0.wrapping_sub(x4)) << 13;
        let half = 1 << (SHIFT - 1);
        let (t0, t1) = (t0 + half, t1 + half);
        let even = [t0.wrapping_add(t3), t1.wrapping_add(t2), t1.wrapping_sub(t2), t0.wrapping_sub(t3)];

        let (z3, z4) = (x7.wrapping_add(x3), x5.wrapping_add(x1));
        let z5 = two(z3, F_1_175 - F_1_961, z4, F_1_175);
        let z6 = two(z3, F_1_175, z4, F_1_175 - F_0_390);
        let odd = [
            two(x1, F_1_501 - F_0_899, x7, -F_0_899).wrapping_add(z6),
            two(x3, F_3_072 - F_2_562, x5, -F_2_562).wrapping_add(z5),
            two(x5, F_2_053 - F_2_562, x3, -F_2_562).wrapping_add(z6),
            two(x7, F_0_298 - F_0_899, x1, -F_0_899).wrapping_add(z5),
        ];
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

/// `block`: dequantised coefficients, rows of frequencies; of them the first `count` in zigzag order, 1 or more, may be other than 0. `out`: 8
/// rows of samples, `stride` bytes apart.
pub(super) fn inverse(block: &[i16; 64], count: usize, out: &mut [u8], stride: usize) {
    match count {
        1 => flat(block[0], out, stride),
        // None is beyond the fourth row and column.
        2..=10 => transform::<4>(block, out, stride),
        _ => transform::<8>(block, out, stride),
    }
}

#[inline(never)]
fn transform<const SIDE: usize>(block: &[i16; 64], out: &mut [u8], stride: usize) {
    let (rows, _) = block.as_chunks::<8>();
    let mut x = [[0; 8]; 8];
    x.copy_from_slice(rows);
    let x = pass::<18, SIDE, 8>(&transposed(&pass::<11, SIDE, SIDE>(&x)));
    let x = transposed(&x);
    for (samples, row) in out.chunks_mut(stride).zip(&x) {
        let samples: &mut [u8] = &mut samples[..8];
        for (sample, v) in samples.iter_mut().zip(row) {
            *sample = (v.saturating_add(128)).clamp(0, 255) as u8;
        }
    }
}

/// A block that has nothing but a mean.
fn flat(dc: i16, out: &mut [u8], stride: usize) {
    let sample = (((i32::from(dc << 2) + 16) >> 5) + 128).clamp(0, 255) as u8;
    for samples in out.chunks_mut(stride).take(8) {
        samples[..8].fill(sample);
    }
}
