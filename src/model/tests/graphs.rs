//! Graphs of other shapes than our own: what exporters write.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType};
use tract_onnx::pb::{tensor_shape_proto::dimension, type_proto};

use super::*;
use crate::config::Activation;

pub(in crate::model) fn node(op: &str, inputs: &[&str], output: &str, ints: &[(&str, i64)]) -> NodeProto {
    let attribute = ints.iter().map(|(name, i)| AttributeProto {
        name: (*name).into(),
        r#type: AttributeType::Int as i32,
        i: *i,
        ..Default::default()
    });
    NodeProto {
        name: output.into(),
        op_type: op.into(),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.into()],
        attribute: attribute.collect(),
        ..Default::default()
    }
}

/// Puts other nodes in place of the classifier and gives the graph one output, `out`, and nothing that is named after its role.
fn reclassify(proto: &mut ModelProto, nodes: Vec<NodeProto>) {
    let graph = proto.graph.as_mut().unwrap();
    graph.node.retain(|n| n.op_type != "Gemm");
    graph.node.extend(nodes);
    for name in graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output)) {
        if name == "embedding" {
            *name = "flat".into();
        }
    }
    graph.output.truncate(1);
    graph.output[0].name = "out".into();
    graph.output[0].r#type = None;
}

/// Swaps the two axes of the classifier's weights, and gives them more axes of size 1.
fn transpose_weights(proto: &mut ModelProto) {
    let weights = proto.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name == "fc.weight").unwrap();
    let values: Vec<[u8; 4]> = weights.raw_data.chunks_exact(4).map(|b| b.try_into().unwrap()).collect();
    weights.raw_data = (0..16)
        .flat_map(|i| {
            (0..10).flat_map({
                let values = &values;
                move |o| values[o * 16 + i]
            })
        })
        .collect();
    weights.dims = vec![16, 10];
}

pub(super) fn int64s(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// The graph as changed must answer as the one that names everything does.
fn same_as_named(folder: &Folder, more: &str) -> Loaded {
    let picture = &tiny_pictures(1)[0];
    let named = one(&Folder::new(Arch::Tiny, 1).load(), picture);
    folder.describe(more);
    let loaded = folder.load();
    let got = one(&loaded, picture);
    assert_eq!(got.labels.iter().map(|l| l.index).collect::<Vec<_>>(), named.labels.iter().map(|l| l.index).collect::<Vec<_>>());
    let scores = |p: &Prediction| p.labels.iter().map(|l| l.score).collect::<Vec<_>>();
    assert!(difference(&scores(&got), &scores(&named)) < 1e-5);
    assert!(difference(&got.embedding, &named.embedding) < 1e-5);
    loaded
}

#[test]
fn a_matrix_product_and_a_bias_are_found() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        transpose_weights(proto);
        reclassify(proto, vec![node("MatMul", &["flat", "fc.weight"], "y", &[]), node("Add", &["fc.bias", "y"], "out", &[])]);
    });
    let loaded = same_as_named(&folder, "");
    assert_eq!(loaded.file.outputs.embedding.as_deref(), Some("flat"));
    assert_eq!(loaded.file.outputs.activation, Some(Activation::Softmax));
}

#[test]
fn weights_that_are_transposed_in_the_graph_are_found() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        reclassify(
            proto,
            vec![
                node("Transpose", &["fc.weight"], "w", &[]),
                node("MatMul", &["flat", "w"], "y", &[]),
                node("Add", &["y", "fc.bias"], "out", &[]),
            ],
        );
    });
    same_as_named(&folder, "");
}

#[test]
fn a_convolution_of_1_by_1_is_found_and_its_empty_axes_dropped() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        reclassify(
            proto,
            vec![node("Conv", &["avgpool", "fc.weight", "fc.bias"], "y", &[]), node("Flatten", &["y"], "out", &[("axis", 1)])],
        );
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.iter_mut().find(|t| t.name == "fc.weight").unwrap().dims = vec![10, 16, 1, 1];
    });
    assert_eq!(same_as_named(&folder, "").file.outputs.embedding.as_deref(), Some("avgpool"));
}

#[test]
fn a_classifier_before_the_pooling_gives_the_pooled_embedding() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let head = vec![
            node("Conv", &["relu2", "fc.weight", "fc.bias"], "map", &[]),
            node("GlobalAveragePool", &["map"], "pooled_map", &[]),
            node("Flatten", &["pooled_map"], "out", &[("axis", 1)]),
        ];
        reclassify(proto, head);
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.iter_mut().find(|t| t.name == "fc.weight").unwrap().dims = vec![10, 16, 1, 1];
    });
    same_as_named(&folder, "");
}

#[test]
fn a_class_token_that_is_picked_late_is_picked_for_the_embedding_too() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        transpose_weights(proto);
        proto.graph.as_mut().unwrap().initializer.extend([int64s("axis", &[1]), TensorProto { dims: vec![], ..int64s("first", &[0]) }]);
        let head = vec![
            node("Neg", &["flat"], "other", &[]),
            node("Unsqueeze", &["flat", "axis"], "a", &[]),
            node("Unsqueeze", &["other", "axis"], "b", &[]),
            node("Concat", &["a", "b"], "tokens", &[("axis", 1)]),
            node("MatMul", &["tokens", "fc.weight"], "y", &[]),
            node("Add", &["y", "fc.bias"], "z", &[]),
            node("Gather", &["z", "first"], "out", &[("axis", 1)]),
        ];
        reclassify(proto, head);
    });
    same_as_named(&folder, "");
}

#[test]
fn a_dropped_background_class_does_not_shorten_the_embedding() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.extend([int64s("from", &[1]), int64s("to", &[100]), int64s("at", &[1])]);
        reclassify(
            proto,
            vec![
                node("Gemm", &["flat", "fc.weight", "fc.bias"], "y", &[("transB", 1)]),
                node("Slice", &["y", "from", "to", "at"], "out", &[]),
            ],
        );
    });
    folder.describe("");
    let info = folder.load().model.info().clone();
    assert_eq!((info.classes, info.embedding_dim), (9, 16));
}

#[test]
fn probabilities_are_not_put_through_a_second_softmax() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let head =
            vec![node("Gemm", &["flat", "fc.weight", "fc.bias"], "y", &[("transB", 1)]), node("Softmax", &["y"], "out", &[("axis", 1)])];
        reclassify(proto, head);
    });
    for more in ["", "outputs: { activation: softmax }"] {
        let loaded = same_as_named(&folder, more);
        assert_eq!(loaded.file.outputs.activation, Some(Activation::None));
    }
    folder.describe("outputs: { logits: y }");
    assert_eq!(folder.load().file.outputs.activation, Some(Activation::Softmax));
}

#[test]
fn sigmoid_scores_each_class_by_itself() {
    let folder = Folder::new(Arch::Tiny, 1);
    let picture = &tiny_pictures(1)[0];
    let score = |folder: &Folder| one(&folder.load(), picture).labels[0].score;
    folder.describe("outputs: { activation: none }");
    let logit = score(&folder);
    folder.describe("outputs: { activation: sigmoid }");
    assert!((score(&folder) - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
}

#[test]
fn outputs_are_told_apart_by_the_number_of_labels() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        for (old, new) in [("logits", "b"), ("embedding", "a")] {
            let names = graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
            names.chain(graph.output.iter_mut().map(|o| &mut o.name)).filter(|n| *n == old).for_each(|n| *n = new.into());
        }
        graph.output.reverse();
    });
    let loaded = same_as_named(&folder, "labels: labels.txt");
    assert_eq!(loaded.file.outputs.logits.as_deref(), Some("b"));
    assert_eq!(loaded.file.outputs.embedding.as_deref(), Some("a"));
}

#[test]
fn a_named_tensor_need_not_be_an_output() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.describe("outputs: { embedding: avgpool }");
    assert_eq!(folder.load().model.info().embedding_dim, 16);
    folder.describe("outputs: { embedding: nothing }");
    let e = folder.error();
    assert!(e.contains("outputs.embedding") && e.contains("nothing") && e.contains("logits, embedding"), "{e}");
    folder.describe("outputs: { embedding: relu2 }");
    assert!(folder.error().contains("not one vector"), "{}", folder.error());
}

#[test]
fn a_graph_without_a_classifier_loads_if_no_embedding_is_asked_for() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| reclassify(proto, vec![node("Mul", &["flat", "flat"], "out", &[])]));
    folder.describe("");
    assert!(folder.error().contains("outputs.embedding"), "{}", folder.error());
    let loaded = load(folder.path(), &LoadOptions { want_embedding: false, ..Default::default() }).unwrap();
    assert_eq!(loaded.model.info().classes, 16);
}

fn declare_batch(proto: &mut ModelProto, batch: i64) {
    let graph = proto.graph.as_mut().unwrap();
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        let Some(type_proto::Value::TensorType(t)) = value.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        t.shape.as_mut().unwrap().dim[0].value = Some(dimension::Value::DimValue(batch));
    }
}

/// Puts a reshape with a built-in batch in place of the flattening.
fn build_in(proto: &mut ModelProto, shape: &[i64], perm: Option<&[i64]>) {
    let graph = proto.graph.as_mut().unwrap();
    graph.initializer.push(int64s("shape", shape));
    let at = graph.node.iter().position(|n| n.op_type == "Flatten").unwrap();
    graph.node[at] = node("Reshape", &["avgpool", "shape"], "embedding", &[]);
    if let Some(perm) = perm {
        let mut transpose = node("Transpose", &["avgpool"], "turned", &[]);
        transpose.attribute =
            vec![AttributeProto { name: "perm".into(), r#type: AttributeType::Ints as i32, ints: perm.into(), ..Default::default() }];
        graph.node[at] = transpose;
        graph.node.insert(at + 1, node("Reshape", &["turned", "shape"], "mixed", &[]));
        graph.node.insert(at + 2, node("Transpose", &["mixed"], "embedding", &[]));
    }
}

/// Pictures that the compiled graph takes at once.
fn at_once(folder: &Folder) -> usize {
    let mut opened = crate::model::load::open(folder.path()).unwrap();
    crate::model::compile::compile(&mut opened.source, &opened.heads, true, 32).unwrap().batch
}

#[test]
fn a_fixed_batch_runs_single_pictures() {
    for batch in [1, 4] {
        let folder = Folder::new(Arch::Tiny, 1);
        folder.change(|proto| declare_batch(proto, batch));
        same_as_named(&folder, "");
        assert_eq!(at_once(&folder), 1);
        // With the batch in the shape of a reshape; the second time behind the channels, where it cannot be undone.
        folder.change(|proto| build_in(proto, &[batch, 16], None));
        same_as_named(&folder, "");
        assert_eq!(at_once(&folder), 1);
        let folder = Folder::new(Arch::Tiny, 1);
        folder.change(|proto| {
            declare_batch(proto, batch);
            build_in(proto, &[16, batch], Some(&[1, 0, 2, 3]));
        });
        same_as_named(&folder, "");
        assert_eq!(at_once(&folder), batch as usize);
    }
}

#[test]
fn channels_last_are_turned() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        let mut turn = node("Transpose", &["input"], "turned", &[]);
        turn.attribute =
            vec![AttributeProto { name: "perm".into(), r#type: AttributeType::Ints as i32, ints: vec![0, 3, 1, 2], ..Default::default() }];
        graph.node[0].input[0] = "turned".into();
        graph.node.insert(0, turn);
        let Some(type_proto::Value::TensorType(t)) = graph.input[0].r#type.as_mut().and_then(|t| t.value.as_mut()) else { panic!() };
        t.shape.as_mut().unwrap().dim[1..].rotate_left(1);
    });
    same_as_named(&folder, "");
}

/// tract 0.23 reads the default as a 64-bit zero; Swin transformers as torch exports them have such nodes.
#[test]
fn a_constant_of_a_shape_is_of_32_bits_by_default() {
    let folder = Folder::new(Arch::Tiny, 1);
    folder.change(|proto| {
        proto.graph.as_mut().unwrap().initializer.push(int64s("sixteen", &[16]));
        let head = vec![
            node("ConstantOfShape", &["sixteen"], "zeros", &[]),
            node("Add", &["flat", "zeros"], "same", &[]),
            node("Gemm", &["same", "fc.weight", "fc.bias"], "out", &[("transB", 1)]),
        ];
        reclassify(proto, head);
    });
    same_as_named(&folder, "");
}
