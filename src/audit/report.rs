//! What an audit found.

use std::fmt;

use serde::Serialize;

use crate::{Error, Result};

/// One input partition against one output topic, counted in items.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PartitionLedger {
    /// Topic of records.
    pub output: String,
    /// Partition of the input topic.
    pub partition: i32,
    /// The oldest offset that is left.
    pub from: i64,
    /// The offset after the newest one.
    pub to: i64,
    /// Messages read.
    pub messages: u64,
    /// Items in them.
    pub items: u64,
    /// Items that ask for nothing.
    pub skipped: u64,
    /// Items without an outcome of whose object a newer reference has one.
    pub superseded: u64,
    /// Items with a record.
    pub published: u64,
    /// Items with a dead letter and no record.
    pub rejected: u64,
    /// Items with neither.
    pub missing: u64,
    /// Items with more than one record or dead letter.
    pub doubled: u64,
    /// Records and dead letters that no item asked for.
    pub unasked: u64,
}

impl PartitionLedger {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.items += other.items;
        self.skipped += other.skipped;
        self.superseded += other.superseded;
        self.published += other.published;
        self.rejected += other.rejected;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.unasked += other.unasked;
    }

    fn wrong(&self) -> u64 {
        self.missing + self.doubled + self.unasked
    }
}

/// What is wrong with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// It has neither record nor dead letter.
    Missing,
    /// It has more than one.
    Doubled,
    /// Nobody asked for it.
    Unasked,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Doubled => "doubled",
            Self::Unasked => "unasked",
        }
    }
}

/// One item that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Topic of records, or of dead letters.
    pub output: String,
    /// Partition of the input topic.
    pub partition: i32,
    /// Offset of the input message.
    pub offset: i64,
    /// Number of the item within it.
    pub item: u32,
}

/// The whole audit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AuditReport {
    /// The input topic.
    pub topic: String,
    /// A ledger for each output topic and input partition.
    pub ledgers: Vec<PartitionLedger>,
    /// The first wrong items of each kind and output.
    pub findings: Vec<Finding>,
    /// Records and dead letters of other topics.
    pub of_other_topics: u64,
    /// Records and dead letters of messages that retention has deleted.
    pub expired: u64,
    /// Records and dead letters of messages that came after the audit had begun.
    pub later: u64,
    /// Null values on the output topics.
    pub tombstones: u64,
    /// Messages on the output topics that are no records, and on the dead-letter topic that are no dead letters.
    pub unreadable: u64,
}

impl AuditReport {
    /// The sum over the partitions for each output topic, in the order in which the topics were given.
    pub fn totals(&self) -> Vec<PartitionLedger> {
        let mut totals: Vec<PartitionLedger> = Vec::new();
        for ledger in &self.ledgers {
            match totals.iter_mut().find(|t| t.output == ledger.output) {
                Some(total) => total.add(ledger),
                None => totals.push(PartitionLedger { partition: -1, from: 0, to: 0, ..ledger.clone() }),
            }
        }
        totals
    }

    /// Whether every item has exactly one outcome on every output.
    pub fn is_balanced(&self) -> bool {
        self.ledgers.iter().all(|l| l.wrong() == 0)
    }

    /// # Errors
    /// [`Error::Unbalanced`] with the counts if the ledger does not balance.
    pub fn verdict(&self) -> Result<()> {
        if self.is_balanced() {
            return Ok(());
        }
        let told = |l: &PartitionLedger| format!("{}: {} missing, {} doubled, {} unasked", l.output, l.missing, l.doubled, l.unasked);
        Err(Error::Unbalanced(self.totals().iter().filter(|l| l.wrong() > 0).map(told).collect::<Vec<_>>().join("; ")))
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for total in self.totals() {
            writeln!(f, "{} -> {}", self.topic, total.output)?;
            writeln!(
                f,
                "{:>9} {:>12} {:>12} {:>10} {:>10} {:>12} {:>10} {:>9} {:>9} {:>9}",
                "partition", "messages", "items", "skipped", "superseded", "published", "rejected", "missing", "doubled", "unasked"
            )?;
            let row = |f: &mut fmt::Formatter<'_>, name: String, l: &PartitionLedger| {
                writeln!(
                    f,
                    "{name:>9} {:>12} {:>12} {:>10} {:>10} {:>12} {:>10} {:>9} {:>9} {:>9}",
                    l.messages, l.items, l.skipped, l.superseded, l.published, l.rejected, l.missing, l.doubled, l.unasked
                )
            };
            for ledger in self.ledgers.iter().filter(|l| l.output == total.output) {
                row(f, ledger.partition.to_string(), ledger)?;
            }
            row(f, "all".to_owned(), &total)?;
        }
        for finding in &self.findings {
            let Finding { fault, output, partition, offset, item } = finding;
            writeln!(f, "{:<8} {}/{partition}@{offset}#{item} on {output}", fault.name(), self.topic)?;
        }
        for (count, what) in [
            (self.of_other_topics, "belong to other input topics"),
            (self.expired, "belong to messages that retention has deleted"),
            (self.later, "belong to messages newer than this audit"),
            (self.tombstones, "are tombstones"),
            (self.unreadable, "are no records or dead letters of Lakelens"),
        ] {
            if count > 0 {
                writeln!(f, "{count} messages on the outputs {what}")?;
            }
        }
        write!(f, "{}", if self.is_balanced() { "balanced" } else { "NOT balanced" })
    }
}
