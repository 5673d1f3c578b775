//! What a path, a pattern, a bucket prefix, a file of lines or an S3 Inventory names, entry by entry and in a stable order. Shared by the listing
//! sources and by `enqueue`.
//!
//! Nothing here holds a whole listing: entries come through a channel in small batches, and whoever lists waits while nobody takes them.
//!
//! What is taken: of a folder, recursively, the regular files whose extension is that of an image; symbolic links and names that begin with a dot are
//! passed over. Of a glob likewise, but where the pattern spells out the end of the name (`*.dat`) every match is taken. A file that is named is
//! taken whatever it is called. Of a bucket prefix every object is taken whose key does not end in a slash; a prefix that is the whole key of an object with
//! an image's extension means that object alone.

mod bucket;
mod folder;
mod inventory;
mod lines;
mod state;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use bucket::{Range, split_ranges};
pub use folder::Pattern;
pub use lines::{MAX_LINE, as_reference};
pub use state::{load_state, save_state};

use crate::store::split_s3;
use crate::{Error, Result};

/// Entries a batch holds at most; a batch ends sooner when it has `BATCH_BYTES`.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;
/// Batches that a listing is ahead of whoever takes them.
const AHEAD: usize = 4;

/// Extensions of the formats that can be decoded.
const IMAGE_EXTENSIONS: [&str; 11] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff"];

/// Whether the name ends like an image's, in upper or lower case.
pub fn is_image_name(name: &Path) -> bool {
    name.extension().and_then(|e| e.to_str()).is_some_and(|e| IMAGE_EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// Extensions of images in other formats, which no decoder here reads.
const OTHER_IMAGE_EXTENSIONS: [&str; 26] = [
    "avif", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "ico", "cur", "svg", "psd", "tga", "pnm", "ppm", "pgm", "pbm", "pam", "exr", "hdr",
    "dds", "qoi", "dng", "cr2", "cr3", "nef", "arw",
];

/// The extension, in lower case, of a name that ends like that of an image which cannot be decoded here.
fn other_image(name: &Path) -> Option<&'static str> {
    let extension = name.extension()?.to_str()?;
    OTHER_IMAGE_EXTENSIONS.into_iter().find(|known| extension.eq_ignore_ascii_case(known))
}

/// Extensions of files that hold a reference on each line.
const LINES_EXTENSIONS: &[&str] = &[".jsonl", ".ndjson", ".txt", ".lst", ".uris"];

/// Whether a file is no text, whatever its name says: every image format has a zero byte near its beginning.
fn is_binary(path: &Path) -> bool {
    use std::io::Read;
    let mut beginning = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(1024).read_to_end(&mut beginning));
    read.is_ok() && beginning.contains(&0)
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What a record's `source.key` says: the object's key, the path within the folder, the number of the line from 1.
    pub key: String,
    /// A reference as it may stand on a topic.
    pub value: Bytes,
    /// The URI, where the listing knows it (a line is passed on unread).
    pub uri: Option<String>,
    /// ETag without quotes, where the listing tells it.
    pub etag: Option<String>,
    /// Object version, where the listing tells it.
    pub version: Option<String>,
    /// Where to go on after this entry.
    pub mark: Mark,
}

impl Entry {
    /// An entry named by its URI alone.
    fn of_uri(uri: String, key: String, mark: Mark) -> Self {
        Self { key, value: plain_or_json(&uri), uri: Some(uri), etag: None, version: None, mark }
    }
}

/// Where a listing stands, to go on behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// URI of a file.
    File(String),
    /// Key of an object.
    Key(String),
    /// A line: its number from 0, and the byte behind it (of the text, where the file is compressed).
    Line { number: u64, end: u64 },
    /// A row of an inventory: number of the data file, number of the row within it.
    Row { file: usize, row: u64 },
}

/// What an argument names.
#[derive(Debug, Clone)]
pub enum Input {
    /// A folder with all below it.
    Folder(PathBuf),
    /// A single file.
    File(PathBuf),
    /// Files that match a pattern.
    Glob(Pattern),
    /// The objects below a prefix.
    Bucket { bucket: String, prefix: String, range: Range },
    /// A file with a reference on each line.
    Lines(PathBuf),
    /// References on standard input.
    Stdin,
    /// The `manifest.json` of an S3 Inventory: a path or an `s3://` URI.
    Inventory(String),
}

impl Input {
    /// What `text` names where images are asked for: a named file is an image, unless its extension says that it is text, which then holds lines.
    ///
    /// # Errors
    /// [`Error::Config`] if there is nothing of that name.
    pub fn of_images(text: &str) -> Result<Self> {
        Self::find(text, |path| {
            let name = path.to_string_lossy().to_ascii_lowercase();
            let (name, packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |name| (name, true));
            LINES_EXTENSIONS.iter().any(|e| name.ends_with(e)) && (packed || !is_binary(path))
        })
    }

    /// What `text` names where references are asked for: `manifest.json` is an inventory's, and a file without an image's extension holds lines.
    ///
    /// # Errors
    /// [`Error::Config`] if there is nothing of that name.
    pub fn of_references(text: &str) -> Result<Self> {
        if text == "manifest.json" || text.ends_with("/manifest.json") {
            if split_s3(text).is_none() && !Path::new(text).is_file() {
                return Err(Error::config(format!("there is no file `{text}`")));
            }
            return Ok(Self::Inventory(text.to_owned()));
        }
        Self::find(text, |path| !is_image_name(path))
    }

    /// The file of lines at `path`; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such file.
    pub fn of_lines(path: &str) -> Result<Self> {
        if path == "-" {
            return Ok(Self::Stdin);
        }
        if path.contains("://") {
            return Err(Error::config(format!(
                "lines are read from a file or from standard input (`-`), not from `{path}`: copy it here first"
            )));
        }
        match std::fs::metadata(path) {
            Ok(m) if m.is_dir() => {
                Err(Error::config(format!("`{path}` is a folder; lines are read from a file (a folder of images is a `listing`)")))
            }
            Ok(_) => Ok(Self::Lines(PathBuf::from(path))),
            Err(e) => Err(Error::config(format!("cannot read lines from `{path}`: {e}"))),
        }
    }

    fn find(text: &str, holds_lines: impl Fn(&Path) -> bool) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::config("an empty path names nothing to list"));
        }
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if text.starts_with("s3:") {
            let (bucket, prefix) =
                split_s3(text).ok_or_else(|| Error::config(format!("`{text}` names no bucket; write s3://bucket/prefix")))?;
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned(), range: Range::default() });
        }
        let path = match url::Url::from_str(text) {
            Ok(url) if url.scheme() == "file" => {
                url.to_file_path().map_err(|()| Error::config(format!("`{text}` is not a path on this machine; write file:///path")))?
            }
            Ok(url) if text.contains("://") => {
                return Err(Error::config(format!(
                    "cannot list `{}:` locations; give single URLs as lines, on standard input (`-`) or in a file",
                    url.scheme()
                )));
            }
            _ => PathBuf::from(text),
        };
        // What exists under this very name is meant, even if the name has characters of a pattern.
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => Ok(Self::Folder(absolute(&path)?)),
            Ok(_) if holds_lines(&path) => Ok(Self::Lines(path)),
            Ok(_) => Ok(Self::File(absolute(&path)?)),
            Err(_) if Pattern::is_pattern(text) => Pattern::new(text).map(Self::Glob),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::config(format!("there is no file or folder `{text}`"))),
            Err(e) => Err(Error::config(format!("cannot read `{text}`: {e}"))),
        }
    }

    /// Whether listing it needs an S3 client.
    pub fn needs_s3(&self) -> bool {
        match self {
            Self::Bucket { .. } => true,
            Self::Inventory(path) => path.starts_with("s3://"),
            _ => false,
        }
    }
}

/// A running listing; dropping it ends it.
#[derive(Debug)]
pub struct Entries {
    batches: mpsc::Receiver<Result<Vec<Entry>>>,
    /// Set by whoever lists when it came to the end, so that one that died is not taken for one that is done.
    complete: Arc<AtomicBool>,
}

impl Entries {
    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// What kept the listing from going on; nothing comes after it.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        match self.batches.recv().await {
            Some(batch) => batch.map(Some),
            None if self.complete.load(Ordering::Acquire) => Ok(None),
            None => Err(Error::failed("the listing broke off (this is a bug in Lakelens; its log says more)")),
        }
    }
}

/// Lists `input`, going on after `after`.
///
/// # Errors
/// [`Error::Config`] if the input needs S3 and there is no client.
pub fn entries(input: &Input, after: Option<Mark>, s3: Option<&Client>) -> Result<Entries> {
    let (tx, batches) = mpsc::channel(AHEAD);
    let complete = Arc::new(AtomicBool::new(false));
    let done = complete.clone();
    let client = match (input.needs_s3(), s3) {
        (true, None) => return Err(Error::config("listing a bucket needs `store.s3`, which this command was not given")),
        (_, client) => client.cloned(),
    };
    match (input.clone(), client) {
        (Input::Bucket { bucket, prefix, range }, Some(client)) => {
            tokio::spawn(async move {
                match bucket::list(&client, &bucket, &prefix, range, after, &tx).await {
                    Ok(()) => done.store(true, Ordering::Release),
                    // Fails only when nobody takes the entries any more.
                    Err(e) => drop(tx.send(Err(e)).await),
                }
            });
        }
        (Input::Inventory(path), client) => {
            tokio::spawn(async move {
                match inventory::list(client.as_ref(), &path, after, &tx).await {
                    Ok(()) => done.store(true, Ordering::Release),
                    // Fails only when nobody takes the entries any more.
                    Err(e) => drop(tx.send(Err(e)).await),
                }
            });
        }
        (input, _) => {
            // A thread of its own: a read from standard input cannot be broken off, and the runtime would wait for one of its own threads.
            std::thread::Builder::new()
                .name("listing".into())
                .spawn(move || {
                    let mut out = Batches::new(tx);
                    let result = match &input {
                        Input::Folder(root) => folder::list(root, None, after, &mut out),
                        Input::Glob(pattern) => folder::list(pattern.root(), Some(pattern), after, &mut out),
                        Input::File(path) => folder::single(path, after, &mut out),
                        Input::Lines(path) => lines::list(Some(path), after, &mut out),
                        _ => lines::list(None, after, &mut out),
                    };
                    out.end(result, &done);
                })
                .map_err(|e| Error::failed(format!("cannot start a thread to list with: {e}")))?;
        }
    }
    Ok(Entries { batches, complete })
}

/// Nobody takes the entries any more.
#[derive(Debug)]
struct Gone;

/// Collects entries into batches and sends them, waiting while nobody takes them. For threads outside the runtime.
struct Batches {
    tx: mpsc::Sender<Result<Vec<Entry>>>,
    batch: Vec<Entry>,
    bytes: usize,
}

impl Batches {
    fn new(tx: mpsc::Sender<Result<Vec<Entry>>>) -> Self {
        Self { tx, batch: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, entry: Entry) -> Result<(), Gone> {
        self.bytes += entry.value.len();
        self.batch.push(entry);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        self.bytes = 0;
        match std::mem::take(&mut self.batch) {
            batch if batch.is_empty() => Ok(()),
            batch => self.tx.blocking_send(Ok(batch)).map_err(|_| Gone),
        }
    }

    fn end(mut self, result: Result<()>, complete: &AtomicBool) {
        match (self.flush(), result) {
            (Ok(()), Ok(())) => complete.store(true, Ordering::Release),
            // Fails only when nobody takes the entries any more.
            (Ok(()), Err(e)) => drop(self.tx.blocking_send(Err(e))),
            (Err(Gone), _) => {}
        }
    }
}

/// The value of a message for `uri`: the URI itself, or JSON where blanks at its ends or control characters could be lost on the way.
fn plain_or_json(uri: &str) -> Bytes {
    if uri.trim() == uri && !uri.contains(char::is_control) {
        Bytes::copy_from_slice(uri.as_bytes())
    } else {
        Bytes::from(serde_json::json!({ "uri": uri }).to_string())
    }
}

/// The absolute path without `..`, whose meaning a URI could not keep.
fn absolute(path: &Path) -> Result<PathBuf> {
    let parent = path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    let absolute = if parent { std::fs::canonicalize(path) } else { std::path::absolute(path) };
    absolute.map_err(|e| Error::config(format!("cannot read `{}`: {e}", path.display())))
}

/// `file://` URI of an absolute path.
fn file_uri(path: &Path) -> Result<String> {
    url::Url::from_file_path(path).map(String::from).map_err(|()| Error::failed(format!("`{}` is not an absolute path", path.display())))
}

#[cfg(test)]
mod tests;
