//! Files that are broken, or made to break the reader.

use std::time::{Duration, Instant};

use super::super::read::MAX_FILE as MAX;
use super::super::*;
use super::{SMALL, good, mistakes, no_env, small};

#[test]
fn hostile_yaml_is_refused_quickly() {
    let mut bomb = String::from("a: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        bomb += &format!("b{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    assert!(mistakes(&bomb).contains("too large once its aliases"));
    assert!(mistakes(&format!("{}x", "[".repeat(200))).contains("nested deeper"));
    let nest: String = (1..60).map(|i| format!("b{i}: &a{i} [*a{}]\n", i - 1)).collect();
    assert!(mistakes(&format!("a: &a0 [x]\n{nest}")).contains("nested deeper"));
    assert!(mistakes("a: &a [*a]\n").contains("alias within"));
    assert!(mistakes("").contains("is empty"));
    assert!(mistakes("a: b\n---\nc: d\n").contains("second document"));
    assert!(mistakes("a: [b\n").contains("not YAML"));
    assert!(mistakes("version: !!int 1\n").contains("a tag"));
    assert!(mistakes("{[a]: b}").contains("name must be text"));
    assert!(mistakes(&"#".repeat(2 << 20)).contains("larger than"));
    assert!(mistakes("just text").contains("expected a mapping"));
}

/// What is found wrong with a file of these bytes.
fn file(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.yaml");
    std::fs::write(&path, bytes).expect("written");
    let found = load(&path).expect_err("a mistake").to_string();
    found.replace(&path.display().to_string(), "p.yaml")
}

#[test]
fn the_ways_in_which_editors_save_text() {
    let same = |text: &str| serde_json::to_value(good(text)).expect("JSON") == serde_json::to_value(good(SMALL)).expect("JSON");
    assert!(same(&SMALL.replace('\n', "\r\n")));
    assert!(same(&format!("\u{feff}{SMALL}")));
    assert!(same(&format!("\u{feff}---\r\n{}...\r\n", SMALL.replace('\n', "\r\n"))));
    assert!(mistakes(&small("topics", "topcis").replace('\n', "\r\n")).starts_with("p.yaml:2:45: source.kafka.topcis: "));
    assert!(mistakes(&format!("\u{feff}verion: 1\n{SMALL}")).starts_with("p.yaml:1:1: verion: unknown field; did you mean `version`?"));
    assert!(file(b"version: 1\nname: caf\xe9\n").starts_with("p.yaml:2:10: is not UTF-8"));
    assert!(file(b"\xff\xfev\0e\0").starts_with("p.yaml:1:1: is not UTF-8"));
    for empty in ["", "\u{feff}", "\r\n\r\n", "# only a comment\n", "---\n"] {
        let found = file(empty.as_bytes());
        assert!(found.starts_with("p.yaml:1:1: ") || found.starts_with("p.yaml:2:1: "), "{empty:?}: {found}");
    }
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for (text, place) in [
        ("version: 1\n\tname: x\n", "p.yaml:2:1: indented with a tab"),
        ("version: 1\nstore:\n\ts3: {}\n", "p.yaml:3:1: indented with a tab"),
        ("version: 1\nname: \"x\n", "p.yaml:"),
        ("version: 1\nname: x: y\n", "p.yaml:2:"),
        ("version: 1\nsinks: [a, }\n", "p.yaml:2:"),
        ("version: 1\nname: *nobody\n", "p.yaml:2:"),
        ("version: 1\n%YAML 1.2\n", "p.yaml:"),
        ("version: 1\nname: \0\n", "p.yaml:2:"),
        ("version: 1\nversion: 1\n", "p.yaml:2:1: `version` stands twice"),
        ("version: 1\nstore: { s3: { region: a, region: b } }\n", "p.yaml:2:27: "),
    ] {
        let found = mistakes(text);
        assert!(found.contains(place), "{text:?}: {found}");
    }
    let anchored = good(&small("labels: labels", "labels: &a labels, embeddings: emb").replace("version: 1", "version: 1\nname: &n x"));
    assert_eq!(anchored.name, "x");
}

#[test]
fn no_file_of_a_mebibyte_takes_long() {
    let half = MAX / 2;
    let list = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let many = |line: &dyn Fn(usize) -> String| -> String {
        let mut text = String::new();
        for n in 0.. {
            let line = line(n);
            if text.len() + line.len() > MAX {
                break;
            }
            text.push_str(&line);
        }
        text
    };
    let files = [
        "[".repeat(MAX),
        "{".repeat(MAX),
        "- ".repeat(half),
        "? ".repeat(half),
        "&a ".repeat(MAX / 3),
        "a: ".repeat(MAX / 3),
        "\"".repeat(MAX),
        "'".repeat(MAX),
        "\t".repeat(MAX),
        "$".repeat(MAX),
        "\n".repeat(MAX),
        "---\n".repeat(MAX / 4),
        format!("a: {}", "${A:-".repeat(MAX / 6)),
        format!("a: |\n{}", "  x\n".repeat(MAX / 5)),
        many(&|n| format!("key{n}: 1\n")),
        many(&|n| format!("{}{{a: [\n", " ".repeat(n))),
        many(&|n| format!("a{n}: &a{n} [x]\n")),
        many(&|n| format!("a{n}: \"${{B{n}}}\"\n")),
        // Whole pipelines, as large as they may be.
        small("[refs]", &format!("[{}]", list(50_000, &|n| format!("t{n}, ")))),
        small("localhost:9092", &format!("\"{}\"", "b,".repeat(half - 400))),
        small("  - kafka: { labels: labels }\n", &list(9_000, &|n| format!("  - kafka: {{ labels: l{n} }}\n"))),
        small("[lake/*]", &format!("[{}]", list(50_000, &|n| format!("l{n}, ")))),
        small(
            "source: { kafka: { brokers: localhost:9092, topics: [refs] } }",
            &format!(
                "source:\n{}",
                list(2, &|n| format!("  - kafka: {{ brokers: b, topics: [{}] }}\n", list(20_000, &|m| format!("{n}t{m}, "))))
            ),
        ),
    ];
    for text in files {
        let begin = Instant::now();
        let result = parse(&text, "p.yaml", &no_env);
        let took = begin.elapsed();
        let start: String = text.chars().take(30).collect();
        assert!(took < Duration::from_secs(10), "{start:?}: {took:?}");
        // A pipeline may have a great many topics.
        if let Err(found) = result {
            assert!(found.errors.len() <= 100 && found.to_string().len() < 1 << 20, "{start:?}");
        }
    }
}

#[test]
fn the_hundredth_mistake_is_the_last_that_is_shown() {
    let text = format!("{SMALL}{}", (0..150).map(|n| format!("x{n}: 1\n")).collect::<String>());
    let found = mistakes(&text);
    assert_eq!(found.lines().count(), 101);
    assert!(found.ends_with("p.yaml: and 50 more mistakes"), "{found}");
}
