//! What a reader typed to break the program, and what it must say instead.

use super::*;

/// A pipeline of `photos/` into `sink`.
fn pipeline(folder: &Path, sink: &str) {
    let text = format!(
        "version: 1\nname: p\nsource: {{ listing: {{ path: photos }} }}\nmodel: {{ path: model }}\n\
         store: {{ s3: {{ endpoint: \"${{LAKELENS_TEST_S3:-}}\", path_style: true, region: us-east-1 }} }}\nsinks:\n  - {sink}\n"
    );
    std::fs::write(folder.join("p.yaml"), text).unwrap();
}

#[test]
fn check_once_accepted_a_model_that_cannot_run_and_inspect_did_not_remark_it() {
    let folder = lake(1);
    pipeline(folder.path(), "parquet: { path: out, span: 0 }");
    std::fs::write(folder.path().join("model/labels.txt"), "just one\n").unwrap();
    let label = run(folder.path(), &["label", "photos", "--model", "model", "--out", "y.jsonl"], 2);
    let said = stderr(&label);
    let reason = said.trim().strip_prefix("lakelens: ").unwrap();
    let check = stderr(&run(folder.path(), &["check", "p.yaml"], 2));
    assert!(check.contains(&format!("p.yaml:4:16: model.path: {reason}")), "{check}\n--- has not ---\n{reason}");
    assert!(check.contains("sinks[0].parquet.span: out of range"), "the other mistakes are told, too: {check}");
    let inspect = run(folder.path(), &["model", "inspect", "model"], 0);
    assert!(String::from_utf8_lossy(&inspect.stdout).contains("labels      1, which do not fit the "));
}

#[test]
fn check_once_hung_on_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    for args in [["check", "pipe"], ["run", "pipe"], ["check", "/dev/null"]] {
        assert!(stderr(&run(folder.path(), &args, 2)).contains("is a pipe or a device; give a regular file"), "{args:?}");
    }
}

#[test]
fn numbers_that_once_made_it_panic_are_wrong_usage() {
    let folder = lake(1);
    let label = ["label", "photos", "--model", "model"];
    for (args, option) in [
        (&["bench", "decode", "--seconds", "nan"][..], "--seconds"),
        (&["bench", "decode", "--seconds=-1"], "--seconds"),
        (&["bench", "engine", "--seconds", "nan"], "--seconds"),
        (&["bench", "pipeline", "--threads", "100000"], "--threads"),
        (&[&label[..], &["--threads", "100000"]].concat(), "--threads"),
        (&[&label[..], &["--threads", "1025"]].concat(), "--threads"),
        (&[&label[..], &["--min-score", "nan"]].concat(), "--min-score"),
        (&[&label[..], &["--min-score", "inf"]].concat(), "--min-score"),
    ] {
        let said = stderr(&run(folder.path(), args, 2));
        assert!(said.contains(option) && !said.contains("panicked"), "{args:?}: {said}");
    }
    pipeline(folder.path(), "jsonl: { path: out }\noutput: { min_score: nan }\nbatch: { max_items: 0 }");
    let said = stderr(&run(folder.path(), &["check", "p.yaml"], 2));
    assert!(said.contains("output.min_score: expected a number, found `nan`"), "{said}");
}

#[test]
fn images_of_other_formats_once_counted_as_files_that_are_none() {
    let folder = lake(2);
    for name in ["a.avif", "b.AVIF", "c.heic", "d.jp2", "e.ico", "notes.txt"] {
        std::fs::write(folder.path().join("photos").join(name), b"x").unwrap();
    }
    let said = stderr(&run(folder.path(), &["label", "photos", "--model", "model", "--out", "out.jsonl"], 0));
    assert!(said.contains("passed over images in formats that are not supported: 2 .avif, 1 .heic, 1 .ico, 1 .jp2"), "{said}");
    assert!(said.contains("passed over 1 files that are no images by their names"), "{said}");
}

#[test]
fn enqueue_once_put_lines_onto_the_topic_that_are_no_references() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "s3://lake/a.jpg\ngarbage\n[]\n{\"a\":1}\n{\"uri\":\"s3://lake/b.jpg\"}\n{\"uri\":\"ftp://user:hunter2@h/x\"}\n";
    std::fs::write(folder.path().join("e.jsonl"), lines).unwrap();
    std::fs::write(folder.path().join("good.txt"), "s3://lake/a.jpg\n").unwrap();
    // No broker is asked: not even the good file's lines are sent.
    let said = stderr(&run(folder.path(), &["enqueue", "good.txt", "e.jsonl", "--brokers", "127.0.0.1:1", "--topic", "t"], 2));
    for (line, bad) in [(1, false), (2, true), (3, true), (4, true), (5, false), (6, true)] {
        assert_eq!(said.contains(&format!("e.jsonl:{line}: ")), bad, "{line}: {said}");
    }
    assert!(!said.contains("hunter2") && said.contains("nothing was enqueued"), "{said}");
}

#[test]
fn a_missing_bucket_was_once_found_when_the_first_file_was_written() {
    let set = |name| std::env::var(name).is_ok_and(|v| !v.is_empty());
    if !["LAKELENS_TEST_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].into_iter().all(set) {
        return eprintln!("left out: LAKELENS_TEST_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not all set");
    }
    let folder = lake(2);
    pipeline(folder.path(), "parquet: { path: \"s3://mend-no-such-bucket/x/\" }");
    for args in [&["run", "p.yaml"][..], &["check", "p.yaml", "--connect"]] {
        let said = stderr(&run(folder.path(), args, 1));
        assert!(said.contains("s3://mend-no-such-bucket") && said.contains("there is no such bucket"), "{args:?}: {said}");
        assert!(!said.contains("picture") && !said.contains("unhandled"), "{args:?}: {said}");
        for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")] {
            let output = command(folder.path(), args).env(name, value).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr(&output).contains("the credentials are refused"), "{args:?}, {name}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_redrive_to_a_broker_that_is_away_once_took_forty_seconds_to_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let begun = std::time::Instant::now();
        let args = [&["redrive", "--brokers", "127.0.0.1:1", "--topic", "dead", "--to", "refs"], more].concat();
        let said = stderr(&run(folder.path(), &args, 1));
        assert!(said.contains("no Kafka broker answers at 127.0.0.1:1") && said.contains("nothing was redriven"), "{said}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}
