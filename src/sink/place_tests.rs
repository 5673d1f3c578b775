use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::local::end_of;
use super::*;
use crate::config;

/// A bucket of a test's own on the server that `LAKELENS_TEST_S3` names.
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) client: Client,
}

pub(crate) fn endpoint() -> Option<String> {
    let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let all = (var("LAKELENS_TEST_S3"), var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY"));
    let (Some(endpoint), Some(_), Some(_)) = all else {
        eprintln!("left out: LAKELENS_TEST_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not all set");
        return None;
    };
    Some(endpoint)
}

pub(crate) async fn bucket(what: &str) -> Bucket {
    let s3 = config::S3 { endpoint: endpoint(), region: Some("us-east-1".into()), path_style: true, ..config::S3::default() };
    let client = crate::store::s3_client(&s3).await;
    let name = format!("sink-{what}-{}", rand::random::<u32>());
    client.create_bucket().bucket(&name).send().await.unwrap();
    Bucket { name, client }
}

impl Bucket {
    pub(crate) async fn all(&self) -> Vec<(String, Vec<u8>)> {
        let listed = self.client.list_objects_v2().bucket(&self.name).send().await.unwrap();
        let mut all = Vec::new();
        for object in listed.contents() {
            let key = object.key().unwrap();
            let body = self.client.get_object().bucket(&self.name).key(key).send().await.unwrap().body;
            all.push((key.to_owned(), body.collect().await.unwrap().to_vec()));
        }
        all
    }
}

/// A file that says which offset it ends before, and who wrote it.
fn file(folder: &Path, end: i64, writer: &str) -> NamedTempFile {
    use crate::format::parquet::{FileKind, RecordFile};
    let temporary = tempfile::NamedTempFile::new_in(folder).unwrap();
    let facts = [(END, end.to_string()), ("writer", writer.to_owned())];
    let kind = FileKind { space: "s".into(), embedding_dim: None };
    RecordFile::new(temporary.reopen().unwrap(), &kind, &facts).unwrap().finish().unwrap();
    temporary
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_longest_file_stays_whatever_the_order_where_files_grow(ends in proptest::collection::vec(1i64..6, 1..7)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_str().unwrap(), None, true).unwrap();
        let path = folder.path().join("a/b/0.parquet");
        let mut longest = 0;
        for end in ends {
            longest = end.max(longest);
            let cover = Cover { first: 0, end, grows: true };
            let stands = runtime.block_on(place.put(Path::new("a/b/0.parquet"), file(folder.path(), end, "any"), cover)).unwrap();
            prop_assert_eq!((end_of(&path).unwrap(), stands), (Some(longest), longest));
        }
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

#[test]
fn what_others_may_have_built_upon_is_not_replaced() {
    let cover = Cover { first: 5, end: 9, grows: false };
    assert_eq!(cover.meets(Some(9)), Meeting::Stays(9));
    assert_eq!(cover.meets(Some(12)), Meeting::Stays(12));
    assert_eq!(cover.meets(Some(7)), Meeting::Foreign(7));
    // It covers no whole message, so nobody has gone on behind it; or it is no file of ours.
    assert_eq!(cover.meets(Some(5)), Meeting::Replaced);
    assert_eq!(cover.meets(None), Meeting::Replaced);
    assert_eq!(Cover { grows: true, ..cover }.meets(Some(7)), Meeting::Replaced);
}

/// What a test puts: of a listing, whose files may grow.
fn growing(end: i64) -> Cover {
    Cover { first: 0, end, grows: true }
}

#[tokio::test]
async fn what_is_no_file_of_ours_gives_way_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().to_str().unwrap(), None, true).unwrap();
    fs::write(folder.path().join("0.parquet"), b"PAR1 torn").unwrap();
    place.put(Path::new("0.parquet"), file(folder.path(), 3, "w"), growing(3)).await.unwrap();
    assert_eq!(end_of(&folder.path().join("0.parquet")).unwrap(), Some(3));
}

#[tokio::test]
async fn a_place_that_is_no_folder_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Place::new(file.join("out").to_str().unwrap(), None, true).err().unwrap();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(Place::new("s3://", None, true).err().unwrap().exit_code(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_the_longer_stays_whoever_comes_last() {
    if endpoint().is_none() {
        return;
    }
    let bucket = bucket("longer").await;
    let folder = tempfile::tempdir().unwrap();
    for conditional in [true, false] {
        let path = format!("s3://{}/p{conditional}/", bucket.name);
        let place = Place::new(&path, Some(bucket.client.clone()), conditional).unwrap();
        let key = format!("p{conditional}/0.parquet");
        let standing_now = async || standing(&bucket.client, &bucket.name, &key).await.ok().flatten().unwrap().1;
        // A store without conditional writes takes whatever comes last; the sink is told so by `check`.
        for (end, stays) in [(3, 3), (2, if conditional { 3 } else { 2 }), (5, 5), (5, 5)] {
            place.put(Path::new("0.parquet"), file(folder.path(), end, "w"), growing(end)).await.unwrap();
            assert_eq!(standing_now().await, Some(stays));
        }
    }
    // Two at once: whichever comes first, one whole file stands, and it is the longer.
    let place = Place::new(&format!("s3://{}", bucket.name), Some(bucket.client.clone()), true).unwrap();
    for round in 0..8 {
        let name = format!("race-{round}.parquet");
        let put = |end, writer| place.put(Path::new(&name), file(folder.path(), end, writer), growing(end));
        let (one, other) = tokio::join!(put(7, "longer"), put(6, "zombie"));
        one.and(other).unwrap();
    }
    let races: Vec<_> = bucket.all().await.into_iter().filter(|(key, _)| key.starts_with("race-")).collect();
    assert!(races.len() == 8 && races.iter().all(|(_, bytes)| contains(bytes, "longer")));
    // A bucket that is not there is nobody's outage.
    let place = Place::new("s3://sink-no-such-bucket/x", Some(bucket.client.clone()), true).unwrap();
    let error = place.put(Path::new("0.parquet"), file(folder.path(), 1, "w"), growing(1)).await.unwrap_err().to_string();
    assert!(error.contains("s3://sink-no-such-bucket/x/0.parquet") && error.contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn what_could_not_be_read_was_once_taken_for_nothing_and_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().to_str().unwrap(), None, true).unwrap();
    // Links that go round in a circle: a way to be unreadable that holds for root, too.
    let path = folder.path().join("a").join(file_name(0));
    fs::create_dir(folder.path().join("a")).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let circle = folder.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let put = place.put(&Path::new("a").join(file_name(0)), file(folder.path(), 3, "w"), growing(3)).await.unwrap_err();
    let begin = place.end_beyond(Path::new("a"), 0, 1).await.unwrap_err();
    let unlisted = place.end_beyond(Path::new("circle"), 0, 1).await.unwrap_err();
    for (error, path) in [(put, &path), (begin, &path), (unlisted, &circle)] {
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())), "{error}");
        assert!(path.is_symlink(), "it stands as it did");
    }
    assert_eq!(place.end_beyond(Path::new("not there"), 0, 1).await.unwrap(), None);
    // No file of ours, and no trouble of the disk's either.
    fs::create_dir(folder.path().join("a").join(file_name(1))).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"PAR1 torn").unwrap();
    assert_eq!(place.end_beyond(Path::new("a"), 0, 1).await.unwrap(), None);
}

/// What a stand-in store answers: status, headers, body.
type Reply = (u16, &'static str, String);

fn refusal(status: u16, code: &str) -> Reply {
    (status, "", if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code><Message>m</Message></Error>") })
}

/// A place in a bucket of a server that answers the nth request of a method by `reply`, and the methods that it was asked by.
async fn stand_in(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> (Place, Arc<Mutex<Vec<String>>>) {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation, retry::RetryConfig};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
        .region(Region::new("us-east-1"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"));
    let client = Client::from_conf(config.build());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (all, reply) = (asked.clone(), Arc::new(reply));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (all, reply) = (all.clone(), reply.clone());
            tokio::spawn(async move {
                let mut request: Vec<u8> = Vec::new();
                let head = loop {
                    if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                        break at + 4;
                    }
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                };
                let text = String::from_utf8_lossy(&request[..head]).into_owned();
                let headers: HashMap<_, _> = text.lines().filter_map(|line| line.split_once(": ")).collect();
                let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
                while request.len() < head + length && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                let method = text.split(' ').next().unwrap().to_owned();
                let nth = {
                    let mut all = all.lock().unwrap();
                    all.push(method.clone());
                    all.iter().filter(|other| **other == method).count()
                };
                let (status, headers, body) = reply(&method, nth);
                let body = if method == "HEAD" { String::new() } else { body };
                let head = format!("HTTP/1.1 {status} said\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.ok();
                stream.shutdown().await.ok();
            });
        }
    });
    (Place::Bucket { client, bucket: "b".into(), prefix: "p/".into(), conditional: true }, asked)
}

/// An end to what once had none.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it waits without end")
}

/// A listing of one file.
fn listing() -> Reply {
    let key = format!("p/a/{}", file_name(0));
    (200, "", format!("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key></Contents></ListBucketResult>"))
}

const THREE: Reply = (200, "etag: \"three\"\r\nx-amz-meta-lakelens-end: 3\r\n", String::new());

#[tokio::test]
async fn a_role_that_may_not_look_at_a_file_once_waited_without_end() {
    let (place, _) = stand_in(|method, _| match method {
        "GET" => listing(),
        "HEAD" => refusal(403, ""),
        _ => refusal(412, "PreconditionFailed"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let name = Path::new("a").join(file_name(0));
    let begin = in_time(place.end_beyond(Path::new("a"), 0, 1)).await.unwrap_err();
    let put = in_time(place.put(&name, file(folder.path(), 3, "w"), growing(3))).await.unwrap_err();
    for error in [begin, put] {
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.contains(&format!("s3://b/p/{}", name.display())), "{text}");
        assert!(["403", "s3:GetObject", "s3:ListBucket", "s3:PutObject"].iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_lasts_was_once_waited_for_at_the_begin() {
    let lasting = [
        (404, "NoSuchBucket"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (404, "XAdminUserNotFound"),
        // As fetching has it: whoever renews credentials does so before they expire.
        (400, "ExpiredToken"),
    ];
    for (status, code) in lasting {
        let (place, asked) = stand_in(move |_, _| refusal(status, code)).await;
        let error = in_time(place.end_beyond(Path::new("a"), 0, 1)).await.unwrap_err().to_string();
        assert!(error.contains("s3://b/p/a/") && error.contains(code), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
    // What passes is waited for, and who may only write may do so.
    for (status, code) in [(503, "SlowDown"), (400, "RequestTimeout"), (408, ""), (429, "")] {
        let (place, _) = stand_in(move |method, nth| match (method, nth) {
            ("GET", 1) => refusal(status, code),
            ("GET", _) => listing(),
            _ => THREE,
        })
        .await;
        assert_eq!(in_time(place.end_beyond(Path::new("a"), 0, 1)).await.unwrap(), Some(3), "{status} {code}");
    }
    let (place, _) = stand_in(|_, _| refusal(403, "AccessDenied")).await;
    assert_eq!(in_time(place.end_beyond(Path::new("a"), 0, 1)).await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_that_took_too_long_once_ended_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    for (status, code) in [(400, "RequestTimeout"), (408, ""), (503, "SlowDown"), (400, "Throttling")] {
        let (place, asked) = stand_in(move |_, nth| if nth == 1 { refusal(status, code) } else { (200, "", String::new()) }).await;
        let put = in_time(place.put(Path::new("0.parquet"), file(folder.path(), 3, "w"), growing(3))).await;
        assert_eq!(put.unwrap(), 3, "{status} {code}");
        assert_eq!(*asked.lock().unwrap(), ["PUT", "PUT"]);
    }
    let (place, _) = stand_in(|_, _| refusal(403, "AccessDenied")).await;
    let put = in_time(place.put(Path::new("0.parquet"), file(folder.path(), 3, "w"), growing(3))).await;
    assert!(put.unwrap_err().to_string().contains("403 AccessDenied; check the bucket"));
}

#[tokio::test]
async fn a_conflict_once_sent_the_file_over_and_over_without_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    // With nothing there, and with a shorter file that never changes: this one is first met, and then asked for by its ETag.
    let cases = [((409, "ConditionalRequestConflict"), false), ((404, ""), false), ((409, "ConditionalRequestConflict"), true)];
    for ((status, code), stands) in cases {
        let (place, asked) = stand_in(move |method, nth| match (method, nth) {
            ("PUT", 1..=2) => refusal(status, code),
            ("PUT", _) => (200, "", String::new()),
            _ if stands => THREE,
            _ => refusal(404, ""),
        })
        .await;
        let begun = std::time::Instant::now();
        assert_eq!(in_time(place.put(Path::new("0.parquet"), file(folder.path(), 5, "w"), growing(5))).await.unwrap(), 5);
        assert_eq!(*asked.lock().unwrap(), ["PUT", "HEAD", "PUT", "HEAD", "PUT"]);
        assert!(begun.elapsed() >= Duration::from_millis(if stands { 200 } else { 600 }), "{status} {code}");
    }
}
