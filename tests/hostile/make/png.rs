//! PNG: bombs of zlib in all the chunks that hold it, chunks in all orders and of all lengths.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::random::Random;
use super::{Kind, kind, rare, sound_of};

pub(super) const KINDS: &[Kind] = &[
    kind("png-dimensions", "png", dimensions),
    kind("png-colour-types", "png", colour_types),
    kind("png-chunks", "png", chunks),
    kind("png-chunk-lengths", "png", chunk_lengths),
    kind("png-too-much-data", "png", |r| too_much(r, 2 << 20)),
    kind("png-animation", "png", animation),
    kind("png-text", "png", |r| ancillary(r, 1 << 20)),
    kind("png-damaged-zlib", "png", damaged_zlib),
    rare("png-bomb", "png", bomb),
    rare("png-profile-bomb", "png", |r| ancillary(r, 180 << 20)),
    rare("png-many-chunks", "png", many_chunks),
    rare("png-gigabyte-behind-the-picture", "png", |r| too_much(r, 1 << 30)),
];

pub fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes(), name.as_slice(), body, &crc.sum().to_be_bytes()].concat()
}

fn header(width: u32, height: u32, depth: u8, colour: u8, interlaced: u8) -> Vec<u8> {
    let rest = [depth, colour, 0, 0, interlaced];
    chunk(b"IHDR", &[width.to_be_bytes().as_slice(), &height.to_be_bytes(), &rest].concat())
}

fn file(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat(), &chunk(b"IEND", b"")].concat()
}

/// `count` zero bytes, compressed by about 1000.
pub fn zeros(count: usize) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::new(6));
    let piece = vec![0; 1 << 16];
    for begin in (0..count).step_by(piece.len()) {
        out.write_all(&piece[..piece.len().min(count - begin)]).unwrap();
    }
    out.finish().unwrap()
}

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::new(6));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn dimensions(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, 2, 7, 9, 257, 5000, 10_000, 65_535, 1 << 24, i32::MAX as u32, 1 << 31, u32::MAX];
    let (width, height) = (*r.pick(&sides), *r.pick(&sides));
    let data = r.within(0, 100_000);
    file(&[header(width, height, 8, *r.pick(&[0, 2, 4, 6]), r.below(2) as u8), chunk(b"IDAT", &zeros(data))])
}

fn colour_types(r: &mut Random) -> Vec<u8> {
    let (depth, colour) = (*r.pick(&[0, 1, 2, 3, 4, 8, 16, 32, 255]), *r.pick(&[0, 1, 2, 3, 3, 4, 5, 6, 7, 255]));
    let length = *r.pick(&[0, 1, 3, 6, 48, 767, 768, 771, 3000]);
    let mut parts = vec![header(r.within(1, 40) as u32, r.within(1, 40) as u32, depth, colour, *r.pick(&[0, 0, 1, 2]))];
    if r.one_in(2) {
        parts.push(chunk(b"PLTE", &r.bytes(length)));
    }
    if r.one_in(2) {
        let length = *r.pick(&[0, 1, 2, 6, 256, 257]);
        parts.push(chunk(b"tRNS", &r.bytes(length)));
    }
    let length = r.within(0, 14_000);
    parts.push(chunk(b"IDAT", &zlib(&r.bytes(length))));
    file(&parts)
}

/// The chunks of a sound file.
fn split(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[8..];
    let mut parts = Vec::new();
    while let Some(length) = rest.first_chunk::<4>() {
        let (one, after) = rest.split_at((u32::from_be_bytes(*length) as usize + 12).min(rest.len()));
        parts.push(one.to_vec());
        rest = after;
    }
    parts
}

/// Chunks out of order, twice, left out, and renamed.
fn chunks(r: &mut Random) -> Vec<u8> {
    let mut parts = split(sound_of(r, "png"));
    for _ in 0..r.within(1, 4) {
        let (at, to) = (r.below(parts.len()), r.below(parts.len()));
        match r.below(5) {
            0 => parts.swap(at, to),
            1 => parts.insert(to, parts[at].clone()),
            2 if parts.len() > 1 => drop(parts.remove(at)),
            3 => {
                let name = r.pick(&[b"IDAT", b"IEND", b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"fdAT", b"zTXt", b"abcd", b"ABCD"]);
                let body = parts[at][8..parts[at].len() - 4].to_vec();
                parts[at] = chunk(name, &body);
            }
            _ => {
                let last = parts[at].len() - 1;
                parts[at][last] ^= 1;
            }
        }
    }
    [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
}

fn chunk_lengths(r: &mut Random) -> Vec<u8> {
    let mut parts = split(sound_of(r, "png"));
    let at = r.below(parts.len());
    let lie = (r.extreme(32) as u32).to_be_bytes();
    parts[at][..4].copy_from_slice(&lie);
    [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
}

/// More than the picture holds.
fn too_much(r: &mut Random, most: usize) -> Vec<u8> {
    let data = r.within(most / 2, most);
    file(&[header(r.within(1, 30) as u32, r.within(1, 30) as u32, 8, 2, r.below(2) as u8), chunk(b"IDAT", &zeros(data))])
}

fn animation(r: &mut Random) -> Vec<u8> {
    let frames = r.extreme(32) as u32;
    let mut parts = vec![header(20, 20, 8, 2, 0), chunk(b"acTL", &[frames.to_be_bytes(), 0_u32.to_be_bytes()].concat())];
    for n in 0..r.within(0, 200) as u32 {
        let side = |r: &mut Random| if r.one_in(20) { r.extreme(32) as u32 } else { 20 };
        let fields = [n, side(r), side(r), if r.one_in(20) { r.extreme(32) as u32 } else { 0 }, 0];
        let control: Vec<u8> = fields.iter().flat_map(|f| f.to_be_bytes()).collect();
        parts.push(chunk(b"fcTL", &[control.as_slice(), &[0, 1, 0, 1, 0, 0]].concat()));
        let body = zeros(20 * 61);
        parts.push(if n == 0 { chunk(b"IDAT", &body) } else { chunk(b"fdAT", &[&n.to_be_bytes(), body.as_slice()].concat()) });
    }
    file(&parts)
}

/// Profiles and texts that are inflated, or kept as they are.
fn ancillary(r: &mut Random, most: usize) -> Vec<u8> {
    let bomb = zeros(r.within(most / 2, most));
    let mut parts = vec![header(*r.pick(&[20, 3000]), 20, 8, 2, 0)];
    for _ in 0..*r.pick(&[1, 1, 2, 10]) {
        parts.push(match r.below(4) {
            0 => chunk(b"iCCP", &[b"name\0\0", bomb.as_slice()].concat()),
            1 => chunk(b"zTXt", &[b"Raw profile type iptc\0\0", bomb.as_slice()].concat()),
            2 => chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\x01\0\0\0", bomb.as_slice()].concat()),
            _ => chunk(
                b"eXIf",
                &[b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\x08", vec![0; most.min(1 << 20)].as_slice()].concat(),
            ),
        });
    }
    parts.push(chunk(b"IDAT", &zeros(20 * 9001)));
    file(&parts)
}

fn damaged_zlib(r: &mut Random) -> Vec<u8> {
    let pixels = r.bytes(30 * 91);
    let mut data = zlib(&pixels);
    for _ in 0..r.within(1, 5) {
        let at = r.below(data.len());
        data[at] = r.extreme(8) as u8;
    }
    if r.one_in(3) {
        data.truncate(r.below(data.len()));
    }
    file(&[header(30, 30, 8, 2, 0), chunk(b"IDAT", &data)])
}

/// As many pixels as the default limit allows, out of kilobytes.
fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (50_000_000, 1), (1, 50_000_000), (10_000, 5000), (50_000, 50_000), (1, 50_000_001)]);
    let (depth, colour) = *r.pick(&[(8, 2), (8, 0), (1, 0), (16, 6), (8, 6), (1, 3), (16, 0)]);
    let data = if r.one_in(3) { 1 << 20 } else { 160 << 20 };
    let palette = chunk(b"PLTE", &[1; 768]);
    file(&[header(width, height, depth, colour, u8::from(r.one_in(3))), palette, chunk(b"IDAT", &zeros(data))])
}

fn many_chunks(r: &mut Random) -> Vec<u8> {
    let one = match r.below(5) {
        0 => chunk(b"IDAT", b""),
        1 => chunk(b"tEXt", b"a\0b"),
        2 => chunk(b"zTXt", &[b"a\0\0", zeros(5000).as_slice()].concat()),
        3 => chunk(b"abCd", b""),
        _ => chunk(b"sPLT", b"a\0\x08"),
    };
    let count = r.within(100_000, 500_000);
    file(&[header(20, 20, 8, 2, 0), one.repeat(count), chunk(b"IDAT", &zeros(20 * 61))])
}
