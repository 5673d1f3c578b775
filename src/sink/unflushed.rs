use std::collections::HashMap;

use crate::flow::Partition;

/// The lowest offset of each partition that was written since the last flush.
#[derive(Debug, Default)]
pub(super) struct Unflushed(HashMap<Partition, i64>);

impl Unflushed {
    pub(super) fn note(&mut self, partition: &Partition, offset: i64) {
        match self.0.get_mut(partition) {
            Some(lowest) => *lowest = offset.min(*lowest),
            None => {
                self.0.insert(partition.clone(), offset);
            }
        }
    }

    pub(super) fn lowest(&self, partition: &Partition) -> Option<i64> {
        self.0.get(partition).copied()
    }

    pub(super) fn forget(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
