//! The S3 client, built once from the pipeline's `store.s3` and shared by fetching, listing and the Parquet sink.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::config::S3;
use crate::error::chain;

/// A client for `config`: default credential chain, or none if `anonymous`. The SDK's own retries are off, since they neither cover bodies nor
/// tell an outage from one bad object: whoever calls retries.
pub async fn s3_client(config: &S3) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled());
    if let Some(region) = config.region.as_deref().filter(|r| !r.is_empty()) {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if config.anonymous {
        loader = loader.no_credentials();
    }
    let shared = loader.load().await;
    let mut builder = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(config.path_style)
        // Many servers that speak S3's protocol refuse the SDK's newer default checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if shared.region().is_none() {
        builder = builder.region(Region::new("us-east-1"));
    }
    if let Some(endpoint) = config.endpoint.as_deref().filter(|e| !e.is_empty()) {
        builder = builder.endpoint_url(endpoint);
    }
    Client::from_conf(builder.build())
}

/// Splits `s3://bucket/key`; the key is raw, and may be empty.
pub fn split_s3(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("s3://")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, key))
}

/// Whether S3 asks to be asked less often.
pub fn throttles(status: u16, code: &str) -> bool {
    status == 429 || matches!(code, "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests")
}

/// Whether S3 took too long, or fails for a reason of its own. It says `RequestTimeout` of a slow upload, with status 400.
pub fn fails_for_now(status: u16, code: &str) -> bool {
    matches!(status, 408 | 500..) || matches!(code, "RequestTimeout" | "InternalError" | "ServiceUnavailable")
}

/// Whether the same request may be answered otherwise a little later.
pub fn may_pass(status: u16, code: &str) -> bool {
    throttles(status, code) || fails_for_now(status, code)
}

/// Whether S3 refuses the credentials themselves, whatever they were used for. It says some of these with status 400, and other servers the last one with
/// 404.
pub fn refuses_credentials(code: &str) -> bool {
    matches!(
        code,
        "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidSecurity"
            | "XAdminUserNotFound"
    )
}

/// What S3 said, and what to do about it.
pub struct Problem {
    /// Code and message, or why there is no answer.
    pub text: String,
    /// What to do; `None` if trying again may help.
    pub advice: Option<&'static str>,
    /// Another request to this bucket may be allowed all the same.
    pub denied: bool,
}

impl Problem {
    /// One that may pass.
    pub fn transient(text: String) -> Self {
        Self { text, advice: None, denied: false }
    }

    /// As [`Self::of`], of a bucket that was tried at the start: where no server has answered since, credentials that are missing may just be late.
    pub fn since<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Self {
        let problem = Self::of(error);
        if error.raw_response().is_some() { problem } else { Self::transient(problem.text) }
    }

    /// Reads an error of a request that concerns a bucket as a whole.
    pub fn of<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Self {
        let text = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => chain(error),
        };
        let status = error.raw_response().map(|r| r.status().as_u16());
        let advice = match (status, error.code()) {
            (Some(status), code) if may_pass(status, code.unwrap_or_default()) => None,
            (_, Some(code)) if refuses_credentials(code) => {
                Some("the credentials are refused: check the access key, the secret and their expiry")
            }
            (_, Some("RequestTimeTooSkewed")) => Some("this machine's clock is wrong; set it"),
            (Some(301 | 307 | 400), _) => Some("check the region and the endpoint"),
            (_, Some("NoSuchBucket")) | (Some(404), _) => Some("there is no such bucket"),
            (Some(401 | 403), _) => Some("the credentials are refused, or may not list this bucket (s3:ListBucket)"),
            (Some(400..=499), _) => Some("the server refuses the request"),
            (None, _) if matches!(error, SdkError::ConstructionFailure(_)) => {
                Some("the request cannot be made; check the credentials and the endpoint")
            }
            (None, _) if text.contains("credential") => {
                Some("no credentials were found; set AWS_ACCESS_KEY_ID or a profile, or `anonymous: true`")
            }
            _ => None,
        };
        Self { text, advice, denied: matches!((status, error.code()), (Some(403), None | Some("AccessDenied"))) }
    }
}

/// Whether `bucket` is there and answers within `limit`, as far as listing one object tells.
///
/// # Errors
/// What is wrong. Without advice it may pass by itself.
pub async fn try_bucket(client: &Client, bucket: &str, limit: Duration) -> Result<(), Problem> {
    // Not HEAD, whose answer has no body to say why.
    let listing = client.list_objects_v2().bucket(bucket).max_keys(1).send();
    match tokio::time::timeout(limit, listing).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Problem::of(&error)),
        Err(_) => Err(Problem::transient(format!("no answer within {} s", limit.as_secs()))),
    }
}
