//! Pieces laid side by side, with joints between them.

use crate::noise::{cell, detail, floor, fract, hash, mix, noise, smooth, unit, unit2};
use crate::palette::{Gamut, Lch, any, scheme};
use crate::pattern::{Pattern, Rgb, cover};
use crate::printed::hexagon;
use crate::rng::Rng;

/// Tones of one material, and the joint between its pieces.
fn tones(rng: &mut Rng, gamut: Gamut, spread: f32) -> Vec<Rgb> {
    let material = any(rng, gamut);
    (0..8).map(|_| material.near(rng, spread, 0.3 * spread, 90.0 * spread).rgb()).collect()
}

/// Long bricks in rows, each row shifted against the last. One unit is a row and its joint.
pub fn brick(rng: &mut Rng) -> Pattern {
    let gamut = match rng.below(8) {
        0..=3 => ((0.36, 0.58), (0.07, 0.14), (28.0, 50.0)),
        4 => ((0.62, 0.8), (0.05, 0.1), (60.0, 85.0)),
        5 => ((0.3, 0.6), (0.0, 0.02), (0.0, 360.0)),
        6 => ((0.82, 0.93), (0.0, 0.03), (60.0, 100.0)),
        _ => ((0.35, 0.75), (0.04, 0.13), (0.0, 360.0)),
    };
    let spread = rng.range(0.02, 0.09);
    let bricks = tones(rng, gamut, spread);
    let light = bricks.iter().map(|tone| tone.0[1]).sum::<f32>() / 8.0;
    let mortar = if light > 0.5 || rng.chance(0.25) { rng.range(0.2, 0.42) } else { rng.range(0.7, 0.86) };
    let mortar = Lch(mortar, 0.015, 80.0).rgb();
    let (length, joint, shift) = (rng.range(2.3, 3.6), rng.range(0.09, 0.17), if rng.chance(0.75) { 0.5 } else { 1.0 / 3.0 });
    let (rough, bevel, wobble, seed) = (rng.range(0.05, 0.25), rng.range(0.0, 0.25), rng.range(0.0, 0.05), rng.seed());
    Box::new(move |at| {
        let ragged = wobble * noise(at.x * 2.5, at.y * 2.5, seed);
        let row = floor(at.y);
        let x = at.x / length + shift * row as f32;
        let column = floor(x);
        let (left, up) = ((x - column as f32) * length, at.y - row as f32);
        let edge = left.min(length - left).min(up).min(1.0 - up) + ragged - joint / 2.0;
        let stain = rough * (noise(at.x * 1.5, at.y * 3.0, seed ^ 1) + detail(at.x * 9.0, at.y * 9.0, seed ^ 2, 0.12, at.px));
        let lit = bevel * ((0.12 - up).max(0.0) - (up - 0.88).max(0.0)) * 6.0;
        let h = hash(column, row, seed);
        let tone = bricks[(h & 7) as usize] * (1.0 + stain + lit + 0.08 * (unit2(h) - 0.5));
        (mortar * (1.0 + 0.5 * stain)).mix(tone, cover(edge, at.px))
    })
}

/// Blocks at right angles, each against the side of the next: parquet, paving or tiles. One unit is a block's width.
pub fn herringbone(rng: &mut Rng) -> Pattern {
    let (gamut, wooden) = match rng.below(6) {
        0..=3 => (((0.35, 0.78), (0.05, 0.11), (48.0, 80.0)), true),
        4 => (((0.4, 0.9), (0.0, 0.03), (0.0, 360.0)), false),
        _ => (((0.4, 0.8), (0.05, 0.14), (0.0, 360.0)), false),
    };
    let spread = rng.range(0.05, 0.1);
    let blocks = tones(rng, gamut, spread);
    let light = blocks.iter().map(|tone| tone.0[1]).sum::<f32>() / 8.0;
    let joint = if !wooden && light < 0.55 { Lch(0.88, 0.01, 80.0) } else { Lch(0.18, 0.02, 60.0) }.rgb();
    let (long, gap) = (3 + rng.below(2) as i32, rng.range(0.08, 0.15));
    let (contrast, grain, seed) = (rng.range(0.08, 0.2), if wooden { 0.16 } else { 0.05 }, rng.seed());
    Box::new(move |at| {
        let (i, j) = (floor(at.x), floor(at.y));
        let place = (i - j).rem_euclid(2 * long);
        let lies = place < long;
        let (x, y) = if lies { (i - place, j) } else { (i, j - (2 * long - 1 - place)) };
        let (u, v) = (at.x - x as f32, at.y - y as f32);
        let (along, across) = if lies { (u, v) } else { (v, u) };
        let edge = along.min(long as f32 - along).min(across).min(1.0 - across) - gap / 2.0;
        let h = hash(x, y, seed);
        let streaks = noise(along * 0.8 + (h & 1023) as f32, across * 6.0, seed) + 0.7 * detail(along * 2.0, across * 18.0, h, 0.08, at.px);
        // The two directions catch the light differently, as wood does.
        let tone = 1.0 + grain * streaks + if lies { contrast } else { -contrast };
        joint.mix(blocks[(h >> 10 & 7) as usize] * tone, cover(edge, at.px))
    })
}

/// Six-cornered cells with waxen walls. One unit is the width of a cell.
pub fn honeycomb(rng: &mut Rng) -> Pattern {
    let amber = rng.chance(0.75);
    let hue = if amber { rng.range(60.0, 90.0) } else { rng.range(0.0, 360.0) };
    let wall = any(rng, ((0.74, 0.92), (0.06, 0.16), (hue, hue + 10.0))).rgb();
    let deep = any(rng, ((0.2, 0.42), (0.05, 0.12), (hue - 20.0, hue))).rgb();
    let honey = any(rng, ((0.5, 0.72), (0.11, 0.17), (hue - 12.0, hue))).rgb();
    let (thick, filled, seed) = (rng.range(0.1, 0.2), rng.range(0.0, 0.8), rng.seed());
    let lit = crate::pattern::Turn::new(rng.range(0.0, std::f32::consts::TAU));
    Box::new(move |at| {
        let bend = 0.05 * noise(at.x * 1.3, at.y * 1.3, seed);
        let (u, v, i, j) = hexagon(at.x + bend, at.y - bend);
        let edge = 0.5 - u.abs().max(0.5 * u.abs() + 0.866 * v.abs());
        let h = hash(i, j, seed);
        let full = if unit(h) < filled { 0.5 + 0.5 * unit2(h) } else { 0.25 * unit2(h) };
        let (side, _) = lit.apply(u, v);
        let depth = smooth(0.0, 0.3, edge - thick / 2.0);
        let inside = deep.mix(honey, full) * (1.12 - 0.35 * depth + 0.5 * side);
        let shine = 0.25 * full * smooth(0.12, 0.04, ((side - 0.18).powi(2) + 0.3 * (u * u + v * v)).sqrt());
        let rim = wall * (0.92 + 0.25 * smooth(0.0, thick / 2.0, edge) * side.signum() * side.abs().sqrt());
        rim.mix(inside + Rgb([shine; 3]), cover(edge - thick / 2.0, at.px))
    })
}

/// Small, nearly square tesserae in bent courses, whose colours make a picture of bands and fields. One unit is a stone.
pub fn mosaic(rng: &mut Rng) -> Pattern {
    let (colours, turn) = (scheme(rng, 5), rng.range(25.0, 80.0));
    let vivid: Vec<Rgb> =
        colours.iter().zip(0u8..).map(|(colour, i)| Lch(colour.0, colour.1.max(0.1), colour.2 + turn * f32::from(i)).rgb()).collect();
    let grout = if rng.chance(0.5) { Lch(rng.range(0.82, 0.92), 0.01, 80.0) } else { Lch(rng.range(0.1, 0.25), 0.01, 80.0) }.rgb();
    let (gap, spread, seed) = (rng.range(0.14, 0.22), rng.range(0.15, 0.3), rng.seed());
    let (rings, size) = (rng.chance(0.5), rng.range(0.1, 0.17));
    Box::new(move |at| {
        let (x, y) = (at.x, at.y + 0.7 * noise(at.x * 0.17, at.y * 0.17, seed));
        let row = floor(y);
        let shifted = x + 0.7 * unit(hash(row, 77, seed));
        let wall = |i: i32| i as f32 + 0.45 * (unit(hash(i, row, seed)) - 0.5);
        let mut column = floor(shifted);
        if shifted < wall(column) {
            column -= 1;
        } else if shifted >= wall(column + 1) {
            column += 1;
        }
        let (left, right) = (shifted - wall(column), wall(column + 1) - shifted);
        let up = y - row as f32;
        let edge = left.min(right).min(up).min(1.0 - up) - gap / 2.0;
        // The colour of the field at the stone's own middle, so that a stone has one colour.
        let (mx, my) = (x + (right - left) / 2.0, row as f32 + 0.5);
        let field = if rings {
            let home = cell(mx * size * 0.7, my * size * 0.7, 0.8, seed);
            home.centre * 6.0 + (home.id & 3) as f32
        } else {
            2.5 * noise(mx * size, my * size, seed ^ 5) + 10.0
        };
        let h = hash(column, row, seed ^ 9);
        let step = if unit(h) < 0.12 { (h & 7) as i32 } else { floor(field) };
        let tone = vivid[step.rem_euclid(5) as usize] * (1.0 + spread * (unit2(h) - 0.5) + 0.1 * (0.5 - fract(up)));
        grout.mix(tone, cover(edge, at.px)) * mix(0.97, 1.03, unit(h))
    })
}
