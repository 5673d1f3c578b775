//! Outputs that an earlier run has begun, and that another run has open.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A lake with the first third of its records in `part.jsonl` and `part.parquet.journal`, as a kill leaves it, with a line torn.
fn interrupted() -> TempDir {
    let folder = lake(12);
    run(folder.path(), &["model", "init", "tiny", "--seed", "4", "--out", "other"], 0);
    run(folder.path(), &["label", "photos", "--model", "model", "--out", "whole.jsonl"], 0);
    let whole = std::fs::read(folder.path().join("whole.jsonl")).unwrap();
    for name in ["part.jsonl", "part.parquet.journal"] {
        std::fs::write(folder.path().join(name), &whole[..whole.len() / 3]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.rejected.jsonl")), "{}\n").unwrap();
    }
    folder
}

#[test]
fn resume_with_another_model_once_mixed_two_spaces_in_one_output() {
    let folder = interrupted();
    let there = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for (out, name) in [("part.jsonl", "part.jsonl"), ("part.parquet", "part.parquet.journal")] {
        let before = there(name);
        let attempts: [(&[&str], &str); 4] = [
            (&["--model", "other"], "one output holds one model"),
            (&["--model", "model", "--l2"], "which cannot be compared"),
            (&["--model", "model", "--exif"], "which cannot be compared"),
            (&["--model", "model", "--no-embeddings"], "--no-embeddings differs"),
        ];
        for (args, why) in attempts {
            let output = run(folder.path(), &[&["label", "photos", "--out", out, "--resume"], args].concat(), 2);
            assert!(stderr(&output).contains(why) && stderr(&output).contains(name), "{}", stderr(&output));
            assert!(there(name) == before && there(&format!("{name}.rejected.jsonl")) == b"{}\n", "{args:?} changed {name}");
        }
        run(folder.path(), &["label", "photos", "--model", "model", "--out", out, "--resume"], 0);
        assert!(!folder.path().join(format!("{name}.rejected.jsonl")).exists(), "rejections of the first run are left");
    }
    assert_eq!(records(&folder.path().join("part.jsonl")).len(), 12);
}

#[test]
fn overwriting_with_a_model_that_cannot_be_loaded_once_removed_the_output_first() {
    let folder = interrupted();
    let before = std::fs::read(folder.path().join("whole.jsonl")).unwrap();
    run(folder.path(), &["label", "photos", "--model", "no-such-model", "--out", "whole.jsonl", "--overwrite"], 2);
    assert!(std::fs::read(folder.path().join("whole.jsonl")).unwrap() == before);
}

#[test]
fn two_runs_into_one_output_once_wrote_every_record_twice() {
    let folder = lake(6);
    for (out, opened) in [("out.jsonl", "out.jsonl"), ("out.parquet", "out.parquet.journal")] {
        let mut first = command(folder.path(), &["label", "-q", "-", "--model", "model", "--out", out])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = first.stdin.take().unwrap();
        input.write_all("photos/000 é+.jpg\n".as_bytes()).unwrap();
        let begun = std::time::Instant::now();
        while !folder.path().join(opened).exists() {
            assert!(begun.elapsed().as_secs() < 60 && first.try_wait().unwrap().is_none(), "the first run does not begin");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for more in [&["--resume"][..], &["--overwrite"], &[]] {
            let output = run(folder.path(), &[&["label", "photos", "--model", "model", "--out", out], more].concat(), 2);
            assert!(stderr(&output).contains("is being written by another run"), "{more:?}: {}", stderr(&output));
        }
        input.write_all("photos/001 é+.png\n".as_bytes()).unwrap();
        drop(input);
        let output = first.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    assert_eq!(records(&folder.path().join("out.jsonl")).len(), 2);
    assert!(folder.path().join("out.parquet").exists());
}

#[test]
fn parquet_and_state_files_once_were_their_owners_only_whatever_the_umask() {
    let folder = lake(3);
    let pipeline = "version: 1\nname: modes\nsource: { listing: { path: photos, state: listing.state } }\nmodel: { path: model }\n\
                    sinks:\n  - jsonl: { path: lines }\n  - parquet: { path: columns }\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let script = "umask 027; set -e; \"$0\" label photos --model model --out out.jsonl; \"$0\" label photos --model model --out out.parquet; \
                  exec \"$0\" run p.yaml";
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", script, env!("CARGO_BIN_EXE_lakelens")]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let columns = "columns/topic=photos/partition=0/00000000000000000000.parquet";
    for path in ["out.jsonl", "out.parquet", "listing.state", "lines/photos-0.jsonl", columns] {
        let mode = folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{path}");
    }
}
