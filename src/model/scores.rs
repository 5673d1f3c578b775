//! From logits to labels: activation and top-k.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::config::Activation;
use crate::flow::Label;

/// Turns logits into scores in place. The softmax subtracts the largest logit first, so that no exponential overflows.
pub fn activate(logits: &mut [f32], activation: Activation) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        Activation::Softmax => {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for x in logits.iter_mut() {
                *x = (*x - max).exp();
                sum += *x;
            }
            logits.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

/// The `k` best scores that are at least `min_score`, best first; of equal ones the lower index first.
pub fn top_k(scores: &[f32], k: usize, min_score: f32, names: &[Arc<str>]) -> Vec<Label> {
    let better = |a: &u32, b: &u32| -> Ordering { scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)) };
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|i| scores[*i as usize] >= min_score).collect();
    if k < order.len() {
        if k == 0 {
            return Vec::new();
        }
        order.select_nth_unstable_by(k - 1, better);
        order.truncate(k);
    }
    order.sort_unstable_by(better);
    order
        .into_iter()
        .map(|index| Label {
            index,
            label: names.get(index as usize).cloned().unwrap_or_else(|| index.to_string().into()),
            score: scores[index as usize],
        })
        .collect()
}

/// Scales to Euclidean length 1; a vector of zeros stays.
pub fn l2_normalize(values: &mut [f32]) {
    let length = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_k_is_the_head_of_the_sorted_list(scores in proptest::collection::vec(0u8..20, 1..60), k in 0usize..70) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut expected: Vec<usize> = (0..scores.len()).collect();
            expected.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            expected.truncate(k);
            let got: Vec<usize> = top_k(&scores, k, 0.0, &[]).iter().map(|l| l.index as usize).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn a_softmax_sums_to_one(mut logits in proptest::collection::vec(-1e4f32..1e4, 1..50)) {
            activate(&mut logits, Activation::Softmax);
            prop_assert!((logits.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn labels_below_the_least_score_are_left_out() {
        assert_eq!(top_k(&[0.1, 0.7, 0.2], 3, 0.15, &[]).iter().map(|l| l.index).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_normalised_vector_has_length_one() {
        let mut v = vec![3.0, 4.0];
        l2_normalize(&mut v);
        assert_eq!(v, [0.6, 0.8]);
    }
}
