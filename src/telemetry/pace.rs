//! How fast a count grows, over the last minutes in which there was work: what was idle says nothing of how long the rest takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back is looked.
const WINDOW: Duration = Duration::from_secs(180);
/// Between two samples that are kept.
const APART: Duration = Duration::from_secs(10);
/// Less than this says nothing.
const LEAST: Duration = Duration::from_secs(5);

/// Samples of a count that only grows.
#[derive(Debug, Default)]
pub struct Pace {
    /// By the time worked.
    kept: VecDeque<(Duration, f64)>,
    worked: Duration,
    last: Option<(Instant, f64)>,
}

impl Pace {
    /// The count is `count` now, and since the last time there was work to do, or was none.
    pub fn record(&mut self, now: Instant, count: f64, work: bool) {
        if let Some((before, _)) = self.last.filter(|_| work) {
            self.worked += now.saturating_duration_since(before);
        }
        if self.kept.back().is_none_or(|(at, _)| self.worked.saturating_sub(*at) >= APART) {
            self.kept.push_back((self.worked, count));
        }
        while self.kept.len() > 1 && self.kept.front().is_some_and(|(at, _)| self.worked.saturating_sub(*at) > WINDOW) {
            self.kept.pop_front();
        }
        self.last = Some((now, count));
    }

    /// Growth a second; `None` before enough was seen.
    pub fn per_second(&self) -> Option<f64> {
        let ((begun, before), (_, count)) = (self.kept.front()?, self.last.as_ref()?);
        let passed = self.worked.saturating_sub(*begun);
        (passed >= LEAST).then(|| (count - before).max(0.0) / passed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_steady_count_has_its_pace_and_memory_is_bounded(rate in 0.0f64..1e6, seconds in 5u32..2000) {
            let (mut pace, begun) = (Pace::default(), Instant::now());
            for half in 0..=seconds * 2 {
                pace.record(begun + half * Duration::from_millis(500), f64::from(half) * rate / 2.0, true);
                prop_assert!(pace.kept.len() <= 20);
            }
            let seen = pace.per_second().unwrap();
            prop_assert!((seen - rate).abs() <= 1e-6 * rate.max(1.0), "{seen} for {rate}");
        }
    }

    #[test]
    fn what_happened_before_the_window_is_forgotten() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        assert_eq!(pace.per_second(), None);
        for second in 0..600u32 {
            pace.record(begun + Duration::from_secs(second.into()), f64::from(second.min(300)) * 10.0, true);
            assert!(pace.per_second().is_none() == (second < 5));
        }
        assert_eq!(pace.per_second(), Some(0.0), "it stands still since 300 s");
    }

    #[test]
    fn an_idle_hour_once_made_the_next_hundred_items_look_slow() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        for second in 0..3600u32 {
            pace.record(begun + Duration::from_secs(second.into()), 0.0, false);
        }
        assert_eq!(pace.per_second(), None);
        for second in 3600..3620u32 {
            pace.record(begun + Duration::from_secs(second.into()), f64::from(second - 3599) * 14.0, true);
        }
        assert_eq!(pace.per_second(), Some(14.0));
    }
}
