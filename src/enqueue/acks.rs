//! What the broker has acknowledged, and the state file that remembers it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use serde::{Deserialize, Serialize};

use crate::listing::{Mark, Range};
use crate::source::OffsetTracker;
use crate::{Error, Result};

/// One part of an input, with the last of its entries up to which all were acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    pub(super) range: Range,
    pub(super) mark: Option<Mark>,
    pub(super) done: bool,
}

impl Shard {
    pub(super) fn new(range: Range) -> Self {
        Self { range, mark: None, done: false }
    }
}

/// The state file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    topic: String,
    inputs: Vec<String>,
    /// Number of the input that is being enqueued.
    pub(super) input: usize,
    /// Its parts; none before it was begun.
    pub(super) shards: Vec<Shard>,
    /// References acknowledged in all.
    pub(super) enqueued: u64,
}

impl State {
    pub(super) fn new(inputs: &[String], topic: &str) -> Self {
        Self { version: 1, topic: topic.to_owned(), inputs: inputs.to_vec(), input: 0, shards: Vec::new(), enqueued: 0 }
    }

    /// An earlier run's state, if it was the same undertaking.
    pub(super) fn resume(old: Self, inputs: &[String], topic: &str) -> Result<Self> {
        if old.version != 1 {
            return Err(Error::config(format!("the state file has version {}; this program reads version 1", old.version)));
        }
        if old.inputs != inputs || old.topic != topic {
            return Err(Error::config(format!(
                "the state file remembers enqueuing {} onto `{}`, which is not what was asked for; name another state file, or delete it to begin anew",
                old.inputs.join(" "),
                old.topic
            )));
        }
        Ok(old)
    }
}

/// What travels with a message to its acknowledgement.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) shard: usize,
    pub(super) number: i64,
    pub(super) mark: Mark,
}

#[derive(Debug)]
struct Open {
    /// With each mark whether the message was sent, and not left out.
    tracker: OffsetTracker<(Mark, bool)>,
    next: i64,
    mark: Option<Mark>,
    /// The listing of this part came to its end.
    ended: bool,
}

/// Producer context that collects acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acks {
    open: Mutex<Vec<Open>>,
    /// Acknowledged without a hole before them, since `begin`.
    count: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Acks {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the parts of another input.
    pub(super) fn begin(&self, shards: &[Shard]) {
        let fresh = |s: &Shard| Open { tracker: OffsetTracker::new(0), next: 0, mark: s.mark.clone(), ended: s.done };
        *self.open() = shards.iter().map(fresh).collect();
        self.count.store(0, Ordering::Release);
    }

    /// Notes that a message of this part is about to be sent; the answer is its number.
    pub(super) fn sending(&self, shard: usize) -> i64 {
        let mut open = self.open();
        let Some(open) = open.get_mut(shard) else { return 0 };
        let number = open.next;
        open.tracker.received(number, 1);
        open.next += 1;
        number
    }

    /// The listing of this part is at its end.
    pub(super) fn ended(&self, shard: usize) {
        if let Some(open) = self.open().get_mut(shard) {
            open.ended = true;
        }
    }

    /// The message will not be sent, and is not waited for.
    pub(super) fn left_out(&self, sent: Sent) {
        self.finish(sent, false);
    }

    fn finish(&self, sent: Sent, acknowledged: bool) {
        if let Some(open) = self.open().get_mut(sent.shard)
            && open.tracker.finish(sent.number, 0, (sent.mark, acknowledged)).is_ok()
        {
            let ready = open.tracker.take_ready(false, usize::MAX);
            self.count.fetch_add(ready.iter().filter(|r| r.2.1).count() as u64, Ordering::AcqRel);
            if let Some((_, _, (mark, _))) = ready.into_iter().next_back() {
                open.mark = Some(mark);
            }
        }
    }

    /// The first failure that ends the run.
    pub(super) fn fail(&self, text: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes into `shards` how far each part is, and answers how many references that are.
    pub(super) fn note(&self, shards: &mut [Shard]) -> u64 {
        let open = self.open();
        for (shard, open) in shards.iter_mut().zip(open.iter()) {
            shard.mark.clone_from(&open.mark);
            shard.done = open.ended && open.tracker.span() == 0;
        }
        self.count.load(Ordering::Acquire)
    }
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(_) => self.finish(*sent, true),
            Err((e, _)) => self.fail(e.to_string()),
        }
    }
}
