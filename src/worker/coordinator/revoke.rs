//! Partitions that are taken away: the sinks finish what is in order, then the source commits it and lets go.

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use super::Coordinator;
use crate::flow::Partition;
use crate::worker::deliver::Command;

/// Partitions that the sinks have been asked to let go, each with the epoch of its assignment.
pub(super) struct Revocation {
    pub(super) lanes: Vec<(Partition, u64)>,
    pub(super) done: oneshot::Sender<Vec<(Partition, i64)>>,
}

impl Coordinator {
    pub(super) fn on_revoked(&mut self, partitions: Vec<Partition>, done: oneshot::Sender<Vec<(Partition, i64)>>) {
        tracing::info!("giving up {} partitions", partitions.len());
        self.stats.rebalances.revoked.fetch_add(partitions.len() as u64, Relaxed);
        let (mut batch, mut points) = (Vec::new(), Vec::new());
        let mut lanes = Vec::new();
        for partition in &partitions {
            if let Some(lane) = self.lanes.get_mut(partition) {
                points.extend(lane.hand_over(partition, self.settings.transactional, usize::MAX, &mut batch));
                lane.over.cancel();
                lanes.push((partition.clone(), lane.epoch));
            }
        }
        self.send(batch, points);
        self.revocations.push(Revocation { lanes, done });
        self.command(Command::Release(partitions));
    }

    /// The sinks let go: say how far the partitions are, and forget them.
    pub(super) fn on_released(&mut self, released: &[Partition]) {
        let Some(at) = self.revocations.iter().position(|r| r.lanes.iter().all(|(p, _)| released.contains(p))) else { return };
        let revocation = self.revocations.remove(at);
        let mut offsets = Vec::new();
        for (partition, epoch) in revocation.lanes {
            if self.lanes.get(&partition).is_none_or(|lane| lane.epoch != epoch) {
                continue;
            }
            if let Some(lane) = self.lanes.get(&partition)
                && !self.settings.transactional
                && lane.commit_point() > lane.committed
            {
                offsets.push((partition.clone(), lane.commit_point()));
            }
            self.let_go(&partition);
        }
        // The source may have given up waiting; the offsets are then not committed and the next owner repeats them.
        let _ = revocation.done.send(offsets);
    }

    pub(super) fn let_go(&mut self, partition: &Partition) {
        if let Some(lane) = self.lanes.remove(partition) {
            lane.over.cancel();
            self.ledger.account(partition).handed_back += lane.open;
        }
    }
}
