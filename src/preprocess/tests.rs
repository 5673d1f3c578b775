use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, RgbImage};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::config::{Channels, Interpolation, Preprocess, ResizeMode};

fn limits() -> Limits {
    Limits { max_pixels: 50_000_000, timeout: Duration::from_secs(10), exif: false, preprocess: Preprocess::default() }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocess")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn load(bytes: &[u8], limits: &Limits) -> Result<Decoded, Rejection> {
    decode(bytes, &probe(bytes, limits)?, limits)
}

#[derive(Deserialize)]
struct Case {
    file: String,
    expected: String,
    kind: String,
    #[serde(default)]
    tensor: Option<String>,
    preprocess: serde_json::Value,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

fn cases() -> Vec<Case> {
    let cases: Cases = serde_json::from_slice(&read("cases.json")).expect("cases.json");
    assert!(cases.cases.len() > 50);
    cases.cases
}

/// One file of every kind.
fn files() -> BTreeMap<String, Vec<u8>> {
    cases().into_iter().map(|c| (c.file.clone(), read(&c.file))).collect()
}

/// Largest and mean difference, in levels of 255, between our crop and the expected one.
fn compare(case: &Case) -> (f32, f32) {
    let mut config: Preprocess = serde_json::from_value(case.preprocess.clone()).expect("preprocess");
    let channels = config.channels;
    // Pixel values come out as they are.
    (config.scale, config.mean, config.std) = (1.0, [0.0; 3], [1.0; 3]);
    let picture = load(&read(&case.file), &limits()).unwrap_or_else(|r| panic!("{}: {r}", case.file));
    let tensor = Preprocessor::new(config).tensor(&picture);
    let expected = image::load_from_memory(&read(&case.expected)).expect("expected").into_rgb8();
    let (width, height) = expected.dimensions();
    assert_eq!(tensor.shape(), [3, height as usize, width as usize], "{}", case.file);
    let plane = width as usize * height as usize;
    let (mut largest, mut sum) = (0_f32, 0_f32);
    for (i, pixel) in expected.pixels().enumerate() {
        for c in 0..3 {
            let from = if channels == Channels::Bgr { 2 - c } else { c };
            let difference = (tensor[[c, i / width as usize, i % width as usize]] - f32::from(pixel.0[from])).abs();
            largest = largest.max(difference);
            sum += difference;
        }
    }
    (largest, sum / (3 * plane) as f32)
}

#[test]
fn pictures_are_torchvisions() {
    for case in cases().iter().filter(|c| c.kind == "exact") {
        let (largest, mean) = compare(case);
        assert!(largest == 0.0 && mean == 0.0, "{} as {}: largest {largest}, mean {mean}", case.file, case.expected);
    }
}

#[test]
fn lossy_webp_is_torchvisions_but_for_the_decoders_rounding() {
    let lossy: Vec<Case> = cases().into_iter().filter(|c| c.kind == "lossy").collect();
    assert!(!lossy.is_empty() && lossy.iter().all(|c| c.file.ends_with("webp")));
    for case in lossy {
        let (largest, mean) = compare(&case);
        assert!(largest <= 8.0 && mean < 0.6, "{}: largest {largest}, mean {mean}", case.file);
    }
}

#[test]
fn whole_tensors_are_torchvisions() {
    let mut seen = 0;
    for case in cases().iter().filter(|c| c.tensor.is_some()) {
        let config: Preprocess = serde_json::from_value(case.preprocess.clone()).expect("preprocess");
        let picture = load(&read(&case.file), &limits()).expect("a picture");
        let tensor = Preprocessor::new(config.clone()).tensor(&picture);
        let bytes = read(case.tensor.as_deref().unwrap_or_default());
        let expected: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(tensor.len(), expected.len());
        let plane = expected.len() / 3;
        let mut sum = 0.0;
        for (i, (ours, theirs)) in tensor.iter().zip(&expected).enumerate() {
            let levels = (ours - theirs).abs() * config.std[i / plane] * 255.0;
            assert!(levels <= 2.001, "{}: value {i} is {ours}, torchvision's {theirs}", case.file);
            sum += levels;
        }
        assert!(sum / (expected.len() as f32) < 0.1);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x + y) * 3 % 256) as u8]))
}

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture(width, height)).write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

fn reason(result: Result<Decoded, Rejection>) -> Reason {
    result.expect_err("a rejection").reason
}

#[test]
fn the_content_decides_what_a_file_is() {
    for (format, name) in FORMATS {
        let header = probe(&encoded(31, 17, format), &limits()).expect(name);
        assert_eq!((header.format, header.width, header.height), (name, 31, 17));
    }
    assert_eq!(reason(load(b"", &limits())), Reason::Empty);
    assert_eq!(reason(load(b"<html>not found</html>", &limits())), Reason::UnsupportedFormat);
    let ico = probe(&[0, 0, 1, 0, 1, 0], &limits()).expect_err("an icon");
    assert_eq!(ico.reason, Reason::UnsupportedFormat);
    assert!(ico.detail.contains("ico"), "{ico}");
}

#[test]
fn pixels_are_counted_before_anything_is_decoded() {
    for (format, name) in FORMATS {
        let file = encoded(31, 17, format);
        let few = Limits { max_pixels: 31 * 17 - 1, ..limits() };
        assert_eq!(probe(&file, &few).expect_err(name).reason, Reason::TooManyPixels);
        assert!(probe(&file, &Limits { max_pixels: 31 * 17, ..limits() }).is_ok());
    }
    // A JPEG that says it is 65,500 x 65,500: the frame header's sizes stand five bytes after its marker.
    let mut jpeg = encoded(31, 17, ImageFormat::Jpeg);
    let at = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a frame header") + 5;
    jpeg[at..at + 4].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    assert_eq!(probe(&jpeg, &limits()).expect_err("too large").reason, Reason::TooManyPixels);
}

#[test]
fn a_lossy_webp_frame_larger_than_its_canvas_is_refused_before_it_is_decoded() {
    let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0VP8 ".to_vec();
    let frame = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f, 0, 0, 0, 0, 0, 0];
    file.extend((frame.len() as u32).to_le_bytes());
    file.extend(frame);
    let length = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    let rejection = probe(&file, &limits()).expect_err("a bomb");
    assert_eq!(rejection.reason, Reason::CorruptImage);
    assert!(rejection.detail.contains("larger than its canvas"), "{rejection}");
}

#[test]
fn a_truncated_file_is_an_error_as_with_pillow() {
    for (name, file) in files() {
        let header = probe(&file, &limits()).expect("a header");
        // Where no picture data is missing Pillow is content, but of a JPEG it wants the last byte.
        let most = if name.ends_with("jpg") { file.len() - 1 } else { file.len() * 9 / 10 };
        for cut in [most, file.len() / 2, file.len() / 4, 40, 13] {
            let piece = &file[..cut.min(most)];
            let result = probe(piece, &limits()).and_then(|h| decode(piece, &h, &limits()));
            // In an animated GIF the first frame may be whole.
            if !(name == "animated.gif" && result.is_ok()) {
                assert_eq!(reason(result), Reason::CorruptImage, "{name} cut to {cut} of {}", file.len());
            }
            assert!(decode(piece, &header, &limits()).is_err() || name.starts_with("animated"), "{name} cut to {cut}");
        }
        let whole = load(&file, &limits()).expect("whole");
        let mut longer = file.clone();
        longer.extend(b"what an uploader appended");
        assert_eq!(load(&longer, &limits()).expect("with more at the end"), whole, "{name}");
    }
}

#[test]
fn a_truncated_jpeg_says_so() {
    for name in ["420.jpg", "progressive.jpg", "restart.jpg", "cmyk.jpg"] {
        let file = read(name);
        for cut in [1, 2, 3, 20, 200] {
            let rejection = load(&file[..file.len() - cut], &limits()).expect_err(name);
            assert!(rejection.detail.contains("truncated"), "{name}: {rejection}");
        }
        // Stray bytes before the end marker are common and harmless.
        let (body, end) = file.split_at(file.len() - 2);
        let stray = [body, b"abc\0", end].concat();
        assert_eq!(load(&stray, &limits()).expect(name), load(&file, &limits()).expect(name));
    }
}

#[test]
fn decoding_stops_at_the_deadline() {
    for (format, name) in FORMATS {
        let file = encoded(600, 500, format);
        let header = probe(&file, &limits()).expect(name);
        let none = Limits { timeout: Duration::ZERO, ..limits() };
        assert_eq!(decode(&file, &header, &none).expect_err(name).reason, Reason::DecodeTimeout, "{name}");
    }
}

#[test]
fn a_header_of_another_file_does_no_harm() {
    let files = files();
    for (name, file) in &files {
        for other in files.values() {
            let header = probe(other, &limits()).expect("a header");
            if let Ok(decoded) = decode(file, &header, &limits()) {
                assert_eq!(decoded.rgb.len(), decoded.width as usize * decoded.height as usize * 3, "{name}");
            }
        }
    }
}

/// An EXIF block that holds nothing but the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation], b"\0\0\0\0\0\0"].concat()
}

#[test]
fn exif_turns_only_if_asked() {
    let plain = encoded(40, 24, ImageFormat::Jpeg);
    let block = [b"Exif\0\0".as_slice(), &exif(6)].concat();
    let length = (block.len() as u16 + 2).to_be_bytes();
    let turned = [&plain[..2], &[0xFF, 0xE1], &length, &block, &plain[2..]].concat();
    let upright = load(&plain, &limits()).expect("plain");
    assert_eq!(load(&turned, &limits()).expect("not asked"), upright);
    let asked = load(&turned, &Limits { exif: true, ..limits() }).expect("asked");
    assert_eq!((asked.width, asked.height), (24, 40));
    // Turned clockwise, the lower left corner comes to the upper left.
    assert_eq!(asked.rgb[..3], upright.rgb[23 * 40 * 3..23 * 40 * 3 + 3]);
}

#[test]
fn very_long_pictures_take_no_more_than_their_crop() {
    for (width, height) in [(1, 60_000), (60_000, 1), (3, 20_000), (20_000, 2)] {
        let file = encoded(width, height, ImageFormat::Png);
        let header = probe(&file, &limits()).expect("a header");
        assert!(header.decode_bytes < 6 << 20, "{width} x {height}: {}", header.decode_bytes);
        let tensor = Preprocessor::new(Preprocess::default()).tensor(&load(&file, &limits()).expect("a picture"));
        assert_eq!(tensor.len(), 3 * 224 * 224);
    }
}

#[test]
fn digests_tell_apart_what_gives_other_tensors_and_nothing_else() {
    let base = Preprocess::default();
    assert_eq!(digest(&base), digest(&base.clone()));
    let same = Preprocess { scale: 1.0, mean: [0.0; 3], std: [2.0; 3], ..base.clone() };
    let again = Preprocess { scale: 2.0, mean: [0.0; 3], std: [1.0; 3], ..base.clone() };
    assert_eq!(digest(&same), digest(&again));
    let others = [
        Preprocess { resize: 257, ..base.clone() },
        Preprocess { resize_mode: ResizeMode::Exact, ..base.clone() },
        Preprocess { crop: 225, ..base.clone() },
        Preprocess { interpolation: Interpolation::Bicubic, ..base.clone() },
        Preprocess { channels: Channels::Bgr, ..base.clone() },
        Preprocess { scale: 256.0, ..base.clone() },
        Preprocess { mean: [0.5, 0.456, 0.406], ..base.clone() },
        Preprocess { std: [0.229, 0.224, 0.226], ..base.clone() },
    ];
    let digests: std::collections::BTreeSet<String> = others.iter().chain([&base]).map(digest).collect();
    assert_eq!(digests.len(), 9);
    assert!(digests.iter().all(|d| d.len() == 64));
}

#[test]
fn a_preprocessor_makes_the_same_of_a_picture_whatever_came_before() {
    let mut used = Preprocessor::new(Preprocess::default());
    let pictures: Vec<Decoded> = files().values().map(|f| load(f, &limits()).expect("a picture")).collect();
    let first: Vec<_> = pictures.iter().map(|p| used.tensor(p)).collect();
    for (picture, tensor) in pictures.iter().zip(&first).rev() {
        assert_eq!(used.tensor(picture), *tensor);
    }
}

/// Cases for a property: few when committed, as many as `LAKELENS_FUZZ_CASES` says by hand.
fn fuzz(few: u32) -> ProptestConfig {
    let cases = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

fn allowed(reason: Reason) -> bool {
    matches!(reason, Reason::Empty | Reason::UnsupportedFormat | Reason::CorruptImage | Reason::TooManyPixels)
}

const SIGNATURES: [&[u8]; 8] = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"RIFF\x40\0\0\0WEBPVP8",
    b"GIF89a",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
];

/// Changes one of the files: bytes overwritten (often with extremes), a piece taken out, the end cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let files: Vec<Vec<u8>> = files().into_values().filter(|f| f.len() < 20_000).collect();
    let edit = (any::<prop::sample::Index>(), prop_oneof![Just(0), Just(255), Just(127), Just(1), any::<u8>()], any::<bool>());
    let edits = prop::collection::vec(edit, 0..12);
    (prop::sample::select(files), edits, prop::option::of(any::<prop::sample::Index>())).prop_map(|(mut file, edits, cut)| {
        for (at, value, early) in edits {
            // Half of them where the headers are.
            let length = if early { file.len().min(120) } else { file.len() };
            file[at.index(length)] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len() + 1));
        }
        file
    })
}

proptest! {
    #![proptest_config(fuzz(4000))]

    #[test]
    fn any_bytes_have_a_header_or_a_reason(head in prop::sample::select(&SIGNATURES), tail in prop::collection::vec(any::<u8>(), 0..300)) {
        match probe(&[head, &tail].concat(), &limits()) {
            Ok(header) => prop_assert!(u64::from(header.width) * u64::from(header.height) <= limits().max_pixels),
            Err(rejection) => prop_assert!(allowed(rejection.reason), "{rejection}"),
        }
    }

    #[test]
    fn a_damaged_file_has_a_header_or_a_reason(file in mutated()) {
        match probe(&file, &limits()) {
            Ok(header) => prop_assert!(u64::from(header.width) * u64::from(header.height) <= limits().max_pixels),
            Err(rejection) => prop_assert!(allowed(rejection.reason), "{rejection}"),
        }
    }
}

proptest! {
    #![proptest_config(fuzz(600))]

    #[test]
    fn a_damaged_file_is_a_picture_or_a_reason(file in mutated()) {
        let small = Limits { max_pixels: 1_000_000, ..limits() };
        match load(&file, &small) {
            Ok(picture) => prop_assert_eq!(picture.rgb.len(), picture.width as usize * picture.height as usize * 3),
            Err(rejection) => prop_assert!(allowed(rejection.reason), "{rejection}"),
        }
    }

    #[test]
    fn any_picture_of_any_shape_has_its_tensor(
        width in 1_u32..400, height in 1_u32..400, resize in 1_u32..80, crop in 1_u32..80, exact in any::<bool>(), cubic in any::<bool>()
    ) {
        let config = Preprocess {
            resize,
            crop,
            resize_mode: if exact { ResizeMode::Exact } else { ResizeMode::Short },
            interpolation: if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear },
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            ..Preprocess::default()
        };
        // A picture of one colour keeps it, with black around it where it is smaller than the crop.
        let picture = Decoded { rgb: [10, 20, 30].repeat((width * height) as usize), width, height };
        let tensor = Preprocessor::new(config).tensor(&picture);
        prop_assert_eq!(tensor.shape(), [3, crop as usize, crop as usize]);
        for (plane, value) in tensor.outer_iter().zip([10.0, 20.0, 30.0]) {
            prop_assert!(plane.iter().all(|v| *v == value || (*v == 0.0 && resize < crop)));
            let centre = ((crop - 1) / 2) as usize;
            prop_assert_eq!(plane[[centre, centre]], value);
        }
    }
}

#[test]
fn a_panic_while_resizing_is_a_rejection() {
    let mut preprocessor = Preprocessor::new(Preprocess::default());
    let none = Decoded { rgb: Vec::new(), width: 0, height: 300 };
    let rejection = crop(&mut preprocessor, &limits(), &none).expect_err("there are no pixels");
    assert_eq!((rejection.stage, rejection.reason), (Stage::Decode, Reason::CorruptImage));
    assert!(rejection.detail.contains("panicked"), "{rejection}");
}
