//! Seeded numbers that are the same on every machine: integer arithmetic and exactly rounded operations only.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(super) struct SplitMix(u64);

impl SplitMix {
    /// A stream of its own for each name under one seed, so that the order in which tensors are made changes nothing.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, as the offset into the seed's sequence.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mut seeded = Self(seed);
        Self(seeded.next().wrapping_add(hash))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal, mean 0, variance 1: the sum of four uniform 16-bit numbers (Irwin and Hall), since logarithms and cosines differ by
    /// platform in the last digit.
    pub fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        // Variance of the sum: 4 (2^32 - 1) / 12.
        (sum as f64 - 131_070.0) / ((4_294_967_295.0f64 / 3.0).sqrt())
    }

    /// Uniform between `low` and `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 0 of the reference implementation (Vigna's splitmix64.c).
    #[test]
    fn splitmix_gives_the_reference_sequence() {
        let mut r = SplitMix(0);
        assert_eq!([r.next(), r.next(), r.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut r = SplitMix::named(7, "x");
        let values: Vec<f64> = (0..100_000).map(|_| r.normal()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 1e5 - mean * mean;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
