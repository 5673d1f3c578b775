//! JPEG: pictures of scans by the thousand, headers of all sizes, tables that are wrong, segments without end.

use super::random::Random;
use super::{Kind, kind, rare, sound_of};

pub(super) const KINDS: &[Kind] = &[
    kind("jpeg-dimensions", "jpg", dimensions),
    kind("jpeg-frame-headers", "jpg", frame_headers),
    kind("jpeg-scan-headers", "jpg", scan_headers),
    kind("jpeg-huffman-tables", "jpg", huffman_tables),
    kind("jpeg-quantisation-tables", "jpg", quantisation_tables),
    kind("jpeg-many-scans", "jpg", |r| many_scans(r, 40, 3000)),
    kind("jpeg-segments", "jpg", |r| segments(r, 60)),
    kind("jpeg-restarts", "jpg", restarts),
    kind("jpeg-exif", "jpg", exif),
    kind("jpeg-in-jpeg", "jpg", nested),
    rare("jpeg-large-of-many-scans", "jpg", |r| many_scans(r, 7000, 20_000)),
    rare("jpeg-megabytes-of-segments", "jpg", |r| segments(r, 200_000)),
    rare("jpeg-bomb", "jpg", bomb),
    rare("jpeg-megabytes-of-profile", "jpg", profile),
];

pub fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).wrapping_add(2).to_be_bytes();
    [&[0xFF, marker], &length, body].concat()
}

fn frame(marker: u8, precision: u8, width: u16, height: u16, components: &[[u8; 3]]) -> Vec<u8> {
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    segment(marker, &[&[precision, h1, h0, w1, w0, components.len() as u8], components.concat().as_slice()].concat())
}

fn quant() -> Vec<u8> {
    segment(0xDB, &[&[0], [1; 64].as_slice()].concat())
}

/// Tables of one code, a single 0 bit: no difference, and the end of a block or of a band of 32,767 blocks.
fn huffman(ac: u8) -> Vec<u8> {
    let table = |class: u8, symbol: u8| [&[class, 1], [0; 15].as_slice(), &[symbol]].concat();
    [segment(0xC4, &table(0x00, 0)), segment(0xC4, &table(0x10, ac))].concat()
}

fn scan(components: &[u8], first: u8, last: u8, bits: u8, data: &[u8]) -> Vec<u8> {
    let parts: Vec<u8> = components.iter().flat_map(|&id| [id, 0]).collect();
    [segment(0xDA, &[&[components.len() as u8], parts.as_slice(), &[first, last, bits]].concat()).as_slice(), data].concat()
}

fn file(parts: &[Vec<u8>]) -> Vec<u8> {
    [&[0xFF, 0xD8], parts.concat().as_slice(), &[0xFF, 0xD9]].concat()
}

const GREY: &[[u8; 3]] = &[[1, 0x11, 0]];
const COLOUR: &[[u8; 3]] = &[[1, 0x22, 0], [2, 0x11, 0], [3, 0x11, 0]];

/// Zero bits for every block of a grey sequential picture: two a block.
fn grey(width: u16, height: u16, data: usize) -> Vec<u8> {
    file(&[quant(), huffman(0), frame(0xC0, 8, width, height, GREY), scan(&[1], 0, 63, 0, &vec![0; data])])
}

fn dimensions(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, 2, 7, 8, 9, 16, 255, 256, 5000, 10_000, 16_384, 32_767, 32_768, 65_500, 65_535];
    let (width, height) = (*r.pick(&sides), *r.pick(&sides));
    let data = r.within(0, 2000);
    if r.one_in(2) {
        return grey(width, height, data);
    }
    let marker = if r.one_in(2) { 0xC0 } else { 0xC2 };
    let last = if marker == 0xC0 { 63 } else { 0 };
    file(&[quant(), huffman(0), frame(marker, 8, width, height, COLOUR), scan(&[1, 2, 3], 0, last, 0, &vec![0; data])])
}

fn frame_headers(r: &mut Random) -> Vec<u8> {
    let count = *r.pick(&[0, 1, 2, 3, 4, 5, 10, 85, 255]);
    let sampling = [0x11, 0x22, 0x41, 0x14, 0x44, 0x31, 0x13, 0x33, 0x00, 0x10, 0x51, 0xFF, 0x12, 0x21];
    let components: Vec<[u8; 3]> = (0..count)
        .map(|i| [if r.one_in(9) { 1 } else { i + 1 }, *r.pick(&sampling), if r.one_in(9) { r.extreme(8) as u8 } else { 0 }])
        .collect();
    let marker = *r.pick(&[0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCF]);
    let precision = *r.pick(&[8, 8, 8, 12, 16, 0, 1, 255]);
    let mut header = frame(marker, precision, r.within(1, 80) as u16, r.within(0, 80) as u16, &components);
    if r.one_in(4) {
        header = header[..r.below(header.len())].to_vec();
    }
    let ids: Vec<u8> = components.iter().take(4).map(|c| c[0]).collect();
    let mut parts = vec![quant(), huffman(0), header.clone(), scan(&ids, 0, if marker == 0xC2 { 0 } else { 63 }, 0, &[0; 200])];
    if r.one_in(4) {
        parts.insert(3, header);
    }
    file(&parts)
}

fn scan_headers(r: &mut Random) -> Vec<u8> {
    let progressive = r.one_in(2);
    let mut parts = vec![
        quant(),
        huffman(*r.pick(&[0, 0xE0, 0xF0, 0x01, 0x0F, 0xFF])),
        frame(if progressive { 0xC2 } else { 0xC0 }, 8, 50, 40, COLOUR),
    ];
    for _ in 0..r.within(1, 12) {
        let ids: Vec<u8> = (0..*r.pick(&[0, 1, 1, 2, 3, 3, 4, 5, 255])).map(|i| if r.one_in(8) { 1 } else { 1 + i as u8 }).collect();
        let (first, last) = (r.extreme(7) as u8, r.extreme(7) as u8);
        let bits = if r.one_in(2) { 0 } else { r.extreme(8) as u8 };
        let length = r.below(60);
        let data: Vec<u8> = r.bytes(length).into_iter().map(|b| if b == 0xFF { 0 } else { b }).collect();
        parts.push(if r.one_in(3) {
            scan(&ids, 0, if progressive { 0 } else { 63 }, 0, &data)
        } else {
            scan(&ids, first, last, bits, &data)
        });
    }
    file(&parts)
}

fn huffman_tables(r: &mut Random) -> Vec<u8> {
    let mut counts: Vec<u8> = vec![0; 16];
    for _ in 0..r.within(1, 6) {
        *counts.get_mut(r.below(16)).unwrap() = *r.pick(&[1, 2, 3, 7, 15, 16, 127, 128, 255]);
    }
    let total = counts.iter().map(|&n| usize::from(n)).sum();
    let length = if r.one_in(3) { r.below(300) } else { total };
    let symbols = r.bytes(length);
    let class = *r.pick(&[0x00, 0x10, 0x01, 0x11, 0x04, 0x0F, 0x20, 0xFF]);
    let table = segment(0xC4, &[&[class], counts.as_slice(), &symbols].concat());
    let data: Vec<u8> = r.bytes(400).into_iter().map(|b| b & 0x7F).collect();
    file(&[quant(), huffman(0), table, frame(0xC0, 8, 64, 64, COLOUR), scan(&[1, 2, 3], 0, 63, 0, &data)])
}

fn quantisation_tables(r: &mut Random) -> Vec<u8> {
    let wide = *r.pick(&[0x00, 0x10, 0x20, 0xF0]);
    let length = *r.pick(&[0, 1, 63, 64, 65, 127, 128, 129]);
    let values = if r.one_in(2) { vec![*r.pick(&[0, 1, 255]); length] } else { r.bytes(length) };
    let table = segment(0xDB, &[&[wide | r.below(16) as u8], values.as_slice()].concat());
    let missing = r.one_in(2);
    let sound = sound_of(r, "jpg");
    // Before the sound one's first scan.
    let at = sound.windows(2).position(|w| w == [0xFF, 0xDA]).unwrap_or(2);
    if missing {
        file(&[huffman(0), table, frame(0xC0, 8, 9, 9, GREY), scan(&[1], 0, 63, 0, &[0; 9])])
    } else {
        [&sound[..at], &table, &sound[at..]].concat()
    }
}

/// A progressive picture whose scans say nothing, over and over: each costs a walk over all blocks.
fn many_scans(r: &mut Random, side: usize, most: usize) -> Vec<u8> {
    let (width, height) = (r.within(side / 2 + 1, side), r.within(side / 2 + 1, side));
    let blocks = width.div_ceil(8) * height.div_ceil(8);
    let mut parts = vec![quant(), huffman(0xE0), frame(0xC2, 8, width as u16, height as u16, GREY)];
    parts.push(scan(&[1], 0, 0, 0, &vec![0; blocks.div_ceil(8)]));
    // A code of one bit and 14 bits for a band that ends 16,384 blocks later.
    let blank = vec![0; (blocks.div_ceil(16_384) * 15).div_ceil(8)];
    let (first, last, bits) = *r.pick(&[(1, 63, 0x00), (1, 63, 0x10), (63, 63, 0x10), (1, 1, 0x0D), (1, 63, 0xDC)]);
    let scans = r.within(most / 2, most);
    parts.extend((0..scans).map(|_| scan(&[1], first, last, bits, &blank)));
    file(&parts)
}

/// Segments by the thousand of which any number may stand in a file.
fn segments(r: &mut Random, most: usize) -> Vec<u8> {
    let sound = sound_of(r, "jpg");
    let one = match r.below(7) {
        0 => segment(0xFE, b""),
        1 => quant(),
        2 => huffman(0xF0),
        3 => segment(0xDD, &[0, 0]),
        4 => vec![0xFF; 16],
        5 => segment(*r.pick(&[0xE0, 0xE1, 0xE2, 0xEE, 0xF0, 0xFD]), &r.bytes(20)),
        _ => segment(*r.pick(&[0x02, 0xBF, 0xC8, 0xDC, 0xDE, 0xDF]), &r.bytes(4)),
    };
    let count = r.within(most / 2, most);
    [&sound[..2], &one.repeat(count), &sound[2..]].concat()
}

fn restarts(r: &mut Random) -> Vec<u8> {
    let interval = *r.pick(&[1, 2, 7, 8, 65_535]);
    let mut data = Vec::new();
    for i in 0..r.within(1, 300) {
        data.extend(vec![0; r.below(3)]);
        let number = if r.one_in(50) { r.below(8) } else { i % 8 };
        data.extend([0xFF, 0xD0 + number as u8]);
    }
    data.extend([0; 9]);
    file(&[quant(), huffman(0), segment(0xDD, &(interval as u16).to_be_bytes()), frame(0xC0, 8, 60, 60, GREY), scan(&[1], 0, 63, 0, &data)])
}

/// EXIF whose directories lead to each other, or nowhere.
fn exif(r: &mut Random) -> Vec<u8> {
    let mut block = b"Exif\0\0MM\0*\0\0\0\x08".to_vec();
    for _ in 0..r.within(1, 3) {
        let entries = r.within(0, 9);
        block.extend(((if r.one_in(4) { r.extreme(16) as usize } else { entries }) as u16).to_be_bytes());
        for _ in 0..entries {
            block.extend(r.pick(&[0x0112_u16, 0x8769, 0x8825, 0xA005, 0x0201, 0x0202, 0xFFFF]).to_be_bytes());
            block.extend((r.extreme(4) as u16).to_be_bytes());
            block.extend((r.extreme(32) as u32).to_be_bytes());
            block.extend((if r.one_in(2) { 8 } else { r.extreme(32) as u32 }).to_be_bytes());
        }
        block.extend(8_u32.to_be_bytes());
    }
    if r.one_in(4) {
        block.resize(65_000, 0);
    }
    let sound = sound_of(r, "jpg");
    [&sound[..2], &segment(0xE1, &block), &sound[2..]].concat()
}

/// Pictures within pictures' segments, and one behind the other.
fn nested(r: &mut Random) -> Vec<u8> {
    let mut file = sound_of(r, "jpg").to_vec();
    for _ in 0..r.within(1, 20) {
        let outer = sound_of(r, "jpg");
        let inside = file[..file.len().min(65_000)].to_vec();
        file = if r.one_in(3) { [file.as_slice(), outer].concat() } else { [&outer[..2], &segment(0xE1, &inside), &outer[2..]].concat() };
    }
    file
}

/// Pictures of up to the default most pixels out of a few kilobytes.
fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (65_535, 700), (700, 65_535), (7071, 7071), (7072, 7072), (65_535, 65_535)]);
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    grey(width, height, if r.one_in(3) { blocks / 100 } else { blocks.div_ceil(4) })
}

/// A colour profile in all the 255 pieces that it may have, or more.
fn profile(r: &mut Random) -> Vec<u8> {
    let pieces = *r.pick(&[255, 80, 1000]);
    let sound = sound_of(r, "jpg");
    let piece = |n: usize| segment(0xE2, &[b"ICC_PROFILE\0".as_slice(), &[n as u8, pieces as u8], &[7; 60_000]].concat());
    [&sound[..2], (1..=pieces.min(400)).map(piece).collect::<Vec<_>>().concat().as_slice(), &sound[2..]].concat()
}
