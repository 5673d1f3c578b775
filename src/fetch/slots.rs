//! Fetches at the same time: so many in all, and no partition more than half of them, so that a stuck one never starves another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow::Partition;

/// The slots.
#[derive(Debug)]
pub struct Slots {
    all: Arc<Semaphore>,
    share: usize,
    partitions: Mutex<HashMap<Partition, Arc<Semaphore>>>,
}

/// One slot; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _all: Option<OwnedSemaphorePermit>,
    _share: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `concurrency` slots.
    pub fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self { all: Arc::new(Semaphore::new(concurrency)), share: (concurrency / 2).max(1), partitions: Mutex::default() }
    }

    /// Waits for a slot. The partition's own share comes first: nobody waits for it with one of the common slots in hand.
    pub async fn acquire(&self, partition: &Partition) -> Slot {
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
        let _all = self.all.clone().acquire_owned().await.ok();
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
        let slots = Slots::new(5);
        let held = (slots.acquire(&partition(0)).await, slots.acquire(&partition(0)).await);
        assert!(slots.acquire(&partition(0)).now_or_never().is_none());
        let other = (slots.acquire(&partition(1)).await, slots.acquire(&partition(1)).await);
        let third = slots.acquire(&partition(2)).now_or_never().expect("five in all");
        assert!(slots.acquire(&partition(3)).now_or_never().is_none());
        drop(held);
        assert!(slots.acquire(&partition(0)).now_or_never().is_some());
        drop((other, third));
        assert!(slots.partitions.lock().unwrap().len() <= 4);
        let one = Slots::new(1);
        assert!(one.acquire(&partition(0)).now_or_never().is_some());
        assert!(one.acquire(&partition(1)).now_or_never().is_some(), "given back");
        assert_eq!(one.partitions.lock().unwrap().len(), 1);
    }
}
