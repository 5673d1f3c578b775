//! Counters that the stages share. Everything that a stage touches for each item is a plain atomic: it never waits to be counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::attempts::Attempts;
use super::facts::Facts;
use super::histogram::Histogram;
use super::snapshot::Snapshot;

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of the buckets of micro-batches, in pictures.
const PICTURES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Time spent in one stage.
#[derive(Debug)]
pub struct Timer {
    nanos: AtomicU64,
    pieces: Histogram,
}

impl Default for Timer {
    fn default() -> Self {
        Self { nanos: AtomicU64::new(0), pieces: Histogram::new(SECONDS) }
    }
}

impl Timer {
    /// Adds one piece of work.
    pub fn add(&self, time: Duration) {
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.pieces.observe(time.as_secs_f64());
    }

    /// Time in all, over all threads.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }

    /// Pieces of work.
    pub fn count(&self) -> u64 {
        self.pieces.count()
    }

    /// Pieces of work by how long they took, in seconds.
    pub fn histogram(&self) -> &Histogram {
        &self.pieces
    }
}

/// Micro-batches and the images in them.
#[derive(Debug)]
pub struct Batches {
    images: AtomicU64,
    sizes: Histogram,
}

impl Default for Batches {
    fn default() -> Self {
        Self { images: AtomicU64::new(0), sizes: Histogram::new(PICTURES) }
    }
}

impl Batches {
    /// Counts one micro-batch.
    pub fn add_one(&self, images: usize) {
        self.images.fetch_add(images as u64, Relaxed);
        self.sizes.observe(images as f64);
    }

    /// Images that the model has seen.
    pub fn images(&self) -> u64 {
        self.images.load(Relaxed)
    }

    /// Mean size of a micro-batch.
    pub fn mean(&self) -> f64 {
        self.images() as f64 / self.sizes.count().max(1) as f64
    }

    /// Micro-batches by their size in images.
    pub fn histogram(&self) -> &Histogram {
        &self.sizes
    }
}

/// How transactions ended.
#[derive(Debug, Default)]
pub struct TransactionEnds {
    /// Seen by readers.
    pub committed: AtomicU64,
    /// Written again, or another worker's by now.
    pub aborted: AtomicU64,
    /// The brokers refuse this producer for good.
    pub fenced: AtomicU64,
}

/// Partitions that came and went.
#[derive(Debug, Default)]
pub struct Rebalances {
    /// Given to this worker.
    pub assigned: AtomicU64,
    /// Asked back, and let go of in order.
    pub revoked: AtomicU64,
    /// Another worker's before this one could let go.
    pub lost: AtomicU64,
}

/// What the stages of one worker count, and what a monitor may know of it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Fetching, waiting for the network included.
    pub fetch: Timer,
    /// Decoding, hashing and resizing.
    pub decode: Timer,
    /// Inference, a micro-batch at a time.
    pub infer: Timer,
    /// Writing to the sinks and waiting until they have it.
    pub deliver: Timer,
    /// Micro-batches.
    pub batches: Batches,
    /// Bytes fetched.
    pub bytes: AtomicU64,
    /// Items received.
    pub received: AtomicU64,
    /// Items with an outcome, published or not.
    pub finished: AtomicU64,
    /// Items rejected.
    pub rejected: AtomicU64,
    /// Items that every sink has taken.
    pub written: AtomicU64,
    /// Items received that not every sink has taken, as of the last look.
    pub open: AtomicU64,
    /// Messages that the sources still have, where known; -1 where not.
    pub lag: AtomicI64,
    /// Items that are being fetched, or wait for it.
    pub fetching: AtomicI64,
    /// Items from their whole body to the end of inference.
    pub computing: AtomicI64,
    /// Attempts to fetch.
    pub attempts: Arc<Attempts>,
    /// How transactions ended.
    pub transactions: TransactionEnds,
    /// Partitions that came and went.
    pub rebalances: Rebalances,
    /// For how long nothing has moved though there is work, in milliseconds, as the watchdog sees it.
    pub still_ms: AtomicU64,
    /// What the coordinator saw last.
    pub board: watch::Sender<Snapshot>,
    /// What does not change any more once the stages run.
    pub facts: OnceLock<Facts>,
}

impl Stats {
    /// Counters of which one changes whenever an item moves.
    pub fn moved(&self) -> [u64; 3] {
        [&self.received, &self.finished, &self.written].map(|counter| counter.load(Relaxed))
    }

    /// Whether something should move.
    pub fn has_work(&self) -> bool {
        self.open.load(Relaxed) > 0 || self.lag.load(Relaxed) > 0
    }

    /// Time that compute threads have spent working; a thread that waits for its helper process works.
    pub fn busy(&self) -> Duration {
        self.decode.total() + self.infer.total()
    }
}

/// Counts one more for as long as it lives, whatever ends it.
pub struct Presence<'a>(&'a AtomicI64);

impl<'a> Presence<'a> {
    /// One more.
    pub fn new(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
