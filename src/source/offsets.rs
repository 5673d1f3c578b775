//! Which items of a partition are finished, and how far it may be committed. Pure: no I/O and no clock.

use std::collections::VecDeque;

/// The item was never received, or has its outcome already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// One message that is not committed yet.
#[derive(Debug)]
struct Slot<T> {
    offset: i64,
    items: Vec<State<T>>,
    pending: usize,
}

#[derive(Debug)]
enum State<T> {
    Pending,
    Finished(T),
    Taken,
}

/// The messages of one partition under one assignment. Outcomes come back in any order; what leaves is the contiguous finished prefix.
///
/// Offsets may have gaps (compaction, transaction markers): order is what counts, not the difference.
#[derive(Debug)]
pub struct OffsetTracker<T> {
    /// Messages not yet forgotten, by ascending offset.
    slots: VecDeque<Slot<T>>,
    /// Number of leading slots whose items are all taken.
    whole: usize,
    /// Items taken from the slot after those.
    part: usize,
    /// Everything below is committed, or was never asked for.
    base: i64,
    unfinished: usize,
    buffered: usize,
}

impl<T> OffsetTracker<T> {
    /// A partition that begins at `next_offset`.
    pub fn new(next_offset: i64) -> Self {
        Self { slots: VecDeque::new(), whole: 0, part: 0, base: next_offset, unfinished: 0, buffered: 0 }
    }

    /// A message with `items` items came in. Offsets ascend.
    pub fn received(&mut self, offset: i64, items: u32) {
        debug_assert!(self.slots.back().is_none_or(|last| last.offset < offset), "offsets must ascend");
        self.slots.push_back(Slot { offset, items: (0..items).map(|_| State::Pending).collect(), pending: items as usize });
        self.unfinished += items as usize;
    }

    /// An item has its outcome.
    pub fn finish(&mut self, offset: i64, item: u32, outcome: T) -> Result<(), Unknown> {
        let at = self.slots.binary_search_by_key(&offset, |slot| slot.offset).map_err(|_| Unknown)?;
        let slot = &mut self.slots[at];
        match slot.items.get_mut(item as usize) {
            Some(state @ State::Pending) => *state = State::Finished(outcome),
            _ => return Err(Unknown),
        }
        slot.pending -= 1;
        self.unfinished -= 1;
        self.buffered += 1;
        Ok(())
    }

    /// Hands out what is finished and in order, each item once; of `whole` messages only, where what is handed out is committed at once and a
    /// message that is half done would be done again. No further message is begun once there are `limit` items.
    pub fn take_ready(&mut self, whole: bool, limit: usize) -> Vec<(i64, u32, T)> {
        let mut ready = Vec::new();
        while let Some(slot) = self.slots.get_mut(self.whole) {
            if whole && slot.pending > 0 || ready.len() >= limit {
                break;
            }
            while let Some(state @ State::Finished(_)) = slot.items.get_mut(self.part) {
                if let State::Finished(outcome) = std::mem::replace(state, State::Taken) {
                    ready.push((slot.offset, self.part as u32, outcome));
                }
                self.part += 1;
            }
            if self.part < slot.items.len() {
                break;
            }
            self.whole += 1;
            self.part = 0;
        }
        self.buffered -= ready.len();
        ready
    }

    /// The next offset to commit: every message below it is handed out whole, and lies below `held`, the lowest offset that some sink does not
    /// have for good.
    pub fn commit_point(&self, held: Option<i64>) -> i64 {
        let handed_out = match self.whole.checked_sub(1) {
            Some(last) => self.slots[last].offset + 1,
            None => self.base,
        };
        held.map_or(handed_out, |held| handed_out.min(held)).max(self.base)
    }

    /// Everything below `next_offset` is committed and can be forgotten.
    pub fn committed(&mut self, next_offset: i64) {
        while self.whole > 0 && self.slots.front().is_some_and(|slot| slot.offset < next_offset) {
            self.slots.pop_front();
            self.whole -= 1;
        }
        self.base = self.base.max(next_offset);
    }

    /// Items without an outcome.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Items with an outcome that wait for an earlier one.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Items received and not handed out.
    pub fn span(&self) -> usize {
        self.unfinished + self.buffered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pairs = Vec<(i64, u32)>;

    /// Messages with gaps between their offsets and 0 to 3 items, and an order in which the items finish.
    fn history() -> impl Strategy<Value = (Pairs, Pairs)> {
        proptest::collection::vec((1i64..4, 0u32..4), 1..30).prop_flat_map(|steps| {
            let mut offset = 100;
            let messages: Vec<(i64, u32)> = steps
                .into_iter()
                .map(|(gap, items)| {
                    offset += gap;
                    (offset, items)
                })
                .collect();
            let items: Vec<(i64, u32)> = messages.iter().flat_map(|(o, n)| (0..*n).map(|i| (*o, i))).collect();
            (Just(messages), Just(items).prop_shuffle())
        })
    }

    /// All that is ready, taken in portions.
    fn take(tracker: &mut OffsetTracker<(i64, u32)>, whole: bool, limit: usize) -> Vec<(i64, u32, (i64, u32))> {
        let mut all = Vec::new();
        loop {
            let portion = tracker.take_ready(whole, limit);
            // Three items are the most that a message has here.
            assert!(portion.len() < limit.saturating_add(3), "no message is begun once the limit is reached");
            if portion.is_empty() {
                return all;
            }
            all.extend(portion);
        }
    }

    proptest! {
        #[test]
        fn every_completion_order_gives_the_same_sequence(
            (messages, finishing) in history(),
            whole: bool,
            limit in prop_oneof![1usize..5, Just(usize::MAX)],
        ) {
            let mut tracker = OffsetTracker::new(100);
            for (offset, items) in &messages {
                tracker.received(*offset, *items);
            }
            let mut out = Vec::new();
            let mut done = std::collections::BTreeSet::new();
            for (offset, item) in &finishing {
                tracker.finish(*offset, *item, (*offset, *item)).unwrap();
                prop_assert!(tracker.finish(*offset, *item, (0, 0)).is_err());
                done.insert((*offset, *item));
                out.extend(take(&mut tracker, whole, limit));
                // Never a commit beyond the first message that is not whole.
                let open = messages.iter().find(|(o, n)| (0..*n).any(|i| !done.contains(&(*o, i))));
                let point = tracker.commit_point(None);
                if whole {
                    // All that was handed out lies below what can be committed: a replay repeats none of it.
                    prop_assert!(out.iter().all(|(offset, ..)| *offset < point));
                }
                prop_assert!(open.is_none_or(|(o, _)| point <= *o));
                prop_assert!(tracker.commit_point(Some(point - 1)) <= point);
                tracker.committed(point);
                prop_assert_eq!(tracker.span(), finishing.len() - out.len());
            }
            out.extend(take(&mut tracker, whole, limit));
            let expected: Vec<(i64, u32, (i64, u32))> =
                messages.iter().flat_map(|(o, n)| (0..*n).map(|i| (*o, i, (*o, i)))).collect();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(tracker.commit_point(None), messages.last().unwrap().0 + 1);
            prop_assert_eq!(tracker.unfinished() + tracker.buffered(), 0);
        }
    }

    #[test]
    fn a_held_offset_bounds_the_commit() {
        let mut tracker = OffsetTracker::new(5);
        for offset in 5..9 {
            tracker.received(offset, 1);
            tracker.finish(offset, 0, ()).unwrap();
        }
        assert_eq!(tracker.commit_point(None), 5);
        assert_eq!(tracker.take_ready(false, usize::MAX).len(), 4);
        assert_eq!(tracker.commit_point(Some(7)), 7);
        assert_eq!(tracker.commit_point(None), 9);
    }

    #[test]
    fn unknown_items_are_refused() {
        let mut tracker = OffsetTracker::new(0);
        tracker.received(3, 1);
        assert_eq!(tracker.finish(2, 0, ()), Err(Unknown));
        assert_eq!(tracker.finish(3, 1, ()), Err(Unknown));
    }
}
