//! Where the parts of a sound file begin, and where it says how long they are.

/// Where a file may be cut: the beginnings of its markers, chunks, blocks, directories and entries, and of what they hold.
pub fn boundaries(file: &[u8]) -> Vec<usize> {
    let mut places = parts(file).0;
    places.extend([0, file.len()]);
    places.retain(|&p| p <= file.len());
    places.sort_unstable();
    places.dedup();
    places
}

/// Fields that are lengths, counts, sizes or offsets: place, bytes, and whether the lowest byte is first.
pub fn lengths(file: &[u8]) -> Vec<(usize, usize, bool)> {
    let mut fields = parts(file).1;
    fields.retain(|&(at, bytes, _)| at + bytes <= file.len());
    fields
}

type Parts = (Vec<usize>, Vec<(usize, usize, bool)>);

fn parts(file: &[u8]) -> Parts {
    match file {
        [0xFF, 0xD8, ..] => jpeg(file),
        [0x89, b'P', ..] => png(file),
        [b'G', b'I', b'F', ..] => gif(file),
        [b'R', b'I', b'F', b'F', ..] => riff(file),
        [b'B', b'M', ..] => ((0..file.len().min(60)).collect(), [2, 10, 14, 18, 22, 30, 34, 46].map(|at| (at, 4, true)).to_vec()),
        [b'I', b'I', ..] | [b'M', b'M', ..] => tiff(file),
        _ => (Vec::new(), Vec::new()),
    }
}

fn jpeg(file: &[u8]) -> Parts {
    let (mut places, mut fields, mut at) = (vec![1, 2], Vec::new(), 2);
    while let Some(&[0xFF, marker, high, low]) = file.get(at..).and_then(<[u8]>::first_chunk) {
        if marker == 0xD9 {
            break;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        // The marker, its length, its body, and what is inside of a header.
        places.extend([at, at + 1, at + 2, at + 3, at + 4, at + 5, at + 9]);
        fields.push((at + 2, 2, false));
        if (0xC0..=0xC2).contains(&marker) {
            fields.extend([(at + 5, 2, false), (at + 7, 2, false), (at + 9, 1, false)]);
        }
        at += 2 + length;
        if marker == 0xDA {
            // Entropy-coded data up to the next marker that is none of a restart.
            places.extend([at, at + 1]);
            while at + 1 < file.len() && !(file[at] == 0xFF && file[at + 1] != 0 && !(0xD0..=0xD7).contains(&file[at + 1])) {
                if file[at] == 0xFF {
                    places.extend([at, at + 1, at + 2]);
                }
                at += 1;
            }
        }
    }
    places.extend([at, at + 1, at + 2]);
    (places, fields)
}

fn png(file: &[u8]) -> Parts {
    let (mut places, mut fields, mut at) = ((0..8).collect::<Vec<_>>(), vec![(16, 4, false), (20, 4, false)], 8);
    while let Some(length) = file.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let length = u32::from_be_bytes(*length) as usize;
        // Length, name, body, checksum.
        places.extend([at, at + 4, at + 8, at + 8 + length / 2, at + 8 + length, at + 12 + length]);
        fields.push((at, 4, false));
        at += 12 + length;
    }
    (places, fields)
}

fn gif(file: &[u8]) -> Parts {
    let (mut places, mut fields) = ((0..14).collect::<Vec<_>>(), vec![(6, 2, true), (8, 2, true), (10, 1, true)]);
    let palette = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + palette(file[10]);
    places.push(at);
    while let Some(&introducer) = file.get(at) {
        places.extend([at, at + 1, at + 2]);
        at += match introducer {
            0x21 => 2,
            0x2C => {
                let Some(&flags) = file.get(at + 9) else { break };
                fields.extend((0..4).map(|i| (at + 1 + 2 * i, 2, true)));
                fields.extend([(at + 9, 1, true), (at + 10 + palette(flags), 1, true)]);
                places.extend([at + 9, at + 10 + palette(flags), at + 11 + palette(flags)]);
                11 + palette(flags)
            }
            _ => break,
        };
        while let Some(&length) = file.get(at) {
            places.extend([at, at + 1]);
            fields.push((at, 1, true));
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
    (places, fields)
}

fn riff(file: &[u8]) -> Parts {
    let (mut places, mut fields, mut at) = (vec![4, 8, 12], vec![(4, 4, true)], 12);
    while let Some(head) = file.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        places.extend([at, at + 4, at + 8, at + 8 + length.min(10), at + 8 + length / 2, at + 8 + length]);
        fields.push((at + 4, 4, true));
        // Into the frames of an animation, past their own header.
        at += if &head[..4] == b"ANMF" { 8 + 16 } else { 8 + length + length % 2 };
    }
    (places, fields)
}

fn tiff(file: &[u8]) -> Parts {
    let little = file[0] == b'I';
    let number = |at: usize, bytes: usize| {
        let bytes = file.get(at..at + bytes)?;
        let push = |n: usize, b: &u8| n << 8 | usize::from(*b);
        Some(if little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) })
    };
    let (mut places, mut fields) = (vec![2, 4, 8], vec![(4, 4, little)]);
    let directory = number(4, 4).unwrap_or(0);
    let count = number(directory, 2).unwrap_or(0);
    places.push(directory);
    fields.push((directory, 2, little));
    for at in (0..count).map(|i| directory + 2 + 12 * i) {
        places.extend([at, at + 2, at + 4, at + 8]);
        fields.extend([(at, 2, little), (at + 2, 2, little), (at + 4, 4, little), (at + 8, 4, little)]);
        // Where the values stand, if not in the entry; strips too.
        places.extend(number(at + 8, 4).filter(|&p| p < file.len()));
    }
    fields.push((directory + 2 + 12 * count, 4, little));
    (places, fields)
}
