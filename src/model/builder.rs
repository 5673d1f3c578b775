//! Writing an ONNX graph node by node.

use std::path::Path;

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

use crate::{Context, Result};

/// An attribute's value.
pub(super) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    #[cfg(test)]
    Text(&'static str),
}

/// A size in a declared shape.
pub(super) enum Size {
    Fixed(i64),
    Symbol(&'static str),
}

/// A graph that grows. Every node has one output, named like the node.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
}

impl Builder {
    /// Declares an input of 32-bit floats.
    pub fn input(&mut self, name: &str, shape: Vec<Size>) -> String {
        self.graph.input.push(value(name, shape));
        name.to_owned()
    }

    /// Declares an output of 32-bit floats.
    pub fn output(&mut self, name: &str, shape: Vec<Size>) {
        self.graph.output.push(value(name, shape));
    }

    /// Adds a weight.
    pub fn weight(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len(), "{name}");
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        name.to_owned()
    }

    /// Adds a constant list of integers.
    #[cfg(test)]
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        name.to_owned()
    }

    /// Adds a node and gives the name of its output.
    pub fn node(&mut self, op: &str, output: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.graph.node.push(NodeProto {
            name: output.to_owned(),
            op_type: op.to_owned(),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes.iter().map(|(name, v)| attribute(name, v)).collect(),
            ..Default::default()
        });
        output.to_owned()
    }

    /// The graph as an ONNX file of operator set 17.
    pub fn model(self, name: &str) -> ModelProto {
        let graph = GraphProto { name: name.to_owned(), ..self.graph };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            producer_name: "lakelens".into(),
            graph: Some(graph),
            ..Default::default()
        }
    }

    /// Its bytes. Equal graphs give equal bytes.
    pub fn encode(self, name: &str) -> Vec<u8> {
        self.model(name).encode_to_vec()
    }
}

fn value(name: &str, shape: Vec<Size>) -> ValueInfoProto {
    let dim = shape.into_iter().map(|s| Dimension {
        value: Some(match s {
            Size::Fixed(n) => dimension::Value::DimValue(n),
            Size::Symbol(s) => dimension::Value::DimParam(s.to_owned()),
        }),
        ..Default::default()
    });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..Default::default() }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attribute::Int(i) => (proto.r#type, proto.i) = (AttributeType::Int as i32, *i),
        Attribute::Ints(v) => (proto.r#type, proto.ints) = (AttributeType::Ints as i32, v.clone()),
        Attribute::Float(f) => (proto.r#type, proto.f) = (AttributeType::Float as i32, *f),
        #[cfg(test)]
        Attribute::Text(text) => (proto.r#type, proto.s) = (AttributeType::String as i32, text.as_bytes().into()),
    }
    proto
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let doing = || format!("writing {}", path.display());
    let mut file = std::fs::File::create_new(path).context(doing())?;
    file.write_all(bytes).context(doing())
}
