mod fuzz;
mod hostile;
mod schema;
mod together;

use super::*;

const CONTRACT: &str = include_str!("../../../tests/data/contract.yaml");
const MODEL: &str = include_str!("../../../tests/data/contract-model.yaml");

/// The least that is a pipeline.
const SMALL: &str = "version: 1
source: { kafka: { brokers: localhost:9092, topics: [refs] } }
fetch: { allow: { s3: [lake/*] } }
model: { path: models/resnet50 }
sinks:
  - kafka: { labels: labels }
dead_letters: { kafka: dead }
";

fn no_env(_: &str) -> Option<String> {
    None
}

fn good(text: &str) -> Pipeline {
    parse(text, "p.yaml", &no_env).unwrap_or_else(|e| panic!("{e}")).0
}

fn mistakes(text: &str) -> String {
    match parse(text, "p.yaml", &no_env) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

fn small(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    SMALL.replace(from, to)
}

#[test]
fn the_contracts_pipeline_is_read() {
    let (p, warnings) = parse(CONTRACT, "p.yaml", &|n| (n == "HOSTNAME").then(|| "w7".into())).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((p.name.as_str(), p.instance.as_str()), ("product-photos", "w7"));
    let kafka = p.source.all()[0].kafka.as_ref().expect("kafka");
    assert_eq!((kafka.brokers.as_str(), kafka.group.as_deref()), ("localhost:9092", Some("lakelens")));
    assert_eq!(p.store.s3.endpoint.as_deref(), Some(""));
    assert_eq!((p.memory, p.fetch.max_pixels), (ByteSize(512 << 20), Pixels(50_000_000)));
    assert_eq!(p.fetch.give_up.0.as_secs(), 600);
    assert_eq!(p.sinks.len(), 3);
    assert_eq!(p.delivery, Some(Delivery::AtLeastOnce));
    assert!(warnings.is_empty(), "{warnings:?}");
    // All that the example spells out are the defaults.
    let least = good(SMALL);
    let json = |v: &dyn erased::Json| v.json();
    assert_eq!(json(&p.batch), json(&least.batch));
    assert_eq!(json(&p.output), json(&least.output));
    assert_eq!(json(&p.decode), json(&least.decode));
    assert_eq!(json(&p.reject_limit), json(&least.reject_limit));
}

mod erased {
    /// Anything that can be JSON, to compare types that have no equality.
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }
    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).expect("JSON")
        }
    }
}

#[test]
fn the_contracts_model_is_read() {
    let mut report = Report::default();
    let text = MODEL.replace("# or", "#");
    let model = model_of(&text, &no_env, &mut report).expect("a model");
    assert_eq!(report.errors, []);
    assert_eq!(model.preprocess, Preprocess::default());
    assert_eq!(model.outputs.activation, Some(Activation::Softmax));
    assert_eq!(model.graph.as_deref(), Some(Path::new("model.onnx")));
}

#[test]
fn a_model_that_cannot_be_is_refused() {
    for (text, part) in [
        ("name: m", "1:1: needs `graph`, or `weights` and `arch`"),
        ("name: m\ngraph: a\nweights: b\narch: c", "weights: does not go with `graph`"),
        ("name: m\nweights: b", "weights: needs `arch`"),
        ("name: m@x\ngraph: a", "1:7: name: must be"),
        ("name: m\ngraph: a\npreprocess: { scale: 0 }", "3:22: preprocess.scale: must be more than 0"),
        ("name: m\ngraph: a\npreprocess: { std: [1, 1, 0.0] }", "preprocess.std: must be"),
        ("name: m\ngraph: a\npreprocess: { mean: [1, .nan, 0] }", "preprocess.mean[1]: expected a number, found `.nan`"),
        ("name: m\ngraph: a\npreprocess: { mean: [1, 0, 1e39] }", "preprocess.mean[2]: out of range"),
        ("name: m\ngraph: a\npreprocess: { interpolation: bicubik }", "did you mean `bicubic`?"),
        ("name: m\ngraph: a\noutputs: { activation: Softmax }", "did you mean `softmax`?"),
    ] {
        let mut report = Report::default();
        model_of(&format!("{text}\nversion: 1\n"), &no_env, &mut report);
        let found = report.finish("m.yaml").expect_err("a mistake").to_string();
        assert!(found.contains(part) && found.lines().count() == 1, "{part}: {found}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "version: 2
sorce: {}
source:
  kafka: { brokers: localhost:9092, topcis: [refs], start: latst, on_lost: stop }
fetch:
  allow: { s3: [\"lake/*\"] }
  max_bytes: 5 apples
  timeout: 10
  concurrency: 0
  attempts: \"5\"
decode: { exif: yes }
model: { path: m }
batch: [8]
output: { key: uri, key: id, top_k: -1 }
sinks:
  - kafka: { labels: labels }
    parquet: { path: out/, spam: 3 }
dead_letters: nowhere
";
    let found = mistakes(text);
    for line in [
        "p.yaml:1:10: version: out of range: only 1 is known",
        "p.yaml:2:1: sorce: unknown field; did you mean `source`?",
        "p.yaml:4:37: source.kafka.topcis: unknown field; did you mean `topics`?",
        "p.yaml:4:60: source.kafka.start: expected `earliest`, `latest`, found `latst`; did you mean `latest`?",
        "p.yaml:7:14: fetch.max_bytes: expected a size in bytes like 32MiB, found `5 apples`",
        "p.yaml:8:12: fetch.timeout: expected a length of time like 10s, found `10`",
        "p.yaml:9:16: fetch.concurrency: out of range: 1 to 4096 is allowed",
        "p.yaml:10:13: fetch.attempts: expected a whole number, found `5` in quotes",
        "p.yaml:11:17: decode.exif: expected true or false, found `yes`; YAML 1.2 knows",
        "p.yaml:13:8: batch: expected a mapping, found a list",
        "p.yaml:14:21: `key` stands twice",
        "p.yaml:14:37: output.top_k: out of range",
        "p.yaml:17:28: sinks[0].parquet.spam: unknown field; did you mean `span`?",
        "p.yaml:18:15: dead_letters: expected `none` or a mapping, found `nowhere`",
    ] {
        assert!(found.contains(line), "{line}\nis not in\n{found}");
    }
    let lines: Vec<usize> = found.lines().map(|l| l.split(':').nth(1).and_then(|n| n.parse().ok()).expect("a line")).collect();
    assert!(lines.is_sorted());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (from, to, part) in [
        ("dead_letters: { kafka: dead }", "", "`dead_letters` is missing"),
        ("dead_letters: { kafka: dead }", "dead_letters: {}", "dead_letters: needs exactly one of `kafka`, `jsonl`"),
        ("kafka: dead", "kafka: refs", "7:24: dead_letters.kafka: `refs` is a topic of the source"),
        ("labels: labels", "labels: refs", "6:22: sinks[0].kafka.labels: `refs` is a topic of the source"),
        ("labels: labels", "labels: refs, brokers: \"other:1,LOCALHOST\"", "is a topic of the source"),
        ("labels: labels", "labels: dead", "is written to by another field"),
        ("labels: labels", "labels: labels, records: all", "records: does not go with"),
        ("labels: labels", "properties: {}", "needs a topic"),
        ("labels: labels", "labels: a/b", "`a/b` is no topic's name"),
        ("topics: [refs]", "topics: [refs], properties: { group.id: x }", "properties.group.id: may not be set: use `group`"),
        ("topics: [refs]", "topics: [refs, refs]", "topics[1]: stands twice"),
        ("topics: [refs]", "topics: [\"^refs\"]", "patterns"),
        ("topics: [refs]", "topics: [refs], records: [a]", "has `topics`, `records` at once"),
        ("topics: [refs]", "start: latest", "source.kafka: needs exactly one of `topics`, `records`"),
        ("brokers: localhost:9092, ", "", "source.kafka: `brokers` is missing"),
        ("brokers: localhost:9092", "brokers: \"a,,b\"", "not a list of at most 64 brokers"),
        ("model: { path: models/resnet50 }\n", "", "`model` is missing"),
        (
            "source: { kafka: { brokers: localhost:9092, topics: [refs] } }",
            "source: {}",
            "needs exactly one of `kafka`, `listing`, `lines`",
        ),
        ("source: { kafka: { brokers: localhost:9092, topics: [refs] } }", "source: []", "source: is an empty list"),
        ("source: { kafka: { brokers: localhost:9092, topics: [refs] } }", "source: { lines: { path: x } }", "needs `brokers`"),
        (
            "source: { kafka: { brokers: localhost:9092, topics: [refs] } }",
            "source: { lines: { path: \"-\", state: s } }",
            "standard input",
        ),
        (
            "source: { kafka: { brokers: localhost:9092, topics: [refs] } }",
            "source: { listing: { path: \"gs://b/\" } }",
            "neither a path nor s3",
        ),
        ("version: 1", "version: 1\nmemory: 100MiB", "memory: is too small for one image"),
        ("version: 1", "version: 1\nstore: { s3: { endpoint: \"http://u:hunter2@h:1\" } }", "holds credentials"),
        ("version: 1", "version: 1\ntelemetry: { listen: \":9464\" }", "telemetry.listen: must be host:port"),
        ("version: 1", "version: 1\ntelemetry: { otlp: { endpoint: \"collector:4318\" } }", "telemetry.otlp.endpoint: must be a URL"),
        (
            "version: 1",
            "version: 1\ntelemetry: { otlp: { endpoint: \"http://u:p@collector\" } }",
            "telemetry.otlp.endpoint: holds a password",
        ),
        ("lake/*", "lake", "3:24: fetch.allow.s3[0]: `lake` is not `bucket/*`"),
        ("- kafka: { labels: labels }", "[]", "sinks: is empty"),
        ("version: 1", "", "the field `version` is missing"),
    ] {
        let found = mistakes(&small(from, to));
        assert!(found.contains(part), "{to}: {found}");
        assert!(!found.contains("hunter2"));
        // Another source leaves Kafka sinks and dead letters without a cluster, too.
        assert!(found.lines().count() == 1 || from.starts_with("source:"), "{to}: {found}");
    }
}

#[test]
fn every_forbidden_property_is_refused_in_sources_and_sinks() {
    for (name, instead) in crate::kafka::FORBIDDEN {
        let found = mistakes(
            &small("topics: [refs]", &format!("topics: [refs], properties: {{ {name}: hunter2 }}"))
                .replace("labels: labels", &format!("labels: labels, properties: {{ {name}: hunter2 }}")),
        );
        for path in ["source.kafka", "sinks[0].kafka"] {
            assert!(found.contains(&format!("{path}.properties.{name}: may not be set: {instead}")), "{found}");
        }
        assert!(found.lines().count() == 2 && !found.contains("hunter2"), "{found}");
    }
}

#[test]
fn a_mistake_hides_no_other_one() {
    // A field that is wrong or missing and cannot be left out, in files that are wrong further on, too.
    for (from, to, first) in [
        ("version: 1", "version: 2", "version: out of range"),
        ("version: 1", "version: one", "version: expected a whole number"),
        ("version: 1", "", "version: the field `version` is missing"),
        ("path: models/resnet50", "path: [m]", "model.path: expected text"),
        ("source: { kafka: { brokers: localhost:9092, topics: [refs] } }", "source: 7", "source: expected"),
        ("sinks:\n  - kafka: { labels: labels }\n", "sinks: [nowhere]\n", "sinks[0]: expected a mapping"),
        ("sinks:\n  - kafka: { labels: labels }\n", "", "sinks: the field `sinks` is missing"),
    ] {
        let found = mistakes(&small(from, to).replace("[lake/*]", "[lake]"));
        assert!(found.contains(first) && found.contains("fetch.allow.s3[0]: `lake` is not"), "{to}: {found}");
    }
    let found = mistakes(&small("brokers: localhost:9092, topics", "start: latst, topcis"));
    assert!(
        found.contains("source.kafka: `brokers` is missing") && found.contains("did you mean `topics`") && found.contains("`latst`"),
        "{found}"
    );
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn exactly_once_names_what_stands_against_it() {
    let exactly = |sinks: &str| format!("{}delivery: exactly-once\n", small("  - kafka: { labels: labels }\n", sinks));
    assert!(
        mistakes(&exactly("  - parquet: { path: out/ }\n"))
            .contains("sinks[0].parquet: `delivery: exactly-once` cannot be kept: a Parquet file")
    );
    assert!(mistakes(&exactly("  - jsonl: { path: out/ }\n")).contains("sinks[0].jsonl: "));
    assert!(mistakes(&exactly("  - kafka: { labels: l, brokers: other:9092 }\n")).contains("sinks[0].kafka.brokers: "));
    let dead = exactly("  - kafka: { labels: l }\n").replace("dead_letters: { kafka: dead }", "dead_letters: { jsonl: d }");
    assert!(mistakes(&dead).contains("7:15: dead_letters: `delivery: exactly-once` cannot be kept"));
    let (delivery, why) = effective_delivery(&good(&small("  - kafka: { labels: labels }", "  - parquet: { path: out/ }")));
    assert_eq!(delivery, Delivery::AtLeastOnce);
    assert!(why.contains("Parquet"));
    let other = exactly("  - kafka: { labels: l, properties: { linger.ms: '50' } }\n");
    assert!(
        mistakes(&other).contains("sinks[0].kafka.properties: `delivery: exactly-once` cannot be kept: one transaction has one producer")
    );
    let kept = small("  - kafka: { labels: labels }", "  - kafka: { labels: labels }");
    assert_eq!(effective_delivery(&good(&kept)).0, Delivery::ExactlyOnce);
    assert_eq!(effective_delivery(&good(&format!("{kept}delivery: at-least-once\n"))).0, Delivery::AtLeastOnce);
}

#[test]
fn several_sources_have_names_and_priorities() {
    let two = |a: &str, b: &str| {
        let list =
            format!("source:\n  - {{ {a} kafka: {{ brokers: b, topics: [refs] }} }}\n  - {{ {b} listing: {{ path: s3://lake/2026/ }} }}\n");
        small("source: { kafka: { brokers: localhost:9092, topics: [refs] } }\n", &list)
    };
    let p = good(&two("name: a, priority: backfill,", "name: b, priority: backfill,"));
    assert_eq!(p.source.all().len(), 2);
    assert_eq!(p.source.all()[1].priority, Some(Priority::Backfill));
    let both = two("name: a, priority: live,", "name: b, priority: backfill,");
    assert_eq!(good(&both).source.all()[0].priority, Some(Priority::Live));
    let (_, warnings) = parse(&both.replace("fetch: {", "fetch: { concurrency: 1,"), "p.yaml", &no_env).expect("a pipeline");
    assert!(warnings[0].to_string().contains("fetch.concurrency: is 1"), "{}", warnings[0]);
    assert!(mistakes(&two("", "")).contains("source[0]: needs a `name`"));
    let found = mistakes(&two("name: a, priority: live,", "name: a,"));
    assert!(found.contains("4:13: source[1].name: is another source's name") && found.contains("source[1]: needs a `priority`"), "{found}");
}

#[test]
fn two_sources_of_one_group_are_not_one_static_member() {
    let with = |second: &str| {
        let of = |name: &str, id: &str| {
            format!(
                "  - {{ name: {name}, priority: live, kafka: {{ brokers: b, topics: [{name}], properties: {{ group.instance.id: {id} }} }} }}\n"
            )
        };
        small("source: { kafka: { brokers: localhost:9092, topics: [refs] } }\n", &format!("source:\n{}{}", of("a", "w1"), of("b", second)))
    };
    good(&with("w2"));
    assert!(mistakes(&with("w1")).contains("properties.group.instance.id: is another source's in this group"), "{}", mistakes(&with("w1")));
}

#[test]
fn an_archive_goes_without_a_model() {
    let archive = "version: 1
source: { kafka: { brokers: b:9092, records: [image-labels, image-embeddings] } }
sinks: [ { parquet: { path: s3://lake-labels/x/ } } ]
dead_letters: none
";
    assert!(good(archive).model.is_none());
    let labelled_again = mistakes(&format!("{archive}model: {{ path: m }}\n"));
    assert!(labelled_again.contains("5:8: model: does not go with a source of `records`"), "{labelled_again}");
}

#[test]
fn an_empty_allow_list_is_a_warning() {
    let (_, warnings) = parse(&small("s3: [lake/*]", ""), "p.yaml", &no_env).expect("a pipeline");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().starts_with("3:17: fetch.allow: is empty"), "{}", warnings[0]);
}

#[test]
fn variables_fill_scalars_and_never_change_the_structure() {
    let env = |name: &str| match name {
        "TOPIC" => Some("refs], brokers: evil, x: [".to_owned()),
        "N" => Some("64".into()),
        "B" => Some("true".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let text =
        small("version: 1", "version: 1\nname: \"a-${TOPIC}-$$${EMPTY:-d}\"\nbatch: { max_items: \"${N}\" }\ndecode: { exif: '${B}' }");
    let (p, _) = parse(&text, "p.yaml", &env).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(p.name, "a-refs], brokers: evil, x: [-$d");
    assert_eq!((p.batch.max_items, p.decode.exif), (64, true));

    let unset = mistakes(&small("labels: labels", "labels: \"${NOT_SET}\""));
    assert_eq!(
        unset,
        "p.yaml:6:22: sinks[0].kafka.labels: the environment variable NOT_SET is not set; set it, or give a default: `${NOT_SET:-...}`"
    );
    assert!(mistakes(&small("labels: labels", "labels: \"${A\"")).contains("without `}`"));
    assert!(mistakes(&small("labels: labels", "labels: \"${A-B}\"")).contains("takes a variable's name"));
    assert!(mistakes(&small("labels: labels", "labels: \"$A\"")).contains("6:22: sinks[0].kafka.labels: a `$` stands alone"));
}

#[test]
fn secrets_stay_out_of_messages_and_of_what_is_printed() {
    let env = |_: &str| Some("hunter2".to_owned());
    let text = small("topics: [refs]", "topics: [\"${T}\"], properties: { sasl.password: hunter3, sasl.username: \"${U}\", x: [hunter3] }")
        .replace("version: 1", "version: 1\ninstance: \"${I}\"\nmemory: \"${M}\"\noutput: { key: \"${K}\", top_k: \"${N}\" }")
        .replace("kafka: dead", "kafka: \"${T}\"");
    let found = parse(&text, "p.yaml", &env).expect_err("mistakes").to_string();
    assert!(found.lines().count() >= 4 && found.contains("feed itself"), "{found}");
    assert!(!found.contains("hunter"), "{found}");

    let text = small("topics: [refs]", "topics: [\"${T}\", refs], properties: { sasl.password: hunter3 }")
        .replace("version: 1", "version: 1\nname: \"x-${I}\"");
    let (p, _) = parse(&text, "p.yaml", &env).unwrap_or_else(|e| panic!("{e}"));
    let shown = redacted(&p, &text);
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(
        shown.starts_with("version: 1\nname: \"***\"\n")
            || shown.starts_with("version: 1\nname: '***'\n")
            || shown.starts_with("version: 1\nname: ***\n"),
        "{shown}"
    );
    for part in ["sasl.password: ", "- refs", "delivery: exactly-once", "max_bytes: 32MiB", "max_wait: 50ms"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn what_is_printed_reads_back() {
    let p = good(SMALL);
    let shown = redacted(&p, SMALL);
    let again = parse(&shown, "p.yaml", &no_env).unwrap_or_else(|e| panic!("{e}\n{shown}")).0;
    let mut p = serde_json::to_value(p).expect("JSON");
    p["delivery"] = "exactly-once".into();
    assert_eq!(serde_json::to_value(again).expect("JSON"), p);
}

#[test]
fn files_that_a_pipeline_names_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, SMALL.replace("models/resnet50", "no/such/model")).expect("written");
    let found = load(&file).expect_err("no model").to_string();
    assert!(found.contains(":4:16: model.path: cannot be opened: No such file"), "{found}");
    let model = folder.path().join("m");
    std::fs::create_dir(&model).expect("made");
    std::fs::write(&file, SMALL.replace("models/resnet50", &model.display().to_string())).expect("written");
    assert!(load(&file).expect_err("no model.yaml").to_string().contains("without model.yaml"));

    let yaml = model.join("model.yaml");
    std::fs::write(&yaml, "version: 1\nname: m\ngraph: ../m.onnx\nlabels: labels.txt\npreprocess: { std: [1, 1] }\n").expect("written");
    assert!(load(&file).is_ok());
    let found = load_model(&yaml).expect_err("mistakes").to_string();
    assert!(found.contains(":3:8: graph: must be a path inside") && found.contains(":4:9: labels: cannot be opened"), "{found}");
    assert!(found.contains(":5:20: preprocess.std: expected 3 entries, found 2"), "{found}");
    std::fs::write(model.join("m.onnx"), "x").expect("written");
    std::fs::write(&yaml, "version: 1\nname: m\ngraph: m.onnx\n").expect("written");
    assert_eq!(load_model(&yaml).expect("a model").name, "m");
    assert!(load("/no/such/file.yaml").expect_err("no file").to_string().starts_with("/no/such/file.yaml:1:1: cannot be opened"));
}
