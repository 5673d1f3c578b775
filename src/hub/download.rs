//! One file over http: resumed where it was cut off, and kept only if it is the one that was asked for.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest, Sha256};
use url::Url;

use super::progress::Bar;
use super::source::is_loopback;
use crate::error::chain;
use crate::telemetry::escape;
use crate::{Context, Error, Result};

/// Longest file that is taken.
const MAX_BYTES: u64 = 8 << 30;
/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;
/// Wait after the first of them; doubled after each.
const WAIT: Duration = Duration::from_millis(300);
/// Most redirects.
const REDIRECTS: usize = 10;

/// What the bytes have to be.
#[derive(Debug, Clone)]
pub struct Want {
    /// The SHA-256 in hex digits, or its beginning.
    pub sha256: Option<String>,
    /// How many there are.
    pub size: Option<u64>,
    /// The most that are taken.
    pub most: u64,
}

impl Default for Want {
    fn default() -> Self {
        Self { sha256: None, size: None, most: MAX_BYTES }
    }
}

/// A client that follows redirects, but never from https to http, and into this machine only from it.
///
/// # Errors
/// The system's certificates cannot be loaded.
pub fn client(follow: bool) -> Result<Client> {
    let policy = if follow { Policy::custom(redirect) } else { Policy::none() };
    Client::builder()
        .user_agent(concat!("lakelens/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(30))
        .read_timeout(Duration::from_secs(60))
        .redirect(policy)
        .referer(false)
        .build()
        .context("preparing https")
}

fn redirect(attempt: Attempt) -> reqwest::redirect::Action {
    let from_here = attempt.previous().first().is_some_and(is_loopback);
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("too many redirects");
    }
    if attempt.url().scheme() == "https" || from_here { attempt.follow() } else { attempt.error("redirected to what is not https") }
}

/// Brings the bytes at `url` to the file `partial`, which may have the first of them already. `name` is for messages. A token goes to the host of
/// `url`, and to no other that it redirects to.
///
/// # Errors
/// [`Error::Failed`] if the server refuses or stays away, or if the bytes are others than those wanted; those are deleted.
pub async fn download(client: &Client, url: &Url, token: Option<&str>, partial: &Path, want: &Want, name: &str, bar: &Bar) -> Result<()> {
    if let Some(size) = want.size.filter(|size| *size > want.most) {
        return Err(Error::failed(format_args!("{name}: it has {size} bytes, more than the {} that are taken", want.most)));
    }
    let mut file = Partial::open(partial)?;
    loop {
        let resumed = file.have > 0;
        transfer(client, url, token, &mut file, want, name, bar).await?;
        let hex = hex(&file.hash.clone().finalize());
        if want.sha256.as_ref().is_none_or(|sha256| hex.starts_with(sha256.as_str())) {
            return file.file.sync_all().context(format_args!("writing {}", partial.display()));
        }
        file.restart()?;
        // What was there from an earlier time may have been of another file.
        if resumed {
            tracing::warn!("{name}: the part that was there belongs to another file; beginning again");
            continue;
        }
        let _ = std::fs::remove_file(partial);
        return Err(Error::failed(format_args!(
            "{name}: its SHA-256 is {hex}, and not {}: it is another file or was damaged on the way, and was not kept",
            want.sha256.as_deref().unwrap_or_default()
        )));
    }
}

/// A file that is not whole yet. Locked, so that two processes do not write it at once.
struct Partial<'a> {
    file: File,
    path: &'a Path,
    hash: Sha256,
    have: u64,
}

impl<'a> Partial<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let doing = || format!("writing {}", path.display());
        let file = OpenOptions::new().create(true).read(true).append(true).open(path).context(doing())?;
        file.try_lock().map_err(|_| Error::failed(format_args!("{} is being written by another process; wait for it", path.display())))?;
        let mut partial = Self { file, path, hash: Sha256::new(), have: 0 };
        partial.have = hash_file(&mut partial.file, &mut partial.hash).context(doing())?;
        Ok(partial)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context(format_args!("writing {}", self.path.display()))?;
        self.hash.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).context(format_args!("writing {}", self.path.display()))?;
        (self.hash, self.have) = (Sha256::new(), 0);
        Ok(())
    }
}

async fn transfer(
    client: &Client,
    url: &Url,
    token: Option<&str>,
    file: &mut Partial<'_>,
    want: &Want,
    name: &str,
    bar: &Bar,
) -> Result<()> {
    if file.have > want.size.unwrap_or(want.most) {
        file.restart()?;
    }
    let mut failures = 0;
    while file.have == 0 || want.size != Some(file.have) {
        let before = file.have;
        match once(client, url, token, file, want, bar).await {
            Ok(()) => return Ok(()),
            Err(Stop::For(error)) => return Err(Error::failed(format_args!("{name}: {error}"))),
            Err(Stop::Retry(why)) => {
                failures = if file.have > before { 1 } else { failures + 1 };
                if failures >= ATTEMPTS {
                    return Err(Error::failed(format_args!(
                        "{name}: {why}; the {} bytes that came are kept, and the same command goes on from there",
                        file.have
                    )));
                }
                tracing::warn!("{name}: {why}; trying again");
                tokio::time::sleep(WAIT * 2u32.pow(failures - 1)).await;
            }
        }
    }
    Ok(())
}

/// Why one request did not bring all.
enum Stop {
    Retry(String),
    For(String),
}

async fn once(client: &Client, url: &Url, token: Option<&str>, file: &mut Partial<'_>, want: &Want, bar: &Bar) -> Result<(), Stop> {
    let mut request = client.get(url.clone());
    if file.have > 0 {
        request = request.header(RANGE, format!("bytes={}-", file.have));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.map_err(|e| network(&e.without_url()))?;
    let stop = |e: Error| Stop::For(e.to_string());
    match response.status() {
        StatusCode::OK => file.restart().map_err(stop)?,
        StatusCode::PARTIAL_CONTENT if starts_at(&response, file.have) => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            file.restart().map_err(stop)?;
            return Err(Stop::Retry("the server sent another part of it than was asked for".into()));
        }
        status if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => {
            return Err(Stop::Retry(format!("the server says {status}")));
        }
        status => return Err(Stop::For(format!("the server says {status}"))),
    }
    let most = want.size.unwrap_or(want.most);
    while let Some(bytes) = response.chunk().await.map_err(|e| network(&e.without_url()))? {
        if file.have + bytes.len() as u64 > most {
            file.restart().map_err(stop)?;
            return Err(Stop::For(format!("the server sends more than {most} bytes, which are all that it should have")));
        }
        file.write(&bytes).map_err(stop)?;
        bar.at(file.have);
    }
    match want.size {
        Some(size) if file.have < size => Err(Stop::Retry(format!("the connection ended after {} of {size} bytes", file.have))),
        _ => Ok(()),
    }
}

fn network(error: &reqwest::Error) -> Stop {
    let text = escape(&chain(error));
    if error.is_redirect() || error.is_builder() { Stop::For(text) } else { Stop::Retry(text) }
}

fn starts_at(response: &Response, at: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.and_then(|r| r.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()) == Some(at)
}

/// Hashes a file from its beginning, and gives its length.
fn hash_file(file: &mut File, hash: &mut impl Digest) -> std::io::Result<u64> {
    file.rewind()?;
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(length);
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
