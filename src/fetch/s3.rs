//! Objects of S3, or of what speaks its protocol.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use bytes::BytesMut;

use super::{Answer, Failure, Read, rejected};
use crate::error::chain;
use crate::flow::Reason;

/// Error codes that mean that the worker's own credentials are not accepted.
const REFUSED_CREDENTIALS: &[&str] = &[
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "InvalidClientTokenId",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "AuthorizationHeaderMalformed",
    "InvalidSecurity",
    "NotSignedUp",
    "AccountProblem",
];

/// One attempt: request and body.
pub async fn fetch(
    client: &Client,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    if_match: Option<&str>,
    bound: &Read<'_>,
) -> Result<Answer, Failure> {
    let request = client
        .get_object()
        .bucket(bucket)
        .key(key)
        .set_version_id(version.map(str::to_owned))
        .set_if_match(if_match.map(|etag| format!("\"{etag}\"")))
        .send();
    let answer = bound.progress(request).await?.map_err(|e| of(&e, bucket))?;
    let length = answer.content_length.and_then(|n| u64::try_from(n).ok());
    let mut memory = bound.reserve(length).await?;
    let mut body = answer.body;
    let mut bytes = BytesMut::with_capacity(length.map_or(0, |n| n as usize));
    while let Some(chunk) = bound.progress(body.next()).await? {
        let chunk = chunk.map_err(|e| Failure::retry(format!("the body broke off: {}", chain(&e))))?;
        bound.grow(&mut bytes, &chunk)?;
    }
    bound.whole(&bytes, length)?;
    memory.shrink(bytes.len());
    let version = answer.version_id.filter(|v| !v.is_empty() && v != "null");
    let etag = answer.e_tag.map(|etag| etag.trim_matches('"').to_owned());
    Ok(Answer { bytes: bytes.freeze(), etag, version, memory })
}

/// Whether the bucket as a whole may be read: `Some(true)` if it surely may, `None` if that cannot be told.
pub async fn bucket_is_open(client: &Client, bucket: &str) -> Option<bool> {
    client.head_bucket().bucket(bucket).send().await.ok().map(|_| true)
}

fn of(error: &SdkError<GetObjectError>, bucket: &str) -> Failure {
    let service = match error {
        SdkError::ServiceError(service) => service,
        other => {
            let text = chain(other);
            let lower = text.to_ascii_lowercase();
            if lower.contains("credential") && (lower.contains("load") || lower.contains("no providers") || lower.contains("not provided"))
            {
                return Failure::Fatal(format!("no S3 credentials: {text}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"));
            }
            return match other {
                SdkError::ConstructionFailure(_) => rejected(Reason::FetchFailed, format!("S3 cannot be asked for this key: {text}")),
                _ => Failure::retry(format!("S3 did not answer: {text}")),
            };
        }
    };
    let status = service.raw().status().as_u16();
    let code = service.err().code().unwrap_or("no code");
    let detail = format!("S3 answered {status} {code}");
    match (status, code) {
        (_, code) if REFUSED_CREDENTIALS.contains(&code) => Failure::Fatal(format!(
            "S3 refuses the credentials for s3://{bucket}: {code}; check the key, the secret, their age and the region"
        )),
        (_, "NoSuchBucket") => Failure::MissingPlace(format!("the bucket {bucket} does not exist")),
        (_, "SlowDown" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests") | (429, _) => {
            Failure::Retry { detail, throttled: true, after: None }
        }
        (_, "InvalidObjectState") => rejected(Reason::Archived, format!("{detail}: the object is in an archive tier; restore it first")),
        (404, _) | (_, "NoSuchKey" | "NoSuchVersion") => Failure::Missing(detail),
        (403, "RequestTimeTooSkewed") => Failure::Fatal(format!("{detail}: this machine's clock is wrong")),
        (403, _) => Failure::Denied(detail),
        (412, _) => Failure::Changed,
        (408, _) | (500.., _) => Failure::retry(detail),
        _ => rejected(Reason::FetchFailed, detail),
    }
}
