//! The first directory of a TIFF (TIFF 6.0, section 2) or BigTIFF, read without making room for anything that it asks for: the `tiff` crate reads
//! whole tags into memory as it opens a file.

use crate::preprocess::{Failure, Size};

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const COLOURS: u16 = 262;
const SAMPLES: u16 = 277;
const PALETTE: u16 = 320;
const TILE_WIDTH: u16 = 322;
/// Offsets and lengths of strips, then of tiles.
const CHUNKS: [u16; 4] = [273, 279, 324, 325];
/// Tags of a few values at most that the crate reads: sizes, bits, compression, colours, orientation, samples, rows, planes, predictor, extra samples,
/// formats, JPEG tables, subsampling.
const SHORT: [u16; 17] = [256, 257, 258, 259, 262, 274, 277, 278, 284, 317, 322, 323, 338, 339, 347, 512, 530];
/// Most values of those. A picture has at most [`MOST_SAMPLES`] samples a pixel.
const MOST_VALUES: u64 = 64;
const MOST_SAMPLES: usize = 16;
/// Most entries of a directory; real ones have dozens.
const MOST_ENTRIES: u64 = 4096;
/// What the crate takes for a value of a tag: one of its own, of 32 bytes, and two copies as a number.
const VALUE: usize = 48;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    /// Type of the values.
    kind: u16,
    count: u64,
    /// Where the values stand.
    at: u64,
}

impl Entry {
    /// Bytes of a value; 0 for types that do not exist.
    fn size(&self) -> u64 {
        match self.kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 0,
        }
    }
}

/// The first directory of a file.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    big: bool,
    entries: Vec<Entry>,
}

impl<'a> Directory<'a> {
    /// # Errors
    /// Files that end too early, and directories that ask for more than a picture needs.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Failure> {
        let mut directory = Self { bytes, little: bytes.starts_with(b"II"), big: false, entries: Vec::new() };
        directory.read_entries().ok_or_else(|| Failure::corrupt("the TIFF ends before its first directory does"))?;
        let too_many = |e: &&Entry| e.count > bytes.len() as u64 || SHORT.contains(&e.tag) && e.count > MOST_VALUES;
        if let Some(Entry { tag, count, .. }) = directory.entries.iter().find(too_many) {
            return Err(Failure::corrupt(format!("the TIFF's tag {tag} says that it has {count} values")));
        }
        // The pictures inside would be decoded with no bound on their size.
        if matches!(directory.first(COMPRESSION), Some(6 | 7)) {
            return Err(Failure::corrupt("TIFF with JPEG compression is not supported"));
        }
        Ok(directory)
    }

    /// `None` if the file is too short, or the directory too long.
    fn read_entries(&mut self) -> Option<()> {
        self.big = self.number(2, 2)? == 43;
        let (counter, wide) = if self.big { (8, 8) } else { (2, 4) };
        let directory = self.number(wide, wide)?;
        let count = self.number(directory, counter).filter(|&n| n <= MOST_ENTRIES)?;
        for i in 0..count {
            let at = directory.checked_add(counter + (4 + 2 * wide) * i)?;
            let value = at.checked_add(4 + wide)?;
            let (tag, kind) = (self.number(at, 2)? as u16, self.number(at + 2, 2)? as u16);
            let mut entry = Entry { tag, kind, count: self.number(at + 4, wide)?, at: value };
            if entry.size().saturating_mul(entry.count) > wide {
                entry.at = self.number(value, wide)?;
            }
            self.entries.push(entry);
        }
        Some(())
    }

    /// `length` bytes (at most 8) as a number in the file's byte order.
    fn number(&self, at: u64, length: u64) -> Option<u64> {
        let start = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(length as usize)?)?;
        let push = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if self.little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) })
    }

    fn entry(&self, tag: u16) -> Option<&Entry> {
        // Of several the crate takes the last.
        self.entries.iter().rfind(|e| e.tag == tag)
    }

    /// The first value of a tag.
    fn first(&self, tag: u16) -> Option<u64> {
        let entry = self.entry(tag).filter(|e| e.count > 0)?;
        self.number(entry.at, entry.size())
    }

    /// All values of a tag together, as far as they are in the file.
    fn sum(&self, tag: u16) -> u64 {
        let Some(entry) = self.entry(tag) else { return 0 };
        let values = (0..entry.count).map_while(|i| self.number(entry.at.checked_add(i * entry.size())?, entry.size()));
        values.fold(0, u64::saturating_add)
    }

    /// Where the directory says that the picture has a palette (classic TIFF only).
    pub(super) fn palette(&self) -> Option<usize> {
        let entry = self.entry(COLOURS).filter(|e| !self.big && e.kind == 3)?;
        (self.first(COLOURS)? == 3).then_some(usize::try_from(entry.at).ok()?)
    }

    /// The picture's size, and what it takes to decode it.
    ///
    /// # Errors
    /// What is missing, contradicts itself, or is not supported.
    pub(super) fn size(&self) -> Result<Size, Failure> {
        let side = |tag| self.first(tag).and_then(|n| u32::try_from(n).ok());
        let (Some(width), Some(height)) = (side(WIDTH), side(HEIGHT)) else {
            return Err(Failure::corrupt("the TIFF does not say how large it is"));
        };
        if width == 0 || height == 0 {
            return Err(Failure::corrupt("the TIFF's width or height is 0"));
        }
        let number = |tag| self.first(tag).map_or(1, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let (samples, bits) = (number(SAMPLES), number(BITS));
        if samples > MOST_SAMPLES || bits > 64 {
            return Err(Failure::corrupt(format!("TIFF with {samples} samples a pixel of {bits} bits is not supported")));
        }
        let per_pixel = samples * bits.div_ceil(8);
        let pixels = (width as usize).saturating_mul(height as usize);
        // Strips that lie over one another would be decoded over and over.
        let stored = CHUNKS.iter().skip(1).step_by(2).map(|&tag| self.sum(tag)).fold(0, u64::saturating_add);
        let whole = (self.bytes.len() as u64).saturating_add(pixels.saturating_mul(per_pixel) as u64);
        if self.first(COMPRESSION).unwrap_or(1) != 1 && stored > whole {
            return Err(Failure::corrupt(format!("the TIFF's strips or tiles have {stored} bytes, more than file and picture together")));
        }
        // The samples, the RGB picture where it is not made in their place, rows of a chunk, the tags' values, and the copy that is read for a palette.
        let picture = if per_pixel == 3 { 0 } else { 3 };
        let chunk = self.first(TILE_WIDTH).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let rows = chunk.max(width as usize).saturating_mul(per_pixel).saturating_mul(4);
        let listed = self.entries.iter().filter(|e| CHUNKS.contains(&e.tag) || e.tag == PALETTE).map(|e| e.count as usize * VALUE);
        let copy = if self.palette().is_some() { self.bytes.len() } else { 0 };
        let parts = [rows, listed.fold(0, usize::saturating_add), copy, 4 << 20];
        let bytes = parts.into_iter().fold(pixels.saturating_mul(per_pixel + picture), usize::saturating_add);
        Ok(Size { width, height, bytes })
    }
}
