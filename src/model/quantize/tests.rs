//! A small network with all that is folded and joined, quantised from end to end.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use tract_onnx::pb::{GraphProto, NodeProto, tensor_proto::DataType};

use super::super::bench::Network;
use super::super::builder::{Attribute, Builder, Size};
use super::super::onnx::{floats, tensor};
use super::super::random::SplitMix;
use super::super::resnet::{filters, ints};
use super::super::{Tensor, load_to_compare};
use super::layers::Layer;
use super::*;

const SIDE: usize = 16;

/// A model folder. `spread` is how much larger the first channel of the second convolution's input is than the others.
fn network(spread: f32) -> TempDir {
    let mut b = Builder::default();
    let random = |name: &str, count: usize, low: f64, high: f64| -> Vec<f32> {
        let mut random = SplitMix::named(5, name);
        (0..count).map(|_| random.uniform(low, high) as f32).collect()
    };
    let input = b.input("input", vec![Size::Symbol("batch"), Size::Fixed(3), Size::Fixed(SIDE as i64), Size::Fixed(SIDE as i64)]);
    let pads = b.integers("pads", &[0, 0, 0, 0, 0, 0, 1, 1]);
    let padded = b.node("Pad", "padded", &[&input, &pads], &[("mode", Attribute::Text("constant"))]);
    let w = b.weight("stem.weight", &[8, 3, 3, 3], &filters(5, "stem", 8, 27, 2.0, false));
    let stem = b.node("Conv", "stem", &[&padded, &w], &[("kernel_shape", ints([3, 3])), ("strides", ints([2, 2]))]);
    let mut scales = random("gamma", 8, 0.5, 1.5);
    scales[0] *= spread;
    let (gamma, beta) = (b.weight("gamma", &[8], &scales), b.weight("beta", &[8], &random("beta", 8, 0.0, 0.5)));
    let (mean, var) = (b.weight("mean", &[8], &random("mean", 8, -0.2, 0.2)), b.weight("var", &[8], &random("var", 8, 0.5, 2.0)));
    let norm = b.node("BatchNormalization", "norm", &[&stem, &gamma, &beta, &mean, &var], &[]);
    let (low, high) = (b.weight("low", &[], &[0.0]), b.weight("high", &[], &[6.0 * spread]));
    let x = b.node("Clip", "clip", &[&norm, &low, &high], &[]);
    let x = b.node("MaxPool", "pool", &[&x], &[("kernel_shape", ints([2, 2])), ("strides", ints([2, 2]))]);
    let w = b.weight("depthwise.weight", &[8, 1, 3, 3], &filters(5, "depthwise", 8, 9, 2.0, false));
    let attributes = [("kernel_shape", ints([3, 3])), ("pads", ints([1, 1, 1, 1])), ("group", Attribute::Int(8))];
    let y = b.node("Conv", "depthwise", &[&x, &w], &attributes);
    let y = b.node("Relu", "relu", &[&y], &[]);
    let mut weights = filters(5, "project", 8, 8, 2.0, false);
    // The large channel counts for no more than the others.
    weights.iter_mut().step_by(8).for_each(|w| *w /= spread);
    let (w, bias) = (b.weight("project.weight", &[8, 8, 1, 1], &weights), b.weight("project.bias", &[8], &random("bias", 8, -0.3, 0.3)));
    let y = b.node("Conv", "project", &[&y, &w, &bias], &[("kernel_shape", ints([1, 1]))]);
    let sum = if spread == 1.0 { b.node("Add", "add", &[&y, &x], &[]) } else { b.node("Relu", "add", &[&y], &[]) };
    let pooled = b.node("GlobalAveragePool", "pooled", &[&sum], &[]);
    let embedding = b.node("Flatten", "embedding", &[&pooled], &[("axis", Attribute::Int(1))]);
    let w = b.weight("fc.weight", &[8, 5], &filters(5, "fc", 8, 5, 40.0, true));
    b.node("Gemm", "logits", &[&embedding, &w], &[]);
    b.output("logits", vec![Size::Symbol("batch"), Size::Fixed(5)]);
    b.output("embedding", vec![Size::Symbol("batch"), Size::Fixed(8)]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    std::fs::write(folder.path().join("model/model.onnx"), b.encode("small")).unwrap();
    std::fs::write(folder.path().join("model/labels.txt"), "a\nb\nc\nd\ne\n").unwrap();
    let yaml = "# kept\nversion: 1\nname: small\ngraph: model.onnx\nlabels: labels.txt\npreprocess: { resize: 16, crop: 16, mean: [0, 0, 0], std: [1, 1, 1] }\n";
    std::fs::write(folder.path().join("model/model.yaml"), yaml).unwrap();
    folder
}

fn picture(n: usize) -> Result<Tensor> {
    let mut random = SplitMix::named(n as u64, "picture");
    let [base, across, down] = std::array::from_fn(|_| random.uniform(0.0, 1.0));
    Ok(Tensor::from_shape_fn((3, SIDE, SIDE), |(c, y, x)| {
        (base + across * x as f64 / SIDE as f64 + down * (y * (c + 1)) as f64 / SIDE as f64 + random.uniform(0.0, 0.2)) as f32 / 2.0
    }))
}

fn share() -> Share {
    Share { calibration: (0..24).collect(), check: (24..64).collect() }
}

fn written(folder: &Path) -> GraphProto {
    Source::read(&folder.join("model.onnx"), folder).unwrap().graph().clone()
}

#[test]
fn the_normal_form_computes_the_same() {
    let folder = network(1.0);
    let opened = open(&folder.path().join("model")).unwrap();
    let mut source = opened.source;
    let runner = |source: &Source| Runner::new(&source.proto, source, &opened.heads, SIDE, &[]).unwrap();
    let due = runner(&source).answers(&picture, &[0, 1, 2]).unwrap();
    graph::normalise(&mut source, SIDE).unwrap();
    let kinds: Vec<&str> = source.graph().node.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(kinds, ["Conv", "Clip", "MaxPool", "Conv", "Relu", "Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]);
    let got = runner(&source).answers(&picture, &[0, 1, 2]).unwrap();
    for (a, b) in due.iter().zip(&got) {
        for (a, b) in a.logits.iter().chain(&a.embedding).zip(b.logits.iter().chain(&b.embedding)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

#[test]
fn the_file_has_the_pattern_that_runtimes_know() {
    let folder = network(1.0);
    let out = folder.path().join("out");
    let done = quantize(&folder.path().join("model"), &out, (&picture, &share()), &Bar::default(), false).unwrap();
    assert!(done.float.is_empty() && done.layers == 4 && done.flops_in_integers == 1.0, "{done}");
    assert!(done.comparison.pictures == 40 && done.comparison.sure > 30 && done.comparison.cosine_mean.unwrap() > 0.999, "{done}");
    assert!(std::fs::read_to_string(out.join("model.yaml")).unwrap().starts_with("# kept"));
    let graph = written(&out);
    let made: HashMap<&str, _> = graph.node.iter().map(|n| (n.output[0].as_str(), n)).collect();
    let constant: HashMap<&str, _> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    for node in &graph.node {
        match node.op_type.as_str() {
            "Conv" | "Gemm" => {
                let [input, weight] = [0, 1].map(|i| made[node.input[i].as_str()]);
                assert_eq!((input.op_type.as_str(), weight.op_type.as_str()), ("DequantizeLinear", "DequantizeLinear"));
                assert_eq!(constant[weight.input[0].as_str()].data_type, DataType::Int8 as i32);
                let channels = if node.op_type == "Gemm" { 5 } else { 8 };
                assert_eq!(constant[weight.input[1].as_str()].dims, [channels]);
                assert_eq!(graph::int(weight, "axis", 1), i64::from(node.op_type == "Gemm"));
                let bias = made[node.input[2].as_str()];
                let [values, scales] = [0, 1].map(|i| constant[bias.input[i].as_str()]);
                assert_eq!((values.data_type, &values.dims), (DataType::Int32 as i32, &scales.dims));
                let [x] = floats(constant[input.input[1].as_str()]).unwrap()[..] else { panic!("not a scalar") };
                let weights = floats(constant[weight.input[1].as_str()]).unwrap();
                assert_eq!(floats(scales).unwrap(), weights.iter().map(|w| x * w).collect::<Vec<_>>());
            }
            "Add" => assert!(node.input.iter().all(|t| made[t.as_str()].op_type == "DequantizeLinear")),
            "Relu" | "Clip" => assert_eq!(made[node.input[0].as_str()].op_type, "Conv", "the pair stands after the activation"),
            "QuantizeLinear" => {
                let [scale, zero] = [1, 2].map(|i| constant[node.input[i].as_str()]);
                assert!(scale.dims.is_empty() && zero.dims.is_empty() && zero.data_type == DataType::Uint8 as i32);
                let readers: Vec<_> = graph.node.iter().filter(|n| n.input.contains(&node.output[0])).collect();
                assert!(matches!(readers[..], [one] if one.op_type == "DequantizeLinear" && one.input[1..] == node.input[1..]));
            }
            _ => {}
        }
    }
    let pair = |tensor: &str| graph.node.iter().find(|n| n.op_type == "QuantizeLinear" && n.input[0] == tensor).map(|n| &n.input[1..]);
    assert_eq!(pair("pool").unwrap(), pair("clip").unwrap(), "the largest of rounded values needs no other scale");
    assert!(pair("pooled").is_none() && pair("logits").is_none());
    assert_eq!(made["embedding"].op_type, "Flatten", "the embedding itself is not rounded");
}

#[test]
fn a_matrix_product_gets_its_correction_from_a_sum() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    let mut source = Source::read(&model.join("model.onnx"), &model).unwrap();
    source.graph_mut().node.iter_mut().filter(|n| n.op_type == "Gemm").for_each(|n| n.op_type = "MatMul".into());
    std::fs::write(model.join("model.onnx"), prost::Message::encode_to_vec(&source.proto)).unwrap();
    let done = quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap();
    assert!(done.float.is_empty() && done.layers == 4 && done.comparison.cosine_mean.unwrap() > 0.999, "{done}");
    let graph = written(&out);
    let at = graph.node.iter().position(|n| n.op_type == "MatMul").unwrap();
    assert_eq!((graph.node[at].input.len(), &*graph.node[at + 1].op_type), (2, "Add"));
    assert_eq!(graph.node[at + 1].input[0], graph.node[at].output[0]);
    assert_eq!(graph.node[at + 1].output[0], "logits");
}

#[test]
fn a_layer_that_loses_too_much_stays_in_floats() {
    let folder = network(3000.0);
    let model = folder.path().join("model");
    let all_in_integers = Bar { agreement: 0.0, cosine: 0.0 };
    let bad = quantize(&model, &folder.path().join("bad"), (&picture, &share()), &all_in_integers, false).unwrap();
    assert!(bad.float.is_empty() && bad.comparison.cosine_mean.unwrap() < 0.98, "{bad}");
    let good = quantize(&model, &folder.path().join("good"), (&picture, &share()), &Bar::default(), false).unwrap();
    assert!(!good.float.is_empty() && good.layers > 0 && good.comparison.cosine_mean.unwrap() > 0.99, "{good}");
    assert!(good.float.iter().any(|l| l.name == "project"), "{good}");
    assert!(good.flops_in_integers < 1.0 && good.to_string().contains("in floats project"), "{good}");
}

#[test]
fn below_the_bar_nothing_is_written_and_what_is_there_stays() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    let too_much = Bar { agreement: 1.0, cosine: 1.0 };
    let error = quantize(&model, &out, (&picture, &share()), &too_much, false).unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the model");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine"), "x").unwrap();
    let error = quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap_err();
    assert!(matches!(&error, Error::Config(text) if text.contains("--force")), "{error}");
    std::fs::remove_file(out.join("mine")).unwrap();
    std::fs::write(out.join("model.yaml"), "an earlier one").unwrap();
    quantize(&model, &out, (&picture, &share()), &Bar::default(), true).unwrap();
    assert!(out.join("model.onnx").exists() && std::fs::metadata(out.join("model.yaml")).unwrap().len() > 20);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    let error = quantize(&out, &folder.path().join("again"), (&picture, &share()), &Bar::default(), false).unwrap_err();
    assert!(error.to_string().contains("quantised already"), "{error}");
}

#[test]
fn nothing_but_a_model_is_written_over() {
    let folder = network(1.0);
    let (model, keep) = (folder.path().join("model"), folder.path().join("keep"));
    std::fs::create_dir(&keep).unwrap();
    std::fs::write(keep.join("photo.jpg"), "x").unwrap();
    for (out, why) in [
        (&*keep, "holds more than a model (photo.jpg)"),
        (&*model, "is, or holds, the model that is read"),
        (folder.path(), "is, or holds, the model that is read"),
        (&*keep.join("photo.jpg"), "is no folder"),
    ] {
        let error = quantize(&model, out, (&picture, &share()), &Bar::default(), true).unwrap_err();
        assert!(matches!(&error, Error::Config(text) if text.contains(why)), "{error}");
    }
    assert!(keep.join("photo.jpg").exists() && model.join("model.onnx").exists());
}

#[test]
fn the_embedding_of_a_quantised_graph_is_found_without_its_name() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap();
    let mut source = Source::read(&out.join("model.onnx"), &out).unwrap();
    source.graph_mut().output.truncate(1);
    std::fs::write(out.join("bare.onnx"), prost::Message::encode_to_vec(&source.proto)).unwrap();
    let yaml = "version: 1\nname: bare\ngraph: bare.onnx\npreprocess: { resize: 16, crop: 16, mean: [0, 0, 0], std: [1, 1, 1] }\n";
    std::fs::write(out.join("model.yaml"), yaml).unwrap();
    let bare = load_to_compare(&out, Precision::F32).unwrap();
    assert_eq!(bare.file.outputs.embedding.as_deref(), Some("embedding"));
}

#[test]
fn the_same_pictures_give_the_same_bytes() {
    let folder = network(1.0);
    let bytes = |name: &str| {
        let out = folder.path().join(name);
        quantize(&folder.path().join("model"), &out, (&picture, &share()), &Bar::default(), false).unwrap();
        std::fs::read(out.join("model.onnx")).unwrap()
    };
    assert_eq!(bytes("one"), bytes("two"));
}

#[test]
fn a_quantised_model_is_refused_in_bf16_and_runs_in_f32() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap();
    let error = load_to_compare(&out, Precision::Bf16).unwrap_err();
    let has_bf16 = lakelens_engine::kernels::has_bf16();
    let why = if has_bf16 { "is quantised; use --precision int8 or f32" } else { "does not multiply bf16" };
    assert!(matches!(&error, Error::Config(text) if text.contains(why)), "{error}");
    assert_eq!(&*load_to_compare(&out, Precision::F32).unwrap().info().precision, "f32");
    assert!(!has_bf16 || load_to_compare(&model, Precision::Bf16).is_ok());
}

#[test]
fn every_node_is_counted_on_the_engine_or_on_tract() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap();
    // In f32 what is rounded stands between the layers, and the whole network is left to tract.
    for (path, on_the_engine) in [(&model, true), (&out, false)] {
        let (network, runner, _) = Network::load(path, Precision::F32).unwrap();
        let [engine, tract] = network.nodes_of(&runner);
        assert_eq!(
            (engine > 0, runner.report.is_some(), engine + tract),
            (on_the_engine, on_the_engine, network.nodes),
            "{}",
            path.display()
        );
        assert!(network.nodes > 10, "{} nodes", network.nodes);
    }
}

/// A model that keeps its weights in bytes, and activations in floats.
#[test]
fn of_weights_that_are_only_stored_in_bytes_the_floats_are_quantised() {
    let folder = network(1.0);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    let mut source = Source::read(&model.join("model.onnx"), &model).unwrap();
    let graph = source.graph_mut();
    let mut made = Vec::new();
    for weight in graph.initializer.iter_mut().filter(|t| t.name.ends_with("weight")) {
        let name = weight.name.clone();
        let values = floats(weight).unwrap();
        let scale = values.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
        let whole = values.iter().map(|v| (v / scale).round() as i8 as u8).collect();
        let dims: Vec<usize> = weight.dims.iter().map(|&d| d as usize).collect();
        *weight = tensor(&format!("{name}.bytes"), &dims, DataType::Int8, whole);
        made.push((name, scale));
    }
    for (name, scale) in made {
        graph.initializer.push(tensor(&format!("{name}.scale"), &[], DataType::Float, scale.to_le_bytes().to_vec()));
        graph.initializer.push(tensor(&format!("{name}.zero"), &[], DataType::Int8, vec![0]));
        let node = NodeProto {
            op_type: "DequantizeLinear".into(),
            input: ["bytes", "scale", "zero"].map(|part| format!("{name}.{part}")).into(),
            output: vec![name],
            ..Default::default()
        };
        graph.node.insert(0, node);
    }
    std::fs::write(model.join("model.onnx"), prost::Message::encode_to_vec(&source.proto)).unwrap();
    let done = quantize(&model, &out, (&picture, &share()), &Bar::default(), false).unwrap();
    assert_eq!((done.layers, done.float.len()), (4, 0));
    let again = quantize(&out, &folder.path().join("twice"), (&picture, &share()), &Bar::default(), false);
    assert!(again.unwrap_err().to_string().contains("quantised already"));
}

fn layer(kind: &str, values: Vec<f32>, dims: Vec<usize>, groups: usize, bias: Option<Vec<f32>>) -> Layer {
    let axis = usize::from(kind == "MatMul");
    Layer {
        node: 0,
        name: String::new(),
        input: String::new(),
        output: String::new(),
        weight: String::new(),
        dims,
        axis,
        values,
        bias,
        groups,
    }
}

proptest! {
    #[test]
    fn weights_are_half_a_step_off_and_a_bias_fits(
        values in prop::collection::vec(-2f32..2.0, 24), zeros in 0usize..4, bias in prop::collection::vec(-1e3f32..1e3, 4), scale in 1e-6f32..10.0,
    ) {
        let mut values = values;
        values[..zeros * 6].fill(0.0);
        let layer = layer("Conv", values.clone(), vec![4, 3, 2, 1], 1, Some(bias.clone()));
        let integers = weights::round(&layer, Grid { scale, zero: 3 }, None);
        for (at, (&w, &q)) in values.iter().zip(&integers.weights).enumerate() {
            let step = integers.scales[at / 6];
            prop_assert!((f32::from(q) * step - w).abs() <= step * 0.5001, "{w} {q} {step}");
        }
        for ((&b, &q), &s) in bias.iter().zip(&integers.bias.unwrap()).zip(&integers.scales) {
            let step = f64::from(s) * f64::from(scale);
            prop_assert!((f64::from(q) * step - f64::from(b)).abs() <= step * 0.5001 && q.unsigned_abs() <= (1 << 29) + 64, "{b} {q} {step}");
        }
    }

    /// Against the definition: both layers applied to an input that is its mean everywhere.
    #[test]
    fn a_mean_shift_is_what_the_layer_makes_of_the_means(values in prop::collection::vec(-2f32..2.0, 24), means in prop::collection::vec(-3f32..3.0, 6)) {
        let grid = Grid { scale: 0.1, zero: 0 };
        // [4, 3, 2, 1] in two groups reads 6 channels; [6, 4] is a matrix.
        for (kind, dims, groups) in [("Conv", vec![4, 3, 2, 1], 2), ("MatMul", vec![6, 4], 1)] {
            let layer = layer(kind, values.clone(), dims, groups, None);
            let integers = weights::round(&layer, grid, None);
            let got = weights::mean_shift(&layer, &integers, &means);
            for (out, &got) in got.iter().enumerate() {
                let at = |n: usize| if kind == "Conv" { (out * 6 + n, out / 2 * 3 + n / 2) } else { (n * 4 + out, n) };
                let due: f32 = (0..6).map(at).map(|(w, input)| (f32::from(integers.weights[w]) * integers.scales[out] - values[w]) * means[input]).sum();
                prop_assert!((got - due).abs() < 1e-4, "{kind} {out}: {got} {due}");
            }
        }
    }
}
