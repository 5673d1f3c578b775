//! Against a real broker, where `LAKELENS_TEST_KAFKA` names one.

use std::sync::Arc;

use proptest::prelude::*;
use rdkafka::Message as _;
use rdkafka::message::{Headers, OwnedMessage};

use super::dead_letters::letter;
use super::*;
use crate::flow::{AckToken, Header as FlowHeader, Item, Location, Message, ParsedItem, Reservation, SourceRef};
use crate::kafka::tests::{OwnStack, broker, new_topic, none, read_all};

fn encode(record: &Record, which: Which, _encoding: config::Encoding) -> Vec<u8> {
    match which {
        Which::Labels => format!("labels of {}", record.sha256).into_bytes(),
        Which::Embeddings => format!("embedding of {}", record.sha256).into_bytes(),
        Which::Whole => record.sha256.clone().into_bytes(),
    }
}

fn record(uri: &str, body: &str) -> Record {
    let position = Position { partition: Partition::new("refs", 3), offset: 0, item: 0 };
    Record {
        uri: uri.into(),
        sha256: body.into(),
        embedding: None,
        embedding_dim: None,
        space: "c0ffee12d41b".into(),
        source: SourceRef::Listing { listing: "l".into(), key: "k".into() },
        ..crate::sink::conformance::record(&position)
    }
}

fn message(offset: i64, value: Option<&[u8]>, headers: Vec<FlowHeader>) -> Message {
    Message {
        partition: Partition::new("refs", 3),
        offset,
        key: Some(Bytes::from_static(b"key")),
        value: value.map(Bytes::copy_from_slice),
        headers,
        timestamp_ms: Some(1_700_000_000_123),
        trusted: false,
        listing: None,
        memory: Reservation::none(),
    }
}

fn item(message: Message, number: u32) -> Arc<Item> {
    let position = Position { partition: message.partition.clone(), offset: message.offset, item: number };
    Arc::new(Item { message: Arc::new(message), position, parsed: ParsedItem::Bad(String::new()), last: true, trace: None })
}

fn delivery(offset: i64, outcome: Outcome) -> Delivery {
    let item = item(message(offset, Some(b"ref"), Vec::new()), 0);
    Delivery { token: AckToken::detached(item.position.partition.clone(), offset), item, outcome }
}

fn delivered(offset: i64, uri: &str, body: &str) -> Delivery {
    delivery(offset, Outcome::Record(Box::new(record(uri, body))))
}

async fn sink(broker: &str, config: config::KafkaSink) -> KafkaSink {
    KafkaSink::start(&config, broker, &none(), &config::Output::default(), encode, None).await.expect("started")
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    message.headers()?.iter().find(|h| h.key == name).map(|h| String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_tombstones_lie_where_java_would_put_them() {
    let Some(broker) = broker() else { return };
    let (labels, embeddings) = (new_topic(&broker, 12, &[]).await, new_topic(&broker, 12, &[]).await);
    let mut sink =
        sink(&broker, config::KafkaSink { labels: Some(labels.clone()), embeddings: Some(embeddings.clone()), ..Default::default() }).await;
    // Hashes from the tests of Kafka's own Utils.murmur2.
    let vectors = [
        ("21", -973_932_308i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let mut all: Vec<Delivery> = vectors.iter().enumerate().map(|(n, (key, _))| delivered(n as i64, key, key)).collect();
    let mut image = ImageRef::new(Location::S3 { bucket: "lake".into(), key: "a b.jpg".into() });
    image.id = Some("not the key".into());
    all.push(delivery(6, Outcome::Tombstone(Box::new(image))));
    all.push(delivered(7, "s3://lake/a b.jpg", "again"));
    all.push(delivery(8, Outcome::Rejected(Rejection::new(Stage::Parse, Reason::BadReference, "passed over"))));
    for delivery in &all {
        sink.check(delivery).expect("fits");
    }
    sink.write(&all).await.expect("written");
    assert_eq!(sink.held(&Partition::new("refs", 3)), Some(0));
    sink.flush(Flush::All).await.expect("flushed");
    assert_eq!(sink.held(&Partition::new("refs", 3)), None);
    assert!(sink.encoded.is_empty());

    for (topic, what) in [(&labels, "labels of "), (&embeddings, "embedding of ")] {
        let read = read_all(&broker, topic);
        assert_eq!(read.len(), 8);
        for (key, hash) in vectors {
            let found = read.iter().find(|m| m.key() == Some(key.as_bytes())).expect("there");
            assert_eq!(found.partition(), (hash & 0x7fff_ffff) % 12, "{key}");
            assert_eq!(found.payload().map(String::from_utf8_lossy).as_deref(), Some(&*format!("{what}{key}")));
            assert_eq!(header(found, "lakelens.space").as_deref(), Some("c0ffee12d41b"));
            assert_eq!(header(found, "lakelens.schema").as_deref(), Some("lakelens.record.v1"));
        }
        let of_image: Vec<_> = read.iter().filter(|m| m.key() == Some(b"s3://lake/a b.jpg")).collect();
        assert_eq!(of_image.len(), 2);
        assert_eq!(of_image[0].partition(), of_image[1].partition());
        assert!(of_image[0].payload().is_none() && of_image[1].payload().is_some(), "the tombstone came first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_check_lets_through_the_topic_takes() {
    let Some(broker) = broker() else { return };
    let topic = new_topic(&broker, 1, &[("max.message.bytes", "3000")]).await;
    let mut sink = sink(&broker, config::KafkaSink { records: Some(topic.clone()), ..Default::default() }).await;
    // Text that lz4 cannot make smaller, so that the check is not met by compression.
    let noise = |len: usize| (0..len).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect::<String>();
    let mut largest = 0;
    for len in (2700..3100).rev() {
        let delivery = delivered(len as i64, "uri", &noise(len));
        match sink.check(&delivery) {
            Ok(()) => {
                largest = largest.max(len);
                sink.write(std::slice::from_ref(&delivery)).await.expect("written");
            }
            Err(rejection) => assert_eq!((rejection.stage, rejection.reason), (Stage::Deliver, Reason::RecordTooLarge)),
        }
    }
    sink.flush(Flush::All).await.expect("all that passed the check is taken");
    assert!((2750..3000).contains(&largest), "{largest}");
    assert_eq!(read_all(&broker, &topic).len(), largest - 2700 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_carry_the_input_and_the_reason() {
    let Some(broker) = broker() else { return };
    let topic = new_topic(&broker, 4, &[("max.message.bytes", "6000")]).await;
    let mut sink = KafkaDeadLetters::start(&topic, &broker, &none(), None).await.expect("started");
    let own = vec![("trace".to_owned(), Some(Bytes::from_static(b"t1"))), ("trace".to_owned(), None)];
    let rejected = |m: Message, number: u32| {
        let item = item(m, number);
        let outcome = Outcome::Rejected(Rejection::new(Stage::Fetch, Reason::NotFound, "there is no such key"));
        Delivery { token: AckToken::detached(item.position.partition.clone(), item.position.offset), item, outcome }
    };
    let mut recent = message(41, Some(b"[1, 2]"), own);
    let now = chrono::Utc::now().timestamp_millis() - 60_000;
    recent.timestamp_ms = Some(now);
    let noise: Vec<u8> = (0..20_000).map(|_| rand::random()).collect();
    let all = [rejected(recent, 1), rejected(message(42, Some(&noise), Vec::new()), 0), rejected(message(43, None, Vec::new()), 0)];
    sink.write(&all).await.expect("written");
    sink.flush(Flush::All).await.expect("flushed");
    let read = read_all(&broker, &topic);
    let at = |offset: &str| read.iter().find(|m| header(m, "lakelens.source.offset").as_deref() == Some(offset)).expect("there");
    let first = at("41");
    assert_eq!((first.key(), first.payload()), (Some(&b"key"[..]), Some(&b"[1, 2]"[..])));
    assert_eq!(first.timestamp().to_millis(), Some(now));
    let headers = first.headers().expect("some");
    assert_eq!((headers.get(0).key, headers.get(0).value), ("trace", Some(&b"t1"[..])));
    assert_eq!((headers.get(1).key, headers.get(1).value), ("trace", None));
    for (name, value) in [
        ("lakelens.error.stage", "fetch"),
        ("lakelens.error.reason", "not_found"),
        ("lakelens.error.detail", "there is no such key"),
        ("lakelens.source.topic", "refs"),
        ("lakelens.source.partition", "3"),
        ("lakelens.source.item", "1"),
        ("lakelens.source.timestamp", &now.to_string()),
        ("lakelens.attempt", "1"),
        ("lakelens.origin.topic", "refs"),
        ("lakelens.origin.offset", "41"),
        ("lakelens.origin.reason", "not_found"),
        ("__connect.errors.topic", "refs"),
        ("__connect.errors.partition", "3"),
        ("__connect.errors.offset", "41"),
        ("__connect.errors.stage", "fetch"),
        ("__connect.errors.exception.message", "there is no such key"),
    ] {
        assert_eq!(header(first, name).as_deref(), Some(value), "{name}");
    }
    let second = at("42");
    let kept = second.payload().expect("cut, not left out");
    assert!(kept.len() > 4000 && noise.starts_with(kept));
    assert_eq!(header(second, "lakelens.error.truncated").as_deref(), Some("value"));
    let third = at("43");
    assert_eq!(third.payload(), None);
    // Years old: under its own timestamp the topic would delete it at once.
    assert!(third.timestamp().to_millis() > Some(now));
    assert_eq!(header(third, "lakelens.source.timestamp").as_deref(), Some("1700000000123"));
}

#[test]
fn a_second_failure_keeps_the_first_ones_origin() {
    let rejection = |reason| Rejection::new(Stage::Fetch, reason, "why");
    let first = letter(&item(message(41, Some(b"v"), Vec::new()), 1), &rejection(Reason::Unavailable), 1 << 20);
    let mut redriven = message(7, Some(b"v"), first.headers);
    redriven.partition = Partition::new("again", 0);
    redriven.headers.push(("lakelens.only-item".into(), Some(Bytes::from_static(b"1"))));
    let second = letter(&item(redriven, 1), &rejection(Reason::NotFound), 1 << 20);
    let all = |name: &str| second.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(all("lakelens.attempt"), ["2"]);
    assert_eq!(all("lakelens.source.topic"), ["again"]);
    assert_eq!(all("lakelens.error.reason"), ["not_found"]);
    assert_eq!(all("lakelens.origin.topic"), ["refs"]);
    assert_eq!(all("lakelens.origin.offset"), ["41"]);
    assert_eq!(all("lakelens.origin.reason"), ["unavailable"]);
    assert!(all("lakelens.only-item").is_empty());
}

proptest! {
    #[test]
    fn a_letter_fits_whatever_the_input(
        value in proptest::option::of(0usize..30_000),
        key in 0usize..10_000,
        headers in proptest::collection::vec(("(lakelens\\.|lakelens\\.origin\\.|lakelens\\.error\\.)?[a-z]{1,9}", proptest::option::of(0usize..5000)), 0..20),
        detail in "\\PC{0,3000}",
        limit in 6_000usize..40_000,
    ) {
        let bytes = |n: usize| Bytes::from(vec![b'x'; n]);
        let mut m = message(1, None, headers.into_iter().map(|(n, v)| (n, v.map(bytes))).collect());
        (m.key, m.value) = (Some(bytes(key)), value.map(bytes));
        let before = m.value.clone();
        let made = letter(&item(m, 0), &Rejection::new(Stage::Parse, Reason::BadReference, detail), limit);
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        let size = encoded_size(len(&made.key), len(&made.value), made.headers.iter().map(|(n, v)| n.len() + len(v)));
        prop_assert!(size <= limit, "{} > {}", size, limit);
        prop_assert_eq!(made.value.is_some(), before.is_some());
        let whole = made.value == before && len(&made.key) == key;
        prop_assert!(whole || made.headers.iter().any(|(n, _)| n == "lakelens.error.truncated"));
        for name in ["lakelens.error.reason", "lakelens.source.offset", "lakelens.source.item"] {
            prop_assert_eq!(made.headers.iter().filter(|(n, _)| n == name).count(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_named_and_nothing_starts() {
    let Some(broker) = broker() else { return };
    let config = config::KafkaSink { records: Some("test-not-there".into()), ..Default::default() };
    let error = KafkaSink::start(&config, &broker, &none(), &config::Output::default(), encode, None).await.err().expect("refused");
    assert!(error.to_string().contains("no topic `test-not-there`"), "{error}");
}

/// Only where `LAKELENS_TEST_OUTAGE` is set, since it starts a broker of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_for_a_broker_that_is_away() {
    let Some(stack) = OwnStack::up(9492).await else { return };
    let broker = &*stack.broker;
    let topic = new_topic(broker, 3, &[]).await;
    let mut sink = sink(broker, config::KafkaSink { records: Some(topic.clone()), ..Default::default() }).await;
    let wave = |from: i64| (from..from + 500).map(|n| delivered(n, &format!("uri-{n}"), &n.to_string())).collect::<Vec<_>>();
    sink.write(&wave(0)).await.expect("written");
    sink.flush(Flush::All).await.expect("flushed");
    stack.order("broker-stop").await;
    sink.write(&wave(500)).await.expect("queued");
    {
        let flush = sink.flush(Flush::All);
        tokio::pin!(flush);
        assert!(tokio::time::timeout(std::time::Duration::from_secs(8), &mut flush).await.is_err(), "nothing can be durable now");
        stack.order("broker-start").await;
        tokio::time::timeout(std::time::Duration::from_secs(60), flush).await.expect("in time").expect("flushed");
    }
    let mut read: Vec<i64> = read_all(broker, &topic)
        .iter()
        .map(|m| String::from_utf8_lossy(m.payload().expect("a value")).parse().expect("a number"))
        .collect();
    read.sort_unstable();
    assert_eq!(read, (0..1000).collect::<Vec<_>>(), "each once");
    drop(sink);
}
