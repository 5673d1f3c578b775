//! URIs of the four schemes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::flow::Location;

/// Longest key of S3, in bytes.
const MAX_KEY: usize = 1024;
/// Longest URL that servers commonly take, in bytes.
const MAX_URL: usize = 8192;
/// Longest path of Linux, in bytes.
const MAX_PATH: usize = 4096;
/// Schemes that are named when they are refused; any other text before `://` may be a secret.
const OTHERS: &[&str] = &["s3a", "s3n", "gs", "gcs", "abfs", "abfss", "wasb", "wasbs", "az", "hdfs", "ftp", "sftp", "oss", "cos", "r2"];

/// Reads a URI of the scheme `s3`, `file`, `http` or `https`.
///
/// In `s3://bucket/key` all after the bucket's slash is the raw key: nothing is decoded, `?` and `#` are part of it. `file://` is percent-decoded and
/// absolute. Paths without a scheme are refused: a reference comes from a stranger, who cannot know where the worker runs.
///
/// # Errors
/// What is wrong, without repeating the URI.
pub fn location(uri: &str) -> Result<Location, String> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err("not a URI: it has no scheme; write s3://bucket/key, file:///path, http:// or https://".into());
    };
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            s3(bucket, key)
        }
        "file" => file(rest),
        "http" | "https" => http(uri),
        other if OTHERS.contains(&other) => Err(format!("the scheme {other} is not known; s3, file, http and https are")),
        _ => Err("what stands before `://` is not a scheme that is known; s3, file, http and https are".into()),
    }
}

/// An object, if the bucket can be one's name and the key is not empty.
pub(super) fn s3(bucket: &str, key: &str) -> Result<Location, String> {
    // Wider than AWS's rules for new buckets, since old buckets and other servers have wider ones. A name of dots would walk up a server's paths.
    // Ceph writes `tenant:bucket`.
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if bucket.is_empty() {
        return Err("the bucket's name is empty".into());
    }
    if bucket.len() > 255 || !bucket.bytes().all(legal) || !bucket.as_bytes()[0].is_ascii_alphanumeric() {
        return Err("the bucket's name is not one: letters, digits, `.`, `-` and `_` are allowed".into());
    }
    if key.is_empty() {
        return Err("the key is empty: the reference names a bucket, not an object".into());
    }
    if key.len() > MAX_KEY {
        return Err(format!("the key has {} bytes; S3 allows {MAX_KEY}", key.len()));
    }
    Ok(Location::S3 { bucket: bucket.into(), key: key.into() })
}

fn file(rest: &str) -> Result<Location, String> {
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
        return Err("a file URI that names another host, or a relative path; write file:///absolute/path".into());
    }
    let path: Vec<u8> = percent_decode_str(path).collect();
    match path.as_slice() {
        [] | [b'/'] => Err("the file URI has no path".into()),
        path if path.len() > MAX_PATH => Err(format!("the path has {} bytes; {MAX_PATH} are allowed", path.len())),
        path if path.contains(&0) => Err("the path holds a zero byte".into()),
        _ => Ok(Location::File(PathBuf::from(OsString::from_vec(path)))),
    }
}

fn http(uri: &str) -> Result<Location, String> {
    if uri.len() > MAX_URL {
        return Err(format!("the URL has {} bytes; {MAX_URL} are allowed", uri.len()));
    }
    // The URL standard drops these in silence; a reference that holds them is a slip.
    if uri.chars().any(|c| c.is_control()) || uri.ends_with(' ') {
        return Err("the URL holds control characters or ends in a space".into());
    }
    match url::Url::parse(uri) {
        Ok(url) if url.has_host() => Ok(Location::Http(url)),
        Ok(_) => Err("the URL has no host".into()),
        // The error's text is one of a fixed set and repeats nothing of the URL.
        Err(e) => Err(format!("the URL cannot be read: {e}")),
    }
}
