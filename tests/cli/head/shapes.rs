//! Pictures of simple shapes, none of which is among the bundled network's classes.

use image::{Rgb, RgbImage};
use lakelens_surfaces::Rng;

/// Whether a point is painted, the shape's own unit being 1.
type Shape = fn(f32, f32) -> bool;

/// Names and shapes.
pub const KINDS: &[(&str, Shape)] = &[
    ("rings", |x, y| (x.hypot(y) * 1.5).fract() < 0.5),
    ("sunburst", |x, y| (y.atan2(x) * 16.0 / std::f32::consts::TAU).rem_euclid(1.0) < 0.5),
    ("spiral", |x, y| (x.hypot(y) * 1.2 + y.atan2(x) / std::f32::consts::TAU).rem_euclid(1.0) < 0.5),
    ("crosses", |x, y| {
        let (u, v) = (off(x).abs(), off(y).abs());
        (u < 0.1 && v < 0.35) || (v < 0.1 && u < 0.35)
    }),
    ("triangles", |x, y| {
        let (u, v) = (off(x).abs(), y.rem_euclid(1.0));
        v > 0.15 && v < 0.85 && u < (v - 0.15) * 0.6
    }),
    ("arches", |x, y| {
        let (tile_x, tile_y) = (x.floor() as i64, y.floor() as i64);
        let turned = (tile_x.wrapping_mul(7919) ^ tile_y.wrapping_mul(104_729) ^ (tile_x * tile_y).wrapping_mul(31)).rem_euclid(5) < 2;
        let (u, v) = (if turned { 1.0 - x.rem_euclid(1.0) } else { x.rem_euclid(1.0) }, y.rem_euclid(1.0));
        (u.hypot(v) - 0.5).abs() < 0.13 || ((1.0 - u).hypot(1.0 - v) - 0.5).abs() < 0.13
    }),
    ("hearts", |x, y| {
        let (u, v) = (off(x) * 2.9, 0.25 - off(y) * 2.9);
        (u * u + v * v - 1.0).powi(3) - u * u * v * v * v < 0.0
    }),
    ("stars", |x, y| {
        let (u, v) = (off(x), off(y));
        let turn = v.atan2(u).rem_euclid(std::f32::consts::TAU / 5.0) * 5.0 / std::f32::consts::TAU;
        u.hypot(v) < 0.18 + 0.26 * (2.0 * (turn - 0.5).abs()).powi(2)
    }),
];

fn off(x: f32) -> f32 {
    (x + 0.5).rem_euclid(1.0) - 0.5
}

/// One picture of a kind: any two colours, size, turn, place and light, and some noise.
pub fn draw(kind: usize, seed: u64) -> RgbImage {
    let mut rng = Rng::new(&[99, kind as u64, seed]);
    let colour = |rng: &mut Rng| [0; 3].map(|_: i32| rng.range(0.0, 255.0));
    let (mut ground, mut paint) = (colour(&mut rng), colour(&mut rng));
    // Colours that can be told apart.
    while (0..3).map(|c| (ground[c] - paint[c]).abs()).sum::<f32>() < 180.0 {
        (ground, paint) = (colour(&mut rng), colour(&mut rng));
    }
    let (units, turn) = (rng.range(3.0, 7.0), rng.range(-0.4, 0.4));
    let (left, top, noise, light) = (rng.range(0.3, 0.7), rng.range(0.3, 0.7), rng.range(2.0, 14.0), rng.range(-0.3, 0.3));
    let (side, shape) = (rng.range(240.0, 400.0) as u32, KINDS[kind].1);
    RgbImage::from_fn(side, side, |px, py| {
        let mut sum = [0.0; 3];
        for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
            let (x, y) = ((px as f32 + dx) / side as f32 - left, (py as f32 + dy) / side as f32 - top);
            let (x, y) = (units * (turn.cos() * x - turn.sin() * y), units * (turn.sin() * x + turn.cos() * y));
            let of = if shape(x, y) { paint } else { ground };
            (0..3).for_each(|c| sum[c] += of[c] / 4.0);
        }
        let bright = 1.0 + light * (px as f32 / side as f32 - 0.5);
        Rgb(sum.map(|v| (v * bright + rng.range(-noise, noise)).clamp(0.0, 255.0) as u8))
    })
}
