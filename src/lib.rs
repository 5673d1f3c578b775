//! Lakelens labels and embeds an image lake: image references come in, and every one of them leaves as exactly one record (its labels and its
//! embedding) or one rejection (the reason why not); nothing is acknowledged before it has left.
//!
//! The modules in the order in which data meets them; `ARCHITECTURE.md` draws the arrows.

pub mod version;
pub mod error;
pub mod failpoint;
pub mod flow;
pub mod config;
pub mod kafka;
pub mod store;
mod parts;
mod temporary;
pub mod listing;
pub mod source;
pub mod reference;
pub mod fetch;
pub mod preprocess;
pub mod sandbox;
pub mod model;
pub mod hub;
pub mod format;
pub mod records;
pub mod head;
pub mod sink;
pub mod worker;
pub mod pictures;
pub mod pipeline;
pub mod plan;
pub mod telemetry;
pub mod cli;
pub mod enqueue;
pub mod audit;
pub mod redrive;
pub mod report;

pub use error::{Context, Error, Result};
