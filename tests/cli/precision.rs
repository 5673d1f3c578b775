//! Lower precision beside f32: near it, in a space of its own, and the same label wherever f32 is not torn.

use std::path::Path;

use lakelens_engine::kernels::{has_bf16, has_int8};
use serde_json::Value;

use super::{lake, records, run, stderr};

/// A folder with `efficientnet-lite0/` (`model.onnx`, `labels.txt`) and `photos/`.
const DATA: &str = "LAKELENS_TEST_DATA";

fn floats(record: &Value) -> Vec<f64> {
    record["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Labels `photos` with `model` in both precisions and compares the records; the images and how many of them f32 is sure of.
fn bf16_beside_f32(folder: &Path, photos: &str) -> (usize, usize) {
    for precision in ["f32", "bf16"] {
        run(folder, &["label", photos, "--model", "model", "--precision", precision, "--out", &format!("{precision}.jsonl")], 0);
    }
    let both: Vec<_> = records(&folder.join("f32.jsonl")).into_iter().zip(records(&folder.join("bf16.jsonl"))).collect();
    let mut sure = 0;
    for (due, got) in &both {
        assert_eq!((&due["uri"], &due["precision"], &got["precision"]), (&got["uri"], &"f32".into(), &"bf16".into()));
        assert!(due["model"] == got["model"] && due["space"] != got["space"], "{} and {}", due["space"], got["space"]);
        let cosine = cosine(&floats(due), &floats(got));
        assert!(cosine >= 0.999, "{}: a cosine of {cosine}", due["uri"]);
        let score = |nth: usize| due["labels"][nth]["score"].as_f64().unwrap();
        if score(0) - score(1) >= 0.02 {
            sure += 1;
            assert_eq!(due["labels"][0]["index"], got["labels"][0]["index"], "{}", due["uri"]);
        }
    }
    (both.len(), sure)
}

#[test]
fn a_processor_without_bf16_says_so() {
    if has_bf16() {
        eprintln!("left out: this processor multiplies bf16");
        return;
    }
    let folder = lake(1);
    let output = run(folder.path(), &["label", "photos", "--model", "model", "--precision", "bf16", "--out", "out.jsonl"], 2);
    assert!(stderr(&output).contains("this processor does not multiply bf16"), "{}", stderr(&output));
}

#[test]
fn int8_of_a_model_in_floats_is_refused() {
    let folder = lake(1);
    let output = run(folder.path(), &["label", "photos", "--model", "model", "--precision", "int8", "--out", "out.jsonl"], 2);
    let due = if has_int8() { "is not quantised; make a quantised copy with `lakelens model quantize" } else { "does not multiply bytes" };
    assert!(stderr(&output).contains(due), "{}", stderr(&output));
}

#[test]
fn bf16_of_a_seeded_resnet50_is_near_f32() {
    if !has_bf16() {
        eprintln!("left out: this processor does not multiply bf16");
        return;
    }
    let folder = lake(16);
    std::fs::remove_dir_all(folder.path().join("model")).unwrap();
    run(folder.path(), &["model", "init", "resnet50", "--seed", "3", "--out", "model"], 0);
    assert_eq!(bf16_beside_f32(folder.path(), "photos").0, 16);
}

/// A folder with EfficientNet-Lite0 in `model/`.
pub fn trained(data: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    for file in ["model.onnx", "labels.txt"] {
        std::fs::copy(data.join("efficientnet-lite0").join(file), folder.path().join("model").join(file)).unwrap();
    }
    let of = |value: f64| [(value / 255.0).to_string(), (value / 255.0).to_string(), (value / 255.0).to_string()].join(", ");
    let description = format!(
        "version: 1\nname: lite0\ngraph: model.onnx\nlabels: labels.txt\npreprocess: {{ mean: [{}], std: [{}] }}\n",
        of(127.0),
        of(128.0)
    );
    std::fs::write(folder.path().join("model/model.yaml"), description).unwrap();
    folder
}

#[test]
fn bf16_of_trained_weights_gives_the_photographs_their_labels() {
    let (Ok(data), true) = (std::env::var(DATA), has_bf16()) else {
        eprintln!("left out: {DATA} does not name a folder of photographs and a trained network, or this processor does not multiply bf16");
        return;
    };
    let data = std::path::absolute(data).unwrap();
    let folder = trained(&data);
    let (images, sure) = bf16_beside_f32(folder.path(), data.join("photos").to_str().unwrap());
    assert!(sure * 10 > images * 8, "f32 is sure of {sure} of {images}");
    eprintln!("{images} photographs, of which f32 is sure of {sure}: the same labels, cosine at least 0.999");
}
