use std::io::{Read, Write};
use std::net::TcpStream as Plain;
use std::time::Instant;

use super::*;
use crate::telemetry::State;

fn server() -> (Endpoint, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    let about = About { name: "lake".into(), instance: "a\u{1b}[31m".into(), ..About::default() };
    (Endpoint::start("127.0.0.1:0", stats.clone(), about).unwrap(), stats)
}

/// Sends bytes as they are and reads to the end.
fn say(endpoint: &Endpoint, request: &str) -> String {
    let mut stream = Plain::connect(endpoint.address()).unwrap();
    // The server may have refused and closed before it had read all.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(endpoint: &Endpoint, path: &str) -> String {
    say(endpoint, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

#[test]
fn it_answers_before_anything_is_loaded_and_tells_states_apart() {
    let (endpoint, stats) = server();
    assert!(get(&endpoint, "/livez").starts_with("HTTP/1.1 200"));
    let starting = get(&endpoint, "/readyz");
    assert!(starting.starts_with("HTTP/1.1 503") && starting.contains("\"loading_model\""), "{starting}");
    stats.board.send_modify(|board| board.state = State::Running);
    let status = get(&endpoint, "/status");
    assert!(
        status.starts_with("HTTP/1.1 200") && status.contains("\"state\": \"running\"") && status.contains("\"eta_seconds\": null"),
        "{status}"
    );
    assert!(!status.contains('\u{1b}'), "JSON escapes it");
    let metrics = get(&endpoint, "/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    let open = say(&endpoint, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n");
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n") && open.ends_with("# EOF\n"));
    assert!(get(&endpoint, "/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn only_reading_is_allowed_and_a_head_has_no_body() {
    let (endpoint, _stats) = server();
    let refused = say(&endpoint, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"), "{refused}");
    let head = say(&endpoint, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (headers, body) = head.split_once("\r\n\r\n").unwrap();
    assert!(body.is_empty() && headers.lines().any(|line| line.strip_prefix("content-length: ").is_some_and(|n| n != "0")), "{head}");
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let (endpoint, _stats) = server();
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES * 2));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: x\r\n".repeat(HEADERS * 2));
    for request in [long, many, "\0\0\0\r\n\r\n".into()] {
        let answer = say(&endpoint, &request);
        assert!(!answer.contains("lakelens_"), "{answer}");
    }
    assert!(get(&endpoint, "/livez").starts_with("HTTP/1.1 200"), "it goes on");
}

#[test]
fn those_who_say_nothing_are_sent_away_and_hold_nobody_up_for_long() {
    let (endpoint, _stats) = server();
    let idle: Vec<Plain> = (0..CONNECTIONS).map(|_| Plain::connect(endpoint.address()).unwrap()).collect();
    let begun = Instant::now();
    assert!(get(&endpoint, "/livez").starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < HEAD_TIME * 3, "{:?}", begun.elapsed());
    drop(idle);
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let (endpoint, stats) = server();
    let error = Endpoint::start(&endpoint.address().to_string(), stats, About::default()).err().unwrap().to_string();
    assert!(error.contains(&endpoint.address().to_string()) && error.contains("telemetry.listen"), "{error}");
}

#[test]
fn dropped_it_listens_no_longer() {
    let (endpoint, _stats) = server();
    let address = endpoint.address();
    drop(endpoint);
    let begun = Instant::now();
    while Plain::connect(address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it still listens");
        std::thread::sleep(Duration::from_millis(20));
    }
}
