//! URIs of images.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::flow::Location;

/// Longest key of S3, in bytes.
const MAX_KEY: usize = 1024;
/// Longest URL that servers commonly take.
const MAX_URL: usize = 8192;

/// Reads a URI. In `s3://bucket/key` all after the bucket's slash is the raw key: no decoding, no query, no fragment. `file://` is percent-decoded.
/// The error says what is wrong, without repeating what may be a secret.
pub fn location(uri: &str) -> Result<Location, String> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(format!("`{}` is not a URI; write s3://bucket/key, https://host/path or file:///path", cut(uri)));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => {
            let (bucket, key) = rest.split_once('/').ok_or("s3:// names a bucket and no key")?;
            s3(bucket, key)
        }
        "file" => file(rest),
        "http" | "https" => http(uri),
        other => Err(format!("the scheme `{}` is not one of s3, http, https, file", cut(other))),
    }
}

/// An object by bucket and raw key.
pub fn s3(bucket: &str, key: &str) -> Result<Location, String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(known) {
        return Err(format!("`{}` is not the name of a bucket", cut(bucket)));
    }
    match key.len() {
        0 => Err(format!("s3://{bucket}/ names a bucket and no key")),
        1..=MAX_KEY => Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() }),
        n => Err(format!("the key has {n} bytes, S3 allows {MAX_KEY}")),
    }
}

fn file(rest: &str) -> Result<Location, String> {
    let path = match rest.split_once('/') {
        Some(("" | "localhost", _)) => &rest[rest.find('/').unwrap_or(0)..],
        _ => return Err("file:// needs an absolute path on this machine: file:///path".into()),
    };
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| "the path is not UTF-8 once decoded")?;
    if decoded.contains('\0') || decoded.len() > 4096 {
        return Err("the path has a zero byte or more than 4096 bytes".into());
    }
    Ok(Location::File(PathBuf::from(decoded.as_ref())))
}

fn http(uri: &str) -> Result<Location, String> {
    if uri.len() > MAX_URL {
        return Err(format!("the URL has {} bytes, {MAX_URL} are allowed", uri.len()));
    }
    let url = Url::parse(uri).map_err(|e| format!("the URL cannot be read: {e}"))?;
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(Location::Http(url)),
        _ => Err("the URL has no host".into()),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
