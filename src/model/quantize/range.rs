//! From the values of a tensor to the scale that it is rounded with.

/// Bins of a histogram.
const BINS: usize = 2048;
/// Steps in which each end of a range is tried.
const STEPS: usize = 100;

/// Unsigned 8-bit integers in place of real numbers: `real = (integer - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    /// Distance of neighbours.
    pub scale: f32,
    /// The integer that stands for 0, which is therefore exact.
    pub zero: u8,
}

impl Grid {
    /// The grid that reaches from `low` to `high`, both of which are moved so far that 0 is on it.
    pub fn over(low: f32, high: f32) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = ((high - low) / 255.0) as f32;
        // Of a tensor that is 0 throughout, or too near it for a float.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        Self { scale, zero: (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// What becomes of a number.
    #[cfg(test)]
    pub fn round(self, value: f32) -> f32 {
        let zero = f32::from(self.zero);
        (((value / self.scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * self.scale
    }

    /// The least and the largest number that it has.
    pub fn ends(self) -> (f32, f32) {
        (-f32::from(self.zero) * self.scale, (255.0 - f32::from(self.zero)) * self.scale)
    }
}

/// How often values occur between a tensor's least and largest. Zeros are left out: they are exact on every grid.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    low: f32,
    high: f32,
    bins: Vec<u64>,
}

impl Histogram {
    /// An empty one, for values from `low` to `high`.
    pub fn new(low: f32, high: f32) -> Self {
        Self { low, high, bins: vec![0; BINS] }
    }

    /// Counts values.
    pub fn add(&mut self, values: impl Iterator<Item = f32>) {
        let factor = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for value in values.filter(|v| *v != 0.0) {
            // NaN becomes 0, infinity the last.
            let bin = (((value - self.low) * factor) as usize).min(BINS - 1);
            self.bins[bin] += 1;
        }
    }

    /// Adds the counts of another over the same range.
    pub fn merge(&mut self, other: &Self) {
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
    }

    /// The grid of least square error over all values, those that lie beyond its ends included.
    pub fn grid(&self) -> Grid {
        let whole = Grid::over(self.low, self.high);
        let (mut low, mut high, mut best) = (self.low, self.high, (self.error(whole), whole));
        // One end at a time: the error is nearly separable in the two.
        for _ in 0..2 {
            for end in 0..2 {
                let from = if end == 0 { self.high } else { self.low };
                if (end == 0 && from <= 0.0) || (end == 1 && from >= 0.0) {
                    continue;
                }
                for step in 1..=STEPS {
                    let tried = from * step as f32 / STEPS as f32;
                    let grid = if end == 0 { Grid::over(low, tried) } else { Grid::over(tried, high) };
                    let error = self.error(grid);
                    if error < best.0 {
                        best = (error, grid);
                        *(if end == 0 { &mut high } else { &mut low }) = tried;
                    }
                }
            }
        }
        best.1
    }

    /// Sum of the squares of what rounding changes: `scale² / 12` for each value within the grid, since they lie anywhere between two neighbours.
    fn error(&self, grid: Grid) -> f64 {
        let (low, high) = grid.ends();
        let (low, high, width) = (f64::from(low), f64::from(high), f64::from(self.high - self.low) / BINS as f64);
        let within = f64::from(grid.scale).powi(2) / 12.0;
        let error = |(bin, &count): (usize, &u64)| {
            let centre = f64::from(self.low) + (bin as f64 + 0.5) * width;
            let beyond = (low - centre).max(centre - high).max(0.0);
            count as f64 * if beyond > 0.0 { beyond * beyond } else { within }
        };
        self.bins.iter().enumerate().filter(|(_, n)| **n > 0).map(error).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tail_is_cut_off_and_a_flat_range_is_kept() {
        let mut flat = Histogram::new(0.0, 6.0);
        flat.add((1..=6000).map(|i| i as f32 / 1000.0));
        let (_, high) = flat.grid().ends();
        assert!((5.8..=6.0).contains(&high), "{high}");
        let mut tail = Histogram::new(0.0, 100.0);
        tail.add((1..=2_000_000).map(|i| i as f32 / 2_000_000.0).chain([100.0]));
        let (_, high) = tail.grid().ends();
        // n (high / 255)² / 12 + (100 - high)² is least at 100 / (1 + n / (12 * 255²)).
        assert!((27.0..=29.1).contains(&high), "{high}");
        assert!((Grid::over(tail.low, tail.high).ends().1 - 100.0).abs() < 1e-3);
    }

    #[test]
    fn nothing_but_zeros_has_a_grid() {
        let mut zeros = Histogram::new(0.0, 0.0);
        zeros.add([0.0; 5].into_iter());
        assert_eq!(zeros.grid(), Grid { scale: 1.0, zero: 0 });
    }

    proptest! {
        #[test]
        fn zero_is_exact_and_the_rest_is_half_a_step_off(low in -100f32..100.0, size in 1e-3f32..100.0, at in 0f32..1.0) {
            let grid = Grid::over(low, low + size);
            prop_assert_eq!(grid.round(0.0), 0.0);
            let (least, most) = grid.ends();
            let value = least + at * (most - least);
            prop_assert!((grid.round(value) - value).abs() <= grid.scale * 0.5001, "{} {}", grid.round(value), value);
            // 0 may be half a step from where it would be without rounding.
            prop_assert!(least <= low.min(0.0) + grid.scale * 0.51 && most >= (low + size).max(0.0) - grid.scale * 0.51);
        }

        /// The error that the search makes small is really that of rounding, and it is never larger than without cutting off.
        #[test]
        fn cutting_off_pays(values in prop::collection::vec(-3f32..3.0, 50..400), far in prop::collection::vec(-20f32..20.0, 0..4)) {
            let all: Vec<f32> = values.iter().chain(&far).copied().collect();
            let (low, high) = all.iter().fold((0f32, 0f32), |(l, h), &v| (l.min(v), h.max(v)));
            let mut histogram = Histogram::new(low, high);
            histogram.add(all.iter().copied());
            let real = |grid: Grid| all.iter().map(|&v| f64::from(grid.round(v) - v).powi(2)).sum::<f64>();
            let (cut, whole) = (real(histogram.grid()), real(Grid::over(low, high)));
            prop_assert!(cut <= whole * 1.35 + 1e-3, "{cut} {whole}");
        }
    }
}
