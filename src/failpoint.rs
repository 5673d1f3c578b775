//! Places at which a worker can be made to die, for the suite of faults. Without the feature `failpoints` there is nothing behind them.

/// Passes the place `name`: where `LAKELENS_FAILPOINT` is `name` or `name:N` the process aborts here, the first or the Nth time.
#[cfg(feature = "failpoints")]
pub fn pass(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("LAKELENS_FAILPOINT") else { return };
    let (place, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if place == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse().unwrap_or(1) {
        tracing::error!("failpoint {name}: aborting");
        std::process::abort();
    }
}

/// Passes the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_name: &str) {}

/// What a file ends with that is poison to the process which decodes it.
#[cfg(feature = "failpoints")]
pub fn poison(file: &[u8]) {
    if file.ends_with(b"LAKELENS-POISON:abort") {
        std::process::abort();
    } else if file.ends_with(b"LAKELENS-POISON:hang") {
        loop {
            std::thread::park();
        }
    } else if file.ends_with(b"LAKELENS-POISON:memory") {
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1u8; 1 << 20]);
        }
    }
}

/// Nothing is poison.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn poison(_file: &[u8]) {}
