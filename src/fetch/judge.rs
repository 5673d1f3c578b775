//! Telling one object's fault from the world's: what is known of each place, and what follows from it. Pure: time is handed in.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::allow::{Grant, Place};
use crate::flow::Location;

/// So many items of a place must have met nothing but 403 before that is the whole place's refusal.
const DENIED_ITEMS: usize = 10;
/// Or for so long.
const DENIED_FOR: Duration = Duration::from_secs(30);
/// How long an item waits for company where the bucket itself may be read, so that the refusal is probably its own.
const DENIED_ALONE: Duration = Duration::from_secs(3);
/// How often an outage is logged.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// The last success by some yardstick.
#[derive(Debug)]
struct Alive {
    last: Instant,
    /// What succeeded, to try again when somebody needs to know whether the place still works.
    sample: (Location, Grant),
}

#[derive(Debug)]
struct Wait {
    yardstick: Place,
    since: Instant,
    items: HashSet<u64>,
    logged: Instant,
    detail: String,
}

#[derive(Debug)]
struct Denied {
    since: Instant,
    items: HashSet<u64>,
    probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Unasked,
    Asked,
    Readable,
    Refused,
}

/// What a 403 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It is of this object alone.
    Own,
    /// Of everything in the place.
    All,
    /// Not known yet: find out whether the place itself may be read, and say so with [`State::probed`].
    Probe,
    /// Not known yet: ask again then, or when the place has succeeded.
    Hold(Instant),
}

/// What is known of all places. Bounded: places that only a wildcard allows are forgotten when nobody waits for them.
#[derive(Debug, Default)]
pub struct State {
    alive: HashMap<Place, Alive>,
    waiting: HashMap<Place, Wait>,
    denied: HashMap<Place, Denied>,
}

/// A place that items wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Bucket, host or folder.
    pub place: Place,
    /// How long nothing of it has succeeded.
    pub for_: Duration,
    /// Items that wait.
    pub items: usize,
    /// The latest failure, without secrets.
    pub detail: String,
}

impl State {
    /// Something of the place succeeded. Returns how long it had been waited for, if it had.
    pub fn succeeded(&mut self, grant: &Grant, location: &Location, now: Instant) -> Option<Duration> {
        match self.alive.entry(grant.yardstick.clone()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.last = known.last.max(now);
                if known.sample.0 != *location {
                    known.sample = (location.clone(), grant.clone());
                }
            }
            Entry::Vacant(unknown) => {
                unknown.insert(Alive { last: now, sample: (location.clone(), grant.clone()) });
            }
        }
        self.denied.remove(&grant.place);
        let over = self.waiting.remove(&grant.place).map(|w| now.saturating_duration_since(w.since));
        // Strangers' places that fail while others of their kind work are no outage any more, but their items' own trouble.
        self.waiting.retain(|_, w| w.yardstick != grant.yardstick);
        over
    }

    /// Whether something has succeeded, by this place's yardstick, at `since` or later.
    pub fn alive_since(&self, grant: &Grant, since: Instant) -> bool {
        self.alive.get(&grant.yardstick).is_some_and(|a| a.last >= since)
    }

    /// What succeeded last, by this place's yardstick.
    pub fn sample(&self, grant: &Grant) -> Option<(Location, Grant)> {
        self.alive.get(&grant.yardstick).map(|a| a.sample.clone())
    }

    /// Item number `item` waits for the place, perhaps still. True if that should be logged now.
    pub fn waits(&mut self, grant: &Grant, item: u64, since: Instant, detail: &str, now: Instant) -> bool {
        match self.waiting.entry(grant.place.clone()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.items.insert(item);
                known.detail = detail.to_owned();
                let due = now.saturating_duration_since(known.logged) >= LOG_EVERY;
                if due {
                    known.logged = now;
                }
                due
            }
            Entry::Vacant(unknown) => {
                unknown.insert(Wait {
                    yardstick: grant.yardstick.clone(),
                    since,
                    items: HashSet::from([item]),
                    logged: now,
                    detail: detail.to_owned(),
                });
                true
            }
        }
    }

    /// Item number `item` waits no longer.
    pub fn leaves(&mut self, place: &Place, item: u64) {
        if let Entry::Occupied(mut known) = self.waiting.entry(place.clone()) {
            known.get_mut().items.remove(&item);
            if known.get().items.is_empty() {
                known.remove();
            }
        }
    }

    /// All places that items wait for, in their order.
    pub fn waiting(&self, now: Instant) -> Vec<Waiting> {
        let show = |(place, w): (&Place, &Wait)| Waiting {
            place: place.clone(),
            for_: now.saturating_duration_since(w.since),
            items: w.items.len(),
            detail: w.detail.clone(),
        };
        let mut all: Vec<Waiting> = self.waiting.iter().map(show).collect();
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    /// The store answered 403 to `item` (any number that tells items apart).
    pub fn denied(&mut self, grant: &Grant, item: u64, now: Instant) -> Denial {
        // A stranger may name buckets that are not ours; that must not stop the worker.
        if !grant.named || self.alive.contains_key(&grant.yardstick) {
            return Denial::Own;
        }
        let new = || Denied { since: now, items: HashSet::new(), probe: Probe::Unasked };
        let denied = self.denied.entry(grant.place.clone()).or_insert_with(new);
        denied.items.insert(item);
        let age = now.saturating_duration_since(denied.since);
        match denied.probe {
            _ if denied.items.len() >= DENIED_ITEMS => Denial::All,
            Probe::Unasked => {
                denied.probe = Probe::Asked;
                Denial::Probe
            }
            Probe::Readable if age >= DENIED_ALONE => Denial::Own,
            Probe::Readable => Denial::Hold(denied.since + DENIED_ALONE),
            Probe::Asked | Probe::Refused if age >= DENIED_FOR => Denial::All,
            Probe::Asked | Probe::Refused => Denial::Hold(denied.since + DENIED_FOR),
        }
    }

    /// Whether the place itself may be read.
    pub fn probed(&mut self, place: &Place, readable: bool) {
        if let Some(denied) = self.denied.get_mut(place) {
            denied.probe = if readable { Probe::Readable } else { Probe::Refused };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(bucket: &str, named: bool) -> Grant {
        let place = Place(format!("s3://{bucket}"));
        let yardstick = if named { place.clone() } else { Place("s3:*".into()) };
        Grant { place, yardstick, named, trusted: false, root: None }
    }

    fn at(key: &str) -> Location {
        Location::S3 { bucket: "b".into(), key: key.into() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_named_place_is_measured_by_itself_and_a_strangers_by_its_scheme() {
        let (mut state, t) = (State::default(), Instant::now());
        state.succeeded(&grant("mine", true), &at("a"), t);
        assert!(state.alive_since(&grant("mine", true), t));
        assert!(!state.alive_since(&grant("mine", true), t + SECOND));
        assert!(!state.alive_since(&grant("other", true), t));
        assert!(!state.alive_since(&grant("x", false), t));
        state.succeeded(&grant("y", false), &at("b"), t);
        assert!(state.alive_since(&grant("x", false), t));
        assert_eq!(state.sample(&grant("x", false)).unwrap().0, at("b"));
    }

    #[test]
    fn an_outage_is_logged_at_once_then_every_half_minute_and_when_it_is_over() {
        let (mut state, t, mine) = (State::default(), Instant::now(), grant("mine", true));
        assert!(state.waits(&mine, 1, t, "503", t));
        assert!(!state.waits(&mine, 2, t, "503", t + SECOND));
        assert!(!state.waits(&mine, 1, t, "503", t + 29 * SECOND));
        assert!(state.waits(&mine, 2, t, "reset", t + 30 * SECOND));
        let seen = state.waiting(t + 31 * SECOND);
        assert_eq!((seen[0].items, seen[0].for_, seen[0].detail.as_str()), (2, 31 * SECOND, "reset"));
        assert_eq!(state.succeeded(&mine, &at("a"), t + 32 * SECOND), Some(32 * SECOND));
        assert!(state.waiting(t).is_empty());
        state.leaves(&mine.place, 1);
        assert_eq!(state.succeeded(&mine, &at("a"), t), None);
    }

    #[test]
    fn a_strangers_dead_host_is_no_outage_while_others_answer() {
        let (mut state, t) = (State::default(), Instant::now());
        state.waits(&grant("dead", false), 1, t, "timeout", t);
        state.waits(&grant("mine", true), 2, t, "timeout", t);
        assert_eq!(state.succeeded(&grant("alive", false), &at("a"), t), None);
        assert_eq!(state.waiting(t).len(), 1);
    }

    #[test]
    fn one_refused_object_in_a_working_bucket_is_its_own_fault() {
        let (mut state, t, mine) = (State::default(), Instant::now(), grant("mine", true));
        assert_eq!(state.denied(&mine, 1, t), Denial::Probe);
        assert_eq!(state.denied(&mine, 1, t), Denial::Hold(t + DENIED_FOR));
        state.succeeded(&mine, &at("a"), t);
        assert_eq!(state.denied(&mine, 1, t + SECOND), Denial::Own);
        assert_eq!(state.denied(&grant("strangers", false), 1, t), Denial::Own);
    }

    #[test]
    fn nothing_but_403_is_the_buckets_after_ten_items_or_half_a_minute() {
        let (mut state, t, mine) = (State::default(), Instant::now(), grant("mine", true));
        assert_eq!(state.denied(&mine, 0, t), Denial::Probe);
        state.probed(&mine.place, false);
        for item in 0..9 {
            assert_eq!(state.denied(&mine, item, t), Denial::Hold(t + DENIED_FOR));
        }
        assert_eq!(state.denied(&mine, 9, t), Denial::All);

        let mut state = State::default();
        state.denied(&mine, 0, t);
        state.probed(&mine.place, false);
        assert_eq!(state.denied(&mine, 0, t + DENIED_FOR), Denial::All);
    }

    #[test]
    fn where_the_bucket_can_be_listed_a_lone_refusal_is_the_objects_and_ten_are_the_buckets() {
        let (mut state, t, mine) = (State::default(), Instant::now(), grant("mine", true));
        state.denied(&mine, 0, t);
        state.probed(&mine.place, true);
        assert_eq!(state.denied(&mine, 0, t), Denial::Hold(t + DENIED_ALONE));
        assert_eq!(state.denied(&mine, 0, t + DENIED_ALONE), Denial::Own);
        for item in 1..9 {
            assert_eq!(state.denied(&mine, item, t + DENIED_ALONE), Denial::Own);
        }
        assert_eq!(state.denied(&mine, 9, t + DENIED_ALONE), Denial::All);
    }

    proptest! {
        /// However items come and go, nobody is waited for when all have left, and a success always clears its place.
        #[test]
        fn waits_and_leaves_balance(steps in prop::collection::vec((0usize..4, any::<bool>(), 0u8..3), 0..60)) {
            let (mut state, start) = (State::default(), Instant::now());
            let mut held: Vec<(Grant, u64)> = Vec::new();
            for (n, (which, named, what)) in steps.into_iter().enumerate() {
                let (grant, now, n) = (grant(&which.to_string(), named), start + n as u32 * SECOND, n as u64);
                match what {
                    0 => {
                        state.waits(&grant, n, now, "x", now);
                        held.push((grant, n));
                    }
                    1 => {
                        state.succeeded(&grant, &at("a"), now);
                        prop_assert!(!state.waiting(now).iter().any(|w| w.place == grant.place));
                        prop_assert!(state.alive_since(&grant, now));
                    }
                    _ => if let Some((grant, n)) = held.pop() { state.leaves(&grant.place, n); }
                }
                let waiting: usize = state.waiting(now).iter().map(|w| w.items).sum();
                prop_assert!(waiting <= held.len());
            }
            for (grant, n) in held { state.leaves(&grant.place, n); }
            prop_assert!(state.waiting(start).is_empty());
        }
    }
}
