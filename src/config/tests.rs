use proptest::prelude::*;

use super::*;

const CONTRACT: &str = include_str!("../../tests/data/contract.yaml");

fn env(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "hunter2: [".to_owned())
}

fn problems(text: &str) -> String {
    match parse(text, "p.yaml", &env) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// The contract's example with one line replaced.
fn with(from: &str, to: &str) -> String {
    assert!(CONTRACT.contains(from), "{from}");
    CONTRACT.replace(from, to)
}

#[test]
fn the_contracts_example_is_read() {
    let (pipeline, _) = parse(CONTRACT, "p.yaml", &env).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pipeline.instance, "worker");
    assert_eq!(pipeline.fetch.max_bytes.0, 32 << 20);
    assert_eq!(pipeline.fetch.max_pixels.0, 50_000_000);
    assert_eq!(pipeline.sinks.len(), 3);
    assert_eq!(effective_delivery(&pipeline).0, Delivery::AtLeastOnce);
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let text = "version: 1\nsource: { kafka: { broker: x, topics: [a] } }\nsinks: [{ kafkaa: {} }]\nbatch: { max_items: 0, max_wait: 5 }\nmodel: { path: m, precision: f23 }\n";
    let all = problems(text);
    for part in [
        "p.yaml:2:20: source.kafka.broker: unknown field; did you mean `brokers`?",
        "p.yaml:3:11: sinks[0].kafkaa: unknown field; did you mean `kafka`?",
        "p.yaml:4:21: batch.max_items: 0 is out of range",
        "p.yaml:4:34: batch.max_wait: `5` is not a length of time",
        "p.yaml:5:30: model.precision: `f23` is not one of f32, bf16, int8; did you mean `f32`?",
    ] {
        assert!(all.contains(part), "{part}\n--- in ---\n{all}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (from, to, word) in [
        ("delivery: at-least-once", "delivery: exactly-once", "a file takes longer"),
        ("labels: image-labels", "labels: image-refs", "feed itself"),
        ("{ kafka: image-refs.dead }", "{ kafka: image-refs }", "feed themselves"),
        ("properties: {}", "properties: { group.id: x }", "delivery depends on it"),
        ("memory: 512MiB", "memory: 64MiB", "a quarter of it"),
        ("dead_letters: { kafka: image-refs.dead }", "", "`dead_letters` is missing"),
        ("topics: [image-refs]", "topics: [image-refs], records: [x]", "not both"),
    ] {
        let all = problems(&with(from, to));
        assert!(all.contains(word), "{to}: {all}");
    }
}

#[test]
fn a_variable_never_changes_the_structure_and_is_never_shown() {
    let (pipeline, _) = parse(&with("name: product-photos", "name: \"${SECRET}\""), "p.yaml", &env).unwrap();
    assert_eq!(pipeline.name, "hunter2: [");
    let all = problems(&with("precision: f32", "precision: \"${SECRET}\""));
    assert!(all.contains("***") && !all.contains("hunter2"), "{all}");
    let all = problems(&with("name: product-photos", "name: \"${UNSET_NAME}\""));
    assert!(all.contains("UNSET_NAME is not set") && all.contains("p.yaml:2:7"), "{all}");
}

#[test]
fn dollars_and_defaults() {
    let (pipeline, _) = parse(&with("name: product-photos", "name: \"$$x ${NOPE:-d}\""), "p.yaml", &env).unwrap();
    assert_eq!(pipeline.name, "$x d");
}

#[test]
fn a_model_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.yaml");
    std::fs::write(
        &path,
        "version: 1\nname: resnet50\ngraph: model.onnx\npreprocess: { resize: 232, interpolation: bicubic, std: [1, 1, 1] }\n",
    )
    .unwrap();
    let model = load_model(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((model.preprocess.resize, model.preprocess.crop), (232, 224));
    std::fs::write(&path, "version: 1\nname: x\npreprocess: { std: [1, 0], crop: -3 }\n").unwrap();
    let all = load_model(&path).unwrap_err().to_string();
    assert!(all.contains("2 entries") && all.contains("-3 is out of range"), "{all}");
}

fn cases() -> ProptestConfig {
    let count = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    ProptestConfig { cases: count, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_text_panics(text in "[ -~\n]{0,80}") {
        let _ = parse(&text, "p.yaml", &env);
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0usize..CONTRACT.len(), cut in 0usize..40, put in "[ -~\n]{0,6}") {
        let end = (at + cut).min(CONTRACT.len());
        if CONTRACT.is_char_boundary(at) && CONTRACT.is_char_boundary(end) {
            let _ = parse(&format!("{}{put}{}", &CONTRACT[..at], &CONTRACT[end..]), "p.yaml", &env);
        }
    }
}
