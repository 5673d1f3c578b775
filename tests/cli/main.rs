//! The command line as a user types it: real files, a real network, the real program.

// An `unwrap` in a test is the assertion that it looks like.
#![allow(clippy::unwrap_used)]

mod bench;
mod demo;
mod head;
mod helpers;
mod outputs;
mod plan;
mod precision;
mod pull;
mod quantize;
mod refusals;
mod report;
mod resume;
mod space;
mod stopping;
mod telemetry;
mod traces;
mod watchdog;

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a tiny network in `model/` and `count` pictures in `photos/`.
fn lake(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["model", "init", "tiny", "--seed", "3", "--out", "model"], 0);
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    let formats = [("jpg", ImageFormat::Jpeg), ("png", ImageFormat::Png), ("bmp", ImageFormat::Bmp), ("gif", ImageFormat::Gif)];
    for n in 0..count {
        let picture = RgbImage::from_fn(40 + n % 60, 33 + n % 47, |x, y| Rgb([(x * 5 + n) as u8, (y * 7) as u8, (x * y + n * 3) as u8]));
        let (extension, format) = formats[n as usize % formats.len()];
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        std::fs::write(folder.path().join(format!("photos/{n:03} é+.{extension}")), bytes.into_inner()).unwrap();
    }
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakelens"));
    command.args(args).current_dir(folder).env("NO_COLOR", "1").env_remove("RUST_LOG");
    command
}

/// Runs to the end, which must be `code`.
fn run(folder: &Path, args: &[&str], code: i32) -> Output {
    let output = command(folder, args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn records(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_folder_becomes_records_and_its_broken_pictures_rejections() {
    let folder = lake(20);
    std::fs::write(folder.path().join("photos/broken.jpg"), b"not a picture").unwrap();
    std::fs::write(folder.path().join("photos/empty.png"), b"").unwrap();
    std::fs::write(folder.path().join("photos/README.txt"), b"passed over").unwrap();
    let output = run(folder.path(), &["label", "photos", "--model", "model", "--out", "out.jsonl"], 0);
    let all = records(&folder.path().join("out.jsonl"));
    assert_eq!(all.len(), 20);
    for (n, record) in all.iter().enumerate() {
        assert_eq!(record["schema"], "lakelens.record.v1");
        assert!(record["uri"].as_str().unwrap().contains(&format!("/photos/{n:03}%20%C3%A9+.")), "in the order of the listing: {record}");
        assert_eq!(record["labels"].as_array().unwrap().len(), 5);
        assert_eq!(record["embedding"].as_array().unwrap().len(), record["embedding_dim"].as_u64().unwrap() as usize);
    }
    let rejected = records(&folder.path().join("out.jsonl.rejected.jsonl"));
    let reasons: Vec<&str> = rejected.iter().map(|r| r["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["unsupported_format", "empty"]);
    assert!(stderr(&output).contains("22         20         2"), "{}", stderr(&output));
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "again.jsonl", "--fail-on-rejected"], 4);
    // What is there is not written over unasked.
    let output = run(folder.path(), &["label", "photos", "--model", "model", "--out", "out.jsonl"], 2);
    assert!(stderr(&output).contains("--resume"));
}

#[test]
fn batch_size_and_threads_never_change_a_result() {
    let folder = lake(30);
    let mut results = Vec::new();
    for (n, (batch, threads)) in [("1", "1"), ("3", "2"), ("8", "4"), ("32", "1")].into_iter().enumerate() {
        let out = format!("{n}.jsonl");
        run(folder.path(), &["label", "photos", "--model", "model", "--out", &out, "--batch", batch, "--threads", threads], 0);
        let mut all = records(&folder.path().join(out));
        all.iter_mut().for_each(|record| drop(record.as_object_mut().unwrap().remove("processed_at")));
        results.push(all);
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_run_that_was_killed_is_resumed_without_loss_or_double() {
    let folder = lake(60);
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "whole.jsonl"], 0);
    let whole = std::fs::read(folder.path().join("whole.jsonl")).unwrap();
    // As a kill leaves it: some lines, and part of another.
    let cut = whole.len() / 3;
    for (out, name) in [("part.jsonl", "part.jsonl"), ("part.parquet", "part.parquet.journal")] {
        std::fs::write(folder.path().join(name), &whole[..cut]).unwrap();
        run(folder.path(), &["label", "photos", "--model", "model", "--out", out, "--resume"], 0);
    }
    let count = |path: &str| {
        let mut seen = BTreeMap::new();
        records(&folder.path().join(path)).iter().for_each(|r| *seen.entry(r["uri"].to_string()).or_insert(0) += 1);
        seen
    };
    assert_eq!(count("part.jsonl"), count("whole.jsonl"));
    assert!(folder.path().join("part.parquet").exists() && !folder.path().join("part.parquet.journal").exists());
}

#[test]
fn references_are_read_from_stdin_and_records_written_to_stdout() {
    let folder = lake(4);
    let mut child = command(folder.path(), &["label", "-", "--model", "model", "--no-embeddings", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "photos/000 é+.jpg\n{\"uri\": \"file:///no/such/file.jpg\", \"id\": 7}\n\nnonsense\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let outcome: Vec<&str> = lines.iter().map(|l| l["reason"].as_str().unwrap_or("record")).collect();
    assert_eq!(outcome, ["record", "not_found", "bad_reference"]);
    assert!(lines[0].get("embedding").is_none());
    assert_eq!(lines[1]["id"], "7");
}

#[test]
fn text_files_are_lines_of_references_and_pictures_stay_pictures_whatever_their_name() {
    let folder = lake(3);
    let lines = "photos/000 é+.jpg\r\n\n{\"uri\": \"file:///no/such/file.jpg\"}\nhttps://user:hunter2@h:x/?sig=hunter2\n";
    for name in ["refs.txt", "refs.LST", "refs.uris", "refs.jsonl", "refs.ndjson"] {
        std::fs::write(folder.path().join(name), lines).unwrap();
        let out = format!("{name}.out.jsonl");
        run(folder.path(), &["label", name, "--model", "model", "--out", &out], 0);
        assert_eq!(records(&folder.path().join(&out)).len(), 1, "{name}");
        let rejected = records(&folder.path().join(format!("{out}.rejected.jsonl")));
        let reasons: Vec<&str> = rejected.iter().map(|r| r["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["not_found", "bad_reference"], "{name}");
        assert_eq!(rejected[1]["input"], "https://***@h:x/?sig=***");
    }
    std::fs::copy(folder.path().join("photos/001 é+.png"), folder.path().join("picture.txt")).unwrap();
    run(folder.path(), &["label", "picture.txt", "--model", "model", "--out", "picture.jsonl"], 0);
    assert_eq!(records(&folder.path().join("picture.jsonl")).len(), 1);
}

#[test]
fn check_names_every_mistake_at_once() {
    let folder = lake(0);
    let text = "version: 2
source:
  - { name: a, priority: live, kafka: { brokers: \"b:9092\", topics: [refs], properties: { group.id: x } } }
  - { listing: { path: photos } }
fetch: { allow: { s3: [lake], http: [\"10.0.0.0/33\", \"*.*\"] }, timeuot: 3s }
model: { path: no-such-model }
sinks:
  - kafka: { labels: refs }
  - parquet: {}
dead_letters: { kafka: refs }
delivery: exactly-once
";
    std::fs::write(folder.path().join("bad.yaml"), text).unwrap();
    let output = run(folder.path(), &["check", "bad.yaml"], 2);
    let found = stderr(&output);
    for mistake in [
        "bad.yaml:1:10: version: out of range: only 1 is known",
        "bad.yaml:3:100: source[0].kafka.properties.group.id: may not be set: use `group`",
        "bad.yaml:4:5: source[1]: needs a `name`",
        "bad.yaml:4:5: source[1]: needs a `priority`",
        "bad.yaml:3:3: source: `delivery: exactly-once` cannot be kept",
        "bad.yaml:5:24: fetch.allow.s3[0]: `lake` is not `bucket/*`",
        "bad.yaml:5:38: fetch.allow.http[0]: `10.0.0.0/33` is not a host",
        "bad.yaml:5:53: fetch.allow.http[1]: `*.*` is not a host",
        "bad.yaml:5:63: fetch.timeuot: unknown field; did you mean `timeout`?",
        "bad.yaml:6:16: model.path: cannot be opened",
        "bad.yaml:8:22: sinks[0].kafka.labels: `refs` is a topic of the source",
        "bad.yaml:9:14: sinks[1].parquet.path: the field `path` is missing",
        "bad.yaml:10:24: dead_letters.kafka: `refs` is a topic of the source",
    ] {
        assert!(found.contains(mistake), "{mistake}\n--- is not in ---\n{found}");
    }
}

#[test]
fn the_pipeline_of_a_local_folder_runs_and_goes_on_where_it_was() {
    let folder = lake(25);
    let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/local-folder.yaml");
    let go = || {
        let output =
            command(folder.path(), &["run", pipeline]).env("MODEL", "model").env("PHOTOS", "photos").env("OUT", "out").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    go();
    let file = folder.path().join("out/photos-0.jsonl");
    assert_eq!(records(&file).len(), 25);
    let parquet = folder.path().join("out/topic=photos/partition=0/00000000000000000000.parquet");
    assert!(parquet.exists());
    std::fs::copy(folder.path().join("photos/000 é+.jpg"), folder.path().join("photos/zzz.jpg")).unwrap();
    go();
    assert_eq!(records(&file).len(), 26);
    assert!(folder.path().join("out/topic=photos/partition=0/00000000000000000025.parquet").exists());
}

#[test]
fn every_ready_made_pipeline_is_without_mistakes() {
    let folder = lake(0);
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let output = command(folder.path(), &["check", path.to_str().unwrap()])
            .env("MODEL", "model")
            .env("AWS_REGION", "eu-west-1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let of_topics_only = ["kafka-s3", "s3-events"].iter().any(|name| path.file_stem().unwrap() == *name);
        let delivery = if of_topics_only { "exactly-once" } else { "at-least-once" };
        assert!(text.contains(&format!("delivery: {delivery}")) && !text.contains("eu-west-1"), "{text}");
    }
}

#[test]
fn wrong_usage_is_told_from_a_failure() {
    let folder = lake(1);
    run(folder.path(), &["label", "photos"], 2);
    run(folder.path(), &["label", "no-such-folder", "--model", "model", "--out", "x.jsonl"], 2);
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "x.txt"], 2);
    std::fs::write(folder.path().join("bad.yaml"), "version: 1\nsource: { listing: { pth: x } }\nsinks: []\n").unwrap();
    let output = run(folder.path(), &["check", "bad.yaml"], 2);
    let text = stderr(&output);
    assert!(text.contains("bad.yaml:2:22: source.listing.pth: unknown field; did you mean `path`?"), "{text}");
    std::fs::write(folder.path().join("model/labels.txt"), "just one\n").unwrap();
    let output = run(folder.path(), &["label", "photos", "--model", "model", "--out", "y.jsonl"], 2);
    assert!(stderr(&output).contains("labels"), "{}", stderr(&output));
}

#[test]
fn schemas_and_completions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pipeline", "model", "record", "rejection", "reference"] {
        let output = run(folder.path(), &["schema", name], 0);
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(schema["$schema"].is_string(), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(folder.path(), &["completions", shell], 0).stdout.len() > 1000);
    }
}

#[test]
fn a_terminate_signal_ends_a_run_whose_input_is_read_but_whose_store_never_answers() {
    let folder = lake(0);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut child =
        command(folder.path(), &["label", "-", "--model", "model", "--out", "out.jsonl", "--s3-endpoint", &endpoint, "--s3-anonymous"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    child.stdin.take().unwrap().write_all(b"s3://lake/a.jpg\ns3://lake/b.jpg\n").unwrap();
    // Connected: the input has been read to its end by then, or is about to be.
    let connection = silent.accept().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let asked = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed().as_secs() < 30, "the signal was not obeyed");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "stopped with input left");
    drop(connection);
}

#[test]
fn a_terminate_signal_drains_and_a_second_run_finishes() {
    let folder = lake(200);
    let mut child = command(folder.path(), &["label", "photos", "--model", "model", "--out", "out.jsonl", "--threads", "1"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = folder.path().join("out.jsonl");
    while !out.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let code = child.wait().unwrap().code();
    // Stopped early with input left (1), or so fast that it was through (0); by the signal itself never.
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "out.jsonl", "--resume"], 0);
    let all = records(&out);
    let distinct: std::collections::BTreeSet<String> = all.iter().map(|r| r["uri"].to_string()).collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
}

#[test]
fn version_tells_release_commit_and_target() {
    let output = run(Path::new("."), &["--version"], 0);
    let line = String::from_utf8(output.stdout).unwrap();
    let (release, rest) = line.trim_end().split_once(" (").unwrap();
    assert_eq!(release, concat!("lakelens ", env!("CARGO_PKG_VERSION")));
    let (revision, target) = rest.strip_suffix(')').unwrap().split_once(", ").unwrap();
    let digits = revision.strip_suffix("-dirty").unwrap_or(revision);
    assert!(revision == "unknown" || digits.len() >= 7 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    assert!(target.starts_with(std::env::consts::ARCH), "{line}");
}
