//! The watchdog.

use std::time::{Duration, Instant};

use super::{lake, run, stderr};

#[test]
fn a_worker_in_which_nothing_moves_ends_with_code_1_and_says_so() {
    let folder = lake(1);
    std::fs::write(folder.path().join("refs.txt"), "s3://lake/a.jpg\n").unwrap();
    // Nobody listens there: an outage, which is waited for.
    let pipeline = "version: 1\nsource: { lines: { path: refs.txt } }\nstore: { s3: { endpoint: 'http://127.0.0.1:9', region: r, path_style: true } }\n\
                    fetch: { allow: { s3: ['lake/*'] } }\nmodel: { path: model }\nsinks: [ { jsonl: { path: out } } ]\nwatchdog: 4s\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let begun = Instant::now();
    let output =
        super::command(folder.path(), &["run", "p.yaml"]).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(begun.elapsed() >= Duration::from_secs(4));
    assert!(stderr(&output).contains("nothing has moved for 4s with 1 items in the worker"), "{}", stderr(&output));
    run(folder.path(), &["check", "p.yaml"], 0);
}
