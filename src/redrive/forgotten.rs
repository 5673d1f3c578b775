//! Whether the group's positions may have been forgotten. Brokers drop an offset `offsets.retention.minutes` after it was last committed; redriving
//! would then begin with the oldest letters, and send again those that went before.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::SERVER_TIMEOUT;
use crate::kafka::Asking;
use crate::{Context, Result};

/// The brokers' default of `offsets.retention.minutes`. Younger letters came after whatever position was forgotten.
const DAYS: i64 = 7;

/// What speaks against beginning with the oldest letters of the partitions in `fresh`, which are not empty and have no position. Each comes with its
/// oldest offset. Blocks.
///
/// # Errors
/// [`crate::Error::Failed`] if the brokers do not tell.
pub fn suspicion(consumer: &BaseConsumer<Asking>, topic: &str, group: &str, fresh: &[(i32, i64)]) -> Result<Option<String>> {
    if fresh.is_empty() {
        return Ok(None);
    }
    let before = Utc::now() - TimeDelta::days(DAYS);
    let mut asked = TopicPartitionList::new();
    for (id, _) in fresh {
        asked
            .add_partition_offset(topic, *id, Offset::Offset(before.timestamp_millis()))
            .context(format!("cannot ask how old the letters in {topic}/{id} are"))?;
    }
    let found = consumer.offsets_for_times(asked, SERVER_TIMEOUT).context(format!("cannot ask how old the letters in {topic} are"))?;
    let mut old = Vec::new();
    for (id, low) in fresh {
        let Some(element) = found.find_partition(topic, *id) else { continue };
        element.error().context(format!("cannot ask how old the letters in {topic}/{id} are"))?;
        match element.offset() {
            Offset::Offset(younger) if younger <= *low => {}
            Offset::Offset(younger) => old.push((*id, Some(younger))),
            // All of them are older.
            _ => old.push((*id, None)),
        }
    }
    Ok((!old.is_empty()).then(|| words(topic, group, &before, &old)))
}

/// Partitions come with the offset that their younger letters begin at.
fn words(topic: &str, group: &str, before: &DateTime<Utc>, old: &[(i32, Option<i64>)]) -> String {
    let partitions: Vec<String> = old.iter().map(|(id, _)| format!("{topic}/{id}")).collect();
    let below = |younger: &Option<i64>| younger.map_or("all".to_owned(), |offset| format!("below {offset}"));
    let ends: Vec<String> = old.iter().map(|(id, younger)| format!("{topic}/{id} {}", below(younger))).collect();
    format!(
        "the group `{group}` has no position in {}, where letters from before {} lie: they may have been redriven before, since brokers forget positions \
         that no run renewed for offsets.retention.minutes ({DAYS} days by default). Run with --from-start if they were not, or may go twice; else delete \
         the letters that were redriven with kafka-delete-records.sh first (those from before then: {})",
        partitions.join(", "),
        before.to_rfc3339_opts(SecondsFormat::Secs, true),
        ends.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_group_partitions_and_both_ways_on() {
        let before = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let said = words("dead", "us", &before, &[(0, Some(12)), (3, None)]);
        for part in ["`us`", "dead/0, dead/3", "2023-11-14T22:13:20Z", "--from-start", "dead/0 below 12, dead/3 all"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}
