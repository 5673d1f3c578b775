//! Entropy-coded data as bits.

/// The bits of one entropy-coded segment: what lies between two markers, without the stuffing.
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// The segment's bytes and [`PAD`] zeros.
    data: Vec<u8>,
    place: Place,
}

/// How far the bits are taken.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Place {
    /// The next byte to go into `buffer`.
    at: usize,
    /// Bits to come, the next one on top; below the top `count` bits may stand others, which are right but not counted.
    buffer: u64,
    count: u32,
}

/// Takes bits. A block is read through one that is a local variable, so that all of it stays in registers.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    data: &'a [u8],
    place: Place,
}

const PAD: usize = 8;

impl Bits {
    /// Takes the segment that begins at `at` of the file. Gives the place of the marker after it, `None` where the file ends first.
    pub(super) fn load(&mut self, file: &[u8], mut at: usize) -> Option<usize> {
        self.data.clear();
        self.place = Place::default();
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
        let taken = (self.place.at as u64 * 8).saturating_sub(self.place.count.into());
        taken > self.data.len().saturating_sub(PAD) as u64 * 8
    }

    #[inline(always)]
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { data: &self.data, place: self.place }
    }

    /// Goes on where a reader has come to.
    #[inline(always)]
    pub(super) fn resume(&mut self, place: Place) {
        self.place = place;
    }
}

impl Reader<'_> {
    #[inline(always)]
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Makes 56 bits ready; zeros where the segment has ended. Always done, since whether it is needed cannot be foretold.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        let place = &mut self.place;
        let word = self.data.get(place.at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_be_bytes(*b));
        place.buffer |= word >> place.count;
        place.at += (63 - place.count as usize) >> 3;
        place.count |= 56;
    }

    /// The next `n` bits, 1 to 16 of them, without taking them; after [`Reader::fill`].
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> u32 {
        (self.place.buffer >> (64 - n)) as u32
    }

    /// Takes `n` bits, of those that [`Reader::fill`] has made ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) {
        self.place.buffer <<= n;
        self.place.count = self.place.count.wrapping_sub(n);
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
    /// have been taken since [`Reader::fill`].
    #[inline(always)]
    pub(super) fn signed(&mut self, n: u32) -> i32 {
        let bits = self.peek(n) as i32;
        let negative = !(self.place.buffer as i64 >> 63) as i32;
        self.skip(n);
        bits + (negative & (1 - (1 << n)))
    }
}
