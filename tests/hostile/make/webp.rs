//! WebP: chunks whose lengths lie, nesting, animations, and lossless pictures that are mostly code tables.

use super::random::Random;
use super::vp8l::{self, Lossless};
use super::{Kind, kind, rare, sound_of};

pub(super) const KINDS: &[Kind] = &[
    kind("webp-lossless", "webp", |r| lossless(r, 60)),
    kind("webp-chunks", "webp", chunks),
    kind("webp-chunk-lengths", "webp", chunk_lengths),
    kind("webp-animation", "webp", animation),
    kind("webp-nested", "webp", nested),
    kind("webp-canvas", "webp", canvas),
    kind("webp-lossy-header", "webp", lossy_header),
    rare("webp-bomb", "webp", bomb),
    rare("webp-code-tables", "webp", code_tables),
    kind("webp-few-code-tables", "webp", |r| file(&[chunk(b"VP8L", &vp8l::many_tables(r.within(1, 300) as u32, r.one_in(2)))])),
    rare("webp-many-chunks", "webp", many_chunks),
    rare("webp-frames-in-frames", "webp", frames_in_frames),
];

pub fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let pad: &[u8] = if body.len() % 2 == 1 { &[0] } else { &[] };
    [name.as_slice(), &(body.len() as u32).to_le_bytes(), body, pad].concat()
}

pub fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"RIFF", &[b"WEBP".as_slice(), &chunks.concat()].concat())
}

fn three(n: u32) -> [u8; 3] {
    let [a, b, c, _] = n.to_le_bytes();
    [a, b, c]
}

fn extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
    chunk(b"VP8X", &[&[flags, 0, 0, 0], three(width.wrapping_sub(1)).as_slice(), &three(height.wrapping_sub(1))].concat())
}

fn lossless(r: &mut Random, most: usize) -> Vec<u8> {
    let picture = Lossless { width: r.within(1, most) as u32, height: r.within(1, most) as u32, ..Lossless::any(r) };
    let mut body = picture.encoded(r);
    if r.one_in(3) {
        body.truncate(r.below(body.len()));
    }
    if r.one_in(2) { file(&[chunk(b"VP8L", &body)]) } else { file(&[extended(0x10, picture.width, picture.height), chunk(b"VP8L", &body)]) }
}

/// The chunks of a sound file.
fn split(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[12..];
    let mut parts = Vec::new();
    while let Some(head) = rest.first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (one, after) = rest.split_at((8 + length + length % 2).min(rest.len()));
        parts.push(one.to_vec());
        rest = after;
    }
    parts
}

fn chunks(r: &mut Random) -> Vec<u8> {
    let mut parts = split(sound_of(r, "webp"));
    for _ in 0..r.within(1, 4) {
        let (at, to) = (r.below(parts.len()), r.below(parts.len()));
        match r.below(4) {
            0 => parts.swap(at, to),
            1 => parts.insert(to, parts[at].clone()),
            2 if parts.len() > 1 => drop(parts.remove(at)),
            _ => {
                let name = r.pick(&[b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"XMP ", b"RIFF", b"abcd"]);
                parts[at][..4].copy_from_slice(name.as_slice());
            }
        }
    }
    if r.one_in(2) {
        let flags = r.extreme(8) as u8;
        parts.insert(0, extended(flags, r.within(1, 60) as u32, r.within(1, 60) as u32));
    }
    file(&parts)
}

fn chunk_lengths(r: &mut Random) -> Vec<u8> {
    let mut parts = split(sound_of(r, "webp"));
    if r.one_in(2) {
        // Metadata of which the header says that it is there.
        parts.insert(0, extended(0x3C, 40, 30));
        let length = (r.extreme(32) as u32).to_le_bytes();
        parts.push([r.pick(&[b"EXIF", b"ICCP", b"XMP "]).as_slice(), &length, &[0; 40]].concat());
    } else {
        let at = r.below(parts.len());
        let lie = (r.extreme(32) as u32).to_le_bytes();
        parts[at][4..8].copy_from_slice(&lie);
    }
    let mut file = file(&parts);
    if r.one_in(4) {
        let lie = (r.extreme(32) as u32).to_le_bytes();
        file[4..8].copy_from_slice(&lie);
    }
    file
}

fn frame(r: &mut Random, width: u32, height: u32) -> Vec<u8> {
    let side = |r: &mut Random, side: u32| if r.one_in(6) { r.extreme(24) as u32 } else { side };
    let (w, h) = (side(r, width), side(r, height));
    let place = if r.one_in(6) { r.extreme(24) as u32 } else { 0 };
    let head = [three(place), three(0), three(w.wrapping_sub(1)), three(h.wrapping_sub(1)), three(10)].concat();
    let picture = Lossless { width, height, ..Lossless::plain() }.encoded(r);
    let inside = match r.below(4) {
        0 => chunk(b"ALPH", &[&[1], picture.as_slice()].concat()),
        1 => chunk(b"VP8 ", &[0x10, 0, 0, 0x9d, 0x01, 0x2a, w as u8, (w >> 8) as u8, h as u8, (h >> 8) as u8, 0, 0, 0, 0, 0, 0]),
        _ => chunk(b"VP8L", &picture),
    };
    chunk(b"ANMF", &[head.as_slice(), &[0], &inside, &inside].concat())
}

fn animation(r: &mut Random) -> Vec<u8> {
    let mut parts = vec![extended(0x12, 40, 30), chunk(b"ANIM", &[0, 0, 0, 0, 0, 0])];
    for _ in 0..*r.pick(&[0, 1, 2, 500]) {
        parts.push(frame(r, 40, 30));
    }
    file(&parts)
}

/// Files within files' chunks.
fn nested(r: &mut Random) -> Vec<u8> {
    let mut inner = sound_of(r, "webp").to_vec();
    for _ in 0..r.within(1, 2000) {
        inner = match r.below(3) {
            0 => chunk(b"RIFF", &inner),
            1 => chunk(b"ANMF", &[&[0; 16], inner.as_slice()].concat()),
            _ => chunk(b"LIST", &inner),
        };
    }
    file(&[extended(0x02, 40, 30), chunk(b"ANIM", &[0; 6]), inner])
}

/// Frames that hold nothing but a frame, a million deep.
fn frames_in_frames(r: &mut Random) -> Vec<u8> {
    let depth = r.within(600_000, 1_200_000);
    // A frame has a header of 8 bytes and 16 bytes of its own.
    let frame = |inside: usize| [b"ANMF".as_slice(), &(16 + 24 * inside as u32).to_le_bytes(), &[0; 16]].concat();
    let frames: Vec<u8> = (0..depth).rev().flat_map(frame).collect();
    file(&[extended(0x02, 40, 30), chunk(b"ANIM", &[0; 6]), frames])
}

fn canvas(r: &mut Random) -> Vec<u8> {
    let sides = [1, 2, 40, 16_383, 16_384, 65_536, 1 << 24];
    let (width, height) = (*r.pick(&sides), *r.pick(&sides));
    let picture = Lossless { width: *r.pick(&[1, 40, 16_384]), height: 30, ..Lossless::plain() }.encoded(r);
    file(&[extended(*r.pick(&[0, 0x10]), width, height), chunk(b"VP8L", &picture)])
}

fn lossy_header(r: &mut Random) -> Vec<u8> {
    let mut parts = split(sound_of(r, "lossy.webp"));
    let one = parts.iter_mut().find(|p| p.starts_with(b"VP8 ")).unwrap();
    for _ in 0..r.within(1, 6) {
        let at = r.within(8, 40.min(one.len() - 1));
        one[at] = r.extreme(8) as u8;
    }
    file(&parts)
}

/// Up to 16,384 x 16,384 pixels of one colour out of a few bytes.
fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (16_384, 3051), (3051, 16_384), (16_384, 16_384)]);
    let picture = Lossless { width, height, ..Lossless::plain() }.encoded(r);
    match r.below(3) {
        0 => file(&[chunk(b"VP8L", &picture)]),
        1 => file(&[extended(0x10, width, height), chunk(b"VP8L", &picture)]),
        _ => {
            let head = [three(0), three(0), three(width - 1), three(height - 1), three(10)].concat();
            let frame = chunk(b"ANMF", &[head.as_slice(), &[0], &chunk(b"VP8L", &picture)].concat());
            file(&[extended(0x12, width, height), chunk(b"ANIM", &[0; 6]), frame])
        }
    }
}

/// As many groups of code tables as there may be: kilobytes each in memory, bytes in the file.
fn code_tables(r: &mut Random) -> Vec<u8> {
    let groups = *r.pick(&[500, 5000, 65_536]);
    file(&[chunk(b"VP8L", &vp8l::many_tables(groups, r.one_in(2)))])
}

fn many_chunks(r: &mut Random) -> Vec<u8> {
    let sound = Lossless { width: 40, height: 30, ..Lossless::plain() }.encoded(r);
    let name = *r.pick(&[b"abcd", b"EXIF", b"VP8L", b"ANMF", b"ALPH"]);
    let count = r.within(100_000, 400_000);
    let many = chunk(name, &[0; 24]).repeat(count);
    file(&[extended(*r.pick(&[0, 0x02, 0x10]), 40, 30), chunk(b"VP8L", &sound), chunk(b"ANIM", &[0; 6]), many])
}
