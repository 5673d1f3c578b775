//! The last record of a topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::{Last, Origin};
use crate::kafka::{Asking, client_config, lasting};
use crate::pipeline::tail;
use crate::sink::kafka::SPACE_HEADER;
use crate::{Error, Result};

/// How far before the end of each partition a record is looked for, further where there is none: markers of transactions, aborted records and
/// tombstones are among what is there.
const DEPTHS: [i64; 3] = [50, 1_000, 20_000];
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// The newest record of `topic` by its timestamp, of those that say what space they are of. Waits while the brokers do not answer.
///
/// # Errors
/// [`Error::Failed`] if the credentials lack a right.
pub(super) async fn last(brokers: &str, properties: &BTreeMap<String, String>, group: &str, topic: &str) -> Result<Option<Last>> {
    loop {
        let (at, with, by, of) = (brokers.to_owned(), properties.clone(), group.to_owned(), topic.to_owned());
        match tokio::task::spawn_blocking(move || look(&at, &with, &by, &of)).await.map_err(Error::failed)? {
            Ok(found) => return Ok(found),
            Err(error) => {
                if let Some(what) = error.rdkafka_error_code().and_then(lasting) {
                    return Err(Error::failed(format_args!(
                        "topic `{topic}`: of which space its last record is cannot be seen: {what} ({error})"
                    )));
                }
                tracing::warn!("the end of topic `{topic}` cannot be read yet, waiting: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn look(brokers: &str, properties: &BTreeMap<String, String>, group: &str, topic: &str) -> Result<Option<Last>, KafkaError> {
    let defaults = [("client.id", "lakelens-check")];
    // Nobody joins the group: a consumer has to name one.
    let fixed =
        [("group.id", group), ("isolation.level", "read_committed"), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    // What is wrong with the properties the sink itself has said.
    let Ok(config) = client_config(brokers, properties, &defaults, &fixed) else { return Ok(None) };
    let asking: BaseConsumer<Asking> = config.create_with_context(Asking::default())?;
    let mut before = Vec::new();
    for depth in DEPTHS {
        let tails = tail::tails(&asking, topic, depth)?;
        if tails == before {
            break;
        }
        let mut newest: Option<(i64, Last)> = None;
        tail::read(&asking, topic, &tails, |message| {
            let at = message.timestamp().to_millis().unwrap_or_default();
            if let Some(origin) = origin(message)
                && newest.as_ref().is_none_or(|(newest, _)| at >= *newest)
            {
                let place = format!("topic `{topic}`: its last record (partition {}, offset {})", message.partition(), message.offset());
                newest = Some((at, Last { place, origin }));
            }
            true
        })?;
        if let Some((_, last)) = newest {
            return Ok(Some(last));
        }
        before = tails;
    }
    Ok(None)
}

/// What a record says of itself; `None` for tombstones and for what others write.
fn origin(message: &BorrowedMessage<'_>) -> Option<Origin> {
    let header = message.headers()?.iter().find(|header| header.key == SPACE_HEADER)?;
    let space = String::from_utf8_lossy(header.value?).into_owned();
    let record: Option<Origin> = message.payload().and_then(|value| serde_json::from_slice(value).ok());
    Some(Origin { space, model: record.map(|record| record.model).unwrap_or_default() })
}
