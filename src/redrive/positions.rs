//! How far each reason's letters of a partition have been sent back. Kept as the metadata of one offset of one consumer group, so that all of them
//! are committed in the transaction that sends the letters.

use std::collections::BTreeMap;

use super::letter::reasons;
use crate::{Error, Result};

/// Next offset of each reason, for one partition. A reason that was never redriven has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<&'static str, i64>);

impl Positions {
    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Config`] if another program commits under this group.
    pub fn read(metadata: &str) -> Result<Self> {
        let foreign = || Error::config("its offsets were not committed by `lakelens redrive`; name another --group");
        let written: BTreeMap<String, i64> = serde_json::from_str(metadata).map_err(|_| foreign())?;
        let known =
            |(name, next): (String, i64)| reasons().find(|r| *r == name).filter(|_| next >= 0).map(|r| (r, next)).ok_or_else(foreign);
        Ok(Self(written.into_iter().map(known).collect::<Result<_>>()?))
    }

    /// As JSON: a few hundred bytes, where brokers take 4,096.
    pub fn write(&self) -> Result<String> {
        serde_json::to_string(&self.0).map_err(Error::failed)
    }

    /// The first offset that this reason's letters were not looked at.
    pub fn of(&self, reason: &str) -> i64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// Everything of these reasons below `next` has been looked at. Never goes back.
    pub fn advance(&mut self, reasons: &[&'static str], next: i64) {
        for reason in reasons {
            let position = self.0.entry(reason).or_default();
            *position = next.max(*position);
        }
    }

    /// Below it nothing of these reasons is left.
    pub fn lowest(&self, reasons: impl IntoIterator<Item = &'static str>) -> i64 {
        reasons.into_iter().map(|r| self.of(r)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_reason_has_a_position_of_its_own() {
        let mut positions = Positions::default();
        positions.advance(&["not_found", "empty"], 7);
        positions.advance(&["empty"], 9);
        positions.advance(&["empty"], 8);
        assert_eq!((positions.of("not_found"), positions.of("empty"), positions.of("crashed")), (7, 9, 0));
        assert_eq!((positions.lowest(["not_found", "empty"]), positions.lowest(reasons())), (7, 0));
    }

    #[test]
    fn another_programs_offsets_are_refused() {
        for metadata in ["", "x", "{\"not_found\":\"7\"}", "{\"of_tomorrow\":7}", "{\"empty\":-1}", "[]"] {
            assert!(Positions::read(metadata).is_err(), "{metadata}");
        }
    }

    #[test]
    fn all_reasons_fit_what_a_broker_takes() {
        let mut positions = Positions::default();
        positions.advance(&reasons().collect::<Vec<_>>(), i64::MAX);
        assert!(positions.write().unwrap().len() < 4096);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(steps in proptest::collection::vec((0..reasons().count(), 0i64..), 0..20), garbage in ".*") {
            let mut positions = Positions::default();
            for (reason, next) in steps {
                positions.advance(&[reasons().nth(reason).unwrap()], next);
            }
            prop_assert_eq!(Positions::read(&positions.write().unwrap()).unwrap(), positions);
            let _ = Positions::read(&garbage);
        }
    }
}
