//! Weights that are no graph: safetensors and pickles.

use std::fmt::Write as _;
use std::io::{Cursor, Write};

use prost::Message;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tract_onnx::pb::ModelProto;
use zip::write::SimpleFileOptions;

use super::server::Server;
use super::{names, pull, stderr, stdout};
use crate::{lake, records, run};

type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

/// The weights of a seeded ResNet-18, with torchvision's names.
fn resnet18(folder: &std::path::Path) -> Tensors {
    run(folder, &["model", "init", "resnet18", "--classes", "3", "--out", "seeded"], 0);
    let graph = ModelProto::decode(&*std::fs::read(folder.join("seeded/model.onnx")).unwrap()).unwrap().graph.unwrap();
    graph.initializer.into_iter().map(|t| (t.name, t.dims.iter().map(|d| *d as usize).collect(), t.raw_data)).collect()
}

/// transformers' name of a parameter of a ResNet-18.
fn transformers(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let kind = |layer: &str| if layer.starts_with("conv") { "convolution" } else { "normalization" };
    match parts[..] {
        ["fc", field] => format!("classifier.1.{field}"),
        [layer, field] => format!("resnet.embedder.embedder.{}.{field}", kind(layer)),
        [stage, block, "downsample", which, field] => {
            let stage: usize = stage["layer".len()..].parse().unwrap();
            let layer = if which == "0" { "convolution" } else { "normalization" };
            format!("resnet.encoder.stages.{}.layers.{block}.shortcut.{layer}.{field}", stage - 1)
        }
        [stage, block, layer, field] => {
            let stage: usize = stage["layer".len()..].parse().unwrap();
            let number: usize = layer.trim_start_matches(char::is_alphabetic).parse().unwrap();
            format!("resnet.encoder.stages.{}.layers.{block}.layer.{}.{}.{field}", stage - 1, number - 1, kind(layer))
        }
        _ => panic!("{name}"),
    }
}

fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dims, bytes)| (name.clone(), TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// As `torch.save` writes a state dictionary.
fn pickle(tensors: &Tensors) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let sizes = |sizes: &[usize]| {
        [b"(", &sizes.iter().flat_map(|n| [b"J", &(*n as u32).to_le_bytes()[..]].concat()).collect::<Vec<_>>()[..], b"t"].concat()
    };
    let mut program = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (number, (name, dims, bytes)) in tensors.iter().enumerate() {
        let strides: Vec<usize> = (0..dims.len()).map(|d| dims[d + 1..].iter().product()).collect();
        program.extend(text(name));
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        program.extend(text("storage"));
        program.extend(b"ctorch\nFloatStorage\n");
        program.extend(text(&number.to_string()));
        program.extend(text("cpu"));
        program.extend([b"J", &(bytes.len() as u32 / 4).to_le_bytes()[..], b"tQK\0"].concat());
        program.extend([&sizes(dims)[..], &sizes(&strides), b"\x89ccollections\nOrderedDict\n)RtR"].concat());
        zip.start_file(format!("archive/data/{number}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    program.extend(b"u.");
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(&program).unwrap();
    zip.finish().unwrap().into_inner()
}

fn labels(folder: &std::path::Path, model: &str) -> String {
    let out = format!("{model}.jsonl");
    run(folder, &["label", "photos", "--model", model, "--out", &out, "--top-k", "1"], 0);
    records(&folder.join(out)).iter().fold(String::new(), |mut text, record| {
        let _ = write!(text, "{} {:.4} {:.4};", record["labels"][0]["index"], record["labels"][0]["score"], record["embedding"][7]);
        text
    })
}

#[test]
fn weights_give_the_same_network_whatever_file_they_are_in() {
    let folder = lake(2);
    let at = folder.path();
    let tensors = resnet18(at);
    let theirs: Tensors = tensors.iter().map(|(name, dims, bytes)| (transformers(name), dims.clone(), bytes.clone())).collect();
    let want = labels(at, "seeded");
    let pixels = r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 2,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}"#;
    let config = json!({"architectures": ["ResNetForImageClassification"], "layer_type": "basic", "depths": [2, 2, 2, 2],
        "downsample_in_first_stage": false, "id2label": {"0": "a", "1": "b", "2": "c"}});
    let timm = json!({"architecture": "resnet18", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": {"input_size": [3, 224, 224],
        "crop_pct": 0.875, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}});
    let (config, timm) = (config.to_string(), timm.to_string());
    let described = ("preprocessor_config.json", pixels.as_bytes());
    for (name, files) in [
        ("transformers", vec![("config.json", config.as_bytes()), described, ("model.safetensors", &safetensors(&theirs)[..])]),
        ("pickles", vec![("config.json", config.as_bytes()), described, ("pytorch_model.bin", &pickle(&theirs))]),
        ("timm", vec![("config.json", timm.as_bytes()), ("model.safetensors", &safetensors(&tensors))]),
    ] {
        let server = Server::start(&files);
        // A cache of its own: to one cache, a repository's files at one commit are the same for good.
        let cache = at.join(format!("hf-{name}"));
        let text = stdout(&pull(at, &server, &["hf:me/net", "--out", name], &[("HF_HOME", cache.to_str().unwrap())], 0));
        assert!(text.contains("3 classes"), "{text}");
        assert_eq!(std::fs::read_to_string(at.join(name).join("labels.txt")).unwrap(), "a\nb\nc\n");
        assert_eq!(labels(at, name), want, "{name}");
    }
    let file = pickle(&tensors);
    let server = Server::start(&[("net.pth", &file)]);
    let url = format!("{}/net.pth#sha256={}", server.store, super::sha256(&file));
    assert!(stderr(&pull(at, &server, &[&url], &[], 2)).contains("--arch"));
    assert!(stderr(&pull(at, &server, &[&url, "--arch", "resnet34"], &[], 2)).contains("resnet34"));
    pull(at, &server, &[&url, "--arch", "resnet18"], &[], 0);
    assert_eq!(labels(at, "net"), want);
}

#[test]
fn a_pickle_that_would_run_something_is_refused_by_name() {
    let folder = lake(1);
    let hostile =
        std::fs::read([env!("CARGO_MANIFEST_DIR"), "tests/golden/torch/hostile.pth"].iter().collect::<std::path::PathBuf>()).unwrap();
    let config = json!({"architectures": ["ResNetForImageClassification"], "depths": [3, 4, 6, 3]}).to_string();
    let server = Server::start(&[
        ("config.json", config.as_bytes()),
        ("pytorch_model.bin", &hostile),
        ("preprocessor_config.json", super::PIXELS.as_bytes()),
    ]);
    let error = stderr(&pull(folder.path(), &server, &["hf:me/net"], &[], 2));
    assert!(error.contains("posix.system") && error.contains("not run"), "{error}");
    assert_eq!(names(folder.path()), ["hf", "model", "photos"]);
}
