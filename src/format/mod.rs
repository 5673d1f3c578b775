//! How a record is written: JSON and Parquet. Knows nothing of where it goes.

pub mod json;
pub mod parquet;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::flow::{Item, SourceRef};

/// `source` of a record or rejection.
pub fn source_ref(item: &Item) -> SourceRef {
    match &item.message.listing {
        Some((listing, key)) => SourceRef::Listing { listing: listing.clone(), key: key.clone() },
        None => SourceRef::Kafka {
            topic: item.position.partition.topic.clone(),
            partition: item.position.partition.partition,
            offset: item.position.offset,
            item: item.position.item,
            timestamp: item.message.timestamp_ms.and_then(rfc3339),
        },
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC; `None` beyond the calendar.
pub fn rfc3339(ms: i64) -> Option<String> {
    DateTime::<Utc>::from_timestamp_millis(ms).map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
