//! What a redrive did, in letters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Letters of one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sent back, or to be sent back.
    pub redriven: u64,
    /// An earlier run had them.
    pub before: u64,
    /// Cut when they were written, since they did not fit their topic: the input is at `lakelens.source.*`.
    pub cut: u64,
    /// Would not fit the topic that they were to go to.
    pub too_large: u64,
    /// Of a reason that was not asked for.
    pub not_asked: u64,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// The topic of dead letters.
    pub topic: String,
    /// Where they went.
    pub to: String,
    /// Nothing was sent.
    pub dry_run: bool,
    /// Ended before everything that was asked for had been looked at, and not because of `--max-items`.
    pub stopped: bool,
    /// Letters read.
    pub read: u64,
    /// By reason.
    pub reasons: BTreeMap<&'static str, Counts>,
}

impl RedriveReport {
    /// Letters sent back, of all reasons.
    pub fn redriven(&self) -> u64 {
        self.reasons.values().map(|c| c.redriven).sum()
    }
}

impl fmt::Display for RedriveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = if self.dry_run { "would go" } else { "redriven" };
        writeln!(f, "{:<22}{:>10}{:>10}{:>10}{:>11}{:>11}", "reason", first, "before", "cut", "too large", "not asked")?;
        for (reason, c) in &self.reasons {
            writeln!(f, "{reason:<22}{:>10}{:>10}{:>10}{:>11}{:>11}", c.redriven, c.before, c.cut, c.too_large, c.not_asked)?;
        }
        let verb = if self.dry_run { "would go" } else { "went" };
        writeln!(f, "{} of {} letters {verb} from `{}` to `{}`", self.redriven(), self.read, self.topic, self.to)?;
        if self.reasons.values().any(|c| c.cut + c.too_large > 0) {
            writeln!(
                f,
                "letters that were cut, or are too large for `{}`, stay where they are; their headers `lakelens.source.*` say where the input stands",
                self.to
            )?;
        }
        Ok(())
    }
}
