//! Which tensors of a graph are the logits and the embedding.
//!
//! The embedding is the input of the classifier's last layer. It is looked for in the ONNX graph, where layers are still whole: from the logits
//! back over what only moves, scales or bounds values, until the matrix product or 1x1 convolution that made them.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::onnx::declared;
use crate::config::{Activation, Outputs};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heads {
    /// Name of the tensor with the logits (or with probabilities, if `ends_in` says so).
    pub logits: String,
    /// The embedding; `None` where none could be found.
    pub embedding: Option<Embedding>,
    /// The activation that the graph itself ends in.
    pub ends_in: Option<Activation>,
}

/// Where the embedding is taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Embedding {
    /// Name of the tensor.
    pub tensor: String,
    /// What stands between the last layer and the logits and picks or averages positions (a fully convolutional head's pooling, a class token
    /// that is picked late), nearest to the layer first: where `tensor` is not one vector it is put through the same.
    pub positions: Vec<NodeProto>,
}

/// Finds the heads. `labels` is the number of label names, if any are known. The error is a text for the user.
pub(super) fn find(graph: &GraphProto, named: &Outputs, labels: Option<usize>) -> Result<Heads, String> {
    let index = Index::new(graph);
    let logits = match &named.logits {
        Some(name) => index.known(name, "outputs.logits")?,
        None => pick_logits(graph, named.embedding.as_deref(), labels)?,
    };
    let ends_in = index.final_activation(&logits);
    let embedding = match &named.embedding {
        Some(name) => Some(Embedding { tensor: index.known(name, "outputs.embedding")?, positions: vec![] }),
        None => {
            let by_name = graph.output.iter().map(|o| &o.name).find(|n| **n != logits && is_embedding_name(n));
            match by_name {
                Some(name) => Some(Embedding { tensor: name.clone(), positions: vec![] }),
                None => index.classifier_input(&logits),
            }
        }
    };
    Ok(Heads { logits, embedding, ends_in })
}

fn is_embedding_name(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "embedding" | "embeddings" | "features" | "feature" | "pooled" | "pooler_output")
}

/// The output that is named so, else the one that is as long as the labels file, else the first that is not the embedding.
fn pick_logits(graph: &GraphProto, embedding: Option<&str>, labels: Option<usize>) -> Result<String, String> {
    let candidates: Vec<_> = graph
        .output
        .iter()
        .filter(|o| Some(o.name.as_str()) != embedding && (graph.output.len() == 1 || !is_embedding_name(&o.name)))
        .collect();
    let named = candidates.iter().find(|o| matches!(o.name.to_ascii_lowercase().as_str(), "logits" | "logit"));
    let as_long = candidates.iter().find(|o| {
        let dims = declared(o).map(|(_, dims)| dims).unwrap_or_default();
        labels.is_some_and(|l| dims.len() >= 2 && dims[1..].iter().copied().product::<Option<usize>>() == Some(l))
    });
    let found = named.or(as_long).or(candidates.first()).ok_or("the graph has no output that could be the logits")?;
    Ok(found.name.clone())
}

/// Who makes what, and what does not depend on the input.
struct Index<'a> {
    graph: &'a GraphProto,
    producer: HashMap<&'a str, usize>,
    constant: HashSet<&'a str>,
    known: HashSet<&'a str>,
}

/// The tensors that do not depend on the input.
pub(super) fn constants(graph: &GraphProto) -> HashSet<&str> {
    let mut constant: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    for node in &graph.node {
        // ONNX lists nodes in an order in which they can run, so one pass settles what is constant.
        let mut inputs = node.input.iter().filter(|i| !i.is_empty()).peekable();
        let folds = node.op_type == "Constant" || (inputs.peek().is_some() && inputs.all(|i| constant.contains(i.as_str())));
        if folds {
            constant.extend(node.output.iter().map(String::as_str));
        }
    }
    constant
}

impl<'a> Index<'a> {
    fn new(graph: &'a GraphProto) -> Self {
        let constant = constants(graph);
        let mut producer = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            producer.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), i)));
        }
        let inputs = graph.input.iter().map(|i| i.name.as_str());
        let known = producer.keys().copied().chain(constant.iter().copied()).chain(inputs).collect();
        Self { graph, producer, constant, known }
    }

    fn known(&self, name: &str, field: &str) -> Result<String, String> {
        if self.known.contains(name) && !self.constant.contains(name) {
            return Ok(name.to_owned());
        }
        let outputs: Vec<&str> = self.graph.output.iter().map(|o| o.name.as_str()).collect();
        Err(format!("{field}: the graph has no tensor named {name:?}; its outputs are: {}", outputs.join(", ")))
    }

    fn node(&self, tensor: &str) -> Option<&'a NodeProto> {
        self.graph.node.get(*self.producer.get(tensor)?)
    }

    fn varying(&self, node: &'a NodeProto) -> Vec<&'a str> {
        node.input.iter().map(String::as_str).filter(|i| !i.is_empty() && !self.constant.contains(i)).collect()
    }

    /// What was quantised, where `tensor` is dequantised from it again: the embedding is taken before it was rounded.
    fn unquantised<'t>(&'t self, tensor: &'t str) -> &'t str {
        let input = |tensor: &str, op: &str| self.node(tensor).filter(|n| n.op_type == op).and_then(|n| n.input.first());
        input(tensor, "DequantizeLinear").and_then(|q| input(q, "QuantizeLinear")).map_or(tensor, |t| t)
    }

    fn final_activation(&self, logits: &str) -> Option<Activation> {
        let mut node = self.node(logits)?;
        for _ in 0..self.graph.node.len() {
            match node.op_type.as_str() {
                "Softmax" => return Some(Activation::Softmax),
                "Sigmoid" | "HardSigmoid" => return Some(Activation::Sigmoid),
                "Identity" | "Cast" | "Dropout" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                    node = self.node(node.input.first()?)?
                }
                _ => return None,
            }
        }
        None
    }

    fn classifier_input(&self, logits: &str) -> Option<Embedding> {
        let mut node = self.node(logits)?;
        let mut positions = vec![];
        // Bounded, since a hostile graph may go round in circles.
        for _ in 0..self.graph.node.len() {
            let varying = self.varying(node);
            let first = node.input.first().map(String::as_str);
            match node.op_type.as_str() {
                // One operand is the weights, the other is what is looked for; two operands that vary are attention, not a classifier.
                "MatMul" | "Gemm" | "Conv" => match varying[..] {
                    [input] => {
                        positions.reverse();
                        return Some(Embedding { tensor: self.unquantised(input).to_owned(), positions });
                    }
                    _ => return None,
                },
                "Add" | "Sub" | "Mul" | "Div" => match varying[..] {
                    [input] => node = self.node(input)?,
                    _ => return None,
                },
                "GlobalAveragePool" | "GlobalMaxPool" | "AveragePool" | "ReduceMean" | "Gather" | "Slice" => {
                    positions.push(node.clone());
                    node = self.node(first?)?;
                }
                "Identity" | "Cast" | "Dropout" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" | "Relu" | "Clip"
                | "QuantizeLinear" | "DequantizeLinear" | "Softmax" | "LogSoftmax" | "Sigmoid" | "HardSigmoid" | "BatchNormalization" => {
                    node = self.node(first?)?
                }
                _ => return None,
            }
        }
        None
    }
}

/// The nodes that carry `embedding` to one vector by the way that the logits go, and the name of the result.
pub(super) fn through_positions(embedding: &Embedding) -> (Vec<NodeProto>, String) {
    let mut last = embedding.tensor.clone();
    let nodes = embedding.positions.iter().enumerate().map(|(i, node)| {
        let mut copy = node.clone();
        if let Some(first) = copy.input.first_mut() {
            first.clone_from(&last);
        }
        last = format!("{}/embedding_{i}", embedding.tensor);
        copy.name.clone_from(&last);
        copy.output = vec![last.clone()];
        copy
    });
    let nodes = nodes.collect();
    (nodes, last)
}
