//! The state of one source partition under one assignment.

use std::collections::VecDeque;

use super::ledger::Fate;
use crate::flow::Delivery;
use crate::source::OffsetTracker;

/// One partition, from its assignment to its revocation.
pub struct Lane {
    /// Which source it belongs to.
    pub source: usize,
    /// The assignment.
    pub epoch: u64,
    /// What is received, finished and handed to the sinks.
    pub tracker: OffsetTracker<Delivery>,
    /// Whether the source was told to pause it.
    pub paused: bool,
    /// Taken by every sink, and not yet durable in all of them.
    written: VecDeque<(i64, Fate)>,
    /// Lowest offset that a sink holds.
    held: Option<i64>,
    /// Lowest offset of the batch that is on its way to the sinks.
    sending: Option<i64>,
    /// Next offset as last committed.
    pub committed: i64,
    /// Items received and not booked.
    pub open: u64,
    /// Items whose tokens were dropped on purpose, while draining.
    pub dropped: usize,
    /// It is being taken away: what is not finished goes to another worker.
    pub revoking: bool,
}

impl Lane {
    /// A partition that begins at `next_offset`.
    pub fn new(source: usize, epoch: u64, next_offset: i64) -> Self {
        Self {
            source,
            epoch,
            tracker: OffsetTracker::new(next_offset),
            paused: false,
            written: VecDeque::new(),
            held: None,
            sending: None,
            committed: next_offset,
            open: 0,
            dropped: 0,
            revoking: false,
        }
    }

    /// Takes what is finished and in order, to be sent to the sinks.
    pub fn take_ready(&mut self, into: &mut Vec<Delivery>) {
        let ready = self.tracker.take_ready();
        if let Some((first, ..)) = ready.first() {
            self.sending = Some(self.sending.map_or(*first, |lowest| lowest.min(*first)));
        }
        into.extend(ready.into_iter().map(|(_, _, delivery)| delivery));
    }

    /// The sinks took everything that was sent.
    pub fn sent(&mut self) {
        self.sending = None;
    }

    /// The sinks have taken one item.
    pub fn wrote(&mut self, offset: i64, fate: Fate) {
        self.written.push_back((offset, fate));
    }

    /// The sinks say how far they are durable; gives what became final.
    pub fn settle(&mut self, held: Option<i64>) -> Vec<Fate> {
        self.held = held;
        let limit = held.unwrap_or(i64::MAX);
        let count = self.written.iter().take_while(|(offset, _)| *offset < limit).count();
        self.open = self.open.saturating_sub(count as u64);
        self.written.drain(..count).map(|(_, fate)| fate).collect()
    }

    /// Everything below is final.
    pub fn commit_point(&self) -> i64 {
        let barrier = match (self.held, self.sending) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.tracker.commit_point(barrier).max(self.committed)
    }

    /// Everything received has gone to the sinks.
    pub fn is_quiet(&self) -> bool {
        self.tracker.unfinished() == 0 && self.tracker.buffered() == 0 && self.sending.is_none()
    }
}
