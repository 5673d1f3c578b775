//! What the code tables of a lossless WebP take (RFC 9649, section 3). A file of kilobytes may ask for gigabytes of them, so they are counted before
//! the decoder makes any: the bit stream is read up to the coded picture, and nothing is kept but how long the codes are.

use crate::preprocess::Failure;
use crate::preprocess::reader::Watch;

/// Symbols of the codes of a group: green, lengths and the colour cache (which comes on top); red; blue; alpha; distances.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];
/// The order in which the lengths of the code for lengths stand.
const ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// What the decoder takes for a group beside its tables.
const GROUP: usize = 1024;

/// Bytes that the decoder's code tables take. `size` is that of an alpha plane, whose stream does not have it.
///
/// # Errors
/// Streams that end before the picture begins, or whose codes are damaged.
pub(super) fn tables(stream: &[u8], size: Option<(u32, u32)>, watch: &Watch) -> Result<usize, Failure> {
    let mut reader = Stream { bits: Bits { rest: stream, held: 0, count: 0 }, bytes: 0, watch };
    reader.run(size).ok_or_else(|| Failure::corrupt("the lossless WebP's codes are damaged, or end early"))?;
    Ok(reader.bytes)
}

/// Bits from the lowest on.
struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// At most 32 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        while self.count < count {
            self.held |= u64::from(*self.rest.split_off_first()?) << self.count;
            self.count += 8;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Some(value as u32)
    }
}

/// A canonical code.
struct Code {
    /// How many symbols have codes of each length.
    counts: [u16; 16],
    /// Symbols by the number of their code.
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0; 16];
        lengths.iter().filter(|&&n| n > 0).for_each(|&n| counts[usize::from(n)] += 1);
        let mut next = [0_u16; 17];
        (1..16).for_each(|n| next[n + 1] = next[n] + counts[n]);
        let mut symbols = vec![0; next[16].into()];
        for (symbol, &length) in (0..).zip(lengths).filter(|&(_, &n)| n > 0) {
            let place = &mut next[usize::from(length)];
            symbols[usize::from(*place)] = symbol;
            *place += 1;
        }
        // All codes together must be as many as there can be; an only symbol needs none.
        let room = (1..16).fold(1_i32, |room, n| 2 * room - i32::from(counts[n]));
        match symbols.len() {
            0 => None,
            1 => Some(Self { counts: [0; 16], symbols }),
            _ => (room == 0).then_some(Self { counts, symbols }),
        }
    }

    fn read(&self, bits: &mut Bits) -> Option<usize> {
        if self.symbols.len() == 1 {
            return Some(self.symbols[0].into());
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in self.counts[1..].iter().copied().map(i32::from) {
            code |= bits.take(1)? as i32;
            if code - first < count {
                return Some(usize::from(*self.symbols.get((index + code - first) as usize)?));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    /// Bytes of the decoder's tables for it: one of up to 10 bits, and two nodes for every longer code.
    fn bytes(&self) -> usize {
        match self.counts.iter().rposition(|&n| n > 0) {
            None => 0,
            Some(longest) => (4 << longest.min(10)) + 32 * self.counts[11..].iter().map(|&n| usize::from(n)).sum::<usize>() + 64,
        }
    }
}

struct Stream<'a> {
    bits: Bits<'a>,
    bytes: usize,
    watch: &'a Watch,
}

impl Stream<'_> {
    fn run(&mut self, size: Option<(u32, u32)>) -> Option<()> {
        let (mut width, height) = match size {
            Some(size) => size,
            None => {
                self.bits.take(8)?;
                let size = (self.bits.take(14)? + 1, self.bits.take(14)? + 1);
                self.bits.take(4)?;
                size
            }
        };
        let mut seen = [false; 4];
        while self.bits.take(1)? == 1 {
            let transform = self.bits.take(2)? as usize;
            if std::mem::replace(&mut seen[transform], true) {
                return None;
            }
            match transform {
                0 | 1 => {
                    let square = self.bits.take(3)? + 2;
                    self.image(width.div_ceil(1 << square), height.div_ceil(1 << square))?;
                }
                2 => {}
                _ => {
                    let colours = self.bits.take(8)? + 1;
                    self.image(colours, 1)?;
                    // Indices of few colours share a byte.
                    width = width.div_ceil(match colours {
                        ..=2 => 8,
                        3..=4 => 4,
                        5..=16 => 2,
                        _ => 1,
                    });
                }
            }
        }
        let cache = self.cache()?;
        let mut groups = 1;
        if self.bits.take(1)? == 1 {
            let square = self.bits.take(3)? + 2;
            groups += self.image(width.div_ceil(1 << square), height.div_ceil(1 << square))?;
        }
        for _ in 0..groups {
            self.group(cache)?;
        }
        Some(())
    }

    /// Entries of the colour cache.
    fn cache(&mut self) -> Option<usize> {
        if self.bits.take(1)? == 0 {
            return Some(0);
        }
        let bits = self.bits.take(4)?;
        self.bytes += 4 << bits;
        (1..=11).contains(&bits).then_some(1 << bits)
    }

    fn group(&mut self, cache: usize) -> Option<[Code; 5]> {
        if self.watch.expired() {
            return None;
        }
        let mut read = |n: usize| self.code(ALPHABETS[n] + if n == 0 { cache } else { 0 });
        let codes = [read(0)?, read(1)?, read(2)?, read(3)?, read(4)?];
        self.bytes += GROUP + codes.iter().map(Code::bytes).sum::<usize>();
        Some(codes)
    }

    fn code(&mut self, alphabet: usize) -> Option<Code> {
        let mut lengths = vec![0; alphabet];
        if self.bits.take(1)? == 1 {
            let two = self.bits.take(1)? == 1;
            let bits = if self.bits.take(1)? == 1 { 8 } else { 1 };
            *lengths.get_mut(self.bits.take(bits)? as usize)? = 1;
            if two {
                *lengths.get_mut(self.bits.take(8)? as usize)? = 1;
            }
            return Code::new(&lengths);
        }
        let mut of_lengths = [0; 19];
        for &at in &ORDER[..self.bits.take(4)? as usize + 4] {
            of_lengths[at] = self.bits.take(3)? as u8;
        }
        let of_lengths = Code::new(&of_lengths)?;
        let mut left = alphabet;
        if self.bits.take(1)? == 1 {
            let bits = 2 + 2 * self.bits.take(3)?;
            left = self.bits.take(bits)? as usize + 2;
        }
        let (mut at, mut previous) = (0, 8);
        while at < alphabet && left > 0 {
            left -= 1;
            let (length, count) = match of_lengths.read(&mut self.bits)? {
                16 => (previous, self.bits.take(2)? + 3),
                17 => (0, self.bits.take(3)? + 3),
                18 => (0, self.bits.take(7)? + 11),
                length => (length as u8, 1),
            };
            lengths.get_mut(at..at + count as usize)?.fill(length);
            at += count as usize;
            if length != 0 {
                previous = length;
            }
        }
        Code::new(&lengths)
    }

    /// Passes over an image that serves the coding. Gives the largest number that its red and green make: of a pixel that is copied from an earlier one,
    /// or from the colour cache, that was seen there.
    fn image(&mut self, width: u32, height: u32) -> Option<usize> {
        let cache = self.cache()?;
        let codes = self.group(cache)?;
        let mut left = u64::from(width) * u64::from(height);
        self.bytes = self.bytes.saturating_add(usize::try_from(left).ok()?.saturating_mul(6));
        let mut largest = 0;
        if codes.iter().all(|code| code.symbols.len() == 1) && codes[0].symbols[0] < 256 {
            return Some(usize::from(codes[1].symbols[0]) << 8 | usize::from(codes[0].symbols[0]));
        }
        while left > 0 {
            if left.is_multiple_of(1 << 16) && self.watch.expired() {
                return None;
            }
            let green = codes[0].read(&mut self.bits)?;
            let passed = match green {
                0..256 => {
                    let red = codes[1].read(&mut self.bits)?;
                    codes[2].read(&mut self.bits)?;
                    codes[3].read(&mut self.bits)?;
                    largest = largest.max(red << 8 | green);
                    1
                }
                256..280 => {
                    let length = self.prefixed(green - 256)?;
                    let distance = codes[4].read(&mut self.bits)?;
                    self.prefixed(distance)?;
                    length.into()
                }
                _ => 1,
            };
            left = left.saturating_sub(passed);
        }
        Some(largest)
    }

    /// The length or distance that a symbol begins.
    fn prefixed(&mut self, symbol: usize) -> Option<u32> {
        if symbol < 4 {
            return Some(symbol as u32 + 1);
        }
        let bits = (symbol as u32 - 2) >> 1;
        let offset = (2 + (symbol as u32 & 1)) << bits;
        Some(offset + self.bits.take(bits)? + 1)
    }
}
