//! Entropy-coded data as bits.

/// The bits of one entropy-coded segment: what lies between two markers, without the stuffing.
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// The segment's bytes and [`PAD`] zeros.
    data: Vec<u8>,
    /// The next byte to go into `buffer`.
    at: usize,
    /// Bits to come, the next one on top; below the top `count` bits may stand others, which are right but not counted.
    buffer: u64,
    count: u32,
}

const PAD: usize = 8;

impl Bits {
    /// Takes the segment that begins at `at` of the file. Gives the place of the marker after it, `None` where the file ends first.
    pub(super) fn load(&mut self, file: &[u8], mut at: usize) -> Option<usize> {
        self.data.clear();
        (self.at, self.buffer, self.count) = (0, 0, 0);
        loop {
            let rest = file.get(at..)?;
            let plain = memchr::memchr(0xFF, rest)?;
            self.data.extend_from_slice(&rest[..plain]);
            // Any number of 0xFF may stand before a marker, and before the 0 that makes it a byte of data.
            let next = plain + rest[plain..].iter().position(|&b| b != 0xFF)?;
            if rest[next] != 0 {
                self.data.extend_from_slice(&[0; PAD]);
                return Some(at + next - 1);
            }
            self.data.push(0xFF);
            at += next + 1;
        }
    }

    /// Room for all segments of a file, so that memory is asked for once.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.data.reserve_exact(bytes + PAD);
    }

    /// Whether more bits were taken than the segment has.
    pub(super) fn overrun(&self) -> bool {
        let taken = (self.at as u64 * 8).saturating_sub(self.count.into());
        taken > self.data.len().saturating_sub(PAD) as u64 * 8
    }

    /// Makes at least 32 bits ready; zeros where the segment has ended.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if self.count < 32 {
            let word = self.data.get(self.at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_be_bytes(*b));
            self.buffer |= word >> self.count;
            self.at += (63 - self.count as usize) >> 3;
            self.count |= 56;
        }
    }

    /// The next `n` bits, 1 to 16 of them, without taking them; after [`Bits::fill`].
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    /// Takes `n` bits, of those that [`Bits::fill`] has made ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// Takes `n` bits, 0 to 16, as a number.
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        self.fill();
        let bits = self.peek(n);
        self.skip(n);
        bits
    }

    /// Takes `n` bits, 1 to 15, as a difference or coefficient (T.81, F.2.2.1): its first bit says whether it is positive. At most 16 bits may
    /// have been taken since [`Bits::fill`].
    #[inline(always)]
    pub(super) fn signed(&mut self, n: u32) -> i32 {
        let bits = self.peek(n) as i32;
        let negative = !(self.buffer as i64 >> 63) as i32;
        self.skip(n);
        bits + (negative & (1 - (1 << n)))
    }
}
