//! Says while the group gives no answer, so that a worker that does nothing yet is not taken for one that hangs.

use std::time::Instant;

use crate::kafka::SAY_EVERY;
use crate::telemetry::{On, Wait};

/// Since when an assignment has been waited for, if one is, and when that was last said.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    owed: Option<(Instant, Instant)>,
    /// Shown to monitors from the first line on.
    shown: Option<Wait>,
}

impl Waiting {
    /// From here on the group owes an answer.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.owed.get_or_insert((now, now));
    }

    /// The group has answered, if only with nothing.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A line every [`SAY_EVERY`], with the seconds so far.
    pub(super) fn say(&mut self) {
        if let Some(seconds) = self.due(Instant::now()) {
            self.shown.get_or_insert_with(|| Wait::on(On::Broker, "an assignment by the group"));
            tracing::info!(
                "waiting for an assignment, {seconds} s so far; the group waits for a member that died until its session ends (session.timeout.ms)"
            );
        }
    }

    fn due(&mut self, now: Instant) -> Option<u64> {
        let (since, said) = self.owed.as_mut().filter(|(_, said)| now.saturating_duration_since(*said) >= SAY_EVERY)?;
        *said = now;
        Some(now.saturating_duration_since(*since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_every_few_seconds_while_an_answer_is_owed() {
        let (mut waiting, begun) = (Waiting::default(), Instant::now());
        assert_eq!(waiting.due(begun + 9 * SAY_EVERY), None);
        waiting.begin();
        assert_eq!(waiting.due(begun), None);
        assert_eq!(waiting.due(begun + 2 * SAY_EVERY).map(|s| s / SAY_EVERY.as_secs()), Some(1));
        waiting.begin();
        assert_eq!(waiting.due(begun + 5 * SAY_EVERY / 2), None);
        assert!(waiting.due(begun + 4 * SAY_EVERY).is_some());
        waiting.end();
        assert_eq!(waiting.due(begun + 9 * SAY_EVERY), None);
    }
}
