//! Where references come from: a Kafka topic, a folder or bucket prefix, a file of lines.
//!
//! A source runs on a thread or task of its own and speaks through a channel of [`Event`]s; what the worker asks of it goes through its
//! [`Control`]. This shape lets a Kafka consumer keep polling, as its group demands, whatever the stages are waiting for.

pub mod kafka;
pub mod lines;
pub mod listing;
mod offsets;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::Result;
use crate::flow::{CommitPoint, Message, Partition, Priority};
use crate::kafka::transaction::Member;

pub use listing::ListingOptions;
pub use offsets::{OffsetTracker, Unknown};

/// A started source.
pub struct Source {
    /// What happened, in order.
    pub events: mpsc::Receiver<Event>,
    /// What can be asked of it.
    pub control: Box<dyn Control>,
    /// What transactions over its offsets need; `None` where its progress is not kept in Kafka.
    pub member: Option<Arc<dyn Member>>,
    /// Whether its items go before those of others.
    pub priority: Priority,
}

/// What a source reports. Of one partition: `Assigned`, then its messages in offset order, then `Revoked`, perhaps over again.
#[derive(Debug)]
pub enum Event {
    /// The partition is this worker's from now on; the first message will have `next_offset` or a later one. `assignment` is a number that no other
    /// assignment of this source has.
    Assigned { partition: Partition, assignment: u64, next_offset: i64 },
    /// One message.
    Message(Message),
    /// The partitions are about to be taken away. The source waits for `done` to be answered (or dropped), with the next offsets to commit, but no
    /// longer than its group lets it.
    Revoked { partitions: Vec<Partition>, done: oneshot::Sender<Vec<(Partition, i64)>> },
    /// The partitions were already taken away: what was not committed is no longer this worker's to commit.
    Lost { partitions: Vec<Partition> },
    /// A finite source has given everything.
    End,
    /// The source cannot go on; the worker stops with this.
    Failed(crate::Error),
}

/// How far one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The partition.
    pub partition: Partition,
    /// Offset of the next message that the source will hand out.
    pub position: i64,
    /// The end of the partition now.
    pub end: i64,
    /// Whether `end` is known; else it says only that there is more.
    pub exact: bool,
}

/// What the worker may ask of a running source.
#[async_trait]
pub trait Control: Send + Sync {
    /// Stop handing out messages of this partition; those on their way may still come.
    fn pause(&self, partition: &Partition);

    /// Hand out messages of this partition again.
    fn resume(&self, partition: &Partition);

    /// Remember durably how far these are done; what is of an assignment that is over is passed over.
    async fn commit(&self, points: &[CommitPoint]) -> Result<()>;

    /// Position and end of each assigned partition; `None` before the first assignment.
    async fn progress(&self) -> Result<Option<Vec<Progress>>>;

    /// Partitions of all that it reads, whoever has them; `None` where not known.
    fn of_partitions(&self) -> Option<usize> {
        None
    }

    /// Leave the group or close the listing, waiting for at most `limit`.
    async fn stop(&self, limit: Duration);
}
