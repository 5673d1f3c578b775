//! Labelled embeddings, gathered from records.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Origin, Truth, check};
use crate::records::Entry;
use crate::{Error, Result};

/// Most values that are kept, 4 bytes each: 131,072 embeddings of 2,048.
pub const MAX_VALUES: usize = 1 << 28;

/// Embeddings of one origin with their classes.
#[derive(Debug, Clone)]
pub struct Examples {
    /// What they came from.
    pub origin: Origin,
    /// Names of the classes.
    pub labels: Vec<Arc<str>>,
    /// `classes.len()` rows of `origin.embedding_dim` values.
    pub values: Vec<f32>,
    /// The class of each row.
    pub classes: Vec<usize>,
    /// Labelled pictures of which there was no record.
    pub missing: usize,
}

impl Examples {
    /// Takes the records that `truth` knows, each picture once.
    ///
    /// # Errors
    /// [`Error::Config`] if they come from several models, if a value is not finite, if a class has fewer than two, or if there are more than
    /// [`MAX_VALUES`] values; the reader's errors.
    pub fn gather(entries: impl Iterator<Item = Result<Entry>>, truth: &Truth) -> Result<Self> {
        let (mut origin, mut seen): (Option<Origin>, HashSet<u64>) = (None, HashSet::new());
        let (mut values, mut classes, mut without) = (Vec::new(), Vec::new(), 0u64);
        for entry in entries {
            let Entry::Record(record) = entry? else { continue };
            let Some((line, class)) = truth.of(&record) else { continue };
            let (Some(embedding), Some(from)) = (&record.embedding, Origin::of(&record)) else {
                without += 1;
                continue;
            };
            check(&record)?;
            let known = origin.get_or_insert_with(|| from.clone());
            if let Some(difference) = known.differs(&from) {
                return Err(Error::config(format_args!(
                    "the records are of several models: {difference} in a later one; give those of one model"
                )));
            }
            if !seen.insert(line) {
                continue;
            }
            if values.len() + embedding.len() > MAX_VALUES {
                return Err(Error::config(format_args!(
                    "more than {MAX_VALUES} values in labelled embeddings ({} pictures): label fewer, a sample is as good",
                    classes.len()
                )));
            }
            values.extend_from_slice(embedding);
            classes.push(class as usize);
        }
        let labels: Vec<Arc<str>> = truth.labels().iter().map(|label| Arc::from(label.as_str())).collect();
        let Some(origin) = origin else {
            return Err(Error::config(match without {
                0 => "none of the labelled pictures is in the records; is the CSV's first column written as the records' `uri`, `id` or file name?".into(),
                _ => format!("the {without} records of labelled pictures have no embedding; label them without --no-embeddings"),
            }));
        };
        let missing = truth.len() - classes.len();
        let examples = Self { origin, labels, values, classes, missing };
        for (label, count) in examples.labels.iter().zip(examples.counts()) {
            if count < 2 {
                return Err(Error::config(format_args!(
                    "{label:?} has {count} labelled pictures among the records, 2 are needed: one to learn from, one to check with"
                )));
            }
        }
        Ok(examples)
    }

    /// Pictures of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        self.classes.iter().for_each(|class| counts[*class] += 1);
        counts
    }

    /// The embedding of one example.
    pub fn row(&self, at: usize) -> &[f32] {
        let dim = self.origin.embedding_dim;
        &self.values[at * dim..(at + 1) * dim]
    }
}
