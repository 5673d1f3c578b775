//! A stream of pictures as raw bytes, for a trainer that reads a pipe.
//!
//! All numbers are little-endian. The header:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LKSURF01` |
//! | 4 | side of each picture in pixels |
//! | 4 | number of classes |
//! | 8 | the first picture's number |
//! | 8 | how many pictures follow |
//! | 2 + n, for each class | the label's length, and the label in UTF-8 |
//!
//! Then for each picture 2 bytes, the place of its class in the header's list, and `side * side * 3` bytes of red, green and blue, row by row.
//!
//! Every run of as many pictures as there are classes holds each class once, in an order drawn from the seed. A picture depends on its number and the seed
//! alone: a stream that starts at a later number goes on where another one stopped, and threads change nothing.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::sync_channel;

use image::{ImageError, RgbImage};

use crate::{Class, Rng, draw, draw_augmented};

const MAGIC: &[u8; 8] = b"LKSURF01";
/// How many pictures a thread draws before it hands them on.
const CHUNK: u64 = 16;

/// What is in a stream.
#[derive(Clone, Debug)]
pub struct Stream {
    pub classes: Vec<Class>,
    pub seed: u64,
    pub start: u64,
    pub count: u64,
    pub side: u32,
    /// Pictures to train on, by [`draw_augmented`]; else ordinary ones.
    pub augment: bool,
}

impl Stream {
    /// The place in `classes` of picture `number`'s class; 0 if there are none.
    #[must_use]
    pub fn class_of(&self, number: u64) -> usize {
        let classes = self.classes.len().max(1) as u64;
        let mut order: Vec<usize> = (0..classes as usize).collect();
        Rng::new(&[self.seed, number / classes, 2]).shuffle(&mut order);
        order[(number % classes) as usize]
    }

    /// Picture `number` and the place of its class.
    ///
    /// # Errors
    /// If there are no classes, or the side is 0 or above 65,535.
    pub fn picture(&self, number: u64) -> Result<(usize, RgbImage), Error> {
        let place = self.class_of(number);
        let class = *self.classes.get(place).ok_or(Error::NoClasses)?;
        let seed = Rng::new(&[self.seed, number, 3]).bits();
        let picture = if self.augment { draw_augmented(class, seed, self.side) } else { draw(class, seed, self.side, self.side) };
        Ok((place, picture?))
    }

    /// Writes header and pictures, drawn by `threads` threads.
    ///
    /// # Errors
    /// As [`Stream::picture`], and if `out` cannot be written.
    pub fn write(&self, threads: NonZeroUsize, out: &mut impl Write) -> Result<(), Error> {
        self.write_header(out)?;
        let (chunks, threads) = (self.count.div_ceil(CHUNK), threads.get() as u64);
        std::thread::scope(|scope| {
            let queues: Vec<_> = (0..threads)
                .map(|thread| {
                    let (sender, receiver) = sync_channel(2);
                    scope.spawn(move || {
                        for chunk in (thread..chunks).step_by(threads as usize) {
                            if sender.send(self.chunk(chunk)).is_err() {
                                return; // nobody reads any more
                            }
                        }
                    });
                    receiver
                })
                .collect();
            for chunk in 0..chunks {
                let drawn = queues[(chunk % threads) as usize].recv().map_err(|_| Error::Stopped)?;
                out.write_all(&drawn?)?;
            }
            Ok(out.flush()?)
        })
    }

    fn chunk(&self, chunk: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for number in chunk * CHUNK..((chunk + 1) * CHUNK).min(self.count) {
            let (place, picture) = self.picture(self.start + number)?;
            bytes.extend((place as u16).to_le_bytes());
            bytes.extend(picture.as_raw());
        }
        Ok(bytes)
    }

    fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&self.side.to_le_bytes())?;
        out.write_all(&(self.classes.len() as u32).to_le_bytes())?;
        out.write_all(&self.start.to_le_bytes())?;
        out.write_all(&self.count.to_le_bytes())?;
        for class in &self.classes {
            out.write_all(&(class.label().len() as u16).to_le_bytes())?;
            out.write_all(class.label().as_bytes())?;
        }
        Ok(())
    }
}

/// Reads what [`Stream::write`] wrote.
pub struct Reader<R> {
    input: R,
    left: u64,
    pub side: u32,
    pub start: u64,
    pub labels: Vec<String>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If the input cannot be read or is no such stream.
    pub fn new(mut input: R) -> io::Result<Self> {
        if &take::<8>(&mut input)? != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a stream of surfaces: it does not begin with LKSURF01"));
        }
        let side = u32::from_le_bytes(take(&mut input)?);
        let classes = u32::from_le_bytes(take(&mut input)?);
        let start = u64::from_le_bytes(take(&mut input)?);
        let left = u64::from_le_bytes(take(&mut input)?);
        let mut labels = Vec::new();
        for _ in 0..classes {
            let mut label = vec![0; usize::from(u16::from_le_bytes(take(&mut input)?))];
            input.read_exact(&mut label)?;
            labels.push(String::from_utf8(label).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?);
        }
        Ok(Self { input, left, side, start, labels })
    }

    /// The next picture and the place of its class, until there are no more.
    ///
    /// # Errors
    /// If the input cannot be read, ends early, or names a class that its header does not.
    pub fn next_picture(&mut self) -> io::Result<Option<(usize, RgbImage)>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = usize::from(u16::from_le_bytes(take(&mut self.input)?));
        let mut picture = RgbImage::new(self.side, self.side);
        self.input.read_exact(&mut picture)?;
        if place >= self.labels.len() {
            let message = format!("a picture of class {place}, but the stream has {} classes", self.labels.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Some((place, picture)))
    }
}

fn take<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Why a stream was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there are no classes to draw; name at least one")]
    NoClasses,
    #[error("cannot draw a picture: {0}")]
    Picture(#[from] ImageError),
    #[error("cannot write the stream: {0}")]
    Io(#[from] io::Error),
    #[error("a thread that draws has stopped; what it said stands above")]
    Stopped,
}
