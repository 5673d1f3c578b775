//! Letters and positions in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as Field, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::flow::Header;
use crate::kafka::transaction::{self, Calls, End, PATIENCE, REFUSALS};
use crate::kafka::{client_config, creation_error};
use crate::{Error, Result};

const PAUSE: Duration = Duration::from_millis(100);

/// A message that goes back.
#[derive(Debug)]
pub struct Back {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

/// A transactional producer under an id that everyone who redrives with this group shares: a second one ends the first, so that no letter goes twice.
pub struct Transfer {
    client: ThreadedProducer<DefaultProducerContext>,
    brokers: String,
    to: String,
    group: String,
    calls: Arc<Calls>,
}

impl Transfer {
    /// Connects; whoever redrove with this group before cannot write any more from here on, and what he left open is aborted.
    ///
    /// # Errors
    /// [`Error::Config`] if a property is refused, [`Error::Failed`] if the brokers allow no transactions.
    pub fn start(
        brokers: &str,
        properties: &BTreeMap<String, String>,
        to: &str,
        group: &str,
        largest: usize,
        calls: Arc<Calls>,
    ) -> Result<Self> {
        let defaults = [
            ("client.id", "lakelens-redrive"),
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            ("partitioner", "murmur2_random"),
            ("message.max.bytes", &*largest.to_string()),
            ("transaction.timeout.ms", "30000"),
        ];
        let fixed = [("transactional.id", group), ("enable.idempotence", "true"), ("acks", "all")];
        let client = client_config(brokers, properties, &defaults, &fixed)?.create().map_err(creation_error)?;
        let transfer = Self { client, brokers: brokers.to_owned(), to: to.to_owned(), group: group.to_owned(), calls };
        match transfer.call("beginning", |client| client.init_transactions(PATIENCE))? {
            End::Committed => Ok(transfer),
            End::Aborted(abort) => Err(Error::failed(format!("Kafka at {brokers} allows no transactions: {}", abort.why))),
        }
    }

    /// Sends the letters and commits the positions, all or nothing; again until it works.
    ///
    /// # Errors
    /// One that trying again does not mend; nothing of this batch is seen by readers then.
    pub fn send(&self, letters: &[Back], positions: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<()> {
        let mut refusals = 0;
        loop {
            let abort = match self.once(letters, positions, group)? {
                End::Committed => return Ok(()),
                End::Aborted(abort) => abort,
            };
            refusals = if abort.lasting.is_some() { refusals + 1 } else { 0 };
            if let Some(what) = abort.lasting.filter(|_| refusals >= REFUSALS) {
                let (to, brokers, why) = (&self.to, &self.brokers, abort.why);
                return Err(Error::failed(format!("writing to `{to}` at {brokers}: {what} ({why}); nothing of this batch was sent")));
            }
            tracing::warn!("a transaction was taken back, and is made again: {}", abort.why);
            std::thread::sleep(PAUSE);
        }
    }

    fn once(&self, letters: &[Back], positions: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<End> {
        self.call("beginning a transaction", |client| client.begin_transaction())?;
        for letter in letters {
            if let Err(error) = self.produce(letter) {
                // A transaction that already failed says so to whatever is asked of it next.
                if error.rdkafka_error_code() == Some(Code::State) {
                    break;
                }
                self.call("aborting a transaction", |client| client.abort_transaction(PATIENCE))?;
                return Err(Error::failed(format!("cannot write to the topic `{}`: {error}; nothing of this batch was sent", self.to)));
            }
        }
        self.call("sending letters", transaction::delivered)?;
        if let aborted @ End::Aborted(_) =
            self.call("committing positions", |client| client.send_offsets_to_transaction(positions, group, PATIENCE))?
        {
            return Ok(aborted);
        }
        self.call("committing a transaction", |client| client.commit_transaction(PATIENCE))
    }

    fn produce(&self, letter: &Back) -> KafkaResult<()> {
        let headers = letter.headers.iter().fold(OwnedHeaders::new_with_capacity(letter.headers.len()), |all, (key, value)| {
            all.insert(Field { key, value: value.as_deref() })
        });
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.to).headers(headers);
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        loop {
            match self.client.send(record) {
                Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => record = back,
                result => return result.map_err(|(error, _)| error),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn call(&self, what: &str, call: impl Fn(&ThreadedProducer<DefaultProducerContext>) -> KafkaResult<()>) -> Result<End> {
        transaction::call(&self.client, &self.brokers, what, &self.calls, call).map_err(|error| self.fatal(what, &error))
    }

    fn fatal(&self, what: &str, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => Error::failed(format!(
                "another `lakelens redrive` with the group `{}` has begun, and this one ends; what it committed stays, and nothing goes twice",
                self.group
            )),
            code => {
                let why = code.and_then(crate::kafka::lasting).unwrap_or("it cannot go on");
                Error::failed(format!("{what} at {}: {why} ({error})", self.brokers))
            }
        }
    }
}
