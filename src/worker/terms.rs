//! What the coordinator is given, and what it gives back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::deliver::{Command, Report};
use super::intake::Reading;
use super::ledger::Ledger;
use crate::Error;
use crate::flow::{ByPriority, Delivery, Envelope, ImageRef, LostToken, Priority, Tracing};
use crate::source::{Control, Event};

/// One source as the coordinator sees it.
pub struct Feed {
    /// What can be asked of it.
    pub control: Arc<dyn Control>,
    /// How its messages are read.
    pub reading: Reading,
    /// Whether its items go before others.
    pub priority: Priority,
}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// After this long without anything to do.
    pub until_idle: Option<Duration>,
    /// After this many items.
    pub max_items: Option<u64>,
}

/// The channels between the coordinator and everything else.
pub struct Channels {
    /// From the sources, with the source's number.
    pub events: ByPriority<mpsc::Receiver<(usize, Event)>>,
    /// To the fetch stage.
    pub work: ByPriority<mpsc::UnboundedSender<Envelope<ImageRef>>>,
    /// From all stages.
    pub done: mpsc::UnboundedReceiver<Delivery>,
    /// From dropped tokens; the sender goes into new ones.
    pub lost: (mpsc::UnboundedSender<LostToken>, mpsc::UnboundedReceiver<LostToken>),
    /// From anything that cannot go on.
    pub fatal: mpsc::UnboundedReceiver<Error>,
    /// To the sinks.
    pub commands: mpsc::UnboundedSender<Command>,
    /// From the sinks.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// Drops everything that is not fetched yet.
    pub cancel_fetches: CancellationToken,
    /// A person or the system asks to stop.
    pub stop: CancellationToken,
}

/// What is fixed for the run.
pub struct Settings {
    /// When it ends by itself.
    pub bounds: Bounds,
    /// Offsets go with what is written, in one transaction.
    pub transactional: bool,
    /// Bytes for finished results that wait for an earlier one.
    pub results_memory: usize,
    /// Upper estimate of one result in bytes.
    pub result_bytes: usize,
    /// Traces of items, if any are made.
    pub tracing: Option<Tracing>,
    /// When too much is rejected.
    pub reject_limit: crate::config::RejectLimit,
}

/// How a run ended.
pub struct Ending {
    /// The accounts of all partitions.
    pub ledger: Ledger,
    /// How often each label was the best one, where records have labels.
    pub top_labels: BTreeMap<Arc<str>, u64>,
    /// Whether it ended because it was asked to, with input left.
    pub stopped: bool,
    /// What went wrong, if anything did.
    pub error: Option<Error>,
}
