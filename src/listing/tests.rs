use super::*;
use std::io::Write;
use std::sync::Arc as Shared;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};

async fn all(path: &str, after: Option<Mark>) -> Result<Vec<Entry>> {
    let mut entries = entries(&Input::of_references(path)?, after, None)?;
    let mut all = Vec::new();
    while let Some(batch) = entries.next().await? {
        all.extend(batch);
    }
    Ok(all)
}

fn manifest(folder: &Path, format: &str, schema: &str, files: &[(&str, u64)]) -> String {
    let path = folder.join("manifest.json");
    let files: Vec<_> = files.iter().map(|(key, size)| serde_json::json!({ "key": key, "size": size, "MD5checksum": "0" })).collect();
    let text = serde_json::json!({ "sourceBucket": "lake", "destinationBucket": "arn:aws:s3:::inv", "version": "2016-11-30",
        "creationTimestamp": "1", "fileFormat": format, "fileSchema": schema, "files": files });
    std::fs::write(&path, text.to_string()).expect("written");
    path.to_string_lossy().into_owned()
}

fn gz(path: &Path, text: &str) -> u64 {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    out.write_all(text.as_bytes()).expect("memory");
    let bytes = out.finish().expect("memory");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, &bytes).expect("written");
    bytes.len() as u64
}

const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag";

#[tokio::test]
async fn a_csv_inventory_gives_the_newest_objects_and_resumes_by_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = r#""lake","a+b%2Bc/%C3%A9.jpg","v1","true","false","1","e1"
"lake","old.jpg","v1","false","false","1","e2"
"lake","gone.jpg","v2","true","true",,
"lake","folder/","","true","false","0","e3"
"lake","comma%2C%22.jpg","null","true","false","1","e4"
"#;
    let one = gz(&folder.path().join("data/1.csv.gz"), first);
    let two = gz(&folder.path().join("data/2.csv.gz"), "\"lake\",\"z.jpg\",\"\",\"true\",\"false\",\"1\",\"\"\n");
    let config = folder.path().join("lake/config/2026-11-23T01-00Z");
    std::fs::create_dir_all(&config).expect("made");
    let path = manifest(&config, "CSV", SCHEMA, &[("data/1.csv.gz", one), ("data/2.csv.gz", two)]);
    let entries = all(&path, None).await.expect("read");
    let told: Vec<_> = entries.iter().map(|e| (e.uri.as_deref(), e.etag.as_deref(), e.version.as_deref())).collect();
    assert_eq!(
        told,
        [
            (Some("s3://lake/a b+c/é.jpg"), Some("e1"), Some("v1")),
            (Some("s3://lake/comma,\".jpg"), Some("e4"), None),
            (Some("s3://lake/z.jpg"), None, None),
        ]
    );
    for (done, entry) in entries.iter().enumerate() {
        assert_eq!(all(&path, Some(entry.mark.clone())).await.expect("read"), entries[done + 1..]);
    }
    let path = manifest(&config, "CSV", SCHEMA, &[("data/1.csv.gz", one + 1)]);
    assert!(all(&path, None).await.expect_err("another size").to_string().contains("of its manifest"));
    let path = manifest(&config, "CSV", SCHEMA, &[("data/3.csv.gz", 1)]);
    assert!(matches!(all(&path, None).await, Err(Error::Config(t)) if t.contains("data/3.csv.gz")));
    let path = manifest(&config, "ORC", SCHEMA, &[]);
    assert!(matches!(all(&path, None).await, Err(Error::Config(t)) if t.contains("orc") && t.contains("Parquet")));
}

#[tokio::test]
async fn a_parquet_inventory_is_read_with_raw_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let n = 10_000;
    let column = |f: &dyn Fn(usize) -> String| Shared::new((0..n).map(|i| Some(f(i))).collect::<StringArray>()) as ArrayRef;
    let flags = |f: &dyn Fn(usize) -> bool| Shared::new((0..n).map(|i| Some(f(i))).collect::<BooleanArray>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("bucket", column(&|_| "lake".into())),
        ("key", column(&|i| format!("a+b%20/{i}.jpg"))),
        ("version_id", column(&|i| format!("v{i}"))),
        ("is_latest", flags(&|i| i % 10 != 3)),
        ("is_delete_marker", flags(&|i| i % 10 == 4)),
        ("e_tag", column(&|i| format!("e{i}"))),
    ])
    .expect("a batch");
    let path = folder.path().join("1.parquet");
    let file = std::fs::File::create(&path).expect("made");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
    let size = std::fs::metadata(&path).expect("there").len();
    let path = manifest(folder.path(), "Parquet", "message s3.inventory {}", &[("data/1.parquet", size)]);
    let entries = all(&path, None).await.expect("read");
    assert_eq!(entries.len(), 8000);
    assert_eq!(entries[0].uri.as_deref(), Some("s3://lake/a+b%20/0.jpg"));
    assert_eq!((entries[0].etag.as_deref(), entries[0].version.as_deref()), (Some("e0"), Some("v0")));
    assert_eq!(all(&path, Some(entries[4321].mark.clone())).await.expect("read"), entries[4322..]);
}

#[tokio::test]
async fn a_broken_inventory_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = gz(&folder.path().join("1.csv.gz"), "\"lake\"\n");
    std::fs::write(folder.path().join("2.csv.gz"), "not gzip").expect("written");
    for (format, schema, key, size) in [
        ("CSV", SCHEMA, "1.csv.gz", size),
        ("CSV", "Bucket, Size", "1.csv.gz", size),
        ("CSV", SCHEMA, "2.csv.gz", 8),
        ("Parquet", "", "2.csv.gz", 8),
        ("CSV", SCHEMA, "../../etc/none", 1),
    ] {
        let path = manifest(folder.path(), format, schema, &[(key, size)]);
        let e = all(&path, None).await.expect_err("broken");
        assert!(e.to_string().contains(key), "{e}");
    }
    std::fs::write(folder.path().join("manifest.json"), "[]").expect("written");
    let path = folder.path().join("manifest.json").to_string_lossy().into_owned();
    assert!(matches!(all(&path, None).await, Err(Error::Config(_))));
}

#[test]
fn a_uri_that_would_not_survive_as_plain_text_goes_as_json() {
    assert_eq!(plain_or_json("s3://b/a b?é"), "s3://b/a b?é");
    for odd in ["s3://b/a ", "s3://b/a\n", "s3://b/a\u{7}b", "s3://b/\u{a0}"] {
        let value: serde_json::Value = serde_json::from_slice(&plain_or_json(odd)).expect("JSON");
        assert_eq!(value["uri"], odd);
    }
}

#[tokio::test]
async fn a_folder_of_many_files_is_walked_with_few_of_them_in_memory_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..3000 {
        std::fs::write(folder.path().join(format!("{n:05}.jpg")), "").expect("written");
    }
    let input = Input::of_images(&folder.path().to_string_lossy()).expect("a folder");
    let mut entries = entries(&input, None, None).expect("started");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(entries.batches.len(), AHEAD, "it waits when nobody takes the entries");
    let mut taken = 0;
    while let Some(batch) = entries.next().await.expect("listed") {
        assert!(batch.len() <= BATCH);
        taken += batch.len();
    }
    assert_eq!(taken, 3000);
}

#[tokio::test]
async fn a_wrong_endpoint_or_bucket_is_said_and_not_waited_for() {
    let Ok(endpoint) = std::env::var("LAKELENS_TEST_S3") else {
        eprintln!("passed over: LAKELENS_TEST_S3 is not set");
        return;
    };
    let client = crate::store::s3_client(&crate::config::S3 { endpoint: Some(endpoint), path_style: true, ..Default::default() }).await;
    let input = Input::of_images("s3://there-is-no-such-bucket/x/").expect("a prefix");
    let e = entries(&input, None, Some(&client)).expect("started").next().await.expect_err("no bucket");
    assert!(e.to_string().contains("NoSuchBucket"), "{e}");
    let dead = crate::config::S3 { endpoint: Some("http://127.0.0.1:9".into()), path_style: true, ..Default::default() };
    let client = crate::store::s3_client(&dead).await;
    let e = entries(&input, None, Some(&client)).expect("started").next().await.expect_err("no server");
    assert!(e.to_string().contains("check `store.s3.endpoint`"), "{e}");
}
