use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::bits::Bits;
use super::huffman::Table;
use super::{colour, idct, scan, size, upsample};
use crate::preprocess::reader::Watch;
use crate::preprocess::{Failure, Header, Picture};

#[derive(Deserialize)]
struct Case {
    file: String,
    width: u32,
    height: u32,
    rgb_sha256: String,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/jpeg")
}

fn cases() -> Vec<(Case, Vec<u8>)> {
    let cases: Cases = serde_json::from_slice(&std::fs::read(golden().join("cases.json")).expect("cases.json")).expect("cases");
    assert!(cases.cases.len() > 100);
    cases.cases.into_iter().map(|c| (std::fs::read(golden().join(&c.file)).expect("a file"), c)).map(|(f, c)| (c, f)).collect()
}

fn within(bytes: &[u8], time: Duration) -> Result<Picture, Failure> {
    let size = size(bytes)?;
    let header = Header { format: "jpeg", width: size.width, height: size.height, decode_bytes: size.bytes };
    super::decode(bytes, &header, &Watch::until(Instant::now() + time))
}

fn decode(bytes: &[u8]) -> Result<Picture, Failure> {
    within(bytes, Duration::from_secs(60))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn pixels_of_every_kind_of_file_are_pillows() {
    for (case, file) in cases() {
        let picture = decode(&file).unwrap_or_else(|e| panic!("{}: {e:?}", case.file));
        assert_eq!((picture.width, picture.height), (case.width, case.height), "{}", case.file);
        assert_eq!(hex(&Sha256::digest(&picture.pixels)), case.rgb_sha256, "{}", case.file);
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for (case, file) in cases().iter().filter(|(c, f)| f.len() < 1500 || c.file.contains("-restart")) {
        for length in 2..file.len() {
            assert!(decode(&file[..length]).is_err(), "{} cut to {length} of {}", case.file, file.len());
        }
    }
}

#[test]
fn data_for_less_than_the_picture_is_an_error_before_all_of_it_is_made() {
    let (_, mut file) = cases().into_iter().find(|(c, _)| c.file == "420-16x16.jpg").expect("a case");
    let at = file.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a frame header") + 5;
    file[at..at + 4].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let began = Instant::now();
    let error = decode(&file).err().expect("an error");
    assert!(error.0.contains("ends early"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn every_kind_of_scan_looks_at_the_clock() {
    for (case, file) in cases() {
        assert!(within(&file, Duration::ZERO).is_err(), "{}", case.file);
    }
}

#[test]
fn restart_markers_out_of_order_are_an_error() {
    let (_, mut file) = cases().into_iter().find(|(c, _)| c.file == "420-restart.jpg").expect("a case");
    let at = file.windows(2).position(|w| w == [0xFF, 0xD1]).expect("a restart marker") + 1;
    file[at] = 0xD2;
    assert!(decode(&file).err().expect("an error").0.contains("restart marker"));
}

#[test]
fn ycbcr_is_libjpegs_for_all_colours() {
    // jdcolor.c works through tables of 16 fractional bits; one entry each is computed here.
    let fixed = |x: f64| (x * 65536.0 + 0.5) as i32;
    let clamp = |v: i32| v.clamp(0, 255) as u8;
    let chroma: Vec<u8> = (0..=255).collect();
    let mut line = colour::Line::new(256);
    let mut out = vec![0; 3 * 256];
    for y in (0..=255).step_by(5) {
        for cb in 0..=255 {
            colour::Model::YCbCr.three([&[y; 256], &[cb; 256], &chroma], &mut line, &mut out);
            for (pixel, &cr) in out.as_chunks::<3>().0.iter().zip(&chroma) {
                let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
                let expected = [
                    clamp(y + ((fixed(1.402) * cr + 32768) >> 16)),
                    clamp(y + ((-fixed(0.34414) * cb - fixed(0.71414) * cr + 32768) >> 16)),
                    clamp(y + ((fixed(1.772) * cb + 32768) >> 16)),
                ];
                assert_eq!(*pixel, expected);
            }
        }
    }
}

/// The inverse DCT by its definition.
fn exact(block: &[i16; 64]) -> [f64; 64] {
    let scale = |k: usize| if k == 0 { (1.0 / 8.0_f64).sqrt() } else { 0.5 };
    let cosine = |k: usize, x: usize| scale(k) * (std::f64::consts::PI * k as f64 * (2 * x + 1) as f64 / 16.0).cos();
    std::array::from_fn(|i| {
        let sum = (0..64).map(|j| f64::from(block[j]) * cosine(j / 8, i / 8) * cosine(j % 8, i % 8)).sum::<f64>();
        (sum + 128.0).clamp(0.0, 255.0)
    })
}

/// Canonical codes as T.81 makes them, of `lengths` of which none is longer than 16: symbol, code, length.
fn codes(counts: [u8; 16], symbols: &[u8]) -> Vec<(u8, u32, u32)> {
    let (mut code, mut symbols, mut out) = (0, symbols.iter(), Vec::new());
    for (length, count) in (1..).zip(counts) {
        for symbol in symbols.by_ref().take(count.into()) {
            out.push((*symbol, code, length));
            code += 1;
        }
        code <<= 1;
    }
    out
}

/// Entropy-coded data of a string of bits, with stuffing and the marker that ends it.
fn segment(bits: &[bool]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bits.chunks(8) {
        let byte = byte.iter().chain(&[true; 8]).take(8).fold(0, |a, &b| a << 1 | u8::from(b));
        out.push(byte);
        if byte == 0xFF {
            out.push(0);
        }
    }
    out.extend([0xFF, 0xD9]);
    out
}

fn push(bits: &mut Vec<bool>, value: u32, length: u32) {
    bits.extend((0..length).rev().map(|i| value >> i & 1 == 1));
}

/// Cases for a property: few when committed, as many as `LAKELENS_FUZZ_CASES` says by hand.
fn fuzz(few: u32) -> ProptestConfig {
    let cases = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(fuzz(500))]

    #[test]
    fn the_inverse_dct_is_the_dcts_inverse(
        values in prop::collection::vec((0..64_usize, -400..400_i16), 0..20), mean in -1024..1024_i16, few in any::<bool>()
    ) {
        let mut block = [0; 64];
        block[0] = mean;
        let count = if few { 10 } else { 64 };
        for (k, value) in values {
            block[usize::from(scan::ZIGZAG[k % count])] = value;
        }
        let mut all = [0; 64];
        idct::inverse(&block, 64, &mut all, 8);
        for (sample, expected) in all.iter().zip(exact(&block)) {
            prop_assert!((f64::from(*sample) - expected).abs() < 1.0, "{sample} for {expected}");
        }
        // The shorter ways give the same.
        let mut other = [0; 64];
        idct::inverse(&block, count, &mut other, 8);
        prop_assert_eq!(all, other);
        let mut flat = [0; 64];
        flat[0] = mean;
        idct::inverse(&flat, 64, &mut all, 8);
        idct::inverse(&flat, 1, &mut other, 8);
        prop_assert_eq!(all, other);
    }

    #[test]
    fn upsampling_is_a_triangle_filter(near in prop::collection::vec(any::<u8>(), 3..40), seed in any::<u64>()) {
        let far: Vec<u8> = near.iter().enumerate().map(|(i, v)| v.wrapping_add((seed >> (i % 57)) as u8)).collect();
        let n = near.len();
        let mut across = vec![0; 2 * n];
        let mut both = vec![0; 2 * n];
        let mut down = vec![0; n];
        upsample::across(&near, &mut across);
        upsample::both(&near, &far, &mut vec![0; n], &mut both);
        upsample::down(&near, &far, seed % 2 == 0, &mut down);
        let column = |i: usize| 0.75 * f64::from(near[i]) + 0.25 * f64::from(far[i]);
        for x in 0..2 * n {
            let other = if x % 2 == 0 { (x / 2).saturating_sub(1) } else { (x / 2 + 1).min(n - 1) };
            let flat = 0.75 * f64::from(near[x / 2]) + 0.25 * f64::from(near[other]);
            prop_assert!((f64::from(across[x]) - flat).abs() <= 0.5);
            prop_assert!((f64::from(both[x]) - 0.75 * column(x / 2) - 0.25 * column(other)).abs() <= 0.5);
            prop_assert!((f64::from(down[x / 2]) - column(x / 2)).abs() <= 0.5);
        }
    }

    #[test]
    fn bits_come_as_they_were_put(values in prop::collection::vec((1..=16_u32, prop_oneof![Just(u32::MAX), any::<u32>()]), 0..300)) {
        let mut put = Vec::new();
        for &(length, value) in &values {
            push(&mut put, value, length);
        }
        let file = segment(&put);
        let mut bits = Bits::default();
        prop_assert_eq!(bits.load(&file, 0), Some(file.len() - 2));
        for (length, value) in values {
            let mut reader = bits.reader();
            prop_assert_eq!(reader.take(length), value & ((1 << length) - 1));
            let place = reader.place();
            bits.resume(place);
        }
        prop_assert!(!bits.overrun());
        let mut reader = bits.reader();
        reader.take(8);
        let place = reader.place();
        bits.resume(place);
        prop_assert!(bits.overrun());
        prop_assert_eq!(bits.load(&file[..file.len() - 2], 0), None);
    }

    #[test]
    fn codes_of_all_lengths_give_their_symbols(
        wanted in prop::collection::vec(0..6_u8, 16), order in Just((0..=255_u8).collect::<Vec<_>>()).prop_shuffle(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..200)
    ) {
        // As many codes of each length as are left, and one less, since the one of all ones is never used.
        let (mut counts, mut free) = ([0; 16], 1_u32);
        for (count, want) in counts.iter_mut().zip(&wanted) {
            free *= 2;
            *count = (*want).min((free - 1).min(255) as u8);
            free -= u32::from(*count);
        }
        let total = counts.iter().map(|&c| usize::from(c)).sum::<usize>();
        prop_assume!(total > 0);
        let symbols = &order[..total];
        let table = Table::new(&counts, symbols).expect("a table");
        let codes = codes(counts, symbols);
        let (mut put, mut expected) = (Vec::new(), Vec::new());
        for (pick, raw) in picks {
            let (symbol, code, length) = codes[pick.index(codes.len())];
            push(&mut put, code, length);
            let size = u32::from(symbol & 15);
            let raw = raw & ((1 << size) - 1);
            push(&mut put, raw, size);
            let value = if size > 0 && raw >> (size - 1) == 0 { raw as i32 + 1 - (1 << size) } else { raw as i32 };
            expected.push((u32::from(symbol >> 4), value));
        }
        let mut bits = Bits::default();
        bits.load(&segment(&put), 0).expect("a segment");
        let mut reader = bits.reader();
        for pair in expected {
            prop_assert_eq!(table.take(&mut reader), Some(pair));
        }
    }

    #[test]
    fn tables_of_any_bytes_are_refused_or_harmless(counts in any::<[u8; 16]>(), small in any::<bool>(), data in prop::collection::vec(any::<u8>(), 0..64)) {
        let counts = if small { counts.map(|c| c % 4) } else { counts };
        let total = counts.iter().map(|&c| usize::from(c)).sum::<usize>().min(256);
        if let Ok(table) = Table::new(&counts, &(0..=255).collect::<Vec<u8>>()[..total]) {
            let bits: Vec<bool> = data.iter().flat_map(|b| (0..8).map(move |i| b >> i & 1 == 1)).collect();
            let mut stream = Bits::default();
            stream.load(&segment(&bits), 0).expect("a segment");
            let mut reader = stream.reader();
            for _ in 0..100 {
                table.take(&mut reader);
            }
        }
    }

    /// Called without the net that catches panics of decoders.
    #[test]
    fn a_damaged_file_is_a_picture_or_an_error(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0), Just(255), Just(1), any::<u8>()], any::<bool>()), 1..10)
    ) {
        static FILES: LazyLock<Vec<(Case, Vec<u8>)>> = LazyLock::new(cases);
        let (_, file) = &FILES[which.index(FILES.len())];
        let mut file = file.clone();
        for (at, value, early) in edits {
            let length = if early { file.len().min(700) } else { file.len() };
            file[at.index(length)] = value;
        }
        if size(&file).is_ok_and(|s| u64::from(s.width) * u64::from(s.height) < 1_000_000)
            && let Ok(picture) = decode(&file)
        {
            prop_assert_eq!(picture.pixels.len(), picture.width as usize * picture.height as usize * 3);
        }
    }
}
