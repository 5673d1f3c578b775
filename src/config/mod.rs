//! The pipeline file and the model file: their data, their reader, and what is checked.
//!
//! The types say what a field is, for the reader and for `lakelens schema` alike: the reader holds a file against the JSON Schema made of them, so
//! that it can name every mistake at once.

mod check;
mod diagnose;
mod model;
mod pipeline;
mod read;
pub mod schema;
mod tree;
mod units;
mod walk;

pub use check::effective_delivery;
pub use diagnose::Diagnostics;
pub use model::*;
pub use pipeline::*;
pub use read::{load, load_model, parse, redacted};
pub use units::{ByteSize, Pixels, Span};
pub use walk::nearest;

#[cfg(test)]
mod tests;
