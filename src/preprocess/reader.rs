//! Readers over a body in memory that know how long decoding may still take.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::time::Instant;

/// A decoder sees at most this much between two looks at the clock.
const STEP: usize = 16 << 10;
/// The clock is looked at once in so many reads, which may be of a byte (BMP) or of a whole [`STEP`].
const FILLS: u32 = 1 << 5;

/// What the readers tell about one decoding.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Instant,
    expired: Cell<bool>,
    reads: Cell<u32>,
}

impl Watch {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, expired: Cell::new(false), reads: Cell::new(0) }
    }

    /// Whether the time is over, looking at the clock.
    pub(super) fn expired(&self) -> bool {
        if !self.expired.get() && Instant::now() >= self.deadline {
            self.expired.set(true);
        }
        self.expired.get()
    }

    /// Counts one read; looks at the clock at every one in [`FILLS`], the first included.
    fn tick(&self) -> bool {
        let n = self.reads.get();
        self.reads.set(n.wrapping_add(1));
        if n.is_multiple_of(FILLS) { self.expired() } else { self.expired.get() }
    }
}

/// For the decoders over `std::io`: fails with `TimedOut` after the deadline.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    cursor: io::Cursor<&'a [u8]>,
    watch: &'a Watch,
}

impl<'a> Watched<'a> {
    pub(super) fn new(bytes: &'a [u8], watch: &'a Watch) -> Self {
        Self { cursor: io::Cursor::new(bytes), watch }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.watch.tick() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let rest = self.cursor.fill_buf()?;
        Ok(&rest[..rest.len().min(STEP)])
    }

    fn consume(&mut self, n: usize) {
        self.cursor.consume(n);
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.cursor.seek(to)
    }
}
