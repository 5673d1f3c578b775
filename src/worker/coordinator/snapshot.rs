//! What the coordinator shows of itself: twice a second, as one value that health and metrics read whenever they are asked.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use super::{Coordinator, Phase};
use crate::flow::Partition;
use crate::telemetry::{MOST_PARTITIONS, Pace, PartitionStatus, Snapshot, State};
use crate::worker::lane::Lane;

/// What it keeps for that.
#[derive(Default)]
pub(super) struct Shown {
    /// Messages received.
    pub(super) messages: u64,
    /// The counters that say whether anything moved, and when they last did.
    moved: ([u64; 3], Option<SystemTime>),
    /// How fast items end, and how fast they do while there are any.
    rate: Pace,
    pace: Pace,
}

impl Coordinator {
    pub(super) fn show(&mut self) {
        let now = Instant::now();
        let counters = self.stats.moved();
        // The start counts, or an alert could not tell a worker that has just begun from one that stands still.
        if self.shown.moved.1.is_none() || counters != self.shown.moved.0 {
            self.shown.moved = (counters, Some(SystemTime::now()));
        }
        let finished = self.stats.finished.load(Relaxed) as f64;
        self.shown.rate.record(now, finished, true);
        self.shown.pace.record(now, finished, self.lanes.values().any(|lane| lane.open > 0));
        self.lanes.values_mut().for_each(|lane| lane.pace.record(now, lane.committed as f64, lane.open > 0));
        let all: Option<usize> = self.feeds.iter().map(|feed| feed.control.of_partitions()).sum();
        let snapshot = Snapshot {
            state: self.state(),
            seen: Some(now),
            total: self.ledger.total(),
            assigned: self.lanes.len(),
            of_partitions: all,
            partitions: self.partitions(),
            delivering: self.lanes.values().map(Lane::delivering).sum(),
            left: self.left(),
            rate: self.shown.rate.per_second(),
            pace: self.shown.pace.per_second(),
            moved: self.shown.moved.1,
        };
        self.stats.board.send_replace(snapshot);
    }

    fn state(&self) -> State {
        match self.phase {
            // Each source has given something, or has said that there is nothing.
            Phase::Running if (0..self.feeds.len()).all(|source| self.behind[source].is_some() || self.has_lane(source)) => State::Running,
            Phase::Running => State::Joining,
            Phase::Finishing => State::Finishing,
            Phase::Draining(_) => State::Draining,
            Phase::Closing | Phase::Closed => State::Closing,
        }
    }

    fn has_lane(&self, source: usize) -> bool {
        self.lanes.values().any(|lane| lane.source == source)
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let mut lanes: Vec<(&Partition, &Lane)> = self.lanes.iter().collect();
        lanes.sort_unstable_by_key(|(partition, _)| *partition);
        lanes.truncate(MOST_PARTITIONS);
        lanes.into_iter().map(|(partition, lane)| status(partition, lane)).collect()
    }

    /// Items to come and under way: messages that are to come have as many items as those that came.
    fn left(&self) -> Option<f64> {
        let to_come: Option<u64> = self.lanes.values().map(Lane::to_come).sum();
        let open: u64 = self.lanes.values().map(|lane| lane.open).sum();
        let of_each = if self.shown.messages == 0 { 1.0 } else { self.received as f64 / self.shown.messages as f64 };
        // Without any partition nothing is known of them, not even that nothing is left.
        to_come.filter(|_| !self.lanes.is_empty()).map(|to_come| to_come as f64 * of_each + open as f64)
    }
}

fn status(partition: &Partition, lane: &Lane) -> PartitionStatus {
    let lag = lane.lag();
    let pace = lane.pace.per_second().filter(|pace| *pace > 0.0);
    let drain = lag.zip(pace).and_then(|(lag, pace)| Duration::try_from_secs_f64(lag as f64 / pace).ok());
    PartitionStatus { partition: partition.clone(), committed: lane.committed, lag, drain, open: lane.open }
}
