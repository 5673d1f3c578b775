//! A bounded amount of something that is taken and given back: live items are served before backfill, and find a part of it free.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{ByPriority, Priority};

/// The amount. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: usize,
    /// What backfill leaves free.
    kept: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// What backfill holds.
    backfill: usize,
    waiting: ByPriority<VecDeque<Waiter>>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    want: usize,
    grant: oneshot::Sender<Permit>,
}

/// A part of a [`Gate`]; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Shared>,
    priority: Priority,
    count: usize,
}

impl Gate {
    /// `all` units, of which backfill leaves `kept` free for live items, unless nothing else of backfill holds any: what is larger than the rest is
    /// still let through, alone.
    pub fn new(all: usize, kept: usize) -> Self {
        let state = State { free: all, backfill: 0, waiting: ByPriority::default(), next: 0 };
        Self(Arc::new(Shared { all, kept, state: Mutex::new(state) }))
    }

    /// All units.
    pub fn all(&self) -> usize {
        self.0.all
    }

    /// Units that nobody holds.
    pub fn free(&self) -> usize {
        self.0.lock().free
    }

    /// Waits for `want` units, behind those of its priority that came before, and behind all that are live. `None`: there never are so many.
    pub async fn acquire(&self, priority: Priority, want: usize) -> Option<Permit> {
        if want > self.0.all {
            return None;
        }
        let mut ticket = {
            let mut state = self.0.lock();
            if let Some(permit) = self.0.take(&mut state, priority, want) {
                return Some(permit);
            }
            let (grant, granted) = oneshot::channel();
            let id = state.next;
            state.next += 1;
            state.waiting.of_mut(priority).push_back(Waiter { id, want, grant });
            Ticket { gate: &self.0, priority, id, granted }
        };
        // The sender goes only with its answer.
        (&mut ticket.granted).await.ok()
    }

    /// Takes `want` units if nobody has to be waited for.
    pub fn try_acquire(&self, priority: Priority, want: usize) -> Option<Permit> {
        self.0.take(&mut self.0.lock(), priority, want)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, state: &mut State, priority: Priority, want: usize) -> Option<Permit> {
        let ahead = !state.waiting.live.is_empty() || priority == Priority::Backfill && !state.waiting.backfill.is_empty();
        (!ahead && self.fits(state, priority, want)).then(|| self.hand_out(state, priority, want))
    }

    fn fits(&self, state: &State, priority: Priority, want: usize) -> bool {
        match priority {
            Priority::Live => want <= state.free,
            Priority::Backfill => want <= state.free && (state.backfill == 0 || state.free - want >= self.kept),
        }
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, priority: Priority, count: usize) -> Permit {
        state.free -= count;
        if priority == Priority::Backfill {
            state.backfill += count;
        }
        Permit { gate: self.clone(), priority, count }
    }

    fn give_back(self: &Arc<Self>, priority: Priority, count: usize) {
        let mut state = self.lock();
        state.free += count;
        if priority == Priority::Backfill {
            state.backfill -= count;
        }
        self.serve(state);
    }

    /// Serves those who wait, in order, for as long as there is enough. Nobody overtakes: a large one would otherwise wait for ever.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut grants = Vec::new();
        'full: for priority in Priority::ORDER {
            while let Some(first) = state.waiting.of(priority).front() {
                if !self.fits(&state, priority, first.want) {
                    break 'full;
                }
                if let Some(waiter) = state.waiting.of_mut(priority).pop_front() {
                    let permit = self.hand_out(&mut state, priority, waiter.want);
                    grants.push((waiter.grant, permit));
                }
            }
        }
        // A permit that nobody takes any more comes back here, and must not find the lock taken.
        drop(state);
        for (grant, permit) in grants {
            let _ = grant.send(permit);
        }
    }
}

impl Permit {
    /// Units held.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Gives back all but `count`.
    pub fn shrink(&mut self, count: usize) {
        let surplus = self.count.saturating_sub(count);
        if surplus > 0 {
            self.count -= surplus;
            self.gate.give_back(self.priority, surplus);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.give_back(self.priority, self.count);
    }
}

/// One that waits; dropped, it makes room for those behind it.
struct Ticket<'a> {
    gate: &'a Arc<Shared>,
    priority: Priority,
    id: u64,
    granted: oneshot::Receiver<Permit>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        let queue = state.waiting.of_mut(self.priority);
        if let Ok(at) = queue.binary_search_by_key(&self.id, |waiter| waiter.id) {
            queue.remove(at);
            self.gate.serve(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Acquire(Priority, usize),
        Release(prop::sample::Index),
        Shrink(prop::sample::Index),
        Cancel(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let priority = prop_oneof![Just(Priority::Live), Just(Priority::Backfill)];
        let step = prop_oneof![
            3 => (priority, 0usize..12).prop_map(|(priority, want)| Step::Acquire(priority, want)),
            2 => any::<prop::sample::Index>().prop_map(Step::Release),
            1 => any::<prop::sample::Index>().prop_map(Step::Shrink),
            1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        ];
        proptest::collection::vec(step, 1..120)
    }

    type Waiting<'a> = (Priority, usize, Pin<Box<dyn Future<Output = Option<Permit>> + 'a>>);

    proptest! {
        /// Whatever is taken, given back and given up in whatever order: nothing gets lost, nobody who could be served waits, nothing of backfill
        /// is served while something live waits, and backfill leaves its part free unless it is alone.
        #[test]
        fn live_goes_first_and_nobody_waits_in_vain(all in 1usize..10, kept in 0usize..4, steps in steps()) {
            let gate = Gate::new(all, kept);
            let mut held: Vec<Permit> = Vec::new();
            let mut waiting: Vec<Waiting> = Vec::new();
            let mut context = Context::from_waker(Waker::noop());
            for step in steps {
                match step {
                    Step::Acquire(priority, want) => {
                        let mut future: Pin<Box<dyn Future<Output = _>>> = Box::pin(gate.acquire(priority, want));
                        match future.as_mut().poll(&mut context) {
                            Poll::Ready(permit) => {
                                prop_assert_eq!(permit.is_none(), want > all);
                                prop_assert!(permit.is_none() || !waiting.iter().any(|w| w.0 == Priority::Live || w.0 == priority), "overtook");
                                held.extend(permit);
                            }
                            Poll::Pending => waiting.push((priority, want, future)),
                        }
                    }
                    Step::Release(at) if !held.is_empty() => drop(held.swap_remove(at.index(held.len()))),
                    Step::Shrink(at) if !held.is_empty() => {
                        let at = at.index(held.len());
                        let half = held[at].count() / 2;
                        held[at].shrink(half);
                    }
                    Step::Cancel(at) if !waiting.is_empty() => drop(waiting.remove(at.index(waiting.len()))),
                    _ => {}
                }
                let mut still = Vec::new();
                let mut first_left = ByPriority { live: None, backfill: None };
                for (priority, want, mut future) in waiting {
                    match future.as_mut().poll(&mut context) {
                        Poll::Ready(permit) => {
                            prop_assert!(first_left.of(priority).is_none(), "one that came later was served first");
                            held.extend(permit);
                        }
                        Poll::Pending => {
                            first_left.of_mut(priority).get_or_insert(want);
                            still.push((priority, want, future));
                        }
                    }
                }
                waiting = still;
                let of = |p| held.iter().filter(|h: &&Permit| h.priority == p).map(Permit::count).sum::<usize>();
                let (live, backfill) = (of(Priority::Live), of(Priority::Backfill));
                prop_assert_eq!(gate.free() + live + backfill, all);
                if let Some(want) = first_left.live {
                    prop_assert!(want > gate.free(), "a live one waits that fits");
                } else if let Some(want) = first_left.backfill {
                    prop_assert!(want > gate.free() || backfill > 0 && gate.free() - want < kept, "one of backfill waits that may go");
                }
            }
            drop((held, waiting));
            prop_assert_eq!(gate.free(), all);
        }
    }

    #[test]
    fn backfill_leaves_a_part_free_and_still_lets_a_large_one_through_alone() {
        let gate = Gate::new(8, 2);
        let six = gate.try_acquire(Priority::Backfill, 6).unwrap();
        assert!(gate.try_acquire(Priority::Backfill, 1).is_none());
        let live = gate.try_acquire(Priority::Live, 2).unwrap();
        assert!(gate.try_acquire(Priority::Live, 1).is_none());
        drop((six, live));
        let all = gate.try_acquire(Priority::Backfill, 8).unwrap();
        assert!(gate.try_acquire(Priority::Live, 1).is_none());
        drop(all);
    }
}
