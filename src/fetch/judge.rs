//! Whose fault a failure is. A single object's ends as a rejection; a whole place's (a bucket, a host) is waited out, or stops the worker. What happens
//! to an object's neighbours tells the two apart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Grant, Place};

/// Places that are remembered. Strangers may name any number of hosts.
const MAX_PLACES: usize = 4096;
/// Items that were refused, none succeeding, before a whole place counts as refused.
const REFUSED_ITEMS: u32 = 10;
/// Time after which it counts as refused with fewer.
const REFUSED_TIME: Duration = Duration::from_secs(30);
/// Between two log lines about the same outage.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What to do about an item that may no longer be tried at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its neighbours are well: it is this item.
    Reject,
    /// Nothing there is well: wait.
    Wait,
}

/// What to do about a 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This object alone.
    Reject,
    /// Not known yet.
    Hold,
    /// Everything in the place is refused.
    Fatal,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<Place, Record>,
    /// Last success of each kind of place (`s3`, `http`, `file`).
    kinds: HashMap<&'static str, Instant>,
}

#[derive(Debug, Default)]
struct Record {
    last_success: Option<Instant>,
    failing_since: Option<Instant>,
    last_detail: String,
    said: Option<Instant>,
    refused: u32,
    refused_since: Option<Instant>,
}

/// What is known of all places.
#[derive(Debug, Default)]
pub struct Judge(Mutex<State>);

impl Judge {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place answered as it should: with an object, or with word that there is none.
    pub fn success(&self, place: &Place, now: Instant) {
        let mut state = self.lock();
        state.kinds.insert(place.kind(), now);
        let record = state.record(place);
        if record.said.take().is_some() {
            tracing::info!("{place} answers again");
        }
        record.last_success = Some(now);
        record.failing_since = None;
        record.refused = 0;
        record.refused_since = None;
    }

    /// A place failed. Says it in the log once and then at intervals, while nothing of the place succeeds.
    pub fn failure(&self, place: &Place, detail: &str, now: Instant, exhausted: bool) {
        let mut state = self.lock();
        let record = state.record(place);
        record.failing_since.get_or_insert(now);
        detail.clone_into(&mut record.last_detail);
        let due = record.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY);
        if exhausted && due {
            record.said = Some(now);
            tracing::warn!("waiting for {place}: {}", crate::telemetry::escape(detail));
        }
    }

    /// An item has used up its attempts; `first` is when it failed first. Of a place that only a wildcard allows (a stranger's host) nobody
    /// promised that it works: there any other success of its kind is enough to see that the fault is not on this side.
    pub fn verdict(&self, place: &Place, grant: Grant, first: Instant) -> Verdict {
        let state = self.lock();
        let own = state.places.get(place).and_then(|record| record.last_success);
        let others = (grant == Grant::Wildcard).then(|| state.kinds.get(place.kind()).copied()).flatten();
        match own.into_iter().chain(others).any(|success| success >= first) {
            true => Verdict::Reject,
            false => Verdict::Wait,
        }
    }

    /// An item was refused (403); `new` if that is its first time.
    pub fn refusal(&self, place: &Place, new: bool, now: Instant) -> Refusal {
        let mut state = self.lock();
        let record = state.record(place);
        if record.last_success.is_some() {
            return Refusal::Reject;
        }
        record.refused += u32::from(new);
        let since = *record.refused_since.get_or_insert(now);
        match record.refused >= REFUSED_ITEMS || now.saturating_duration_since(since) >= REFUSED_TIME {
            true => Refusal::Fatal,
            false => Refusal::Hold,
        }
    }

    /// Places of which nothing succeeds: since when, and the last that was heard.
    pub fn waiting(&self) -> Vec<(Place, Instant, String)> {
        let state = self.lock();
        let waiting = state.places.iter().filter(|(_, record)| record.said.is_some());
        waiting.filter_map(|(place, r)| Some((place.clone(), r.failing_since?, r.last_detail.clone()))).collect()
    }
}

impl State {
    fn record(&mut self, place: &Place) -> &mut Record {
        if self.places.len() >= MAX_PLACES && !self.places.contains_key(place) {
            // Those that are neither waited for nor held are forgotten; if all are, all are.
            self.places.retain(|_, r| r.said.is_some() || r.refused > 0);
            if self.places.len() >= MAX_PLACES {
                self.places.clear();
            }
        }
        self.places.entry(place.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        // All instants of a test stand in one place, so that they can be compared.
        thread_local!(static START: Instant = Instant::now());
        START.with(|start| *start) + Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_is_waited_out_and_one_bad_object_is_rejected() {
        let judge = Judge::default();
        let lake = Place::s3("lake");
        judge.failure(&lake, "503", at(1), false);
        assert_eq!(judge.verdict(&lake, Grant::Named, at(1)), Verdict::Wait);
        judge.success(&Place::s3("other"), at(2));
        assert_eq!(judge.verdict(&lake, Grant::Named, at(1)), Verdict::Wait);
        judge.success(&lake, at(3));
        assert_eq!(judge.verdict(&lake, Grant::Named, at(1)), Verdict::Reject);
        assert_eq!(judge.verdict(&lake, Grant::Named, at(4)), Verdict::Wait);
    }

    #[test]
    fn a_strangers_dead_host_is_rejected_once_any_other_host_answers() {
        let judge = Judge::default();
        let dead = Place::http("dead.example");
        assert_eq!(judge.verdict(&dead, Grant::Wildcard, at(1)), Verdict::Wait);
        judge.success(&Place::s3("lake"), at(2));
        assert_eq!(judge.verdict(&dead, Grant::Wildcard, at(1)), Verdict::Wait);
        judge.success(&Place::http("alive.example"), at(2));
        assert_eq!(judge.verdict(&dead, Grant::Wildcard, at(1)), Verdict::Reject);
        assert_eq!(judge.verdict(&dead, Grant::Named, at(1)), Verdict::Wait);
    }

    #[test]
    fn one_refused_object_is_not_a_refused_bucket() {
        let judge = Judge::default();
        let lake = Place::s3("lake");
        assert_eq!(judge.refusal(&lake, true, at(0)), Refusal::Hold);
        assert_eq!(judge.refusal(&lake, false, at(10)), Refusal::Hold);
        judge.success(&lake, at(11));
        assert_eq!(judge.refusal(&lake, false, at(12)), Refusal::Reject);
    }

    #[test]
    fn a_bucket_that_refuses_everything_stops_the_worker() {
        let judge = Judge::default();
        let lake = Place::s3("lake");
        let verdicts: Vec<Refusal> = (0..10).map(|_| judge.refusal(&lake, true, at(0))).collect();
        assert_eq!((verdicts[8], verdicts[9]), (Refusal::Hold, Refusal::Fatal));
        assert_eq!(judge.refusal(&Place::s3("b"), true, at(0)), Refusal::Hold);
        assert_eq!(judge.refusal(&Place::s3("b"), false, at(31)), Refusal::Fatal);
    }

    #[test]
    fn strangers_cannot_fill_the_memory_with_hosts() {
        let judge = Judge::default();
        for n in 0..3 * MAX_PLACES {
            judge.failure(&Place::http(&format!("h{n}")), "x", at(0), false);
        }
        assert!(judge.lock().places.len() <= MAX_PLACES);
    }
}
