//! Runs convolutional classifiers on a CPU as fast as its multipliers go.
//!
//! [`rewrite`] takes a tract [`TypedModel`](tract_core::prelude::TypedModel) and replaces what it recognises by operators of its own ([`Segment`]);
//! everything else stays tract's. [`kernels`] knows shapes and numbers, and nothing of graphs.

mod choose;
mod error;
mod fuse;
mod graph;
pub mod ir;
pub mod kernels;
mod op;
mod partition;
pub mod plan;
mod precision;
mod report;
mod rewrite;
mod selftest;

pub use error::Error;
pub use op::Segment;
pub use precision::Precision;
pub use report::{LayerReport, Left, Report, SegmentReport};
pub use rewrite::{Options, rewrite};
