//! What can go wrong.

/// A graph that cannot be rewritten, or a layer that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The graph contradicts itself at one node.
    #[error("node {node:?} ({op}): {what}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it.
        what: String,
    },
    /// The processor lacks the instructions for a precision.
    #[error("this processor does not multiply {0}")]
    Processor(&'static str),
    /// int8 was asked for, and no convolution of the model has quantised input and weights.
    #[error("no convolution of the model is quantised (pairs of QuantizeLinear and DequantizeLinear around it, and its weights in steps)")]
    NotQuantised,
    /// tract refused the graph as a whole.
    #[error("the graph: {0}")]
    Graph(String),
    /// A tensor at run time is not what the graph promises.
    #[error("{segment}: {what}")]
    Run {
        /// Name of the segment.
        segment: String,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    pub(crate) fn graph(error: impl std::fmt::Display) -> Self {
        Self::Graph(format!("{error:#}"))
    }
}
