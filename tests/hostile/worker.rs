//! All of them through the program, as a user's folder.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakelens::config;
use serde_json::Value;

use super::alone::{LONGEST, MEMORY, complaint, limits, see};
use super::{alone_in_the_process, asked, make, seed};

/// Files in one run of the program.
const RUN: usize = 2000;
/// What the program takes beside `memory`: itself, the tiny network, the tables of the libraries, and what the allocator holds back.
const BESIDE: usize = 128 << 20;

const PIPELINE: &str = "version: 1
name: hostile
source: { listing: { path: files } }
model: { path: model, threads: 2 }
fetch: { give_up: 10s }
output: { embeddings: false }
sinks: [jsonl: { path: out }]
dead_letters: { jsonl: out }
reject_limit: { share: 1, of_last: 1000 }
";

/// What should become of a file, seen alone: a record, or the reason why not.
fn expected(file: &make::File, complaints: &mut Vec<String>, slowest: &mut (Duration, String)) -> &'static str {
    if file.bytes.len() as u64 > config::Fetch::default().max_bytes.0 {
        return "too_large";
    }
    let seen = see(&file.bytes, &limits());
    complaints.extend(complaint(&seen).map(|what| format!("{}: {what}", file.name)));
    *slowest = std::mem::take(slowest).max((seen.time, file.name.clone()));
    let outcome = seen.outcome.map_or_else(|rejection| rejection.reason.name(), |_| "record");
    let other = other_than(file, outcome);
    complaints.extend(other.map(|right| format!("{}: {outcome}, which should be {right}", file.name)));
    outcome
}

/// The right outcome where the kind of the file says it, and `outcome` is another.
fn other_than(file: &make::File, outcome: &str) -> Option<&'static str> {
    let kind = file.name.split_once('-').and_then(|(_, rest)| rest.rsplit_once('.')).map_or("", |(kind, _)| kind);
    let right = if file.bytes.is_empty() {
        "empty"
    } else if ["page", "noise", "nothing"].contains(&kind) {
        "unsupported_format"
    } else if kind == "signature-alone" && outcome != "unsupported_format" {
        "corrupt_image"
    } else {
        return None;
    };
    (outcome != right).then_some(right)
}

/// Where what the program wrote is not what was expected: files without an outcome, with two, or with another.
fn differences(expected: &BTreeMap<String, &str>, written: &[(String, String)]) -> Vec<String> {
    let mut outcomes: BTreeMap<&str, Vec<&str>> = expected.keys().map(|name| (name.as_str(), Vec::new())).collect();
    written.iter().for_each(|(name, outcome)| outcomes.entry(name).or_default().push(outcome));
    let wrong = outcomes.into_iter().filter(|(name, outcomes)| !matches!(outcomes.as_slice(), [one] if expected.get(*name) == Some(one)));
    wrong.map(|(name, outcomes)| format!("{name}: the program says {outcomes:?}, alone it is {:?}", expected.get(name))).collect()
}

/// Bytes in memory of a process and those that it started, now; 0 where the system does not say.
fn resident(process: u32) -> usize {
    let of = |path: String| std::fs::read_to_string(format!("/proc/{process}/{path}")).unwrap_or_default();
    let own = of("statm".into()).split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let children = of(format!("task/{}/children", thread.file_name().to_string_lossy()));
        children.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    own + children.map(resident).sum::<usize>()
}

/// Waits for the program to end. Most bytes that it had in memory.
fn peak_until_end(mut program: Child) -> usize {
    let mut peak = 0;
    let status = loop {
        if let Some(status) = program.try_wait().unwrap() {
            break status;
        }
        peak = peak.max(resident(program.id()));
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "the program ended with {status}");
    peak
}

/// What is in the program's output: each file's name, and its outcome.
fn outcomes(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")) {
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let name = line["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            all.push((name, line["reason"].as_str().unwrap_or("record").to_owned()));
        }
    }
    all
}

/// What is known of all runs together.
#[derive(Default)]
struct Report {
    complaints: Vec<String>,
    outcomes: BTreeMap<String, usize>,
    slowest: (Duration, String),
    peak: usize,
    running: Duration,
}

/// Makes some files, sees each of them alone, and gives all to the program.
fn run(indices: Range<usize>, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let lakelens = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakelens"));
        command.args(args).current_dir(folder.path()).env("RUST_LOG", "error");
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), PIPELINE).unwrap();
    let mut expectations = BTreeMap::new();
    for index in indices {
        let file = make::file(seed(), index);
        std::fs::write(folder.path().join("files").join(&file.name), &file.bytes).unwrap();
        expectations.insert(file.name.clone(), expected(&file, &mut report.complaints, &mut report.slowest));
    }
    peak_until_end(lakelens(&["model", "init", "tiny", "--seed", "3", "--out", "model"]));
    let begun = Instant::now();
    report.peak = report.peak.max(peak_until_end(lakelens(&["run", "pipeline.yaml", "--quiet"])));
    report.running += begun.elapsed();
    let written = outcomes(&folder.path().join("out"));
    report.complaints.extend(differences(&expectations, &written));
    written.into_iter().for_each(|(_, outcome)| *report.outcomes.entry(outcome).or_default() += 1);
}

#[test]
fn every_file_is_one_record_or_one_rejection() {
    let _turn = alone_in_the_process();
    let count = asked("LAKELENS_HOSTILE_FILES", 1500);
    let mut report = Report::default();
    for first in (0..count).step_by(RUN) {
        run(first..count.min(first + RUN), &mut report);
    }
    let Report { complaints, outcomes, slowest, peak, running } = report;
    println!(
        "{count} files of seed {}: {outcomes:?}; {:.1} s in the program; at most {} MiB in memory",
        seed(),
        running.as_secs_f64(),
        peak >> 20
    );
    println!("slowest alone: {} with {:.2} s, of {LONGEST:?} allowed", slowest.1, slowest.0.as_secs_f64());
    assert!(
        complaints.is_empty(),
        "{} of {count} files; the number before a file's name is its index, and `write_one` makes it again from seed {} and that:\n{}",
        complaints.len(),
        seed(),
        complaints.join("\n")
    );
    assert!(peak <= MEMORY + BESIDE, "{} MiB in memory, of {} MiB and {} MiB beside", peak >> 20, MEMORY >> 20, BESIDE >> 20);
}

#[test]
fn a_missing_a_doubled_and_a_wrong_outcome_are_told() {
    let expected = BTreeMap::from([("a".to_owned(), "record"), ("b".to_owned(), "empty")]);
    let written = |all: &[(&str, &str)]| -> Vec<(String, String)> { all.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect() };
    assert!(differences(&expected, &written(&[("a", "record"), ("b", "empty")])).is_empty());
    for wrong in [
        [("a", "record")].as_slice(),
        &[("a", "record"), ("b", "empty"), ("b", "empty")],
        &[("a", "record"), ("b", "corrupt_image")],
        &[("a", "record"), ("b", "empty"), ("c", "record")],
    ] {
        assert_eq!(differences(&expected, &written(wrong)).len(), 1, "{wrong:?}");
    }
}
