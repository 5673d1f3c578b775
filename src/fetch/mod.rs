//! Getting the bytes of an image: S3, files, http(s); limits, retries, and telling one object's fault from the world's.

use async_trait::async_trait;
use bytes::Bytes;

use crate::flow::{ImageRef, Rejection, Reservation, Skip};

/// An object's bytes and what the store said of them.
#[derive(Debug)]
pub struct Body {
    /// The whole file.
    pub bytes: Bytes,
    /// Which location gave it: the reference's own, or its `or_else`.
    pub location: crate::flow::Location,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Memory that the bytes hold.
    pub memory: Reservation,
}

/// How one attempt to fetch failed.
#[derive(Debug)]
pub enum FetchError {
    /// This object's fault, and it will not change.
    Rejected(Rejection),
    /// Nothing is wrong, and there is nothing to label (superseded).
    Skipped(Skip),
    /// May pass: a timeout, a 5xx, throttling, a connection that broke.
    Retry {
        /// What happened.
        detail: String,
        /// True for throttling, which never counts against the item.
        throttled: bool,
    },
    /// 403: of this object, or of the whole bucket, which the caller finds out from its neighbours.
    Denied(String),
    /// Will not pass without the operator: refused credentials, a missing bucket. Stops the worker.
    Fatal(String),
}

/// Where a location's neighbours are: outages and refusals are judged for all of one place together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place(pub String);

/// One way to get bytes.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// One attempt, with its own timeout over request and body.
    async fn fetch(&self, reference: &ImageRef, location: &crate::flow::Location) -> Result<Body, FetchError>;
}
