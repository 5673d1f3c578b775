//! No text makes the reader panic. `LAKELENS_FUZZ_CASES` says how many are tried.

use proptest::prelude::*;

use super::super::*;
use super::{CONTRACT, mistakes, small};

fn cases() -> ProptestConfig {
    let cases = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// YAML that is nearly a pipeline.
fn near_yaml() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "version",
        "source",
        "kafka",
        "listing",
        "lines",
        "brokers",
        "topics",
        "records",
        "properties",
        "fetch",
        "allow",
        "s3",
        "memory",
        "model",
        "path",
        "sinks",
        "parquet",
        "jsonl",
        "labels",
        "dead_letters",
        "none",
        "delivery",
        "exactly-once",
        "output",
        "batch",
        "max_wait",
        "10s",
        "32MiB",
        "1",
        "-1",
        "1e999",
        "true",
        "~",
        "\"${X}\"",
        "'${X:-5}'",
        "$${",
        "&a x",
        "*a",
        "!!str x",
        "s3://b/",
        "-",
        "\"\\u0000\"",
        "é",
        ".inf",
        "0x10",
        "<<",
    ]);
    let leaf = prop_oneof![4 => word.clone().prop_map(str::to_owned), 1 => "[ -~é]{0,8}"];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|v| format!("{{{}}}", v.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", "))),
        ]
    })
}

fn survives(text: &str) {
    let env = |_: &str| Some("7".to_owned());
    if let Ok((pipeline, _)) = parse(text, "p.yaml", &env) {
        assert!(!redacted(&pipeline, text).is_empty());
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_yaml_panics(text in near_yaml()) {
        survives(&text);
    }

    #[test]
    fn no_mutated_pipeline_panics(at in 0usize..CONTRACT.len(), length in 0usize..12, with in "[ -~\n\t]{0,6}") {
        let mut text = CONTRACT.to_owned();
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &with);
        survives(&text);
    }

    #[test]
    fn a_line_of_the_file_is_named_by_its_number(above in 0usize..40) {
        let text = format!("{}{}", "# nothing\n".repeat(above), small("labels: labels", "lables: labels"));
        let line = format!("p.yaml:{}:14: sinks[0].kafka.lables: unknown field", above + 6);
        prop_assert!(mistakes(&text).starts_with(&line));
    }
}
