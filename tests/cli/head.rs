//! `lakelens model head train`, `lakelens relabel`, and heads beside the network's own labels.

use std::fmt::Write as _;
use std::path::Path;

use lakelens_surfaces::{Class, draw_jpeg};
use serde_json::Value;

use super::{lake, records, run, stderr};

/// Pictures of each class.
const EACH: u64 = 16;

/// The bundled network, and pictures of classes that it was not trained on, with a CSV file that says which they are.
fn unseen(folder: &Path) {
    for name in ["bundled", "surfaces"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for (name, bytes) in lakelens_surfaces::MODEL.unwrap() {
        std::fs::write(folder.join("bundled").join(name), bytes).unwrap();
    }
    let known = std::fs::read_to_string(folder.join("bundled/labels.txt")).unwrap();
    let mut csv = "file,label\n".to_owned();
    for (number, class) in Class::unseen().iter().enumerate() {
        assert!(known.lines().all(|label| label != class.label()), "the network was trained on {}", class.label());
        for n in 0..EACH {
            let name = format!("{number}-{n}.jpg");
            std::fs::write(folder.join("surfaces").join(&name), draw_jpeg(*class, 7000 + n, 320, 256).unwrap()).unwrap();
            writeln!(csv, "{name},{}", class.label()).unwrap();
        }
    }
    std::fs::write(folder.join("surfaces.csv"), csv).unwrap();
}

/// By embeddings alone. Guessing is right in one of ten; `surfaces/transfer` measures it on more pictures.
#[test]
fn a_head_learns_kinds_that_the_network_was_not_trained_on_and_says_the_same_wherever_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    unseen(at);
    run(at, &["-q", "label", "surfaces", "--model", "bundled", "--out", "records.parquet"], 0);
    let said =
        run(at, &["model", "head", "train", "records.parquet", "--labels", "surfaces.csv", "--out", "heads/surface.json", "--json"], 0);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let (accuracy, folds) = (said["validation"]["accuracy"].as_f64().unwrap(), &said["validation"]["folds"]);
    assert!(accuracy >= 0.9 && *folds == 5, "{said:#}");

    // Without a picture, and beside the network's own labels in one pass: the same answers.
    let args = ["relabel", "records.parquet", "--head", "heads/surface.json", "--top-k", "2", "--out", "relabelled.jsonl"];
    let text = String::from_utf8(run(at, &args, 0).stdout).unwrap();
    assert!(text.contains(&format!("{} records labelled", EACH * Class::unseen().len() as u64)), "{text}");
    let args = [
        "-q",
        "label",
        "surfaces",
        "--model",
        "bundled",
        "--head",
        "heads/surface.json",
        "--top-k",
        "2",
        "--no-embeddings",
        "--out",
        "at-once.jsonl",
    ];
    run(at, &args, 0);
    let heads = |name: &str| {
        let mut all: Vec<(String, String)> =
            records(&at.join(name)).iter().map(|r| (r["uri"].to_string(), r["heads"]["surface"].to_string())).collect();
        all.sort();
        all
    };
    assert_eq!(heads("relabelled.jsonl"), heads("at-once.jsonl"));
    assert_eq!(records(&at.join("at-once.jsonl"))[0]["embedding"], Value::Null);
    assert_eq!(records(&at.join("relabelled.jsonl"))[0]["labels"].as_array().unwrap().len(), 5);
}

#[test]
fn heads_of_a_pipeline_stand_in_its_records_and_those_of_another_model_are_refused() {
    let folder = lake(24);
    let at = folder.path();
    run(at, &["-q", "label", "photos", "--model", "model", "--out", "records.jsonl"], 0);
    let csv = records(&at.join("records.jsonl")).iter().enumerate().fold("uri,label\n".to_owned(), |mut csv, (n, record)| {
        writeln!(csv, "{},{}", record["uri"].as_str().unwrap(), ["even", "odd"][n % 2]).unwrap();
        csv
    });
    std::fs::write(at.join("labels.csv"), csv).unwrap();
    let train = ["model", "head", "train", "records.jsonl", "--labels", "labels.csv", "--out", "parity.json"];
    let text = String::from_utf8(run(at, &train, 0).stdout).unwrap();
    assert!(text.contains("cross-validation") && text.contains("confusion matrix"), "{text}");
    assert!(stderr(&run(at, &train, 2)).contains("--force"));

    let pipeline = |model: &str| {
        let text = format!(
            "version: 1\nsource: {{ listing: {{ path: photos }} }}\nfetch: {{ allow: {{ file: [\"{}\"] }} }}\nmodel: {{ path: {model} }}\nheads: {{ parity: parity.json }}\nsinks: [{{ jsonl: {{ path: out }} }}]\n",
            at.join("photos").display()
        );
        std::fs::write(at.join("p.yaml"), text).unwrap();
    };
    pipeline("model");
    run(at, &["-q", "run", "p.yaml", "--until-idle", "1s"], 0);
    let files: Vec<_> = walkdir::WalkDir::new(at.join("out"))
        .into_iter()
        .map(|e| e.unwrap().into_path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    let labelled: Vec<Value> = files.iter().flat_map(|file| records(file)).collect();
    assert_eq!(labelled.len(), 24);
    assert!(labelled.iter().all(|r| r["heads"]["parity"].as_array().unwrap().len() == 2 && r["labels"].as_array().unwrap().len() == 5));

    run(at, &["model", "init", "tiny", "--seed", "4", "--out", "other"], 0);
    pipeline("other");
    for args in [&["check", "p.yaml"][..], &["run", "p.yaml"], &["label", "photos", "--model", "other", "--head", "parity.json"]] {
        let said = stderr(&run(at, args, 2));
        assert!(said.contains("heads.parity") && said.contains("another space"), "{args:?}: {said}");
    }
    run(at, &["-q", "label", "photos", "--model", "other", "--out", "other.jsonl"], 0);
    let said = stderr(&run(at, &["relabel", "other.jsonl", "--head", "parity.json", "--out", "no.jsonl"], 2));
    assert!(said.contains("another space") && !at.join("no.jsonl").exists(), "{said}");
}
