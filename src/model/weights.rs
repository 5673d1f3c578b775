//! Weights that an ONNX file keeps as bytes, written out as the floats that they stand for. tract would compute the same, operator by operator over every
//! weight, in seconds.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::onnx::floats;

/// Replaces every DequantizeLinear of a stored tensor by the stored floats. Those of another form than the usual ones are left to tract.
pub(super) fn written_out(graph: &mut GraphProto) {
    let stored: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let floats: Vec<(usize, TensorProto)> =
        graph.node.iter().enumerate().filter_map(|(at, node)| Some((at, dequantized(node, &stored)?))).collect();
    let mut gone = floats.iter().map(|(at, _)| *at).peekable();
    let mut at = 0;
    graph.node.retain(|_| {
        at += 1;
        gone.next_if_eq(&(at - 1)).is_none()
    });
    graph.initializer.extend(floats.into_iter().map(|(_, tensor)| tensor));
    // The bytes are not held beside them.
    let read: HashSet<&str> =
        graph.node.iter().flat_map(|n| &n.input).chain(graph.output.iter().map(|o| &o.name)).map(String::as_str).collect();
    let kept: Vec<bool> = graph.initializer.iter().map(|t| read.contains(t.name.as_str())).collect();
    let mut kept = kept.into_iter();
    graph.initializer.retain(|_| kept.next().unwrap_or(true));
}

/// Asks of every stored scale what it must be to mean anything: a finite number above 0.
///
/// # Errors
/// The node whose scale is none, and the scale.
pub(super) fn check_scales(graph: &GraphProto) -> Result<(), String> {
    let stored: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    for node in graph.node.iter().filter(|n| matches!(&*n.op_type, "QuantizeLinear" | "DequantizeLinear")) {
        let scale = node.input.get(1).and_then(|name| stored.get(name.as_str()));
        if let Some(wrong) = scale.and_then(|s| floats(s)).and_then(|all| all.into_iter().find(|s| !(s.is_finite() && *s > 0.0))) {
            return Err(format!("the {} {:?} has a scale of {wrong}, which is no finite number above 0", node.op_type, node.name));
        }
    }
    Ok(())
}

fn dequantized(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> Option<TensorProto> {
    let attribute = |name: &str, default| node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i);
    if node.op_type != "DequantizeLinear" || !node.domain.is_empty() || attribute("block_size", 0) != 0 {
        return None;
    }
    let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty()).map(|name| stored.get(name.as_str()).copied());
    let (x, scale) = (input(0)??, input(1)??);
    let (whole, scales) = (integers(x)?, floats(scale).filter(|scales| !scales.is_empty())?);
    let zeros = match input(2) {
        Some(zeros) => integers(zeros?)?,
        None => vec![0; scales.len()],
    };
    let dims: Vec<usize> = x.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    if zeros.len() != scales.len() || whole.len() != dims.iter().product::<usize>() {
        return None;
    }
    // Values from one number of the axis to the next.
    let each = if scales.len() == 1 {
        whole.len()
    } else {
        let axis = attribute("axis", 1);
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        if dims.get(axis) != Some(&scales.len()) {
            return None;
        }
        dims[axis + 1..].iter().product()
    };
    let mut raw_data = Vec::with_capacity(4 * whole.len());
    for (run, whole) in whole.chunks(each.max(1)).enumerate() {
        let (scale, zero) = (scales[run % scales.len()], zeros[run % scales.len()]);
        raw_data.extend(whole.iter().flat_map(|w| (w.wrapping_sub(zero) as f32 * scale).to_le_bytes()));
    }
    Some(TensorProto {
        name: node.output.first()?.clone(),
        dims: x.dims.clone(),
        data_type: DataType::Float as i32,
        raw_data,
        ..Default::default()
    })
}

/// A tensor of bytes or of 32-bit whole numbers.
fn integers(tensor: &TensorProto) -> Option<Vec<i32>> {
    if tensor.data_location.unwrap_or(0) != 0 {
        return None;
    }
    let raw = &tensor.raw_data;
    let values: Vec<i32> = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int8 | DataType::Uint8 | DataType::Int32 if raw.is_empty() => tensor.int32_data.clone(),
        DataType::Int8 => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        DataType::Uint8 => raw.iter().map(|&b| i32::from(b)).collect(),
        DataType::Int32 => raw.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        _ => return None,
    };
    (!values.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_onnx::pb::ModelProto;
    use tract_onnx::prelude::*;

    use super::super::onnx::tensor;
    use super::super::tests::graphs::node;
    use super::*;

    fn run(graph: GraphProto) -> Vec<f32> {
        let opset = tract_onnx::pb::OperatorSetIdProto { domain: String::new(), version: 13 };
        let proto = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
        let model = tract_onnx::onnx().model_for_proto_model(&proto).unwrap();
        let out = model.into_typed().unwrap().into_runnable().unwrap().run(tvec!()).unwrap();
        out[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    proptest! {
        #[test]
        fn is_what_tract_makes_of_them(
            dims in [1usize..4, 1usize..5, 1usize..4], axis in -3i64..3, per_axis in any::<bool>(), signed in any::<bool>(), with_zero in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 64..65), scales in prop::collection::vec(1e-3f32..1.0, 4..5),
        ) {
            let kind = if signed { DataType::Int8 } else { DataType::Uint8 };
            let count = if per_axis { dims[(axis + 3) as usize % 3] } else { 1 };
            let of_scales: &[usize] = if per_axis { &[count] } else { &[] };
            let mut inputs = vec!["x", "scale"];
            let mut initializer = vec![
                tensor("x", &dims, kind, bytes[..dims.iter().product()].to_vec()),
                tensor("scale", of_scales, DataType::Float, scales[..count].iter().flat_map(|s| s.to_le_bytes()).collect()),
            ];
            // Without one, tract takes bytes for unsigned.
            if with_zero || signed {
                inputs.push("zero");
                initializer.push(tensor("zero", of_scales, kind, bytes[60..60 + count].to_vec()));
            }
            let axis = if per_axis { axis } else { 1 };
            let mut graph = GraphProto {
                node: vec![node("DequantizeLinear", &inputs, "floats", &[("axis", axis)]), node("Relu", &["floats"], "out", &[])],
                initializer,
                output: vec![tract_onnx::pb::ValueInfoProto { name: "out".into(), ..Default::default() }],
                ..Default::default()
            };
            let due = run(graph.clone());
            written_out(&mut graph);
            prop_assert_eq!((graph.node.len(), graph.initializer.len()), (1, 1));
            prop_assert_eq!(run(graph), due);
        }
    }

    #[test]
    fn a_scale_that_is_none_is_named() {
        for (scale, sound) in [(0.5, true), (0.0, false), (-0.02, false), (f32::NAN, false), (f32::INFINITY, false)] {
            let graph = GraphProto {
                node: vec![node("DequantizeLinear", &["x", "scale"], "out", &[])],
                initializer: vec![tensor("scale", &[], DataType::Float, scale.to_le_bytes().to_vec())],
                ..Default::default()
            };
            let checked = check_scales(&graph);
            assert!(checked.is_ok() == sound && checked.err().is_none_or(|e| e.contains("\"out\" has a scale of")), "{scale}");
        }
    }

    #[test]
    fn what_is_not_stored_stays() {
        let mut graph = GraphProto {
            node: vec![node("DequantizeLinear", &["x", "scale"], "out", &[])],
            initializer: vec![tensor("scale", &[], DataType::Float, 1f32.to_le_bytes().to_vec())],
            ..Default::default()
        };
        let before = graph.clone();
        written_out(&mut graph);
        assert_eq!(graph, before);
    }
}
