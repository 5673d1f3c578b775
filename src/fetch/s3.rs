//! Objects of S3 and of what speaks its protocol.

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;

use super::{Ask, Body, Fetch, FetchError, causes, retry_after};
use crate::config::{OnChanged, S3};
use crate::failpoint::Trouble;
use crate::flow::{Location, Reason, Skip};
use crate::store::{fails_for_now, refuses_credentials, s3_client, throttles};
use crate::telemetry::AttemptEnd;

/// Fetches from one endpoint.
pub struct S3Fetch {
    config: S3,
    on_changed: OnChanged,
    /// Built at first use: looking for credentials and region may ask servers that a worker without S3 does not have.
    client: OnceCell<Client>,
}

/// What the server answered, or what is known of it.
#[derive(Debug, Clone, Copy, Default)]
struct Answer<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    retry_after: Option<&'a str>,
}

impl S3Fetch {
    /// A fetcher for `config`'s endpoint; nothing is connected to yet.
    pub fn new(config: S3, on_changed: OnChanged) -> Self {
        Self { config, on_changed, client: OnceCell::new() }
    }

    /// A fetcher with a client of the test's own.
    #[cfg(test)]
    pub fn with_client(client: Client, on_changed: OnChanged) -> Self {
        Self { config: S3::default(), on_changed, client: OnceCell::new_with(Some(client)) }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| s3_client(&self.config)).await
    }
}

#[async_trait]
impl Fetch for S3Fetch {
    async fn fetch(&self, ask: &Ask<'_>) -> Result<Body, FetchError> {
        let Location::S3 { bucket, key } = ask.location else {
            return Err(FetchError::rejected(Reason::FetchFailed, "not an S3 location"));
        };
        let trouble = Trouble::next();
        match trouble {
            Some(Trouble::Storm) => {
                let answer = Answer { status: 503, code: "SlowDown", message: "a failpoint says so", retry_after: None };
                return Err(classify(answer, bucket, ask.grant.named, self.on_changed));
            }
            Some(Trouble::Refuse) => return Err(FetchError::retry(AttemptEnd::Connection, "connection refused by a failpoint")),
            _ => {}
        }
        let condition = ask.etag.filter(|_| self.on_changed != OnChanged::Current).map(|tag| format!("\"{tag}\""));
        let request = self.client().await.get_object().bucket(bucket).key(key).set_version_id(ask.version.map(str::to_owned));
        let answer = ask.intake.in_time("S3 GET", request.set_if_match(condition).send()).await?;
        let object = answer.map_err(|e| classify_error(&e, bucket, ask.grant.named, self.on_changed))?;
        let length = object.content_length.and_then(|l| u64::try_from(l).ok());
        let (etag, version) = (object.e_tag.map(|t| t.trim_matches('"').to_owned()), object.version_id.filter(|v| v != "null"));
        let chunks = stream::unfold(object.body, |mut body: ByteStream| async { body.next().await.map(|chunk| (chunk, body)) });
        let (bytes, memory) = match trouble {
            None => ask.intake.collect(length, chunks).await?,
            Some(trouble) => ask.intake.collect(length, trouble.of_body(chunks.boxed())).await?,
        };
        Ok(Body { bytes, location: ask.location.clone(), etag, version, memory })
    }

    async fn probe(&self, location: &Location) -> bool {
        match location {
            Location::S3 { bucket, .. } => self.client().await.head_bucket().bucket(bucket).send().await.is_ok(),
            _ => false,
        }
    }
}

fn classify_error<E>(error: &SdkError<E>, bucket: &str, named: bool, on_changed: OnChanged) -> FetchError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let Some(response) = error.raw_response() {
        let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
        let answer = Answer {
            status: response.status().as_u16(),
            code: meta.and_then(|m| m.code()).unwrap_or_default(),
            message: meta.and_then(|m| m.message()).unwrap_or_default(),
            retry_after: response.headers().get("retry-after"),
        };
        return classify(answer, bucket, named, on_changed);
    }
    let detail = DisplayErrorContext(error).to_string();
    if has_no_credentials(error) {
        let next =
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or `store.s3.anonymous: true` for a public bucket";
        return FetchError::Fatal(format!("no credentials for s3://{bucket}: {next} ({detail})"));
    }
    match error {
        // The request could not even be built: a bucket name or a key that no server could have.
        SdkError::ConstructionFailure(_) => FetchError::rejected(Reason::FetchFailed, detail),
        SdkError::TimeoutError(_) => FetchError::retry(AttemptEnd::Timeout, detail),
        _ => FetchError::retry(AttemptEnd::Connection, detail),
    }
}

/// Whether the chain of credential providers had none to offer. A provider that did not answer in time may yet do so.
fn has_no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error)
        .filter_map(|e| e.downcast_ref::<CredentialsError>())
        .any(|e| matches!(e, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)))
}

fn classify(answer: Answer<'_>, bucket: &str, named: bool, on_changed: OnChanged) -> FetchError {
    let Answer { status, code, message, .. } = answer;
    let said = match (code, message) {
        ("", "") => format!("{status}"),
        (code, "") => format!("{status} {code}"),
        (code, message) => format!("{status} {code}: {message}"),
    };
    let fatal = |next: &str| FetchError::Fatal(format!("s3://{bucket} answers {said}: {next}"));
    match (status, code) {
        _ if refuses_credentials(code) => {
            fatal("the credentials are refused; check the access key, the secret and their expiry, and start again")
        }
        (_, "RequestTimeTooSkewed") => fatal("this machine's clock is wrong; set it and start again"),
        (_, "AuthorizationHeaderMalformed") if named => fatal("the request was signed for another region; set `store.s3.region`"),
        (_, "NoSuchBucket") if named => {
            fatal("the bucket does not exist at this endpoint; check its name, `store.s3.endpoint` and `fetch.allow.s3`")
        }
        (412, _) | (_, "PreconditionFailed") => match on_changed {
            OnChanged::Supersede => FetchError::Skipped(Skip::Superseded),
            OnChanged::Reject | OnChanged::Current => {
                FetchError::rejected(Reason::Changed, "the object's ETag is no longer the reference's")
            }
        },
        (_, "InvalidObjectState") => FetchError::rejected(Reason::Archived, said),
        _ if throttles(status, code) => {
            FetchError::Retry { detail: said, kind: AttemptEnd::Throttled, retry_after: retry_after(answer.retry_after) }
        }
        _ if fails_for_now(status, code) => {
            let kind = if status == 408 || code == "RequestTimeout" { AttemptEnd::Timeout } else { AttemptEnd::ServerError };
            FetchError::Retry { detail: said, kind, retry_after: retry_after(answer.retry_after) }
        }
        // HEAD and some servers give no code; an unnamed bucket that is missing ends here, too.
        (404 | 410, _) | (_, "NoSuchKey" | "NoSuchVersion") => FetchError::Missing(said),
        (401 | 403, _) => FetchError::Denied(said),
        (200..=299, _) => FetchError::retry(AttemptEnd::Other, format!("an answer that cannot be read: {said}")),
        _ => FetchError::rejected(Reason::FetchFailed, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str, named: bool, on_changed: OnChanged) -> String {
        match classify(Answer { status, code, ..Answer::default() }, "b", named, on_changed) {
            FetchError::Rejected(r) => r.reason.name().into(),
            FetchError::Skipped(s) => s.name().into(),
            FetchError::Retry { kind: AttemptEnd::Throttled, .. } => "throttled".into(),
            FetchError::Retry { .. } => "retry".into(),
            FetchError::Denied(_) => "denied".into(),
            FetchError::Missing(_) => "missing".into(),
            FetchError::Fatal(_) => "fatal".into(),
            FetchError::Again => "again".into(),
        }
    }

    #[test]
    fn answers_mean_what_the_contract_says() {
        let named = |status, code| kind(status, code, true, OnChanged::Supersede);
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch"] {
            assert_eq!(named(403, code), "fatal");
        }
        // What versitygw says of an unknown key.
        assert_eq!(named(404, "XAdminUserNotFound"), "fatal");
        for code in ["ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"] {
            assert_eq!(named(400, code), "fatal");
        }
        assert_eq!(kind(400, "AuthorizationHeaderMalformed", false, OnChanged::Reject), "fetch_failed");
        assert_eq!(named(404, "NoSuchBucket"), "fatal");
        assert_eq!(kind(404, "NoSuchBucket", false, OnChanged::Reject), "missing");
        assert_eq!(named(404, "NoSuchKey"), "missing");
        assert_eq!(named(404, "NoSuchVersion"), "missing");
        assert_eq!(named(404, ""), "missing");
        assert_eq!(named(403, "AccessDenied"), "denied");
        assert_eq!(named(403, "InvalidObjectState"), "archived");
        assert_eq!(named(412, "PreconditionFailed"), "superseded");
        assert_eq!(kind(412, "", true, OnChanged::Reject), "changed");
        assert_eq!(named(503, "SlowDown"), "throttled");
        assert_eq!(named(429, ""), "throttled");
        for (status, code) in [(500, "InternalError"), (502, ""), (503, ""), (504, ""), (408, ""), (400, "RequestTimeout")] {
            assert_eq!(named(status, code), "retry", "{status} {code}");
        }
        // Another region, another method, a customer's key: as the contract has it.
        for (status, code) in [(301, "PermanentRedirect"), (405, "MethodNotAllowed"), (400, "InvalidRequest"), (400, ""), (416, "")] {
            assert_eq!(named(status, code), "fetch_failed", "{status} {code}");
        }
    }
}
