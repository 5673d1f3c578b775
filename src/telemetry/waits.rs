//! What the worker waits for in the world, beside the places that fetching knows of. One list for the process, as there is one log: those who wait
//! stand deep inside clients and sinks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A part of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// An object store, or another server that pictures come from.
    Store,
    /// A Kafka broker.
    Broker,
    /// Room on a disk.
    Disk,
}

impl On {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Broker, Self::Disk];

    /// The name in metrics and health.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Broker => "broker",
            Self::Disk => "disk",
        }
    }
}

struct List {
    next: u64,
    waiting: BTreeMap<u64, (On, String, Instant)>,
}

static LIST: Mutex<List> = Mutex::new(List { next: 0, waiting: BTreeMap::new() });

fn list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody waits for as long as this lives.
#[derive(Debug)]
pub struct Wait(u64);

impl Wait {
    /// Waits for `what`, a text for a person that holds no secret.
    pub fn on(on: On, what: impl Into<String>) -> Self {
        let mut list = list();
        let number = list.next;
        list.next += 1;
        list.waiting.insert(number, (on, what.into(), Instant::now()));
        Self(number)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        list().waiting.remove(&self.0);
    }
}

/// Everything that is waited for now, and for how long.
pub fn waits() -> Vec<(On, String, Duration)> {
    list().waiting.values().map(|(on, what, since)| (*on, what.clone(), since.elapsed())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seen_until_it_ends() {
        let seen = || waits().into_iter().filter(|(_, what, _)| what == "room in the test").count();
        let (first, second) = (Wait::on(On::Disk, "room in the test"), Wait::on(On::Disk, "room in the test"));
        assert_eq!(seen(), 2);
        drop(first);
        assert_eq!(seen(), 1);
        drop(second);
        assert_eq!(seen(), 0);
    }
}
