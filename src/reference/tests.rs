use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::flow::Location;

/// How many cases a property is tried with: few in the suite, a million in a fuzzing run.
fn cases() -> ProptestConfig {
    let cases = std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, max_global_rejects: u32::MAX, ..ProptestConfig::default() }
}

fn read(value: &str) -> Vec<ParsedItem> {
    parse(Some(value.as_bytes()), &[])
}

fn only(value: &str) -> ParsedItem {
    let mut items = read(value);
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

fn one(value: &str) -> ImageRef {
    match only(value) {
        ParsedItem::Image(reference) => reference,
        other => panic!("{value}: {other:?}"),
    }
}

fn detail(value: &str) -> String {
    match only(value) {
        ParsedItem::Bad(detail) => detail,
        other => panic!("{value}: {other:?}"),
    }
}

fn s3(bucket: &str, key: &str) -> Location {
    Location::S3 { bucket: bucket.into(), key: key.into() }
}

/// A notification of one record, as AWS documents it, with the parts that the stores differ in.
fn event(name: &str, key: &str, etag: &str, configuration: &str, host: &str) -> String {
    serde_json::json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-west-2", "eventTime": "1970-01-01T00:00:00.000Z", "eventName": name,
        "userIdentity": {"principalId": "A"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": host},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": configuration,
               "bucket": {"name": "lake", "ownerIdentity": {"principalId": "A"}, "arn": "arn:aws:s3:::lake"},
               "object": {"key": key, "size": 1024, "eTag": etag, "versionId": null, "sequencer": "0055AED6DCD90281E5"}}}]})
    .to_string()
}

#[test]
fn a_plain_uri_loses_one_line_ending_and_nothing_else() {
    assert_eq!(one("s3://lake/a b+c%20?x#é.jpg\r\n").location, s3("lake", "a b+c%20?x#é.jpg"));
    assert_eq!(one("s3://lake/a.jpg \n").location, s3("lake", "a.jpg "));
    assert_eq!(one("s3://lake//a.jpg\n\n").location, s3("lake", "/a.jpg\n"));
    assert_eq!(one("\"s3://lake/a.jpg\"").location, s3("lake", "a.jpg"));
}

#[test]
fn the_schemes() {
    assert_eq!(one("file:///photos/a%20b.jpg").location, Location::File("/photos/a b.jpg".into()));
    assert_eq!(one("FILE://localhost/a").location, Location::File("/a".into()));
    assert!(matches!(one("https://example.com/a?sig=1").location, Location::Http(_)));
    let wrong = [
        "",
        "  ",
        "a.jpg",
        "/photos/a.jpg",
        "s3://",
        "s3://lake",
        "s3://lake/",
        "s3:///a",
        "s3://../a",
        "s3://la ke/a",
        "file://host/a",
        "file://a.jpg",
        "file:///",
        "file:///a%00b",
        "http://",
        "http://exa mple.com/",
        "http://a:99999/",
        "ftp://a/b",
        "s3a://b/k",
        "://x",
        "https://a/b\tc",
    ];
    for uri in wrong {
        assert!(!detail(uri).is_empty());
    }
}

#[test]
fn the_json_forms() {
    let full = one(r#"{"uri":"s3://lake/a.jpg","etag":"\"d5\"","version":"v1","id":"sku-1","tags":{"a":"b"},"more":[1]}"#);
    assert_eq!(full.location, s3("lake", "a.jpg"));
    assert_eq!((full.etag.as_deref(), full.version.as_deref(), full.id.as_deref()), (Some("d5"), Some("v1"), Some("sku-1")));
    assert_eq!(full.tags, [("a".to_owned(), "b".to_owned())].into());
    assert_eq!(one(r#" {"bucket":"lake","key":"a+b%20c"}"#).location, s3("lake", "a+b%20c"));
    assert_eq!(one(r#"{"uri":"s3://l/k","etag":null,"id":null,"tags":null}"#), ImageRef::new(s3("l", "k")));
}

#[test]
fn an_id_keeps_its_digits() {
    let with = |id: &str| format!(r#"{{"uri":"s3://l/k","id":{id}}}"#);
    for id in ["18446744073709551615", "-9223372036854775808", "0", "1.0", "-0.25", "123456789.012345"] {
        assert_eq!(one(&with(id)).id.as_deref(), Some(id));
    }
    for id in ["12345678901234567890123", "1e30", "0.1234567890123456"] {
        assert!(detail(&with(id)).contains("write it as text"), "{id}");
        assert_eq!(one(&with(&format!("\"{id}\""))).id.as_deref(), Some(id));
    }
    assert!(detail(&with("1e400")).contains("a number out of range"));
}

#[test]
fn an_array_is_numbered_as_it_stands_and_one_bad_entry_is_one_bad_item() {
    let items = read(r#"["s3://l/a", {"bucket":"l","key":"b"}, 7, {"uri":8}, ["s3://l/c"], null, {"uri":"s3://l/d"}]"#);
    assert_eq!(items.len(), 7);
    let good: Vec<bool> = items.iter().map(|i| matches!(i, ParsedItem::Image(_))).collect();
    assert_eq!(good, [true, true, false, false, false, false, true]);
    assert_eq!(only("[]"), ParsedItem::Skip(Skip::Empty));
    assert_eq!(parse(None, &[]), [ParsedItem::Skip(Skip::Null)]);
    assert_eq!(read(&format!("[{}0]", "0,".repeat(MAX_ITEMS - 1))).len(), MAX_ITEMS);
    assert!(detail(&format!("[{}0]", "0,".repeat(MAX_ITEMS))).contains("65536"));
}

#[test]
fn what_is_wrong_is_said_by_field() {
    for (value, part) in [
        (r#"{"uri":1}"#, "`uri` must be text, not a number"),
        (r#"{"uri":"s3://l/k","uri":"s3://l/k"}"#, "duplicate field `uri`"),
        (r#"{"uri":"s3://l/k","bucket":"l","key":"k"}"#, "both `uri`"),
        (r#"{"bucket":"l"}"#, "`bucket` without `key`"),
        (r#"{"uri":"s3://l/k","id":true}"#, "`id` must be"),
        (r#"{"uri":"s3://l/k","tags":{"a":1}}"#, "`tags` must be text"),
        (r#"{"uri":"s3://l/k","tags":{"a":"1","a":"2"}}"#, "twice in `tags`"),
        (r#"{"uri":"s3://l/k","tags":[]}"#, "`tags` must be an object"),
        (r#"{"uri":"s3://l/k","etag":"a\nb"}"#, "`etag`"),
        (r#"{"uri":"\ud800"}"#, "malformed at line 1"),
        ("{}", "neither `uri`"),
        (r#"{"uri":"#, "too early at line 1"),
        (r#"{"uri" "s3://l/k"}"#, "malformed at line 1"),
        (r#"{"Records":{}}"#, "`Records` must be an array"),
        (r#"{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"l"},"object":{}}}]}"#, "no `key`"),
    ] {
        assert!(detail(value).contains(part), "{value}: {}", detail(value));
    }
    let tags = |n: usize| format!(r#"{{"uri":"s3://l/k","tags":{{"a":"{}"}}}}"#, "x".repeat(n));
    assert_eq!(one(&tags(MAX_TAGS - 1)).tags["a"].len(), MAX_TAGS - 1);
    assert!(detail(&tags(MAX_TAGS)).contains("16384"));
    assert!(matches!(&parse(Some(b"s3://l/\xff"), &[])[..], [ParsedItem::Bad(d)] if d.contains("byte 7")));
    assert!(detail(&"[".repeat(1 << 20)).contains("malformed at line 1"));
    assert!(detail(&format!("s3://l/{}", "k".repeat(1025))).contains("1024"));
    assert!(detail(&format!("http://h/{}", "k".repeat(8192))).contains("8192"));
    assert!(detail(&format!("file:///{}", "k".repeat(4096))).contains("4096"));
    assert!(detail(&" ".repeat((16 << 20) + 1)).contains("16777216"));
}

#[test]
fn a_detail_repeats_nothing_of_the_message() {
    for value in [
        "s3://user:hunter2@b/k",
        "hunter2://b/k",
        "ftp://user:hunter2@b/k?X-Amz-Signature=hunter2&sig=hunter2&token=hunter2",
        "http://user:hunter2@:99999/?token=hunter2",
        "file://hunter2/x",
        r#"{"hunter2":1}"#,
        r#"{"uri":"s3://l/k","tags":{"hunter2":"hunter2","hunter2":"x"}}"#,
        r#"{"bucket":"hunter2 ","key":"k"}"#,
        r#"{"uri" hunter2}"#,
        r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":"hunter2"}]}"#,
        r#"{"Type":"Notification","Message":"hunter2"}"#,
        "https://user:hunter2@exa mple/?X-Amz-Signature=hunter2",
        r#"{"uri":["hunter2"]}"#,
        r#"{"uri":"hunter2"}"#,
        r#"{"uri":"s3://l/k","tags":"hunter2"}"#,
        "hunter2",
        r#"{"uri":"s3://l/k","id":{"hunter2":1}}"#,
    ] {
        assert!(!detail(value).contains("hunter2"), "{}", detail(value));
    }
}

#[test]
fn aws_encodes_the_key_and_versitygw_does_not() {
    let aws = one(&event("ObjectCreated:Put", "a+b%2Bc/%C3%A9.jpg", "d41d8cd98f00b204e9800998ecf8427e", "images", "FMyUVURIY8/IgAtTv8xRj"));
    assert_eq!((&aws.location, &aws.or_else), (&s3("lake", "a b+c/é.jpg"), &None));
    assert_eq!(aws.etag.as_deref(), Some("d41d8cd98f00b204e9800998ecf8427e"));
    assert_eq!((aws.version, aws.event_time.as_deref()), (None, Some("1970-01-01T00:00:00.000Z")));

    for key in ["a b+c/é.jpg", "a+b%20c.jpg", "100%.jpg"] {
        let versity = one(&event("s3:ObjectCreated:Put", key, "\"d41d8cd98f00b204e9800998ecf8427e\"", "kafka-global", ""));
        assert_eq!((versity.location, versity.or_else), (s3("lake", key), None));
        assert_eq!(versity.etag, aws.etag);
    }
}

#[test]
fn an_event_that_leaves_the_encoding_open_carries_both_readings() {
    let open = one(&event("ObjectCreated:Put", "a+b.jpg", "d5", "x", ""));
    assert_eq!((open.location, open.or_else), (s3("lake", "a b.jpg"), Some(s3("lake", "a+b.jpg"))));
    let same = one(&event("ObjectCreated:Put", "ab.jpg", "d5", "x", ""));
    assert_eq!((same.location, same.or_else), (s3("lake", "ab.jpg"), None));
    // A form's encoder would not have left the space.
    let raw = one(&event("ObjectCreated:Put", "a +b.jpg", "d5", "x", ""));
    assert_eq!((raw.location, raw.or_else), (s3("lake", "a +b.jpg"), None));
}

#[test]
fn minio_gives_the_raw_key_beside() {
    let minio = |top: &str| {
        format!(
            r#"{{"EventName":"s3:ObjectCreated:Put",{top}"Records":[{{"eventSource":"minio:s3","eventName":"s3:ObjectCreated:Put",
            "eventTime":"2026-11-23T19:13:30.000Z","responseElements":{{"x-amz-id-2":"dd9025"}},
            "s3":{{"configurationId":"Config","bucket":{{"name":"lake"}},"object":{{"key":"dir%2Fa+b%2Bc.jpg","eTag":"d5","versionId":"v7"}}}}}}]}}"#
        )
    };
    for top in ["", r#""Key":"lake/dir/a b+c.jpg","#] {
        let reference = one(&minio(top));
        assert_eq!((reference.location, reference.or_else), (s3("lake", "dir/a b+c.jpg"), None));
        assert_eq!(reference.version.as_deref(), Some("v7"));
    }
}

#[test]
fn events_that_create_nothing() {
    for name in ["s3:ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"] {
        assert!(matches!(only(&event(name, "a.jpg", "", "kafka-global", "")), ParsedItem::Deleted(r) if r.location == s3("lake", "a.jpg")));
    }
    let other = ParsedItem::Skip(Skip::OtherEvent);
    assert_eq!(only(&event("ObjectTagging:Put", "a.jpg", "", "x", "")), other);
    assert_eq!(only(&event("LifecycleTransition", "a.jpg", "", "x", "")), other);
    assert_eq!(only(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"b"}"#), other);
    assert_eq!(only(r#"{"Type":"SubscriptionConfirmation","Message":"You have chosen..."}"#), other);
    assert_eq!(only(r#"{"Records":[]}"#), ParsedItem::Skip(Skip::Empty));
}

#[test]
fn events_in_an_array_of_their_own_through_sns_and_from_event_bridge() {
    let notification = event("s3:ObjectCreated:Put", "a b.jpg", "\"d5\"", "kafka-global", "");
    let records = serde_json::from_str::<serde_json::Value>(&notification).expect("JSON")["Records"].to_string();
    assert_eq!(one(&records).location, s3("lake", "a b.jpg"));
    let sns = serde_json::json!({"Type": "Notification", "MessageId": "1", "Message": notification});
    assert_eq!(one(&sns.to_string()).location, s3("lake", "a b.jpg"));
    let nested = serde_json::json!({"Type": "Notification", "Message": sns.to_string()});
    assert!(detail(&nested.to_string()).contains("within another"));
    let bridge = one(r#"{"version":"0","source":"aws.s3","detail-type":"Object Created","time":"2021-11-12T00:00:00Z",
        "detail":{"bucket":{"name":"lake"},"object":{"key":"a+b%20.jpg","etag":"b1","version-id":"v1"},"reason":"PutObject"}}"#);
    assert_eq!(bridge.location, s3("lake", "a+b%20.jpg"));
    assert_eq!((bridge.etag.as_deref(), bridge.version.as_deref()), (Some("b1"), Some("v1")));
}

#[test]
fn a_reference_may_have_fields_that_an_event_has() {
    let both = r#"{"uri":"s3://l/k","Type":"Notification","Message":"x","Records":[],"detail":{},"detail-type":"Object Created","s3":{}}"#;
    assert_eq!(one(both), ImageRef::new(s3("l", "k")));
    assert_eq!(one(&format!("[{both}]")), ImageRef::new(s3("l", "k")));
}

#[test]
fn a_redriven_message_asks_for_one_item() {
    let header = |v: &str| vec![(ONLY_ITEM.to_owned(), Some(Bytes::copy_from_slice(v.as_bytes())))];
    let items = parse(Some(br#"["s3://l/a","s3://l/b",3]"#), &header("1"));
    assert_eq!(items.len(), 3);
    assert_eq!(items[1], ParsedItem::Image(ImageRef::new(s3("l", "b"))));
    assert!([0, 2].iter().all(|i| items[*i] == ParsedItem::Skip(Skip::NotAsked)));
    for wrong in ["3", "x", "-1", ""] {
        assert!(matches!(&parse(Some(br#"["s3://l/a"]"#), &header(wrong))[..], [ParsedItem::Bad(_)]), "{wrong}");
    }
}

/// JSON that is nearly a reference or an event.
fn near_json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,25}(\\.[0-9]{1,3})?",
        prop_oneof![
            Just("s3://lake/a.jpg".to_owned()),
            Just("aws:s3".into()),
            Just("minio:s3".into()),
            Just("s3:ObjectCreated:Put".into()),
            Just("ObjectRemoved:Delete".into()),
            Just("Notification".into()),
            Just("Object Created".into()),
            Just("\"d5\"".into()),
            Just("kafka-global".into()),
            Just("a+b%20c".into()),
            Just("%ff%".into()),
            Just("s3:TestEvent".into()),
            ".{0,12}"
        ]
        .prop_map(|t| serde_json::Value::from(t).to_string()),
    ];
    scalar.prop_recursive(5, 48, 6, |inner| {
        let name = proptest::sample::select(vec![
            "uri",
            "bucket",
            "key",
            "etag",
            "version",
            "id",
            "tags",
            "Records",
            "Key",
            "Event",
            "Type",
            "Message",
            "eventSource",
            "eventName",
            "eventTime",
            "responseElements",
            "s3",
            "detail-type",
            "detail",
            "time",
            "name",
            "object",
            "eTag",
            "versionId",
            "x-amz-id-2",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(","))),
            proptest::collection::vec((name, inner), 0..7)
                .prop_map(|v| format!("{{{}}}", v.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect::<Vec<_>>().join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..200), header in proptest::option::of("[0-9a-]{0,4}")) {
        let headers: Vec<Header> = header.into_iter().map(|h| (ONLY_ITEM.to_owned(), Some(Bytes::from(h)))).collect();
        prop_assert!(!parse(Some(&value), &headers).is_empty());
    }

    #[test]
    fn no_json_panics(value in near_json()) {
        prop_assert!(!read(&value).is_empty());
    }

    #[test]
    fn no_mutated_event_panics(at in any::<proptest::sample::Index>(), with in any::<u8>(), cut in any::<proptest::sample::Index>(), key in ".{0,10}") {
        let mut bytes = event("s3:ObjectCreated:Put", &key, "\"d5\"", "kafka-global", "").into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = with;
        prop_assert!(!parse(Some(&bytes), &[]).is_empty());
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(!parse(Some(&bytes), &[]).is_empty());
    }

    #[test]
    fn no_uri_panics(uri in "(s3|file|http|https|S3|ftp)?(:|://|://[a-z]{0,5}[/:@%#?]?).{0,30}") {
        let _ = location(&uri);
    }

    #[test]
    fn any_key_comes_back(bucket in "[a-z0-9][a-z0-9.-]{0,20}", first in any::<char>(), rest in any::<String>()) {
        let key = format!("{first}{rest}");
        let place = s3(&bucket, &key);
        prop_assert_eq!(location(&place.to_string()), Ok(place.clone()));
        let uri = serde_json::json!({"uri": place.to_string()}).to_string();
        prop_assert_eq!(&read(&uri), &[ParsedItem::Image(ImageRef::new(place.clone()))]);
        let parts = serde_json::json!({"bucket": bucket, "key": key}).to_string();
        prop_assert_eq!(&read(&parts), &[ParsedItem::Image(ImageRef::new(place.clone()))]);
        let place = s3("lake", &key);
        // Raw as versitygw sends it, encoded as AWS does.
        let versity = event("s3:ObjectCreated:Put", &key, "\"d5\"", "kafka-global", "");
        prop_assert_eq!(&one(&versity).location, &place);
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        prop_assert_eq!(&one(&event("ObjectCreated:Put", &encoded, "d5", "x", "FMy")).location, &place);
        let open = one(&event("ObjectCreated:Put", &key, "d5", "x", ""));
        prop_assert!(open.location == place || open.or_else == Some(place));
    }

    #[test]
    fn any_path_comes_back(path in "(/[^/.\\x00][^/\\x00]{0,11}){1,4}") {
        // No segment is `.` or `..`: the printed URI drops those.
        let place = Location::File(path.into());
        prop_assert_eq!(location(&place.to_string()), Ok(place));
    }
}
