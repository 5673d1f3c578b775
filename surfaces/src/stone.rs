//! Stone and earth.

use crate::noise::{cell, detail, floor, fractal, hash, mix, noise, noise_and_slope, sine, smooth, unit, unit2};
use crate::palette::{Lch, any, scheme};
use crate::pattern::{At, Pattern, Rgb, Turn, cover};
use crate::rng::Rng;

/// Rounded stones with shaded flanks, dark joints between them. One unit is about a stone.
pub fn cobblestone(rng: &mut Rng) -> Pattern {
    let stone = match rng.below(4) {
        0 | 1 => any(rng, ((0.48, 0.72), (0.0, 0.025), (40.0, 280.0))),
        2 => any(rng, ((0.5, 0.75), (0.02, 0.05), (50.0, 90.0))),
        _ => any(rng, ((0.42, 0.6), (0.02, 0.06), (20.0, 50.0))),
    };
    let stones: Vec<Rgb> = (0..8).map(|_| stone.near(rng, 0.09, 0.015, 30.0).rgb()).collect();
    let joint = if rng.chance(0.25) { Lch(0.3, 0.06, 130.0) } else { Lch(rng.range(0.16, 0.34), 0.02, 70.0) }.rgb();
    let (jitter, gap, seed) = (rng.range(0.35, 0.65), rng.range(0.03, 0.055), rng.seed());
    let (lit, relief, rough) = (Turn::new(rng.range(0.0, std::f32::consts::TAU)), rng.range(0.35, 0.7), rng.range(0.06, 0.16));
    Box::new(move |at| {
        let bend = 0.1 * noise(at.x * 1.7, at.y * 1.7, seed ^ 3);
        let home = cell(at.x + bend, at.y + bend, jitter, seed);
        // Corners are rounded off: a point far from its stone's centre counts as nearer to the edge.
        let edge = home.border - 0.42 * (home.centre - 0.4).max(0.0);
        let flank = smooth(0.4, 0.02, edge);
        let (side, _) = lit.apply(home.dx, home.dy);
        let shade = 1.12 + relief * flank * side / home.centre.max(0.2) - 0.4 * flank * flank;
        let grain = noise(at.x * 3.0, at.y * 3.0, seed ^ 1) + detail(at.x * 13.0, at.y * 13.0, seed ^ 2, 0.1, at.px);
        joint.mix(stones[(home.id & 7) as usize] * (shade * (1.0 + rough * grain)), cover(edge - gap, at.px))
    })
}

/// Sharp veins, thick and thin, over soft clouds. One unit is about the distance of thick veins.
pub fn marble(rng: &mut Rng) -> Pattern {
    let (ground, vein) = match rng.below(6) {
        0..=2 => (any(rng, ((0.88, 0.97), (0.0, 0.02), (60.0, 260.0))), any(rng, ((0.35, 0.6), (0.0, 0.04), (40.0, 280.0)))),
        3 => (any(rng, ((0.14, 0.26), (0.0, 0.03), (0.0, 360.0))), any(rng, ((0.8, 0.95), (0.0, 0.06), (60.0, 100.0)))),
        4 => (any(rng, ((0.28, 0.42), (0.04, 0.09), (140.0, 165.0))), any(rng, ((0.8, 0.93), (0.01, 0.04), (100.0, 170.0)))),
        _ => (any(rng, ((0.7, 0.85), (0.03, 0.08), (10.0, 75.0))), any(rng, ((0.4, 0.55), (0.03, 0.1), (15.0, 60.0)))),
    };
    let cloud = Lch(mix(ground.0, vein.0, rng.range(0.2, 0.4)), ground.1 + 0.01, ground.2);
    let (ground, vein, cloud, seed) = (ground.rgb(), vein.rgb(), cloud.rgb(), rng.seed());
    let (thick, thin, swirl, along) = (rng.range(0.02, 0.04), rng.range(0.01, 0.018), rng.range(0.12, 0.22), rng.range(0.5, 0.9));
    Box::new(move |at| {
        let (wx, wy) = (fractal(at.x * 1.6, at.y * 1.6, seed, 3, 0.55), fractal(at.x * 1.6, at.y * 1.6, seed ^ 1, 3, 0.55));
        let (x, y) = (1.2 * at.x + swirl * wx, 1.2 * along * at.y + swirl * wy);
        // A vein is where a noise passes 0; its slope makes the value there a distance. Where the noise is flat there is none.
        let line = |x: f32, y: f32, scale: f32, seed: u32, width: f32| {
            let (value, du, dv) = noise_and_slope(x * scale, y * scale, seed);
            let slope = (du * du + dv * dv).sqrt();
            let distance = value.abs() / (scale * slope.max(0.4));
            let seen = 1.3 * width / (1.3 * width + at.px); // a vein finer than a pixel is fainter for it
            (seen * smooth(width + at.px, 0.3 * width, distance), smooth(9.0 * width, 0.0, distance))
        };
        let strength = smooth(-0.6, 0.4, wx);
        let (broad, halo) = line(x, y, 1.0, seed ^ 2, thick * (0.5 + strength));
        let (fine, _) = line(x + 0.3 * y, y, 2.1, seed ^ 3, thin * (0.6 + 0.8 * strength));
        let veins = (broad * (0.5 + 0.5 * strength)).max(0.7 * fine * smooth(-0.6, 0.2, wy));
        ground.mix(cloud, (0.35 + 0.5 * wy + 0.55 * halo * strength).clamp(0.0, 1.0)).mix(vein, veins)
    })
}

/// Chips of many sizes and colours, scattered in an even ground. Three units are about a large chip's spacing and a half.
pub fn terrazzo(rng: &mut Rng) -> Pattern {
    let dark = rng.chance(0.25);
    let ground =
        if dark { any(rng, ((0.2, 0.35), (0.0, 0.04), (0.0, 360.0))) } else { any(rng, ((0.84, 0.95), (0.0, 0.04), (0.0, 360.0))) };
    let chips: Vec<Rgb> = scheme(rng, 5)
        .into_iter()
        .map(|chip| {
            Lch(if (chip.0 - ground.0).abs() < 0.2 { if dark { 0.75 } else { 0.5 } } else { chip.0 }, chip.1.min(0.13), chip.2).rgb()
        })
        .collect();
    let (ground, seed, dense) = (ground.rgb(), rng.seed(), rng.range(0.7, 0.95));
    let layers: [(Turn, f32); 4] =
        [0.55, 0.75, 1.1, 1.9].map(|scale| (Turn::new(rng.range(0.0, std::f32::consts::TAU)), scale * rng.range(0.9, 1.1)));
    Box::new(move |at| {
        let mut colour = ground * (1.0 + 0.03 * noise(at.x * 6.0, at.y * 6.0, seed));
        for (index, &(turn, scale)) in layers.iter().enumerate().rev() {
            let (x, y) = turn.apply(at.x * scale, at.y * scale);
            if let Some((h, inside)) = chip(At { x, y, px: at.px * scale }, seed ^ index as u32, dense) {
                colour = colour.mix(chips[(h % 5) as usize], inside);
            }
        }
        colour
    })
}

/// The chip of a unit square, and how much of the pixel it covers: the meet of five half-planes, within the square.
fn chip(at: At, seed: u32, dense: f32) -> Option<(u32, f32)> {
    let (i, j) = (floor(at.x), floor(at.y));
    let h = hash(i, j, seed);
    if unit(h) > dense {
        return None;
    }
    let size = 0.2 + 0.2 * unit2(h);
    let slack = 0.94 - 2.0 * size;
    let u = at.x - i as f32 - 0.5 - slack * (unit2(h ^ 0xA5A5) - 0.5);
    let v = at.y - j as f32 - 0.5 - slack * (unit2(h ^ 0x5A5A) - 0.5);
    let mut edge = size - (u * u + v * v).sqrt();
    if edge < -at.px {
        return None;
    }
    for side in 0..5u32 {
        let own = hash(side as i32, 3, h);
        let turn = (side as f32 + 0.8 * unit(own)) / 5.0;
        let distance = size * (0.45 + 0.4 * unit2(own));
        edge = edge.min(distance - u * sine(turn + 0.25) - v * sine(turn));
    }
    Some((h >> 3, cover(edge, at.px)))
}

/// Flat plates with ragged dark cracks between them, finer ones within. One unit is about a plate.
pub fn cracked_earth(rng: &mut Rng) -> Pattern {
    let clay = if rng.chance(0.8) {
        any(rng, ((0.52, 0.8), (0.03, 0.09), (45.0, 85.0)))
    } else {
        any(rng, ((0.55, 0.82), (0.0, 0.02), (60.0, 100.0)))
    };
    let crack = Lch(rng.range(0.12, 0.26), 0.03, clay.2).rgb();
    let plates: Vec<Rgb> = (0..8).map(|_| clay.near(rng, 0.03, 0.01, 6.0).rgb()).collect();
    let (wide, fine, ragged, seed) = (rng.range(0.025, 0.06), rng.range(0.008, 0.02), rng.range(0.16, 0.28), rng.seed());
    let (dust, curl) = (rng.range(0.05, 0.12), rng.range(0.05, 0.2));
    Box::new(move |at| {
        let (wx, wy) = (fractal(at.x * 2.0, at.y * 2.0, seed, 2, 0.5), fractal(at.x * 2.0, at.y * 2.0, seed ^ 1, 2, 0.5));
        let (x, y) = (at.x + ragged * wx, at.y + ragged * wy);
        let plate = cell(x, y, 0.95, seed ^ 2);
        let width = wide * (1.0 + 0.5 * wx);
        let deep = cover(width - plate.border, at.px);
        let mut shallow = 0.8 * smooth(-0.4, 0.3, wy + unit(plate.id) - 0.5);
        if shallow > 0.0 {
            shallow *= cover(fine - cell(x * 2.1, y * 2.1, 0.95, plate.id).border / 2.1, at.px);
        }
        let lip = curl * smooth(0.16, 0.0, plate.border - width);
        let grain = dust * (wy + detail(at.x * 14.0, at.y * 14.0, seed ^ 4, 0.1, at.px));
        (plates[(plate.id & 7) as usize] * (1.0 + lip + grain)).mix(crack, deep.max(shallow))
    })
}
