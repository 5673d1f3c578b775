//! A reader over a body in memory that knows how long decoding may still take.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::time::Instant;

/// A decoder sees at most this much between two looks at the clock.
const STEP: usize = 16 << 10;

/// How long one decoding may still take.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Instant,
    expired: Cell<bool>,
}

impl Watch {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, expired: Cell::new(false) }
    }

    /// Whether the time is over, looking at the clock.
    pub(super) fn expired(&self) -> bool {
        if !self.expired.get() && Instant::now() >= self.deadline {
            self.expired.set(true);
        }
        self.expired.get()
    }
}

/// For the decoders over `std::io`: fails with `TimedOut` after the deadline. The clock is looked at whenever a new piece is begun; within it
/// reads of a few bytes, of which some decoders make one a pixel, cost no more than copying.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Up to here the bytes may be read without a look at the clock; not beyond the end.
    until: usize,
    watch: &'a Watch,
}

impl<'a> Watched<'a> {
    pub(super) fn new(bytes: &'a [u8], watch: &'a Watch) -> Self {
        Self { bytes, at: 0, until: 0, watch }
    }

    /// What may be read now; empty only at the end.
    #[inline]
    fn piece(&mut self) -> io::Result<&'a [u8]> {
        if self.at >= self.until {
            self.begin()?;
        }
        Ok(self.bytes.get(self.at..self.until).unwrap_or_default())
    }

    #[cold]
    fn begin(&mut self) -> io::Result<()> {
        if self.watch.expired() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.until = self.at.saturating_add(STEP).min(self.bytes.len());
        Ok(())
    }
}

impl Read for Watched<'_> {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece()?;
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        self.at += n;
        Ok(n)
    }

    #[inline]
    fn read_exact(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        // A length that the decoder's code fixes stays one here, so that copying needs no call.
        if let Some(bytes) = self.bytes.get(self.at..self.until).and_then(|piece| piece.get(..buf.len())) {
            buf.copy_from_slice(bytes);
            self.at += buf.len();
            return Ok(());
        }
        while !buf.is_empty() {
            let n = self.read(buf)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[n..];
        }
        Ok(())
    }
}

impl BufRead for Watched<'_> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.piece()
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(n) => usize::try_from(n).ok(),
            SeekFrom::End(n) => isize::try_from(n).ok().and_then(|n| self.bytes.len().checked_add_signed(n)),
            SeekFrom::Current(n) => isize::try_from(n).ok().and_then(|n| self.at.checked_add_signed(n)),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        self.until = 0;
        Ok(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn far() -> Watch {
        Watch::until(Instant::now() + Duration::from_secs(600))
    }

    #[test]
    fn after_the_deadline_reading_fails_at_the_next_piece() {
        let bytes = vec![7; 3 * STEP];
        let watch = Watch::until(Instant::now() + Duration::from_millis(50));
        let mut reader = Watched::new(&bytes, &watch);
        reader.read_exact(&mut [0; 10]).expect("in time");
        std::thread::sleep(Duration::from_millis(60));
        let mut rest = Vec::new();
        assert_eq!(reader.read_to_end(&mut rest).expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert!(rest.len() < STEP);
        // Going back does not help.
        reader.rewind().expect("a place");
        assert_eq!(reader.read(&mut [0]).expect_err("too late").kind(), io::ErrorKind::TimedOut);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn it_reads_as_a_cursor_does(length in 0..3 * STEP, steps in prop::collection::vec((0..5, -40_000..40_000_i64), 1..40)) {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 / 3) as u8).collect();
            let watch = far();
            let (mut ours, mut theirs) = (Watched::new(&bytes, &watch), io::Cursor::new(bytes.as_slice()));
            for (kind, n) in steps {
                match kind {
                    0 => {
                        let (mut a, mut b) = (vec![0; n.unsigned_abs() as usize], vec![0; n.unsigned_abs() as usize]);
                        let (x, y) = (ours.read_exact(&mut a), theirs.read_exact(&mut b));
                        prop_assert_eq!(x.as_ref().map_err(io::Error::kind), y.as_ref().map_err(io::Error::kind));
                        if x.is_ok() {
                            prop_assert_eq!(a, b);
                        } else {
                            // Where a failed read leaves the place is not said.
                            prop_assert_eq!(ours.rewind().ok(), theirs.rewind().ok());
                        }
                    }
                    1 => {
                        let mut a = [0; 100];
                        let n = ours.read(&mut a).expect("in time");
                        let mut b = vec![0; n];
                        theirs.read_exact(&mut b).expect("as much");
                        prop_assert_eq!(&a[..n], b);
                        prop_assert!(n > 0 || theirs.fill_buf().expect("bytes").is_empty());
                    }
                    2 => {
                        let a = ours.fill_buf().expect("in time").len().min(50);
                        prop_assert_eq!(&ours.fill_buf().expect("in time")[..a], &theirs.fill_buf().expect("bytes")[..a]);
                        ours.consume(a);
                        theirs.consume(a);
                    }
                    3 => prop_assert_eq!(ours.seek(SeekFrom::Current(n)).ok(), theirs.seek(SeekFrom::Current(n)).ok()),
                    _ => {
                        let to = if n % 2 == 0 { SeekFrom::End(n) } else { SeekFrom::Start(n.unsigned_abs()) };
                        prop_assert_eq!(ours.seek(to).ok(), theirs.seek(to).ok());
                    }
                }
            }
        }
    }
}
