//! Where to begin, and what was lost.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Start;
use crate::flow::Partition;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Messages that retention deleted before this process could read them and that `on_lost: continue` went past, since it started.
pub fn lost_messages() -> u64 {
    LOST.load(Ordering::Relaxed)
}

pub(super) fn count_lost(lost: &Lost) {
    LOST.fetch_add(lost.count(), Ordering::Relaxed);
}

/// Where a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At its committed offset.
    Committed(i64),
    /// It was never committed: where `start` says.
    Fresh(i64),
    /// Not where it was left.
    Lost(Lost),
}

/// Why a partition cannot go on where it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// Retention deleted `from..low` unread.
    Deleted { from: i64, low: i64 },
    /// The partition ends before `from`: the topic was created anew, or lost its end.
    Recreated { from: i64, low: i64, high: i64 },
}

impl Lost {
    /// The oldest message that there is.
    pub(super) fn go_on_at(&self) -> i64 {
        match self {
            Self::Deleted { low, .. } | Self::Recreated { low, .. } => *low,
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::Deleted { from, low } => low.abs_diff(*from),
            // How many messages the former topic still had cannot be known.
            Self::Recreated { .. } => 0,
        }
    }

    /// What happened, for a person.
    pub(super) fn describe(&self, partition: &Partition) -> String {
        match self {
            Self::Deleted { from, low } => format!(
                "{partition}: offsets {from} to {} ({} messages) were deleted by retention before they were read; the oldest now is {low}",
                low - 1,
                self.count()
            ),
            Self::Recreated { from, low, high } => format!(
                "{partition}: the group is at offset {from}, but the partition now ends at {high} (its oldest is {low}); the topic was created anew or lost its end"
            ),
        }
    }
}

/// Compares where the group was with what the partition holds, `low..high`.
pub(super) fn place(committed: Option<i64>, low: i64, high: i64, start: Start) -> Place {
    match (committed, start) {
        (None, Start::Earliest) => Place::Fresh(low),
        (None, Start::Latest) => Place::Fresh(high),
        (Some(from), _) if from < low => Place::Lost(Lost::Deleted { from, low }),
        (Some(from), _) if from > high => Place::Lost(Lost::Recreated { from, low, high }),
        (Some(from), _) => Place::Committed(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_partition_begins_within_its_bounds(committed in proptest::option::of(0i64..100), low in 0i64..100, more in 0i64..100, late: bool) {
            let high = low + more;
            let start = if late { Start::Latest } else { Start::Earliest };
            match place(committed, low, high, start) {
                Place::Committed(at) => {
                    prop_assert_eq!(Some(at), committed);
                    prop_assert!((low..=high).contains(&at));
                }
                Place::Fresh(at) => {
                    prop_assert_eq!(committed, None);
                    prop_assert_eq!(at, if late { high } else { low });
                }
                Place::Lost(lost) => {
                    let from = committed.expect("only what was committed can be lost");
                    prop_assert!(!(low..=high).contains(&from));
                    prop_assert_eq!(lost.go_on_at(), low);
                    prop_assert_eq!(lost.count(), if from < low { (low - from) as u64 } else { 0 });
                }
            }
        }
    }

    #[test]
    fn the_lost_range_is_named() {
        let text = Lost::Deleted { from: 3, low: 10 }.describe(&Partition::new("refs", 2));
        assert!(text.contains("refs/2: offsets 3 to 9 (7 messages)"), "{text}");
    }
}
