//! Whether there is anything left to do.

use std::time::{Duration, Instant};

use super::commits::Answer;
use super::{Coordinator, Phase};
use crate::worker::lane::Lane;

/// How often a busy worker looks how far behind it is.
const LAG_EVERY: Duration = Duration::from_secs(5);
impl Coordinator {
    /// Idle is: nothing in flight and every partition at the end that was taken when that began.
    pub(super) fn look_for_idleness(&mut self) {
        let quiet = self.lanes.values().all(Lane::is_quiet) && self.revocations.is_empty();
        if !quiet {
            self.quiet_since = None;
        }
        // Idling begins when the ends are known: a worker that the group has given nothing yet is not idle.
        let since = match self.quiet_since {
            Some(since) if self.ends_checked => since,
            before => {
                self.ends_checked &= before.is_some();
                *self.quiet_since.insert(Instant::now())
            }
        };
        // A busy worker asks only for the lag's sake.
        if quiet && !self.ends_checked || self.asked.elapsed() >= LAG_EVERY {
            self.asked = Instant::now();
            for (source, feed) in self.feeds.iter().enumerate() {
                if std::mem::replace(&mut self.asking[source], true) {
                    continue;
                }
                let (control, answers) = (feed.control.clone(), self.answers.0.clone());
                tokio::spawn(async move {
                    let result = control.progress().await;
                    let _ = answers.send(Answer::Progress { source, result });
                });
            }
        }
        let Some(limit) = self.settings.bounds.until_idle else { return };
        if quiet && self.ends_checked && since.elapsed() >= limit {
            tracing::info!("idle: every partition is at its end");
            self.phase = Phase::Finishing;
        }
    }
}
