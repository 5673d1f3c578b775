//! Cheap noise: hashes of lattice points, gradient noise (Perlin, 1985) and cellular noise (Worley, 1996).

/// The largest integer not above `x`. `f32::floor` is a call into libm on plain x86-64.
#[must_use]
#[inline]
pub fn floor(x: f32) -> i32 {
    let whole = x as i32;
    whole - i32::from(x < whole as f32)
}

/// What is left of `x` above [`floor`], in `[0, 1]`.
#[must_use]
#[inline]
pub fn fract(x: f32) -> f32 {
    x - floor(x) as f32
}

/// `sin(2 pi turns)`, within 0.001, by a parabola and one step of correction.
#[must_use]
#[inline]
pub fn sine(turns: f32) -> f32 {
    let t = fract(turns) * 2.0 - 1.0;
    let parabola = -4.0 * t * (1.0 - t.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// The angle of `(x, y)` in turns, in `[-0.5, 0.5]`, within 0.001.
#[must_use]
#[inline]
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
#[inline]
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    stir(column(x) ^ row(y) ^ seed)
}

#[inline]
fn column(x: i32) -> u32 {
    (x as u32).wrapping_mul(0x9E37_79B1)
}

#[inline]
fn row(y: i32) -> u32 {
    (y as u32).wrapping_mul(0x85EB_CA77).rotate_left(13)
}

/// Lets every bit depend on all; constants by Wellons's hash-prospector.
#[inline]
fn stir(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x21F0_AAAD);
    h = (h ^ (h >> 15)).wrapping_mul(0x735A_2D97);
    h ^ (h >> 15)
}

/// A hash as a number in `[0, 1)`.
#[must_use]
#[inline]
pub fn unit(h: u32) -> f32 {
    (h >> 8) as i32 as f32 / (1 << 24) as f32
}

/// A second number in `[0, 1)` of the same hash.
#[must_use]
#[inline]
pub fn unit2(h: u32) -> f32 {
    unit(h.wrapping_mul(0x9E37_79B1))
}

/// Gradient noise with one bump per unit, about in `[-1, 1]`.
#[must_use]
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    noise_and_slope(x, y, seed).0
}

/// [`noise`] and its slope along x and y.
#[must_use]
#[inline]
pub fn noise_and_slope(x: f32, y: f32, seed: u32) -> (f32, f32, f32) {
    let (i, j) = (floor(x), floor(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let gradient = |column: u32, row: u32| {
        let h = stir(column ^ row);
        ((h & 0xFFFF) as i32 as f32 - 32767.5, (h >> 16) as i32 as f32 - 32767.5)
    };
    let (left, right) = (column(i), column(i.wrapping_add(1)));
    let (upper, lower) = (row(j) ^ seed, row(j.wrapping_add(1)) ^ seed);
    let ((ax, ay), (bx, by)) = (gradient(left, upper), gradient(right, upper));
    let ((cx, cy), (dx, dy)) = (gradient(left, lower), gradient(right, lower));
    let (a, b) = (ax * u + ay * v, bx * (u - 1.0) + by * v);
    let (c, d) = (cx * u + cy * (v - 1.0), dx * (u - 1.0) + dy * (v - 1.0));
    let (su, sv) = (ease(u), ease(v));
    let (top, bottom) = (mix(a, b, su), mix(c, d, su));
    let along_x = mix(mix(ax, bx, su), mix(cx, dx, su), sv) + slope(u) * mix(b - a, d - c, sv);
    let along_y = mix(mix(ay, by, su), mix(cy, dy, su), sv) + slope(v) * (bottom - top);
    let scale = 1.8 / 32768.0;
    (scale * mix(top, bottom, sv), scale * along_x, scale * along_y)
}

/// [`noise`] that is a detail: as strong as [`fade`] lets it be, and not worked out where that is nothing.
#[must_use]
#[inline]
pub fn detail(x: f32, y: f32, seed: u32, period: f32, px: f32) -> f32 {
    let strength = fade(period, px);
    if strength > 0.0 { strength * noise(x, y, seed) } else { 0.0 }
}

/// How strong a detail may be: it goes to 0 before pixels are as wide as its period.
#[must_use]
#[inline]
pub fn fade(period: f32, px: f32) -> f32 {
    (1.5 - 3.0 * px / period).clamp(0.0, 1.0)
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
    let (columns, rows) = ([-1, 0, 1].map(|di| column(i.wrapping_add(di))), [-1, 0, 1].map(|dj| row(j.wrapping_add(dj)) ^ seed));
    let (mut ids, mut ways, mut first, mut second) = ([0; 9], [(0.0, 0.0); 9], u32::MAX, u32::MAX);
    for place in 0..9 {
        let h = stir(columns[place % 3] ^ rows[place / 3]);
        let cx = (place % 3) as f32 - 0.5 + jitter * ((h & 0xFFFF) as i32 as f32 / 65536.0 - 0.5) - u;
        let cy = (place / 3) as f32 - 0.5 + jitter * ((h >> 16) as i32 as f32 / 65536.0 - 0.5) - v;
        (ids[place], ways[place]) = (h, (cx, cy));
        // Floats above 0 are in order when they are read as integers. The lowest bits carry the place: the two least are found without a branch.
        let key = (cx * cx + cy * cy).to_bits() & !15 | place as u32;
        second = second.min(first.max(key));
        first = first.min(key);
    }
    let id = ids[(first & 15) as usize];
    let ((ax, ay), (bx, by)) = (ways[(first & 15) as usize], ways[(second & 15) as usize]);
    let (near, next, apart) = (ax * ax + ay * ay, bx * bx + by * by, ((bx - ax) * (bx - ax) + (by - ay) * (by - ay)).sqrt().max(1e-6));
    Cell {
        id: id.wrapping_mul(0x85EB_CA6B) ^ (id >> 13),
        dx: -ax,
        dy: -ay,
        centre: near.sqrt(),
        border: (next - near).max(0.0) / (2.0 * apart),
    }
}

/// Perlin's second smooth step.
#[inline]
fn ease(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// What [`ease`] grows by.
#[inline]
fn slope(t: f32) -> f32 {
    30.0 * t * t * (t * (t - 2.0) + 1.0)
}

/// From `a` at 0 to `b` at 1.
#[must_use]
#[inline]
pub fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// From 0 at `low` to 1 at `high`, smoothly.
#[must_use]
#[inline]
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
            prop_assert!(!(0.001..=0.999).contains(&apart), "{} for {}", angle(x, y), y.atan2(x) / std::f32::consts::TAU);
        }

        #[test]
        fn noise_is_bounded_and_continuous(x in -300.0f32..300.0, y in -300.0f32..300.0, seed: u32) {
            let here = noise(x, y, seed);
            prop_assert!(here.abs() <= 1.8);
            prop_assert!((noise(x + 0.001, y, seed) - here).abs() < 0.02);
            // Coordinates of a few units: farther out their last bits are coarser than the step.
            let (x, y, step) = (x / 100.0, y / 100.0, 0.01);
            let (_, along_x, along_y) = noise_and_slope(x, y, seed);
            prop_assert!((along_x - (noise(x + step, y, seed) - noise(x - step, y, seed)) / (2.0 * step)).abs() < 0.02);
            prop_assert!((along_y - (noise(x, y + step, seed) - noise(x, y - step, seed)) / (2.0 * step)).abs() < 0.02);
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
