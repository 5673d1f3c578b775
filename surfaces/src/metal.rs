//! Wire and sheet.

use crate::noise::{detail, floor, fractal, noise, smooth};
use crate::palette::{Lch, any};
use crate::pattern::{Pattern, Turn, cover, off};
use crate::rng::Rng;

/// A mesh of bent wires before something out of focus. One unit is the width of a mesh.
pub fn chain_link(rng: &mut Rng) -> Pattern {
    let scene = match rng.below(4) {
        0 | 1 => [((0.25, 0.5), (0.04, 0.12), (110.0, 150.0)), ((0.45, 0.75), (0.03, 0.1), (80.0, 140.0))],
        2 => [((0.6, 0.85), (0.03, 0.09), (230.0, 260.0)), ((0.7, 0.92), (0.0, 0.04), (60.0, 260.0))],
        _ => [((0.2, 0.6), (0.0, 0.06), (0.0, 360.0)), ((0.3, 0.7), (0.0, 0.06), (0.0, 360.0))],
    };
    let scene = scene.map(|gamut| any(rng, gamut));
    let light = (scene[0].0 + scene[1].0) / 2.0;
    let wire = if light > 0.6 || rng.chance(0.2) && light > 0.45 {
        any(rng, ((0.12, 0.3), (0.0, 0.03), (0.0, 360.0)))
    } else {
        any(rng, ((0.8, 0.95), (0.0, 0.02), (0.0, 360.0)))
    };
    let (wire, seed) = (wire.rgb(), rng.seed());
    let (first, second) = (scene[0].rgb(), scene[1].rgb());
    let (thick, tall, hook, blotch) = (rng.range(0.05, 0.075), rng.range(0.9, 1.25), rng.range(0.1, 0.16), rng.range(0.5, 0.9));
    Box::new(move |at| {
        let ground = first.mix(second, (0.5 + 0.7 * fractal(at.x * blotch, at.y * blotch, seed, 2, 0.4)).clamp(0.0, 1.0));
        // Every wire is a zigzag from top to bottom; neighbours hook into one another where they meet, at every whole and half.
        let y = at.y / tall;
        let zig = |shift: f32| {
            let swing = 4.0 * off(y + shift).abs() - 1.0;
            let eased = swing * (1.0 - 0.12 * swing * swing);
            off(at.x - 0.25 * eased * (1.0 + hook) + shift) * 0.86
        };
        let mut colour = ground;
        let over = off(y * 2.0) > 0.0;
        for shift in if over { [0.0, 0.5] } else { [0.5, 0.0] } {
            let side = zig(shift);
            let round = 1.0 - (side / thick).powi(2).min(1.0) * 0.45 + 0.25 * (side / thick).clamp(-1.0, 1.0);
            let shadow = 0.5 * smooth(thick * 2.2, thick * 0.8, side.abs());
            colour = (colour * (1.0 - shadow)).mix(wire * round, cover(thick - side.abs(), at.px));
        }
        colour
    })
}

/// Sheet metal with raised lozenges, each at right angles to its neighbours. One unit is the distance of two lozenges.
pub fn diamond_plate(rng: &mut Rng) -> Pattern {
    let metal = if rng.chance(0.85) {
        any(rng, ((0.52, 0.78), (0.0, 0.02), (200.0, 280.0)))
    } else {
        any(rng, ((0.45, 0.7), (0.03, 0.12), (0.0, 360.0)))
    };
    let metal = metal.near(rng, 0.01, 0.0, 0.0).rgb();
    let (seed, lit) = (rng.seed(), Turn::new(rng.range(0.0, std::f32::consts::TAU)));
    let (long, wide) = (rng.range(0.46, 0.56), rng.range(0.15, 0.2));
    let (gloss, brushed, dirt) = (rng.range(0.65, 1.0), rng.range(0.02, 0.1), rng.range(0.0, 0.25));
    let white = Lch(0.99, 0.0, 0.0).rgb();
    Box::new(move |at| {
        let (i, j) = (floor(at.x), floor(at.y));
        let (u, v) = (at.x - i as f32 - 0.5, at.y - j as f32 - 0.5);
        let (a, b) = ((u + v) * 0.707, (u - v) * 0.707);
        let crossed = (i + j).rem_euclid(2) == 0;
        let (along, across) = if crossed { (a, b) } else { (b, a) };
        // A lens: the meet of two large discs.
        let edge = wide * (1.0 - (along / long).powi(2)) - across.abs();
        let inside = cover(edge * 0.85, at.px);
        let scratches = brushed * (noise(at.x * 1.2, at.y * 12.0, seed) + detail(at.x * 4.0, at.y * 30.0, seed ^ 1, 0.06, at.px));
        let plate = metal * (0.82 + scratches - dirt * smooth(0.0, 0.8, fractal(at.x * 0.5, at.y * 0.5, seed ^ 2, 3, 0.5)));
        // Which flank of the lozenge it is decides its light, the more the nearer to the edge.
        let flank = across.signum() * smooth(0.9 * wide, 0.1 * wide, edge);
        let normal = if crossed { (0.707 * flank, -0.707 * flank) } else { (0.707 * flank, 0.707 * flank) };
        let facing = lit.apply(normal.0, normal.1).0;
        let raised = (plate * (1.12 + gloss * facing)).mix(white, 0.55 * gloss * smooth(0.35, 0.75, facing));
        let shadow: f32 = 0.35 * smooth(-0.09, 0.0, edge) * (1.0 - inside);
        (plate * (1.0 - shadow)).mix(raised, inside)
    })
}
