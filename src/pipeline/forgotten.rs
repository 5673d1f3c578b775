//! Whether a consumer group has lost its offsets. Brokers forget those of a group that was away for `offsets.retention.minutes`, or an operator deletes
//! them; a worker would then take itself for the first one, and label everything again. The outputs remember.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use super::tail::{self, PATIENCE};
use crate::config::{KafkaSource, OnLost};
use crate::kafka::{Asking, client_config, lasting};
use crate::sink::file_name;
use crate::sink::kafka::GROUP_HEADER;
use crate::telemetry::{On, Wait};
use crate::{Error, Result};

/// Offsets at the end of each output partition that are looked at. Markers of transactions are among them.
const TAIL: i64 = 50;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// Where a group's work is to be seen.
#[derive(Debug, Clone)]
pub(super) enum Outputs {
    /// Topics of records that are written exactly-once: there, records name the pipeline's first group (`named`), and none is there whose offset was not
    /// committed with it.
    Topics { named: String, topics: Vec<String> },
    /// Folders of lines, which a partition that begins anew would cut off.
    Folders(Vec<PathBuf>),
}

/// Refuses a group that has not one offset in a topic of its source, while `outputs` hold what it made of that topic. Waits while the brokers do not
/// answer.
///
/// # Errors
/// [`Error::Failed`] naming the topic and the output, unless `on_lost: continue`; or if the credentials lack a right.
pub(super) async fn refuse(source: &KafkaSource, group: &str, outputs: &Outputs) -> Result<()> {
    let mut waiting: Option<Wait> = None;
    loop {
        let (asked, of, made) = (source.clone(), group.to_owned(), outputs.clone());
        let looked = tokio::task::spawn_blocking(move || look(&asked, &of, &made)).await.map_err(Error::failed)?;
        let Some((topic, output)) = (match looked {
            Ok(found) => found,
            Err(error) => {
                if let Some(what) = error.rdkafka_error_code().and_then(lasting) {
                    return Err(Error::failed(format!("whether group `{group}` was here before cannot be seen: {what} ({error})")));
                }
                waiting.get_or_insert_with(|| Wait::on(On::Broker, format!("offsets of group `{group}` ({error})")));
                tracing::warn!("the group's offsets and the ends of the outputs cannot be read yet, waiting: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }) else {
            return Ok(());
        };
        let what = format!(
            "group `{group}` has no offsets in topic `{topic}`, but `{output}` holds what it made of it: the offsets expired \
             (offsets.retention.minutes) or were deleted"
        );
        return match source.on_lost {
            OnLost::Continue => {
                tracing::warn!("{what}; beginning where `start` says (on_lost: continue)");
                Ok(())
            }
            OnLost::Stop => Err(Error::failed(format!(
                "{what}. Put the group where it shall go on with kafka-consumer-groups.sh --reset-offsets; to begin where `start` says, and have what is \
                 there already once more (lines of JSON are cut off then), set `on_lost: continue`"
            ))),
        };
    }
}

/// A topic in which the group has no offset, and an output that holds what was made of it. Blocks.
fn look(source: &KafkaSource, group: &str, outputs: &Outputs) -> Result<Option<(String, String)>, KafkaError> {
    let defaults = [("client.id", "lakelens-check")];
    let fixed =
        [("group.id", group), ("isolation.level", "read_committed"), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    // What is wrong with the properties the source itself says better.
    let Ok(config) = client_config(&source.brokers, &source.properties, &defaults, &fixed) else { return Ok(None) };
    let asking: BaseConsumer<Asking> = config.create_with_context(Asking::default())?;
    let mut fresh = BTreeSet::new();
    for topic in source.topics.iter().chain(&source.records) {
        if !has_offsets(&asking, topic)? {
            fresh.insert(topic.as_str());
        }
    }
    if fresh.is_empty() {
        return Ok(None);
    }
    match outputs {
        Outputs::Topics { named, topics } => {
            for output in topics {
                if let Some(topic) = made_by(&asking, named, output, &fresh)? {
                    return Ok(Some((topic.to_owned(), output.clone())));
                }
            }
            Ok(None)
        }
        Outputs::Folders(folders) => Ok(folders.iter().find_map(|folder| lines_of(folder, &fresh))),
    }
}

/// The first of `topics` of which the folder has lines, and the file. A folder that cannot be read is the sink's to complain of.
fn lines_of(folder: &Path, topics: &BTreeSet<&str>) -> Option<(String, String)> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let stem = name.strip_suffix(".jsonl")?;
        let (of, partition) = stem.strip_suffix(".rejected").unwrap_or(stem).rsplit_once('-')?;
        let topic = topics.iter().find(|topic| file_name(topic) == of)?;
        let lines = partition.parse::<u32>().is_ok() && entry.metadata().is_ok_and(|file| file.len() > 0);
        lines.then(|| ((*topic).to_owned(), path.display().to_string()))
    })
}

/// Whether the group has an offset in any partition of the topic, which is also so where the topic is missing: that is found elsewhere.
fn has_offsets(asking: &BaseConsumer<Asking>, topic: &str) -> Result<bool, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in tail::partitions(asking, topic)? {
        list.add_partition(topic, partition);
    }
    if list.count() == 0 {
        return Ok(true);
    }
    let committed = asking.committed_offsets(list, PATIENCE)?;
    for element in committed.elements() {
        element.error()?;
    }
    Ok(committed.elements().iter().any(|e| matches!(e.offset(), Offset::Offset(_))))
}

/// The first of `topics` that a record of this group at the end of `output` was made of.
fn made_by<'a>(
    asking: &BaseConsumer<Asking>,
    group: &str,
    output: &str,
    topics: &BTreeSet<&'a str>,
) -> Result<Option<&'a str>, KafkaError> {
    let mut found = None;
    tail::read(asking, output, &tail::tails(asking, output, TAIL)?, |message| {
        let source = source_topic(message, group);
        found = topics.iter().find(|topic| source.as_deref() == Some(**topic)).copied();
        found.is_none()
    })?;
    Ok(found)
}

/// The topic of the item that a record was made of, if this group made it.
fn source_topic(message: &BorrowedMessage<'_>, group: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Source {
        topic: String,
    }
    #[derive(Deserialize)]
    struct OnlySource {
        source: Source,
    }
    let by = message.headers()?.iter().find(|header| header.key == GROUP_HEADER)?;
    if by.value != Some(group.as_bytes()) {
        return None;
    }
    serde_json::from_slice::<OnlySource>(message.payload()?).ok().map(|record| record.source.topic)
}
