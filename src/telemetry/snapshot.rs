//! What the coordinator shows of itself, twice a second.

use std::time::{Duration, Instant, SystemTime};

use crate::flow::Partition;
use crate::worker::ledger::Account;

/// Partitions beyond so many have no line of their own, in metrics and status alike.
pub const MOST_PARTITIONS: usize = 1000;

/// Where a worker is on its way from its start to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// The model is being read and compiled.
    #[default]
    LoadingModel,
    /// The servers that it needs have not all answered.
    Connecting,
    /// Its group has not given it an assignment, its listing is not open.
    Joining,
    /// Taking messages.
    Running,
    /// No more messages come; the last items are being finished.
    Finishing,
    /// Asked to stop; what is under way is finished, the rest handed back.
    Draining,
    /// The last results are being made durable.
    Closing,
}

impl State {
    /// The name in `/status` and `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoadingModel => "loading_model",
            Self::Connecting => "connecting",
            Self::Joining => "joining",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Draining => "draining",
            Self::Closing => "closing",
        }
    }
}

/// One partition that is this worker's.
#[derive(Debug, Clone)]
pub struct PartitionStatus {
    /// Which.
    pub partition: Partition,
    /// Everything below this offset is done for good.
    pub committed: i64,
    /// Messages between there and the partition's end; `None` while the end is not known.
    pub lag: Option<u64>,
    /// How long the lag lasts at the pace of the last minutes; `None` where nothing moves.
    pub drain: Option<Duration>,
    /// Items received and not booked.
    pub open: u64,
}

/// The coordinator's view at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Where the worker is.
    pub state: State,
    /// When this was seen; `None` before the coordinator runs.
    pub seen: Option<Instant>,
    /// The ledger's sum over all partitions.
    pub total: Account,
    /// Partitions that are this worker's.
    pub assigned: usize,
    /// Partitions of its topics, whoever has them; `None` where not known.
    pub of_partitions: Option<usize>,
    /// The first [`MOST_PARTITIONS`] of them, in order.
    pub partitions: Vec<PartitionStatus>,
    /// Items that are finished and not yet with every sink.
    pub delivering: u64,
    /// Items to come of this worker's partitions and those under way; `None` while an end is not known.
    pub left: Option<f64>,
    /// Items a second that ended in the last minutes; `None` while too little is known.
    pub rate: Option<f64>,
    /// Items a second while there is work.
    pub pace: Option<f64>,
    /// When something last moved.
    pub moved: Option<SystemTime>,
}
