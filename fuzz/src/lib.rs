//! What the targets have in common: the parts of the program that they try, and what is right.
//!
//! The parts are taken from the program's sources one by one. With the whole program as a dependency, networks, brokers and stores would be built with
//! instrumentation too, which takes half an hour.

#![allow(dead_code)]

pub mod config;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/flow/mod.rs"]
pub mod flow;
#[path = "../../src/preprocess/mod.rs"]
pub mod preprocess;
#[path = "../../src/reference/mod.rs"]
pub mod reference;
#[path = "../../src/model/torch/mod.rs"]
pub mod torch;

/// The input of a network.
pub mod model {
    pub type Tensor = ndarray::Array3<f32>;
}

/// The log.
pub mod telemetry {
    pub fn escape(text: &str) -> &str {
        text
    }
}

pub use error::{Context, Error, Result};

use std::time::Duration;

use config::Preprocess;
use flow::{ParsedItem, Reason};
use preprocess::{Limits, Preprocessor, decode, probe};
use reference::{MAX_ITEMS, ONLY_ITEM, parse};

/// Most pixels of a picture: few, so that the fuzzer tries many pictures.
const PIXELS: u64 = 1 << 20;

/// Does with a file what a worker does.
///
/// # Panics
/// If the outcome is not one that a file can have.
pub fn picture(file: &[u8]) {
    let preprocess = Preprocess::default();
    let limits = Limits { max_pixels: PIXELS, timeout: Duration::from_secs(10), exif: true, preprocess: preprocess.clone() };
    match probe(file, &limits).and_then(|header| Ok((header, decode(file, &header, &limits)?))) {
        Ok((header, picture)) => {
            assert!(u64::from(header.width) * u64::from(header.height) <= PIXELS);
            assert_eq!(picture.rgb.len(), picture.width as usize * picture.height as usize * 3);
            assert_eq!(Preprocessor::new(preprocess).tensor(&picture).shape(), [3, 224, 224]);
        }
        Err(rejection) => {
            use Reason::{CorruptImage, Empty, TooManyPixels, UnsupportedFormat};
            assert!(matches!(rejection.reason, Empty | UnsupportedFormat | CorruptImage | TooManyPixels), "{rejection}");
            assert!(!rejection.detail.contains("panicked"), "{rejection}");
        }
    }
}

/// Reads a message as a worker does.
///
/// # Panics
/// If it is not one item or several, or if what cannot be read does not say why in one short line.
pub fn message(message: &[u8]) {
    let items = parse(Some(message), &[]);
    assert!(!items.is_empty() && items.len() <= MAX_ITEMS);
    for item in &items {
        if let ParsedItem::Bad(detail) = item {
            assert!(!detail.is_empty() && detail.len() < 300 && !detail.contains(char::is_control), "{detail}");
        }
    }
    // A redriven message has as many items, and asks for one of them.
    let last = (items.len() - 1).to_string().into_bytes();
    assert_eq!(parse(Some(message), &[(ONLY_ITEM.into(), Some(last.into()))]).len(), items.len());
}

/// Reads a file as `lakelens model pull` and `import` do.
///
/// # Panics
/// If what was read is longer than the file allows, or what is wrong with it is not one short line.
pub fn torch_file(bytes: &[u8]) {
    match torch::parse(&mut std::io::Cursor::new(bytes), bytes.len() as u64) {
        Ok(tensors) => {
            assert!(tensors.values().map(|t| t.bytes.len()).sum::<usize>() <= 2 * bytes.len());
            assert!(tensors.values().all(|t| t.dims.iter().product::<usize>() * t.kind.bytes() == t.bytes.len()));
        }
        Err(why) => assert!(!why.is_empty() && why.len() < 1000, "{why}"),
    }
}
