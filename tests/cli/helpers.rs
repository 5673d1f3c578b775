//! The processes that decode: what they hold, and what comes of it when somebody kills them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{command, lake, records, run, stderr};

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<PathBuf> {
    let parent_of = |process: &Path| -> Option<u32> {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    processes.filter(|process| parent_of(process) == Some(parent)).collect()
}

fn references(folder: &Path, pictures: usize, count: usize) {
    let files: Vec<String> = std::fs::read_dir(folder.join("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().path().canonicalize().unwrap().to_string_lossy().replace(' ', "%20"))
        .collect();
    assert_eq!(files.len(), pictures);
    let lines: String = (0..count).map(|n| format!("{{\"uri\":\"file://{}\",\"id\":\"{n}\"}}\n", files[n % pictures])).collect();
    std::fs::write(folder.join("refs.jsonl"), lines).unwrap();
}

#[test]
fn helpers_that_are_killed_from_outside_cost_no_picture() {
    let folder = lake(12);
    references(folder.path(), 12, 12_000);
    let mut label = command(folder.path(), &["label", "-q", "refs.jsonl", "--model", "model", "--out", "out.jsonl"]);
    let mut running = label.env("AWS_SECRET_ACCESS_KEY", "hunter2").stderr(Stdio::piped()).spawn().unwrap();
    let mut killed = 0;
    let begun = Instant::now();
    while running.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it hangs");
        for helper in children(running.id()) {
            let environment = std::fs::read(helper.join("environ")).unwrap_or_default();
            assert!(!environment.windows(7).any(|part| part == b"hunter2"), "a helper holds a secret");
            let pid = helper.file_name().unwrap().to_str().unwrap().to_owned();
            killed += usize::from(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(killed >= 4, "only {killed} were there to be killed");
    let all = records(&folder.path().join("out.jsonl"));
    let ids: Vec<usize> = all.iter().map(|record| record["id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids, (0..12_000).collect::<Vec<_>>());
}

#[test]
fn no_helper_outlives_a_worker_that_is_killed() {
    let folder = lake(4);
    references(folder.path(), 4, 200_000);
    let mut label = command(folder.path(), &["label", "-q", "refs.jsonl", "--model", "model", "--out", "out.jsonl"]);
    let mut running = label.stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let helpers = loop {
        let helpers = children(running.id());
        if !helpers.is_empty() {
            break helpers;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "there is no helper");
        std::thread::sleep(Duration::from_millis(20));
    };
    running.kill().unwrap();
    running.wait().unwrap();
    let begun = Instant::now();
    while helpers.iter().any(|helper| std::fs::read(helper.join("cmdline")).is_ok_and(|line| !line.is_empty())) {
        assert!(begun.elapsed() < Duration::from_secs(10), "a helper is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_helpers_command_says_that_it_is_not_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["decoder"], 2);
    assert!(stderr(&output).contains("for workers"), "{}", stderr(&output));
}
