//! Flat prints: shapes with even colours and sharp edges.

use crate::noise::{floor, hash, unit};
use crate::palette::{Lch, any, pair, scheme};
use crate::pattern::{Bands, Pattern, Rgb, cover, off};
use crate::rng::Rng;

/// Equal dots on a regular lattice. One unit is the distance between two dots of a row.
pub fn polka_dots(rng: &mut Rng) -> Pattern {
    let (dark, light) = pair(rng);
    let (ground, dot) = if rng.chance(0.5) { (dark, light) } else { (light, dark) };
    let several = rng.chance(0.3);
    let dots: Vec<Rgb> = if several { (0..4).map(|_| dot.near(rng, 0.05, 0.1, 120.0).rgb()).collect() } else { vec![dot.rgb()] };
    // Rows one below the other, staggered like bricks, or as a five on a die.
    let (rise, shift) = [(1.0, 0.0), (0.866, 0.5), (0.5, 0.5)][rng.below(3)];
    let radius = rng.range(0.2, 0.34) * if rise < 0.6 { 0.72 } else { 1.0 };
    let (ground, seed) = (ground.rgb(), rng.seed());
    Box::new(move |at| {
        let mut nearest = (f32::MAX, 0);
        let row = floor(at.y / rise);
        for j in row..=row + 1 {
            let x = at.x + shift * (j.rem_euclid(2)) as f32;
            let (u, v) = (off(x), at.y - j as f32 * rise);
            if u * u + v * v < nearest.0 {
                nearest = (u * u + v * v, hash(floor(x + 0.5), j, seed));
            }
        }
        ground.mix(dots[nearest.1 as usize % dots.len()], cover(radius - nearest.0.sqrt(), at.px))
    })
}

/// Straight bands of two to four colours. One unit is one repeat of them.
pub fn stripes(rng: &mut Rng) -> Pattern {
    let count = 2 + rng.below(3);
    let colours = if count == 2 { <[Lch; 2]>::from(pair(rng)).to_vec() } else { scheme(rng, count) };
    let even = rng.chance(0.5);
    let mut bands: Vec<(f32, Rgb)> = colours.iter().map(|colour| (if even { 1.0 } else { rng.range(0.6, 1.6) }, colour.rgb())).collect();
    if count == 3 && rng.chance(0.4) {
        bands.insert(1, bands[2]);
    }
    let bands = Bands::new(&bands);
    Box::new(move |at| bands.at(at.x, at.px))
}

/// Bands that go up and down in sharp zigzags. One unit is one zig and one zag.
pub fn chevron(rng: &mut Rng) -> Pattern {
    let count = 2 + rng.below(2);
    let colours = if count == 2 { <[Lch; 2]>::from(pair(rng)).to_vec() } else { scheme(rng, count) };
    let bands: Vec<(f32, Rgb)> = colours.iter().map(|colour| (1.0, colour.rgb())).collect();
    let (bands, steep, period) = (Bands::new(&bands), rng.range(0.75, 1.25), rng.range(0.26, 0.38) * count as f32);
    Box::new(move |at| {
        let px = at.px * (1.0 + steep * steep).sqrt() / period;
        bands.at((at.y + 2.0 * steep * off(at.x).abs()) / period, px)
    })
}

/// Cubes in parallel projection: rhombi of three tones. One unit is the width of a cube.
pub fn tumbling_blocks(rng: &mut Rng) -> Pattern {
    let hue = rng.range(0.0, 360.0);
    let chroma = rng.range(0.01, 0.17);
    let apart = if rng.chance(0.4) { rng.range(40.0, 180.0) } else { 0.0 };
    let tones = [
        any(rng, ((0.82, 0.96), (0.3 * chroma, 0.6 * chroma), (hue, hue + 20.0))).rgb(),
        any(rng, ((0.52, 0.66), (0.8 * chroma, chroma), (hue + apart, hue + apart + 20.0))).rgb(),
        any(rng, ((0.2, 0.36), (0.5 * chroma, chroma), (hue - apart, hue - apart + 20.0))).rgb(),
    ];
    let (tint, seed) = (if rng.chance(0.3) { 0.25 } else { 0.05 }, rng.seed());
    // The face at a point, and how far its edge is: of three directions a third of a turn apart, the one that the point is farthest along.
    let face = move |x: f32, y: f32| {
        let (u, v, i, j) = hexagon(x, y);
        let along = [-v, 0.866 * u + 0.5 * v, 0.5 * v - 0.866 * u];
        let top = along[0].max(along[1]).max(along[2]);
        let least = along[0].min(along[1]).min(along[2]);
        let tone = if top == along[0] {
            tones[0]
        } else if top == along[1] {
            tones[1]
        } else {
            tones[2]
        };
        let inner = 2.0 * top + least; // the largest less the second, as the three are 0 together
        let outer = 0.5 - u.abs().max(0.5 * u.abs() + 0.866 * v.abs());
        (tone * (1.0 + tint * (unit(hash(i, j, seed)) - 0.5)), outer.min(0.577 * inner))
    };
    Box::new(move |at| {
        let (colour, edge) = face(at.x, at.y);
        if edge > 0.8 * at.px {
            return colour;
        }
        let around = [(-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375)];
        around.iter().fold(Rgb::default(), |sum, (u, v)| sum + face(at.x + u * at.px, at.y + v * at.px).0 * 0.25)
    })
}

/// The hexagon, with corners above and below and of width 1, that a point is in: the way from its middle, and its column and row.
pub(crate) fn hexagon(x: f32, y: f32) -> (f32, f32, i32, i32) {
    const RISE: f32 = 0.866_025_4;
    let candidate = |parity: i32| {
        let row = 2 * floor(y / (2.0 * RISE) + 0.5 - 0.5 * parity as f32) + parity;
        let shifted = x - 0.5 * parity as f32;
        let column = floor(shifted + 0.5);
        (shifted - column as f32, y - row as f32 * RISE, column, row)
    };
    let (even, odd) = (candidate(0), candidate(1));
    if even.0 * even.0 + even.1 * even.1 < odd.0 * odd.0 + odd.1 * odd.1 { even } else { odd }
}
