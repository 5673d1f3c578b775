//! Surfaces that the network is not trained on: what its embeddings are worth for something new is measured on them.

use crate::noise::{angle, cell, detail, fade, floor, fract, fractal, hash, mix, noise, noise_and_slope, sine, smooth, unit, unit2};
use crate::palette::{Lch, any, pair, scheme};
use crate::pattern::{Pattern, Rgb, Turn, cover, off};
use crate::rng::Rng;

/// Soft ribs of cut pile. One unit is a rib and its furrow.
pub fn corduroy(rng: &mut Rng) -> Pattern {
    let cloth = any(rng, ((0.3, 0.72), (0.02, 0.13), (0.0, 360.0)));
    let (dark, cloth, seed) = (Lch(0.5 * cloth.0, cloth.1, cloth.2).rgb(), cloth.rgb(), rng.seed());
    let (lit, pile, worn) = (rng.range(-0.25, 0.25), rng.range(0.1, 0.2), rng.range(0.0, 0.15));
    Box::new(move |at| {
        let side = 2.0 * off(at.x + 0.03 * noise(at.x * 0.5, at.y * 0.8, seed));
        let round = (1.0 - side * side).max(0.0).sqrt();
        let tufts = noise(at.x * 3.0, at.y * 5.0, seed ^ 1) + detail(at.x * 8.0, at.y * 6.0, seed ^ 2, 0.13, at.px);
        let rubbed = worn * noise(at.x * 0.2, at.y * 0.2, seed ^ 3);
        dark.mix(cloth, mix(0.6, round, fade(1.0, at.px))) * (1.0 + lit * side + pile * tufts + rubbed)
    })
}

/// Ridges that the wind or the tide leaves: steep on one flank, meeting and parting. One unit is a ridge.
pub fn sand_ripples(rng: &mut Rng) -> Pattern {
    let sand = match rng.below(4) {
        0..=2 => any(rng, ((0.62, 0.82), (0.04, 0.09), (60.0, 88.0))),
        _ => any(rng, ((0.4, 0.7), (0.0, 0.03), (40.0, 260.0))),
    };
    let (sand, seed) = (sand.rgb(), rng.seed());
    let (sway, relief, grain, steep) = (rng.range(0.7, 1.3), rng.range(0.22, 0.4), rng.range(0.04, 0.1), rng.range(0.22, 0.34));
    Box::new(move |at| {
        let phase = at.y + sway * noise(at.x * 0.22, at.y * 0.4, seed) + 0.25 * noise(at.x * 0.7, at.y * 0.8, seed ^ 1);
        let t = fract(phase);
        // The lee flank is short and dark, the windward one long and light.
        let lee = smooth(0.0, 0.5 * steep, t) * smooth(steep * 1.4, 0.6 * steep, t);
        let windward = smooth(steep, 1.0, t);
        let height = noise(at.x * 0.35, at.y * 0.35, seed ^ 2);
        let grains = noise(at.x * 9.0, at.y * 9.0, seed ^ 3) + detail(at.x * 26.0, at.y * 26.0, seed ^ 4, 0.04, at.px);
        sand * (0.95 + relief * (0.55 * windward - lee) * (1.0 + 0.5 * height) + grain * grains)
    })
}

/// Crystals of a few minerals, packed without order. One unit is about a crystal.
pub fn granite(rng: &mut Rng) -> Pattern {
    let feldspar = match rng.below(4) {
        0 | 1 => any(rng, ((0.68, 0.86), (0.0, 0.02), (60.0, 260.0))),
        2 => any(rng, ((0.6, 0.75), (0.04, 0.08), (20.0, 50.0))),
        _ => any(rng, ((0.35, 0.5), (0.0, 0.03), (60.0, 260.0))),
    };
    let quartz = Lch((feldspar.0 - rng.range(0.1, 0.2)).max(0.2), 0.01, 240.0).rgb();
    let mica = Lch(rng.range(0.1, 0.24), 0.02, 60.0).rgb();
    let tones: Vec<Rgb> = (0..4).map(|_| feldspar.near(rng, 0.06, 0.01, 8.0).rgb()).collect();
    let (seed, grey, black) = (rng.seed(), rng.range(0.2, 0.35), rng.range(0.12, 0.28));
    Box::new(move |at| {
        let bend = |seed| 0.3 * noise(at.x * 1.6, at.y * 1.6, seed);
        let crystal = cell(at.x + bend(seed), at.y + bend(seed ^ 1), 1.0, seed ^ 2);
        let fleck = cell(at.x * 1.7 + bend(seed ^ 3), at.y * 1.7, 1.0, seed ^ 4);
        let share = unit(crystal.id);
        let body = if share < grey { quartz } else { tones[(crystal.id & 3) as usize] };
        let dark = if unit(fleck.id) < black { cover(fleck.border / 1.7 - 0.03, at.px + 0.05) } else { 0.0 };
        let cloudy = 1.0 + 0.06 * (unit2(crystal.id) - 0.5) + 0.06 * detail(at.x * 4.0, at.y * 4.0, seed ^ 5, 0.25, at.px);
        (body * cloudy).mix(mica, dark)
    })
}

/// Squares of two colours in turn. One unit is two squares.
pub fn checkerboard(rng: &mut Rng) -> Pattern {
    let (dark, light) = pair(rng);
    let (dark, light, seed) = (dark.rgb(), light.rgb(), rng.seed());
    let (joint, wear) = (if rng.chance(0.4) { rng.range(0.01, 0.03) } else { 0.0 }, rng.range(0.02, 0.1));
    Box::new(move |at| {
        let (x, y) = (2.0 * at.x, 2.0 * at.y);
        let (u, v) = (off(x), off(y));
        // Inside a square both distances to its edges count; the sign says which colour it has.
        let edge = (0.5 - u.abs()).min(0.5 - v.abs());
        let odd = (floor(x + 0.5) + floor(y + 0.5)).rem_euclid(2) == 1;
        let own = 0.5 + 0.5 * cover(edge, 2.0 * at.px).min(1.0);
        let t = if odd { own } else { 1.0 - own };
        let stain = 1.0 + wear * fractal(at.x, at.y, seed, 3, 0.5);
        let colour = dark.mix(light, t) * stain;
        colour.mix(Rgb([0.2; 3]), cover(joint - edge, 2.0 * at.px) * if joint > 0.0 { 0.8 } else { 0.0 })
    })
}

/// Stars of five points, printed in rows or scattered. One unit is about the distance of two.
pub fn stars(rng: &mut Rng) -> Pattern {
    let (dark, light) = pair(rng);
    let (ground, star) = if rng.chance(0.6) { (dark.rgb(), light.rgb()) } else { (light.rgb(), dark.rgb()) };
    let (size, deep, seed) = (rng.range(0.3, 0.42), rng.range(0.38, 0.52), rng.seed());
    let (staggered, loose, turned) = (rng.chance(0.6), rng.range(0.0, 0.1), rng.range(0.0, 0.5));
    Box::new(move |at| {
        let row = floor(at.y);
        let x = at.x + if staggered { 0.5 * row.rem_euclid(2) as f32 } else { 0.0 };
        let h = hash(floor(x), row, seed);
        let (u, v) = (fract(x) - 0.5 + loose * (unit(h) - 0.5), fract(at.y) - 0.5 + loose * (unit2(h) - 0.5));
        // The edge between a point and the notch beside it, mirrored onto every tenth of the star.
        let tenth = off(5.0 * (angle(u, v) + 0.25 + turned * (unit2(h >> 5) - 0.5) / 5.0)).abs() / 5.0;
        let from = (u * u + v * v).sqrt();
        let (along, across) = (from * sine(tenth + 0.25), from * sine(tenth));
        let notch = (deep * size * 0.809, deep * size * 0.588);
        let (dx, dy) = (notch.0 - size, notch.1);
        let long = (dx * dx + dy * dy).sqrt();
        let inside = (-dy * (along - size) + dx * across) / -long;
        ground.mix(star, cover(-inside, at.px))
    })
}

/// Bands around many hearts, each of its own width. One unit is about the distance of two hearts.
pub fn agate(rng: &mut Rng) -> Pattern {
    let bands: Vec<Rgb> = scheme(rng, 6).into_iter().map(|tone| Lch(tone.0, tone.1.min(0.14), tone.2).rgb()).collect();
    let (seed, fine, bend) = (rng.seed(), rng.range(9.0, 15.0), rng.range(0.12, 0.25));
    Box::new(move |at| {
        let wave = |seed| bend * fractal(at.x * 1.3, at.y * 1.3, seed, 2, 0.4);
        let heart = cell(at.x + wave(seed), at.y + wave(seed ^ 1), 0.8, seed ^ 2);
        let depth = fine * heart.border * (0.8 + 0.4 * unit2(heart.id));
        let number = floor(depth);
        let tone = |number: i32| bands[(hash(number, 7, heart.id) % 6) as usize];
        let edge = cover(depth - number as f32 - 0.5, fine * at.px + 0.3);
        tone(number).mix(tone(number + 1), edge) * (1.0 + 0.05 * noise(at.x * 5.0, at.y * 5.0, seed ^ 3))
    })
}

/// Blades over blades. One unit is about the length of a blade.
pub fn grass(rng: &mut Rng) -> Pattern {
    let hue = if rng.chance(0.8) { rng.range(112.0, 140.0) } else { rng.range(75.0, 105.0) };
    let green = any(rng, ((0.5, 0.68), (0.09, 0.16), (hue, hue)));
    let blades: Vec<Rgb> = (0..8).map(|_| green.near(rng, 0.1, 0.03, 14.0).rgb()).collect();
    let (soil, seed) = (Lch(rng.range(0.16, 0.28), 0.04, hue - 20.0).rgb(), rng.seed());
    let (thin, lean) = (rng.range(0.1, 0.16), rng.range(0.25, 0.55));
    let layers: [(Turn, f32, f32); 5] =
        [0, 1, 2, 3, 4].map(|layer| (Turn::new(rng.range(-lean, lean)), rng.range(0.0, 50.0), 0.55 + 0.12 * layer as f32));
    Box::new(move |at| {
        let mut colour = soil * (1.0 + 0.3 * noise(at.x * 4.0, at.y * 4.0, seed));
        for (index, &(turn, shift, light)) in layers.iter().enumerate() {
            let (x, y) = turn.apply(at.x, at.y);
            let (x, y) = ((x + shift + 0.12 * sine(0.4 * y + shift)) / thin, y);
            let column = floor(x);
            let h = hash(column, 3, seed ^ index as u32);
            let row = y + unit(h);
            let own = hash(column, floor(row), h);
            // A blade narrows towards its tip, and its midrib is lighter.
            let width = 0.5 * smooth(0.02, 0.5, fract(row)) * (0.55 + 0.4 * unit2(own));
            let side = fract(x) - 0.5 - 0.2 * (unit(own) - 0.5);
            let rib = 0.12 * smooth(0.12, 0.0, side.abs());
            let shade = light * (0.7 + 0.35 * (1.0 - fract(row))) + rib;
            colour = colour.mix(blades[(own & 7) as usize] * shade, cover(thin * (width - side.abs()), at.px));
        }
        colour
    })
}

/// Bare metal that rust has eaten into: blotches with flaking rims. One unit is about a blotch.
pub fn rust(rng: &mut Rng) -> Pattern {
    let paint = if rng.chance(0.5) {
        any(rng, ((0.45, 0.75), (0.0, 0.02), (200.0, 280.0)))
    } else {
        any(rng, ((0.4, 0.8), (0.03, 0.12), (130.0, 270.0)))
    };
    let old = Lch(rng.range(0.24, 0.34), rng.range(0.05, 0.08), rng.range(35.0, 48.0)).rgb();
    let fresh = Lch(rng.range(0.5, 0.62), rng.range(0.1, 0.15), rng.range(48.0, 62.0)).rgb();
    let (paint, seed, eaten) = (paint.rgb(), rng.seed(), rng.range(-0.2, 0.15));
    let (pitted, streaks) = (rng.range(0.15, 0.35), rng.range(0.03, 0.1));
    Box::new(move |at| {
        let field = fractal(at.x, at.y, seed, 5, 0.55) - eaten;
        let (pits, tone) = (fractal(at.x * 6.0, at.y * 6.0, seed ^ 1, 3, 0.6), fractal(at.x * 2.3, at.y * 2.3, seed ^ 2, 3, 0.5));
        let rusty = old.mix(fresh, smooth(-0.5, 0.6, tone)) * (1.0 + pitted * pits);
        let stained = 0.6 * smooth(-0.35, 0.0, field);
        let bare = paint.mix(fresh, stained) * (1.0 + streaks * noise(at.x * 0.8, at.y * 8.0, seed ^ 3));
        // Where the paint lifts off, its rim is light and throws a shadow onto the rust.
        let rim = 0.35 * smooth(0.06, 0.0, field.abs());
        (bare * (1.0 + rim)).mix(rusty * (1.0 - rim), cover(field * 0.4, at.px))
    })
}

/// A sheet with round holes, each row between those of the last. One unit is the distance of two holes.
pub fn perforated_metal(rng: &mut Rng) -> Pattern {
    let metal = if rng.chance(0.75) {
        any(rng, ((0.5, 0.82), (0.0, 0.02), (200.0, 280.0)))
    } else {
        any(rng, ((0.3, 0.75), (0.03, 0.12), (0.0, 360.0)))
    };
    let hole = Lch(rng.range(0.05, 0.2), 0.02, 250.0).rgb();
    let (metal, seed, radius) = (metal.rgb(), rng.seed(), rng.range(0.26, 0.36));
    let (brushed, lit, lip) = (rng.range(0.03, 0.1), Turn::new(rng.range(0.0, std::f32::consts::TAU)), rng.range(0.2, 0.5));
    Box::new(move |at| {
        let y = at.y / 0.866;
        let row = floor(y + 0.5);
        let (u, v) = (off(at.x + 0.5 * row.rem_euclid(2) as f32), 0.866 * (y - row as f32));
        let from = (u * u + v * v).sqrt();
        let scratches = brushed * (noise(at.x * 0.8, at.y * 9.0, seed) + detail(at.x * 2.0, at.y * 28.0, seed ^ 1, 0.06, at.px));
        let gloss = 0.15 * fractal(at.x * 0.15, at.y * 0.15, seed ^ 2, 2, 0.5);
        // The punched edge catches the light on one side and is dark on the other.
        let facing = lit.apply(u, v).0 / from.max(0.05);
        let rim = lip * facing * smooth(0.1, 0.0, (from - radius).abs());
        (metal * (1.0 + scratches + gloss + rim)).mix(hole * (1.0 - 0.5 * facing), cover(radius - from, at.px))
    })
}

/// Ridges of one width that wander, fork and end, as brain coral has them: where a noise of one wavelength changes its sign. One unit is a ridge and its furrow.
pub fn labyrinth(rng: &mut Rng) -> Pattern {
    let (dark, light) = pair(rng);
    let (dark, light, seed) = (dark.rgb(), light.rgb(), rng.seed());
    let (lit, share) = (Turn::new(rng.range(0.0, std::f32::consts::TAU)), rng.range(-0.1, 0.1));
    let soft = rng.range(0.1, 0.5);
    // Plane waves of one length in every direction: their sum has ridges as wide as a wave, and no direction.
    let waves: [(Turn, f32); 9] = std::array::from_fn(|i| (Turn::new((i as f32 + rng.unit()) * std::f32::consts::PI / 9.0), rng.unit()));
    Box::new(move |at| {
        let (x, y) = (at.x + 0.5 * noise(at.x * 0.3, at.y * 0.3, seed), at.y + 0.5 * noise(at.x * 0.3, at.y * 0.3, seed ^ 1));
        let field: f32 = waves.iter().map(|(turn, phase)| sine(turn.apply(x, y).0 + phase)).sum::<f32>() / 3.0;
        let (_, du, dv) = noise_and_slope(at.x * 1.5, at.y * 1.5, seed ^ 2);
        let relief = 1.0 + 0.1 * soft * lit.apply(du, dv).0;
        let inside = cover((field - share) * 0.16, at.px + 0.1 * soft);
        dark.mix(light, inside) * (relief * (1.0 - soft * 0.3 * smooth(0.8, 0.0, field.abs())))
    })
}
