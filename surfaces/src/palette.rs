//! Colours: chosen in OKLCH (Ottosson, 2020), in which equal steps look equal, so that a contrast asked for is a contrast seen.

use crate::pattern::Rgb;
use crate::rng::Rng;

/// A colour by lightness (0 to 1), chroma (0 is grey, about 0.3 the most vivid) and hue in degrees (30 red, 90 yellow, 145 green, 230 blue, 300 violet).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lch(pub f32, pub f32, pub f32);

/// A range of lightness, chroma and hue to draw from.
pub type Gamut = ((f32, f32), (f32, f32), (f32, f32));

impl Lch {
    /// The colour in sRGB. What sRGB cannot show is made less vivid, so that lightness and hue stay.
    #[must_use]
    pub fn rgb(self) -> Rgb {
        let (mut chroma, hue) = (self.1, self.2.to_radians());
        for _ in 0..16 {
            let linear = linear(self.0, chroma * hue.cos(), chroma * hue.sin());
            if linear.iter().all(|channel| (-0.001..=1.001).contains(channel)) {
                return Rgb(linear.map(encode));
            }
            chroma *= 0.85;
        }
        Rgb([encode(self.0.clamp(0.0, 1.0).powi(3)); 3])
    }

    /// A neighbour: lightness, chroma and hue each at most so far away.
    pub fn near(self, rng: &mut Rng, lightness: f32, chroma: f32, hue: f32) -> Self {
        Self(
            (self.0 + rng.range(-lightness, lightness)).clamp(0.02, 0.99),
            (self.1 + rng.range(-chroma, chroma)).max(0.0),
            self.2 + rng.range(-hue, hue),
        )
    }
}

/// Any colour of `gamut`.
pub fn any(rng: &mut Rng, gamut: Gamut) -> Lch {
    let mut between = |(low, high)| rng.range(low, high);
    Lch(between(gamut.0), between(gamut.1), between(gamut.2))
}

/// `count` colours that go together: their hues analogous, opposite, in thirds or unrelated, their lightness spread evenly over a range that is dark, light
/// or wide, in random order. The contrast between any two is at least about `0.45 / count`.
pub fn scheme(rng: &mut Rng, count: usize) -> Vec<Lch> {
    let (low, high) = [(0.2, 0.75), (0.35, 0.95), (0.18, 0.95), (0.25, 0.9)][rng.below(4)];
    let hue = rng.range(0.0, 360.0);
    let (kind, vivid) = (rng.below(5), rng.range(0.06, 0.24));
    let mut colours: Vec<Lch> = (0..count)
        .map(|i| {
            let lightness = low + (high - low) * (i as f32 + rng.range(0.3, 0.7)) / count as f32;
            let step = match kind {
                0 => rng.range(-35.0, 35.0),
                1 => 180.0 * (i % 2) as f32 + rng.range(-15.0, 15.0),
                2 => 120.0 * (i % 3) as f32 + rng.range(-15.0, 15.0),
                3 => rng.range(0.0, 360.0),
                _ => 0.0,
            };
            let grey = rng.chance(0.2);
            Lch(lightness, if grey { 0.015 } else { vivid * rng.range(0.7, 1.2) }, hue + step)
        })
        .collect();
    rng.shuffle(&mut colours);
    colours
}

/// Two colours, the darker one first, whose lightness differs by at least a quarter of the whole range.
pub fn pair(rng: &mut Rng) -> (Lch, Lch) {
    let dark = any(rng, ((0.16, 0.55), (0.0, 0.2), (0.0, 360.0)));
    let hue = if rng.chance(0.5) { dark.2 + rng.range(-40.0, 40.0) } else { rng.range(0.0, 360.0) };
    let light = Lch(rng.range((dark.0 + 0.26).max(0.6), 0.98), if rng.chance(0.4) { 0.015 } else { rng.range(0.0, 0.15) }, hue);
    (dark, light)
}

/// OKLab to linear sRGB.
fn linear(lightness: f32, a: f32, b: f32) -> [f32; 3] {
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_93 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
}

/// Linear light to sRGB's value.
fn encode(linear: f32) -> f32 {
    let linear = linear.clamp(0.0, 1.0);
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_colour_can_be_shown(lightness in 0.0f32..1.0, chroma in 0.0f32..0.4, hue in -400.0f32..800.0) {
            prop_assert!(Lch(lightness, chroma, hue).rgb().0.iter().all(|channel| (0.0..=1.0).contains(channel)));
        }

        #[test]
        fn a_pair_has_contrast(seed: u64) {
            let (dark, light) = pair(&mut Rng::new(&[seed]));
            prop_assert!(light.0 - dark.0 > 0.25);
        }
    }

    #[test]
    fn white_black_and_red_are_where_they_should_be() {
        assert!(Lch(1.0, 0.0, 0.0).rgb().0.iter().all(|&channel| channel > 0.999));
        assert!(Lch(0.0, 0.0, 0.0).rgb().0.iter().all(|&channel| channel < 0.001));
        let red = Lch(0.627, 0.257, 29.2).rgb().0;
        assert!(red[0] > 0.98 && red[1] < 0.05 && red[2] < 0.05, "{red:?}");
    }
}
