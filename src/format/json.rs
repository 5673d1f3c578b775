//! Records and rejections as JSON, version 1 of the contract. Absent = not asked for, null = unknown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::{Deserialize, Serialize};

use super::source_ref;
use crate::config::Encoding;
use crate::flow::{Item, Label, Record, Rejection, SourceRef, scrubbed};

/// The name and version of a record.
pub const RECORD_SCHEMA: &str = "lakelens.record.v1";
/// The name and version of a rejection.
pub const REJECTION_SCHEMA: &str = "lakelens.rejection.v1";
/// Longest piece of an unreadable input that a rejection repeats, in characters, and how much of it is looked at for secrets that the cut would
/// break in two, in bytes.
const INPUT_LIMIT: usize = 1024;
const INPUT_READ: usize = 16 * INPUT_LIMIT;

/// Which parts of a record are written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonForm {
    /// Labels and heads.
    pub labels: bool,
    /// The embedding itself; its length and space stay in any case.
    pub embedding: bool,
    /// How the embedding is written.
    pub encoding: Encoding,
}

impl JsonForm {
    /// Whole records.
    pub fn whole(encoding: Encoding) -> Self {
        Self { labels: true, embedding: true, encoding }
    }
}

/// A record as it stands in JSON, in the order of the contract.
#[derive(Serialize, Deserialize)]
struct JsonRecord<'a> {
    schema: Cow<'a, str>,
    uri: Cow<'a, str>,
    #[serde(default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    tags: Cow<'a, BTreeMap<String, String>>,
    #[serde(default)]
    etag: Option<Cow<'a, str>>,
    #[serde(default)]
    version: Option<Cow<'a, str>>,
    bytes: u64,
    format: Cow<'a, str>,
    width: u32,
    height: u32,
    sha256: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Cow<'a, [Label]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<Cow<'a, BTreeMap<String, Vec<Label>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedding: Option<Cow<'a, [f32]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedding_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedding_dtype: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedding_dim: Option<u32>,
    space: Arc<str>,
    model: Arc<str>,
    preprocess: Arc<str>,
    precision: Arc<str>,
    normalize: Arc<str>,
    #[serde(default)]
    event_time: Option<Cow<'a, str>>,
    source: Cow<'a, SourceRef>,
    processed_at: Cow<'a, str>,
}

/// Appends `record` to `out`, without a line end. Values that are not finite cannot occur (they are the rejection `model_failed`); they would be
/// written as null.
pub fn record(record: &Record, form: &JsonForm, out: &mut Vec<u8>) {
    let embedding = record.embedding.as_deref().filter(|_| form.embedding);
    let (array, b64, dtype) = match (embedding, form.encoding) {
        (None, _) => (None, None, None),
        (Some(values), Encoding::Array) => (Some(Cow::Borrowed(values)), None, None),
        (Some(values), Encoding::F32) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (None, Some(STANDARD.encode(bytes)), Some(Cow::Borrowed("f32le")))
        }
        (Some(values), Encoding::F16) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            (None, Some(STANDARD.encode(bytes)), Some(Cow::Borrowed("f16le")))
        }
    };
    let json = JsonRecord {
        schema: Cow::Borrowed(RECORD_SCHEMA),
        uri: Cow::Borrowed(&record.uri),
        id: record.id.as_deref().map(Cow::Borrowed),
        tags: Cow::Borrowed(&record.tags),
        etag: record.etag.as_deref().map(Cow::Borrowed),
        version: record.version.as_deref().map(Cow::Borrowed),
        bytes: record.bytes,
        format: Cow::Borrowed(&record.format),
        width: record.width,
        height: record.height,
        sha256: Cow::Borrowed(&record.sha256),
        labels: record.labels.as_deref().filter(|_| form.labels).map(Cow::Borrowed),
        heads: record.heads.as_ref().filter(|_| form.labels).map(Cow::Borrowed),
        embedding: array,
        embedding_b64: b64,
        embedding_dtype: dtype,
        embedding_dim: record.embedding_dim,
        space: record.space.clone(),
        model: record.model.clone(),
        preprocess: record.preprocess.clone(),
        precision: record.precision.clone(),
        normalize: record.normalize.clone(),
        event_time: record.event_time.as_deref().map(Cow::Borrowed),
        source: Cow::Borrowed(&record.source),
        processed_at: Cow::Borrowed(&record.processed_at),
    };
    write(&json, out);
}

fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    // Neither a Vec nor these types can fail: all keys are text.
    let result = serde_json::to_writer(out, value);
    debug_assert!(result.is_ok());
}

/// Reads a record back, whichever encoding its embedding has. Unknown fields are passed over. A value that no f32 holds is read as an infinity: see
/// [`Record::check`].
pub fn parse_record(bytes: &[u8]) -> Result<Record, String> {
    let json: JsonRecord = serde_json::from_slice(bytes).map_err(|e| {
        // The library's own text repeats values.
        let what = if e.is_data() { "a field is missing or of another type" } else { "it is not JSON" };
        format!("{what}, found at line {}, column {}", e.line(), e.column())
    })?;
    if json.schema != RECORD_SCHEMA {
        return Err(format!("its `schema` is not {RECORD_SCHEMA}"));
    }
    let embedding = match (json.embedding, json.embedding_b64) {
        (Some(values), _) => Some(values.into_owned()),
        (None, Some(text)) => Some(decode_embedding(&text, json.embedding_dtype.as_deref().unwrap_or("f32le"))?),
        (None, None) => None,
    };
    if let (Some(values), Some(dim)) = (&embedding, json.embedding_dim)
        && values.len() != dim as usize
    {
        return Err(format!("its embedding has {} values, embedding_dim says {dim}", values.len()));
    }
    let owned = |text: Option<Cow<str>>| text.map(Cow::into_owned);
    Ok(Record {
        uri: json.uri.into_owned(),
        id: owned(json.id),
        tags: json.tags.into_owned(),
        etag: owned(json.etag),
        version: owned(json.version),
        bytes: json.bytes,
        format: json.format.into_owned(),
        width: json.width,
        height: json.height,
        sha256: json.sha256.into_owned(),
        labels: json.labels.map(Cow::into_owned),
        heads: json.heads.map(Cow::into_owned),
        embedding_dim: json.embedding_dim.or(embedding.as_ref().map(|e| e.len() as u32)),
        embedding,
        space: json.space,
        model: json.model,
        preprocess: json.preprocess,
        precision: json.precision,
        normalize: json.normalize,
        event_time: owned(json.event_time),
        source: json.source.into_owned(),
        processed_at: json.processed_at.into_owned(),
    })
}

fn decode_embedding(text: &str, dtype: &str) -> Result<Vec<f32>, String> {
    let bytes = STANDARD.decode(text).map_err(|e| format!("embedding_b64: {e}"))?;
    let width = match dtype {
        "f32le" => 4,
        "f16le" => 2,
        _ => return Err("its embedding_dtype is neither f32le nor f16le".into()),
    };
    if !bytes.len().is_multiple_of(width) {
        return Err(format!("embedding_b64 has {} bytes, which is no multiple of {width}", bytes.len()));
    }
    Ok(bytes
        .chunks_exact(width)
        .map(|c| match *c {
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            [a, b] => f16::from_le_bytes([a, b]).to_f32(),
            _ => 0.0,
        })
        .collect())
}

#[derive(Serialize)]
struct JsonRejection<'a> {
    schema: &'a str,
    uri: Option<String>,
    id: Option<&'a str>,
    stage: &'a str,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    source: SourceRef,
}

/// Appends a rejection to `out`, without a line end. Where the input could not even be read as a reference, its beginning stands in `input`, without
/// user information and signatures.
pub fn rejection(item: &Item, rejection: &Rejection, out: &mut Vec<u8>) {
    let reference = item.reference();
    let input = match (reference, &item.message.value) {
        (None, Some(value)) => {
            let beginning = String::from_utf8_lossy(&value[..value.len().min(INPUT_READ)]);
            Some(scrubbed(&beginning).chars().take(INPUT_LIMIT).collect())
        }
        _ => None,
    };
    let json = JsonRejection {
        schema: REJECTION_SCHEMA,
        uri: reference.map(|r| r.location.to_string()),
        id: reference.and_then(|r| r.id.as_deref()),
        stage: rejection.stage.name(),
        reason: rejection.reason.name(),
        detail: &rejection.detail,
        input,
        source: source_ref(item),
    };
    write(&json, out);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any record whose values JSON can carry.
    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let text = || proptest::option::of(".{0,12}");
        let labels = proptest::collection::vec((0u32..1000, ".{0,8}", 0f32..1.0), 0..4);
        (
            ".{1,20}",
            text(),
            proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..3),
            text(),
            proptest::option::of(labels),
            proptest::option::of(proptest::collection::vec(-1e4f32..1e4, 0..40)),
            any::<bool>(),
        )
            .prop_map(|(uri, id, tags, etag, labels, embedding, kafka)| Record {
                uri,
                id,
                tags,
                version: None,
                etag,
                bytes: 12,
                format: "png".into(),
                width: 3,
                height: 4,
                sha256: "9f".into(),
                labels: labels
                    .map(|list| list.into_iter().map(|(index, label, score)| Label { index, label: label.into(), score }).collect()),
                heads: None,
                embedding_dim: embedding.as_ref().map(|e| e.len() as u32),
                embedding,
                space: "c0ffee12d41b".into(),
                model: "tiny@sha256:3fa9c2d41b07".into(),
                preprocess: "sha256:90ab12cd34ef".into(),
                precision: "f32".into(),
                normalize: "none".into(),
                event_time: None,
                source: if kafka {
                    SourceRef::Kafka { topic: "refs".into(), partition: 3, offset: 991, item: 0, timestamp: super::super::rfc3339(1) }
                } else {
                    SourceRef::Listing { listing: "photos".into(), key: "a.png".into() }
                },
                processed_at: "2026-11-23T19:13:30.120Z".into(),
            })
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was(expected in any_record(), f32_bytes in any::<bool>()) {
            let form = JsonForm::whole(if f32_bytes { Encoding::F32 } else { Encoding::Array });
            let mut out = Vec::new();
            record(&expected, &form, &mut out);
            prop_assert_eq!(parse_record(&out).unwrap(), expected);
        }

        #[test]
        fn half_precision_loses_no_more_than_half_precision(expected in any_record()) {
            let mut out = Vec::new();
            record(&expected, &JsonForm::whole(Encoding::F16), &mut out);
            let read = parse_record(&out).unwrap();
            for (a, b) in expected.embedding.iter().flatten().zip(read.embedding.iter().flatten()) {
                prop_assert!((a - b).abs() <= a.abs() / 1024.0 + 1e-7);
            }
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_record(&bytes);
        }
    }

    #[test]
    fn the_input_of_a_rejection_repeats_no_user_information_and_no_signatures() {
        let written = |value: &[u8]| {
            let partition = crate::flow::Partition::new("refs", 0);
            let position = crate::flow::Position { partition: partition.clone(), offset: 0, item: 0 };
            let message = crate::flow::Message {
                partition,
                offset: 0,
                key: None,
                value: Some(bytes::Bytes::copy_from_slice(value)),
                headers: Vec::new(),
                timestamp_ms: None,
                trusted: false,
                listing: None,
                memory: crate::flow::Reservation::none(),
            };
            let parsed = crate::reference::parse(Some(value), &[]).remove(0);
            let crate::flow::ParsedItem::Bad(detail) = &parsed else { panic!("{parsed:?}") };
            let why = Rejection::new(crate::flow::Stage::Parse, crate::flow::Reason::BadReference, detail.clone());
            let mut out = Vec::new();
            rejection(&Item { message: message.into(), position, parsed, last: true, trace: None }, &why, &mut out);
            String::from_utf8(out).unwrap()
        };
        for value in [
            "s3://user:hunter2@b/k",
            "ftp://user:hunter2@b/k?X-Amz-Signature=hunter2&sig=hunter2&token=hunter2",
            r#"{"uri": "https://user:hunter2@h:x/a?X-Amz-Credential=hunter2\u0026sig=hunter2"}"#,
            r#"{"uri": "https:\/\/user:hunter2@h:x\/a"#,
        ] {
            let line = written(value.as_bytes());
            assert!(line.contains(r#""input":""#) && !line.contains("hunter2"), "{line}");
        }
        // A secret that the cut would break in two.
        let long = format!("{}https://user:hunter2{}@h/a", "x".repeat(1000), "hunter2".repeat(100));
        assert!(!written(long.as_bytes()).contains("hunter2"));
        assert!(written("é".repeat(2000).as_bytes()).contains(&"é".repeat(1024)));
    }

    #[test]
    fn an_error_repeats_nothing_of_what_is_no_record() {
        for text in [r#"{"schema":"hunter2"}"#, r#"{"schema":"lakelens.record.v1","uri":"a","bytes":"hunter2"}"#, "hunter2"] {
            let error = parse_record(text.as_bytes()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_contracts_example_is_a_record() {
        let text = r#"{"schema": "lakelens.record.v1", "uri": "s3://lake/a.jpg", "id": "sku-1", "tags": {"a": "b"}, "etag": "d581...", "version": null,
            "bytes": 109576, "format": "jpeg", "width": 500, "height": 375, "sha256": "9f2c...", "new in 1.1": 7,
            "labels": [{"index": 281, "label": "tabby", "score": 0.83}], "heads": {"season": [{"index": 2, "label": "winter", "score": 0.9}]},
            "embedding": [0.1, 0.2], "embedding_dim": 2, "space": "c0ffee12d41b",
            "model": "resnet50@sha256:3fa9c2d41b07", "preprocess": "sha256:90ab12cd34ef", "precision": "f32", "normalize": "none",
            "event_time": null, "source": {"topic": "image-refs", "partition": 3, "offset": 991, "item": 0, "timestamp": "2026-11-23T19:13:30.000Z"},
            "processed_at": "2026-11-23T19:13:30.120Z"}"#;
        let read = parse_record(text.as_bytes()).unwrap();
        assert_eq!(read.heads.as_ref().unwrap()["season"][0].index, 2);
        let mut out = Vec::new();
        record(&read, &JsonForm { labels: true, embedding: false, encoding: Encoding::Array }, &mut out);
        let written = String::from_utf8(out).unwrap();
        assert!(written.contains(r#""labels":[{"index":281,"label":"tabby","score":0.83}]"#), "{written}");
        assert!(!written.contains(r#""embedding":"#) && written.contains(r#""embedding_dim":2"#), "{written}");
    }
}
