//! The bounds on one attempt: memory before reading, size while reading, time without progress and time in all.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use super::{Failure, rejected};
use crate::flow::{Pool, Reason, Reservation};

/// An attempt may take this many times the time that it may go without progress: a server that drips must end too.
const WHOLE: u32 = 12;

/// The bounds on one attempt.
pub struct Read<'a> {
    bodies: &'a Pool,
    /// Largest file.
    pub max_bytes: u64,
    timeout: Duration,
    end: Mutex<Instant>,
}

impl<'a> Read<'a> {
    /// Bounds that begin now.
    pub fn new(bodies: &'a Pool, max_bytes: u64, timeout: Duration) -> Self {
        Self { bodies, max_bytes, timeout, end: Mutex::new(Instant::now() + timeout * WHOLE) }
    }

    fn end(&self) -> MutexGuard<'_, Instant> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one step.
    pub async fn progress<T>(&self, step: impl Future<Output = T>) -> Result<T, Failure> {
        let now = Instant::now();
        let end = *self.end();
        let (limit, what) = match now + self.timeout {
            soon if soon <= end => (soon, "nothing came"),
            _ => (end, "it was not all there"),
        };
        let allowed = if limit == end { self.timeout * WHOLE } else { self.timeout };
        timeout_at(limit, step).await.map_err(|_| Failure::retry(format!("{what} within {} s", allowed.as_secs_f32())))
    }

    /// Takes memory for a body before it is read; for one of unknown length as much as it may have. Waiting for memory is no fault of the server's and
    /// has no limit.
    pub async fn reserve(&self, length: Option<u64>) -> Result<Reservation, Failure> {
        match length {
            Some(length) if length > self.max_bytes => {
                Err(rejected(Reason::TooLarge, format!("{length} bytes, more than max_bytes {}", self.max_bytes)))
            }
            _ => {
                let bytes = usize::try_from(length.unwrap_or(self.max_bytes)).unwrap_or(usize::MAX);
                let begun = Instant::now();
                let memory = self.bodies.reserve(bytes).await;
                *self.end() += begun.elapsed();
                memory.ok_or_else(|| rejected(Reason::TooLarge, format!("{bytes} bytes are more than the memory budget has for files")))
            }
        }
    }

    /// Appends a piece of a body.
    pub fn grow(&self, bytes: &mut BytesMut, chunk: &[u8]) -> Result<(), Failure> {
        if (bytes.len() + chunk.len()) as u64 > self.max_bytes {
            return Err(rejected(Reason::TooLarge, format!("more than max_bytes {}", self.max_bytes)));
        }
        bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Checks that all of a body came.
    pub fn whole(&self, bytes: &BytesMut, length: Option<u64>) -> Result<(), Failure> {
        match length {
            Some(length) if length != bytes.len() as u64 => Err(Failure::retry(format!("{} of {length} bytes came", bytes.len()))),
            _ => Ok(()),
        }
    }
}
