//! Pictures of the sample from a bucket or a host that the user named: fetched as a worker fetches them, within its limits and from nowhere else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config;
use crate::fetch::{Fetcher, GetError};
use crate::flow::{ImageRef, Partition, Pool, Priority, Reason, Record};
use crate::reference;
use crate::store::split_s3;
use crate::{Error, Result};

/// A picture that takes longer, with the attempts that fail, is left out, and so are all after it: a worker waits for the end of an outage, a report does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of files at a time.
const MEMORY: usize = 256 << 20;

/// What [`Images::Store`](super::Images) names, as `fetch.allow` says it: the `s3://BUCKET/PREFIX` or `https://HOST` of the user.
///
/// # Errors
/// [`Error::Config`] where it is neither.
pub fn place(text: &str) -> Result<config::Allow> {
    let wrong = || {
        Error::config(format_args!(
            "--images {text}: not a folder, s3://BUCKET/PREFIX or https://HOST; for the files that the records name, write --images last"
        ))
    };
    let mut allow = config::Allow::default();
    if let Some((bucket, prefix)) = split_s3(text).filter(|_| !text.contains('*')) {
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        allow.s3.push(format!("{bucket}/{prefix}{slash}*"));
    } else {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(wrong)?;
        let (Some(host), Some(port), "/") = (url.host_str(), url.port_or_known_default(), url.path()) else {
            return Err(wrong());
        };
        allow.http.push(format!("{host}:{port}"));
    }
    Ok(allow)
}

/// Fetches pictures.
pub struct Store {
    fetcher: Fetcher,
    runtime: Handle,
    stop: CancellationToken,
    /// The place turned out not to work.
    away: AtomicBool,
}

impl Store {
    /// One that fetches from what `allow` names, with the credentials of the environment. Errors as of [`Fetcher::new`].
    pub fn new(allow: config::Allow, s3: config::S3, stop: &CancellationToken) -> Result<Self> {
        let fetch = config::Fetch { allow, on_changed: config::OnChanged::Current, ..config::Fetch::default() };
        let fetcher = Fetcher::new(fetch, s3, Pool::new(MEMORY), false)?;
        Ok(Self { fetcher, runtime: Handle::current(), stop: stop.clone(), away: AtomicBool::new(false) })
    }

    /// The file that was labelled, or why it is not to be had. Not to be called on a thread of the runtime.
    pub fn read(&self, record: &Record) -> std::result::Result<Bytes, &'static str> {
        const AWAY: &str = "the store could not be read";
        let location = reference::location(&record.uri).map_err(|_| "its URI cannot be read")?;
        if self.away.load(Ordering::Relaxed) {
            return Err(AWAY);
        }
        let reference = ImageRef { version: record.version.clone(), ..ImageRef::new(location) };
        let partition = Partition::new("report", 0);
        let get = self.fetcher.get(&reference, false, Priority::Live, &partition);
        let ended = self.runtime.block_on(async {
            tokio::select! {
                ended = tokio::time::timeout(PATIENCE, get) => Some(ended),
                () = self.stop.cancelled() => None,
            }
        });
        let away = |why: String| {
            if !self.away.swap(true, Ordering::Relaxed) {
                tracing::warn!("the report goes without further thumbnails: {why}");
            }
            Err(AWAY)
        };
        match ended {
            Some(Ok(Ok(body))) => Ok(body.bytes),
            Some(Ok(Err(GetError::Rejected(rejection)))) => Err(match rejection.reason {
                Reason::ForbiddenLocation => "it lies outside of what --images names",
                Reason::NotFound => "the file is not there any more",
                Reason::AccessDenied => "the file may not be read",
                Reason::TooLarge => "the file is too large",
                _ => "the file could not be fetched",
            }),
            Some(Ok(Err(GetError::Skipped(_)))) => Err(super::thumbnails::ANOTHER),
            Some(Ok(Err(GetError::Fatal(error)))) => away(error.to_string()),
            Some(Err(_)) => away(format!("{} did not come within {} s", record.uri, PATIENCE.as_secs())),
            None => Err(AWAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_a_part_of_it_or_a_host() {
        for (text, allowed) in
            [("s3://lake", "lake/*"), ("s3://lake/", "lake/*"), ("s3://lake/2026", "lake/2026/*"), ("s3://lake/2026/", "lake/2026/*")]
        {
            assert_eq!(place(text).unwrap().s3, [allowed], "{text}");
        }
        assert_eq!(place("https://images.example.com").unwrap().http, ["images.example.com:443"]);
        assert_eq!(place("http://127.0.0.1:81/").unwrap().http, ["127.0.0.1:81"]);
        assert_eq!(place("http://[::1]:81/").unwrap().http, ["[::1]:81"]);
        for text in ["s3://", "s3:///key", "s3://*", "s3://lake/*", "https://", "https://host/folder", "ftp://host/", "no-such-folder", ""]
        {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
