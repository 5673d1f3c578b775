//! What an ONNX graph is for: which tensor is the image, which are the logits, and which is the embedding. Works on the file's own graph, before tract
//! sees it, where every tensor still has the name that the user knows.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorShapeProto, ValueInfoProto, tensor_shape_proto, type_proto};

use crate::config::{Activation, Outputs};
use crate::{Error, Result};

/// The parts of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anatomy {
    /// Name of the input.
    pub input: String,
    /// Channels, height and width of the input; 0 where the graph leaves it open.
    pub shape: [usize; 3],
    /// Name of the logits (or of the scores, if the graph ends in a softmax).
    pub logits: String,
    /// Name of the embedding.
    pub embedding: String,
    /// What the graph itself does to its logits.
    pub own_activation: Option<Activation>,
}

/// Kinds of node that change the look of a tensor but not its values.
const TRANSPARENT: &[&str] = &["Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast", "DequantizeLinear", "QuantizeLinear"];

impl Anatomy {
    /// Finds the parts of `graph`, those that `named` names being settled.
    pub fn find(graph: &GraphProto, named: &Outputs) -> Result<Self> {
        let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let makers: HashMap<&str, &NodeProto> =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
        let images: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !constants.contains(i.name.as_str())).collect();
        let [image] = images[..] else {
            return Err(Error::config(format!(
                "the graph has {} inputs; a classifier has one, the image",
                images.len()
            )));
        };
        let exists = |name: &str| makers.contains_key(name);
        let output = |wanted: &str| graph.output.iter().map(|o| o.name.as_str()).find(|name| *name == wanted);
        let logits = match named.logits.as_deref() {
            Some(name) if exists(name) => name,
            Some(name) => return Err(missing("logits", name, graph)),
            None => output("logits")
                .or_else(|| graph.output.iter().map(|o| o.name.as_str()).find(|name| *name != "embedding"))
                .ok_or_else(|| Error::config("the graph has no output"))?,
        };
        let search = Search { constants: &constants, makers: &makers };
        let own_activation = search.activation(logits);
        let embedding = match named.embedding.as_deref() {
            Some(name) if exists(name) => name.to_owned(),
            Some(name) => return Err(missing("embedding", name, graph)),
            None => match output("embedding") {
                Some(name) => name.to_owned(),
                None => search.last_layer_input(logits).ok_or_else(|| {
                    Error::config(
                        "the classifier's last layer was not found in the graph; name its input in model.yaml: outputs: { embedding: NAME }",
                    )
                })?,
            },
        };
        Ok(Self { input: image.name.clone(), shape: shape(image)?, logits: logits.to_owned(), embedding, own_activation })
    }
}

fn missing(what: &str, name: &str, graph: &GraphProto) -> Error {
    let known = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    let near = known.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let hint = near.map_or_else(String::new, |near| format!("; the nearest name in it is `{near}`"));
    Error::config(format!("outputs.{what}: the graph has no tensor `{name}`{hint}"))
}

/// Channels, height, width of an N x C x H x W input.
fn shape(input: &ValueInfoProto) -> Result<[usize; 3]> {
    let dims = dimensions(input);
    let wrong = || {
        Error::config(format!(
            "the graph's input `{}` has the shape {dims:?} (0 = open); an image is N x 3 x height x width",
            input.name
        ))
    };
    match dims[..] {
        [_, channels, height, width] if matches!(channels, 0 | 3) => Ok([3, height, width]),
        _ => Err(wrong()),
    }
}

/// Dimensions of a value, 0 where open.
pub fn dimensions(value: &ValueInfoProto) -> Vec<usize> {
    let shape = value.r#type.as_ref().and_then(|t| t.value.as_ref()).and_then(|v| {
        let type_proto::Value::TensorType(tensor) = v;
        tensor.shape.as_ref()
    });
    shape.map_or_else(Vec::new, |TensorShapeProto { dim }| {
        dim.iter()
            .map(|d| match d.value {
                Some(tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(n).unwrap_or(0),
                _ => 0,
            })
            .collect()
    })
}

struct Search<'a> {
    constants: &'a HashSet<&'a str>,
    makers: &'a HashMap<&'a str, &'a NodeProto>,
}

impl<'a> Search<'a> {
    /// The softmax or sigmoid that a graph ends in, if it does.
    fn activation(&self, mut name: &'a str) -> Option<Activation> {
        loop {
            let node = self.makers.get(name)?;
            match node.op_type.as_str() {
                "Softmax" => return Some(Activation::Softmax),
                "Sigmoid" => return Some(Activation::Sigmoid),
                kind if TRANSPARENT.contains(&kind) => name = node.input.first()?,
                _ => return None,
            }
        }
    }

    /// Walks back from the logits to the first layer with weights, and gives the name of its data input.
    fn last_layer_input(&self, mut name: &'a str) -> Option<String> {
        loop {
            let node = self.makers.get(name)?;
            let first = node.input.first()?;
            match node.op_type.as_str() {
                "Gemm" | "Conv" | "QLinearConv" | "FusedGemm" | "FusedConv" => return Some(self.before_pooling(first)),
                "MatMul" => {
                    let second = node.input.get(1)?;
                    return match (self.is_constant(first), self.is_constant(second)) {
                        (false, true) => Some(first.clone()),
                        (true, false) => Some(second.clone()),
                        _ => None,
                    };
                }
                // A bias, a scale, an activation or a pooling behind the last layer: follow the side that is not constant.
                _ => name = node.input.iter().find(|input| !input.is_empty() && !self.is_constant(input))?,
            }
        }
    }

    /// Dropout does nothing when a network runs; what comes before it is the same vector under a name that survives optimisation.
    fn before_pooling(&self, name: &'a str) -> String {
        let mut name = name;
        while let Some(node) = self.makers.get(name) {
            match (node.op_type.as_str(), node.input.first()) {
                ("Dropout" | "Identity", Some(input)) => name = input,
                _ => break,
            }
        }
        name.to_owned()
    }

    /// Whether a tensor is made of weights alone.
    fn is_constant(&self, name: &str) -> bool {
        if self.constants.contains(name) {
            return true;
        }
        let mut name = name;
        // Weights may pass through a chain of casts, transpositions and dequantisations.
        for _ in 0..16 {
            match self.makers.get(name) {
                Some(node) if node.op_type == "Constant" => return true,
                Some(node) if matches!(node.op_type.as_str(), "Transpose" | "DequantizeLinear" | "Cast" | "Identity" | "Reshape") => {
                    match node.input.first() {
                        Some(input) if self.constants.contains(input.as_str()) => return true,
                        Some(input) => name = input,
                        None => return false,
                    }
                }
                _ => return false,
            }
        }
        false
    }
}
