//! From an ONNX graph and its heads to a tract graph for one image.

use std::path::Path;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
};
use tract_onnx::prelude::{InferenceModelExt, TypedModel};
use tract_onnx::tract_hir::internal::{Datum, InferenceFact, TractResult, tvec};

use super::heads::{self, Heads};
use super::onnx::{Source, declared};
use super::weights;
use crate::{Error, Result};

/// A graph whose outputs are the logits and, if asked for, the embedding.
pub(super) struct Compiled {
    /// Typed, not yet optimised.
    pub model: TypedModel,
    /// Images that the graph takes at once; above 1 only where a fixed batch could not be undone, and then all are the same image.
    pub batch: usize,
    /// Number of logits.
    pub classes: usize,
    /// Length of the embedding, 0 where it was not asked for.
    pub embedding_dim: usize,
}

/// The input as the graph declares it.
pub(super) struct Input {
    name: String,
    /// Images at once, where fixed.
    pub batch: Option<usize>,
    /// Whether the channels stand last.
    pub channels_last: bool,
    /// Height and width, where fixed.
    pub size: [Option<usize>; 2],
}

/// Reads and checks the input: one, of 32-bit floats, of three channels.
pub(super) fn input(source: &Source) -> Result<Input> {
    let wrong = |what: String| Error::config(format_args!("{}: {what}", source.path.display()));
    let inputs = source.inputs();
    let [only] = inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(wrong(format!("an image classifier has one input, this graph has {}: {}", inputs.len(), names.join(", "))));
    };
    let (kind, dims) = declared(only).ok_or_else(|| wrong(format!("the input {:?} declares no shape", only.name)))?;
    if kind != DataType::Float as i32 {
        let kind = DataType::try_from(kind).map_or("unknown", |k| k.as_str_name());
        return Err(wrong(format!("the input {:?} takes {kind}; export the model with a 32-bit float input", only.name)));
    }
    let (channels_last, size) = match dims[..] {
        [_, Some(3), h, w] => (false, [h, w]),
        [_, h, w, Some(3)] => (true, [h, w]),
        [_, None, h, w] => (false, [h, w]),
        _ => {
            let text: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
            return Err(wrong(format!(
                "the input {:?} is [{}], which is not a batch of pictures of 3 channels",
                only.name,
                text.join(", ")
            )));
        }
    };
    Ok(Input { name: only.name.clone(), batch: dims[0], channels_last, size })
}

/// Compiles for pictures of `crop` by `crop` pixels. Changes the outputs of the graph in `source`, and where it must its front.
pub(super) fn compile(source: &mut Source, heads: &Heads, want_embedding: bool, crop: usize) -> Result<Compiled> {
    let input = input(source)?;
    if input.size.iter().any(|s| s.is_some_and(|s| s != crop)) {
        let [h, w] = input.size.map(|s| s.map_or("any".into(), |s| s.to_string()));
        return Err(Error::config(format_args!(
            "{} takes pictures of {h} x {w}, but preprocess.crop is {crop}: set crop (and resize) to what the model was trained with",
            source.path.display()
        )));
    }
    if input.channels_last {
        channels_first(source.graph_mut(), &input.name);
    }
    zeros_are_f32(source.graph_mut());
    weights::check_scales(source.graph_mut()).map_err(|e| Error::config(format_args!("{}: {e}", source.path.display())))?;
    weights::written_out(source.graph_mut());
    let mut embedding = heads.embedding.as_ref().filter(|_| want_embedding).map(|e| e.tensor.clone());
    if want_embedding && embedding.is_none() {
        return Err(Error::config(format_args!(
            "{}: no classifier layer was found before {:?}, so there is no embedding; name one in model.yaml (outputs.embedding), or ask for none",
            source.path.display(),
            heads.logits
        )));
    }
    set_outputs(source.graph_mut(), &heads.logits, embedding.as_deref());
    let mut attempt = first_that_fits(source, &input, crop);
    // The last layer may run on a map or on tokens; then the embedding goes the way that the logits go from there.
    let positions = heads.embedding.as_ref().filter(|e| want_embedding && !e.positions.is_empty());
    if let (Ok(first), Some(e)) = (&attempt, positions)
        && vector(first, 1).is_err()
    {
        let (nodes, name) = heads::through_positions(e);
        source.graph_mut().node.extend(nodes);
        embedding = Some(name);
        set_outputs(source.graph_mut(), &heads.logits, embedding.as_deref());
        attempt = first_that_fits(source, &input, crop);
    }
    let unusable = |what: String| Error::config(format_args!("{}: {what}", source.path.display()));
    let attempt = attempt.map_err(|e| unusable(format!("tract cannot run this graph: {e:#}")))?;
    let classes = vector(&attempt, 0).map_err(|e| unusable(format!("the logits {:?} {e}", heads.logits)))?;
    let embedding_dim = match &embedding {
        Some(name) => vector(&attempt, 1)
            .map_err(|e| unusable(format!("the embedding {name:?} {e}; name another in model.yaml (outputs.embedding)")))?,
        None => 0,
    };
    if attempt.1 > 1 {
        tracing::warn!(
            graph = %source.path.display(), batch = attempt.1,
            "the graph has its batch size built in and is run with copies of one image; export it with a batch of 1 to make it that much faster"
        );
    }
    Ok(Compiled { model: attempt.0, batch: attempt.1, classes, embedding_dim })
}

/// Length of output `slot` for one image, if it is one vector.
fn vector((model, batch): &(TypedModel, usize), slot: usize) -> Result<usize, String> {
    let fact = model.output_fact(slot).map_err(|e| format!("cannot be had: {e:#}"))?;
    let shape = fact.shape.as_concrete().ok_or_else(|| format!("has a shape that depends on the picture: {:?}", fact.shape))?;
    let of_one = match shape {
        [first, rest @ ..] if first == batch && !(rest.is_empty() && *batch == 1) => rest,
        all if *batch == 1 => all,
        _ => return Err(format!("has shape {shape:?}, which is not one vector for each of {batch} images")),
    };
    let longest = of_one.iter().copied().max().unwrap_or(0);
    if longest == 0 || of_one.iter().product::<usize>() != longest {
        return Err(format!("has shape {shape:?}, which is not one vector for each image"));
    }
    Ok(longest)
}

/// One image at a time if the graph lets itself be bent to it, else as many as it insists on.
fn first_that_fits(source: &mut Source, input: &Input, crop: usize) -> TractResult<(TypedModel, usize)> {
    let fits = |source: &Source, batch: usize| -> TractResult<(TypedModel, usize)> {
        let model = (typed(source, batch, crop)?, batch);
        for slot in 0..model.0.outputs.len() {
            // Folding a batch that is built in can leave it standing in an output.
            let fact = model.0.output_fact(slot)?;
            let rows = fact.shape.first().and_then(|d| usize::try_from(d.to_i64().ok()?).ok());
            if input.batch.is_some_and(|n| n > 1 && batch == 1 && rows == Some(n)) {
                tract_onnx::tract_hir::internal::bail!("the batch of {n:?} stays in output {slot}", n = input.batch);
            }
        }
        Ok(model)
    };
    match input.batch {
        Some(n) if n > 1 => {
            let whole = source.graph().clone();
            let bent = fits(source, 1).or_else(|_| {
                reshape_to_one(source.graph_mut(), n);
                fits(source, 1)
            });
            bent.or_else(|_| {
                *source.graph_mut() = whole;
                fits(source, n)
            })
        }
        _ => fits(source, 1),
    }
}

/// The graph as [`compile`] left it, for another batch.
pub(super) fn typed(source: &Source, batch: usize, crop: usize) -> TractResult<TypedModel> {
    // Shapes that the exporter noted may speak of another batch.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let folder = source.path.parent().unwrap_or(Path::new("."));
    let parsed = onnx.parse(&source.proto, folder.to_str())?;
    if !parsed.unresolved_inputs.is_empty() {
        tract_onnx::tract_hir::internal::bail!("the graph uses tensors that nothing makes: {}", parsed.unresolved_inputs.join(", "));
    }
    let fact = InferenceFact::dt_shape(f32::datum_type(), tvec!(batch, 3, crop, crop));
    parsed.model.with_input_fact(0, fact)?.into_typed()
}

fn set_outputs(graph: &mut GraphProto, logits: &str, embedding: Option<&str>) {
    let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..Default::default() };
    graph.output = std::iter::once(logits).chain(embedding).map(value).collect();
}

/// Spells out the value that `ConstantOfShape` has by ONNX's default, a 32-bit zero: tract 0.23 takes a 64-bit one.
fn zeros_are_f32(graph: &mut GraphProto) {
    let bare = |n: &&mut NodeProto| n.op_type == "ConstantOfShape" && n.attribute.iter().all(|a| a.name != "value");
    for node in graph.node.iter_mut().filter(bare) {
        let zero = TensorProto { dims: vec![1], data_type: DataType::Float as i32, float_data: vec![0.0], ..Default::default() };
        node.attribute.push(AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor as i32,
            t: Some(zero),
            ..Default::default()
        });
    }
}

/// Puts a transposition in front, so that a graph with the channels last takes them first.
fn channels_first(graph: &mut GraphProto, input: &str) {
    let inner = format!("{input}/channels_last");
    for name in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|n| *n == input) {
        name.clone_from(&inner);
    }
    let perm = AttributeProto { name: "perm".into(), r#type: AttributeType::Ints as i32, ints: vec![0, 2, 3, 1], ..Default::default() };
    let node = NodeProto {
        name: inner.clone(),
        op_type: "Transpose".into(),
        input: vec![input.to_owned()],
        output: vec![inner],
        attribute: vec![perm],
        ..Default::default()
    };
    graph.node.insert(0, node);
}

/// Turns a leading `batch` in the constant shapes of reshapes and expansions into 1. Where that leading axis was not the batch the number of
/// elements no longer fits, which tract refuses, so a wrong guess cannot pass.
fn reshape_to_one(graph: &mut GraphProto, batch: usize) {
    let Ok(batch) = i64::try_from(batch) else { return };
    let shapes: std::collections::HashSet<String> =
        graph.node.iter().filter(|n| matches!(n.op_type.as_str(), "Reshape" | "Expand")).filter_map(|n| n.input.get(1).cloned()).collect();
    let constants = graph.node.iter_mut().filter(|n| n.op_type == "Constant" && n.output.iter().any(|o| shapes.contains(o)));
    let in_nodes = constants.flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
    for tensor in graph.initializer.iter_mut().filter(|t| shapes.contains(&t.name)).chain(in_nodes) {
        if tensor.int64_data.first() == Some(&batch) {
            tensor.int64_data[0] = 1;
        } else if tensor.raw_data.get(..8) == Some(&batch.to_le_bytes()) {
            tensor.raw_data[..8].copy_from_slice(&1i64.to_le_bytes());
        }
    }
}
