//! GIF: canvases and frames of all sizes, animations, blocks without end, LZW data that says nothing.

use super::random::Random;
use super::{Kind, kind, rare};

pub(super) const KINDS: &[Kind] = &[
    kind("gif-dimensions", "gif", dimensions),
    kind("gif-frames", "gif", |r| frames(r, 300)),
    kind("gif-frame-outside", "gif", outside),
    kind("gif-lzw", "gif", lzw),
    kind("gif-blocks", "gif", |r| blocks(r, 500)),
    kind("gif-palettes", "gif", palettes),
    rare("gif-bomb", "gif", bomb),
    rare("gif-many-frames", "gif", |r| frames(r, 200_000)),
    rare("gif-megabytes-of-blocks", "gif", |r| blocks(r, 300_000)),
    rare("gif-clear-codes", "gif", clear_codes),
];

fn screen(width: u16, height: u16, flags: u8) -> Vec<u8> {
    let [w0, w1] = width.to_le_bytes();
    let [h0, h1] = height.to_le_bytes();
    let palette = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    [b"GIF89a".as_slice(), &[w0, w1, h0, h1, flags, 0, 0], &vec![99; palette]].concat()
}

fn descriptor(left: u16, top: u16, width: u16, height: u16, flags: u8) -> Vec<u8> {
    let fields: Vec<u8> = [left, top, width, height].iter().flat_map(|n| n.to_le_bytes()).collect();
    let palette = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    [&[0x2C], fields.as_slice(), &[flags], &vec![33; palette]].concat()
}

/// Sub-blocks and their end.
pub fn blocks_of(data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = data.chunks(255).flat_map(|c| [&[c.len() as u8], c].concat()).collect();
    out.push(0);
    out
}

/// LZW data of `count` indices 0: strings that grow by one, as any encoder writes them.
fn nothing(count: usize) -> Vec<u8> {
    let (mut bits, mut held, mut out) = (0_u64, 0, Vec::new());
    let mut put = |code: u64, width: u32| {
        bits |= code << held;
        held += width;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    };
    let width = |next: usize| (usize::BITS - next.leading_zeros()).clamp(9, 12);
    let (mut left, mut next) = (count, 4096_usize);
    while left > 0 {
        if next >= 4095 {
            // A new table, and its first string.
            put(256, if next == 4096 { 9 } else { 12 });
            put(0, 9);
            left -= 1;
            next = 258;
            continue;
        }
        // The code that this very string will have: one longer than the one before.
        let length = next - 258 + 2;
        put(next as u64, width(next));
        left = left.saturating_sub(length);
        next += 1;
    }
    put(257, width(next));
    put(0, 8);
    out
}

fn image(left: u16, top: u16, width: u16, height: u16, flags: u8) -> Vec<u8> {
    let data = nothing(usize::from(width) * usize::from(height));
    [descriptor(left, top, width, height, flags), vec![8], blocks_of(&data)].concat()
}

fn dimensions(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, 2, 255, 256, 5000, 32_767, 32_768, 65_535];
    let (width, height) = (*r.pick(&sides), *r.pick(&sides));
    let small = image(0, 0, r.within(0, 9) as u16, r.within(0, 9) as u16, 0);
    let large = [descriptor(0, 0, width, height, 0x40), vec![8], blocks_of(&nothing(1000))].concat();
    [screen(*r.pick(&sides), *r.pick(&sides), 0xF7), if r.one_in(2) { small } else { large }, vec![0x3B]].concat()
}

fn frames(r: &mut Random, most: usize) -> Vec<u8> {
    let control = [0x21, 0xF9, 4, r.extreme(8) as u8, 0, 0, r.extreme(8) as u8, 0];
    let mut file = [screen(30, 30, 0xF0), [0x21, 0xFF, 11].to_vec(), b"NETSCAPE2.0\x03\x01\0\0\0".to_vec()].concat();
    let one = [control.as_slice(), &image(0, 0, 30, 30, 0)].concat();
    let count = r.within(most / 2, most);
    file.extend(one.repeat(count));
    if r.one_in(2) {
        file.push(0x3B);
    }
    file
}

fn outside(r: &mut Random) -> Vec<u8> {
    let places = [0, 1, 29, 30, 31, 255, 40_000, 65_535];
    let sides = [1, 2, 30, 31, 500];
    let flags = *r.pick(&[0, 0x40]);
    let frame = image(*r.pick(&places), *r.pick(&places), *r.pick(&sides), *r.pick(&sides), flags);
    [screen(30, 30, 0xF0), frame, vec![0x3B]].concat()
}

fn lzw(r: &mut Random) -> Vec<u8> {
    let size = *r.pick(&[0, 1, 2, 3, 8, 9, 11, 12, 13, 32, 255]);
    let length = r.within(0, 3000);
    let data = if r.one_in(2) { r.bytes(length) } else { nothing(900)[..length.min(40)].to_vec() };
    let mut body = blocks_of(&data);
    if r.one_in(3) {
        let at = r.below(body.len());
        body[at] = r.extreme(8) as u8;
    }
    [screen(30, 30, 0xF0), descriptor(0, 0, 30, 30, 0), vec![size], body, vec![0x3B]].concat()
}

fn blocks(r: &mut Random, most: usize) -> Vec<u8> {
    let one = match r.below(5) {
        0 => [&[0x21, 0xFE], blocks_of(&[65; 255]).as_slice()].concat(),
        1 => [&[0x21, 0xF9], blocks_of(&[255; 4]).as_slice()].concat(),
        2 => [&[0x21, 0xFF], blocks_of(b"XMP DataXMP<x/>").as_slice()].concat(),
        3 => [&[0x21, 0xFF], blocks_of(b"ICCRGBG1012").as_slice()].concat(),
        _ => vec![0x21, r.extreme(8) as u8, 1, 0, 0],
    };
    let count = r.within(most / 2, most);
    let xmp = [b"\x21\xFF\x0BXMP DataXMP".as_slice(), &blocks_of(&vec![b'x'; most * 10])].concat();
    [screen(30, 30, 0xF0), if r.one_in(3) { xmp } else { one.repeat(count) }, image(0, 0, 30, 30, 0), vec![0x3B]].concat()
}

fn palettes(r: &mut Random) -> Vec<u8> {
    let frame = image(0, 0, 9, 9, r.extreme(8) as u8);
    let control = [0x21, 0xF9, 4, 1, 0, 0, r.extreme(8) as u8, 0];
    [screen(9, 9, r.extreme(8) as u8), control.to_vec(), frame, vec![0x3B]].concat()
}

fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (65_535, 762), (762, 65_535), (7071, 7071), (65_535, 65_535)]);
    let whole = u64::from(width) * u64::from(height) <= 50_000_000 && !r.one_in(3);
    let frame = if whole { image(0, 0, width, height, *r.pick(&[0, 0x40])) } else { image(width - 9, height - 9, 9, 9, 0) };
    [screen(1, 1, 0xF0), frame, vec![0x3B]].concat()
}

/// Codes that only empty the table: data without a pixel.
fn clear_codes(r: &mut Random) -> Vec<u8> {
    // Of two bits, all of them the clear code of four colours.
    let count = r.within(4 << 20, 16 << 20);
    let data: Vec<u8> = [0b0010_0100, 0b1001_0010, 0b0100_1001].into_iter().cycle().take(count).collect();
    [screen(3000, 3000, 0xF0), descriptor(0, 0, 3000, 3000, 0), vec![2], blocks_of(&data), vec![0x3B]].concat()
}
