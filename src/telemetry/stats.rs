//! Counters that the stages share. Everything is a plain atomic: a stage never waits to be counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time spent in one stage.
#[derive(Debug, Default)]
pub struct Timer {
    nanos: AtomicU64,
    count: AtomicU64,
}

impl Timer {
    /// Adds one piece of work.
    pub fn add(&self, time: Duration) {
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// Time in all, over all threads.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }

    /// Pieces of work.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

/// Micro-batches and the images in them.
#[derive(Debug, Default)]
pub struct Batches {
    count: AtomicU64,
    images: AtomicU64,
}

impl Batches {
    /// Counts one micro-batch.
    pub fn add_one(&self, images: usize) {
        self.count.fetch_add(1, Relaxed);
        self.images.fetch_add(images as u64, Relaxed);
    }

    /// Images that the model has seen.
    pub fn images(&self) -> u64 {
        self.images.load(Relaxed)
    }

    /// Mean size of a micro-batch.
    pub fn mean(&self) -> f64 {
        self.images() as f64 / self.count.load(Relaxed).max(1) as f64
    }
}

/// Counters of one worker.
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
}
