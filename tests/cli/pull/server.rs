//! A server that speaks the hub's protocol, and one for its large files on another port, as the hub keeps them on another host.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the servers have and do.
#[derive(Default)]
pub struct State {
    /// Files of the repository `me/net`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names that the list has beside them.
    pub listed: Vec<String>,
    /// Files whose bytes are sent otherwise than their hash says.
    pub damaged: BTreeMap<String, Vec<u8>>,
    /// The next large answers end after so many bytes.
    pub cuts: Vec<usize>,
    /// The store is away.
    pub away: bool,
    /// The token that is needed.
    pub token: Option<String>,
    /// Requests: `hub METHOD PATH AUTHORIZATION RANGE`, or `store ...`.
    pub seen: Vec<String>,
}

pub struct Server {
    pub url: String,
    pub store: String,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    /// With these files in `me/net`.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        state.lock().unwrap().files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let (hub, store) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url: url(&hub), store: url(&store), state: state.clone() };
        for (name, listener) in [("hub", hub), ("store", store)] {
            let (state, store) = (state.clone(), server.store.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, store) = (state.clone(), store.clone());
                    std::thread::spawn(move || drop(answer(name, stream, &state, &store)));
                }
            });
        }
        server
    }

    /// The requests that contain `text`.
    pub fn seen(&self, text: &str) -> Vec<String> {
        self.state.lock().unwrap().seen.iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

fn answer(name: &str, stream: TcpStream, state: &Mutex<State>, store: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let (mut authorization, mut range) = (String::new(), String::new());
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (field, value) = line.split_once(": ").unwrap_or_default();
        match field.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "range" => range = value.to_owned(),
            _ => {}
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut state = state.lock().unwrap();
    state.seen.push(format!("{name} {method} {path} {authorization} {range}"));
    let refused = state.token.as_ref().is_some_and(|token| authorization != format!("Bearer {token}"));
    let mut out = stream;
    if name == "store" {
        return from_store(&mut out, path, &range, &mut state);
    }
    if refused {
        return head(&mut out, "401 Unauthorized", &["X-Error-Code: GatedRepo".into()], 0);
    }
    // With the revision in the path, or without, as the hub's Python client asks for the newest.
    if path.starts_with("/api/models/me/net/revision/main") || path.starts_with("/api/models/me/net?") {
        let names = state.files.keys().chain(&state.listed);
        let siblings: Vec<_> = names
            .map(|name| match state.files.get(name) {
                Some(bytes) if is_large(name) => {
                    json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 130}})
                }
                Some(bytes) => json!({"rfilename": name, "size": bytes.len()}),
                None => json!({"rfilename": name}),
            })
            .collect();
        let body = json!({"id": "me/net", "sha": COMMIT, "siblings": siblings}).to_string();
        head(&mut out, "200 OK", &[], body.len())?;
        return out.write_all(body.as_bytes());
    }
    // A repository that was renamed.
    if let Some(rest) = path.strip_prefix("/api/models/me/old/") {
        return head(&mut out, "307 Temporary Redirect", &[format!("Location: /api/models/me/net/{rest}")], 0);
    }
    if let Some(rest) = path.strip_prefix("/me/old/") {
        return head(&mut out, "307 Temporary Redirect", &[format!("Location: /me/net/{rest}")], 0);
    }
    let file = ["main", COMMIT].iter().find_map(|at| path.strip_prefix(&format!("/me/net/resolve/{at}/"))).map(str::to_owned);
    match file.as_ref().and_then(|name| Some((name, state.files.get(name)?))) {
        Some((name, bytes)) if is_large(name) => {
            let fields = [
                format!("Location: {store}/{name}?signature=secret"),
                format!("X-Repo-Commit: {COMMIT}"),
                format!("X-Linked-ETag: \"{}\"", sha256(bytes)),
                format!("X-Linked-Size: {}", bytes.len()),
            ];
            head(&mut out, "302 Found", &fields, 0)
        }
        Some((name, bytes)) => {
            let git = sha1::Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat());
            let etag = format!("ETag: \"{}\"", git.iter().map(|b| format!("{b:02x}")).collect::<String>());
            head(&mut out, "200 OK", &[etag, format!("X-Repo-Commit: {COMMIT}")], bytes.len())?;
            if method == "HEAD" { Ok(()) } else { out.write_all(state.damaged.get(name).unwrap_or(bytes)) }
        }
        None => {
            let code = if path.starts_with("/me/net/") { "EntryNotFound" } else { "RepoNotFound" };
            head(&mut out, "404 Not Found", &[format!("X-Error-Code: {code}")], 0)
        }
    }
}

fn from_store(out: &mut TcpStream, path: &str, range: &str, state: &mut State) -> std::io::Result<()> {
    let name = path.trim_start_matches('/').split('?').next().unwrap_or_default();
    if state.away {
        return head(out, "503 Service Unavailable", &[], 0);
    }
    let Some(bytes) = state.damaged.get(name).or_else(|| state.files.get(name)) else {
        return head(out, "404 Not Found", &[], 0);
    };
    let from: usize = range.strip_prefix("bytes=").and_then(|r| r.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let rest = &bytes[from.min(bytes.len())..];
    let fields = [format!("Content-Range: bytes {from}-{}/{}", bytes.len().saturating_sub(1), bytes.len())];
    head(out, if range.is_empty() { "200 OK" } else { "206 Partial Content" }, &fields, rest.len())?;
    let length = if state.cuts.is_empty() { rest.len() } else { state.cuts.remove(0).min(rest.len()) };
    out.write_all(&rest[..length])
}

fn head(out: &mut TcpStream, status: &str, fields: &[String], length: usize) -> std::io::Result<()> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    write!(out, "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n")
}

fn is_large(name: &str) -> bool {
    !name.ends_with(".json")
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
