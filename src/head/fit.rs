//! Fitting a multinomial logistic regression with a penalty on the weights' squares.

use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

use super::{Examples, Head};
use crate::{Error, Result};

/// Fits a head to the examples with these numbers, among which each class must be. `penalty` is the weight of half the weights' squared length, beside the summed
/// cross-entropy, where features have mean 0 and together variance 1.
///
/// # Errors
/// [`Error::Failed`] if the optimiser fails.
pub fn train(examples: &Examples, rows: &[usize], penalty: f64) -> Result<Head> {
    let (dim, count) = (examples.origin.embedding_dim, examples.labels.len());
    let scale = Scale::of(examples, rows);
    let mut values = Vec::with_capacity(rows.len() * dim);
    for row in rows {
        values.extend(examples.row(*row).iter().zip(&scale.features).map(|(v, (mean, factor))| (f64::from(*v) - mean) * factor));
    }
    let failed = |e: smartcore::error::Failed| Error::failed(format_args!("the classifier cannot be fitted: {e}"));
    let x = DenseMatrix::new(rows.len(), dim, values, false).map_err(failed)?;
    let y: Vec<u32> = rows.iter().map(|row| examples.classes[*row] as u32).collect();
    let fitted = LogisticRegression::fit(&x, &y, LogisticRegressionParameters::default().with_alpha(penalty)).map_err(failed)?;
    let (weights, bias) = (fitted.coefficients(), fitted.intercept());
    // Of two classes the library fits the second's logit alone; the first's is 0.
    let first = if count == 2 { 1 } else { 0 };
    let mut head = Head {
        origin: examples.origin.clone(),
        labels: examples.labels.clone(),
        weights: vec![0.0; count * dim],
        bias: vec![0.0; count],
        validation: None,
    };
    for class in first..count {
        let mut offset = *bias.get((class - first, 0));
        let row = &mut head.weights[class * dim..(class + 1) * dim];
        for (at, (weight, (mean, factor))) in row.iter_mut().zip(&scale.features).enumerate() {
            let scaled = weights.get((class - first, at)) * factor;
            offset -= scaled * mean;
            *weight = scaled as f32;
        }
        head.bias[class] = offset as f32;
    }
    Ok(head)
}

/// Mean of each feature, and what it is then multiplied with.
struct Scale {
    features: Vec<(f64, f64)>,
}

impl Scale {
    fn of(examples: &Examples, rows: &[usize]) -> Self {
        let dim = examples.origin.embedding_dim;
        let mut sums = vec![(0.0, 0.0); dim];
        for row in rows {
            for ((sum, squares), v) in sums.iter_mut().zip(examples.row(*row)) {
                *sum += f64::from(*v);
                *squares += f64::from(*v) * f64::from(*v);
            }
        }
        let n = rows.len().max(1) as f64;
        let feature = |(sum, squares): (f64, f64)| {
            let mean = sum / n;
            let deviation = (squares / n - mean * mean).max(0.0).sqrt();
            // A feature that never changes tells nothing.
            let factor = if deviation > 1e-6 * mean.abs().max(1e-6) { 1.0 / (deviation * (dim as f64).sqrt()) } else { 0.0 };
            (mean, factor)
        };
        Self { features: sums.into_iter().map(feature).collect() }
    }
}
