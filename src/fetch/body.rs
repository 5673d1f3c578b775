//! Reading a body within its limits: size, memory, time.

use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use super::FetchError;
use crate::flow::{Pool, Priority, Reason, Rejection, Reservation, Stage};
use crate::telemetry::AttemptEnd;

/// A body may take this many times the timeout in all, so that one that drips forever ends.
const OVERALL: u32 = 10;

/// The limits that one item's bodies are read under.
#[derive(Debug)]
pub struct Intake {
    pool: Pool,
    priority: Priority,
    max_bytes: u64,
    timeout: Duration,
    /// Memory that came too late for the answer that asked for it, kept for the next attempt.
    held: Mutex<Reservation>,
}

impl Intake {
    /// Limits: `timeout` is the longest time without progress, and a tenth of the longest time for a whole body.
    pub fn new(pool: Pool, priority: Priority, max_bytes: u64, timeout: Duration) -> Self {
        Self { pool, priority, max_bytes, timeout, held: Mutex::default() }
    }

    /// Waits for `request` no longer than `timeout`, which is up to the response's headers.
    pub async fn in_time<T>(&self, what: &str, request: impl Future<Output = T>) -> Result<T, FetchError> {
        timeout(self.timeout, request)
            .await
            .map_err(|_| FetchError::retry(AttemptEnd::Timeout, format!("{what}: no answer within {:?}", self.timeout)))
    }

    /// The longest time for a whole body.
    pub fn overall(&self) -> Duration {
        self.timeout.saturating_mul(OVERALL)
    }

    /// The memory for a body of `length` bytes, or of unknown length, before any of it is read. Waiting for memory is not the store's fault:
    /// if the answer may have gone stale over it, [`FetchError::Again`] asks for another attempt, for which the memory is kept.
    pub async fn reserve(&self, length: Option<u64>) -> Result<Reservation, FetchError> {
        if let Some(length) = length.filter(|l| *l > self.max_bytes) {
            return Err(self.too_large(&format!("{length} bytes")));
        }
        let capacity = self.pool.capacity();
        let wanted = match length {
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
            None => usize::try_from(self.max_bytes).unwrap_or(usize::MAX).min(capacity),
        };
        let mut held = std::mem::take(&mut *self.held.lock().unwrap_or_else(|e| e.into_inner()));
        if held.bytes() >= wanted {
            held.shrink(wanted);
            return Ok(held);
        }
        drop(held);
        let asked = Instant::now();
        let Some(memory) = self.pool.reserve(self.priority, wanted).await else {
            let detail = format!("{wanted} bytes do not fit the {capacity} bytes of `memory` that bodies may take: raise `memory`");
            return Err(FetchError::rejected(Reason::TooLarge, detail));
        };
        if asked.elapsed() > self.timeout / 2 {
            *self.held.lock().unwrap_or_else(|e| e.into_inner()) = memory;
            return Err(FetchError::Again);
        }
        Ok(memory)
    }

    /// Reads a whole body, after reserving memory for it.
    pub async fn collect<S, E>(&self, length: Option<u64>, stream: S) -> Result<(Bytes, Reservation), FetchError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: std::error::Error,
    {
        let mut memory = self.reserve(length).await?;
        let limit = length.map_or(self.max_bytes, |l| l.min(self.max_bytes)).min(memory.bytes() as u64) as usize;
        let mut bytes = Vec::with_capacity(length.map_or(0, |_| limit));
        let mut stream = pin!(stream);
        let end = Instant::now() + self.overall();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let chunk = match timeout(self.timeout.min(left), stream.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(e))) => {
                    return Err(FetchError::retry(
                        AttemptEnd::Connection,
                        format!("body broke off after {} bytes: {}", bytes.len(), crate::error::chain(&e)),
                    ));
                }
                Ok(None) => break,
                Err(_) if left < self.timeout => {
                    return Err(FetchError::retry(AttemptEnd::Timeout, format!("only {} bytes within {:?}", bytes.len(), self.overall())));
                }
                Err(_) => {
                    return Err(FetchError::retry(
                        AttemptEnd::Timeout,
                        format!("no progress for {:?} after {} bytes", self.timeout, bytes.len()),
                    ));
                }
            };
            let total = bytes.len() + chunk.len();
            if total > limit {
                return Err(match length {
                    Some(length) => FetchError::retry(AttemptEnd::Other, format!("more than the {length} bytes that were announced")),
                    None => self.too_large("it goes on"),
                });
            }
            if total > bytes.capacity() {
                // Grown by halves and never beyond the reservation, which is what this vector may take.
                bytes.reserve_exact((total + total / 2).clamp(64 << 10, limit.max(64 << 10)).max(total) - bytes.len());
            }
            bytes.extend_from_slice(&chunk);
        }
        if let Some(length) = length.filter(|l| *l != bytes.len() as u64) {
            return Err(FetchError::retry(
                AttemptEnd::Connection,
                format!("{} bytes came of the {length} that were announced", bytes.len()),
            ));
        }
        bytes.shrink_to_fit();
        memory.shrink(bytes.len());
        whole(bytes.into()).map(|b| (b, memory))
    }

    /// Gives back memory that was kept for another attempt. Without a slot nobody may hold memory, or those who wait for memory in all the
    /// slots would wait for ever.
    pub fn release(&self) {
        drop(std::mem::take(&mut *self.held.lock().unwrap_or_else(|e| e.into_inner())));
    }

    /// The rejection of a body over the limit.
    pub fn too_large(&self, how_large: &str) -> FetchError {
        let detail = format!("{how_large}, more than fetch.max_bytes = {}", crate::config::ByteSize(self.max_bytes));
        FetchError::rejected(Reason::TooLarge, detail)
    }

    /// Whether the item goes before others.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The size limit.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

/// Refuses a body without bytes.
pub fn whole(bytes: Bytes) -> Result<Bytes, FetchError> {
    if bytes.is_empty() { Err(FetchError::Rejected(Rejection::new(Stage::Fetch, Reason::Empty, "0 bytes"))) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use proptest::prelude::*;

    fn intake(pool: usize, max: u64) -> Intake {
        Intake::new(Pool::new(pool), Priority::Live, max, Duration::from_millis(200))
    }

    fn chunks(parts: Vec<Vec<u8>>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        stream::iter(parts.into_iter().map(|p| Ok(Bytes::from(p))))
    }

    fn reason(e: FetchError) -> Reason {
        match e {
            FetchError::Rejected(r) => r.reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn waiting_long_for_memory_asks_for_another_attempt_and_keeps_the_memory() {
        let intake = intake(10 << 10, 10 << 10);
        let taken = intake.pool.reserve(Priority::Live, 5 << 10).await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            drop(taken);
        };
        let (got, ()) = tokio::join!(intake.reserve(Some(8 << 10)), release);
        assert!(matches!(got, Err(FetchError::Again)));
        assert_eq!(intake.pool.in_use(), 8 << 10);
        assert_eq!(intake.reserve(Some(8 << 10)).await.unwrap().bytes(), 8 << 10);
        assert_eq!(intake.pool.in_use(), 0);
    }

    #[tokio::test]
    async fn what_could_never_fit_is_too_large_at_once() {
        assert_eq!(reason(intake(4 << 10, 1 << 20).reserve(Some(5 << 10)).await.unwrap_err()), Reason::TooLarge);
        assert_eq!(reason(intake(1 << 20, 100).collect(Some(101), chunks(vec![])).await.unwrap_err()), Reason::TooLarge);
        assert_eq!(reason(intake(1 << 20, 100).collect(Some(u64::MAX), chunks(vec![])).await.unwrap_err()), Reason::TooLarge);
    }

    #[tokio::test]
    async fn a_stalled_and_a_dripping_body_end() {
        let start = Instant::now();
        let stalled = intake(1 << 20, 100).collect::<_, std::io::Error>(None, stream::pending()).await;
        assert!(matches!(stalled, Err(FetchError::Retry { .. })), "{stalled:?}");
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let dripping = Intake::new(Pool::new(1 << 20), Priority::Live, 1 << 20, Duration::from_millis(50)).collect(None, drip).await;
        assert!(matches!(dripping, Err(FetchError::Retry { .. })), "{dripping:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn a_body_is_whole_or_refused(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), announced in prop::option::of(0u64..2000), max in 1u64..1500
        ) {
            let all: Vec<u8> = parts.concat();
            let intake = intake(1 << 20, max);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let got = runtime.block_on(intake.collect(announced, chunks(parts)));
            let size = all.len() as u64;
            match got {
                Ok((bytes, memory)) => {
                    prop_assert_eq!(&bytes[..], &all[..]);
                    prop_assert!(size <= max && announced.is_none_or(|a| a == size) && !bytes.is_empty());
                    prop_assert_eq!(memory.bytes(), all.len().div_ceil(1024) * 1024);
                }
                Err(FetchError::Rejected(r)) => match r.reason {
                    Reason::Empty => prop_assert_eq!(size, 0),
                    Reason::TooLarge => prop_assert!(announced.unwrap_or(size) > max),
                    other => prop_assert!(false, "{}", other),
                },
                Err(FetchError::Retry { .. }) => prop_assert!(announced.is_some_and(|a| a != size)),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            prop_assert_eq!(intake.pool.in_use(), 0);
        }
    }
}
