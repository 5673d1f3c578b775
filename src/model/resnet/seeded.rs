//! Parameters that a seed gives: for benches and tests.
//!
//! They are scaled so that activations stay of order one from the first layer to the last (He et al., "Delving deep into rectifiers",
//! 2015), filters sum to zero (Qiao et al., "Weight standardization", 2019), since otherwise the constant part of the rectified activations
//! outgrows what differs between two pictures, and the last normalisation of a block is scaled down, so that the sum over the blocks does not grow
//! with their number.

use super::super::random::SplitMix;
use super::{Parameters, Part, Place};

/// Scale of the last normalisation in a block, and of the normalisation on a shortcut: their squares sum to one, so that a shortcut with a
/// convolution brings the activations back to order one.
const BRANCH: f64 = 0.45;
const SHORTCUT: f64 = 0.893;
/// Standard deviation of the logits.
const LOGITS: f64 = 8.0;

/// Parameters drawn from a seed. The same seed gives the same values on every machine, whatever the order in which they are asked for.
pub(in super::super) struct Seeded(pub u64);

impl Parameters for Seeded {
    fn get(&mut self, name: &str, dims: &[usize], part: Part) -> Result<Vec<f32>, String> {
        let (count, length) = (dims[0], dims[1..].iter().product());
        let each = |draw: &dyn Fn(&mut SplitMix) -> f64| {
            let mut random = SplitMix::named(self.0, name);
            (0..count).map(|_| draw(&mut random) as f32).collect()
        };
        Ok(match part {
            // The first layer sees pictures, whose constant part is information; all others see rectified activations.
            Part::Filters { of_pictures } => filters(self.0, name, count, length, if of_pictures { 1.0 } else { 2.0 }, !of_pictures),
            Part::Classifier => filters(self.0, name, count, length, LOGITS * LOGITS, true),
            Part::Factor(place) => {
                let scale = match place {
                    Place::Within => 1.0,
                    Place::BranchEnd => BRANCH,
                    Place::Shortcut => SHORTCUT,
                };
                each(&|r| scale * r.uniform(0.8, 1.2))
            }
            Part::Summand | Part::Mean => each(&|r| 0.1 * r.normal()),
            Part::Variance => each(&|r| r.uniform(0.7, 1.4)),
        })
    }
}

/// `count` filters of `length` weights with variance `gain / length` each; if `centred`, each sums to zero.
pub(in super::super) fn filters(seed: u64, name: &str, count: usize, length: usize, gain: f64, centred: bool) -> Vec<f32> {
    let mut random = SplitMix::named(seed, name);
    let scale = (gain / length as f64).sqrt();
    let mut values = Vec::with_capacity(count * length);
    let mut filter = vec![0.0; length];
    for _ in 0..count {
        filter.iter_mut().for_each(|v| *v = random.normal());
        let mean = if centred { filter.iter().sum::<f64>() / length as f64 } else { 0.0 };
        values.extend(filter.iter().map(|v| ((v - mean) * scale) as f32));
    }
    values
}
