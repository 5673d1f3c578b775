//! TIFF: directories that lead to each other, tags of all types and counts, strips and tiles that overlap, lie or are bombs.

use super::random::Random;
use super::{Kind, kind, png, rare};

pub(super) const KINDS: &[Kind] = &[
    kind("tiff-dimensions", "tif", dimensions),
    kind("tiff-tags", "tif", tags),
    kind("tiff-types-and-counts", "tif", types_and_counts),
    kind("tiff-samples", "tif", samples),
    kind("tiff-directories", "tif", |r| directories(r, 60)),
    kind("tiff-compressions", "tif", compressions),
    kind("tiff-strips", "tif", |r| strips(r, 200)),
    kind("tiff-tiles", "tif", tiles),
    kind("tiff-palettes", "tif", palettes),
    rare("tiff-bomb", "tif", bomb),
    rare("tiff-thousands-of-directories", "tif", |r| directories(r, 60_000)),
    rare("tiff-strips-over-one-another", "tif", |r| strips(r, 200_000)),
    rare("tiff-tile-larger-than-all", "tif", huge_tile),
    rare("tiff-many-values", "tif", many_values),
];

/// A tag: number, type, values.
type Tag = (u16, u16, Vec<u64>);

/// A file of one directory, which stands behind the data.
struct Tiff {
    little: bool,
    big: bool,
    tags: Vec<Tag>,
}

impl Tiff {
    fn number(&self, n: u64, bytes: usize) -> Vec<u8> {
        if self.little { n.to_le_bytes()[..bytes].to_vec() } else { n.to_be_bytes()[8 - bytes..].to_vec() }
    }

    /// Where the data begins.
    fn start(&self) -> u64 {
        if self.big { 16 } else { 8 }
    }

    fn file(&self, data: &[u8]) -> Vec<u8> {
        let (counter, wide) = if self.big { (8, 8) } else { (2, 4) };
        let mut file: Vec<u8> = if self.little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend(self.number(if self.big { 43 } else { 42 }, 2));
        if self.big {
            file.extend([self.number(8, 2), self.number(0, 2)].concat());
        }
        let at = self.start() + data.len() as u64;
        file.extend(self.number(at, wide));
        file.extend(data);
        let mut values_at = at + (counter + self.tags.len() * (4 + 2 * wide) + wide) as u64;
        let mut values = Vec::new();
        file.extend(self.number(self.tags.len() as u64, counter));
        for (tag, kind, list) in &self.tags {
            let size = [1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8].get(usize::from(*kind)).copied().unwrap_or(4);
            let bytes: Vec<u8> = list.iter().flat_map(|&n| self.number(n, size)).collect();
            file.extend([self.number((*tag).into(), 2), self.number((*kind).into(), 2), self.number(list.len() as u64, wide)].concat());
            if bytes.len() <= wide {
                let padding = vec![0; wide - bytes.len()];
                file.extend([bytes, padding].concat());
            } else {
                file.extend(self.number(values_at, wide));
                values_at += bytes.len() as u64;
                values.extend(bytes);
            }
        }
        file.extend(self.number(0, wide));
        file.extend(values);
        file
    }

    fn set(mut self, tag: u16, kind: u16, values: Vec<u64>) -> Self {
        self.tags.retain(|t| t.0 != tag);
        self.tags.push((tag, kind, values));
        self.tags.sort_by_key(|t| t.0);
        self
    }
}

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const COLOURS: u16 = 262;
const STRIPS: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS: u16 = 278;
const COUNTS: u16 = 279;
const PLANES: u16 = 284;
const PREDICTOR: u16 = 317;
const PALETTE: u16 = 320;
const FORMAT: u16 = 339;

/// A sound RGB picture of one strip.
fn plain(r: &mut Random, width: u64, height: u64, bytes: u64) -> Tiff {
    let tiff = Tiff { little: r.one_in(2), big: r.one_in(5), tags: Vec::new() };
    let start = tiff.start();
    tiff.set(WIDTH, 4, vec![width])
        .set(HEIGHT, 4, vec![height])
        .set(BITS, 3, vec![8, 8, 8])
        .set(COMPRESSION, 3, vec![1])
        .set(COLOURS, 3, vec![2])
        .set(STRIPS, 4, vec![start])
        .set(SAMPLES, 3, vec![3])
        .set(ROWS, 4, vec![height])
        .set(COUNTS, 4, vec![bytes])
}

fn dimensions(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, 2, 20, 5000, 10_000, 65_535, 1 << 20, i32::MAX as u64, 1 << 31, u64::from(u32::MAX), 1 << 40];
    let (width, height, data) = (*r.pick(&sides), *r.pick(&sides), vec![9; r.within(0, 5000)]);
    let rows = *r.pick(&[0, 1, 20, height]);
    plain(r, width, height, data.len() as u64).set(ROWS, *r.pick(&[3, 4]), vec![rows]).file(&data)
}

const KNOWN: [u16; 22] = [
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    COLOURS,
    STRIPS,
    SAMPLES,
    ROWS,
    COUNTS,
    PLANES,
    PREDICTOR,
    PALETTE,
    FORMAT,
    274,
    322,
    323,
    324,
    325,
    338,
    347,
    530,
    34_665,
];

/// Sound but for a few tags.
fn tags(r: &mut Random) -> Vec<u8> {
    let data = vec![9; 20 * 60];
    let mut tiff = plain(r, 20, 20, data.len() as u64);
    for _ in 0..r.within(1, 4) {
        let tag = *r.pick(&KNOWN);
        let value = r.extreme(32);
        let count = *r.pick(&[1, 1, 1, 0, 2, 3, 4, 300]);
        tiff = if r.one_in(6) {
            Tiff { tags: tiff.tags.into_iter().filter(|t| t.0 != tag).collect(), ..tiff }
        } else {
            tiff.set(tag, *r.pick(&[1, 3, 4, 16]), vec![value; count])
        };
    }
    tiff.file(&data)
}

/// Entries whose type or count are other than their values.
fn types_and_counts(r: &mut Random) -> Vec<u8> {
    let data = vec![9; 20 * 60];
    let tiff = Tiff { little: true, big: false, ..plain(r, 20, 20, data.len() as u64).set(STRIPS, 4, vec![8]) };
    let mut file = tiff.file(&data);
    let directory = 8 + data.len() + 2;
    for _ in 0..r.within(1, 3) {
        let entry = directory + 12 * r.below(tiff.tags.len());
        let (at, length) = *r.pick(&[(2, 2), (4, 4), (8, 4)]);
        let lie = r.extreme(8 * length as u32).to_le_bytes();
        file[entry + at..entry + at + length].copy_from_slice(&lie[..length]);
    }
    if r.one_in(4) {
        let lie = (r.extreme(16) as u16).to_le_bytes();
        file[directory - 2..directory].copy_from_slice(&lie);
    }
    file
}

fn samples(r: &mut Random) -> Vec<u8> {
    let count = *r.pick(&[0, 1, 2, 3, 4, 5, 6, 255, 65_535]);
    let bits = *r.pick(&[0, 1, 2, 4, 7, 8, 12, 16, 24, 32, 64, 128, 255, 65_535]);
    let length = r.within(0, 20_000);
    let data = r.bytes(length);
    let list = if r.one_in(3) { vec![bits] } else { vec![bits; (count as usize).min(2000)] };
    let width = *r.pick(&[1, 20, 33]);
    plain(r, width, 20, length as u64)
        .set(SAMPLES, 3, vec![count])
        .set(BITS, 3, list)
        .set(COLOURS, 3, vec![*r.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 32_803, 34_892])])
        .set(FORMAT, 3, vec![*r.pick(&[1, 1, 2, 3, 4, 5, 6]); if r.one_in(2) { 1 } else { count.min(2000) as usize }])
        .set(PLANES, 3, vec![*r.pick(&[1, 1, 2, 3])])
        .set(PREDICTOR, 3, vec![*r.pick(&[1, 1, 2, 3])])
        .set(338, 3, vec![*r.pick(&[0, 1, 2, 9]); r.below(4)])
        .file(&data)
}

/// Directories in a chain, in a ring, and within each other.
fn directories(r: &mut Random, most: usize) -> Vec<u8> {
    let count = r.within(1, most) as u32;
    // Each has one entry, another directory; the first also has what a picture needs.
    let first = Tiff { big: false, little: true, ..plain(r, 1, 1, 3).set(330, 4, vec![8; 3]).set(STRIPS, 4, vec![8]) };
    let mut file = first.file(&[1, 2, 3, 0]);
    let next = 8 + 4 + 2 + 12 * first.tags.len();
    let begin = file.len() as u32;
    file[next..next + 4].copy_from_slice(&begin.to_le_bytes());
    for i in 0..count {
        file.extend([1, 0]);
        file.extend([330_u16.to_le_bytes(), 4_u16.to_le_bytes()].concat());
        file.extend(1_u32.to_le_bytes());
        file.extend((begin + 18 * ((i + 1) % count)).to_le_bytes());
        let to = if i + 1 == count { *r.pick(&[0, 8, 12, begin, begin + 18 * i]) } else { begin + 18 * (i + 1) };
        file.extend(to.to_le_bytes());
    }
    if r.one_in(3) {
        // Into the header, or beyond the end.
        let lie = (r.extreme(32) as u32).to_le_bytes();
        file[4..8].copy_from_slice(&lie);
    }
    file
}

fn compressions(r: &mut Random) -> Vec<u8> {
    let compression = *r.pick(&[
        1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 32_771, 32_773, 32_773, 32_809, 32_946, 34_676, 34_712, 34_887, 34_925, 50_000, 50_001, 50_002,
    ]);
    let data = match r.below(4) {
        0 => png::zlib(&[9; 20 * 60]),
        1 => [&[0x80], [0xC5, 9].repeat(30).as_slice()].concat(),
        2 => {
            let length = r.within(0, 3000);
            r.bytes(length)
        }
        _ => {
            let mut data = png::zlib(&[9; 20 * 60]);
            data.truncate(r.below(data.len()));
            data
        }
    };
    let bits = *r.pick(&[1, 8, 8, 16]);
    let grey = bits == 1 || r.one_in(3);
    let tiff = plain(r, 20, 20, data.len() as u64).set(COMPRESSION, 3, vec![compression]);
    let tiff = if grey {
        tiff.set(COLOURS, 3, vec![0]).set(SAMPLES, 3, vec![1]).set(BITS, 3, vec![bits])
    } else {
        tiff.set(BITS, 3, vec![bits; 3])
    };
    tiff.set(PREDICTOR, 3, vec![*r.pick(&[1, 1, 2, 3])]).file(&data)
}

/// Strips of one row each, all of which are the same bytes: some that give nothing for long, then the row.
fn strips(r: &mut Random, most: usize) -> Vec<u8> {
    let height = r.within(1, most);
    let silence = r.within(0, most * 4);
    let (compression, data) = match r.below(4) {
        0 => (32_773, [vec![0x80; silence], vec![0xC5, 9]].concat()),
        // Stored blocks of no bytes.
        1 => (8, [vec![0x78, 0x01], [0, 0, 0, 0xFF, 0xFF].repeat(silence / 5), png::zlib(&[9; 60])[2..].to_vec()].concat()),
        // LZW: clear codes, of nine bits each.
        2 => (5, [[0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01, 0x00].repeat(silence / 9 + 1), vec![0x80, 0, 0, 0]].concat()),
        _ => (1, vec![9; 60]),
    };
    let tiff = plain(r, 20, height as u64, data.len() as u64);
    let (start, count) = (tiff.start(), if r.one_in(8) { height + 1 } else { height });
    let offset = if r.one_in(8) { r.extreme(32) } else { start };
    let length = if r.one_in(8) { r.extreme(32) } else { data.len() as u64 };
    tiff.set(ROWS, 4, vec![1])
        .set(STRIPS, 4, vec![offset; count])
        .set(COUNTS, 4, vec![length; count])
        .set(COMPRESSION, 3, vec![compression])
        .file(&data)
}

fn tiles(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, 7, 16, 32, 4096, 1 << 20, u64::from(u32::MAX)];
    let data = vec![9; r.within(0, 60_000)];
    let (width, height) = (*r.pick(&[1, 20, 100]), *r.pick(&[1, 20, 100]));
    let (w, h): (u64, u64) = (*r.pick(&sides), *r.pick(&sides));
    let needed = if w == 0 || h == 0 { 1 } else { (u64::div_ceil(width, w) * u64::div_ceil(height, h)) as usize };
    let count = if r.one_in(6) { r.below(9) } else { needed };
    let tiff = plain(r, width, height, data.len() as u64);
    let start = tiff.start();
    let tags = tiff.tags.iter().filter(|t| ![STRIPS, ROWS, COUNTS].contains(&t.0)).cloned().collect();
    Tiff { tags, ..tiff }
        .set(322, 4, vec![w])
        .set(323, 4, vec![h])
        .set(324, 4, vec![start; count])
        .set(325, 4, vec![data.len() as u64; count])
        .file(&data)
}

fn palettes(r: &mut Random) -> Vec<u8> {
    let bits = *r.pick(&[1, 2, 4, 8, 16, 32]);
    let count = *r.pick(&[0, 1, 3, 6, 48, 767, 768, 769, 4000]);
    let data = vec![200; 20 * 20 * 4];
    let tiff =
        plain(r, 20, 20, data.len() as u64).set(SAMPLES, 3, vec![*r.pick(&[1, 1, 2])]).set(BITS, 3, vec![bits]).set(COLOURS, 3, vec![3]);
    (if r.one_in(5) { tiff } else { tiff.set(PALETTE, *r.pick(&[3, 3, 4, 1]), vec![300; count]) }).file(&data)
}

/// As many pixels as the default limit allows, out of kilobytes.
fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (50_000_000, 1), (1, 50_000_000), (70_000, 70_000)]);
    let (compression, data) = match r.below(4) {
        0 => (8, png::zeros(150 << 20)),
        1 => (32_773, [0x81, 9].repeat(1_200_000)),
        2 => (8, png::zeros(1 << 20)),
        _ => (1, vec![1; 1000]),
    };
    plain(r, width, height, data.len() as u64).set(COMPRESSION, 3, vec![compression]).file(&data)
}

/// A tile whose padding is most of it, as a bomb.
fn huge_tile(r: &mut Random) -> Vec<u8> {
    let data = png::zeros(r.within(1 << 28, 1 << 30));
    let tiff = plain(r, 20, 20, data.len() as u64);
    let start = tiff.start();
    let tags = tiff.tags.iter().filter(|t| ![STRIPS, ROWS, COUNTS].contains(&t.0)).cloned().collect();
    Tiff { tags, ..tiff }
        .set(COMPRESSION, 3, vec![8])
        .set(322, 4, vec![*r.pick(&[1 << 24, 1 << 30, 1 << 31])])
        .set(323, 4, vec![*r.pick(&[20, 1 << 24])])
        .set(324, 4, vec![start])
        .set(325, 4, vec![data.len() as u64])
        .file(&data)
}

/// A tag that the reader must have whole, with as many values as may be.
fn many_values(r: &mut Random) -> Vec<u8> {
    let tag = *r.pick(&[BITS, FORMAT, STRIPS, COUNTS, 338, PALETTE, 530, 700, 34_675]);
    let kind = *r.pick(&[1, 3, 4]);
    let count = *r.pick(&[250_000, 500_000, 1_000_000, 1_048_576, 2_000_000]);
    plain(r, 20, 20, 20 * 60).set(tag, kind, vec![8; count]).file(&[9; 20 * 60])
}
