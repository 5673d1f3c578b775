//! The conformance suite against a real broker, where `LAKELENS_TEST_KAFKA` names one.

use rdkafka::Message as _;
use rdkafka::message::Headers as _;

use super::*;
use crate::kafka::tests::{broker, new_topic, none, read_all};
use crate::sink::conformance::{Destination, What, conforms, position_in};

struct Topic {
    broker: String,
    name: String,
}

async fn topic() -> Topic {
    let broker = broker().expect("looked for before");
    Topic { name: new_topic(&broker, 1, &[]).await, broker }
}

fn encode(record: &Record, _: Which, encoding: config::Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    crate::format::json::record(record, &crate::format::json::JsonForm::whole(encoding), &mut out);
    out
}

struct Records(Topic);

#[async_trait]
impl Destination for Records {
    async fn start(&self) -> Box<dyn Sink> {
        let config = config::KafkaSink { records: Some(self.0.name.clone()), ..Default::default() };
        Box::new(KafkaSink::start(&config, &self.0.broker, &none(), &config::Output::default(), encode, None).await.unwrap())
    }

    async fn read(&self) -> Vec<Position> {
        let position = |m: &rdkafka::message::OwnedMessage| match m.payload() {
            Some(value) => position_in(value),
            // A tombstone's key is the image's URI, and that says in this suite where the item stood.
            None => {
                let key = String::from_utf8_lossy(m.key().unwrap()).into_owned();
                let (partition, rest) = key.strip_prefix("s3://lake/refs/").unwrap().split_once('@').unwrap();
                let (offset, item) = rest.split_once('#').unwrap();
                Position {
                    partition: Partition::new("refs", partition.parse().unwrap()),
                    offset: offset.parse().unwrap(),
                    item: item.parse().unwrap(),
                }
            }
        };
        read_all(&self.0.broker, &self.0.name).iter().map(position).collect()
    }

    fn takes(&self, what: What) -> bool {
        matches!(what, What::Record | What::Tombstone)
    }

    fn exact(&self) -> bool {
        false
    }
}

struct Letters(Topic);

#[async_trait]
impl Destination for Letters {
    async fn start(&self) -> Box<dyn Sink> {
        Box::new(KafkaDeadLetters::start(&self.0.name, &self.0.broker, &none(), None).await.unwrap())
    }

    async fn read(&self) -> Vec<Position> {
        let position = |m: &rdkafka::message::OwnedMessage| {
            let headers = m.headers().unwrap();
            let text = |name: &str| {
                let found = headers.iter().find(|h| h.key == format!("lakelens.source.{name}")).unwrap();
                String::from_utf8(found.value.unwrap().to_vec()).unwrap()
            };
            let partition = Partition::new(text("topic"), text("partition").parse().unwrap());
            Position { partition, offset: text("offset").parse().unwrap(), item: text("item").parse().unwrap() }
        };
        read_all(&self.0.broker, &self.0.name).iter().map(position).collect()
    }

    fn takes(&self, what: What) -> bool {
        what == What::Rejected
    }

    fn exact(&self) -> bool {
        false
    }
}

#[test]
fn records_and_tombstones_conform() {
    if broker().is_some() {
        conforms(8, || async { Records(topic().await) });
    }
}

#[test]
fn dead_letters_conform() {
    if broker().is_some() {
        conforms(5, || async { Letters(topic().await) });
    }
}
