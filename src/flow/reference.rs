use std::collections::BTreeMap;
use std::fmt;

use super::Skip;
use super::scrub::is_secret;

/// Where an image lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// An object; `key` is the raw key, never percent-encoded.
    S3 { bucket: String, key: String },
    /// An absolute path on this machine.
    File(std::path::PathBuf),
    /// An `http` or `https` URL, as it is requested (secrets included: show it only through `Display`).
    Http(url::Url),
}

impl fmt::Display for Location {
    /// The URI as it goes into records and logs: without user information and without signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::File(path) => match url::Url::from_file_path(path) {
                Ok(url) => f.write_str(url.as_str()),
                Err(()) => write!(f, "file://{}", path.display()),
            },
            Self::Http(url) => f.write_str(&without_secrets(url)),
        }
    }
}

fn without_secrets(url: &url::Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have a user, which then have none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        let kept: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(n, _)| !is_secret(n)).collect();
        if kept.is_empty() {
            url.set_query(None);
        } else {
            url.query_pairs_mut().clear().extend_pairs(kept);
        }
    }
    url.into()
}

/// A reference to one image, as the message asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Where the image lies.
    pub location: Location,
    /// A second location to try when the first is not found: the other reading of an S3 event key whose encoding its emitter leaves open.
    pub or_else: Option<Location>,
    /// ETag without quotes, if the reference carries one.
    pub etag: Option<String>,
    /// Object version, if the reference carries one.
    pub version: Option<String>,
    /// The user's own identifier.
    pub id: Option<String>,
    /// The user's own tags.
    pub tags: BTreeMap<String, String>,
    /// When the event happened (RFC 3339), if it came as one.
    pub event_time: Option<String>,
}

impl ImageRef {
    /// A bare reference to `location`.
    pub fn new(location: Location) -> Self {
        Self { location, or_else: None, etag: None, version: None, id: None, tags: BTreeMap::new(), event_time: None }
    }
}

/// What one item of a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedItem {
    /// An image to label.
    Image(ImageRef),
    /// An object that was deleted (a tombstone, where asked for; skipped otherwise).
    Deleted(ImageRef),
    /// Nothing to label.
    Skip(Skip),
    /// Not a reference; the text says why.
    Bad(String),
}
