//! Traces, read by a small collector.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{lake, run};

/// What came, and where it is to be sent.
fn collector() -> (Arc<Mutex<Vec<ExportTraceServiceRequest>>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let into = taken.clone();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|stream| into.lock().unwrap().push(take(stream))));
    (taken, address)
}

fn take(stream: TcpStream) -> ExportTraceServiceRequest {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.into_inner().write_all(answer.as_bytes()).unwrap();
    ExportTraceServiceRequest::decode(&*body).unwrap()
}

fn pipeline(folder: &std::path::Path, endpoint: &str, sample: f64) {
    let text = format!(
        "version: 1\nname: lake\nsource: {{ listing: {{ path: photos }} }}\nmodel: {{ path: model }}\nsinks: [ {{ jsonl: {{ path: out }} }} ]\n\
         reject_limit: {{ share: 1.0, of_last: 10 }}\ntelemetry: {{ otlp: {{ endpoint: '{endpoint}', sample: {sample} }} }}\n"
    );
    std::fs::write(folder.join("p.yaml"), text).unwrap();
}

#[test]
fn each_item_is_a_trace_with_a_span_for_each_stage() {
    let folder = lake(9);
    std::fs::write(folder.path().join("photos/broken.jpg"), b"not a picture").unwrap();
    let (taken, endpoint) = collector();
    pipeline(folder.path(), &endpoint, 1.0);
    run(folder.path(), &["run", "p.yaml"], 0);
    let taken = taken.lock().unwrap();
    let resources: Vec<_> = taken.iter().flat_map(|request| &request.resource_spans).collect();
    assert!(resources.iter().all(|r| format!("{:?}", r.resource).contains("service.instance.id")), "{resources:?}");
    let spans: Vec<&Span> = resources.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    spans.iter().for_each(|span| traces.entry(&span.trace_id).or_default().push(span));
    assert_eq!(traces.len(), 10);
    let mut rejected = 0;
    for spans in traces.values() {
        let item = spans.iter().find(|span| span.name == "item").unwrap();
        let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        let failed = item.status.as_ref().is_some_and(|status| status.message == "unsupported_format");
        rejected += usize::from(failed);
        let stages: &[&str] =
            if failed { &["decode", "deliver", "fetch", "item"] } else { &["decode", "deliver", "fetch", "infer", "item"] };
        assert_eq!(names, stages);
        for span in spans.iter().filter(|span| span.name != "item") {
            assert_eq!(span.parent_span_id, item.span_id);
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.end_time_unix_nano <= item.end_time_unix_nano);
        }
    }
    assert_eq!(rejected, 1);
}

#[test]
fn of_none_sampled_none_is_sent() {
    let folder = lake(3);
    let (taken, endpoint) = collector();
    pipeline(folder.path(), &endpoint, 0.0);
    run(folder.path(), &["run", "p.yaml"], 0);
    assert!(taken.lock().unwrap().is_empty());
}

#[test]
fn a_collector_that_takes_nothing_holds_nobody_up() {
    let folder = lake(5);
    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for endpoint in [format!("http://{}", silent.local_addr().unwrap()), "http://127.0.0.1:9".into()] {
        pipeline(folder.path(), &endpoint, 1.0);
        let begun = Instant::now();
        run(folder.path(), &["run", "p.yaml"], 0);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    }
}
