use super::*;
use crate::flow::{ImageRef, Location, Skip};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// A parser for tests: `image`, `bad`, `skip`, several separated by blanks.
fn parse(value: Option<&[u8]>, _: &[Header]) -> Vec<ParsedItem> {
    let text = value.map(String::from_utf8_lossy).unwrap_or_default();
    let image = || ImageRef::new(Location::S3 { bucket: "b".into(), key: "k".into() });
    text.split(' ')
        .map(|word| match word {
            "image" => ParsedItem::Image(image()),
            "gone" => ParsedItem::Deleted(image()),
            "skip" => ParsedItem::Skip(Skip::Null),
            word => match word.split_once('#') {
                // `key#etag#second of the event`
                Some((key, rest)) => {
                    let (etag, second) = rest.split_once('#').expect("a test");
                    let mut reference = ImageRef::new(Location::S3 { bucket: "b".into(), key: key.into() });
                    reference.etag = Some(etag.into());
                    reference.event_time = Some(format!("2026-11-23T00:00:{second}Z"));
                    ParsedItem::Image(reference)
                }
                None => ParsedItem::Bad("a test".into()),
            },
        })
        .collect()
}

fn record(topic: &str, partition: i32, offset: i64, item: u32) -> String {
    let source = serde_json::json!({ "topic": topic, "partition": partition, "offset": offset, "item": item, "timestamp": null });
    serde_json::json!({ "schema": "lakelens.record.v1", "embedding": [0.5, -1e-3], "source": source, "processed_at": "x" }).to_string()
}

struct Stack {
    brokers: String,
    producer: BaseProducer,
    suffix: u32,
}

impl Stack {
    fn new() -> Option<Self> {
        let Ok(brokers) = std::env::var("LAKELENS_TEST_KAFKA") else {
            eprintln!("passed over: LAKELENS_TEST_KAFKA is not set");
            return None;
        };
        let suffix = rand::random();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("transactional.id", format!("audit-test-{suffix}"))
            .create()
            .expect("a producer");
        Some(Self { brokers, producer, suffix })
    }

    async fn topic(&self, name: &str) -> String {
        let name = format!("{name}-{}", self.suffix);
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client");
        for result in
            admin.create_topics([&NewTopic::new(&name, 2, TopicReplication::Fixed(1))], &AdminOptions::new()).await.expect("created")
        {
            result.expect("created");
        }
        name
    }

    fn send(&self, topic: &str, partition: i32, value: Option<&str>, headers: OwnedHeaders) {
        let mut record = BaseRecord::<(), str>::to(topic).partition(partition).headers(headers);
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.producer.send(record).map_err(|e| e.0).expect("queued");
    }

    fn dead(&self, topic: &str, of: &str, partition: i32, offset: i64, item: u32) {
        let numbers = [("partition", i64::from(partition)), ("offset", offset), ("item", i64::from(item))];
        let mut headers = OwnedHeaders::new().insert(KafkaHeader { key: "lakelens.source.topic", value: Some(of) });
        for (name, number) in numbers {
            headers = headers.insert(KafkaHeader { key: &format!("lakelens.source.{name}"), value: Some(&number.to_string()) });
        }
        self.send(topic, 0, Some("the input"), headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_imbalance_is_found_where_it_stands() {
    let Some(stack) = Stack::new() else { return };
    let (input, labels, embeddings, dead) =
        (stack.topic("in").await, stack.topic("labels").await, stack.topic("embeddings").await, stack.topic("dead").await);
    let options = AuditOptions {
        brokers: stack.brokers.clone(),
        topic: input.clone(),
        outputs: vec![labels.clone(), embeddings.clone()],
        dead: Some(dead.clone()),
        properties: BTreeMap::new(),
        listed: 10,
    };
    let none = OwnedHeaders::new;
    let limit = Duration::from_secs(20);
    stack.producer.init_transactions(limit).expect("ready");
    stack.producer.begin_transaction().expect("begun");
    for value in ["image", "image bad skip", "gone", "image"] {
        stack.send(&input, 0, Some(value), none());
    }
    stack.send(&input, 1, Some("image"), none());
    stack.producer.commit_transaction(limit).expect("committed");
    let run = || audit(options.clone(), parse, |_| ());

    let report = run().await.expect("audited");
    let totals = report.totals();
    assert_eq!(totals.len(), 2);
    assert_eq!((totals[0].messages, totals[0].items, totals[0].skipped, totals[0].missing), (5, 7, 2, 5));
    let Err(Error::Unbalanced(text)) = report.verdict() else { panic!("everything is missing") };
    assert!(text.contains("5 missing"), "{text}");

    // What an aborted transaction wrote does not count.
    stack.producer.begin_transaction().expect("begun");
    stack.send(&labels, 0, Some(&record(&input, 0, 3, 0)), none());
    stack.producer.flush(limit).expect("written");
    stack.producer.abort_transaction(limit).expect("aborted");

    stack.producer.begin_transaction().expect("begun");
    for output in [&labels, &embeddings] {
        for (partition, offset, item) in [(0, 0, 0), (0, 1, 0), (0, 3, 0), (1, 0, 0)] {
            stack.send(output, (offset % 2) as i32, Some(&record(&input, partition, offset, item)), none());
        }
    }
    stack.dead(&dead, &input, 0, 1, 1);
    stack.dead(&dead, "another-topic", 0, 1, 1);
    stack.send(&labels, 0, Some(&record("another-topic", 0, 0, 0)), none());
    stack.send(&labels, 0, None, none());
    stack.send(&labels, 0, Some("no record"), none());
    stack.send(&dead, 0, Some("no dead letter"), none());
    stack.send(&labels, 0, Some(&record(&input, 1, 99, 0)), none());
    stack.producer.commit_transaction(limit).expect("committed");
    let report = run().await.expect("audited");
    report.verdict().expect("balanced");
    assert!(report.findings.is_empty());
    assert_eq!((report.of_other_topics, report.tombstones, report.unreadable, report.later), (2, 1, 2, 1));
    let totals = report.totals();
    assert_eq!((totals[1].published, totals[1].rejected, totals[1].skipped, totals[1].items), (4, 1, 2, 7));
    assert!(report.to_string().ends_with("\nbalanced"), "{report}");

    stack.producer.begin_transaction().expect("begun");
    stack.send(&labels, 1, Some(&record(&input, 0, 0, 0)), none());
    stack.send(&embeddings, 1, Some(&record(&input, 0, 2, 0)), none());
    stack.send(&embeddings, 1, Some(&record(&input, 7, 0, 0)), none());
    stack.dead(&dead, &input, 1, 0, 0);
    stack.producer.commit_transaction(limit).expect("committed");
    let report = run().await.expect("audited");
    let at = |fault, output: &str, partition, offset, item| Finding { fault, output: output.into(), partition, offset, item };
    let expected = [
        at(Fault::Unasked, &embeddings, 0, 2, 0),
        at(Fault::Unasked, &embeddings, 7, 0, 0),
        at(Fault::Doubled, &labels, 0, 0, 0),
        at(Fault::Doubled, &labels, 1, 0, 0),
        at(Fault::Doubled, &embeddings, 1, 0, 0),
    ];
    assert_eq!(report.findings.len(), expected.len(), "{report}");
    for finding in expected {
        assert!(report.findings.contains(&finding), "{finding:?} in {report}");
    }
    let Err(e) = report.verdict() else { panic!("doubled") };
    assert_eq!(e.exit_code(), 3);

    let mut wrong = options.clone();
    wrong.outputs = vec!["there-is-none".into()];
    assert!(matches!(audit(wrong, parse, |_| ()).await, Err(Error::Config(t)) if t.contains("there-is-none")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwritten_objects_older_reference_is_superseded_and_not_missing() {
    let Some(stack) = Stack::new() else { return };
    let (input, labels) = (stack.topic("in-superseded").await, stack.topic("labels-superseded").await);
    let limit = Duration::from_secs(20);
    stack.producer.init_transactions(limit).expect("ready");
    stack.producer.begin_transaction().expect("begun");
    // a: the older of two, though it arrived on another partition; b: both are missing; c: the same version twice; d: both in one message.
    for (partition, value) in
        [(0, "a#2#30"), (1, "a#1#10"), (0, "b#1#10"), (0, "b#2#20"), (0, "c#1#10"), (0, "c#1#20"), (1, "d#1#10 d#2#20")]
    {
        stack.send(&input, partition, Some(value), OwnedHeaders::new());
    }
    for (partition, offset, item) in [(0, 0, 0), (0, 4, 0), (1, 1, 1)] {
        stack.send(&labels, 0, Some(&record(&input, partition, offset, item)), OwnedHeaders::new());
    }
    stack.producer.commit_transaction(limit).expect("committed");
    let options = AuditOptions {
        brokers: stack.brokers.clone(),
        topic: input,
        outputs: vec![labels],
        dead: None,
        properties: BTreeMap::new(),
        listed: 10,
    };
    let report = audit(options, parse, |_| ()).await.expect("audited");
    let found: Vec<_> = report.findings.iter().map(|f| (f.fault, f.partition, f.offset, f.item)).collect();
    // Partition 0 holds a2, b1, b2, c, c; of c the first copy has no record and the second is no newer object.
    let missing = [1, 2, 3].map(|offset| (Fault::Missing, 0, offset, 0));
    assert_eq!(found, missing, "{report}");
    let total = &report.totals()[0];
    assert_eq!((total.items, total.published, total.superseded, total.missing), (8, 3, 2, 3), "{report}");
}

#[test]
fn only_the_source_of_a_record_is_read() {
    let text = record("t\u{e9}\"", 3, 991, 2);
    assert_eq!(of_record(text.as_bytes()), Some((Cow::Borrowed("té\""), 3, 991, 2)));
    for other in
        ["", "[]", "{}", r#"{"source": {"listing": "a", "key": "b"}}"#, "\u{0}", r#"{"source": {"topic": "t", "partition": 1e99}}"#]
    {
        assert_eq!(of_record(other.as_bytes()), None, "{other}");
    }
}
