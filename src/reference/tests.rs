use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::flow::Location;

fn s3(bucket: &str, key: &str) -> Location {
    Location::S3 { bucket: bucket.into(), key: key.into() }
}

fn image(text: &str) -> ImageRef {
    match parse(Some(text.as_bytes()), &[]).pop() {
        Some(ParsedItem::Image(reference)) => reference,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_form_of_the_contract_is_read() {
    assert_eq!(image("s3://lake/a b+c%20/é.jpg?x#y\n").location, s3("lake", "a b+c%20/é.jpg?x#y"));
    assert_eq!(image("file:///a%20b.jpg").location, Location::File("/a b.jpg".into()));
    assert!(matches!(image("https://host/a.jpg?x=1").location, Location::Http(_)));
    let whole =
        image(r#"{"uri": "s3://b/k", "etag": "\"d5\"", "version": "v1", "id": 18446744073709551615, "tags": {"a": "b"}, "more": 1}"#);
    assert_eq!(
        (whole.etag.as_deref(), whole.version.as_deref(), whole.id.as_deref()),
        (Some("d5"), Some("v1"), Some("18446744073709551615"))
    );
    assert_eq!(whole.tags["a"], "b");
    assert_eq!(image(r#"{"bucket": "b", "key": "k/ "}"#).location, s3("b", "k/ "));
    assert_eq!(image(r#""s3://b/k""#).location, s3("b", "k"));
    let several = parse(Some(br#"["s3://b/1", {"uri": "s3://b/2"}, 7]"#), &[]);
    assert_eq!(several.len(), 3);
    assert!(matches!(several[2], ParsedItem::Bad(_)));
}

#[test]
fn what_asks_for_nothing_is_skipped() {
    assert_eq!(parse(None, &[]), [ParsedItem::Skip(Skip::Null)]);
    assert_eq!(parse(Some(b"[]"), &[]), [ParsedItem::Skip(Skip::Empty)]);
    let test = br#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-01T00:00:00Z","Bucket":"lake"}"#;
    assert_eq!(parse(Some(test), &[]), [ParsedItem::Skip(Skip::OtherEvent)]);
}

fn event(name: &str, key: &str, etag: &str, version: serde_json::Value) -> Vec<u8> {
    json!({"Records": [{"eventName": name, "eventTime": "2026-01-01T00:00:00Z", "eventSource": "aws:s3",
        "s3": {"bucket": {"name": "lake"}, "object": {"key": key, "eTag": etag, "versionId": version}}}]})
    .to_string()
    .into_bytes()
}

#[test]
fn an_aws_key_is_decoded_once() {
    let value = event("ObjectCreated:Put", "a+b%2Bc%2520/%C3%A9.jpg", "d41d", json!("v7"));
    let Some(ParsedItem::Image(reference)) = parse(Some(&value), &[]).pop() else { panic!() };
    assert_eq!(reference.location, s3("lake", "a b+c%20/é.jpg"));
    assert_eq!(reference.version.as_deref(), Some("v7"));
}

#[test]
fn a_versitygw_key_is_raw() {
    for key in ["a b+c/é.jpg", "a+b.jpg", "percent%41.jpg"] {
        let value = event("s3:ObjectCreated:Put", key, "\"d41d\"", json!(null));
        let Some(ParsedItem::Image(reference)) = parse(Some(&value), &[]).pop() else { panic!() };
        assert_eq!(reference.location, s3("lake", key));
        assert_eq!(reference.etag.as_deref(), Some("d41d"));
    }
    let removed = event("s3:ObjectRemoved:Delete", "x", "", json!(null));
    assert!(matches!(parse(Some(&removed), &[])[..], [ParsedItem::Deleted(_)]));
}

#[test]
fn a_redriven_message_asks_for_one_item_only() {
    let header = vec![(ONLY_ITEM.to_owned(), Some(Bytes::from_static(b"1")))];
    let items = parse(Some(br#"["s3://b/1", "s3://b/2"]"#), &header);
    assert!(matches!(items[..], [ParsedItem::Skip(Skip::NotAsked), ParsedItem::Image(_)]));
}

#[test]
fn what_cannot_be_read_says_why() {
    for (text, word) in [
        ("", "empty"),
        ("photo.jpg", "URI"),
        ("ftp://a/b", "scheme"),
        ("s3://bucket", "key"),
        ("s3://a b/k", "bucket"),
        ("{\"uri\": 7}", "`uri` is text"),
        ("{\"uri\": \"s3://b/k\", \"tags\": {\"a\": 1}}", "tag `a`"),
        ("{", "JSON"),
        ("http://", "URL"),
        ("file://host/x", "absolute"),
    ] {
        match &parse(Some(text.as_bytes()), &[])[..] {
            [ParsedItem::Bad(detail)] => assert!(detail.contains(word), "{text}: {detail}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let tags = json!({"uri": "s3://b/k", "tags": {"a": "x".repeat(17 << 10)}}).to_string();
    assert!(matches!(&parse(Some(tags.as_bytes()), &[])[..], [ParsedItem::Bad(d)] if d.contains("16384")));
}

/// Number of cases: a few by default, as many as asked for by LAKELENS_FUZZ_CASES.
fn cases() -> ProptestConfig {
    let count = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256);
    ProptestConfig { cases: count, ..ProptestConfig::default() }
}

/// Texts that are nearly references: pieces of the grammar in any order.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("s3://"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("\"uri\":"),
        Just("\"Records\":"),
        Just("\"s3\":"),
        Just(","),
        Just("\"key\":"),
        Just("\"eventName\":\"ObjectCreated:Put\""),
        Just("\"object\":"),
        Just("\"bucket\":"),
        Just("\"name\":"),
        Just("\"b/k%ff\""),
        Just("null"),
        Just("1e999"),
        Just("\"tags\":"),
        Just("file:///%00"),
        Just("http://[::1]/"),
        Just("\u{feff}"),
        Just("%"),
        Just("\\u0000"),
        Just("\"detail-type\":\"Object Created\""),
        Just("\"detail\":"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_bytes_panic_and_none_are_lost(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(!parse(Some(&bytes), &[]).is_empty());
    }

    #[test]
    fn nothing_like_a_reference_panics(text in nearly()) {
        prop_assert!(!parse(Some(text.as_bytes()), &[]).is_empty());
    }

    #[test]
    fn any_key_survives(key in "[^\r\n]{1,60}") {
        prop_assert_eq!(image(&format!("s3://lake/{key}")).location, s3("lake", &key));
        let json = json!({"bucket": "lake", "key": key}).to_string();
        prop_assert_eq!(image(&json).location, s3("lake", &key));
    }
}
