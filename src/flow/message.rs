use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Reservation;

/// One ordered run of input: a partition of a Kafka topic, or a whole listing (then `partition` is 0).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Topic, or the path of the listing.
    pub topic: Arc<str>,
    /// Number within the topic.
    pub partition: i32,
}

impl Partition {
    /// A partition by name and number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Where an item stood: partition, offset of the message, number of the item within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition that the message came from.
    pub partition: Partition,
    /// Offset of the message; for a listing the running number of the entry.
    pub offset: i64,
    /// Number of the item within the message, from 0.
    pub item: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.partition, self.offset, self.item)
    }
}

/// How far one partition is done under one assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPoint {
    /// Number of the source.
    pub source: usize,
    /// The partition.
    pub partition: Partition,
    /// The source's number of the assignment.
    pub assignment: u64,
    /// Every message below is done.
    pub next_offset: i64,
}

/// A message header; Kafka allows the same name twice and a null value.
pub type Header = (String, Option<Bytes>);

/// A message as the broker or the listing gave it, kept whole until its items are delivered since a dead letter is the input as it came.
#[derive(Debug)]
pub struct Message {
    /// The partition it came from.
    pub partition: Partition,
    /// Its offset there.
    pub offset: i64,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// All headers in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970, if known.
    pub timestamp_ms: Option<i64>,
    /// True for a listing or a file of lines that the user named on the command line: such references are trusted and `fetch.allow` does not apply.
    pub trusted: bool,
    /// For a listing, what `source` of the record says: `(listing, key)`.
    pub listing: Option<(Arc<str>, String)>,
    /// Memory that the message holds.
    pub memory: Reservation,
}

impl Message {
    /// Bytes that key, value and headers take.
    pub fn size(&self) -> usize {
        let body = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        body(&self.key) + body(&self.value) + self.headers.iter().map(|(n, v)| n.len() + body(v)).sum::<usize>()
    }
}
