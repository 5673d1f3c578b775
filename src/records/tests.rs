use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::Encoding;
use crate::format::json::{self, JsonForm, tests::any_record};
use crate::format::parquet::{FileKind, RecordFile};

const REJECTION: &str =
    r#"{"schema":"lakelens.rejection.v1","uri":"file:///b.jpg","id":null,"stage":"decode","reason":"corrupt_image","detail":"cut off"}"#;

fn all(path: &Path) -> Result<Vec<Entry>> {
    open(&[path.to_str().unwrap().to_owned()])?.collect()
}

fn line(record: &Record) -> String {
    let mut out = Vec::new();
    json::record(record, &JsonForm::whole(Encoding::Array), &mut out);
    String::from_utf8(out).unwrap() + "\n"
}

fn records(entries: Vec<Entry>) -> Vec<Record> {
    let record = |entry| match entry {
        Entry::Record(record) => *record,
        Entry::Rejection(other) => panic!("{other:?}"),
    };
    entries.into_iter().map(record).collect()
}

fn one() -> Record {
    let text = r#"{"schema":"lakelens.record.v1","uri":"file:///a.jpg","bytes":1,"format":"jpeg","width":2,"height":3,"sha256":"",
        "embedding":[1,2],"space":"s","model":"m","preprocess":"p","precision":"f32","normalize":"none",
        "source":{"listing":"l","key":"k"},"processed_at":"2026-11-23T19:13:30.120Z"}"#;
    json::parse_record(text.as_bytes()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_was_written_is_read_whichever_the_format(mut wanted in proptest::collection::vec(any_record(), 1..200)) {
        for (at, record) in wanted.iter_mut().enumerate() {
            record.embedding = Some(vec![at as f32, -1.5, 1e-30, 0.0]);
            record.embedding_dim = Some(4);
            record.heads = record.labels.clone().map(|labels| [("season".to_owned(), labels)].into());
        }
        let folder = tempfile::tempdir().unwrap();
        let (jsonl, parquet) = (folder.path().join("a.jsonl"), folder.path().join("b.parquet"));
        std::fs::write(&jsonl, wanted.iter().map(line).collect::<String>()).unwrap();
        let mut file = RecordFile::new(File::create(&parquet).unwrap(), &FileKind::of(&wanted[0]), &[]).unwrap();
        wanted.iter().for_each(|record| file.push(record.clone()).unwrap());
        file.finish().unwrap();
        prop_assert_eq!(&records(all(&jsonl).unwrap()), &wanted);
        prop_assert_eq!(&records(all(&parquet).unwrap()), &wanted);
    }
}

#[test]
fn parquet_that_another_program_wrote_anew_is_read() {
    use arrow_array::builder::{Float64Builder, ListBuilder};
    use arrow_array::{Array, LargeStringArray, RecordBatch, StringViewArray};
    use std::sync::Arc;
    let mut embeddings = ListBuilder::new(Float64Builder::new());
    embeddings.append_value([Some(1.0), Some(2.0)]);
    embeddings.append_null();
    let columns: Vec<(&str, Arc<dyn Array>)> = vec![
        ("embedding", Arc::new(embeddings.finish())),
        ("space", Arc::new(StringViewArray::from(vec!["s", "s"]))),
        ("uri", Arc::new(LargeStringArray::from(vec!["file:///a", "file:///b"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("few.parquet");
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let read = records(all(&path).unwrap());
    assert_eq!((&*read[0].uri, read[0].embedding.as_deref(), &*read[0].space), ("file:///a", Some(&[1.0, 2.0][..]), "s"));
    assert_eq!((read[1].embedding.as_deref(), read[1].labels.as_deref(), &*read[1].model), (None, None, ""));
}

#[test]
fn a_folder_is_read_once_with_its_rejections_and_hidden_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("a.jsonl", &line(&one()));
    put("a.jsonl.rejected.jsonl", &format!("{REJECTION}\n"));
    put(".half.jsonl", "no record");
    put("notes.txt", "no record");
    crate::format::parquet::jsonl_to_parquet(&folder.path().join("a.jsonl"), &folder.path().join("a.parquet")).unwrap();
    let entries = all(folder.path()).unwrap();
    assert_eq!(entries.len(), 2, "{entries:?}");
    let named = [folder.path().join("a.jsonl"), folder.path().join("a.jsonl.rejected.jsonl")].map(|p| p.to_str().unwrap().to_owned());
    let entries: Vec<Entry> = open(&named).unwrap().map(|e| e.unwrap()).collect();
    assert!(matches!(&entries[..], [Entry::Record(_), Entry::Rejection(r)] if r.reason == "corrupt_image"), "{entries:?}");
}

#[test]
fn a_line_that_is_cut_off_at_the_end_is_passed_over_and_any_other_bad_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let good = line(&one());
    std::fs::write(&path, format!("{good}{}", &good[..good.len() / 2])).unwrap();
    assert_eq!(all(&path).unwrap().len(), 1);
    std::fs::write(&path, format!("{good}\n{}\n{good}", &good[..good.len() / 2])).unwrap();
    let error = all(&path).unwrap_err().to_string();
    assert!(error.contains("a.jsonl, line 3"), "{error}");
}

#[test]
fn what_is_no_file_of_records_is_named_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| all(path).unwrap_err().to_string();
    assert!(error(&folder.path().join("gone.jsonl")).contains("gone.jsonl"));
    assert!(error(folder.path()).contains("no .jsonl or .parquet"));
    File::create(folder.path().join("a.csv")).unwrap();
    assert!(error(&folder.path().join("a.csv")).contains("ends in"));
    let path = folder.path().join("a.parquet");
    File::create(&path).unwrap().write_all(b"no Parquet").unwrap();
    assert!(error(&path).contains("a.parquet"));
}
