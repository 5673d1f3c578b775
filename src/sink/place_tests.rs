use proptest::prelude::*;

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
            prop_assert_eq!((end_of(&path), stands), (Some(longest), longest));
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
    assert_eq!(end_of(&folder.path().join("0.parquet")), Some(3));
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
        let standing_now = async || standing(&bucket.client, &bucket.name, &key).await.unwrap().unwrap().1;
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
