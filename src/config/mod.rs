//! The pipeline file and the model file.

mod model;
mod pipeline;
mod units;

pub use model::*;
pub use pipeline::*;
pub use units::{ByteSize, Pixels, Span};
