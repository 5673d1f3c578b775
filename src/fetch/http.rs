//! http and https: strangers' URLs, so every address is checked before it is connected to, on every redirect.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, ETAG, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::allow::{Allow, Reach, origin};
use super::{Ask, Body, Fetch, FetchError, causes, retry_after};
use crate::Result;
use crate::config::OnChanged;
use crate::error::{Context, chain};
use crate::flow::{Location, Reason, Skip};
use crate::telemetry::AttemptEnd;

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Idle connections kept for one host, and for how long: strangers' hosts are many.
const IDLE: (usize, std::time::Duration) = (8, std::time::Duration::from_secs(15));

/// Turns a host name into addresses.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system's resolver.
pub fn system_lookup() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
}

/// Hands the connector only addresses within reach. There is no second look-up behind it, so the address that was checked is the one connected to.
struct Guard {
    allow: Arc<Allow>,
    reach: Reach,
    lookup: Lookup,
}

/// All of a host's addresses are out of reach.
#[derive(Debug)]
struct OutOfReach(String);

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for OutOfReach {}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, reach, name) = (self.allow.clone(), self.reach, name.as_str().to_owned());
        let found = (self.lookup)(name.clone());
        Box::pin(async move {
            let (within, without): (Vec<_>, Vec<_>) = found.await?.into_iter().partition(|a| allow.permits(reach, a.ip()));
            match without.first() {
                Some(refused) if within.is_empty() => {
                    Err(OutOfReach(format!("{name} is at {}, which is not public and not named in fetch.allow.http", refused.ip())).into())
                }
                _ => Ok(Box::new(within.into_iter()) as Addrs),
            }
        })
    }
}

/// Fetches over http and https. One client for each reach, so that a connection opened under a wider one is never used under a narrower.
pub struct HttpFetch {
    allow: Arc<Allow>,
    on_changed: OnChanged,
    any: Client,
    public: Client,
    ranges: Client,
}

impl HttpFetch {
    /// Builds the clients. Errors: the system's certificates cannot be loaded.
    pub fn new(allow: Arc<Allow>, on_changed: OnChanged, lookup: Lookup) -> Result<Self> {
        let client = |reach| {
            let guard = Guard { allow: allow.clone(), reach, lookup: lookup.clone() };
            Client::builder()
                .user_agent(concat!("lakelens/", env!("CARGO_PKG_VERSION")))
                .default_headers(HeaderMap::from_iter([
                    (ACCEPT, HeaderValue::from_static("image/*, */*;q=0.5")),
                    (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
                ]))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .pool_max_idle_per_host(IDLE.0)
                .pool_idle_timeout(IDLE.1)
                .dns_resolver(guard)
                .build()
                .context("preparing http")
        };
        let (any, public, ranges) = (client(Reach::Any)?, client(Reach::Public)?, client(Reach::Ranges)?);
        Ok(Self { allow, on_changed, any, public, ranges })
    }

    /// The client for one hop, if the hop is allowed.
    fn client(&self, url: &Url, first: &Url, trusted: bool) -> Option<&Client> {
        let same = trusted && url.host() == first.host() && url.port_or_known_default() == first.port_or_known_default();
        let reach = match self.allow.reach(url) {
            _ if same => Reach::Any,
            Some(reach) => reach,
            // The user's word is for the URL that he gave; where its server sends us may be anywhere public.
            None if trusted => match url.host()? {
                url::Host::Domain(_) => Reach::Public,
                url::Host::Ipv4(ip) => self.allow.permits(Reach::Public, ip.into()).then_some(Reach::Public)?,
                url::Host::Ipv6(ip) => self.allow.permits(Reach::Public, ip.into()).then_some(Reach::Public)?,
            },
            None => return None,
        };
        Some(match reach {
            Reach::Any => &self.any,
            Reach::Public => &self.public,
            Reach::Ranges => &self.ranges,
        })
    }

    /// The response at the end of the redirects.
    async fn follow(&self, ask: &Ask<'_>, first: &Url) -> Result<Response, FetchError> {
        let mut url = first.clone();
        for hop in 0..=REDIRECTS {
            let forbidden = |what: &str| FetchError::rejected(Reason::ForbiddenLocation, format!("{} {what}", origin(&url)));
            if !matches!(url.scheme(), "http" | "https") {
                return Err(forbidden("is not http or https"));
            }
            let client = self.client(&url, first, ask.grant.trusted).ok_or_else(|| {
                forbidden(if hop == 0 { "is not in fetch.allow.http" } else { "was redirected to, and is not in fetch.allow.http" })
            })?;
            let request = client.get(url.clone()).send();
            let response = ask.intake.in_time("http GET", request).await?.map_err(|e| classify_error(e, &url))?;
            let target = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION).and_then(|l| std::str::from_utf8(l.as_bytes()).ok()),
                _ => return Ok(response),
            };
            let next = target.and_then(|t| url.join(t).ok()).ok_or_else(|| {
                FetchError::rejected(Reason::FetchFailed, format!("{} without a location that can be read", response.status()))
            })?;
            if url.scheme() == "https" && next.scheme() == "http" && self.allow.reach(&next) != Some(Reach::Any) {
                let what = format!("redirects from https to {}, which is not encrypted", origin(&next));
                return Err(FetchError::rejected(Reason::ForbiddenLocation, format!("{} {what}", origin(&url))));
            }
            url = next;
        }
        Err(FetchError::rejected(Reason::FetchFailed, format!("more than {REDIRECTS} redirects")))
    }
}

#[async_trait]
impl Fetch for HttpFetch {
    async fn fetch(&self, ask: &Ask<'_>) -> Result<Body, FetchError> {
        let Location::Http(url) = ask.location else {
            return Err(FetchError::rejected(Reason::FetchFailed, "not a URL"));
        };
        let response = self.follow(ask, url).await?;
        check(&response)?;
        let etag = response.headers().get(ETAG).and_then(|t| t.to_str().ok()).map(|t| t.trim_matches('"').to_owned());
        // Not left to If-Match, which many servers ignore; a weak tag says nothing about bytes.
        let changed = matches!((ask.etag, &etag), (Some(asked), Some(is)) if asked != is && !is.starts_with("W/"));
        match self.on_changed {
            OnChanged::Supersede if changed => return Err(FetchError::Skipped(Skip::Superseded)),
            OnChanged::Reject if changed => {
                return Err(FetchError::rejected(Reason::Changed, "the ETag is no longer the reference's"));
            }
            _ => {}
        }
        let length = response.content_length();
        let (bytes, memory) = ask.intake.collect(length, Box::pin(body(response))).await?;
        Ok(Body { bytes, location: ask.location.clone(), etag, version: None, memory })
    }
}

fn body(response: Response) -> impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> {
    futures_util::stream::try_unfold(response, |mut response| async move {
        let chunk = response.chunk().map_err(reqwest::Error::without_url).await?;
        Ok(chunk.map(|c| (c, response)))
    })
}

/// Lets pass only an answer whose body is the file.
fn check(response: &Response) -> Result<(), FetchError> {
    let status = response.status();
    let said = status.to_string();
    let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    Err(match status {
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => return Ok(()),
        StatusCode::NO_CONTENT => FetchError::rejected(Reason::Empty, said),
        StatusCode::NOT_FOUND | StatusCode::GONE => FetchError::Missing(said),
        StatusCode::FORBIDDEN => FetchError::Denied(said),
        StatusCode::REQUEST_TIMEOUT => FetchError::retry(AttemptEnd::Timeout, said),
        s if s == StatusCode::TOO_MANY_REQUESTS || s.is_server_error() => {
            let throttled = s == StatusCode::TOO_MANY_REQUESTS || (s == StatusCode::SERVICE_UNAVAILABLE && wait.is_some());
            let kind = if throttled { AttemptEnd::Throttled } else { AttemptEnd::ServerError };
            FetchError::Retry { detail: said, kind, retry_after: retry_after(wait) }
        }
        _ => FetchError::rejected(Reason::FetchFailed, said),
    })
}

fn classify_error(error: reqwest::Error, url: &Url) -> FetchError {
    // The URL may hold secrets.
    let error = error.without_url();
    if let Some(refused) = causes(&error).find_map(|e| e.downcast_ref::<OutOfReach>()) {
        return FetchError::rejected(Reason::ForbiddenLocation, refused.0.clone());
    }
    if error.is_builder() {
        return FetchError::rejected(Reason::FetchFailed, chain(&error));
    }
    let kind = if error.is_timeout() { AttemptEnd::Timeout } else { AttemptEnd::Connection };
    FetchError::retry(kind, format!("{}: {}", origin(url), chain(&error)))
}
