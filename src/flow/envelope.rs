use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ImageRef, Message, Outcome, ParsedItem, Partition, Position, Priority, Rejection, Reservation, Trace};

/// One item: its message, its place, and what it asks for. Shared by everything that speaks of it.
#[derive(Debug)]
pub struct Item {
    /// The message that it came in.
    pub message: Arc<Message>,
    /// Where it stands.
    pub position: Position,
    /// What it asks for.
    pub parsed: ParsedItem,
    /// Whether no further item of the message follows.
    pub last: bool,
    /// Its trace, if it is one of those that have one.
    pub trace: Option<Trace>,
}

impl Item {
    /// The reference, where the item is one.
    pub fn reference(&self) -> Option<&ImageRef> {
        match &self.parsed {
            ParsedItem::Image(r) | ParsedItem::Deleted(r) => Some(r),
            ParsedItem::Skip(_) | ParsedItem::Bad(_) => None,
        }
    }
}

/// Tells the coordinator that a token was dropped before its item had an outcome.
#[derive(Debug)]
pub struct LostToken {
    /// The item.
    pub position: Position,
    /// The assignment that it belonged to.
    pub epoch: u64,
}

/// The duty to deliver one item. It leaves a stage only inside an [`Envelope`] or a [`Delivery`]; dropping it says so to the coordinator,
/// which stops the worker if the partition is still owned, since an item would otherwise be lost in silence.
#[derive(Debug)]
pub struct AckToken {
    position: Position,
    epoch: u64,
    over: CancellationToken,
    lost: Option<mpsc::UnboundedSender<LostToken>>,
}

impl AckToken {
    /// A token for `position` under assignment `epoch`, which lasts until `over`.
    pub fn new(position: Position, epoch: u64, over: CancellationToken, lost: mpsc::UnboundedSender<LostToken>) -> Self {
        Self { position, epoch, over, lost: Some(lost) }
    }

    /// A token whose loss nobody minds: for tests and benches of single stages.
    pub fn detached(partition: Partition, offset: i64) -> Self {
        Self { position: Position { partition, offset, item: 0 }, epoch: 0, over: CancellationToken::new(), lost: None }
    }

    /// The assignment that the item belongs to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the item is another worker's by now, so that any work on it is in vain.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Ends when the item is another worker's.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The item reached the coordinator with its outcome.
    pub fn settle(mut self) {
        self.lost = None;
    }
}

impl Drop for AckToken {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            // Fails only when the coordinator is gone, and then nothing is acknowledged any more.
            let _ = lost.send(LostToken { position: self.position.clone(), epoch: self.epoch });
        }
    }
}

/// Something on its way through the stages, with the item that it belongs to, the duty to deliver that, and the memory that it holds.
#[derive(Debug)]
pub struct Envelope<T> {
    /// The item.
    pub item: Arc<Item>,
    /// The duty.
    pub token: AckToken,
    /// Whether it goes before others.
    pub priority: Priority,
    /// Memory held for `value`.
    pub memory: Reservation,
    /// The value.
    pub value: T,
}

impl<T> Envelope<T> {
    /// Exchanges the value and keeps everything else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Envelope<U> {
        let Self { item, token, priority, memory, value } = self;
        Envelope { item, token, priority, memory, value: f(value) }
    }

    /// Takes the value out and leaves the rest to carry another.
    pub fn split(self) -> (T, Envelope<()>) {
        let Self { item, token, priority, memory, value } = self;
        (value, Envelope { item, token, priority, memory, value: () })
    }

    /// Ends the item.
    pub fn deliver(self, outcome: Outcome) -> Delivery {
        Delivery { item: self.item, token: self.token, outcome }
    }

    /// Ends the item with a rejection.
    pub fn reject(self, rejection: Rejection) -> Delivery {
        self.deliver(Outcome::Rejected(rejection))
    }
}

/// An item with its outcome, on its way to the sinks.
#[derive(Debug)]
pub struct Delivery {
    /// The item.
    pub item: Arc<Item>,
    /// The duty.
    pub token: AckToken,
    /// How it ended.
    pub outcome: Outcome,
}
