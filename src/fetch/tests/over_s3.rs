//! Against a real server: `LAKELENS_TEST_S3` is its endpoint, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are a user who may create buckets.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};

use super::super::s3::S3Fetch;
use super::*;
use crate::config::OnChanged;

const KEYS: &[&str] = &[
    "plain.jpg",
    "a b+c/é.jpg",
    "100%/x%20y.jpg",
    "日本/写真.jpg",
    "q?a=b&c#d.jpg",
    "a'(b)*!~@:;,=$.jpg",
    "deep/er/and/deeper.jpg",
    " lead",
    "e\u{301}.jpg",
];

fn s3_config(endpoint: &str) -> config::S3 {
    config::S3 { endpoint: Some(endpoint.into()), region: Some("us-east-1".into()), path_style: true, ..Default::default() }
}

fn client(endpoint: &str, key: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new(key, secret, None, None, "test"));
    Client::from_conf(config.build())
}

#[tokio::test]
async fn a_real_server_answers_as_expected() {
    let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let (Some(endpoint), Some(key), Some(secret)) = (var("LAKELENS_TEST_S3"), var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY"))
    else {
        eprintln!("left out: the S3 cases, since LAKELENS_TEST_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not all set");
        return;
    };
    let bucket = format!("fetch-test-{}", rand::random::<u32>());
    let admin = client(&endpoint, &key, &secret);
    admin.create_bucket().bucket(&bucket).send().await.expect("creating a bucket");
    for key in KEYS {
        let body = key.as_bytes().to_vec().into();
        admin.put_object().bucket(&bucket).key(*key).body(body).send().await.unwrap_or_else(|e| panic!("{key}: {e:?}"));
    }
    admin.put_object().bucket(&bucket).key("empty").body(Vec::new().into()).send().await.expect("put");
    admin.put_object().bucket(&bucket).key("large").body(vec![1; 100_001].into()).send().await.expect("put");

    let with = |allow: &[&str], on_changed| {
        let config = config::Fetch { on_changed, ..config(allow, &[], &[]) };
        Fetcher::new(config, s3_config(&endpoint), Pool::new(1 << 20), false).expect("a fetcher")
    };
    let named = format!("{bucket}/*");
    let fetcher = with(&[&named], OnChanged::Supersede);
    for key in KEYS {
        let body = get(&fetcher, &object(&bucket, key)).await.unwrap_or_else(|e| panic!("{key}: {e:?}"));
        assert_eq!(&body.bytes[..], key.as_bytes());
        assert!(body.etag.is_some_and(|t| t.len() == 32 && !t.contains('"')));
    }
    assert_eq!(reason(get(&fetcher, &object(&bucket, "none")).await), Reason::NotFound);
    assert_eq!(reason(get(&fetcher, &object(&bucket, "empty")).await), Reason::Empty);
    assert_eq!(reason(get(&fetcher, &object(&bucket, "large")).await), Reason::TooLarge);
    for odd in ["../plain.jpg", "deep/../plain.jpg", "deep//er/and/deeper.jpg", "plain.jpg/", "plain.jpg/x", &"x".repeat(1100)] {
        let result = get(&fetcher, &object(&bucket, odd)).await;
        eprintln!("{}: {:?}", &odd[..odd.len().min(30)], result.as_ref().map(|b| b.bytes.len()));
        assert!(!matches!(result, Err(GetError::Fatal(_))), "{odd}: {result:?}");
    }

    let mut newer = object(&bucket, "plain.jpg");
    newer.etag = Some("00000000000000000000000000000000".into());
    assert!(matches!(get(&fetcher, &newer).await, Err(GetError::Skipped(Skip::Superseded))));
    assert_eq!(reason(get(&with(&[&named], OnChanged::Reject), &newer).await), Reason::Changed);
    let body = get(&with(&[&named], OnChanged::Current), &newer).await.expect("what is there now");
    newer.etag = body.etag.clone();
    assert!(get(&fetcher, &newer).await.is_ok(), "the tag that the server itself gave");
    newer.version = Some("00000000-0000-0000-0000-000000000000".into());
    eprintln!("a version in a bucket without versions: {:?}", get(&fetcher, &newer).await.map(|b| b.bytes.len()));

    let missing = object("no-such-bucket-here", "a");
    match get(&with(&["no-such-bucket-here/*"], OnChanged::Supersede), &missing).await {
        Err(GetError::Fatal(e)) => assert!(e.to_string().contains("does not exist"), "{e}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(reason(get(&with(&["*"], OnChanged::Supersede), &missing).await), Reason::NotFound);
    for bad in ["UPPER_case", "a", "x/y", "..", "space bar"] {
        let result = get(&with(&["*"], OnChanged::Supersede), &object(bad, "a")).await;
        eprintln!("bucket {bad}: {result:?}");
        assert!(matches!(result, Err(GetError::Rejected(_))), "{bad}: {result:?}");
    }

    for (key, secret) in [(key.as_str(), "wrong"), ("nobody", "wrong")] {
        let refused = S3Fetch::with_client(client(&endpoint, key, secret), OnChanged::Supersede);
        let result = get(&super::fetcher(config(&[&named], &[], &[]), Arc::new(refused), None), &object(&bucket, "plain.jpg")).await;
        eprintln!("wrong credentials: {result:?}");
        assert!(matches!(&result, Err(GetError::Fatal(e)) if !e.to_string().contains(secret)), "{result:?}");
    }
}

#[tokio::test]
async fn no_credentials_at_all_stop_at_once_and_a_server_away_does_not() {
    let loaded = aws_config::defaults(BehaviorVersion::latest()).credentials_provider(Nobody).region(Region::new("us-east-1")).load().await;
    let chain = aws_sdk_s3::config::Builder::from(&loaded).endpoint_url("http://127.0.0.1:9").build();
    let s3 = S3Fetch::with_client(Client::from_conf(chain), OnChanged::Supersede);
    let nobody = fetcher(config(&["lake/*"], &[], &[]), Arc::new(s3), None);
    let result = tokio::time::timeout(Duration::from_secs(5), get(&nobody, &object("lake", "a"))).await.expect("no wait");
    assert!(matches!(&result, Err(GetError::Fatal(e)) if e.to_string().contains("no credentials")), "{result:?}");

    let away = S3Fetch::with_client(client("http://127.0.0.1:9", "a", "b"), OnChanged::Supersede);
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), Arc::new(away), None);
    let waits = tokio::time::timeout(Duration::from_millis(1500), get(&fetcher, &object("lake", "a"))).await;
    assert!(waits.is_err(), "{waits:?}");
}

/// A chain of credential providers of which none had any.
#[derive(Debug)]
struct Nobody;

impl aws_credential_types::provider::ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = aws_credential_types::provider::error::CredentialsError::not_loaded("no providers in chain provided credentials");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(none))
    }
}
