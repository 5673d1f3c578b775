//! The whole of fetching: against scripted stores, a small http server, and (where `LAKELENS_TEST_S3` names one) a real S3 server.

mod judgement;
mod over_http;
mod over_s3;

use std::sync::Arc;
use std::time::Duration;

use super::errand::pause;
use super::http::{HttpFetch, Lookup, system_lookup};
use super::*;
use crate::config::{ByteSize, Span};

/// A quick configuration: two attempts, gives up after 100 ms.
pub fn config(s3: &[&str], file: &[&str], http: &[&str]) -> config::Fetch {
    let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
    config::Fetch {
        allow: config::Allow { s3: list(s3), file: list(file), http: list(http) },
        concurrency: 8,
        timeout: Span(Duration::from_millis(500)),
        attempts: 2,
        give_up: Span(Duration::from_millis(100)),
        max_bytes: ByteSize(100_000),
        ..Default::default()
    }
}

/// A fetcher with the real ways for files and http (names looked up by `lookup`), and `s3` for objects.
pub fn fetcher(config: config::Fetch, s3: Arc<dyn Fetch>, lookup: Option<Lookup>) -> Arc<Fetcher> {
    let allow = Arc::new(Allow::new(&config.allow).unwrap());
    let http = HttpFetch::new(allow.clone(), config.on_changed, lookup.unwrap_or_else(system_lookup)).unwrap();
    let file = file::FileFetch::new(config.concurrency);
    let slots = Slots::new(config.concurrency, false);
    Arc::new(Fetcher::with(config, allow, Pool::new(1 << 20), slots, [s3, Arc::new(file), Arc::new(http)]))
}

pub fn object(bucket: &str, key: &str) -> ImageRef {
    ImageRef::new(Location::S3 { bucket: bucket.into(), key: key.into() })
}

pub fn partition(n: i32) -> Partition {
    Partition::new("refs", n)
}

pub async fn get(fetcher: &Fetcher, reference: &ImageRef) -> Result<Body, GetError> {
    fetcher.get(reference, false, Priority::Live, &partition(0)).await
}

pub fn reason(result: Result<Body, GetError>) -> Reason {
    rejection(result).reason
}

pub fn rejection(result: Result<Body, GetError>) -> Rejection {
    match result {
        Err(GetError::Rejected(r)) => r,
        other => panic!("not a rejection: {other:?}"),
    }
}

#[test]
fn pauses_double_with_jitter_up_to_half_a_minute() {
    for round in 1..200 {
        let full = (0.2 * 2f64.powi(round as i32 - 1)).min(30.0);
        let pause = pause(round).as_secs_f64();
        assert!(pause >= full * 0.499 && pause <= full * 1.001, "{round}: {pause}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    assert_eq!(retry_after(Some("7")), Some(Duration::from_secs(7)));
    assert_eq!(retry_after(Some("999999999999")), Some(LONGEST_RETRY_AFTER));
    assert_eq!(retry_after(Some("Wed, 21 Oct 2015 07:28:00 GMT")), Some(Duration::ZERO));
    assert_eq!(retry_after(Some("Wed, 21 Oct 2099 07:28:00 GMT")), Some(LONGEST_RETRY_AFTER));
    for nonsense in ["-1", "soon", "", "99999999999999999999999"] {
        assert_eq!(retry_after(Some(nonsense)), None);
    }
}
