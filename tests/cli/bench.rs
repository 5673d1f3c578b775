//! `lakelens bench`, as far as a test may look at figures: that they are there, and fit each other.

use serde_json::Value;

use super::{lake, run, stderr};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn engine_figures_fit_each_other() {
    let folder = lake(0);
    let args = ["bench", "engine", "--model", "model", "--batch", "1,3", "--threads", "1,2", "--seconds", "0.1", "--layers"];
    let output = run(folder.path(), &[&args[..], &["--json"]].concat(), 0);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["schema"], "lakelens.bench.engine.v1");
    let peaks = figures["peaks"].as_array().unwrap();
    assert_eq!(peaks.len(), 6, "three arithmetics on one thread and on two");
    let peak = |threads: u64| peaks.iter().find(|p| p["arithmetic"] == "f32" && p["threads"] == threads).map(|p| p["gflops"].as_f64());
    let network = &figures["networks"][0];
    assert!(network["model"].as_str().unwrap().starts_with("tiny@sha256:"));
    assert!(number(&network["nodes_on_engine"]) > 4.0 && network["nodes_on_tract"] == 0);
    assert!(number(&network["weight_bytes"]) > 4.0 * 8.0 * 27.0 && number(&network["arena_bytes"]) > 4.0 * 3.0 * 32.0 * 32.0);
    let parts: f64 = network["loading"].as_object().unwrap().values().map(number).sum();
    assert!((parts - number(&network["loading_total"])).abs() < 1e-6);
    let runs = network["runs"].as_array().unwrap();
    let asked: Vec<_> = runs.iter().map(|r| (r["batch"].as_u64().unwrap(), r["threads"].as_u64().unwrap())).collect();
    assert_eq!(asked, [(1, 1), (1, 2), (3, 1), (3, 2)]);
    for run in runs {
        assert_eq!(run["precision"], "f32");
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
        let (rate, gflops) = (number(&run["images_per_s"]), number(&run["gflops"]));
        assert!(close(gflops, rate * number(&network["gflop_per_image"])));
        assert!(close(number(&run["over_tract"]), rate / number(&run["tract_images_per_s"])));
        // No peak is measured where the processor has neither AVX2 nor AVX-512.
        if let Some(Some(peak)) = peak(run["threads"].as_u64().unwrap()) {
            assert!(close(number(&run["share_of_peak"]), gflops / peak));
        }
        assert!(run["threads"] == 2 || number(&run["scaling"]) == 1.0);
        let over = number(&run["over_smallest_batch"]);
        assert!(if run["batch"] == 1 { over == 1.0 } else { over > 0.0 && over.is_finite() });
    }
    let layers = network["layers"].as_array().unwrap();
    let kinds: Vec<&str> = layers.iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["import", "conv", "conv", "global pool", "export", "linear", "export"]);
    let sum: f64 = layers.iter().map(|l| number(&l["gflop"])).sum();
    assert!((sum / number(&network["gflop_per_image"]) - 1.0).abs() < 1e-6, "every layer of this network is on the engine");
}

#[test]
fn engine_figures_are_a_table_too() {
    let folder = lake(0);
    // A bare graph says itself what pictures it takes.
    let args = ["bench", "engine", "--model", "model/model.onnx", "--batch", "2", "--seconds", "0", "--no-tract", "--layers"];
    let output = run(folder.path(), &args, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["peaks of loops", "model@sha256:", "loading", "times the file", "images/s", "32x32x3 -> 16x16x8 3x3 Direct"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = lake(0);
    for (args, why) in [
        (&["--precision", "f16"][..], "one of f32, bf16, int8"),
        (&["--batch", "0"], "1..=1024"),
        (&["--model", "nowhere"], "give a folder with model.yaml, or an .onnx file"),
    ] {
        let output = run(folder.path(), &[&["bench", "engine"], args].concat(), 2);
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

#[test]
fn peers_stand_beside_ours() {
    let folder = lake(0);
    // In place of Python, one that says that a peer takes a millisecond an image.
    let python = folder.path().join("python");
    let way = r#"[{"runtime": "openvino", "version": "1.2", "precision": "f32", "setting": "a thread"}]"#;
    std::fs::write(&python, format!("#!/bin/sh\necho '{way}'\nwhile read turn; do echo '[0.001]'; done\n")).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let args = ["bench", "engine", "--model", "model", "--batch", "1,2", "--threads", "1", "--seconds", "0", "--no-tract", "--peers"];
    let run = |python: &str, more: &[&str], code: i32| {
        let output = super::command(folder.path(), &[&args[..], more].concat()).env("LAKELENS_PYTHON", python).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        output
    };
    let figures: Value = serde_json::from_slice(&run(python.to_str().unwrap(), &["--json"], 0).stdout).unwrap();
    let network = &figures["networks"][0];
    let (peer, runs) = (&network["peers"][0], network["runs"].as_array().unwrap());
    assert_eq!((&peer["runtime"], number(&peer["images_per_s"]), &peer["threads"]), (&"openvino".into(), 1000.0, &1.into()));
    assert!((number(&runs[0]["over_best_peer"]) - number(&runs[0]["images_per_s"]) / 1000.0).abs() < 1e-6);
    assert!(runs[1]["over_best_peer"].is_null(), "peers take an image a call");
    let table = String::from_utf8(run(python.to_str().unwrap(), &[], 0).stdout).unwrap();
    assert!(table.contains("openvino 1.2, a thread") && table.contains("of peak stock tract"), "{table}");
    assert!(stderr(&run("false", &[], 2)).contains("pip install onnxruntime openvino numpy"));
    assert!(stderr(&run("./nowhere", &[], 2)).contains("LAKELENS_PYTHON"));
}
