//! Lossless WebP bit streams (RFC 9649, section 3), as far as it takes to be hostile.

use super::random::Random;

/// Bits from the lowest on.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        for i in 0..bits {
            self.held |= (value >> i & 1) << self.count;
            self.count += 1;
            if self.count == 8 {
                self.bytes.push(self.held as u8);
                (self.held, self.count) = (0, 0);
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.put(0, 7);
        self.bytes
    }

    fn head(width: u32, height: u32) -> Self {
        let mut bits = Self::default();
        bits.put(0x2F, 8);
        bits.put(width.wrapping_sub(1), 14);
        bits.put(height.wrapping_sub(1), 14);
        bits.put(0, 4);
        bits
    }

    /// A code of one symbol, which takes no bits where it is used.
    fn one_symbol(&mut self, symbol: u32) {
        self.put(0b001, 2);
        self.put(1, 1);
        self.put(symbol, 8);
    }

    /// The five codes of a group, of one symbol each.
    fn one_colour(&mut self, green: u32) {
        self.one_symbol(green);
        (0..4).for_each(|_| self.one_symbol(0));
    }
}

/// A picture of one colour, with transforms before it.
pub struct Lossless {
    pub width: u32,
    pub height: u32,
    /// Numbers of transforms: 0 predictor, 1 colour, 2 subtract green, 3 colour indexing.
    pub transforms: Vec<u32>,
    /// Bits of the colour cache; 0 for none, more than 11 are not allowed.
    pub cache: u32,
    /// Whether random bits follow in place of the codes.
    pub noise: bool,
}

impl Lossless {
    pub fn plain() -> Self {
        Self { width: 1, height: 1, transforms: Vec::new(), cache: 0, noise: false }
    }

    pub fn any(r: &mut Random) -> Self {
        let count = r.below(6);
        let transforms = (0..count).map(|_| r.below(4) as u32).collect();
        Self { transforms, cache: *r.pick(&[0, 0, 1, 11, 12, 15]), noise: r.one_in(3), ..Self::plain() }
    }

    pub fn encoded(&self, r: &mut Random) -> Vec<u8> {
        let mut bits = Bits::head(self.width, self.height);
        for &transform in &self.transforms {
            bits.put(1, 1);
            bits.put(transform, 2);
            match transform {
                0 | 1 => {
                    bits.put(r.below(8) as u32, 3);
                    bits.put(0, 1);
                    bits.one_colour(r.below(256) as u32);
                }
                3 => {
                    bits.put(r.below(256) as u32, 8);
                    bits.put(0, 1);
                    bits.one_colour(r.below(256) as u32);
                }
                _ => {}
            }
        }
        bits.put(0, 1);
        if self.cache > 0 {
            bits.put(1, 1);
            bits.put(self.cache, 4);
        } else {
            bits.put(0, 1);
        }
        // One group of codes.
        bits.put(0, 1);
        if self.noise {
            (0..r.within(1, 400)).for_each(|_| bits.put(r.below(256) as u32, 8));
        } else {
            bits.one_colour(r.below(256) as u32);
        }
        bits.end()
    }
}

/// A code given by the lengths of its symbols' codes: `lengths` are `(length, how often)`, of which the sum is right; `of_lengths` is the code that
/// they are written in, lengths of its codes by symbol.
fn code(bits: &mut Bits, of_lengths: &[(u32, u32)], symbols: u32, write: &[u32]) {
    const ORDER: [u32; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let length_of = |symbol: u32| of_lengths.iter().find(|(s, _)| *s == symbol).map_or(0, |(_, n)| *n);
    bits.put(0, 1);
    bits.put(19 - 4, 4);
    ORDER.iter().for_each(|&symbol| bits.put(length_of(symbol), 3));
    // How many lengths follow, in 12 bits.
    bits.put(1, 1);
    bits.put(5, 3);
    bits.put(symbols - 2, 12);
    // Codes are numbered by length, then by symbol, and written from the top bit on.
    let mut sorted = of_lengths.to_vec();
    sorted.sort_by_key(|&(symbol, length)| (length, symbol));
    for &symbol in write {
        if symbol >= 100 {
            // The extra bits of a repetition.
            bits.put(symbol - 100, 2);
            continue;
        }
        let (mut number, mut before) = (0, 0);
        for &(s, length) in &sorted {
            number <<= length - before;
            before = length;
            if s == symbol {
                break;
            }
            number += 1;
        }
        (0..before).rev().for_each(|i| bits.put(number >> i & 1, 1));
    }
}

/// Eleven symbols with codes of 1 to 10 bits: a table of 1024 entries for 13 bytes.
fn table(bits: &mut Bits) {
    let of_lengths: Vec<(u32, u32)> = (1..=10).map(|length| (length, if length <= 6 { 3 } else { 4 })).collect();
    code(bits, &of_lengths, 11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]);
}

/// 2048 symbols with codes of 11 bits: a table and 4096 nodes for 140 bytes.
fn tree(bits: &mut Bits) {
    let mut write = vec![11];
    (0..341).for_each(|_| write.extend([16, 103]));
    write.push(11);
    code(bits, &[(11, 1), (16, 1)], 2048, &write);
}

/// A picture that asks for `groups` groups of the largest tables, or trees, and uses only the last, which is small.
pub fn many_tables(groups: u32, trees: bool) -> Vec<u8> {
    let mut bits = Bits::head(1024, 1024);
    bits.put(0, 1);
    // Trees need the longest alphabet, which a colour cache of 11 bits gives.
    bits.put(u32::from(trees), 1);
    if trees {
        bits.put(11, 4);
    }
    // The entropy image: of squares of 512 pixels, all with the last group.
    bits.put(1, 1);
    bits.put(7, 3);
    bits.put(0, 1);
    let last = groups - 1;
    bits.one_symbol(last & 255);
    bits.one_symbol(last >> 8);
    (0..3).for_each(|_| bits.one_symbol(0));
    for _ in 0..last {
        if trees {
            tree(&mut bits)
        } else {
            table(&mut bits)
        }
        (0..4).for_each(|_| table(&mut bits));
    }
    bits.one_colour(7);
    bits.end()
}
