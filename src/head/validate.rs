//! How good a head is on pictures that it was not fitted to.

use std::fmt;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Examples, train};
use crate::Result;
use crate::parts::in_parts;

/// Parts that the examples are cut into, where each class has as many.
const FOLDS: usize = 5;
/// The most classes of which a whole confusion matrix is printed.
const MATRIX: usize = 16;

/// Cross-validation: each example was labelled by a head that had not seen it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Parts that the examples were cut into.
    pub folds: usize,
    /// Share of the examples that got their label.
    pub accuracy: f64,
    /// Mean over the classes of the share of their examples that got their label.
    pub balanced_accuracy: f64,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Row: what an example is; column: what it was taken for.
    pub confusion: Vec<Vec<usize>>,
}

/// Cuts the examples into parts with equal shares of each class, drawn by `seed`, and labels each part by a head that is fitted to the others.
///
/// # Errors
/// Those of [`train`].
pub fn cross_validate(examples: &Examples, penalty: f64, seed: u64) -> Result<Validation> {
    let folds = examples.counts().into_iter().min().unwrap_or(2).clamp(2, FOLDS);
    let fold_of = folds_of(examples, folds, seed);
    let each = in_parts(folds, |part| {
        let mut taken = Vec::new();
        for fold in part {
            let rows: Vec<usize> = (0..fold_of.len()).filter(|row| fold_of[*row] != fold).collect();
            let head = train(examples, &rows, penalty)?;
            for row in (0..fold_of.len()).filter(|row| fold_of[*row] == fold) {
                let best = head.label(examples.row(row), 1, f32::NEG_INFINITY);
                taken.push((examples.classes[row], best.first().map_or(0, |label| label.index as usize)));
            }
        }
        Ok(taken)
    })?;
    let mut confusion = vec![vec![0; examples.labels.len()]; examples.labels.len()];
    each.into_iter().flatten().for_each(|(is, was)| confusion[is][was] += 1);
    let right: usize = (0..confusion.len()).map(|class| confusion[class][class]).sum();
    let shares = confusion.iter().enumerate().map(|(class, row)| row[class] as f64 / row.iter().sum::<usize>().max(1) as f64);
    Ok(Validation {
        folds,
        accuracy: right as f64 / examples.classes.len().max(1) as f64,
        balanced_accuracy: shares.sum::<f64>() / confusion.len().max(1) as f64,
        labels: examples.labels.iter().map(ToString::to_string).collect(),
        confusion,
    })
}

fn folds_of(examples: &Examples, folds: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples.classes.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let (mut fold_of, mut dealt) = (vec![0; order.len()], vec![0; examples.labels.len()]);
    for row in order {
        let class = examples.classes[row];
        fold_of[row] = dealt[class] % folds;
        dealt[class] += 1;
    }
    fold_of
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = crate::telemetry::escape;
        writeln!(
            f,
            "{:.1}% of the pictures right in {}-fold cross-validation ({:.1}% averaged over classes)\n",
            100.0 * self.accuracy,
            self.folds,
            100.0 * self.balanced_accuracy
        )?;
        let width = self.labels.iter().map(|l| escape(l).chars().count()).max().unwrap_or(5).clamp(5, 40);
        writeln!(f, "{:<width$} {:>8} {:>7}  taken for", "class", "pictures", "right")?;
        for (class, row) in self.confusion.iter().enumerate() {
            let all: usize = row.iter().sum();
            let mut wrong: Vec<(usize, usize)> = row.iter().copied().enumerate().filter(|(other, n)| *other != class && *n > 0).collect();
            wrong.sort_by_key(|(other, n)| (std::cmp::Reverse(*n), *other));
            let names: Vec<String> = wrong.iter().take(3).map(|(other, n)| format!("{} {n}", escape(&self.labels[*other]))).collect();
            let share = 100.0 * row[class] as f64 / all.max(1) as f64;
            writeln!(f, "{:<width$} {all:>8} {share:>6.1}%  {}", escape(&self.labels[class]), names.join(", "))?;
        }
        if self.labels.len() <= MATRIX {
            writeln!(f, "\nconfusion matrix (a row for what a picture is, a column in the same order for what it was taken for)")?;
            for (row, label) in self.confusion.iter().zip(&self.labels) {
                let cells: String = row.iter().map(|n| format!("{n:>5}")).collect();
                writeln!(f, "{:<width$} {cells}", escape(label))?;
            }
        }
        Ok(())
    }
}
