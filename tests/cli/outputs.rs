//! Outputs that end, fill up or refuse.

use std::io::{BufRead, BufReader};

use super::*;

const LABEL: [&str; 4] = ["label", "photos", "--model", "model"];

#[test]
fn a_reader_that_has_read_enough_ends_the_run_quietly() {
    let folder = lake(40);
    let mut child =
        command(folder.path(), &[&LABEL[..], &["--quiet"]].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.starts_with("{\"schema\":\"lakelens.record.v1\""));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked") && !stderr(&output).contains("ipe"), "{}", stderr(&output));
}

#[test]
fn a_device_without_room_is_an_error_with_code_1() {
    let folder = lake(3);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // Several times: the items that are lost with it were once told of instead, if that came first.
    for _ in 0..8 {
        let output = command(folder.path(), &LABEL).stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("cannot write to stdout: No space left on device"), "{}", stderr(&output));
    }
    let output = run(folder.path(), &[&LABEL[..], &["--out", "/dev/full"]].concat(), 1);
    assert!(stderr(&output).contains("cannot write to /dev/full: No space left on device"), "{}", stderr(&output));
}

#[test]
fn a_fifo_is_an_output_like_stdout() {
    let folder = lake(5);
    std::fs::write(folder.path().join("photos/broken.jpg"), b"not a picture").unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = std::thread::spawn({
        let path = path.clone();
        move || records(&path)
    });
    run(folder.path(), &[&LABEL[..], &["--out", "pipe"]].concat(), 0);
    let read = reader.join().unwrap();
    assert_eq!(read.iter().filter(|r| r["schema"] == "lakelens.record.v1").count(), 5);
    assert_eq!(read.iter().filter(|r| r["schema"] == "lakelens.rejection.v1").count(), 1);
}

#[test]
fn a_folder_that_is_none_is_an_error_that_says_where() {
    let folder = lake(2);
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let output = run(folder.path(), &[&LABEL[..], &["--out", "file/out.jsonl"]].concat(), 1);
    assert!(stderr(&output).contains("cannot write to file"), "{}", stderr(&output));
}

/// Runs `script` where a file system of 1 MiB can be mounted, with `$LAKELENS` set; `None` where the system forbids that.
fn with_small_disk(folder: &Path, script: &str) -> Option<Output> {
    let mount = "mkdir -p small && mount -t tmpfs -o size=1m none small";
    let probe = Command::new("unshare").args(["-rm", "sh", "-c", mount]).current_dir(folder).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        eprintln!("left out: no file system can be mounted here (unshare -rm)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", &format!("{mount}\n{script}")]).current_dir(folder);
    Some(command.env("LAKELENS", env!("CARGO_BIN_EXE_lakelens")).env("NO_COLOR", "1").env_remove("RUST_LOG").output().unwrap())
}

/// Fills the disk but for 20 KiB, and makes room when the worker has said that it needs some.
const FILL: &str = "head -c 1M /dev/zero >small/filler 2>filling || true
truncate -s -20480 small/filler
: >err
(until grep -q 'no room for' err; do sleep 0.1; done; sleep 0.5; ls -RA small >listing; rm small/filler) &\n";

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost_doubled_or_torn() {
    let folder = lake(60);
    let pipeline = "version: 1\nname: full\nsource: { listing: { path: photos } }\nfetch: { allow: { file: [\"*\"] } }\nmodel: { path: model }\n\
                    sinks:\n  - jsonl: { path: small/lines }\n  - parquet: { path: small/columns, span: 20 }\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let script = format!("{FILL}\"$LAKELENS\" run p.yaml 2>err\nwait\ncp -r small kept");
    let Some(output) = with_small_disk(folder.path(), &script) else { return };
    let said = std::fs::read_to_string(folder.path().join("err")).unwrap();
    assert!(output.status.success(), "{said}");
    // Which of the two sinks meets the full disk first is open.
    let says = |what: &str| said.lines().any(|line| line.contains(what) && line.contains("small/"));
    assert!(says("no room for ") && says("make room on its disk") && says("there is room for "), "{said}");
    let lines = std::fs::read_dir(folder.path().join("kept/lines")).unwrap().map(|e| e.unwrap().path());
    let all: Vec<Value> = lines.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).flat_map(|p| records(&p)).collect();
    let mut keys: Vec<&str> = all.iter().map(|r| r["source"]["key"].as_str().unwrap()).collect();
    let count = keys.len();
    keys.dedup();
    assert_eq!((count, keys.len()), (60, 60));
    let found = Command::new("find").args(["kept/columns", "-name", "*.parquet"]).current_dir(folder.path()).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.lines().count(), 3);
    for path in found.lines() {
        let bytes = std::fs::read(folder.path().join(path)).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    }
}

#[test]
fn label_waits_for_room_too() {
    let folder = lake(60);
    let script = format!("{FILL}\"$LAKELENS\" label photos --model model --out small/out.jsonl 2>err\nwait\ncp -r small kept");
    let Some(output) = with_small_disk(folder.path(), &script) else { return };
    let said = std::fs::read_to_string(folder.path().join("err")).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no room for small/out.jsonl"), "{said}");
    run(folder.path(), &[&LABEL[..], &["--out", "expected.jsonl"]].concat(), 0);
    let uris = |path: &str| records(&folder.path().join(path)).iter().map(|r| r["uri"].clone()).collect::<Vec<_>>();
    assert_eq!(uris("kept/out.jsonl"), uris("expected.jsonl"));
}

#[test]
fn a_read_only_disk_is_an_error_with_code_1_and_what_to_do() {
    let folder = lake(2);
    let script = "mount -o remount,ro small\n\"$LAKELENS\" label photos --model model --out small/out.jsonl 2>err || echo $? >code";
    let Some(output) = with_small_disk(folder.path(), script) else { return };
    assert!(output.status.success());
    let said = std::fs::read_to_string(folder.path().join("err")).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("code")).unwrap(), "1\n", "{said}");
    assert!(said.contains("cannot write to small/out.jsonl: Read-only file system") && said.contains("mount it for writing"), "{said}");
}
