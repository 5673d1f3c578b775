//! The state of one source partition under one assignment.

use std::collections::{HashMap, VecDeque};

use tokio_util::sync::CancellationToken;

use super::ledger::Fate;
use crate::flow::{CommitPoint, Delivery, Partition, Priority};
use crate::source::{OffsetTracker, Progress};
use crate::telemetry::Pace;

/// Most items of one write, of all partitions together. What a late item has held up would otherwise go at once, thousands of them, and a revocation or
/// a stop waits for the write that is under way.
const WRITE: usize = 512;
/// The same of backfill where there is live input, which waits, too.
const BACKFILL_WRITE: usize = 256;

/// What goes to the sinks next, of which each partition has its share: live partitions, then backfill.
pub fn next_write(
    lanes: &mut HashMap<Partition, Lane>,
    priority: impl Fn(usize) -> Priority,
    transactional: bool,
) -> (Vec<Delivery>, Vec<CommitPoint>) {
    let (mut batch, mut points) = (Vec::new(), Vec::new());
    for turn in Priority::ORDER {
        let sharing = lanes.values().filter(|lane| priority(lane.source) == turn).count();
        let beside_live = turn == Priority::Backfill && sharing < lanes.len();
        let limit = (if beside_live { BACKFILL_WRITE } else { WRITE } / sharing.max(1)).max(1);
        for (partition, lane) in lanes.iter_mut().filter(|(_, lane)| !lane.is_revoking() && priority(lane.source) == turn) {
            points.extend(lane.hand_over(partition, transactional, limit, &mut batch));
        }
    }
    (batch, points)
}

/// One partition, from its assignment to its revocation.
pub struct Lane {
    /// Which source it belongs to.
    pub source: usize,
    /// The assignment, as the coordinator counts them.
    pub epoch: u64,
    /// The assignment, as the source counts them.
    pub assignment: u64,
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
    /// Offset behind the last message that came.
    pub next: i64,
    /// The partition's end when it was last asked for, where it is known.
    pub end: Option<i64>,
    /// The offset that the source would have given next when it was last asked.
    position: i64,
    /// That offset when what is committed was last moved past the markers before it, and the one that is on its way.
    passed: i64,
    passing: i64,
    /// How fast offsets are committed.
    pub pace: Pace,
    /// Cancelled when it is taken away: what is not finished goes to another worker, and the stages need not go on with it.
    pub over: CancellationToken,
}

impl Lane {
    /// A partition that begins at `next_offset`.
    pub fn new(source: usize, epoch: u64, assignment: u64, next_offset: i64) -> Self {
        Self {
            source,
            epoch,
            assignment,
            tracker: OffsetTracker::new(next_offset),
            paused: false,
            written: VecDeque::new(),
            held: None,
            sending: None,
            committed: next_offset,
            open: 0,
            dropped: 0,
            next: next_offset,
            end: None,
            position: next_offset,
            passed: next_offset,
            passing: next_offset,
            pace: Pace::default(),
            over: CancellationToken::new(),
        }
    }

    /// Whether it is being taken away.
    pub fn is_revoking(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Takes what is finished and in order, to be sent to the sinks; of `whole` messages only, if asked for, and no further message once there are
    /// `limit` items.
    pub fn take_ready(&mut self, whole: bool, limit: usize, into: &mut Vec<Delivery>) {
        let ready = self.tracker.take_ready(whole, limit);
        if let Some((first, ..)) = ready.first() {
            self.sending = Some(self.sending.map_or(*first, |lowest| lowest.min(*first)));
        }
        into.extend(ready.into_iter().map(|(_, _, delivery)| delivery));
    }

    /// [`Self::take_ready`], and how far the partition is done with what was taken. Of whole messages only where `transactional`: what is handed over
    /// is then committed with it.
    pub fn hand_over(&mut self, partition: &Partition, transactional: bool, limit: usize, into: &mut Vec<Delivery>) -> Option<CommitPoint> {
        let before = into.len();
        self.take_ready(transactional, limit, into);
        if into.len() == before {
            return None;
        }
        if transactional {
            self.committing();
        }
        Some(self.point(partition, self.tracker.commit_point(None)))
    }

    /// Under this assignment, done up to `next_offset`.
    pub fn point(&self, partition: &Partition, next_offset: i64) -> CommitPoint {
        CommitPoint { source: self.source, partition: partition.clone(), assignment: self.assignment, next_offset }
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

    /// Whether all that came is committed, and the source has gone on past markers of transactions since. They would stay uncommitted until there is a next
    /// message, and retention, which deletes markers like messages, would seem to have deleted something unread.
    pub fn is_before_markers(&self) -> bool {
        self.open == 0 && self.is_quiet() && self.committed == self.next && self.position > self.next.max(self.passed)
    }

    /// A commit is on its way, which the source moves past the markers where all is done.
    pub fn committing(&mut self) {
        self.passing = self.position;
    }

    /// Offsets below are committed.
    pub fn committed(&mut self, next_offset: i64) {
        self.committed = self.committed.max(next_offset);
        self.tracker.committed(next_offset);
        if self.committed == self.next {
            self.passed = self.passing;
        }
    }

    /// Items that are finished and not yet with every sink.
    pub fn delivering(&self) -> u64 {
        self.open.saturating_sub(self.tracker.unfinished() as u64 + self.written.len() as u64)
    }

    /// The source said how far it is.
    pub fn seen(&mut self, progress: &Progress) {
        self.end = progress.exact.then_some(progress.end);
        self.position = progress.position;
    }

    /// Messages that are still to come; `None` while the end is not known.
    pub fn to_come(&self) -> Option<u64> {
        self.behind(self.next)
    }

    /// Messages between what is committed and the end; `None` while the end is not known.
    pub fn lag(&self) -> Option<u64> {
        // With nothing under way all that came is done, if only committed with the next message.
        self.behind(if self.open == 0 { self.next } else { self.committed })
    }

    fn behind(&self, offset: i64) -> Option<u64> {
        let end = self.end?;
        // Behind the last message there may be markers of transactions, which nobody will ever give.
        let over = self.open == 0 && self.position >= end;
        Some(if over { 0 } else { u64::try_from(end - offset).unwrap_or_default() })
    }

    /// Everything received has gone to the sinks.
    pub fn is_quiet(&self) -> bool {
        self.tracker.unfinished() == 0 && self.tracker.buffered() == 0 && self.sending.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Position;
    use crate::sink::conformance::{What, delivery};

    fn any_delivery(offset: i64, item: u32, last: bool) -> Delivery {
        delivery(Position { partition: Partition::new("refs", 0), offset, item }, last, What::Record)
    }

    #[test]
    fn a_lag_counts_what_is_under_way_and_no_marker_behind_the_last_message() {
        let mut lane = Lane::new(0, 1, 1, 10);
        let seen = |position, end, exact| Progress { partition: Partition::new("refs", 0), position, end, exact };
        assert_eq!((lane.lag(), lane.to_come()), (None, None), "nobody has looked yet");
        lane.seen(&seen(10, 21, true));
        assert_eq!((lane.lag(), lane.to_come()), (Some(11), Some(11)));
        (lane.next, lane.open) = (15, 5);
        assert_eq!((lane.lag(), lane.to_come()), (Some(11), Some(6)));
        lane.committed = 13;
        assert_eq!((lane.lag(), lane.to_come()), (Some(8), Some(6)));
        // The last message is 19, and 20 is a marker.
        (lane.next, lane.open, lane.committed) = (20, 0, 20);
        lane.seen(&seen(21, 21, true));
        assert_eq!((lane.lag(), lane.to_come()), (Some(0), Some(0)));
        lane.seen(&seen(21, 22, false));
        assert_eq!((lane.lag(), lane.to_come()), (None, None), "of a listing it is only known that there is more");
    }

    /// Retention deleted a marker behind the last message, and the worker that came next believed that a message had been lost.
    #[test]
    fn markers_behind_the_last_message_are_committed_once_when_all_is_done() {
        let seen = |position| Progress { partition: Partition::new("refs", 0), position, end: 30, exact: true };
        let mut lane = Lane::new(0, 1, 1, 10);
        assert!(!lane.is_before_markers());
        lane.tracker.received(10, 1);
        (lane.open, lane.next) = (1, 11);
        lane.seen(&seen(11));
        lane.tracker.finish(10, 0, any_delivery(10, 0, true)).unwrap();
        let mut batch = Vec::new();
        let point = lane.hand_over(&Partition::new("refs", 0), true, 100, &mut batch).unwrap();
        lane.seen(&seen(12));
        assert!(!lane.is_before_markers(), "a message is under way");
        lane.wrote(10, Fate::Published);
        lane.sent();
        lane.settle(None);
        lane.committed(point.next_offset);
        assert!(lane.is_before_markers(), "the commit was on its way before the marker was seen");
        lane.committing();
        lane.seen(&seen(13));
        lane.committed(11);
        assert!(lane.is_before_markers(), "there is another one since");
        lane.committing();
        lane.committed(11);
        assert!(!lane.is_before_markers());
    }

    #[test]
    fn a_write_is_bounded_and_takes_what_is_live_first_and_a_part_of_each_backfill() {
        let mut lanes = HashMap::new();
        // Source 0 is live.
        for (topic, source, ready) in [("old", 1, 5000), ("older", 1, 5000), ("new", 0, 700)] {
            let mut lane = Lane::new(source, 1, 1, 0);
            for offset in 0..ready {
                lane.tracker.received(offset, 1);
                let position = Position { partition: Partition::new(topic, 0), offset, item: 0 };
                lane.tracker.finish(offset, 0, delivery(position, true, What::Record)).unwrap();
            }
            lanes.insert(Partition::new(topic, 0), lane);
        }
        let of = |source| if source == 0 { Priority::Live } else { Priority::Backfill };
        let mut taken: HashMap<String, Vec<i64>> = HashMap::new();
        for round in 0..40 {
            let (batch, points) = next_write(&mut lanes, of, true);
            let topics: Vec<&str> = batch.iter().map(|d| &*d.item.position.partition.topic).collect();
            assert_eq!(topics.iter().take_while(|t| **t == "new").count(), [512, 188].get(round).copied().unwrap_or(0));
            assert_eq!(topics.iter().filter(|t| **t == "old").count(), if round < 39 { 128 } else { 5000 - 39 * 128 });
            for delivery in batch {
                let position = &delivery.item.position;
                taken.entry(position.partition.topic.to_string()).or_default().push(position.offset);
                let point = points.iter().find(|point| point.partition == position.partition).unwrap();
                assert!(point.next_offset > position.offset, "what is handed over is committed with it");
            }
        }
        assert!(next_write(&mut lanes, of, true).0.is_empty());
        for (topic, count) in [("old", 5000), ("older", 5000), ("new", 700)] {
            assert_eq!(taken[topic], (0..count).collect::<Vec<i64>>(), "{topic}: each once, in order");
        }
        // Alone, backfill has all of a write, which is bounded nevertheless: once a stop and a revocation waited for the files of thousands of rows.
        let mut alone = Lane::new(1, 1, 1, 0);
        for offset in 0..5000 {
            alone.tracker.received(offset, 1);
            alone.tracker.finish(offset, 0, any_delivery(offset, 0, true)).unwrap();
        }
        let mut lanes = HashMap::from([(Partition::new("refs", 0), alone)]);
        let writes: Vec<usize> =
            std::iter::repeat_with(|| next_write(&mut lanes, of, true).0.len()).take_while(|count| *count > 0).collect();
        assert_eq!((writes.len(), writes.iter().sum(), writes[0]), (10, 5000, 512));
    }

    proptest! {
        /// Messages of 1 to 3 items finish in any order; the sinks take them batch by batch and hold back what they like.
        #[test]
        fn nothing_is_committed_before_every_sink_has_it_and_every_item_is_booked_once(
            counts in proptest::collection::vec(1u32..4, 1..20),
            seed in proptest::collection::vec(any::<prop::sample::Index>(), 60),
            held_back in proptest::collection::vec(proptest::option::of(0i64..25), 60),
        ) {
            let mut lane = Lane::new(0, 1, 1, 0);
            let mut open: Vec<(i64, u32, bool)> = Vec::new();
            for (offset, count) in counts.iter().enumerate() {
                lane.tracker.received(offset as i64, *count);
                lane.open += u64::from(*count);
                open.extend((0..*count).map(|item| (offset as i64, item, item + 1 == *count)));
            }
            let received = lane.open;
            let (mut booked, mut durable_below, mut point_before) = (0, 0, 0);
            for (index, held_back) in seed.iter().zip(held_back) {
                if open.is_empty() {
                    break;
                }
                let (offset, item, last) = open.swap_remove(index.index(open.len()));
                lane.tracker.finish(offset, item, any_delivery(offset, item, last)).unwrap();
                let mut batch = Vec::new();
                lane.take_ready(false, usize::MAX, &mut batch);
                if let Some(first) = batch.first() {
                    prop_assert!(lane.commit_point() <= first.item.position.offset, "what is on its way is not committed");
                }
                batch.iter().for_each(|d| lane.wrote(d.item.position.offset, Fate::Published));
                lane.sent();
                // A sink holds a suffix of what it was given, and never anew what it had for good.
                let held = held_back.map(|held| held.max(durable_below));
                durable_below = held.unwrap_or(i64::MAX).max(durable_below).min(counts.len() as i64);
                booked += lane.settle(held).len() as u64;
                prop_assert_eq!(lane.open + booked, received);
                let point = lane.commit_point();
                prop_assert!(point >= point_before && held.is_none_or(|held| point <= held.max(point_before)));
                prop_assert!(open.iter().all(|(offset, ..)| *offset >= point), "an unfinished message is not committed");
                point_before = point;
            }
            booked += lane.settle(None).len() as u64;
            if open.is_empty() {
                prop_assert!(lane.is_quiet());
                prop_assert_eq!((booked, lane.open, lane.commit_point()), (received, 0, counts.len() as i64));
            }
        }
    }
}
