//! BMP: headers of all versions with all fields at their extremes, run lengths that lead out of the picture.

use super::random::Random;
use super::{Kind, kind, rare};

pub(super) const KINDS: &[Kind] = &[
    kind("bmp-dimensions", "bmp", dimensions),
    kind("bmp-headers", "bmp", headers),
    kind("bmp-run-lengths", "bmp", run_lengths),
    kind("bmp-bitfields", "bmp", bitfields),
    kind("bmp-palettes", "bmp", palettes),
    rare("bmp-bomb", "bmp", bomb),
    rare("bmp-megabytes-of-line-ends", "bmp", line_ends),
];

struct Header {
    size: u32,
    width: i32,
    height: i32,
    bits: u16,
    compression: u32,
    colours: u32,
    offset: u32,
}

const PLAIN: Header = Header { size: 40, width: 20, height: 20, bits: 24, compression: 0, colours: 0, offset: 54 };

impl Header {
    fn file(&self, data: &[u8]) -> Vec<u8> {
        let mut file = b"BM\0\0\0\0\0\0\0\0".to_vec();
        file.extend(self.offset.to_le_bytes());
        file.extend(self.size.to_le_bytes());
        if self.size == 12 {
            file.extend((self.width as u16).to_le_bytes());
            file.extend((self.height as u16).to_le_bytes());
            file.extend([1, 0]);
            file.extend(self.bits.to_le_bytes());
        } else {
            file.extend(self.width.to_le_bytes());
            file.extend(self.height.to_le_bytes());
            file.extend([1, 0]);
            file.extend(self.bits.to_le_bytes());
            for field in [self.compression, 0, 2835, 2835, self.colours, 0] {
                file.extend(field.to_le_bytes());
            }
        }
        file.extend(data);
        let length = file.len() as u32;
        file[2..6].copy_from_slice(&length.to_le_bytes());
        file
    }
}

fn dimensions(r: &mut Random) -> Vec<u8> {
    let sides = [0, 1, -1, 2, 20, -20, 255, 5000, 65_535, 1 << 20, i32::MAX, i32::MIN, -i32::MAX];
    let header = Header { width: *r.pick(&sides), height: *r.pick(&sides), bits: *r.pick(&[1, 4, 8, 16, 24, 32]), ..PLAIN };
    header.file(&vec![7; r.within(0, 9000)])
}

fn headers(r: &mut Random) -> Vec<u8> {
    let header = Header {
        size: *r.pick(&[0, 4, 12, 16, 40, 52, 56, 64, 108, 124, 125, 255, 1 << 20, u32::MAX]),
        bits: *r.pick(&[0, 1, 2, 3, 4, 8, 15, 16, 24, 32, 48, 64, 255, 65_535]),
        compression: *r.pick(&[0, 0, 1, 2, 3, 4, 5, 6, 11, 12, 13, 255, u32::MAX]),
        colours: if r.one_in(2) { 0 } else { r.extreme(32) as u32 },
        offset: if r.one_in(2) { 54 } else { r.extreme(32) as u32 },
        height: *r.pick(&[20, -20]),
        ..PLAIN
    };
    let length = r.within(0, 3000);
    header.file(&r.bytes(length))
}

fn run_lengths(r: &mut Random) -> Vec<u8> {
    let eight = r.one_in(2);
    let mut data = vec![5; 1024];
    for _ in 0..r.within(1, 400) {
        let extreme = r.extreme(8) as u8;
        match r.below(6) {
            0 => data.extend([0, 0]),
            1 => data.extend([0, 2, extreme, r.extreme(8) as u8]),
            2 => data.extend([0, extreme]),
            3 => data.extend([0, 1]),
            _ => data.extend([extreme, extreme]),
        }
    }
    let (bits, compression) = *r.pick(&[(8, 1), (4, 2), (4, 1), (8, 2), (24, 1)]);
    let offset = if eight { 54 + 1024 } else { 54 + 64 };
    Header { bits, compression, offset, colours: *r.pick(&[0, 256, 16, 3]), height: *r.pick(&[20, -20, 300]), ..PLAIN }.file(&data)
}

fn bitfields(r: &mut Random) -> Vec<u8> {
    let mut data: Vec<u8> = (0..4).flat_map(|_| (r.extreme(32) as u32).to_le_bytes()).collect();
    data.extend(r.bytes(20 * 80));
    let (bits, compression) = *r.pick(&[(16, 3), (32, 3), (32, 6), (16, 6), (24, 3), (8, 3)]);
    Header { size: *r.pick(&[40, 52, 56, 108, 124]), bits, compression, offset: 70, ..PLAIN }.file(&data)
}

fn palettes(r: &mut Random) -> Vec<u8> {
    let bits = *r.pick(&[1, 2, 4, 8]);
    let colours = *r.pick(&[0, 1, 2, 15, 16, 17, 255, 256, 257, 65_536, u32::MAX]);
    let length = r.within(0, 4000);
    Header { size: *r.pick(&[12, 40]), bits, colours, offset: *r.pick(&[26, 54, 58, 118, 1078, 5000]), ..PLAIN }.file(&r.bytes(length))
}

fn bomb(r: &mut Random) -> Vec<u8> {
    let (width, height) = *r.pick(&[(7000, 7000), (50_000_000, 1), (1, 50_000_000), (65_536, 65_536), (7000, -7000)]);
    // An end of the picture right away, or no data at all.
    let data = [vec![5; 1024], if r.one_in(2) { vec![0, 1] } else { vec![255, 7, 0, 1] }].concat();
    let (bits, compression) = *r.pick(&[(8, 1), (4, 2), (1, 0), (24, 0)]);
    Header { width, height, bits, compression, offset: 54 + 1024, ..PLAIN }.file(&data)
}

fn line_ends(r: &mut Random) -> Vec<u8> {
    let one = *r.pick(&[[0, 0].as_slice(), &[0, 2, 0, 0], &[0, 2, 1, 0], &[1, 9, 0, 0]]);
    let count = r.within(1 << 20, 4 << 20);
    let data = [vec![5; 1024], one.repeat(count), vec![0, 1]].concat();
    Header { width: 5, height: 4_000_000, bits: 8, compression: 1, offset: 54 + 1024, ..PLAIN }.file(&data)
}
