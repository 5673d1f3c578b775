//! Sound pictures that something happened to.

use super::random::Random;
use super::structure::{boundaries, lengths};
use super::{Kind, any_sound, kind};

pub(super) const KINDS: &[Kind] = &[
    kind("bits-flipped", "jpg", bits_flipped),
    kind("bytes-overwritten", "png", bytes_overwritten),
    kind("cut-at-a-boundary", "tif", cut),
    kind("cut-anywhere", "webp", |r| {
        let sound = any_sound(r);
        sound[..r.below(sound.len())].to_vec()
    }),
    kind("length-that-lies", "gif", lie),
    kind("piece-moved", "jpg", piece_moved),
    kind("zeros-at-the-end", "jpg", |r| {
        // What a download that was broken off leaves in a file that was made full-size.
        let sound = any_sound(r);
        let kept = r.below(sound.len());
        [&sound[..kept], &vec![0; sound.len() - kept]].concat()
    }),
    kind("line-ends-converted", "png", |r| {
        let sound = any_sound(r);
        if r.one_in(2) {
            sound.iter().flat_map(|&b| if b == b'\n' { vec![b'\r', b'\n'] } else { vec![b] }).collect()
        } else {
            String::from_utf8_lossy(sound).into_owned().into_bytes()
        }
    }),
];

fn bits_flipped(r: &mut Random) -> Vec<u8> {
    let mut file = any_sound(r).to_vec();
    for _ in 0..*r.pick(&[1, 1, 2, 5, 50]) {
        let at = r.below(file.len());
        file[at] ^= 1 << r.below(8);
    }
    file
}

fn bytes_overwritten(r: &mut Random) -> Vec<u8> {
    let mut file = any_sound(r).to_vec();
    for _ in 0..r.within(1, 12) {
        // Half of them where the headers are.
        let within = if r.one_in(2) { file.len().min(120) } else { file.len() };
        let at = r.below(within);
        file[at] = r.extreme(8) as u8;
    }
    file
}

fn cut(r: &mut Random) -> Vec<u8> {
    let sound = any_sound(r);
    let place = *r.pick(&boundaries(sound));
    let place = (place + r.below(3)).saturating_sub(1);
    sound[..place.min(sound.len())].to_vec()
}

fn lie(r: &mut Random) -> Vec<u8> {
    let mut file = any_sound(r).to_vec();
    for _ in 0..r.within(1, 2) {
        let (at, bytes, little) = *r.pick(&lengths(&file));
        let n = if r.one_in(3) {
            // Off by one.
            let old = file[at..at + bytes].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
            if little { old.wrapping_add(1) } else { old.wrapping_add(1 << (8 * bytes - 8)) }.to_le_bytes()
        } else {
            r.extreme(8 * bytes as u32).to_le_bytes()
        };
        file[at..at + bytes].copy_from_slice(&n[..bytes]);
    }
    file
}

/// A piece taken out, put elsewhere, doubled, or overwritten with another.
fn piece_moved(r: &mut Random) -> Vec<u8> {
    let sound = any_sound(r);
    let places = boundaries(sound);
    let (a, b) = if r.one_in(2) { (*r.pick(&places), *r.pick(&places)) } else { (r.below(sound.len()), r.below(sound.len())) };
    let (begin, end) = (a.min(b), a.max(b));
    let (head, piece, tail) = (&sound[..begin], &sound[begin..end], &sound[end..]);
    match r.below(4) {
        0 => [head, tail].concat(),
        1 => [head, piece, piece, tail].concat(),
        2 => [piece, head, tail].concat(),
        _ => [head, &r.bytes(piece.len().min(3000)), tail].concat(),
    }
}
