use super::*;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// The address of a server for tests; says so where there is none.
fn server(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("passed over: {variable} is not set");
    }
    found
}

fn options(brokers: &str, topic: &str, inputs: Vec<String>) -> EnqueueOptions {
    EnqueueOptions {
        inputs,
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        state: None,
        include: Vec::new(),
        exclude: Vec::new(),
        properties: BTreeMap::new(),
        s3: None,
        parallel: 4,
        without_etags: false,
        cancel: CancellationToken::new(),
    }
}

async fn topic(brokers: &str, name: &str, partitions: i32) -> String {
    let name = format!("{name}-{}", rand::random::<u32>());
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await.expect("created") {
        result.expect("created");
    }
    name
}

/// (partition, key, value) of all messages.
fn read(brokers: &str, topic: &str, partitions: i32) -> Vec<(i32, Option<String>, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    let mut expected = 0;
    for p in 0..partitions {
        assignment.add_partition_offset(topic, p, Offset::Beginning).expect("added");
        expected += consumer.fetch_watermarks(topic, p, Duration::from_secs(10)).expect("known").1;
    }
    consumer.assign(&assignment).expect("assigned");
    let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
    let mut all = Vec::new();
    while (all.len() as i64) < expected {
        let message = consumer.poll(Duration::from_secs(20)).expect("in time").expect("a message");
        all.push((message.partition(), text(message.key()), text(message.payload()).expect("a value")));
    }
    all
}

fn java_murmur2(data: &[u8]) -> i32 {
    const M: i32 = 0x5bd1_e995;
    let mut h: i32 = (0x9747_b28c_u32 as i32) ^ data.len() as i32;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for c in chunks {
        let mut k = i32::from_le_bytes([c[0], c[1], c[2], c[3]]).wrapping_mul(M);
        k ^= ((k as u32) >> 24) as i32;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (i, b) in rest.iter().enumerate().rev() {
        h ^= i32::from(*b) << (8 * i);
        if i == 0 {
            h = h.wrapping_mul(M);
        }
    }
    h ^= ((h as u32) >> 13) as i32;
    h = h.wrapping_mul(M);
    h ^ ((h as u32) >> 15) as i32
}

#[tokio::test]
async fn lines_arrive_unchanged_once_and_where_java_would_put_them() {
    let Some(brokers) = server("LAKELENS_TEST_KAFKA") else { return };
    let topic = topic(&brokers, "enqueue-lines", 3).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("refs.jsonl");
    let mut lines: Vec<String> = (0..5000).map(|n| format!("s3://lake/{n}/a b+c é.jpg")).collect();
    lines[7] = r#"{"uri": "s3://lake/7.jpg", "id": 1}"#.to_owned();
    let too_long = format!("s3://lake/{}", "x".repeat(1_500_000));
    std::fs::write(&file, format!("{}\n{too_long}\n\ns3://lake/last", lines.join("\r\n"))).expect("written");
    lines.push("s3://lake/last".to_owned());
    let mut options = options(&brokers, &topic, vec![file.to_string_lossy().into_owned()]);
    options.state = Some(folder.path().join("state"));
    let told = Mutex::new(Vec::new());
    let summary = enqueue(&options, |n| told.lock().expect("unpoisoned").push(n)).await.expect("enqueued");
    assert_eq!((summary.enqueued, summary.total, summary.too_long, summary.finished), (5001, 5001, 1, true));
    assert_eq!(told.lock().expect("unpoisoned").last(), Some(&5001));
    let all = read(&brokers, &topic, 3);
    assert_eq!(all.iter().map(|m| m.2.clone()).collect::<BTreeSet<_>>(), lines.iter().cloned().collect());
    assert_eq!(all.len(), lines.len());
    for (partition, key, value) in &all {
        let key = key.as_deref().expect("a key");
        assert_eq!(key, if value.starts_with('{') { "s3://lake/7.jpg" } else { value });
        assert_eq!(*partition, (java_murmur2(key.as_bytes()) & 0x7fff_ffff) % 3, "{key}");
    }
    let again = enqueue(&options, |_| ()).await.expect("nothing left");
    assert_eq!((again.enqueued, again.total, again.finished), (0, 5001, true));
}

#[tokio::test]
async fn a_cancelled_run_goes_on_where_the_broker_had_everything() {
    let Some(brokers) = server("LAKELENS_TEST_KAFKA") else { return };
    let topic = topic(&brokers, "enqueue-resume", 3).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("refs.txt");
    let lines: Vec<String> = (0..400_000).map(|n| format!("s3://lake/{n:06}.jpg")).collect();
    std::fs::write(&file, lines.join("\n")).expect("written");
    let (mut total, mut runs) = (0, 0);
    loop {
        let mut options = options(&brokers, &topic, vec![file.to_string_lossy().into_owned()]);
        options.state = Some(folder.path().join("state"));
        // Each run is cancelled a little after its first acknowledgements; the last ones find little left to do.
        let cancel = options.cancel.clone();
        let summary = enqueue(&options, move |n| {
            if n > 0 {
                cancel.cancel()
            }
        })
        .await
        .expect("ended in order");
        total += summary.enqueued;
        runs += 1;
        assert_eq!(summary.total, total);
        assert!(runs < 100, "{total} after {runs} runs");
        if summary.finished {
            break;
        }
    }
    assert!(runs > 1, "the first run was not cancelled");
    let values: Vec<String> = read(&brokers, &topic, 3).into_iter().map(|m| m.2).collect();
    assert_eq!(values.len(), lines.len(), "cancelled in good order, nothing is repeated");
    assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), lines.into_iter().collect());
}

#[tokio::test]
async fn a_missing_topic_and_another_runs_state_are_refused() {
    let Some(brokers) = server("LAKELENS_TEST_KAFKA") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.jpg"), "x").expect("written");
    let inputs = vec![folder.path().to_string_lossy().into_owned()];
    let e = enqueue(&options(&brokers, "there-is-none", inputs.clone()), |_| ()).await.expect_err("no topic");
    assert!(matches!(&e, Error::Config(t) if t.contains("there-is-none") && t.contains("create it")), "{e:?}");
    let topic = topic(&brokers, "enqueue-state", 1).await;
    let state = tempfile::tempdir().expect("a folder");
    let mut first = options(&brokers, &topic, inputs.clone());
    first.state = Some(state.path().join("s"));
    assert_eq!(enqueue(&first, |_| ()).await.expect("enqueued").enqueued, 1);
    first.topic = "another".to_owned();
    let e = enqueue(&first, |_| ()).await.expect_err("another topic");
    assert!(matches!(&e, Error::Config(t) if t.contains("delete it to begin anew")), "{e:?}");
}

#[tokio::test]
async fn a_bucket_is_listed_in_parts_with_every_object_once() {
    let (Some(brokers), Some(endpoint)) = (server("LAKELENS_TEST_KAFKA"), server("LAKELENS_TEST_S3")) else { return };
    let client = crate::store::s3_client(&crate::config::S3 { endpoint: Some(endpoint), path_style: true, ..Default::default() }).await;
    let bucket = format!("enqueue-{}", rand::random::<u32>());
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let mut keys: Vec<String> = (0..1100).map(|n| format!("2026/{:02}/{:02}/p {n}+é.jpg", n % 12, n % 5)).collect();
    keys.extend(["2026/top.jpg", "2026.jpg", "zz.png", "a%20b.jpg", "2026/03/README.txt"].map(str::to_owned));
    for key in &keys {
        client.put_object().bucket(&bucket).key(key).body(bytes::Bytes::from_static(b"x").into()).send().await.expect("put");
    }
    for (prefix, parallel, exclude) in
        [("", 4, vec!["*.txt".to_owned()]), ("2026/", 1, vec![]), ("2026/0", 16, vec![]), ("zz.png", 4, vec![])]
    {
        let topic = topic(&brokers, "enqueue-bucket", 2).await;
        let mut options = options(&brokers, &topic, vec![format!("s3://{bucket}/{prefix}")]);
        options.s3 = Some(client.clone());
        options.parallel = parallel;
        options.exclude = exclude;
        let summary = enqueue(&options, |_| ()).await.expect("enqueued");
        let expected: BTreeSet<String> = keys
            .iter()
            .filter(|k| k.starts_with(prefix) && (options.exclude.is_empty() || !k.ends_with(".txt")))
            .map(|k| format!("s3://{bucket}/{k}"))
            .collect();
        let all = read(&brokers, &topic, 2);
        assert_eq!(all.len(), expected.len(), "{prefix}");
        assert_eq!(summary.enqueued, expected.len() as u64);
        assert_eq!(all.iter().map(|m| m.1.clone().expect("a key")).collect::<BTreeSet<_>>(), expected);
        for (_, key, value) in all {
            let value: serde_json::Value = serde_json::from_str(&value).expect("JSON");
            assert_eq!(value["uri"].as_str(), key.as_deref());
            assert_eq!(value["etag"], "9dd4e461268c8034f5c8564e155c67a6", "the MD5 of one x");
        }
    }
}
