//! Getting the bytes of an image: S3, files, http(s); limits, retries, and telling one object's fault from the world's.
//!
//! One attempt is a [`Fetch`]; what its failure means is decided here, from what else of the same place succeeded ([`judge`]).

mod address;
mod allow;
mod body;
mod errand;
mod file;
mod http;
mod judge;
mod s3;
mod slots;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

pub use allow::{Allow, Grant, Place, Reach};
pub use body::Intake;
pub(crate) use file::open as open_file;
pub use judge::Waiting;

use crate::config;
use crate::flow::{ImageRef, Location, Partition, Pool, Priority, Reason, Rejection, Reservation, Skip, Stage};
use crate::telemetry::{AttemptEnd, Attempts};
use crate::{Error, Result};
use errand::{Errand, NotThere, WaitGuard, reject};
use judge::{Denial, State};
use slots::Slots;

/// The longest pause that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// An object's bytes and what the store said of them.
#[derive(Debug)]
pub struct Body {
    /// The whole file; never empty.
    pub bytes: Bytes,
    /// Which location gave it: the reference's own, or its `or_else`.
    pub location: Location,
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
        /// What kind of failure, for the counters.
        kind: AttemptEnd,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// There is no such object.
    Missing(String),
    /// 403: of this object, or of the whole place, which its neighbours show.
    Denied(String),
    /// Will not pass without the operator: refused credentials, a missing bucket. Stops the worker.
    Fatal(String),
    /// This machine kept the answer waiting for memory; the next attempt has it.
    Again,
}

impl FetchError {
    fn rejected(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Rejected(Rejection::new(Stage::Fetch, reason, detail))
    }

    fn retry(kind: AttemptEnd, detail: impl Into<String>) -> Self {
        Self::Retry { detail: detail.into(), kind, retry_after: None }
    }

    /// How the attempt is counted; `None` where it was no attempt.
    fn counted(&self) -> Option<AttemptEnd> {
        Some(match self {
            Self::Skipped(_) => AttemptEnd::Ok,
            Self::Rejected(rejection) => match rejection.reason {
                Reason::TooLarge | Reason::Changed | Reason::Empty => AttemptEnd::Ok,
                Reason::AccessDenied => AttemptEnd::Denied,
                Reason::ForbiddenLocation => AttemptEnd::Refused,
                _ => AttemptEnd::Other,
            },
            Self::Retry { kind, .. } => *kind,
            Self::Missing(_) => AttemptEnd::NotFound,
            Self::Denied(_) => AttemptEnd::Denied,
            Self::Fatal(_) => AttemptEnd::Refused,
            Self::Again => return None,
        })
    }
}

/// One attempt: what to fetch, and within which limits.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Where it lies.
    pub location: &'a Location,
    /// ETag that the object ought to have, without quotes.
    pub etag: Option<&'a str>,
    /// Version to fetch.
    pub version: Option<&'a str>,
    /// How the location came to be allowed.
    pub grant: &'a Grant,
    /// Size, memory and time.
    pub intake: &'a Intake,
}

/// One way to get bytes.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// One attempt, which ends by itself.
    async fn fetch(&self, ask: &Ask<'_>) -> Result<Body, FetchError>;

    /// Whether the place of `location` may be read in general, asked when one object of it was refused.
    async fn probe(&self, _location: &Location) -> bool {
        false
    }
}

/// Why there is no body.
#[derive(Debug)]
pub enum GetError {
    /// It is the item's fault.
    Rejected(Rejection),
    /// The item asks for nothing.
    Skipped(Skip),
    /// The worker must stop.
    Fatal(Error),
}

/// Fetches whatever references name. Share it in an [`Arc`].
pub struct Fetcher {
    config: config::Fetch,
    allow: Arc<Allow>,
    pool: Pool,
    slots: Slots,
    s3: Arc<dyn Fetch>,
    file: Arc<dyn Fetch>,
    http: Arc<dyn Fetch>,
    state: Mutex<State>,
    /// Something succeeded where others were refused.
    readable: Notify,
    /// Numbers the items that wait.
    waiters: AtomicU64,
    attempts: Arc<Attempts>,
}

impl Fetcher {
    /// A fetcher for `config` that keeps bodies in `bodies` (the pool of [`crate::flow::MemoryBudget`]), for `both` live items and backfill or for one
    /// kind. Nothing is connected to yet. Errors:
    /// a pattern of `fetch.allow` that cannot be understood; the system's certificates cannot be loaded.
    pub fn new(config: config::Fetch, s3: config::S3, bodies: Pool, both: bool) -> Result<Self> {
        let allow = Arc::new(Allow::new(&config.allow)?);
        let on_changed = config.on_changed;
        let s3 = Arc::new(s3::S3Fetch::new(s3, on_changed));
        let file = Arc::new(file::FileFetch::new(config.concurrency));
        let http = Arc::new(http::HttpFetch::new(allow.clone(), on_changed, http::system_lookup())?);
        let slots = Slots::new(config.concurrency, both);
        Ok(Self::with(config, allow, bodies, slots, [s3, file, http]))
    }

    fn with(config: config::Fetch, allow: Arc<Allow>, pool: Pool, slots: Slots, [s3, file, http]: [Arc<dyn Fetch>; 3]) -> Self {
        Self {
            config,
            allow,
            pool,
            slots,
            s3,
            file,
            http,
            state: Mutex::default(),
            readable: Notify::new(),
            waiters: AtomicU64::new(0),
            attempts: Arc::default(),
        }
    }

    /// Counts its attempts in `attempts`.
    pub fn counting(self, attempts: Arc<Attempts>) -> Self {
        Self { attempts, ..self }
    }

    /// The bytes that `reference` names, however long an outage lasts meanwhile. `trusted`: the user himself named it, and `fetch.allow` does not
    /// apply. May be dropped at any time.
    pub async fn get(&self, reference: &ImageRef, trusted: bool, priority: Priority, partition: &Partition) -> Result<Body, GetError> {
        let Some(grant) = self.allow.grant(&reference.location, trusted) else {
            let what = match &reference.location {
                Location::S3 { bucket, .. } => format!("s3://{bucket}, or this part of it, is not in fetch.allow.s3"),
                Location::File(path) => format!("{} is not in a folder of fetch.allow.file", path.display()),
                Location::Http(url) => format!("{} is not in fetch.allow.http", allow::origin(url)),
            };
            return Err(GetError::Rejected(Rejection::new(Stage::Fetch, Reason::ForbiddenLocation, what)));
        };
        let first = (&reference.location, grant);
        let or_else = reference.or_else.as_ref().and_then(|l| Some((l, self.allow.grant(l, trusted)?)));
        let intake = Intake::new(self.pool.clone(), priority, self.config.max_bytes.0, self.config.timeout.0);
        let mut errand = Errand::new(self, reference, partition, intake);
        loop {
            let mut answer = errand.settle(&first).await?;
            if let (Err(NotThere::Missing(_) | NotThere::Denied(_)), Some(other)) = (&answer, &or_else) {
                // S3 answers 403 for a missing key, too, where the role may not list. What the first answered stays the answer.
                match errand.settle(other).await? {
                    Ok(body) => return Ok(body),
                    Err(NotThere::Denied(said)) if matches!(answer, Err(NotThere::Missing(_))) => answer = Err(NotThere::Missing(said)),
                    Err(_) => {}
                }
            }
            match answer {
                Ok(body) => return Ok(body),
                Err(NotThere::Missing(said)) => return Err(reject(Reason::NotFound, said)),
                // Returns if the place turned out to work, and then the object gets another chance.
                Err(NotThere::Denied(said)) => self.denied(first.0, &first.1, said).await?,
            }
        }
    }

    /// The places that items wait for now, for health.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state().waiting(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn backend(&self, location: &Location) -> &dyn Fetch {
        match location {
            Location::S3 { .. } => self.s3.as_ref(),
            Location::File(_) => self.file.as_ref(),
            Location::Http(_) => self.http.as_ref(),
        }
    }

    async fn attempt(&self, ask: &Ask<'_>, partition: &Partition) -> Result<Body, FetchError> {
        let _slot = self.slots.acquire(ask.intake.priority(), partition).await;
        let backend = self.backend(ask.location);
        let mut result = backend.fetch(ask).await;
        while matches!(result, Err(FetchError::Again)) {
            result = backend.fetch(ask).await;
        }
        ask.intake.release();
        let end = result.as_ref().map_or_else(FetchError::counted, |_| Some(AttemptEnd::Ok));
        end.into_iter().for_each(|end| self.attempts.ended(ask.location.into(), end));
        let there = match &result {
            Ok(_) | Err(FetchError::Skipped(_)) => true,
            // The store handed the object out; it is only not what we want.
            Err(FetchError::Rejected(r)) => matches!(r.reason, Reason::TooLarge | Reason::Changed | Reason::Empty),
            Err(_) => false,
        };
        if there {
            let over = self.state().succeeded(ask.grant, ask.location, Instant::now());
            if let Some(after) = over {
                tracing::info!(place = %ask.grant.place.0, "works again after {:.0?}", after);
            }
            self.readable.notify_waiters();
        }
        result
    }

    /// Whether, since `since`, something succeeded by the yardstick of `grant`; what succeeded last is tried again if need be, so that the last
    /// item of a bucket does not wait for ever for neighbours.
    async fn others_succeed(&self, grant: &Grant, since: Instant, priority: Priority, partition: &Partition) -> bool {
        let sample = {
            let state = self.state();
            if state.alive_since(grant, since) {
                return true;
            }
            state.sample(grant)
        };
        let Some((location, its_grant)) = sample else { return false };
        let intake = Intake::new(self.pool.clone(), priority, self.config.max_bytes.0, self.config.timeout.0);
        let ask = Ask { location: &location, etag: None, version: None, grant: &its_grant, intake: &intake };
        let _ = self.attempt(&ask, partition).await;
        self.state().alive_since(grant, since)
    }

    /// Finds out whether a 403 is of this object alone. Returns when the object should be asked for again.
    async fn denied(&self, location: &Location, grant: &Grant, said: String) -> Result<(), GetError> {
        let mut hasher = DefaultHasher::new();
        location.hash(&mut hasher);
        let item = hasher.finish();
        let since = Instant::now();
        let mut waiting: Option<WaitGuard<'_>> = None;
        loop {
            let changed = self.readable.notified();
            let (denial, known) = {
                let mut state = self.state();
                // Once held, the object is asked for again as soon as anything else of the place was readable.
                let known = waiting.is_some() && state.alive_since(grant, since);
                (state.denied(grant, item, Instant::now()), known)
            };
            match denial {
                _ if known => return Ok(()),
                Denial::Own => return Err(reject(Reason::AccessDenied, said)),
                Denial::All => {
                    let place = &grant.place.0;
                    let next =
                        "let the worker's credentials read it (for a bucket: s3:GetObject on its objects), or correct the references";
                    return Err(GetError::Fatal(Error::failed(format!("403 for everything in {place}: {next} ({said})"))));
                }
                Denial::Probe => {
                    let readable =
                        tokio::time::timeout(self.config.timeout.0, self.backend(location).probe(location)).await.unwrap_or(false);
                    self.state().probed(&grant.place, readable);
                }
                Denial::Hold(until) => {
                    WaitGuard::note(&mut waiting, self, grant, since, &said);
                    let _ = tokio::time::timeout_at(until.into(), changed).await;
                }
            }
        }
    }
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

/// Reads a Retry-After header: seconds, or a date.
fn retry_after(value: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (chrono::DateTime::parse_from_rfc2822(value).ok()?.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default(),
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}
