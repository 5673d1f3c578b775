//! From logits to labels, and the length of an embedding.

use std::sync::Arc;

use crate::config::Activation;
use crate::flow::Label;

/// Turns logits into scores, in place. The sums are in double precision.
pub(crate) fn activate(logits: &mut [f32], activation: Activation) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => logits.iter_mut().for_each(|v| *v = (1.0 / (1.0 + (-f64::from(*v)).exp())) as f32),
        Activation::Softmax => {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let power = |v: f32| (f64::from(v) - f64::from(top)).exp();
            let sum: f64 = logits.iter().map(|&v| power(v)).sum();
            logits.iter_mut().for_each(|v| *v = (power(*v) / sum) as f32);
        }
    }
}

/// The best `k` classes by score, best first, the lower index first among equals, none below `min_score`.
pub(crate) fn top_k(scores: &[f32], k: usize, min_score: f32, names: &[Arc<str>]) -> Vec<Label> {
    let k = k.min(scores.len());
    if k == 0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] >= min_score).collect();
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, better);
        order.truncate(k);
    }
    order.sort_unstable_by(better);
    let label = |i: usize| names.get(i).cloned().unwrap_or_else(|| Arc::from(i.to_string()));
    order.into_iter().map(|i| Label { index: i as u32, label: label(i), score: scores[i] }).collect()
}

/// Scales to Euclidean length 1; a vector of zeros stays as it is.
pub(super) fn normalize_l2(values: &mut [f32]) {
    let length = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn indices(labels: &[Label]) -> Vec<u32> {
        labels.iter().map(|l| l.index).collect()
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(indices(&top_k(&[0.5, 0.9, 0.9, 0.5, 0.9], 4, 0.0, &[])), [1, 2, 4, 0]);
        assert_eq!(indices(&top_k(&[0.5, 0.9, 0.1], 10, 0.2, &[])), [1, 0]);
        assert!(top_k(&[0.5], 0, 0.0, &[]).is_empty());
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let mut v = [1e38, -1e38, 1e38];
        activate(&mut v, Activation::Softmax);
        assert_eq!(v, [0.5, 0.0, 0.5]);
        let mut v = [1e38, -1e38, 0.0];
        activate(&mut v, Activation::Sigmoid);
        assert_eq!(v, [1.0, 0.0, 0.5]);
    }

    #[test]
    fn zeros_cannot_be_normalised_and_stay() {
        let mut v = [0.0; 3];
        normalize_l2(&mut v);
        assert_eq!(v, [0.0; 3]);
    }

    proptest! {
        /// Against the plain definition: sort everything, keep the first k.
        #[test]
        fn top_k_is_the_head_of_a_full_stable_sort(scores in prop::collection::vec((0u8..20).prop_map(|v| f32::from(v) / 20.0), 1..60), k in 0usize..70, min in 0f32..1.0) {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap());
            let want: Vec<u32> = order.into_iter().filter(|&i| scores[i] >= min).take(k).map(|i| i as u32).collect();
            prop_assert_eq!(indices(&top_k(&scores, k, min, &[])), want);
        }

        #[test]
        fn softmax_sums_to_one_and_keeps_the_order(mut logits in prop::collection::vec(-50f32..50.0, 1..50)) {
            let before = logits.clone();
            activate(&mut logits, Activation::Softmax);
            prop_assert!((logits.iter().map(|&v| f64::from(v)).sum::<f64>() - 1.0).abs() < 1e-5);
            for i in 1..before.len() {
                if before[i] > before[0] { prop_assert!(logits[i] >= logits[0]); }
            }
        }

        #[test]
        fn l2_gives_length_one_and_keeps_the_direction(values in prop::collection::vec(-1e6f32..1e6, 1..50)) {
            prop_assume!(values.iter().any(|v| v.abs() > 1e-3));
            let mut unit = values.clone();
            normalize_l2(&mut unit);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
            prop_assert!((dot(&unit, &unit) - 1.0).abs() < 1e-5);
            prop_assert!((dot(&unit, &values) / dot(&values, &values).sqrt() - 1.0).abs() < 1e-5);
        }
    }
}
