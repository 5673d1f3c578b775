//! Where whole files are put: a folder, or under a bucket prefix. A file appears under its name at once and whole, and what others have built upon is
//! never replaced.

mod local;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use tempfile::NamedTempFile;

use super::room::{cannot_write, patiently};
use crate::error::chain;
use crate::store::{Problem, may_pass, split_s3, try_bucket};
use crate::telemetry::{On, Wait};
use crate::temporary::temporary_in;
use crate::{Context, Error, Result};
use local::{last_in, put_locally};

/// The name, in an object's user metadata and in a Parquet file's own, of the offset that a file ends before.
const END: &str = "lakelens.end";
const END_IN_S3: &str = "lakelens-end";

/// A file that covers an offset begins less than this before it, or less than its `span`.
const BEFORE: i64 = 100_000;

/// Time that a bucket has to answer at the start.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one answer to a question. The client has no limit of its own, and an answer that got lost on its way would be waited for without end.
const ANSWER: Duration = Duration::from_secs(20);
/// Time for one attempt to write: this, and so many bytes a second.
const WRITE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 100 << 10;

/// What to do where S3 refuses HEAD, whose answer has no body to say why.
const RIGHTS: &str = "looking at a file there needs the right s3:GetObject, besides s3:PutObject to write it and s3:ListBucket to find it; give this role \
                      all three, or see whether its credentials have expired, and start again";

/// A folder or a bucket prefix.
pub enum Place {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A prefix, with its slash.
    Bucket {
        /// Speaks to the store.
        client: Client,
        /// The bucket.
        bucket: String,
        /// Empty, or ends in a slash.
        prefix: String,
        /// Whether the store honours If-Match and If-None-Match on PutObject.
        conditional: bool,
    },
}

/// What a file covers, and what it may take the place of.
#[derive(Debug, Clone, Copy)]
pub struct Cover {
    /// The offset that it is named after.
    pub first: i64,
    /// It has every row below this offset.
    pub end: i64,
    /// It takes the place of a shorter one: that of a listing, which may have grown, and on which nobody builds.
    pub grows: bool,
}

/// What is to happen where a file of the same name stands already.
#[derive(Debug, PartialEq, Eq)]
enum Meeting {
    /// It stays, and covers what is below this offset.
    Stays(i64),
    Replaced,
    /// It is another worker's, who may have gone on behind it: rows of ours would double his.
    Foreign(i64),
}

impl Cover {
    /// `theirs` is the end of what stands there; `None` if it is no file of ours.
    fn meets(&self, theirs: Option<i64>) -> Meeting {
        match theirs {
            Some(theirs) if theirs >= self.end => Meeting::Stays(theirs),
            Some(theirs) if theirs > self.first && !self.grows => Meeting::Foreign(theirs),
            _ => Meeting::Replaced,
        }
    }
}

fn foreign(name: &str, theirs: i64) -> Error {
    Error::failed(format!(
        "{name} was put there by another worker meanwhile, up to offset {theirs}; nothing is lost, and this worker goes on behind it when it is started again"
    ))
}

/// What became of one attempt to put an object.
enum Put {
    Done,
    /// Another file of this name stands there, or is on its way: what S3 answered.
    Taken(String),
    /// May pass.
    Again(String),
}

impl Place {
    /// The place of `path`, a folder or `s3://bucket/prefix`.
    pub fn new(path: &str, client: Option<Client>, conditional: bool) -> Result<Self> {
        if !path.starts_with("s3://") {
            let folder = PathBuf::from(path);
            fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
            return Ok(Self::Folder(folder));
        }
        match (split_s3(path), client) {
            (Some((bucket, prefix)), Some(client)) => {
                let prefix = prefix.trim_end_matches('/');
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                Ok(Self::Bucket { client, bucket: bucket.to_owned(), prefix, conditional })
            }
            _ => Err(Error::config(format!("{path} is not s3://bucket/prefix/"))),
        }
    }

    /// An error if the bucket is missing or the credentials are refused. Who may write need not be allowed to list.
    pub async fn try_bucket(&self) -> Result<()> {
        let Self::Bucket { client, bucket, .. } = self else { return Ok(()) };
        match try_bucket(client, bucket, TRY_TIMEOUT).await {
            Err(Problem { text, advice: Some(advice), denied: false }) => {
                Err(Error::failed(format!("cannot write to s3://{bucket}: {text}; {advice}")))
            }
            Err(Problem { text, advice: None, .. }) => {
                tracing::warn!("s3://{bucket} does not answer yet: {text}");
                Ok(())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A temporary file: in the folder itself, under a name that readers pass over, so that it can be renamed; for a bucket
    /// anywhere, and readable for nobody else.
    pub async fn temporary(&self) -> Result<NamedTempFile> {
        match self {
            Self::Folder(folder) => patiently(folder, || temporary_in(folder)).await,
            Self::Bucket { .. } => patiently(&std::env::temp_dir(), NamedTempFile::new).await,
        }
    }

    /// Puts a finished file under `name`, and gives the end of what stands there then, which may be another file that covers as much. Waits for as long
    /// as the store is away.
    ///
    /// # Errors
    /// [`Error::Failed`] if a shorter file stands there that another worker may have gone on behind, or nothing could ever be written.
    pub async fn put(&self, name: &Path, file: NamedTempFile, cover: Cover) -> Result<i64> {
        match self {
            Self::Folder(folder) => put_locally(&folder.join(name), file, cover).await,
            Self::Bucket { client, bucket, prefix, conditional } => {
                let key = format!("{prefix}{}", name.to_string_lossy());
                put_object(client, bucket, &key, &file, cover, *conditional).await
            }
        }
    }

    /// Below which offset the files of `folder` have every row, as far as they reach beyond `next` (`None`: they do not). Files are put in the order of
    /// their offsets, so the last one says it. Waits for as long as the store is away.
    ///
    /// # Errors
    /// [`Error::Failed`] if a file or its folder cannot be read, or the store refuses for good to say what is there.
    pub async fn end_beyond(&self, folder: &Path, next: i64, span: i64) -> Result<Option<i64>> {
        let from = file_name(next.saturating_sub(span.max(BEFORE)).max(0));
        let (client, bucket, under) = match self {
            Self::Folder(root) => return Ok(last_in(&root.join(folder), &from)?.filter(|end| *end > next)),
            Self::Bucket { client, bucket, prefix, .. } => (client, bucket, format!("{prefix}{}/", folder.to_string_lossy())),
        };
        let mut pause = Duration::from_millis(200);
        let mut waiting: Option<Wait> = None;
        loop {
            match last_object(client, bucket, &under, &from).await {
                Ok(end) => return Ok(end.filter(|end| *end > next)),
                Err(Problem { text, denied: true, .. }) => {
                    let what = "files may not be listed, so rows that were written and not committed before this start may come twice";
                    tracing::warn!("{}: {what} ({text}; s3:ListBucket)", folder.display());
                    return Ok(None);
                }
                Err(Problem { text, advice: Some(advice), .. }) => {
                    let what = "how far its files reach cannot be seen";
                    return Err(Error::failed(format!("s3://{bucket}/{under}: {what}: {text}; {advice}")));
                }
                Err(Problem { text, .. }) => {
                    waiting.get_or_insert_with(|| Wait::on(On::Store, format!("what was written to {} before", folder.display())));
                    tracing::warn!("{}: what is there cannot be seen yet, trying again: {text}", folder.display());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
}

/// The name of a file that begins at `first`.
pub fn file_name(first: i64) -> String {
    format!("{first:020}.parquet")
}

async fn last_object(client: &Client, bucket: &str, folder: &str, from: &str) -> Result<Option<i64>, Problem> {
    let mut names = Vec::new();
    // Without its ending it comes before `from` itself.
    let after = format!("{folder}{}", from.trim_end_matches(".parquet"));
    let mut pages = client.list_objects_v2().bucket(bucket).prefix(folder).start_after(after).into_paginator().send();
    let late = |_| Problem::transient(format!("no answer within {} s", ANSWER.as_secs()));
    while let Some(page) = tokio::time::timeout(ANSWER, pages.next()).await.map_err(late)? {
        let page = page.map_err(|e| Problem::since(&e))?;
        names.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    for key in names.iter().rev().filter(|key| key.ends_with(".parquet")) {
        if let Some((_, Some(end))) = standing(client, bucket, key).await? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

async fn put_object(client: &Client, bucket: &str, key: &str, file: &NamedTempFile, cover: Cover, conditional: bool) -> Result<i64> {
    let mut expected: Option<String> = None;
    let mut pause = Duration::from_millis(200);
    let mut waiting: Option<Wait> = None;
    loop {
        let put = attempt(client, bucket, key, file, cover.end, conditional, expected.as_deref()).await?;
        let again = match put {
            Put::Done => return Ok(cover.end),
            // The same answer may come for as long as another writer is at it, and each round sends the whole file.
            Put::Taken(said) => match standing(client, bucket, key).await {
                Ok(None) => {
                    expected = None;
                    format!("S3 answers {said}, and no file stands there")
                }
                Ok(Some((etag, theirs))) => match cover.meets(theirs) {
                    Meeting::Stays(theirs) => return Ok(theirs),
                    Meeting::Foreign(theirs) => return Err(foreign(&format!("s3://{bucket}/{key}"), theirs)),
                    Meeting::Replaced if expected.as_ref() == Some(&etag) => {
                        format!("S3 answers {said}, and the file there has not changed")
                    }
                    Meeting::Replaced => {
                        expected = Some(etag);
                        continue;
                    }
                },
                Err(Problem { text, advice: Some(advice), .. }) => {
                    return Err(Error::failed(format!("s3://{bucket}/{key} cannot be written: {text}; {advice}")));
                }
                Err(Problem { text, .. }) => text,
            },
            Put::Again(detail) => detail,
        };
        waiting.get_or_insert_with(|| Wait::on(On::Store, format!("s3://{bucket} to take a file")));
        tracing::warn!("s3://{bucket}/{key} is not written yet, trying again: {again}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

async fn attempt(
    client: &Client,
    bucket: &str,
    key: &str,
    file: &NamedTempFile,
    end: i64,
    conditional: bool,
    expected: Option<&str>,
) -> Result<Put> {
    let body = ByteStream::from_path(file.path()).await.context("cannot read a temporary file")?;
    let mut request = client.put_object().bucket(bucket).key(key).metadata(END_IN_S3, end.to_string()).body(body);
    if conditional {
        request = match expected {
            Some(etag) => request.if_match(etag),
            None => request.if_none_match("*"),
        };
    }
    let limit = WRITE + Duration::from_secs(file.as_file().metadata().map_or(0, |m| m.len()) / SLOWEST);
    let error = match tokio::time::timeout(limit, request.send()).await {
        Ok(Ok(_)) => return Ok(Put::Done),
        Ok(Err(error)) => error,
        Err(_) => return Ok(Put::Again(format!("no answer within {} s", limit.as_secs()))),
    };
    let SdkError::ServiceError(service) = &error else { return Ok(Put::Again(chain(&error))) };
    let (status, code) = (service.raw().status().as_u16(), service.err().code());
    let said = format!("{status} {}", code.unwrap_or("without a code"));
    match status {
        412 => Ok(Put::Taken(said)),
        _ if may_pass(status, code.unwrap_or_default()) => Ok(Put::Again(said)),
        // Another writer is at it (S3's ConditionalRequestConflict), or the file of that ETag has gone.
        409 | 404 if !matches!(code, Some("NoSuchBucket" | "XAdminUserNotFound")) => Ok(Put::Taken(said)),
        _ => Err(Error::failed(format!(
            "s3://{bucket}/{key} cannot be written: S3 answered {said}; check the bucket, the credentials and the right s3:PutObject"
        ))),
    }
}

/// ETag and end of the object that stands there, if any does.
async fn standing(client: &Client, bucket: &str, key: &str) -> Result<Option<(String, Option<i64>)>, Problem> {
    let Ok(answer) = tokio::time::timeout(ANSWER, client.head_object().bucket(bucket).key(key).send()).await else {
        return Err(Problem::transient(format!("no answer within {} s", ANSWER.as_secs())));
    };
    let error = match answer {
        Ok(head) => {
            let end = head.metadata().and_then(|m| m.get(END_IN_S3)).and_then(|end| end.parse().ok());
            return Ok(Some((head.e_tag.unwrap_or_default(), end)));
        }
        Err(error) => error,
    };
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(404) => Ok(None),
        // A listing that is denied is no reason to stop, but this is. 400 is what S3 says of an expired token.
        Some(status @ (400 | 401 | 403)) => {
            let text = format!("S3 answers {status} to a HEAD of s3://{bucket}/{key}");
            Err(Problem { text, advice: Some(RIGHTS), denied: false })
        }
        _ => Err(Problem::since(&error)),
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
pub(crate) mod tests;
