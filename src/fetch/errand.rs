//! One item on its way to its bytes: attempts, pauses between them, and waiting for a place that does not work.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Ask, Body, FetchError, Fetcher, GetError, Grant, Intake, Place};
use crate::Error;
use crate::flow::{ImageRef, Location, Partition, Reason, Rejection, Stage};
use crate::telemetry::AttemptEnd;

/// The first pause before another attempt; each further one is twice as long.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, which is also how late the end of an outage may be noticed.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many failed attempts, with nothing else of the place succeeding, are told as an outage.
const OUTAGE_AFTER: u32 = 3;

pub(super) fn reject(reason: Reason, detail: String) -> GetError {
    GetError::Rejected(Rejection::new(Stage::Fetch, reason, detail))
}

/// The object is not to be had where it was looked for.
pub(super) enum NotThere {
    Missing(String),
    Denied(String),
}

/// What an item has gone through so far.
struct Trouble {
    first: Instant,
    /// Failed attempts.
    rounds: u32,
    /// Those of them that count against the item.
    counted: u32,
}

/// One item on its way to its bytes.
pub(super) struct Errand<'a> {
    fetcher: &'a Fetcher,
    reference: &'a ImageRef,
    partition: &'a Partition,
    intake: Intake,
    trouble: Option<Trouble>,
    waiting: Option<WaitGuard<'a>>,
}

impl<'a> Errand<'a> {
    pub(super) fn new(fetcher: &'a Fetcher, reference: &'a ImageRef, partition: &'a Partition, intake: Intake) -> Self {
        Self { fetcher, reference, partition, intake, trouble: None, waiting: None }
    }

    /// Tries one location until its answer is final.
    pub(super) async fn settle(&mut self, (location, grant): &(&Location, Grant)) -> Result<Result<Body, NotThere>, GetError> {
        loop {
            let (etag, version) = (self.reference.etag.as_deref(), self.reference.version.as_deref());
            let ask = Ask { location, etag, version, grant, intake: &self.intake };
            match self.fetcher.attempt(&ask, self.partition).await {
                Ok(body) => return Ok(Ok(body)),
                Err(FetchError::Missing(said)) => return Ok(Err(NotThere::Missing(said))),
                Err(FetchError::Denied(said)) => return Ok(Err(NotThere::Denied(said))),
                Err(FetchError::Rejected(rejection)) => return Err(GetError::Rejected(rejection)),
                Err(FetchError::Skipped(skip)) => return Err(GetError::Skipped(skip)),
                Err(FetchError::Fatal(text)) => return Err(GetError::Fatal(Error::failed(text))),
                Err(FetchError::Again) => {}
                Err(FetchError::Retry { detail, kind, retry_after }) => {
                    self.pause(grant, detail, kind == AttemptEnd::Throttled, retry_after).await?;
                    self.fetcher.attempts.retried((*location).into());
                }
            }
        }
    }

    /// After a failure that may pass: gives up, or waits for the next attempt. No slot is held meanwhile.
    async fn pause(&mut self, grant: &Grant, detail: String, throttled: bool, retry_after: Option<Duration>) -> Result<(), GetError> {
        let now = Instant::now();
        let config = &self.fetcher.config;
        let trouble = self.trouble.get_or_insert(Trouble { first: now, rounds: 0, counted: 0 });
        trouble.rounds += 1;
        // A stranger's host could throttle for ever; a place that the user named is waited for.
        let counts = !(throttled && grant.named);
        trouble.counted += u32::from(counts);
        let (first, rounds, spent) =
            (trouble.first, trouble.rounds, trouble.counted >= config.attempts && now - trouble.first >= config.give_up.0);
        tracing::debug!(place = %grant.place.0, attempt = rounds, throttled, "fetching failed: {detail}");
        if counts && spent && self.fetcher.others_succeed(grant, first, self.intake.priority(), self.partition).await {
            let detail = format!("{detail} ({rounds} attempts in {:.0?}, while others succeed)", first.elapsed());
            return Err(reject(Reason::Unavailable, detail));
        }
        if rounds >= OUTAGE_AFTER && !self.fetcher.state().alive_since(grant, first) {
            WaitGuard::note(&mut self.waiting, self.fetcher, grant, first, &detail);
        } else {
            self.waiting = None;
        }
        tokio::time::sleep(pause(rounds).max(retry_after.unwrap_or_default())).await;
        Ok(())
    }
}

/// The pause after failure number `round`, from 1: doubling up to its bound, the upper half of it random so that workers do not march in step.
pub(super) fn pause(round: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << round.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

/// An item that waits for a place; dropped, it waits no longer.
pub(super) struct WaitGuard<'a> {
    fetcher: &'a Fetcher,
    place: Place,
    item: u64,
}

impl<'a> WaitGuard<'a> {
    /// Makes the item wait for the place if it does not yet, and says so in the log, at a bounded rate.
    pub(super) fn note(guard: &mut Option<Self>, fetcher: &'a Fetcher, grant: &Grant, since: Instant, detail: &str) {
        let now = Instant::now();
        let same = guard.take().filter(|g| g.place == grant.place);
        let guard = guard.insert(same.unwrap_or_else(|| Self {
            fetcher,
            place: grant.place.clone(),
            item: fetcher.waiters.fetch_add(1, Ordering::Relaxed),
        }));
        let due = fetcher.state().waits(grant, guard.item, since, detail, now);
        if due {
            let for_ = now.saturating_duration_since(since);
            tracing::warn!(place = %grant.place.0, "nothing succeeds for {for_:.0?}; waiting until it works again: {detail}");
        }
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.fetcher.state().leaves(&self.place, self.item);
    }
}
