//! Getting the bytes of an image: S3, files, http(s). Limits, retries, and telling one object's fault from the world's.

mod address;
mod allow;
mod file;
mod http;
mod judge;
mod read;
mod s3;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use self::allow::Allow;
use self::http::Http;
use self::judge::{Judge, Refusal, Verdict};
use self::read::Read;
use crate::config::{self, OnChanged};
use crate::flow::{ImageRef, Location, Partition, Pool, Reason, Rejection, Reservation, Skip, Stage};
use crate::{Error, Result, store};

pub use allow::Grant;

/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// An object's bytes and what the store said of them.
#[derive(Debug)]
pub struct Body {
    /// The whole file.
    pub bytes: Bytes,
    /// Which location gave it: the reference's own, or its other reading.
    pub location: Location,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Memory that the bytes hold.
    pub memory: Reservation,
}

/// Why there is no body.
#[derive(Debug)]
pub enum GetError {
    /// This item's fault.
    Rejected(Rejection),
    /// Nothing is wrong, and there is nothing to label.
    Skipped(Skip),
    /// Will not pass without the operator; stops the worker.
    Fatal(Error),
}

/// What one attempt gave.
struct Answer {
    bytes: Bytes,
    etag: Option<String>,
    version: Option<String>,
    memory: Reservation,
}

/// How one attempt failed.
#[derive(Debug)]
enum Failure {
    /// This object's fault, and it will not change.
    Rejected(Rejection),
    /// No such object.
    Missing(String),
    /// No such bucket.
    MissingPlace(String),
    /// Not the ETag that was asked for.
    Changed,
    /// 403: of this object, or of the whole bucket.
    Denied(String),
    /// May pass. Throttling never counts against the item.
    Retry { detail: String, throttled: bool, after: Option<Duration> },
    /// Will not pass without the operator.
    Fatal(String),
}

impl Failure {
    fn retry(detail: impl Into<String>) -> Self {
        Self::Retry { detail: detail.into(), throttled: false, after: None }
    }
}

fn rejection(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(Stage::Fetch, reason, detail)
}

fn rejected(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Failure {
    Failure::Rejected(rejection(reason, detail))
}

/// A bucket or a host: outages and refusals are judged for all of it together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place(&'static str, String);

impl Place {
    fn s3(bucket: &str) -> Self {
        Self("s3", bucket.to_owned())
    }

    fn http(host: &str) -> Self {
        Self("http", host.to_owned())
    }

    fn of(location: &Location) -> Self {
        match location {
            Location::S3 { bucket, .. } => Self::s3(bucket),
            Location::File(_) => Self("file", String::new()),
            Location::Http(url) => {
                Self::http(&format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0)))
            }
        }
    }

    fn kind(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1.as_str()) {
            ("file", _) => f.write_str("the file system"),
            ("s3", bucket) => write!(f, "s3://{bucket}"),
            (_, host) => write!(f, "the host {host}"),
        }
    }
}

/// What an item may read, found out before anything is asked.
struct Permit {
    grant: Grant,
    root: Option<PathBuf>,
}

/// Fetches for a whole worker.
pub struct Fetcher {
    config: config::Fetch,
    store: config::S3,
    allow: Arc<Allow>,
    client: OnceCell<Client>,
    http: Http,
    bodies: Pool,
    slots: Semaphore,
    partitions: Mutex<HashMap<Partition, Arc<Semaphore>>>,
    judge: Judge,
}

impl Fetcher {
    /// A fetcher that draws on `bodies` for memory.
    pub async fn new(config: config::Fetch, store: config::S3, bodies: Pool) -> Result<Self> {
        let allow = Arc::new(Allow::new(&config.allow)?);
        Ok(Self {
            http: Http::new(allow.clone(), config.timeout.0)?,
            slots: Semaphore::new(config.concurrency.max(1)),
            client: OnceCell::new(),
            partitions: Mutex::default(),
            judge: Judge::default(),
            allow,
            config,
            store,
            bodies,
        })
    }

    /// Places of which nothing succeeds: name, since when, and the last that was heard.
    pub fn waiting(&self) -> Vec<(Place, Instant, String)> {
        self.judge.waiting()
    }

    /// Gets the bytes, however long that takes while it is not the item's fault. `trusted` references were named by the user, and go past `fetch.allow`.
    pub async fn get(&self, reference: &ImageRef, trusted: bool, partition: &Partition) -> Result<Body, GetError> {
        let mut location = &reference.location;
        let mut other = reference.or_else.as_ref();
        let mut if_match = reference.etag.as_deref();
        let mut permit = self.permit(location, trusted)?;
        let mut place = Place::of(location);
        let (mut attempts, mut first_failure, mut refused, mut pauses) = (0u32, None, false, 0u32);
        loop {
            let failure = match self.attempt(reference, location, if_match, trusted, &permit, partition).await {
                Ok(Answer { bytes, etag, version, memory }) => {
                    self.judge.success(&place, Instant::now());
                    return Ok(Body { bytes, location: location.clone(), etag, version, memory });
                }
                Err(failure) => failure,
            };
            let now = Instant::now();
            let pause = match failure {
                Failure::Rejected(rejection) => {
                    if rejection.reason != Reason::ForbiddenLocation {
                        self.judge.success(&place, now);
                    }
                    return Err(GetError::Rejected(rejection));
                }
                Failure::Missing(detail) => {
                    self.judge.success(&place, now);
                    let Some(second) = other.take() else { return Err(GetError::Rejected(rejection(Reason::NotFound, detail))) };
                    // The other reading of an ambiguous key.
                    permit = self.permit(second, trusted)?;
                    place = Place::of(second);
                    location = second;
                    continue;
                }
                Failure::MissingPlace(detail) if permit.grant == Grant::Wildcard => {
                    return Err(GetError::Rejected(rejection(Reason::NotFound, detail)));
                }
                Failure::MissingPlace(detail) | Failure::Fatal(detail) => return Err(GetError::Fatal(Error::failed(detail))),
                Failure::Changed => match self.config.on_changed {
                    OnChanged::Supersede => return Err(GetError::Skipped(Skip::Superseded)),
                    OnChanged::Reject => {
                        return Err(GetError::Rejected(rejection(
                            Reason::Changed,
                            "the object is no longer the one that the reference names",
                        )));
                    }
                    OnChanged::Current => {
                        if_match = None;
                        continue;
                    }
                },
                Failure::Denied(detail) => {
                    let new = !std::mem::replace(&mut refused, true);
                    if new && self.is_open(location).await {
                        self.judge.success(&place, Instant::now());
                    }
                    match self.judge.refusal(&place, new, Instant::now()) {
                        Refusal::Reject => return Err(GetError::Rejected(rejection(Reason::AccessDenied, detail))),
                        Refusal::Fatal if permit.grant == Grant::Wildcard => {
                            return Err(GetError::Rejected(rejection(Reason::AccessDenied, detail)));
                        }
                        Refusal::Fatal => {
                            return Err(GetError::Fatal(Error::failed(format!(
                                "{place} refuses everything ({detail}); check the credentials' rights (s3:GetObject) and the bucket's policy"
                            ))));
                        }
                        Refusal::Hold => Duration::from_secs(1),
                    }
                }
                Failure::Retry { detail, throttled, after } => {
                    attempts += u32::from(!throttled);
                    let first = *first_failure.get_or_insert(now);
                    let exhausted = attempts >= self.config.attempts && now.saturating_duration_since(first) >= self.config.give_up.0;
                    self.judge.failure(&place, &detail, now, attempts >= self.config.attempts || throttled);
                    if exhausted && !throttled && self.judge.verdict(&place, permit.grant, first) == Verdict::Reject {
                        let detail = format!("{detail}; {attempts} attempts in {} s", first.elapsed().as_secs());
                        return Err(GetError::Rejected(rejection(Reason::Unavailable, detail)));
                    }
                    pauses += 1;
                    after.unwrap_or_default().max(backoff(pauses))
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn permit(&self, location: &Location, trusted: bool) -> Result<Permit, GetError> {
        if trusted {
            return Ok(Permit { grant: Grant::Named, root: None });
        }
        let (permit, name) = match location {
            Location::S3 { bucket, key } => (self.allow.s3(bucket, key).map(|grant| Permit { grant, root: None }), "s3"),
            Location::File(path) => (self.allow.root(path).map(|root| Permit { grant: Grant::Named, root: Some(root) }), "file"),
            Location::Http(url) => (self.allow.http(url).map(|grant| Permit { grant, root: None }), "http"),
        };
        permit.ok_or_else(|| {
            GetError::Rejected(rejection(Reason::ForbiddenLocation, format!("fetch.allow.{name} does not name this location")))
        })
    }

    async fn attempt(
        &self,
        reference: &ImageRef,
        location: &Location,
        if_match: Option<&str>,
        trusted: bool,
        permit: &Permit,
        partition: &Partition,
    ) -> Result<Answer, Failure> {
        // First the partition's own share, so that one partition's stuck items cannot take every slot.
        let share = self.share(partition);
        let closed = |_| Failure::Fatal("the fetcher is closed".into());
        let _own = share.acquire().await.map_err(closed)?;
        let _slot = self.slots.acquire().await.map_err(closed)?;
        let bound = Read::new(&self.bodies, self.config.max_bytes.0, self.config.timeout.0);
        let version = reference.version.as_deref();
        match location {
            Location::S3 { bucket, key } => s3::fetch(self.client().await, bucket, key, version, if_match, &bound).await,
            Location::File(path) => file::fetch(path, permit.root.as_deref(), &bound).await,
            Location::Http(url) => self.http.fetch(url, trusted, if_match, &bound).await,
        }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| store::s3_client(&self.store)).await
    }

    /// Whether the place of a refused object surely lets others through.
    async fn is_open(&self, location: &Location) -> bool {
        match location {
            Location::S3 { bucket, .. } => s3::bucket_is_open(self.client().await, bucket).await.unwrap_or(false),
            _ => false,
        }
    }

    fn share(&self, partition: &Partition) -> Arc<Semaphore> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = partitions.get(partition) {
            return share.clone();
        }
        // A single partition gets everything; of several none gets more than half.
        let listing = partition.partition == 0 && partitions.is_empty();
        let size = if listing { self.config.concurrency } else { self.config.concurrency.div_ceil(2) };
        let share = Arc::new(Semaphore::new(size.max(1)));
        partitions.insert(partition.clone(), share.clone());
        share
    }
}

/// Exponential, from 200 ms to 30 s, with full jitter (Brooker, "Exponential backoff and jitter", 2015) over its upper half.
fn backoff(attempt: u32) -> Duration {
    let ceiling = Duration::from_millis(200).saturating_mul(1 << attempt.min(10)).min(MAX_PAUSE);
    ceiling.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

#[cfg(test)]
mod tests;
