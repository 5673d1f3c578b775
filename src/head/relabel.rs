//! New labels for old records: from stored embeddings, without a picture.

use std::collections::BTreeMap;

use super::{Head, Origin, check};
use crate::flow::Record;
use crate::records::Entry;
use crate::{Error, Result};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relabelled {
    /// Records that were labelled.
    pub records: u64,
    /// Rejections among the input, which have nothing to label.
    pub rejections: u64,
    /// How many got each label as their best, by head.
    pub best: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Gives `write` the records with the labels of `heads` in `heads`, by name; what they had under other names stays.
///
/// # Errors
/// [`Error::Config`] for a record that has no embedding, one that is not finite or one of another origin than a head's; the reader's errors, and those
/// of `write`.
pub fn relabel(
    entries: impl Iterator<Item = Result<Entry>>,
    heads: &BTreeMap<String, Head>,
    limits: (usize, f32),
    write: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<Relabelled> {
    let mut done = Relabelled::default();
    for entry in entries {
        let Entry::Record(mut record) = entry? else {
            done.rejections += 1;
            continue;
        };
        label(&mut record, heads, limits, &mut done)?;
        done.records += 1;
        write(*record)?;
    }
    Ok(done)
}

fn label(record: &mut Record, heads: &BTreeMap<String, Head>, (k, min_score): (usize, f32), done: &mut Relabelled) -> Result<()> {
    let uri = || crate::telemetry::escape(&record.uri);
    let (Some(origin), Some(embedding)) = (Origin::of(record), &record.embedding) else {
        return Err(Error::config(format_args!("the record of {} has no embedding to label from", uri())));
    };
    check(record)?;
    let mut labelled = BTreeMap::new();
    for (name, head) in heads {
        if let Some(difference) = head.origin.differs(&origin) {
            return Err(Error::config(format_args!(
                "the head {name} was trained on embeddings of another space; the record of {} has {difference}. Train a head on records of that model",
                uri()
            )));
        }
        let labels = head.label(embedding, k, min_score);
        if let Some(best) = labels.first() {
            *done.best.entry(name.clone()).or_default().entry(best.label.to_string()).or_default() += 1;
        }
        labelled.insert(name.clone(), labels);
    }
    record.heads.get_or_insert_default().extend(labelled);
    Ok(())
}
