//! The ledger: what became of every item, by source partition. Pure counting; `received` must equal the sum of everything else.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::flow::{Outcome, Partition, Reason, Skip};

/// What became of one item, without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Every sink has its record (or tombstone) for good.
    Published,
    /// Its rejection is with the dead letters for good.
    Rejected(Reason),
    /// It asked for nothing.
    Skipped(Skip),
}

impl From<&Outcome> for Fate {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Record(_) | Outcome::Tombstone(_) => Self::Published,
            Outcome::Rejected(r) => Self::Rejected(r.reason),
            Outcome::Skipped(s) => Self::Skipped(*s),
        }
    }
}

/// Counts in items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Items that came in.
    pub received: u64,
    /// Items whose record every sink has for good.
    pub published: u64,
    /// Items with a rejection, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Items that asked for nothing, by kind.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Items that a rebalance or a stop took away before they were finished.
    pub handed_back: u64,
}

impl Account {
    /// Books one finished item.
    pub fn book(&mut self, fate: Fate) {
        match fate {
            Fate::Published => self.published += 1,
            Fate::Rejected(reason) => *self.rejected.entry(reason.name()).or_default() += 1,
            Fate::Skipped(skip) => *self.skipped.entry(skip.name()).or_default() += 1,
        }
    }

    /// All rejections.
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// All skipped items.
    pub fn skips(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// What has no end yet, by subtraction; negative if more ended than came.
    pub fn in_flight(&self) -> i64 {
        let ended = self.published + self.rejections() + self.skips() + self.handed_back;
        i64::try_from(self.received).unwrap_or(i64::MAX) - i64::try_from(ended).unwrap_or(i64::MAX)
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.published += other.published;
        self.handed_back += other.handed_back;
        for (reason, n) in &other.rejected {
            *self.rejected.entry(reason).or_default() += n;
        }
        for (skip, n) in &other.skipped {
            *self.skipped.entry(skip).or_default() += n;
        }
    }
}

/// The accounts of all partitions that this worker ever owned.
#[derive(Debug, Clone, Default)]
pub struct Ledger(BTreeMap<Partition, Account>);

impl Ledger {
    /// The account of one partition.
    pub fn account(&mut self, partition: &Partition) -> &mut Account {
        self.0.entry(partition.clone()).or_default()
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (&Partition, &Account)> {
        self.0.iter()
    }

    /// The sum over all partitions.
    pub fn total(&self) -> Account {
        let mut total = Account::default();
        self.0.values().for_each(|account| total.add(account));
        total
    }

    /// The partitions whose account does not add up.
    pub fn unbalanced(&self) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, account)| account.in_flight() != 0)
            .map(|(partition, account)| {
                format!("{partition}: {} received, {} of them without an end", account.received, account.in_flight())
            })
            .collect()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, a: &Account| {
            writeln!(
                f,
                "{name:<32} {:>10} {:>10} {:>9} {:>8} {:>11} {:>9}",
                a.received,
                a.published,
                a.rejections(),
                a.skips(),
                a.handed_back,
                a.in_flight()
            )
        };
        writeln!(
            f,
            "{:<32} {:>10} {:>10} {:>9} {:>8} {:>11} {:>9}",
            "ledger (items)", "received", "published", "rejected", "skipped", "handed back", "in flight"
        )?;
        for (partition, account) in &self.0 {
            let name: String = crate::telemetry::escape(&partition.to_string());
            row(f, &name, account)?;
        }
        if self.0.len() != 1 {
            row(f, "all", &self.total())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            Just(Fate::Published),
            proptest::sample::select(Reason::ALL).prop_map(Fate::Rejected),
            proptest::sample::select(Skip::ALL).prop_map(Fate::Skipped),
        ]
    }

    proptest! {
        #[test]
        fn what_came_is_what_ended_and_what_is_in_flight(
            ends in proptest::collection::vec((0i32..3, fate()), 0..60),
            handed_back in proptest::collection::vec(0u64..5, 3),
            open in proptest::collection::vec(0u64..3, 3),
        ) {
            let mut ledger = Ledger::default();
            for number in 0..3 {
                let account = ledger.account(&Partition::new("refs", number));
                let ended = ends.iter().filter(|(n, _)| *n == number).count() as u64;
                account.received = ended + handed_back[number as usize] + open[number as usize];
                account.handed_back = handed_back[number as usize];
            }
            ends.iter().for_each(|(number, fate)| ledger.account(&Partition::new("refs", *number)).book(*fate));
            for (partition, account) in ledger.partitions() {
                prop_assert_eq!(account.in_flight(), open[partition.partition as usize] as i64);
            }
            prop_assert_eq!(ledger.unbalanced().len(), open.iter().filter(|n| **n > 0).count());
            let total = ledger.total();
            let count = |is: fn(&Fate) -> bool| ends.iter().filter(|(_, fate)| is(fate)).count() as u64;
            prop_assert_eq!(total.published, count(|f| *f == Fate::Published));
            prop_assert_eq!(total.rejections(), count(|f| matches!(f, Fate::Rejected(_))));
            prop_assert_eq!(total.skips(), count(|f| matches!(f, Fate::Skipped(_))));
            prop_assert_eq!(total.in_flight(), open.iter().sum::<u64>() as i64);
            // A line for each partition, one for all, and a head.
            prop_assert_eq!(ledger.to_string().lines().count(), 5);
        }
    }

    #[test]
    fn an_item_that_ended_twice_unbalances_its_partition() {
        let partition = Partition::new("a\u{1b}[31m", 0);
        let mut ledger = Ledger::default();
        ledger.account(&partition).received = 1;
        ledger.account(&partition).book(Fate::Published);
        ledger.account(&partition).book(Fate::Published);
        assert_eq!((ledger.total().in_flight(), ledger.unbalanced().len()), (-1, 1));
        assert!(!ledger.to_string().contains('\u{1b}'));
    }

    #[test]
    fn an_item_without_an_end_unbalances_its_partition() {
        let partition = Partition::new("refs", 3);
        let mut ledger = Ledger::default();
        ledger.account(&partition).received = 3;
        ledger.account(&partition).book(Fate::Published);
        ledger.account(&partition).book(Fate::Rejected(Reason::NotFound));
        assert_eq!(ledger.unbalanced().len(), 1);
        ledger.account(&partition).book(Fate::Skipped(Skip::Null));
        assert!(ledger.unbalanced().is_empty());
        assert_eq!(ledger.total().rejected["not_found"], 1);
    }
}
