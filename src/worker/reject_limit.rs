//! Stops a worker that rejects too much: a wrong bucket or a broken model must not turn a lake into dead letters.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::config::RejectLimit;
use crate::flow::{Outcome, Position, Reason, Rejection};
use crate::{Error, Result};

/// Lines about rejections in each such span of time; the rest is only counted.
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(10);

/// The last outcomes.
pub struct RejectWindow {
    limit: RejectLimit,
    last: VecDeque<Option<Reason>>,
    rejected: usize,
    lines: (Instant, u32, u64),
}

impl RejectWindow {
    /// An empty window.
    pub fn new(limit: &RejectLimit) -> Self {
        Self { limit: limit.clone(), last: VecDeque::new(), rejected: 0, lines: (Instant::now(), 0, 0) }
    }

    /// Counts one outcome; an error once the window is full and more of it is rejected than allowed. Skipped items say nothing either way.
    pub fn count(&mut self, outcome: &Outcome) -> Result<()> {
        let reason = match outcome {
            Outcome::Record(_) | Outcome::Tombstone(_) => None,
            Outcome::Rejected(rejection) => Some(rejection.reason),
            Outcome::Skipped(_) => return Ok(()),
        };
        if self.last.len() == self.limit.of_last && self.last.pop_front().flatten().is_some() {
            self.rejected -= 1;
        }
        self.rejected += usize::from(reason.is_some());
        self.last.push_back(reason);
        let full = self.last.len() >= self.limit.of_last;
        if full && self.rejected as f64 > self.limit.share * self.limit.of_last as f64 {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            for reason in self.last.iter().flatten() {
                *reasons.entry(reason.name()).or_default() += 1;
            }
            let most = reasons.iter().max_by_key(|(_, n)| **n).map_or("", |(reason, _)| *reason);
            return Err(Error::failed(format!(
                "{} of the last {} items were rejected, most of them as `{most}`; more than `reject_limit.share` of {} allows. Look at the dead \
                 letters, mend the cause (or raise the limit), and start again: nothing was lost",
                self.rejected, self.limit.of_last, self.limit.share
            )));
        }
        Ok(())
    }

    /// Whether a rejection at `now` gets a line: at most [`LINES`] in each [`SPAN`] do.
    fn admit(&mut self, now: Instant) -> bool {
        self.tell_left_out(now);
        let (_, lines, left_out) = &mut self.lines;
        if *lines >= LINES {
            *left_out += 1;
            return false;
        }
        *lines += 1;
        true
    }

    /// At the end of a span of time says how many rejections had no line in it, if any, and gives that number. To be called now and then.
    pub fn tell_left_out(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.lines.0) < SPAN {
            return 0;
        }
        let (_, _, left_out) = std::mem::replace(&mut self.lines, (now, 0, 0));
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "{left_out} more rejections were not logged; all are with the dead letters, and counted by reason in the metrics"
            );
        }
        left_out
    }

    /// Logs a rejection, at most ten in ten seconds.
    pub fn log(&mut self, position: &Position, uri: &str, rejection: &Rejection) {
        if !self.admit(Instant::now()) {
            return;
        }
        let detail = crate::telemetry::escape(&rejection.detail);
        tracing::warn!(position = %crate::telemetry::escape(&position.to_string()), uri, stage = rejection.stage.name(), "rejected {}: {detail}", rejection.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Skip, Stage};

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stops_at_the_first_outcome_whose_window_holds_too_many(
            outcomes in proptest::collection::vec(proptest::option::weighted(0.9, any::<bool>()), 0..80),
            share in 0.0f64..1.0,
            of_last in 1usize..12,
        ) {
            let mut window = RejectWindow::new(&RejectLimit { share, of_last });
            let mut counted: Vec<bool> = Vec::new();
            for outcome in outcomes {
                let result = match outcome {
                    None => window.count(&Outcome::Skipped(Skip::Deleted)),
                    Some(rejected) => {
                        counted.push(rejected);
                        let image = crate::flow::ImageRef::new(crate::flow::Location::File("/a".into()));
                        window.count(&if rejected { bad() } else { Outcome::Tombstone(Box::new(image)) })
                    }
                };
                let last = &counted[counted.len().saturating_sub(of_last)..];
                let rejected = last.iter().filter(|r| **r).count();
                let over = last.len() == of_last && rejected as f64 > share * of_last as f64;
                prop_assert_eq!(result.is_err(), over);
                prop_assert!(window.last.len() <= of_last, "memory is bounded");
                if over {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_flood_of_rejections_has_ten_lines_in_ten_seconds_and_the_rest_is_told_as_a_number() {
        let (mut window, begun) = (RejectWindow::new(&RejectLimit { share: 1.0, of_last: 1 }), Instant::now());
        let second = Duration::from_secs(1);
        let mut admitted =
            |from: u32, until: u32| (from..until).map(|n| (0..7).filter(|_| window.admit(begun + n * second)).count()).sum::<usize>();
        assert_eq!(admitted(0, 10), 10);
        assert_eq!(admitted(11, 12), 7, "the next span of time has its own");
        assert_eq!(
            (window.tell_left_out(begun + 12 * second), window.tell_left_out(begun + 22 * second)),
            (0, 0),
            "nothing was left out since"
        );
        assert!((0..30).filter(|_| window.admit(begun + 23 * second)).count() == 10);
        assert_eq!(window.tell_left_out(begun + 40 * second), 20, "though no further rejection came");
    }

    fn bad() -> Outcome {
        Outcome::Rejected(Rejection::new(Stage::Fetch, Reason::NotFound, "gone"))
    }

    #[test]
    fn stops_when_the_window_is_full_of_rejections_and_not_before() {
        let mut window = RejectWindow::new(&RejectLimit { share: 0.5, of_last: 10 });
        for _ in 0..9 {
            assert!(window.count(&bad()).is_ok());
        }
        assert!(window.count(&Outcome::Skipped(Skip::Null)).is_ok());
        let error = window.count(&bad()).expect_err("ten of ten").to_string();
        assert!(error.contains("not_found"), "{error}");
    }

    #[test]
    fn a_share_of_one_never_stops() {
        let mut window = RejectWindow::new(&RejectLimit { share: 1.0, of_last: 10 });
        assert!((0..100).all(|_| window.count(&bad()).is_ok()));
    }
}
