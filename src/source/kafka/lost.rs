//! What the thread does when the messages that it wants next are gone.

use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::error::KafkaError;

use super::offsets::{Lost, Place, count_lost, place};
use super::poller::{ANSWER, Poller};
use super::{offsets_list, partitions_list};
use crate::config::OnLost;
use crate::error::{Error, Result};
use crate::flow::Partition;
use crate::kafka::lock;
use crate::source::Event;

impl Poller {
    /// An offset is out of range, librdkafka does not say where: finds the partitions whose next message is gone.
    pub(super) fn look_for_lost(&mut self) -> Result<()> {
        let positions: Vec<(Partition, i64)> =
            lock(&self.shared).owned.iter().filter(|(_, o)| !o.leaving).map(|(p, o)| (p.clone(), o.next.max(o.position()))).collect();
        let mut found = Vec::new();
        for (partition, position) in &positions {
            match self.bounds(partition, Some(*position)) {
                Ok((low, high)) => {
                    if let Place::Lost(lost) = place(Some(*position), low, high, self.config.start) {
                        let at = self.lost(partition, &lost)?;
                        self.move_to(partition, at, matches!(lost, Lost::Recreated { .. }));
                        found.push((partition.clone(), at));
                    }
                }
                Err(e) => tracing::warn!("{partition}: its bounds could not be read: {e}"),
            }
        }
        // It was out of range only in between: whichever it was, reading on where it was does no harm.
        self.restart(if found.is_empty() { positions } else { found })
    }

    /// Reads on at these offsets. A seek would not do: after an offset out of range librdkafka has stopped the partition.
    fn restart(&mut self, at: Vec<(Partition, i64)>) -> Result<()> {
        let list = offsets_list(at.iter().map(|(p, o)| (p, *o)))?;
        let moved = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self
                .consumer
                .incremental_unassign(&partitions_list(at.iter().map(|(p, _)| p)))
                .and_then(|()| self.consumer.incremental_assign(&list)),
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                let all: Vec<_> = lock(&self.shared).owned.iter().filter(|(_, o)| !o.leaving).map(|(p, o)| (p.clone(), o.next)).collect();
                self.consumer.assign(&offsets_list(all.iter().map(|(p, o)| (p, *o)))?)
            }
        };
        moved.map_err(|e| Error::failed(format!("partitions could not be read on: {e}")))?;
        for (partition, _) in at {
            if let Some(owned) = lock(&self.shared).owned.get_mut(&partition) {
                owned.end_seen = None;
            }
            if self.choked || self.paused.contains(&partition) {
                self.pause([&partition]);
            } else {
                self.running.insert(partition, (Instant::now(), false));
            }
        }
        Ok(())
    }

    /// Goes on elsewhere in a partition. Where offsets begin `anew`, the worker has to forget the former ones.
    fn move_to(&mut self, partition: &Partition, at: i64, anew: bool) {
        if anew {
            self.held_back.retain(|e| !matches!(e, Event::Message(m) if m.partition == *partition));
            self.emit(Event::Lost { partitions: vec![partition.clone()] });
            let assignment = {
                let mut shared = lock(&self.shared);
                shared.assignments += 1;
                shared.assignments
            };
            if let Some(owned) = lock(&self.shared).owned.get_mut(partition) {
                owned.assignment = assignment;
            }
            self.emit(Event::Assigned { partition: partition.clone(), assignment, next_offset: at });
        }
        if let Some(owned) = lock(&self.shared).owned.get_mut(partition) {
            if anew || owned.handed == owned.next {
                owned.handed = at;
            }
            if anew {
                owned.begun = at;
            }
            owned.next = at;
        }
    }

    /// What `on_lost` says about it: the offset to go on at, or the error to stop with.
    pub(super) fn lost(&self, partition: &Partition, lost: &Lost) -> Result<i64> {
        let what = lost.describe(partition);
        match self.config.on_lost {
            OnLost::Stop => Err(Error::failed(format!(
                "{what}. To go on without them set `on_lost: continue`, or put the group where it shall go on with kafka-consumer-groups.sh --reset-offsets"
            ))),
            OnLost::Continue => {
                tracing::warn!("{what}; going on there (on_lost: continue)");
                count_lost(lost);
                Ok(lost.go_on_at())
            }
        }
    }

    /// Oldest offset and end. An end below `expected` is asked for again for a while: right after a change of leaders it may lag behind.
    pub(super) fn bounds(&self, partition: &Partition, expected: Option<i64>) -> Result<(i64, i64), KafkaError> {
        let mut tries = 0;
        loop {
            let (low, high) = self.consumer.fetch_watermarks(&partition.topic, partition.partition, ANSWER)?;
            if tries == 4 || expected.is_none_or(|e| e <= high) {
                return Ok((low, high));
            }
            tries += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
