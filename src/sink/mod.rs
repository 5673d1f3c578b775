//! Where records, rejections and tombstones go.

#[cfg(test)]
pub(crate) mod conformance;
mod hold;
mod journal;
mod jsonl;
pub mod kafka;
mod parquet;
mod place;
mod room;
mod unflushed;

use async_trait::async_trait;

use crate::Result;
use crate::flow::{Delivery, Partition, Rejection};

pub use journal::{Journal, JournalSink};
pub use jsonl::JsonlSink;
pub use parquet::ParquetSink;

/// How much a flush must make durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// What can be made durable without breaking off something that is better kept open (a Parquet file that is not full yet).
    Ready,
    /// Everything: the worker is draining, or the ledger is about to be closed. What follows of a partition that it met amid a message begins at that
    /// message again.
    All,
}

/// A destination. Only one task speaks to it. Record sinks pass over rejections, dead-letter sinks over everything else; all of them see all
/// deliveries of a partition, in (offset, item) order.
///
/// A sink waits by itself, for as long as it takes and saying so in the log, while its server is away or its disk is full. An error from it is one
/// that will not pass, and stops the worker; nothing is acknowledged then.
#[async_trait]
pub trait Sink: Send {
    /// For logs and metrics: `kafka:image-labels`, `parquet:s3://lake/x`.
    fn name(&self) -> &str;

    /// Says whether the delivery can be written; asked of every sink before any of them writes it. A refusal (`record_too_large`) becomes the
    /// item's outcome.
    fn check(&mut self, delivery: &Delivery) -> Result<(), Rejection>;

    /// Takes deliveries, which need not be durable yet.
    async fn write(&mut self, deliveries: &[Delivery]) -> Result<()>;

    /// Makes durable what was written.
    async fn flush(&mut self, how: Flush) -> Result<()>;

    /// The lowest offset of `partition` that was written and is not durable; `None` if all is.
    fn held(&self, partition: &Partition) -> Option<i64>;

    /// The partition begins anew at `next_offset` (an assignment, or a start): forget everything of it that is not durable, and cut back what an
    /// earlier run wrote beyond that offset, where the sink can.
    async fn begin(&mut self, partition: &Partition, next_offset: i64) -> Result<()>;

    /// The partition is going away: make durable what was written of it.
    async fn release(&mut self, partition: &Partition) -> Result<()>;

    /// The partition is another worker's already: drop what is not durable of it, and pass over what may still come.
    fn forget(&mut self, _partition: &Partition) {}
}

/// Longest name that is used as it is, in bytes; file systems take 255, and a number and an ending follow.
const MAX_NAME: usize = 200;

/// A topic, or the path of a listing, as one step of a file's path: what could lead elsewhere, or mean something to a reader of partitioned folders, is
/// percent-encoded. Of two topics no two have one name: what is too long ends in a hash of the whole.
pub(crate) fn file_name(topic: &str) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    let mut name = String::new();
    for byte in topic.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    if name.len() > MAX_NAME {
        let hash = sha2::Sha256::digest(topic.as_bytes());
        name.truncate(MAX_NAME - 33);
        // No name that is used as it is holds this character.
        name.push('~');
        hash[..16].iter().for_each(|byte| {
            let _ = write!(name, "{byte:02x}");
        });
    }
    name
}
