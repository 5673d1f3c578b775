//! Ends the process when nothing moves though there is work: whoever supervises it starts it again, and what was not committed is read again.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::telemetry::Stats;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// The running watchdog; dropping it ends it. A thread of its own, since what it watches for may hold up all others.
pub struct Watchdog(#[expect(dead_code, reason = "the thread ends when this is dropped")] mpsc::Sender<()>);

impl Watchdog {
    /// Watches `stats`, and after `limit` without movement ends the process with code 1.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] if no thread can be started.
    pub fn start(stats: Arc<Stats>, limit: Duration) -> crate::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let watch = move || {
            let mut stillness = Stillness::default();
            let mut before = Instant::now();
            while ended.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                // While the process was frozen nothing could move.
                let passed = before.elapsed().min(EVERY * 2);
                before = Instant::now();
                let still = stillness.look(passed, stats.moved(), stats.has_work());
                stats.still_ms.store(u64::try_from(still.as_millis()).unwrap_or(u64::MAX), Relaxed);
                if still >= limit {
                    tracing::error!(
                        "nothing has moved for {limit:?} with {} items in the worker and {} messages that it has not read; the worker ends, and what it has not \
                         committed is read again. What it waited for is in the log above; `watchdog` in the pipeline file is the time",
                        stats.open.load(Relaxed),
                        stats.lag.load(Relaxed).max(0)
                    );
                    std::process::exit(1);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
        thread.map_err(|e| crate::Error::failed(format!("no thread for the watchdog: {e}")))?;
        Ok(Self(alive))
    }
}

/// For how long nothing has moved.
#[derive(Default)]
struct Stillness {
    seen: [u64; 3],
    still: Duration,
}

impl Stillness {
    fn look(&mut self, passed: Duration, moved: [u64; 3], work: bool) -> Duration {
        if !work || moved != self.seen {
            *self = Self { seen: moved, still: Duration::ZERO };
        } else {
            self.still += passed;
        }
        self.still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stillness_amid_work_counts() {
        let mut stillness = Stillness::default();
        let second = Duration::from_secs(1);
        assert_eq!(stillness.look(second, [0; 3], false), Duration::ZERO, "no work");
        assert_eq!(stillness.look(second, [0; 3], true), second);
        assert_eq!(stillness.look(second, [0; 3], true), second * 2);
        assert_eq!(stillness.look(second, [0, 1, 0], true), Duration::ZERO, "an item moved");
        assert_eq!(stillness.look(second, [0, 1, 0], true), second);
        assert_eq!(stillness.look(second, [0, 1, 0], false), Duration::ZERO);
    }
}
