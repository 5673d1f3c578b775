//! What a painter gives: a function from a point of the surface to a colour, and what most of them need for it.

use std::ops::{Add, Mul};

use crate::noise::{floor, fract};

/// Red, green and blue as sRGB has them, 0 to 1, not yet clamped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rgb(pub [f32; 3]);

impl Rgb {
    /// From this colour at 0 to `other` at 1.
    #[must_use]
    pub fn mix(self, other: Self, t: f32) -> Self {
        self * (1.0 - t) + other * t
    }
}

impl Add for Rgb {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self([self.0[0] + other.0[0], self.0[1] + other.0[1], self.0[2] + other.0[2]])
    }
}

impl Mul<f32> for Rgb {
    type Output = Self;
    fn mul(self, by: f32) -> Self {
        Self(self.0.map(|channel| channel * by))
    }
}

/// A point of the surface, in the pattern's own unit, and the width of a pixel there.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub x: f32,
    pub y: f32,
    pub px: f32,
}

/// A surface without end, flat and evenly lit. Edges are as soft as a pixel is wide: no picture is drawn large and shrunk.
pub type Pattern = Box<dyn Fn(At) -> Rgb + Send + Sync>;

/// How much of a pixel lies inside, `distance` being that of its middle to the edge (positive inside).
#[must_use]
#[inline]
pub fn cover(distance: f32, px: f32) -> f32 {
    (distance / px + 0.5).clamp(0.0, 1.0)
}

/// The signed distance to the nearest whole number.
#[must_use]
#[inline]
pub fn off(x: f32) -> f32 {
    fract(x + 0.5) - 0.5
}

/// How much of a pixel lies in stripes of width `share` around whole numbers.
#[must_use]
#[inline]
pub fn stripe(x: f32, share: f32, px: f32) -> f32 {
    let sharp = cover(share / 2.0 - off(x).abs(), px);
    sharp + (share - sharp) * (px - 0.5).clamp(0.0, 1.0) // stripes finer than a pixel are grey
}

/// A turn around the origin.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    cos: f32,
    sin: f32,
}

impl Turn {
    #[must_use]
    pub fn new(radians: f32) -> Self {
        Self { cos: radians.cos(), sin: radians.sin() }
    }

    #[must_use]
    pub fn apply(self, x: f32, y: f32) -> (f32, f32) {
        (self.cos * x - self.sin * y, self.sin * x + self.cos * y)
    }
}

/// Bands of colours that repeat with period 1, averaged exactly over a pixel.
#[derive(Clone, Debug)]
pub struct Bands {
    colours: Vec<Rgb>,
    /// What lies before each of the steps, summed.
    before: Vec<Rgb>,
}

/// In how many equal steps the period of [`Bands`] is cut.
const STEPS: usize = 240;

impl Bands {
    /// Bands with these widths (of any scale) and colours, in this order.
    #[must_use]
    pub fn new(bands: &[(f32, Rgb)]) -> Self {
        let all: f32 = bands.iter().map(|band| band.0).sum();
        let (mut colours, mut end) = (Vec::with_capacity(STEPS), 0.0);
        for &(width, colour) in bands {
            end += width / all;
            colours.resize(((end * STEPS as f32).round() as usize).clamp(colours.len(), STEPS), colour);
        }
        colours.resize(STEPS, bands.last().map_or_else(Rgb::default, |band| band.1));
        let before = colours
            .iter()
            .scan(Rgb::default(), |sum, &colour| {
                let before = *sum;
                *sum = before + colour;
                Some(before)
            })
            .collect();
        Self { colours, before }
    }

    /// The mean colour of `[x - px / 2, x + px / 2]`.
    #[must_use]
    pub fn at(&self, x: f32, px: f32) -> Rgb {
        let width = px.clamp(1.0 / STEPS as f32, 1.0);
        let start = fract(x - width / 2.0);
        let (low, high) = (self.up_to(start), self.up_to(start + width));
        (high + low * -1.0) * (1.0 / (width * STEPS as f32))
    }

    /// The sum of all steps before `x` in `[0, 2]`.
    fn up_to(&self, x: f32) -> Rgb {
        let steps = x * STEPS as f32;
        let whole = floor(steps).max(0) as usize;
        let (turns, step) = (whole / STEPS, whole % STEPS);
        let full = self.before[STEPS - 1] + self.colours[STEPS - 1];
        full * turns as f32 + self.before[step] + self.colours[step] * (steps - whole as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bands_are_averaged_over_a_pixel(x in -20.0f32..20.0, px in 0.001f32..3.0, share in 0.05f32..0.95) {
            let bands = Bands::new(&[(share, Rgb([1.0; 3])), (1.0 - share, Rgb([0.0; 3]))]);
            let width = px.clamp(1.0 / STEPS as f32, 1.0);
            let steps = 4000;
            let edge = (share * STEPS as f32).round() / STEPS as f32;
            let inside = (0..steps).filter(|&i| fract(x + width * ((i as f32 + 0.5) / steps as f32 - 0.5)) < edge).count();
            prop_assert!((bands.at(x, px).0[0] - inside as f32 / steps as f32).abs() < 0.01);
        }
    }

    #[test]
    fn a_stripe_finer_than_a_pixel_is_grey() {
        assert_eq!(stripe(0.0, 0.3, 0.01), 1.0);
        assert_eq!(stripe(0.5, 0.3, 0.01), 0.0);
        assert!((stripe(0.1, 0.3, 5.0) - 0.3).abs() < 1e-6);
    }
}
