//! What a rewrite did.

use crate::graph::ONLY_INT8;
use crate::kernels::Algorithm;

/// Sizes and counts of a rewritten model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Nodes that the engine runs, by name.
    pub taken: Vec<String>,
    /// Nodes that stayed tract's, and why.
    pub left: Vec<Left>,
    /// The segments, in the order in which they stand in the model.
    pub segments: Vec<SegmentReport>,
    /// Why the whole model is tract's after all, if it is: a layer gave another result than tract's.
    pub fallback: Option<String>,
}

/// A node that stayed tract's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Why.
    pub why: String,
}

/// One operator of the engine's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SegmentReport {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub layers: Vec<LayerReport>,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// Bytes of activations for each image that runs at once.
    pub arena_bytes: usize,
}

/// One layer after fusing.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// Name of the first node in it.
    pub name: String,
    /// What it computes.
    pub kind: &'static str,
    /// Height, width and channels of each input.
    pub inputs: Vec<[usize; 3]>,
    /// Height, width and channels of the output.
    pub output: [usize; 3],
    /// Height and width of the kernel, if there is one.
    pub kernel: Option<[usize; 2]>,
    /// How a convolution is computed.
    pub algorithm: Option<Algorithm>,
    /// Floating-point operations for an image, by the count of the direct convolution.
    pub flops: u64,
}

impl Report {
    /// Whether the model is quantised, and was not rewritten in int8.
    pub fn only_int8(&self) -> bool {
        self.left.iter().any(|left| left.why == ONLY_INT8)
    }

    /// Floating-point operations of an image in the engine's segments.
    pub fn flops(&self) -> u64 {
        self.segments.iter().flat_map(|s| &s.layers).map(|l| l.flops).sum()
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.segments.iter().map(|s| s.weight_bytes).sum()
    }

    /// Bytes of activations for each image that runs at once.
    pub fn arena_bytes(&self) -> usize {
        self.segments.iter().map(|s| s.arena_bytes).sum()
    }
}
