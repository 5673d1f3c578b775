//! Cheap noise: hashes of lattice points, gradient noise (Perlin, 1985) and cellular noise (Worley, 1996).

/// The largest integer not above `x`. `f32::floor` is a call into libm on plain x86-64.
#[must_use]
pub fn floor(x: f32) -> i32 {
    let whole = x as i32;
    whole - i32::from(x < whole as f32)
}

/// What is left of `x` above [`floor`], in `[0, 1]`.
#[must_use]
pub fn fract(x: f32) -> f32 {
    x - floor(x) as f32
}

/// `sin(2 pi turns)`, within 0.001, by a parabola and one step of correction.
#[must_use]
pub fn sine(turns: f32) -> f32 {
    let t = fract(turns) * 2.0 - 1.0;
    let parabola = -4.0 * t * (1.0 - t.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// The angle of `(x, y)` in turns, in `[-0.5, 0.5]`, within 0.001.
#[must_use]
pub fn angle(x: f32, y: f32) -> f32 {
    let (small, large) = if x.abs() < y.abs() { (x.abs(), y.abs()) } else { (y.abs(), x.abs()) };
    let ratio = small / large.max(1e-12);
    let eighth = ratio * (0.125 + 0.0434 * (1.0 - ratio));
    let quarter = if x.abs() < y.abs() { 0.25 - eighth } else { eighth };
    let half = if x < 0.0 { 0.5 - quarter } else { quarter };
    if y < 0.0 { -half } else { half }
}

/// A hash of a lattice point.
#[must_use]
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77).rotate_left(13) ^ seed;
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// A hash as a number in `[0, 1)`.
#[must_use]
pub fn unit(h: u32) -> f32 {
    (h >> 8) as f32 / (1 << 24) as f32
}

/// A second number in `[0, 1)` of the same hash.
#[must_use]
pub fn unit2(h: u32) -> f32 {
    unit(h.wrapping_mul(0x9E37_79B1))
}

/// Gradient noise with one bump per unit, about in `[-1, 1]`.
#[must_use]
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (i, j) = (floor(x), floor(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let corner = |di: i32, dj: i32| {
        let h = hash(i + di, j + dj, seed);
        let (gx, gy) = ((h & 0xFFFF) as f32 / 32767.5 - 1.0, (h >> 16) as f32 / 32767.5 - 1.0);
        gx * (u - di as f32) + gy * (v - dj as f32)
    };
    let (su, sv) = (ease(u), ease(v));
    let top = mix(corner(0, 0), corner(1, 0), su);
    let bottom = mix(corner(0, 1), corner(1, 1), su);
    1.8 * mix(top, bottom, sv)
}

/// A sum of `octaves` of [`noise`], each twice as fine and `gain` times as strong, turned so that their lattices do not meet.
#[must_use]
pub fn fractal(mut x: f32, mut y: f32, seed: u32, octaves: u32, gain: f32) -> f32 {
    let (mut sum, mut weight) = (0.0, 1.0);
    for octave in 0..octaves {
        sum += weight * noise(x, y, seed.wrapping_add(octave.wrapping_mul(0x68E3_1DA4)));
        weight *= gain;
        (x, y) = (1.6 * x - 1.2 * y + 5.3, 1.2 * x + 1.6 * y - 2.7);
    }
    sum
}

/// The cell of a jittered lattice that a point is in.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// A hash that all points of the cell share.
    pub id: u32,
    /// From the cell's centre to the point.
    pub dx: f32,
    pub dy: f32,
    /// The distance to the centre.
    pub centre: f32,
    /// About the distance to the cell's border: exactly that to the bisector with the second nearest centre.
    pub border: f32,
}

/// The nearest of the centres that stand one in each unit square, as far from its middle as `jitter` in `[0, 1]` allows.
#[must_use]
pub fn cell(x: f32, y: f32, jitter: f32, seed: u32) -> Cell {
    let (i, j) = (floor(x), floor(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let (mut first, mut second) = ((f32::MAX, 0.0, 0.0, 0), (f32::MAX, 0.0, 0.0, 0));
    for dj in -1..=1 {
        for di in -1..=1 {
            let h = hash(i + di, j + dj, seed);
            let cx = di as f32 + 0.5 + jitter * ((h & 0xFFFF) as f32 / 65536.0 - 0.5) - u;
            let cy = dj as f32 + 0.5 + jitter * ((h >> 16) as f32 / 65536.0 - 0.5) - v;
            let square = cx * cx + cy * cy;
            if square < first.0 {
                second = first;
                first = (square, cx, cy, h);
            } else if square < second.0 {
                second = (square, cx, cy, h);
            }
        }
    }
    let (ax, ay) = (second.1 - first.1, second.2 - first.2);
    let apart = (ax * ax + ay * ay).sqrt().max(1e-6);
    Cell {
        id: first.3.wrapping_mul(0x85EB_CA6B) ^ (first.3 >> 13),
        dx: -first.1,
        dy: -first.2,
        centre: first.0.sqrt(),
        border: (second.0 - first.0) / (2.0 * apart),
    }
}

/// Perlin's second smooth step.
fn ease(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// From `a` at 0 to `b` at 1.
#[must_use]
pub fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// From 0 at `low` to 1 at `high`, smoothly.
#[must_use]
pub fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cheap_functions_are_near_the_real_ones(x in -300.0f32..300.0, y in -300.0f32..300.0) {
            prop_assert_eq!(floor(x) as f32, x.floor());
            prop_assert!((sine(x) - (x.fract() * std::f32::consts::TAU).sin()).abs() < 0.0015);
            prop_assume!(x.abs() + y.abs() > 0.01);
            let apart = (angle(x, y) - y.atan2(x) / std::f32::consts::TAU).abs();
            prop_assert!(apart < 0.001 || apart > 0.999, "{} for {}", angle(x, y), y.atan2(x) / std::f32::consts::TAU);
        }

        #[test]
        fn noise_is_bounded_and_continuous(x in -300.0f32..300.0, y in -300.0f32..300.0, seed: u32) {
            let here = noise(x, y, seed);
            prop_assert!(here.abs() <= 1.8);
            prop_assert!((noise(x + 0.001, y, seed) - here).abs() < 0.02);
        }

        #[test]
        fn a_cell_is_the_nearest_one(x in -300.0f32..300.0, y in -300.0f32..300.0, jitter in 0.0f32..1.0, seed: u32) {
            let here = cell(x, y, jitter, seed);
            prop_assert!(here.border >= 0.0 && here.centre < 1.5);
            let home = cell(x - here.dx, y - here.dy, jitter, seed);
            prop_assert!(home.id == here.id || home.centre < 1e-3, "the centre lies in its own cell");
        }
    }
}
