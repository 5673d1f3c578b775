//! `lakelens model quantize` and `lakelens model verify`.

use serde_json::Value;

use super::{lake, records, run, stderr};

/// A folder with `efficientnet-lite0/` (`model.onnx`, `labels.txt`) and `photos/`.
const DATA: &str = "LAKELENS_TEST_DATA";

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_quantised_model_is_a_model_and_agrees() {
    let folder = lake(40);
    let quantize = ["model", "quantize", "model", "--images", "photos", "--out", "int8"];
    let said = text(&run(folder.path(), &quantize, 0));
    for part in ["pictures    20, of which", "agreement", "cosine", "layers      3 in integers, 0 in floats", "wrote int8"] {
        assert!(said.contains(part), "{said}");
    }
    let again = run(folder.path(), &quantize, 2);
    assert!(stderr(&again).contains("int8 exists") && stderr(&again).contains("--force"), "{}", stderr(&again));
    let forced = run(folder.path(), &[&quantize[..], &["--force", "--json", "--calibration", "5"]].concat(), 0);
    let figures: Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert_eq!((&figures["calibration"], &figures["comparison"]["pictures"], &figures["layers"]), (&5.into(), &35.into(), &3.into()));
    let inspect =
        |model| -> Value { serde_json::from_slice(&run(folder.path(), &["model", "inspect", model, "--json"], 0).stdout).unwrap() };
    let [before, after] = ["model", "int8"].map(inspect);
    assert_eq!(before["quantized"], 0);
    let [parameters, as_before, in_bytes] = [&after["parameters"], &before["parameters"], &after["quantized"]].map(|n| n.as_u64().unwrap());
    // Convolutions without a bias have got one.
    assert!(in_bytes == parameters && (as_before..as_before * 11 / 10).contains(&parameters), "{before} {after}");
    assert!(text(&run(folder.path(), &["model", "inspect", "int8"], 0)).contains("quantised   "), "{after}");
    let said = text(&run(folder.path(), &["model", "verify", "model", "int8", "--images", "photos"], 0));
    assert!(said.contains("pictures    40, of which"), "{said}");
    if lakelens_engine::kernels::has_bf16() {
        let refused = run(folder.path(), &["model", "verify", "model", "int8", "--images", "photos", "--precision-b", "bf16"], 2);
        assert!(stderr(&refused).contains("is quantised; use --precision int8 or f32"), "{}", stderr(&refused));
        let refused = run(folder.path(), &["label", "photos", "--model", "int8", "--precision", "bf16", "--out", "bf16.jsonl"], 2);
        assert!(stderr(&refused).contains("is quantised; use --precision int8 or f32"), "{}", stderr(&refused));
    }
    run(folder.path(), &["label", "photos", "--model", "int8", "--out", "int8.jsonl"], 0);
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "f32.jsonl"], 0);
    let (int8, f32) = (records(&folder.path().join("int8.jsonl")), records(&folder.path().join("f32.jsonl")));
    assert_eq!((int8.len(), f32.len()), (40, 40));
    assert_ne!(int8[0]["space"], f32[0]["space"], "their embeddings are not of one space");
}

#[test]
fn what_stays_below_the_bar_fails_and_leaves_nothing() {
    let folder = lake(12);
    run(folder.path(), &["model", "init", "tiny", "--seed", "4", "--out", "other"], 0);
    let args = ["model", "quantize", "model", "--images", "photos", "--out", "out/int8", "--min-cosine", "1"];
    let output = run(folder.path(), &args, 1);
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path().join("out")).map_or(0, Iterator::count), 0);
    let output = run(folder.path(), &["model", "verify", "model", "other", "--images", "photos"], 1);
    assert!(text(&output).contains("cosine") && stderr(&output).contains("--min-cosine"), "{}", stderr(&output));
    run(folder.path(), &["model", "verify", "model", "other", "--images", "photos", "--min-agreement", "0", "--min-cosine", "0"], 0);
    let same: Value =
        serde_json::from_slice(&run(folder.path(), &["model", "verify", "model", "model", "--images", "photos", "--json"], 0).stdout)
            .unwrap();
    assert_eq!((&same["pictures"], &same["cosine_mean"]), (&12.into(), &1.0.into()));
}

#[test]
fn wrong_usage_is_told() {
    let folder = lake(1);
    for (args, why) in [
        (&["quantize", "model", "--images", "photos", "--out", "x"][..], "too few pictures that can be decoded: 1, at least 2 needed"),
        (&["quantize", "model", "--images", "nowhere", "--out", "x"], "give a folder of pictures"),
        (&["quantize", "nowhere", "--images", "photos", "--out", "x"], "nowhere"),
        (&["verify", "model", "model", "--images", "photos", "--min-agreement", "98"], "not a number from 0 to 1"),
    ] {
        let output = run(folder.path(), &[&["model"], args].concat(), 2);
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    for command in ["quantize", "verify"] {
        assert!(text(&run(folder.path(), &["model", command, "--help"], 0)).contains("Examples:"));
    }
}

#[test]
fn classes_of_other_names_are_not_taken_for_the_same() {
    let folder = lake(3);
    for (model, first) in [("a", "cat"), ("b", "dog")] {
        run(folder.path(), &["model", "init", "tiny", "--seed", "3", "--out", model], 0);
        let labels = folder.path().join(model).join("labels.txt");
        let names = std::fs::read_to_string(&labels).unwrap();
        std::fs::write(&labels, format!("{first}\n{}", names.split_once('\n').unwrap().1)).unwrap();
    }
    let verify = |a, b, code| run(folder.path(), &["model", "verify", a, b, "--images", "photos", "--min-agreement", "0"], code);
    let said = stderr(&verify("a", "b", 2));
    assert!(said.contains("class 0 is \"cat\"") && said.contains("\"dog\""), "{said}");
    verify("a", "a", 0);
    let yaml = folder.path().join("b/model.yaml");
    let without = std::fs::read_to_string(&yaml).unwrap().replace("labels: labels.txt\n", "");
    std::fs::write(&yaml, without).unwrap();
    verify("a", "b", 0);
}

#[test]
fn a_signal_ends_quantising_and_leaves_nothing() {
    let folder = lake(40);
    run(folder.path(), &["model", "init", "resnet50", "--out", "slow"], 0);
    let args = ["model", "quantize", "slow", "--images", "photos", "--out", "out/int8"];
    let worker = super::stopping::started(folder.path(), &args);
    let (output, time) = super::stopping::ended_after(worker, std::time::Duration::from_secs(3));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("stopped by a signal; nothing was written"), "{}", stderr(&output));
    assert!(time < std::time::Duration::from_secs(20), "it took {time:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
}

/// What issue 4 asks for of a network that is hard to quantise, with half of 100 photographs to calibrate and half to check.
#[test]
fn a_trained_network_of_depthwise_layers_survives() {
    let Ok(data) = std::env::var(DATA) else {
        eprintln!("left out: {DATA} does not name a folder of photographs and a trained network");
        return;
    };
    let data = std::path::absolute(data).unwrap();
    let folder = super::precision::trained(&data);
    let photos = data.join("photos");
    let photos = photos.to_str().unwrap();
    let bar = ["--min-agreement", "0.94", "--min-cosine", "0.98", "--json"];
    let output = run(folder.path(), &[&["model", "quantize", "model", "--images", photos, "--out", "int8"], &bar[..]].concat(), 0);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&figures["calibration"], &figures["comparison"]["pictures"]), (&50.into(), &50.into()));
    assert!(figures["comparison"]["sure"].as_u64().unwrap() > 40 && figures["flops_in_integers"].as_f64().unwrap() > 0.99, "{figures}");
}
