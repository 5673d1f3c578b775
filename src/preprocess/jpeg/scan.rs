//! Entropy decoding: sequential (ITU-T T.81, F.2) and progressive (G.2).

use super::bits::{Bits, Reader};
use super::header::{Component, Scan};
use super::huffman::Table;
use crate::preprocess::Failure;

/// From zigzag order to rows of frequencies.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

pub(super) type Block = [i16; 64];

fn no_such_code() -> Failure {
    Failure::corrupt("the JPEG's entropy-coded data is damaged: no symbol has such a code")
}

fn too_many() -> Failure {
    Failure::corrupt("the JPEG's entropy-coded data is damaged: a block has more than 64 coefficients")
}

/// Reads a sequential block and multiplies by the quantisation table, which is in zigzag order. `block` must be zero. Gives how many
/// coefficients, in that order, may be other than 0.
#[inline(always)]
pub(super) fn sequential(
    bits: &mut Bits,
    dc: &Table,
    ac: &Table,
    mean: &mut i32,
    quant: &[u16; 64],
    block: &mut Block,
) -> Result<usize, Failure> {
    let mut reader = bits.reader();
    let (_, difference) = dc.take(&mut reader).ok_or_else(no_such_code)?;
    *mean = mean.wrapping_add(difference);
    block[0] = (*mean as i16).wrapping_mul(quant[0] as i16);
    let mut k = 1;
    while k < 64 {
        let (run, value) = ac.take(&mut reader).ok_or_else(no_such_code)?;
        if value == 0 {
            if run != 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run as usize;
        if k > 63 {
            return Err(too_many());
        }
        block[usize::from(ZIGZAG[k] & 63)] = (value as i16).wrapping_mul(quant[k] as i16);
        k += 1;
    }
    let place = reader.place();
    bits.resume(place);
    Ok(k.min(64))
}

/// The first scan of the first coefficient.
pub(super) fn first_dc(bits: &mut Bits, dc: &Table, mean: &mut i32, low: u32, block: &mut Block) -> Result<(), Failure> {
    let mut reader = bits.reader();
    let (_, difference) = dc.take(&mut reader).ok_or_else(no_such_code)?;
    let place = reader.place();
    bits.resume(place);
    *mean = mean.wrapping_add(difference);
    block[0] = (*mean << low) as i16;
    Ok(())
}

/// A later one: one bit more.
pub(super) fn later_dc(bits: &mut Bits, low: u32, block: &mut Block) {
    let mut reader = bits.reader();
    block[0] |= (reader.take(1) << low) as i16;
    let place = reader.place();
    bits.resume(place);
}

/// The first scan of other coefficients. `blank`: how many blocks from this one on have nothing.
pub(super) fn first_ac(bits: &mut Bits, ac: &Table, scan: &Scan, blank: &mut u32, block: &mut Block) -> Result<(), Failure> {
    if *blank > 0 {
        *blank -= 1;
        return Ok(());
    }
    let mut reader = bits.reader();
    let mut k = scan.first;
    while k <= scan.last {
        let (run, value) = ac.take(&mut reader).ok_or_else(no_such_code)?;
        if value == 0 {
            if run != 15 {
                *blank = (1 << run) - 1 + reader.take(run);
                break;
            }
            k += 16;
            continue;
        }
        k += run as usize;
        if k > 63 {
            return Err(too_many());
        }
        block[usize::from(ZIGZAG[k] & 63)] = (value << scan.low) as i16;
        k += 1;
    }
    let place = reader.place();
    bits.resume(place);
    Ok(())
}

/// A later one: a bit more of coefficients that are not 0, and those that become so.
pub(super) fn later_ac(bits: &mut Bits, ac: &Table, scan: &Scan, blank: &mut u32, block: &mut Block) -> Result<(), Failure> {
    let one = 1_i16 << scan.low;
    // Gives whether the coefficient was 0.
    let refine = |reader: &mut Reader<'_>, coefficient: &mut i16| {
        if *coefficient == 0 {
            return true;
        }
        if reader.take(1) == 1 && *coefficient & one == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient > 0 { one } else { -one });
        }
        false
    };
    let mut reader = bits.reader();
    let mut k = scan.first;
    while *blank == 0 && k <= scan.last {
        let (mut run, value) = ac.take(&mut reader).ok_or_else(no_such_code)?;
        if value == 0 && run != 15 {
            *blank = (1 << run) + reader.take(run);
            break;
        }
        if value.abs() > 1 {
            return Err(no_such_code());
        }
        while k <= scan.last {
            if refine(&mut reader, &mut block[usize::from(ZIGZAG[k] & 63)]) {
                if run == 0 {
                    break;
                }
                run -= 1;
            }
            k += 1;
        }
        if value != 0 {
            if k > 63 {
                return Err(too_many());
            }
            block[usize::from(ZIGZAG[k] & 63)] = one * value as i16;
        }
        k += 1;
    }
    if *blank > 0 {
        *blank -= 1;
        for &at in &ZIGZAG[k.min(64)..(scan.last + 1).max(k.min(64))] {
            refine(&mut reader, &mut block[usize::from(at & 63)]);
        }
    }
    let place = reader.place();
    bits.resume(place);
    Ok(())
}

/// Blocks across and down of a scan that has only this component: no more than the picture needs.
pub(super) fn blocks(component: &Component) -> (usize, usize) {
    (component.width.div_ceil(8), component.height.div_ceil(8))
}
