//! From bytes to the network's input, as a user of torchvision would see it: `Image.open(f).convert("RGB")`, `Resize`, `CenterCrop`, `ToTensor`,
//! `Normalize`.
//!
//! Where Pillow and good sense differ, this is followed:
//!
//! | what | here |
//! |---|---|
//! | alpha | dropped, not composited, as `convert("RGB")` does |
//! | CMYK and YCCK JPEG | Adobe's inverted values, `R = C * K / 255`, as Pillow |
//! | 16 bits a channel | the high byte, as Pillow for colour; Pillow clips 16-bit *grey* at 255, which turns nearly every such picture white: not followed |
//! | GIF | the first frame on its canvas; transparent pixels keep their palette colour, as Pillow |
//! | a file that ends early | an error, as Pillow's "image file is truncated" |
//! | EXIF orientation | ignored unless asked for, as torchvision |

mod decode;
mod jpeg;
mod probe;
mod resample;
mod tensor;

use std::borrow::Cow;
use std::time::Duration;

use crate::flow::{Reason, Rejection, Stage};

pub use decode::{Pixels, decode};
pub use probe::{Header, probe};
pub use tensor::Preprocessor;

/// What a stranger's picture may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most pixels.
    pub max_pixels: u64,
    /// Longest time.
    pub timeout: Duration,
    /// Turn pictures as their EXIF orientation says.
    pub exif: bool,
}

fn rejected(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(Stage::Decode, reason, detail)
}

#[cfg(test)]
mod tests;
