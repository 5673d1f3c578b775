//! Metrics and health of a worker on a local folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{command, lake};

/// Status and body.
fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The address in the log; the rest of the log is read and dropped, so that the pipe never fills.
fn address(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("metrics and health on http://")).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    line.rsplit_once("http://").unwrap().1.trim().to_owned()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{metrics}")).parse().unwrap()
}

#[test]
fn a_worker_tells_what_it_does_and_what_it_waits_for() {
    let folder = lake(12);
    std::fs::write(folder.path().join("photos/broken.jpg"), b"not a picture").unwrap();
    let path = folder.path().canonicalize().unwrap();
    let mut lines: Vec<String> = std::fs::read_dir(path.join("photos")).unwrap().map(|e| e.unwrap().path().display().to_string()).collect();
    // Nobody listens there: an outage, which is waited for while all else goes on.
    lines.push("s3://lake/a.jpg".into());
    std::fs::write(folder.path().join("refs.txt"), lines.join("\n")).unwrap();
    let pipeline = format!(
        "version: 1\nname: lake\nsource: {{ lines: {{ path: refs.txt }} }}\nstore: {{ s3: {{ endpoint: 'http://127.0.0.1:9', region: r, path_style: true }} }}\n\
         fetch: {{ allow: {{ s3: ['lake/*'], file: ['{}'] }} }}\nmodel: {{ path: model, threads: 2 }}\nsinks: [ {{ jsonl: {{ path: out }} }} ]\n\
         reject_limit: {{ share: 1.0, of_last: 10 }}\ntelemetry: {{ listen: '127.0.0.1:0' }}\n",
        path.display()
    );
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let mut worker = command(folder.path(), &["run", "p.yaml"])
        .env("AWS_ACCESS_KEY_ID", "AKIAsecretsecret")
        .env("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = address(worker.stderr.take().unwrap());
    let worker = Killed(worker);

    let begun = Instant::now();
    let (metrics, ready) = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never waits for the store");
        std::thread::sleep(Duration::from_millis(100));
        let metrics = get(&address, "/metrics").unwrap().1;
        let ready = get(&address, "/readyz").unwrap();
        let seen = |series: &str| value(&metrics, series);
        let waits = seen("lakelens_waiting{on=\"store\"}") == 1.0 && seen("lakelens_queue_items{queue=\"fetch\"}") == 1.0;
        if waits && seen("lakelens_items_received_total") == 14.0 && seen("lakelens_items_in_flight") == 1.0 {
            break (metrics, ready);
        }
    };
    assert_eq!(value(&metrics, "lakelens_items_published_total"), 12.0);
    assert_eq!(value(&metrics, "lakelens_items_rejected_total{reason=\"unsupported_format\"}"), 1.0);
    assert_eq!(value(&metrics, "lakelens_fetch_requests_total{scheme=\"file\",outcome=\"ok\"}"), 13.0);
    assert!(value(&metrics, "lakelens_fetch_requests_total{scheme=\"s3\",outcome=\"connection\"}") >= 3.0);
    assert!(value(&metrics, "lakelens_fetch_retries_total{scheme=\"s3\"}") >= 2.0);
    assert_eq!(value(&metrics, "lakelens_compute_threads"), 2.0);
    assert_eq!(ready.0, 503);
    let reasons: Value = serde_json::from_str(&ready.1).unwrap();
    assert_eq!(reasons["reasons"][0]["code"], "waiting_for_store", "{reasons}");
    assert_eq!(get(&address, "/livez").unwrap().0, 200, "a restart would not bring the bucket back");
    let status: Value = serde_json::from_str(&get(&address, "/status").unwrap().1).unwrap();
    assert_eq!((&status["name"], &status["state"], &status["ready"]), (&"lake".into(), &"finishing".into(), &false.into()), "{status}");
    assert_eq!(status["ledger"]["received"], 14);
    for path in ["/metrics", "/readyz", "/livez", "/status"] {
        let body = get(&address, path).unwrap().1;
        assert!(!body.contains("hush") && !body.contains("AKIA"), "{body}");
    }
    drop(worker);
}

#[test]
fn an_address_that_is_taken_ends_the_worker_before_it_takes_anything() {
    let folder = lake(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let pipeline = format!(
        "version: 1\nsource: {{ listing: {{ path: photos }} }}\nmodel: {{ path: model }}\nsinks: [ {{ jsonl: {{ path: out }} }} ]\ntelemetry: {{ listen: '{listen}' }}\n"
    );
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let output = super::run(folder.path(), &["run", "p.yaml", "--until-idle", "1s"], 1);
    assert!(super::stderr(&output).contains(&format!("telemetry.listen = {listen}")), "{}", super::stderr(&output));
    assert!(!folder.path().join("out").exists());
    // A dry run beside the worker that has the address serves nothing, and goes on.
    super::run(folder.path(), &["run", "p.yaml", "--dry-run", "--max-items", "1"], 0);
}
