//! The network: a synchronous trait, and its tract implementation. The only folder that knows tract.

mod adopt;
mod bare;
pub mod bench;
mod builder;
mod compare;
mod compile;
mod digest;
mod engine;
mod heads;
mod import;
mod init;
mod inspect;
mod labels;
mod load;
mod model_file;
mod new_folder;
mod onnx;
mod published;
mod quantize;
mod random;
mod resnet;
mod scores;
mod state;
pub mod torch;
mod tract;
mod weights;

pub use adopt::{Adopt, adopt};
pub use compare::{Bar, Comparison, Pictures, TORN, compare, load_to_compare};
pub use digest::preprocess_digest;
pub(crate) use digest::{of_bytes, of_file};
pub use import::{Import, import};
pub use init::{Arch, NAN_BELOW, init, init_resnet18, init_resnet50, init_tiny, init_tiny_nan};
pub use inspect::{Inspection, inspect};
pub use load::{LoadOptions, Loaded, load};
pub use model_file::read_model_file;
pub use published::is_graph;
pub use quantize::{Quantized, Share, quantize};
pub use resnet::ResNet;
pub(crate) use scores::{activate, top_k};
pub use state::{StateDict, StateTensor};

use std::sync::Arc;

use crate::flow::{Label, Rejection};

/// Pixels of one image as the network takes them: channels, height, width (CHW), normalised.
pub type Tensor = ndarray::Array3<f32>;

/// What the network says of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Best labels first, at most `top_k`, none below `min_score`.
    pub labels: Vec<Label>,
    /// The classifier's input, as asked for (normalised or not).
    pub embedding: Vec<f32>,
}

/// What a model is, for records and for `lakelens model inspect`.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `name@sha256:` and twelve hex digits.
    pub id: Arc<str>,
    /// Short hash over weights, preprocessing, which output, precision and normalisation.
    pub space: Arc<str>,
    /// `sha256:` and twelve hex digits over the preprocessing.
    pub preprocess: Arc<str>,
    /// `f32`, `bf16` or `int8`.
    pub precision: Arc<str>,
    /// `none` or `l2`.
    pub normalize: Arc<str>,
    /// Number of logits.
    pub classes: usize,
    /// Length of the embedding.
    pub embedding_dim: usize,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
}

/// A loaded network. Shared by all worker threads: `predict` is called from several at once, each with a micro-batch of its own.
pub trait Model: Send + Sync {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// Runs one micro-batch on the calling thread. The results stand in the order of the images, and are the same whatever else is in the batch.
    /// A rejection (`model_failed`) is of that image alone.
    fn predict(&self, batch: &[&Tensor]) -> Vec<Result<Prediction, Rejection>>;
}

#[cfg(test)]
mod tests;
