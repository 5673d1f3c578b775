//! Fetches at the same time: so many in all, and no partition more than half of them, so that a stuck one never starves another;
//! live items before backfill, which leaves some free for them where there are both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow::{Gate, Partition, Permit, Priority};

/// The slots.
#[derive(Debug)]
pub struct Slots {
    all: Gate,
    share: usize,
    partitions: Mutex<HashMap<Partition, Arc<Semaphore>>>,
}

/// One slot; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _all: Option<Permit>,
    _share: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `concurrency` slots; with `both` live items and backfill, backfill leaves a quarter of them free, and at least one.
    pub fn new(concurrency: usize, both: bool) -> Self {
        let concurrency = concurrency.max(1);
        let kept = if both { (concurrency / 4).max(1) } else { 0 };
        Self { all: Gate::new(concurrency, kept), share: (concurrency / 2).max(1), partitions: Mutex::default() }
    }

    /// Waits for a slot. The partition's own share comes first: nobody waits for it with one of the common slots in hand.
    pub async fn acquire(&self, priority: Priority, partition: &Partition) -> Slot {
        let share = {
            let mut partitions = self.partitions.lock().unwrap_or_else(|e| e.into_inner());
            // Partitions come and go with rebalances; one that nobody uses is forgotten.
            if !partitions.contains_key(partition) {
                partitions.retain(|_, s| Arc::strong_count(s) > 1);
            }
            partitions.entry(partition.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.share))).clone()
        };
        // Acquiring fails only for a closed semaphore, and these never are.
        let _share = share.acquire_owned().await.ok();
        let _all = self.all.acquire(priority, 1).await;
        Slot { _all, _share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_partition_takes_at_most_half_and_at_least_one() {
        let partition = |n| Partition::new("t", n);
        let slots = Slots::new(5, false);
        let held = (slots.acquire(Priority::Live, &partition(0)).await, slots.acquire(Priority::Live, &partition(0)).await);
        assert!(slots.acquire(Priority::Live, &partition(0)).now_or_never().is_none());
        let other = (slots.acquire(Priority::Live, &partition(1)).await, slots.acquire(Priority::Live, &partition(1)).await);
        let third = slots.acquire(Priority::Live, &partition(2)).now_or_never().expect("five in all");
        assert!(slots.acquire(Priority::Live, &partition(3)).now_or_never().is_none());
        drop(held);
        assert!(slots.acquire(Priority::Live, &partition(0)).now_or_never().is_some());
        drop((other, third));
        assert!(slots.partitions.lock().unwrap().len() <= 4);
        let one = Slots::new(1, false);
        assert!(one.acquire(Priority::Live, &partition(0)).now_or_never().is_some());
        assert!(one.acquire(Priority::Live, &partition(1)).now_or_never().is_some(), "given back");
        assert_eq!(one.partitions.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_backfill_of_hosts_that_do_not_answer_leaves_live_items_slots() {
        for (concurrency, kept) in [(32, 8), (2, 1)] {
            let slots = Slots::new(concurrency, true);
            let mut held = Vec::new();
            for n in 0..4 {
                while let Some(slot) = slots.acquire(Priority::Backfill, &Partition::new("backfill", n)).now_or_never() {
                    held.push(slot);
                }
            }
            assert_eq!(held.len(), concurrency - kept);
            let live = Partition::new("live", 0);
            let mut first = Vec::new();
            while let Some(slot) = slots.acquire(Priority::Live, &live).now_or_never() {
                first.push(slot);
            }
            assert_eq!(first.len(), kept);
            // What comes free goes to the live one, though one of backfill has waited for longer.
            let (old, new) = (Partition::new("backfill", 9), Partition::new("live", 1));
            let mut waits = Box::pin(slots.acquire(Priority::Backfill, &old));
            assert!((&mut waits).now_or_never().is_none());
            let mut live = Box::pin(slots.acquire(Priority::Live, &new));
            assert!((&mut live).now_or_never().is_none());
            drop(held.pop());
            assert!((&mut waits).now_or_never().is_none());
            assert!((&mut live).now_or_never().is_some());
        }
    }
}
