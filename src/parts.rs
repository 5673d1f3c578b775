//! Work on many things, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;

/// Splits `count` things into eight parts, works on them on all cores, and gives the results in order: the same on a machine with other cores.
pub(crate) fn in_parts<T: Send>(count: usize, work: impl Fn(Range<usize>) -> Result<T> + Sync) -> Result<Vec<T>> {
    const PARTS: usize = 8;
    let (next, threads) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, |n| n.get().min(PARTS)));
    let turns = || {
        let mut done = Vec::new();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= PARTS {
                return done;
            }
            done.push((part, work(part * count / PARTS..(part + 1) * count / PARTS)));
        }
    };
    let mut all: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(turns)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    all.sort_by_key(|(part, _)| *part);
    all.into_iter().map(|(_, result)| result).collect()
}
