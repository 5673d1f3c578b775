//! Files over http(s), from hosts that strangers may have chosen.
//!
//! The address that is checked is the address that is connected to: names are resolved here, addresses that are not allowed are taken out, and the
//! client connects to what is left. Redirects are followed by hand, each hop checked like the first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, ETAG, HeaderMap, IF_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use url::Url;

use super::allow::Allow;
use super::{Answer, Failure, Read, rejected};
use crate::error::chain;
use crate::flow::Reason;
use crate::{Context, Result};

/// Redirects that are followed.
const MAX_HOPS: usize = 5;
/// What a resolver's error says when no address of a name is allowed.
const NO_ADDRESS: &str = "no address of this host is allowed";
/// Longest wait that a server's Retry-After is believed.
const MAX_RETRY_AFTER: u64 = 60;

/// Two clients: one for strangers' references, one for those that the user typed.
pub struct Http {
    guarded: Client,
    open: Client,
    allow: Arc<Allow>,
}

impl Http {
    /// Clients under the rules of `allow`.
    pub fn new(allow: Arc<Allow>, timeout: Duration) -> Result<Self> {
        let builder = || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .no_proxy()
                .connect_timeout(timeout)
                .pool_max_idle_per_host(8)
                .user_agent(concat!("lakelens/", env!("CARGO_PKG_VERSION")))
        };
        let guarded = builder().dns_resolver(Arc::new(Guard(allow.clone()))).build().context("cannot set up http")?;
        Ok(Self { guarded, open: builder().build().context("cannot set up http")?, allow })
    }

    /// One attempt: request, redirects and body.
    pub async fn fetch(&self, url: &Url, trusted: bool, if_match: Option<&str>, bound: &Read<'_>) -> Result<Answer, Failure> {
        let client = if trusted { &self.open } else { &self.guarded };
        let mut url = url.clone();
        for hop in 0..=MAX_HOPS {
            if !trusted && self.allow.http(&url).is_none() {
                let whereto = if hop == 0 { "this host" } else { "the host that a redirect leads to" };
                return Err(rejected(
                    Reason::ForbiddenLocation,
                    format!("fetch.allow.http does not name {whereto}, or its address is not public"),
                ));
            }
            let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(etag) = if_match {
                request = request.header(IF_MATCH, format!("\"{etag}\""));
            }
            let response = bound.progress(request.send()).await?.map_err(|e| failed(&e))?;
            if !response.status().is_redirection() {
                return body(response, bound).await;
            }
            let target = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
            let next = target.and_then(|t| url.join(t).ok()).filter(|u| matches!(u.scheme(), "http" | "https"));
            let Some(next) = next else {
                return Err(rejected(Reason::FetchFailed, format!("http {} without a place to go to", response.status().as_u16())));
            };
            if !trusted && url.scheme() == "https" && next.scheme() == "http" {
                return Err(rejected(Reason::ForbiddenLocation, "a redirect leads from https to http"));
            }
            url = next;
        }
        Err(rejected(Reason::FetchFailed, format!("more than {MAX_HOPS} redirects")))
    }
}

async fn body(mut response: Response, bound: &Read<'_>) -> Result<Answer, Failure> {
    let status = response.status();
    let detail = format!("http {}", status.as_u16());
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::Missing(detail)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(rejected(Reason::AccessDenied, detail)),
        StatusCode::PRECONDITION_FAILED => return Err(Failure::Changed),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let after = retry_after(response.headers());
            return Err(Failure::Retry { detail, throttled: status == StatusCode::TOO_MANY_REQUESTS, after });
        }
        StatusCode::REQUEST_TIMEOUT => return Err(Failure::retry(detail)),
        _ if status.is_server_error() => return Err(Failure::retry(detail)),
        _ => return Err(rejected(Reason::FetchFailed, detail)),
    }
    let length = response.content_length();
    let etag = response.headers().get(ETAG).and_then(|v| v.to_str().ok());
    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
    let mut memory = bound.reserve(length).await?;
    let mut bytes = BytesMut::with_capacity(length.map_or(0, |n| n as usize));
    while let Some(chunk) = bound.progress(response.chunk()).await?.map_err(|e| failed(&e))? {
        bound.grow(&mut bytes, &chunk)?;
    }
    bound.whole(&bytes, length)?;
    memory.shrink(bytes.len());
    Ok(Answer { bytes: bytes.freeze(), etag, version: None, memory })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// The URL is left out of the text: it may hold a signature.
fn failed(error: &reqwest::Error) -> Failure {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    if let Some(first) = cause {
        text = chain(first);
    }
    while let Some(e) = cause {
        if e.to_string().contains(NO_ADDRESS) {
            return rejected(Reason::ForbiddenLocation, NO_ADDRESS);
        }
        cause = e.source();
    }
    if error.is_builder() || error.is_request() && text.is_empty() {
        return rejected(Reason::FetchFailed, "http: the request could not be made");
    }
    Failure::retry(format!("http: {text}"))
}

/// Resolves names, and leaves only addresses that the rules allow.
struct Guard(Arc<Allow>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let all: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = all.into_iter().filter(|a| allow.address(&host, a.ip())).collect();
            if allowed.is_empty() {
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, NO_ADDRESS).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
