//! The frame header of a lossy WebP (RFC 6386, sections 7 and 9), as far as it says how much there is to read: the decoder makes room for that
//! before it finds out that it is not there.

use crate::preprocess::Failure;

/// Checks the picture's size and the lengths of its partitions.
///
/// # Errors
/// A picture larger than `size`, or partitions longer than the chunk.
pub(super) fn check(chunk: &[u8], size: (u32, u32)) -> Result<(), Failure> {
    let truncated = || Failure::corrupt("the lossy WebP is truncated, or the lengths of its parts are wrong");
    let (head, body) = chunk.split_first_chunk::<10>().ok_or_else(truncated)?;
    let tag = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    if tag & 1 != 0 {
        return Err(Failure::corrupt("the lossy WebP does not begin with a key frame"));
    }
    let side = |at: usize| u32::from(u16::from_le_bytes([head[at], head[at + 1]]) & 0x3FFF);
    if side(6) > size.0 || side(8) > size.1 {
        return Err(Failure::corrupt("a frame of the WebP is larger than its canvas"));
    }
    let (first, rest) = body.split_at_checked(tag as usize >> 5).ok_or_else(truncated)?;
    // Lengths of all but the last partition, of three bytes each, then these.
    let lengths = 3 * (partitions(first) - 1);
    let (lengths, data) = rest.split_at_checked(lengths).ok_or_else(truncated)?;
    let needed: usize = lengths.chunks_exact(3).map(|n| u32::from_le_bytes([n[0], n[1], n[2], 0]) as usize).sum();
    if needed > data.len() { Err(truncated()) } else { Ok(()) }
}

/// How many partitions the coefficients are in: 1, 2, 4 or 8.
fn partitions(first: &[u8]) -> usize {
    let mut bits = Bits::new(first);
    // Colour space and clamping.
    bits.take(2);
    if bits.take(1) == 1 {
        // Segments.
        let (map, data) = (bits.take(1), bits.take(1));
        if data == 1 {
            bits.take(1);
            bits.optional([8; 4]);
            bits.optional([7; 4]);
        }
        if map == 1 {
            bits.optional([8; 3]);
        }
    }
    // The loop filter: type, level, sharpness, adjustments.
    bits.take(1 + 6 + 3);
    if bits.take(1) == 1 && bits.take(1) == 1 {
        bits.optional([7; 8]);
    }
    1 << bits.take(2)
}

/// The boolean decoder (RFC 6386, section 7.3), where both values are equally likely. Behind the end of the data are zeros.
struct Bits<'a> {
    rest: &'a [u8],
    /// Two bytes.
    value: u32,
    range: u32,
    shifted: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut bits = Self { rest: data, value: 0, range: 255, shifted: 0 };
        bits.value = bits.byte() << 8 | bits.byte();
        bits
    }

    fn byte(&mut self) -> u32 {
        self.rest.split_off_first().map_or(0, |&byte| byte.into())
    }

    fn take(&mut self, count: u32) -> u32 {
        (0..count).fold(0, |number, _| number << 1 | self.bit())
    }

    fn bit(&mut self) -> u32 {
        let split = 1 + ((self.range - 1) >> 1);
        let bit = u32::from(self.value >= split << 8);
        if bit == 1 {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            self.value <<= 1;
            self.shifted += 1;
            if self.shifted == 8 {
                self.shifted = 0;
                self.value |= self.byte();
            }
        }
        bit
    }

    /// Values that are there only if a flag says so.
    fn optional<const N: usize>(&mut self, widths: [u32; N]) {
        for width in widths {
            if self.bit() == 1 {
                self.take(width);
            }
        }
    }
}
