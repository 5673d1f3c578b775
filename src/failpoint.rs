//! Places at which a worker can be made to die or to break what it delivers, for the suite of faults. Without the feature `failpoints` there is
//! nothing behind them.

mod store;

pub use store::Trouble;

use crate::flow::Delivery;

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

/// Begins the call `what` of a Kafka client: where `LAKELENS_STALL` is `what:N` the Nth one never comes back.
#[cfg(feature = "failpoints")]
pub fn stall(what: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("LAKELENS_STALL") else { return };
    let Some((call, nth)) = wanted.split_once(':') else { return };
    if call == what && MADE.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse().unwrap_or(1) {
        tracing::error!("failpoint: stuck in {what}");
        loop {
            std::thread::park();
        }
    }
}

/// Begins the call `what`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn stall(_what: &str) {}

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

/// Breaks deliveries that are about to be written, once in the life of the process, as `LAKELENS_BREAK` says: `lose` or `double` one record, `invent`
/// one that nobody asked for, `swap` the embeddings of two. A verifier that does not notice is none.
#[cfg(feature = "failpoints")]
pub fn tamper(deliveries: &mut Vec<Delivery>) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::flow::{AckToken, Item, Outcome, ParsedItem, Record, Skip, SourceRef};
    static DONE: AtomicBool = AtomicBool::new(false);

    let Ok(how) = std::env::var("LAKELENS_BREAK") else { return };
    if DONE.load(Ordering::Relaxed) {
        return;
    }
    let record_of = |delivery: &Delivery| match &delivery.outcome {
        Outcome::Record(record) => Some((**record).clone()),
        _ => None,
    };
    let records: Vec<(usize, Record)> = deliveries.iter().enumerate().filter_map(|(n, d)| Some((n, record_of(d)?))).collect();
    let Some((first, record)) = records.first() else { return };
    let item = deliveries[*first].item.clone();
    let mut add = |item: Arc<Item>, record: Record| {
        let token = AckToken::detached(item.position.partition.clone(), item.position.offset);
        deliveries.insert(*first + 1, Delivery { item, token, outcome: Outcome::Record(Box::new(record)) });
    };
    match how.as_str() {
        "lose" => deliveries[*first].outcome = Outcome::Skipped(Skip::Null),
        "double" => add(item, record.clone()),
        "invent" => {
            // Under a position of its own, since sinks remember by position what they have encoded.
            let (mut invented, mut position) = (record.clone(), item.position.clone());
            position.item += 1000;
            if let SourceRef::Kafka { item, .. } = &mut invented.source {
                *item = position.item;
            }
            let item = Item { message: item.message.clone(), position, parsed: ParsedItem::Skip(Skip::Null), last: item.last, trace: None };
            add(Arc::new(item), invented);
        }
        "swap" => {
            let Some((second, other)) = records.iter().find(|(_, other)| other.embedding != record.embedding) else { return };
            for (place, embedding) in [(first, &other.embedding), (second, &record.embedding)] {
                if let Outcome::Record(changed) = &mut deliveries[*place].outcome {
                    changed.embedding.clone_from(embedding);
                }
            }
        }
        _ => return,
    }
    DONE.store(true, Ordering::Relaxed);
    tracing::error!("broken on purpose: {how}");
}

/// Leaves deliveries as they are.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn tamper(_deliveries: &mut Vec<Delivery>) {}
