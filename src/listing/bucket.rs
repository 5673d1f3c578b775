//! Objects below a prefix, page by page, with retries that do not lose their place.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Entry, Mark, is_image_name};
use crate::store::Problem;
use crate::telemetry::{On, Wait};
use crate::{Error, Result};

/// Attempts at the very first page: nothing has worked yet, so an endpoint that does not answer is more likely a wrong one than one to wait for.
const FIRST_ATTEMPTS: u32 = 5;
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pages that are looked through for common prefixes before a level is taken as one too wide to split.
const SPLIT_PAGES: usize = 20;

/// A part of the keys below a prefix: those behind `after`, up to and including `until`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The key before the first.
    pub after: Option<String>,
    /// The last key.
    pub until: Option<String>,
}

pub(super) async fn list(
    client: &Client,
    bucket: &str,
    prefix: &str,
    range: Range,
    mark: Option<Mark>,
    tx: &mpsc::Sender<Result<Vec<Entry>>>,
) -> Result<()> {
    let whole = range == Range::default();
    let mut last = match mark {
        None => range.after,
        Some(Mark::Key(key)) => Some(key),
        Some(_) => return Err(Error::config("the state file is not of a bucket; delete it to begin anew")),
    };
    if whole && last.as_deref() == Some(prefix) && is_image_name(prefix.as_ref()) {
        return Ok(());
    }
    let mut pages = Pages::new(client, bucket, prefix, None);
    let mut taken = last.is_some();
    while let Some(page) = pages.next(last.as_deref()).await? {
        let mut batch = Vec::with_capacity(page.contents().len());
        let mut ended = false;
        for object in page.contents() {
            let key = decoded(&page, object.key().unwrap_or_default())?;
            if let Some(before) = last.as_deref().filter(|before| *before >= key.as_str()) {
                return Err(Error::failed(format!(
                    "s3://{bucket} lists `{key}` behind `{before}`; keys out of order can be neither split nor resumed"
                )));
            }
            if range.until.as_ref().is_some_and(|until| key > *until) {
                ended = true;
                break;
            }
            let only = whole && !taken && key == prefix && is_image_name(prefix.as_ref());
            if !key.ends_with('/') {
                let mut entry = Entry::of_uri(format!("s3://{bucket}/{key}"), key.clone(), Mark::Key(key.clone()));
                entry.etag = object.e_tag().map(|e| e.trim_matches('"').to_owned());
                batch.push(entry);
                taken = true;
            }
            last = Some(key);
            if only {
                ended = true;
                break;
            }
        }
        if (!batch.is_empty() && tx.send(Ok(batch)).await.is_err()) || ended {
            return Ok(());
        }
    }
    if !taken && whole {
        tracing::warn!("s3://{bucket}/{prefix}: there is no object");
    }
    Ok(())
}

/// Cuts the keys below a prefix into about `parts` ranges that can be listed at the same time, along the prefixes that they have in common up to a slash.
///
/// # Errors
/// [`Error::Failed`] if the bucket cannot be listed.
pub async fn split_ranges(client: &Client, bucket: &str, prefix: &str, parts: usize) -> Result<Vec<Range>> {
    let mut cuts: Vec<String> = Vec::new();
    let mut level = vec![prefix.to_owned()];
    // Three levels reach the days of `2026/01/31/`; a level of many prefixes is not searched further.
    for _ in 0..3 {
        let mut below = Vec::new();
        for parent in level.iter().take(parts) {
            let mut pages = Pages::new(client, bucket, parent, Some("/"));
            for _ in 0..SPLIT_PAGES {
                let Some(page) = pages.next(None).await? else { break };
                for common in page.common_prefixes() {
                    below.push(decoded(&page, common.prefix().unwrap_or_default())?);
                }
            }
        }
        cuts.extend_from_slice(&below);
        if cuts.len() >= parts || below.is_empty() {
            break;
        }
        level = below;
    }
    cuts.sort_unstable();
    cuts.dedup();
    let step = cuts.len().div_ceil(parts).max(1);
    let cuts: Vec<String> = cuts.into_iter().skip(step).step_by(step).collect();
    let after = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let until = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
    Ok(after.zip(until).map(|(after, until)| Range { after, until }).collect())
}

/// The pages of one listing.
struct Pages<'a> {
    client: &'a Client,
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    token: Option<String>,
    done: bool,
    answered: bool,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, bucket: &'a str, prefix: &'a str, delimiter: Option<&'a str>) -> Self {
        Self { client, bucket, prefix, delimiter, token: None, done: false, answered: false }
    }

    /// The next page; the first one begins behind `after`. Waits while the store is away, once it has answered before.
    async fn next(&mut self, after: Option<&str>) -> Result<Option<ListObjectsV2Output>> {
        if self.done {
            return Ok(None);
        }
        let mut attempt = 0u32;
        let mut waiting: Option<Wait> = None;
        let page = loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(self.bucket)
                .set_prefix((!self.prefix.is_empty()).then(|| self.prefix.to_owned()))
                .set_delimiter(self.delimiter.map(str::to_owned))
                // XML cannot carry control characters, which keys may have.
                .encoding_type(EncodingType::Url);
            let request = match &self.token {
                Some(token) => request.continuation_token(token),
                None => request.set_start_after(after.map(str::to_owned)),
            };
            let problem = match tokio::time::timeout(PAGE_TIMEOUT, request.send()).await {
                Ok(Ok(page)) => break page,
                Ok(Err(e)) => problem(self.bucket, self.prefix, &e)?,
                Err(_) => format!("no answer within {} s", PAGE_TIMEOUT.as_secs()),
            };
            attempt += 1;
            if !self.answered && attempt >= FIRST_ATTEMPTS {
                return Err(Error::failed(format!(
                    "cannot list s3://{}/{}: {problem} ({attempt} attempts); check `store.s3.endpoint` and the network",
                    self.bucket, self.prefix
                )));
            }
            let pause = (Duration::from_millis(200) * (1 << attempt.min(8))).min(LONGEST_PAUSE).mul_f64(rand::random_range(0.5..1.0));
            waiting.get_or_insert_with(|| Wait::on(On::Store, format!("the listing of s3://{}", self.bucket)));
            tracing::warn!("listing s3://{}/{}: {problem}; trying again in {} ms", self.bucket, self.prefix, pause.as_millis());
            tokio::time::sleep(pause).await;
        };
        self.answered = true;
        self.token = page.next_continuation_token().map(str::to_owned);
        self.done = self.token.is_none() || page.is_truncated() == Some(false);
        Ok(Some(page))
    }
}

/// What went wrong, if trying again may help; an error if not.
fn problem(bucket: &str, prefix: &str, error: &SdkError<ListObjectsV2Error>) -> Result<String> {
    let Problem { text, advice, .. } = Problem::of(error);
    match advice {
        None => Ok(text),
        Some(advice) => Err(Error::failed(format!("cannot list s3://{bucket}/{prefix}: {text}; {advice}"))),
    }
}

/// A key as it is; `+` in an encoded one is a blank, as in all of S3's encodings.
fn decoded(page: &ListObjectsV2Output, key: &str) -> Result<String> {
    if page.encoding_type() != Some(&EncodingType::Url) {
        return Ok(key.to_owned());
    }
    form_decoded(key)
}

/// Undoes form encoding: `+` is a blank, `%2B` a plus.
pub(super) fn form_decoded(key: &str) -> Result<String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().map(|k| k.into_owned()).map_err(|_| Error::failed(format!("the key `{key}` is not UTF-8")))
}
