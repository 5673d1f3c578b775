//! What grew: wood, hides, scales, and the cloth that imitates leaves.

use crate::noise::{angle, cell, detail, fade, floor, fract, fractal, hash, mix, noise, sine, smooth, unit, unit2};
use crate::palette::{Lch, any};
use crate::pattern::{Pattern, Rgb, cover, off};
use crate::rng::Rng;

/// Long grain with a few knots that it flows around. One unit is some four to eight rings across the grain.
pub fn wood_grain(rng: &mut Rng) -> Pattern {
    let light = any(rng, ((0.5, 0.84), (0.05, 0.11), (50.0, 80.0)));
    let dark = Lch(light.0 - rng.range(0.14, 0.28), light.1 + 0.01, light.2 - 12.0);
    let (light, dark, seed) = (light.rgb(), dark.rgb(), rng.seed());
    let (rings, sway, knots, fibre) = (rng.range(3.0, 6.0), rng.range(0.3, 0.8), rng.range(0.1, 0.7), rng.range(0.16, 0.3));
    let stretch = rng.range(0.1, 0.2);
    Box::new(move |at| {
        let (x, y) = (at.x, at.y * stretch);
        let mut across = x + sway * noise(x * 0.45, y, seed) + 0.12 * noise(x * 1.4, y * 2.0, seed ^ 1);
        // A knot pushes the grain aside; near its middle the rings close around it.
        let knot = cell(at.x * 0.4, at.y * 0.22, 0.7, seed ^ 2);
        let mut core = 0.0;
        if unit(knot.id) < knots {
            let (kx, ky) = (knot.dx / 0.4, knot.dy / 0.22 * 0.5);
            let near = (kx * kx + ky * ky).sqrt();
            let size = 0.35 + 0.3 * unit2(knot.id);
            let middle = at.x - knot.dx / 0.4;
            across = middle + mix(across - middle, near * 1.4, smooth(1.15, 0.3 * size, near));
            core = smooth(0.32 * size, 0.16 * size, near);
        }
        // Early wood is pale, late wood dark, and then the next ring begins at once. No two rings are equally wide or dark.
        let ring = across * rings + 0.35 * noise(across * rings * 0.7, 0.5, seed ^ 5);
        let t = fract(ring);
        let late = t * t * (1.0 - cover(t - 0.94, (at.px * rings).max(0.1)));
        let late = mix(0.3, late, fade(0.9, at.px * rings)) * (0.45 + 0.75 * unit(hash(floor(ring), 1, seed)));
        let streaks = noise(at.x * 6.0, at.y * 0.3, seed ^ 4) + 0.9 * detail(at.x * 17.0, at.y * 0.8, seed ^ 3, 0.08, at.px);
        let pores = smooth(0.45, 0.75, detail(at.x * 11.0, at.y * 1.3, seed ^ 6, 0.12, at.px));
        light.mix(dark, (1.15 * late + 0.5 * pores + 0.9 * core).min(1.3)) * (1.0 + fibre * 0.6 * streaks)
    })
}

/// Broken dark rings around a tawny middle, on a pale ground. One unit is about a rosette.
pub fn leopard(rng: &mut Rng) -> Pattern {
    let natural = rng.chance(0.75);
    let hue = if natural { rng.range(60.0, 85.0) } else { rng.range(0.0, 360.0) };
    let chroma = if natural { rng.range(0.06, 0.12) } else { rng.range(0.0, 0.15) };
    let ground = any(rng, ((0.74, 0.92), (0.7 * chroma, chroma), (hue, hue)));
    let inner = Lch(ground.0 - rng.range(0.1, 0.2), chroma * 1.1, hue - 14.0).rgb();
    let spot = Lch(rng.range(0.1, 0.26), 0.03, hue - 20.0).rgb();
    let (ground, seed) = (ground.rgb(), rng.seed());
    let (size, thick, fur) = (rng.range(0.28, 0.35), rng.range(0.075, 0.11), rng.range(0.04, 0.12));
    Box::new(move |at| {
        let (wx, wy) = (noise(at.x * 2.2, at.y * 2.2, seed), noise(at.x * 2.2, at.y * 2.2, seed ^ 1));
        let home = cell(at.x + 0.13 * wx, at.y + 0.13 * wy, 0.55, seed ^ 2);
        let radius = size * (0.85 + 0.3 * unit(home.id));
        let turn = angle(home.dx, home.dy) + unit2(home.id);
        // Two or three gaps in each ring; a few spots are full.
        let gaps = 2 + (home.id >> 7 & 1) as i32;
        let broken = sine(turn * gaps as f32) + 0.6 * wx;
        let width = thick * (0.75 + 0.5 * smooth(-0.6, 0.5, broken)) - 0.16 * smooth(-0.45, -0.85, broken);
        let ring = cover(width - (home.centre - radius).abs(), at.px);
        let full = if home.id >> 9 & 7 == 0 { cover(0.6 * radius - home.centre, at.px) } else { 0.0 };
        let hair = 1.0 + fur * (noise(at.x * 5.0, at.y * 1.5, seed ^ 3) + detail(at.x * 18.0, at.y * 5.0, seed ^ 4, 0.1, at.px));
        ground.mix(inner, cover(radius - home.centre, at.px + 0.08)).mix(spot, ring.max(full)) * hair
    })
}

/// Dark stripes that bend, taper and fork. One unit is a dark and a light stripe.
pub fn zebra(rng: &mut Rng) -> Pattern {
    let light = if rng.chance(0.8) {
        any(rng, ((0.88, 0.97), (0.0, 0.035), (60.0, 100.0)))
    } else {
        any(rng, ((0.7, 0.9), (0.03, 0.13), (0.0, 360.0)))
    };
    let dark = any(rng, ((0.08, 0.24), (0.0, 0.03), (30.0, 280.0))).rgb();
    let (light, seed, sway, share) = (light.rgb(), rng.seed(), rng.range(1.2, 2.2), rng.range(-0.03, 0.03));
    let fur = rng.range(0.02, 0.08);
    Box::new(move |at| {
        let (x, y) = (at.x + sway * noise(at.x * 0.2, at.y * 0.2, seed), at.y);
        let mut phase = x + 0.4 * noise(x * 0.45, y * 0.45, seed ^ 1);
        // A stripe that begins and ends between its neighbours is a pair of opposite dislocations: on a way around either the phase changes by a whole
        // stripe, between the two it jumps by one, which is not seen, and far from both nothing changes.
        let (i, j) = (floor(x / FORKS), floor(y / FORKS));
        for dj in -1..=1 {
            for di in -1..=1 {
                let h = hash(i + di, j + dj, seed ^ 2);
                let u = x / FORKS - (i + di) as f32 - 0.3 - 0.4 * unit(h);
                let v = y / FORKS - (j + dj) as f32 - 0.3 - 0.4 * unit2(h);
                let from = u * u + v * v;
                if from < 0.7 {
                    let half = 0.2 + 0.2 * unit2(h ^ 0x5555);
                    let pair = angle(v - half, u) - angle(v + half, u);
                    phase += pair * smooth(0.7, 0.2, from) * if h & 1 == 0 { 1.0 } else { -1.0 };
                }
            }
        }
        let taper = 0.08 * noise(at.x * 0.5, at.y * 0.5, seed ^ 3);
        let hair = 1.0 + fur * (noise(at.x * 2.0, at.y * 7.0, seed ^ 4) + detail(at.x * 6.0, at.y * 16.0, seed ^ 5, 0.1, at.px));
        light.mix(dark, cover(0.25 + share + taper - off(phase).abs(), at.px * 1.2)) * hair
    })
}

/// In squares of how many stripes there is a stripe that begins and ends.
const FORKS: f32 = 3.2;

/// Blotches of four muted colours over one another. One unit is about a large blotch.
pub fn camouflage(rng: &mut Rng) -> Pattern {
    let gamuts = match rng.below(6) {
        0..=2 => [
            ((0.55, 0.72), (0.04, 0.08), (90.0, 115.0)),
            ((0.36, 0.5), (0.05, 0.09), (115.0, 140.0)),
            ((0.28, 0.4), (0.03, 0.06), (50.0, 75.0)),
        ],
        3 => [
            ((0.72, 0.86), (0.03, 0.07), (75.0, 95.0)),
            ((0.55, 0.66), (0.04, 0.08), (60.0, 80.0)),
            ((0.38, 0.48), (0.03, 0.06), (45.0, 70.0)),
        ],
        4 => [
            ((0.72, 0.88), (0.0, 0.02), (200.0, 280.0)),
            ((0.5, 0.62), (0.01, 0.05), (220.0, 270.0)),
            ((0.32, 0.42), (0.02, 0.07), (230.0, 275.0)),
        ],
        _ => [
            ((0.75, 0.88), (0.03, 0.09), (330.0, 400.0)),
            ((0.55, 0.66), (0.05, 0.13), (330.0, 400.0)),
            ((0.38, 0.48), (0.04, 0.1), (330.0, 400.0)),
        ],
    };
    let mut colours: Vec<Rgb> = gamuts.map(|gamut| any(rng, gamut).rgb()).to_vec();
    rng.shuffle(&mut colours);
    colours.push(Lch(rng.range(0.12, 0.22), 0.02, 100.0).rgb());
    let (seed, ragged, long) = (rng.seed(), rng.range(0.35, 0.6), rng.range(0.6, 1.0));
    let limits = [rng.range(-0.05, 0.12), rng.range(0.1, 0.25), rng.range(0.28, 0.42)];
    Box::new(move |at| {
        // From the uppermost layer down, as long as something below is seen.
        let (mut colour, mut left) = (Rgb::default(), 1.0);
        for (layer, &limit) in limits.iter().enumerate().rev() {
            let own = seed.wrapping_add(977 * layer as u32);
            let scale = 1.0 + 0.25 * layer as f32;
            let blotch = fractal(at.x * scale * long + 7.0 * layer as f32, at.y * scale, own, 3, ragged);
            let inside = left * cover((blotch - limit) * 0.45, at.px * scale);
            colour = colour + colours[layer + 1] * inside;
            left -= inside;
            if left <= 0.0 {
                return colour;
            }
        }
        colour + colours[0] * left
    })
}

/// Half discs in rows that overlap like tiles on a roof. One unit is the width of a scale.
pub fn fish_scales(rng: &mut Rng) -> Pattern {
    let hue = rng.range(0.0, 360.0);
    let scale = any(rng, ((0.45, 0.8), (0.02, 0.15), (hue, hue)));
    let rim = if rng.chance(0.5) { Lch((scale.0 + 0.25).min(0.96), 0.6 * scale.1, hue) } else { Lch(scale.0 * 0.45, scale.1, hue) };
    let shimmer = rng.range(0.0, 70.0);
    let scales: Vec<Rgb> = (0..8).map(|_| scale.near(rng, 0.05, 0.02, shimmer).rgb()).collect();
    let (rim, wide, deep, seed) = (rim.rgb(), rng.range(0.05, 0.1), rng.range(0.3, 0.6), rng.seed());
    Box::new(move |at| {
        // Rows are half a unit apart; the foremost disc that holds the point is the one that is seen.
        let last = floor(at.y * 2.0);
        let (mut colour, mut left) = (Rgb::default(), 1.0);
        for row in [last - 1, last, last + 1] {
            let shift = 0.5 * row.rem_euclid(2) as f32;
            let (u, v) = (off(at.x - shift), at.y - 0.5 * row as f32);
            let from = (u * u + v * v).sqrt();
            let inside = cover(0.5 - from, at.px) * left;
            if inside == 0.0 {
                continue;
            }
            let h = hash(floor(at.x - shift + 0.5), row, seed);
            let shade = (1.1 - deep) + deep * smooth(-0.05, 0.5, v);
            let ribs = fade(0.1, at.px);
            let ribs = if ribs > 0.0 { 0.06 * ribs * sine(10.0 * angle(u, v + 0.5)) } else { 0.0 };
            let tone = scales[(h & 7) as usize] * (shade + ribs);
            colour = colour + tone.mix(rim, cover(from - (0.5 - wide), at.px)) * inside;
            left -= inside;
        }
        colour + rim * left
    })
}
