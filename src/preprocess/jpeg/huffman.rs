//! Huffman tables (ITU-T T.81, Annex C and F.2.2.3).

use super::bits::Reader;
use crate::preprocess::Failure;

/// Codes up to this long, with the bits of the value after them where they fit too, are found in one look.
const LOOK: u32 = 10;

/// A table for decoding. Most symbols are a run of zeros (high nibble) and the size in bits of the value that follows (low nibble).
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// By the next bits: bits to take (0..8), run (8..12), size of the value that is still to be taken (12..16), value (16..32).
    /// 0 for codes that are longer.
    look: Box<[u32; 1 << LOOK]>,
    /// By length: the first code beyond those of that length, as the top of 16 bits.
    end: [u32; 17],
    /// By length: what to add to a code to have the place of its symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts`: how many codes of 1 to 16 bits; `symbols`: in order of their codes.
    ///
    /// # Errors
    /// More codes than their lengths allow.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Failure> {
        let wrong = || Failure::corrupt("a Huffman table of the JPEG is wrong");
        let mut table = Self { look: Box::new([0; 1 << LOOK]), end: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            let of_length = symbols.get(place..place + usize::from(count)).ok_or_else(wrong)?;
            table.offset[length as usize] = place as i32 - code as i32;
            for &symbol in of_length {
                if length <= LOOK && code < 1 << length {
                    table.enter(code, length, symbol);
                }
                code += 1;
            }
            if code > 1 << length {
                return Err(wrong());
            }
            place += of_length.len();
            table.end[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }

    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        let free = LOOK - length;
        for rest in 0..1_u32 << free {
            let entry = if size > 0 && size <= free {
                let bits = (rest >> (free - size)) as i32;
                let value = if bits >> (size - 1) == 0 { bits + 1 - (1 << size) } else { bits };
                (length + size) | run << 8 | (value as u32) << 16
            } else {
                length | run << 8 | size << 12
            };
            self.look[(code << free | rest) as usize] = entry;
        }
    }

    /// Whether all symbols are sizes that a difference of DC coefficients may have.
    pub(super) fn fits_dc(&self) -> bool {
        self.symbols.iter().all(|&s| s < 16)
    }

    /// Takes a code and its value. Gives the run and the value; the value is 0 only where the symbol's size is 0. `None` where no symbol has
    /// such a code.
    #[inline(always)]
    pub(super) fn take(&self, bits: &mut Reader<'_>) -> Option<(u32, i32)> {
        bits.fill();
        let entry = self.look[bits.peek(LOOK) as usize];
        let (run, size) = if entry != 0 {
            bits.skip(entry & 255);
            let (run, size) = (entry >> 8 & 15, entry >> 12 & 15);
            if size == 0 {
                return Some((run, entry as i32 >> 16));
            }
            (run, size)
        } else {
            let (length, symbol) = self.long(bits.peek(16))?;
            bits.skip(length);
            (u32::from(symbol >> 4), u32::from(symbol & 15))
        };
        Some((run, if size == 0 { 0 } else { bits.signed(size) }))
    }

    /// Length and symbol of the code with which 16 bits begin, which is longer than [`LOOK`].
    #[cold]
    fn long(&self, next: u32) -> Option<(u32, u8)> {
        let length = (LOOK + 1..=16).find(|&n| next < self.end[n as usize])?;
        let place = (next >> (16 - length)) as i32 + self.offset[length as usize];
        Some((length, *self.symbols.get(place as usize)?))
    }
}
