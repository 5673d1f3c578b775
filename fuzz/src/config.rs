//! What of the configuration the parts need.

use std::time::Duration;

#[path = "../../src/config/preprocess.rs"]
mod preprocess;

pub use preprocess::*;

pub struct Pixels(pub u64);
pub struct Span(pub Duration);

pub struct Fetch {
    pub max_pixels: Pixels,
}

pub struct Decode {
    pub exif: bool,
    pub timeout: Span,
}
