//! How pixels become the network's input, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Preprocessing, as torchvision does it. The default is ResNet-50's.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Size to resize to.
    #[schemars(range(min = 1, max = 4096))]
    pub resize: u32,
    /// `short`: the short side becomes `resize`; `exact`: both sides do.
    pub resize_mode: ResizeMode,
    /// Side of the square cut from the centre.
    #[schemars(range(min = 1, max = 4096))]
    pub crop: u32,
    /// Filter, antialiased as Pillow's.
    pub interpolation: Interpolation,
    /// Order of the channels.
    pub channels: Channels,
    /// Pixel values are divided by this.
    pub scale: f32,
    /// Subtracted from each channel after scaling.
    pub mean: [f32; 3],
    /// Each channel is divided by this at last.
    pub std: [f32; 3],
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            resize: 256,
            resize_mode: ResizeMode::Short,
            crop: 224,
            interpolation: Interpolation::Bilinear,
            channels: Channels::Rgb,
            scale: 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// What `resize` applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// The short side; the aspect ratio stays.
    Short,
    /// Both sides.
    Exact,
}

/// Resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom with a = -0.5, as Pillow's.
    Bicubic,
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}
