//! Which offset of a partition may be committed, when items finish in any order.
//!
//! Pure bookkeeping: no I/O and no clock. Results leave in the order in which their items came, and an offset counts as done only when every item
//! of its message, and of all messages before it, was handed out; so what is committed is always a prefix without holes.

use std::collections::VecDeque;

/// An item that the tracker does not wait for: never received, or finished before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {item} of offset {offset} is not waited for: it was never received, or was finished before")]
pub struct Unknown {
    /// Offset of the message.
    pub offset: i64,
    /// Number of the item within it.
    pub item: u32,
}

/// A message of which not every item was handed out.
#[derive(Debug)]
struct Pending {
    offset: i64,
    items: u32,
    /// Running number of its first item, among all items of the assignment.
    first: u64,
}

/// What is open of one partition under one assignment. Every operation takes constant amortised time; [`finish`](Self::finish) takes logarithmic
/// time where the partition's offsets have gaps (compaction, transaction markers).
#[derive(Debug)]
pub struct OffsetTracker<T> {
    /// Messages not wholly handed out, by rising offset.
    messages: VecDeque<Pending>,
    /// Items received and not handed out, in order; `None` while unfinished.
    slots: VecDeque<Option<T>>,
    /// Running number of the first slot.
    base: u64,
    /// Slots that hold an outcome.
    finished: usize,
    /// The next offset that may be received.
    next: i64,
    /// Everything below was handed out.
    done: i64,
    /// Everything below was committed.
    committed: i64,
}

impl<T> OffsetTracker<T> {
    /// A tracker of an assignment that begins at `next_offset`.
    pub fn new(next_offset: i64) -> Self {
        Self {
            messages: VecDeque::new(),
            slots: VecDeque::new(),
            base: 0,
            finished: 0,
            next: next_offset,
            done: next_offset,
            committed: next_offset,
        }
    }

    /// Notes a message of `items` items. Offsets rise, perhaps with gaps; an offset that is not above all before it is not noted, and the answer is
    /// `false`.
    pub fn received(&mut self, offset: i64, items: u32) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset.saturating_add(1);
        let first = self.base + self.slots.len() as u64;
        self.messages.push_back(Pending { offset, items, first });
        self.slots.extend(std::iter::repeat_with(|| None).take(items as usize));
        self.pass_complete();
        true
    }

    /// Notes the outcome of one item.
    ///
    /// # Errors
    /// [`Unknown`] if the item was never received or was finished before; nothing changes then.
    pub fn finish(&mut self, offset: i64, item: u32, outcome: T) -> Result<(), Unknown> {
        let unknown = Unknown { offset, item };
        let message = self.find(offset).filter(|m| item < m.items).ok_or_else(|| unknown.clone())?;
        // An item below the base was handed out already, though later ones of its message were not.
        let at = (message.first + u64::from(item)).checked_sub(self.base).ok_or_else(|| unknown.clone())?;
        match self.slots.get_mut(at as usize) {
            Some(slot @ None) => *slot = Some(outcome),
            _ => return Err(unknown),
        }
        self.finished += 1;
        Ok(())
    }

    fn find(&self, offset: i64) -> Option<&Pending> {
        let ahead = usize::try_from(offset.checked_sub(self.messages.front()?.offset)?).ok()?;
        match self.messages.get(ahead) {
            // Without gaps the difference of the offsets is the index.
            Some(m) if m.offset == offset => Some(m),
            _ => self.messages.binary_search_by_key(&offset, |m| m.offset).ok().map(|i| &self.messages[i]),
        }
    }

    /// Hands out the finished items up to the first unfinished one, as (offset, item, outcome) in order, each exactly once. Items of a message may
    /// leave before its later items are finished.
    pub fn take_ready(&mut self) -> Vec<(i64, u32, T)> {
        let mut ready = Vec::new();
        while let Some(outcome) = self.slots.front_mut().and_then(Option::take) {
            self.slots.pop_front();
            self.finished -= 1;
            let number = self.base;
            self.base += 1;
            // Messages without open items were passed, so the front one owns the front slot.
            if let Some(m) = self.messages.front() {
                ready.push((m.offset, (number - m.first) as u32, outcome));
            }
            self.pass_complete();
        }
        ready
    }

    /// Drops the messages at the front of which everything was handed out.
    fn pass_complete(&mut self) {
        while let Some(m) = self.messages.front().filter(|m| m.first + u64::from(m.items) <= self.base) {
            self.done = m.offset.saturating_add(1);
            self.messages.pop_front();
        }
    }

    /// The next offset to commit: every message below it was handed out whole, and lies below `held`, the lowest offset that some sink has not yet
    /// made durable. Never less than what was committed before.
    pub fn commit_point(&self, held: Option<i64>) -> i64 {
        held.map_or(self.done, |h| h.min(self.done)).max(self.committed)
    }

    /// Notes that everything below `next_offset` was committed.
    pub fn committed(&mut self, next_offset: i64) {
        self.committed = self.committed.max(next_offset.min(self.done));
    }

    /// Items received and not finished.
    pub fn unfinished(&self) -> usize {
        self.slots.len() - self.finished
    }

    /// Items finished and not yet taken, since an earlier one is not finished.
    pub fn buffered(&self) -> usize {
        self.finished
    }

    /// Items received and not taken.
    pub fn span(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Finishes `order` one by one and checks every step against the definition.
    fn follow(start: i64, messages: &[(i64, u32)], order: &[(i64, u32)], take: impl Fn(usize) -> bool) {
        let mut tracker = OffsetTracker::new(start);
        let all: Vec<(i64, u32)> = messages.iter().flat_map(|&(o, n)| (0..n).map(move |i| (o, i))).collect();
        for &(offset, items) in messages {
            assert!(tracker.received(offset, items));
        }
        let (mut finished, mut taken) = (std::collections::HashSet::new(), Vec::new());
        for (step, &(offset, item)) in order.iter().enumerate() {
            tracker.finish(offset, item, (offset, item)).expect("first time");
            assert!(tracker.finish(offset, item, (offset, item)).is_err(), "a second time");
            finished.insert((offset, item));
            if take(step) {
                for (o, i, outcome) in tracker.take_ready() {
                    assert_eq!((o, i), outcome);
                    taken.push(outcome);
                }
                let prefix: Vec<_> = all.iter().copied().take_while(|p| finished.contains(p)).collect();
                assert_eq!(taken, prefix);
                assert!(tracker.finish(offset, item, (offset, item)).is_err(), "after it was taken");
            }
            assert_eq!(tracker.unfinished(), all.len() - finished.len());
            assert_eq!(tracker.buffered(), finished.len() - taken.len());
            assert_eq!(tracker.span(), all.len() - taken.len());
            let complete = |o: i64| all.iter().filter(|p| p.0 == o).all(|p| taken.contains(p));
            let expected = messages.iter().take_while(|m| complete(m.0)).last().map_or(start, |m| m.0 + 1);
            assert_eq!(tracker.commit_point(None), expected);
        }
        taken.extend(tracker.take_ready().into_iter().map(|r| r.2));
        assert_eq!(taken, all, "everything left, in order, once");
        assert_eq!(tracker.commit_point(None), messages.last().map_or(start, |m| m.0 + 1));
        assert_eq!((tracker.unfinished(), tracker.buffered(), tracker.span()), (0, 0, 0));
    }

    fn permutations(items: &mut Vec<(i64, u32)>, k: usize, each: &mut impl FnMut(&[(i64, u32)])) {
        if k == items.len() {
            return each(items);
        }
        for i in k..items.len() {
            items.swap(k, i);
            permutations(items, k + 1, each);
            items.swap(k, i);
        }
    }

    #[test]
    fn every_completion_order_of_seven_items_is_handed_out_in_order() {
        let messages = [(5, 2), (6, 0), (9, 1), (10, 3), (20, 1)];
        let mut items: Vec<(i64, u32)> = messages.iter().flat_map(|&(o, n)| (0..n).map(move |i| (o, i))).collect();
        let mut orders = 0;
        permutations(&mut items, 0, &mut |order| {
            orders += 1;
            follow(3, &messages, order, |_| true);
        });
        assert_eq!(orders, 5040);
    }

    #[test]
    fn what_a_sink_holds_is_not_committed_and_what_was_committed_stays() {
        let mut tracker = OffsetTracker::new(0);
        for offset in 0..10 {
            tracker.received(offset, 1);
            tracker.finish(offset, 0, ()).expect("known");
        }
        assert_eq!(tracker.commit_point(None), 0, "nothing was handed out yet");
        assert_eq!(tracker.take_ready().len(), 10);
        assert_eq!(tracker.commit_point(Some(4)), 4);
        assert_eq!(tracker.commit_point(Some(40)), 10);
        tracker.committed(7);
        assert_eq!(tracker.commit_point(Some(4)), 7);
        tracker.committed(99);
        assert_eq!(tracker.commit_point(Some(0)), 10, "no further than what was handed out");
    }

    #[test]
    fn an_offset_that_does_not_rise_is_not_noted() {
        let mut tracker = OffsetTracker::<()>::new(100);
        assert!(!tracker.received(99, 1));
        assert!(tracker.received(100, 1));
        assert!(!tracker.received(100, 1));
        assert_eq!(tracker.span(), 1);
        assert_eq!(tracker.finish(101, 0, ()), Err(Unknown { offset: 101, item: 0 }));
        assert_eq!(tracker.finish(100, 1, ()), Err(Unknown { offset: 100, item: 1 }));
        assert_eq!(tracker.finish(i64::MIN, 0, ()), Err(Unknown { offset: i64::MIN, item: 0 }));
    }

    #[test]
    fn messages_without_items_are_done_when_all_before_them_are() {
        let mut tracker = OffsetTracker::new(0);
        tracker.received(0, 0);
        assert_eq!(tracker.commit_point(None), 1);
        tracker.received(1, 1);
        tracker.received(2, 0);
        assert_eq!(tracker.commit_point(None), 1);
        tracker.finish(1, 0, ()).expect("known");
        tracker.take_ready();
        assert_eq!(tracker.commit_point(None), 3);
    }

    proptest! {
        #[test]
        fn any_order_with_gaps_is_handed_out_in_order(
            (messages, order, takes) in prop::collection::vec((1i64..4, 0u32..4), 1..20)
                .prop_map(|steps| {
                    let mut offset = 10;
                    steps.into_iter().map(|(gap, items)| { offset += gap; (offset, items) }).collect::<Vec<_>>()
                })
                .prop_flat_map(|messages| {
                    let items: Vec<(i64, u32)> = messages.iter().flat_map(|&(o, n)| (0..n).map(move |i| (o, i))).collect();
                    let takes = prop::collection::vec(any::<bool>(), items.len());
                    (Just(messages), Just(items).prop_shuffle(), takes)
                })
        ) {
            follow(10, &messages, &order, |step| takes[step]);
        }

        #[test]
        fn messages_that_arrive_while_others_finish_keep_their_order(picks in prop::collection::vec(any::<prop::sample::Index>(), 1..200)) {
            let mut tracker = OffsetTracker::new(0);
            let (mut open, mut next, mut taken) = (Vec::new(), 0i64, Vec::new());
            for pick in picks {
                // Half the steps receive, half finish any open item.
                if open.is_empty() || pick.index(2) == 0 {
                    tracker.received(next, 2);
                    open.extend([(next, 0), (next, 1)]);
                    next += 1 + pick.index(3) as i64;
                } else {
                    let (o, i) = open.swap_remove(pick.index(open.len()));
                    tracker.finish(o, i, ()).unwrap();
                    taken.extend(tracker.take_ready().into_iter().map(|(o, i, ())| (o, i)));
                    let point = tracker.commit_point(None);
                    prop_assert!(open.iter().all(|&(o, _)| o >= point));
                    tracker.committed(point);
                }
            }
            prop_assert!(taken.is_sorted());
            prop_assert_eq!(tracker.unfinished(), open.len());
        }
    }
}
