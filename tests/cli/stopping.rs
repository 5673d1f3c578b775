//! SIGTERM at inconvenient times.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{command, lake, run, stderr};

fn terminate(worker: &Child) {
    assert!(Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success());
}

pub(super) fn started(folder: &Path, args: &[&str]) -> Child {
    command(folder, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ends it by a signal; gives what it said, and how long that took.
pub(super) fn ended_after(worker: Child, wait: Duration) -> (std::process::Output, Duration) {
    std::thread::sleep(wait);
    let begun = Instant::now();
    terminate(&worker);
    (worker.wait_with_output().unwrap(), begun.elapsed())
}

#[test]
fn a_stop_while_no_broker_answers_yet_is_heeded() {
    let folder = lake(0);
    let pipeline = "version: 1\nsource: { kafka: { brokers: '127.0.0.1:9', topics: [refs] } }\nfetch: { allow: { s3: ['lake/*'] } }\n\
                    model: { path: model }\nsinks: [ { kafka: { labels: labels } } ]\ndead_letters: { kafka: dead }\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let worker = started(folder.path(), &["run", "p.yaml"]);
    let (output, time) = ended_after(worker, Duration::from_secs(3));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("stopped before all servers had answered"), "{}", stderr(&output));
    assert!(time < Duration::from_secs(10), "it took {time:?}");
}

#[test]
fn a_drain_does_not_decode_all_that_was_fetched() {
    let folder = lake(8);
    run(folder.path(), &["model", "init", "resnet18", "--out", "slow"], 0);
    let photos: Vec<String> =
        std::fs::read_dir(folder.path().join("photos")).unwrap().map(|e| e.unwrap().path().display().to_string()).collect();
    let lines: String =
        (0..4000).map(|n| format!("{}\n", serde_json::json!({ "uri": format!("file://{}", photos[n % 8].replace(' ', "%20")) }))).collect();
    std::fs::write(folder.path().join("refs.jsonl"), lines).unwrap();
    let worker = started(folder.path(), &["label", "-q", "refs.jsonl", "--model", "slow", "--out", "out.jsonl"]);
    let (output, time) = ended_after(worker, Duration::from_secs(4));
    assert!(time < Duration::from_secs(10), "it took {time:?}: {}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("stopped by a signal"), "{}", stderr(&output));
}
