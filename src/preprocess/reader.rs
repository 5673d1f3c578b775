//! Readers over a body in memory that know how long decoding may still take.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::time::Instant;

use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZByteReaderTrait, ZSeekFrom};

/// A decoder sees at most this much between two looks at the clock.
const STEP: usize = 16 << 10;
/// The JPEG reader looks at the clock once in so many reads, which are of a few bytes.
const READS: u32 = 1 << 12;
/// The others once in so many, which may be of a byte (BMP) or of a whole [`STEP`].
const FILLS: u32 = 1 << 5;

/// What the readers tell about one decoding.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Instant,
    expired: Cell<bool>,
    past_end: Cell<bool>,
    reads: Cell<u32>,
}

impl Watch {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, expired: Cell::new(false), past_end: Cell::new(false), reads: Cell::new(0) }
    }

    /// Whether the time is over, looking at the clock.
    pub(super) fn expired(&self) -> bool {
        if !self.expired.get() && Instant::now() >= self.deadline {
            self.expired.set(true);
        }
        self.expired.get()
    }

    /// Whether a decoder asked for bytes that are not there.
    pub(super) fn past_end(&self) -> bool {
        self.past_end.get()
    }

    /// Counts one read; looks at the clock at every one in `every`, the first included.
    fn tick(&self, every: u32) -> bool {
        let n = self.reads.get();
        self.reads.set(n.wrapping_add(1));
        if n.is_multiple_of(every) { self.expired() } else { self.expired.get() }
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
        if self.watch.tick(FILLS) {
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

/// For zune-jpeg, which reads zeros where bytes are missing: this one remembers that it did. After the deadline the file seems to end.
#[derive(Debug)]
pub(super) struct JpegBytes<'a> {
    bytes: &'a [u8],
    at: usize,
    watch: &'a Watch,
}

impl<'a> JpegBytes<'a> {
    pub(super) fn new(bytes: &'a [u8], watch: &'a Watch) -> Self {
        Self { bytes, at: 0, watch }
    }

    fn rest(&self) -> &'a [u8] {
        if self.watch.tick(READS) { &[] } else { self.bytes.get(self.at..).unwrap_or_default() }
    }
}

impl ZByteReaderTrait for JpegBytes<'_> {
    #[inline]
    fn read_byte_no_error(&mut self) -> u8 {
        match self.rest().first() {
            Some(&byte) => {
                self.at += 1;
                byte
            }
            None => {
                self.watch.past_end.set(true);
                0
            }
        }
    }

    #[inline]
    fn read_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        self.peek_exact_bytes(buf)?;
        self.at += buf.len();
        Ok(())
    }

    fn read_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        let n = self.peek_bytes(buf)?;
        self.at += n;
        Ok(n)
    }

    fn peek_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    #[inline]
    fn peek_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        let rest = self.rest();
        match rest.get(..buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(ZByteIoError::NotEnoughBytes(rest.len(), buf.len())),
        }
    }

    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        let to = match from {
            ZSeekFrom::Start(n) => usize::try_from(n).ok(),
            ZSeekFrom::End(n) => isize::try_from(n).ok().and_then(|n| self.bytes.len().checked_add_signed(n)),
            ZSeekFrom::Current(n) => isize::try_from(n).ok().and_then(|n| self.at.checked_add_signed(n)),
        };
        self.at = to.ok_or(ZByteIoError::SeekError("seek outside of the file"))?;
        Ok(self.at as u64)
    }

    #[inline]
    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        Ok(self.rest().is_empty())
    }

    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        Ok(self.at as u64)
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        sink.extend_from_slice(rest);
        self.at += rest.len();
        Ok(rest.len())
    }
}
