//! Air and water.

use crate::noise::{cell, floor, fractal, hash, mix, noise, sine, smooth, unit, unit2};
use crate::palette::{Lch, any};
use crate::pattern::{Pattern, Rgb, Turn, cover};
use crate::rng::Rng;

/// Clear spheres of many sizes, bright at the rim, each with a glint. One unit is about a large bubble.
pub fn bubbles(rng: &mut Rng) -> Pattern {
    let hue = if rng.chance(0.7) { rng.range(190.0, 290.0) } else { rng.range(0.0, 360.0) };
    let chroma = rng.range(0.04, 0.14);
    let top = any(rng, ((0.3, 0.68), (chroma, chroma), (hue, hue))).rgb();
    let bottom = any(rng, ((0.16, 0.5), (chroma, chroma), (hue - 30.0, hue + 30.0))).rgb();
    let (iridescent, seed, bright) = (rng.range(0.0, 0.4), rng.seed(), rng.range(0.65, 0.95));
    let layers: [(Turn, f32); 4] = [0.8, 1.25, 1.9, 2.9].map(|scale| (Turn::new(rng.range(0.0, 6.3)), scale * rng.range(0.92, 1.08)));
    let glint = rng.range(0.45, 0.6);
    Box::new(move |at| {
        let mut colour = top.mix(bottom, 0.5 + 0.5 * noise(at.x * 0.5, at.y * 0.5, seed));
        for (index, &(turn, scale)) in layers.iter().enumerate().rev() {
            let (x, y) = turn.apply(at.x * scale, at.y * scale);
            let (i, j) = (floor(x), floor(y));
            let h = hash(i, j, seed ^ index as u32);
            if unit(h) > 0.8 {
                continue;
            }
            let radius = 0.24 + 0.24 * unit2(h);
            let slack = 0.98 - 2.0 * radius;
            let u = x - i as f32 - 0.5 - slack * (unit2(h ^ 0x1234) - 0.5);
            let v = y - j as f32 - 0.5 - slack * (unit2(h ^ 0x4321) - 0.5);
            let from = (u * u + v * v).sqrt() / radius;
            let inside = cover((1.0 - from) * radius, at.px * scale);
            if inside == 0.0 {
                continue;
            }
            // The glint stays up and to the left, however the lattice is turned.
            let back = turn.apply(-glint * 0.7, -glint * 0.7);
            let (gu, gv) = (u / radius - back.0, v / radius - back.1);
            let spot = smooth(0.2, 0.1, (gu * gu + gv * gv).sqrt());
            let (ou, ov) = (u / radius + back.0 * 1.1, v / radius + back.1 * 1.1);
            let echo = 0.35 * smooth(0.3, 0.0, (ou * ou + ov * ov).sqrt());
            let film = Rgb([0.0, 0.33, 0.67].map(|phase| 1.0 + iridescent * sine(phase + from + 2.0 * (u + v))));
            let rim = bright * smooth(0.72, 0.97, from) + 0.07;
            let sphere = colour * (1.0 - 0.12 * from) + film * (0.75 * rim * (1.0 - 0.3 * index as f32 / 3.0));
            colour = colour.mix(sphere.mix(Rgb([1.0; 3]), (spot + echo).min(1.0)), inside);
        }
        colour
    })
}

/// Heaps of cloud before a clear sky. One unit is about a cloud.
pub fn clouds(rng: &mut Rng) -> Pattern {
    let (sky, low, bright, shade) = match rng.below(5) {
        0..=2 => {
            let sky = any(rng, ((0.5, 0.72), (0.07, 0.14), (235.0, 260.0)));
            (sky, Lch(sky.0 + 0.13, sky.1 * 0.6, sky.2), Lch(0.98, 0.005, 90.0), any(rng, ((0.7, 0.84), (0.01, 0.03), (240.0, 280.0))))
        }
        3 => {
            let sky = any(rng, ((0.45, 0.65), (0.05, 0.1), (260.0, 310.0)));
            let glow = any(rng, ((0.78, 0.88), (0.07, 0.13), (40.0, 75.0)));
            (sky, glow, Lch(0.93, 0.06, 70.0), any(rng, ((0.5, 0.65), (0.05, 0.09), (0.0, 40.0))))
        }
        _ => {
            let sky = any(rng, ((0.36, 0.5), (0.03, 0.08), (240.0, 265.0)));
            (
                sky,
                Lch(sky.0 + 0.1, 0.03, sky.2),
                any(rng, ((0.85, 0.93), (0.0, 0.01), (240.0, 260.0))),
                any(rng, ((0.5, 0.6), (0.01, 0.03), (240.0, 270.0))),
            )
        }
    };
    let (sky, low, bright, shade, seed) = (sky.rgb(), low.rgb(), bright.rgb(), shade.rgb(), rng.seed());
    let (limit, soft, flat, rough) = (rng.range(-0.4, 0.0), rng.range(0.25, 0.6), rng.range(1.0, 1.7), rng.range(0.5, 0.58));
    Box::new(move |at| {
        let (x, y) = (at.x, at.y * flat);
        let density = fractal(x, y, seed, 5, rough);
        let cloud = smooth(limit, limit + soft, density);
        let above = if cloud > 0.0 { fractal(x - 0.08, y - 0.16, seed, 3, rough) } else { 0.0 };
        let lit = (0.62 + 0.9 * (density - above) - 0.22 * (density - limit)).clamp(0.0, 1.0);
        let ground = sky.mix(low, (0.5 + 0.5 * sine(0.12 * at.y)).clamp(0.0, 1.0));
        ground.mix(shade.mix(bright, lit), cloud)
    })
}

/// The net of light at the bottom of clear water. One unit is about a mesh.
pub fn water_caustics(rng: &mut Rng) -> Pattern {
    let hue = rng.range(200.0, 245.0);
    let water = any(rng, ((0.42, 0.68), (0.07, 0.13), (hue, hue + 10.0)));
    let deep = Lch(water.0 - rng.range(0.08, 0.16), water.1, water.2 + 12.0).rgb();
    let light = Lch(rng.range(0.92, 0.98), 0.04, hue).rgb();
    let (water, seed, bend, sharp) = (water.rgb(), rng.seed(), rng.range(0.2, 0.36), rng.range(0.14, 0.24));
    // Bright lines with a glow that fades into the mesh; knots where three meet are brighter.
    let net = |x: f32, y: f32, seed: u32, width: f32| {
        let mesh = cell(x, y, 0.9, seed);
        let line = (1.0 - mesh.border / width).max(0.0);
        line * line * (0.7 + 0.5 * mesh.centre)
    };
    Box::new(move |at| {
        let (wx, wy) = (noise(at.x * 1.1, at.y * 1.1, seed ^ 8), noise(at.x * 1.1, at.y * 1.1, seed ^ 9));
        let (x, y) = (at.x + bend * wx, at.y + bend * wy);
        let near = net(x, y, seed, sharp);
        let far = net(x * 1.2 - y * 0.8 + 3.7, x * 0.8 + y * 1.2 - 1.2, seed ^ 0x77, sharp * 1.3);
        let swell = noise(at.x * 0.6, at.y * 0.6, seed ^ 5);
        let ground = deep.mix(water, 0.5 + 0.25 * (swell + wx));
        let swell = mix(0.75, 1.1, 0.5 + 0.5 * swell);
        ground.mix(light, ((near + 0.45 * far) * swell).clamp(0.0, 1.0))
    })
}
