//! Cloth: colours that come from threads going over and under one another.

use crate::noise::{detail, fade, floor, fract, hash, mix, sine, smooth, unit, unit2};
use crate::palette::{Lch, any, pair, scheme};
use crate::pattern::{At, Bands, Pattern, Rgb, cover, off, stripe};
use crate::rng::Rng;

/// A twill's fine diagonal: how much of the warp is seen, 0.5 where it is too fine to be seen. `threads` fit into a unit.
fn twill(at: At, threads: f32, strength: f32) -> f32 {
    let diagonal = 2.0 * off((at.x + at.y) * threads / 4.0).abs();
    0.5 + strength * fade(4.0 / threads, at.px) * (2.0 * smooth(0.3, 0.7, diagonal) - 1.0)
}

/// White, one colour, and their middle where their stripes cross. One unit is a white and a coloured stripe.
pub fn gingham(rng: &mut Rng) -> Pattern {
    let colour = any(rng, ((0.28, 0.66), (0.08, 0.24), (0.0, 360.0)));
    let ground = any(rng, ((0.93, 0.99), (0.0, 0.025), (60.0, 110.0))).rgb();
    let (colour, threads, strength) = (colour.rgb(), rng.range(12.0, 24.0), rng.range(0.05, 0.3));
    let share = rng.range(0.46, 0.54);
    Box::new(move |at| {
        let (across, down) = (stripe(at.x, share, at.px), stripe(at.y, share, at.px));
        ground.mix(colour, mix(across, down, twill(at, threads, strength)))
    })
}

/// Four dark and four light threads both ways, in a 2/2 twill: broken checks with teeth. One unit is eight threads.
pub fn houndstooth(rng: &mut Rng) -> Pattern {
    let (dark, light) = if rng.chance(0.5) {
        (any(rng, ((0.12, 0.3), (0.0, 0.05), (0.0, 360.0))), any(rng, ((0.88, 0.98), (0.0, 0.04), (60.0, 110.0))))
    } else {
        pair(rng)
    };
    let (dark, light, fine) = (dark.rgb(), light.rgb(), rng.chance(0.4));
    let seed = rng.seed();
    Box::new(move |at| {
        let px = at.px;
        let (x, y) = if fine { (stepped(at.x, px), stepped(at.y, px)) } else { (at.x, at.y) };
        let diagonal = stripe(2.0 * (x + y), 0.5, 2.8 * px);
        let dye = mix(stripe(at.x - 0.25, 0.5, px), stripe(at.y - 0.25, 0.5, px), diagonal);
        light.mix(dark, dye) * (1.0 + 0.05 * detail(at.x * 16.0, at.y * 16.0, seed, 0.12, px))
    })
}

/// Thread by thread: the middle of the thread that `x` lies in, with a soft step from each to the next.
fn stepped(x: f32, px: f32) -> f32 {
    let threads = x * 8.0 - 0.5;
    let whole = floor(threads) as f32;
    (whole + cover(threads - whole - 0.5, 8.0 * px) + 0.5) / 8.0
}

/// The same stripes of many widths and colours both ways, mirrored at their ends. One unit is one sett.
pub fn tartan(rng: &mut Rng) -> Pattern {
    let hue = rng.range(0.0, 360.0);
    let ground = any(rng, ((0.22, 0.5), (0.06, 0.2), (hue, hue)));
    let apart = rng.range(80.0, 280.0);
    let second = Lch(if ground.0 > 0.36 { rng.range(0.14, 0.24) } else { rng.range(0.38, 0.55) }, rng.range(0.03, 0.16), hue + apart);
    let lines = [
        any(rng, ((0.78, 0.97), (0.0, 0.16), (60.0, 110.0))),
        any(rng, ((0.45, 0.75), (0.12, 0.25), (0.0, 360.0))),
        any(rng, ((0.1, 0.2), (0.0, 0.03), (0.0, 360.0))),
    ];
    let mut half = vec![(rng.range(3.0, 5.5), ground.rgb()), (rng.range(0.5, 0.9), lines[0].rgb()), (rng.range(0.8, 2.0), ground.rgb())];
    half.push((rng.range(2.0, 4.0), second.rgb()));
    half.push((rng.range(0.5, 1.0), lines[1 + rng.below(2)].rgb()));
    if rng.chance(0.6) {
        half.extend([(rng.range(0.5, 1.2), second.rgb()), (rng.range(0.4, 0.8), lines[1].rgb())]);
    }
    half.push((rng.range(1.0, 3.0), second.rgb()));
    let mirrored: Vec<(f32, Rgb)> = half.iter().chain(half.iter().rev()).copied().collect();
    let (bands, threads, strength) = (Bands::new(&mirrored), rng.range(36.0, 70.0), rng.range(0.2, 0.45));
    Box::new(move |at| bands.at(at.x, at.px).mix(bands.at(at.y, at.px), twill(at, threads, strength)))
}

/// Diamonds corner to corner, and thin lines that cross them. One unit is the width of a diamond.
pub fn argyle(rng: &mut Rng) -> Pattern {
    let colours = scheme(rng, 4);
    let [ground, first, second, line] = [0, 1, 2, 3].map(|i| colours[i].rgb());
    let (tall, width, dashes) = (rng.range(1.3, 1.8), rng.range(0.045, 0.075), rng.range(8.0, 14.0));
    let (dashed, knitted, seed) = (rng.chance(0.5), rng.range(0.0, 0.09), rng.seed());
    Box::new(move |at| {
        let px = at.px * 1.25;
        let (a, b) = (at.x + at.y / tall, at.x - at.y / tall);
        let (even_a, even_b) = (stripe(0.5 * a - 0.25, 0.5, px * 0.5), stripe(0.5 * b - 0.25, 0.5, px * 0.5));
        let (one, other) = (even_a * even_b, (1.0 - even_a) * (1.0 - even_b));
        let cloth = first * one + second * other + ground * (1.0 - one - other);
        let stitch =
            |along: f32| if dashed { mix(1.0, stripe(along * dashes / 2.0, 0.6, px * dashes / 2.0), fade(2.0 / dashes, px)) } else { 1.0 };
        let lines = (stripe(a - 0.5, width, px) * stitch(b)).max(stripe(b - 0.5, width, px) * stitch(a));
        let thread = knitted * detail(at.x * 20.0, at.y * 30.0, seed, 0.06, at.px);
        cloth.mix(line, lines) * (1.0 + thread)
    })
}

/// Broad strips over and under one another, each whole or of some strands. One unit is from one strip to the next.
pub fn basket_weave(rng: &mut Rng) -> Pattern {
    let straw = if rng.chance(0.65) {
        any(rng, ((0.55, 0.82), (0.04, 0.12), (50.0, 95.0)))
    } else {
        any(rng, ((0.45, 0.85), (0.02, 0.17), (0.0, 360.0)))
    };
    let other = if rng.chance(0.35) { straw.near(rng, 0.16, 0.04, 30.0) } else { straw.near(rng, 0.04, 0.01, 6.0) };
    let (straw, other, gap) = (straw.rgb(), other.rgb(), Lch(0.17, 0.03, 60.0).rgb());
    let strands = [1.0, 1.0, 2.0, 3.0][rng.below(4)];
    let width = if strands == 1.0 { rng.range(0.62, 0.76) } else { rng.range(0.84, 0.92) };
    let (round, dip, fibre, seed) = (rng.range(0.2, 0.45), rng.range(0.2, 0.32), rng.range(0.05, 0.2), rng.seed());
    Box::new(move |at| {
        let (i, j) = (floor(at.x), floor(at.y));
        let (u, v) = (at.x - i as f32 - 0.5, at.y - j as f32 - 0.5);
        let first_above = (i + j).rem_euclid(2) == 0;
        // The strips that cross here: the lower one, then the upper one.
        let mut colour = gap;
        for above in [false, true] {
            let lies = first_above == above;
            let (along, across, lane, dye) = if lies { (u, v, j, straw) } else { (v, u, i, other) };
            let strand = off(across * strands + if strands == 2.0 { 0.5 } else { 0.0 });
            let inside = cover((0.5 * width - strand.abs()) / strands, at.px);
            if inside == 0.0 {
                continue;
            }
            let height = sine(0.5 * along + 0.25) * if above { dip } else { -2.0 * dip };
            let tone = 0.9 + 0.2 * unit(hash(lane, i32::from(lies), seed));
            let (x, y) = if lies { (at.x * 2.0, at.y * 14.0) } else { (at.x * 14.0, at.y * 2.0) };
            let grain = 1.0 + fibre * detail(x, y, seed, 0.1, at.px);
            colour = colour.mix(dye * (tone * grain * (0.82 + height - round * 4.0 * strand * strand)), inside);
        }
        colour
    })
}

/// Columns of stitches, each a V of two plump legs. One unit is the width of a column.
pub fn knit(rng: &mut Rng) -> Pattern {
    let count = [1, 1, 2, 3][rng.below(4)];
    let yarns: Vec<Lch> = if count == 1 { vec![any(rng, ((0.35, 0.9), (0.0, 0.17), (0.0, 360.0)))] } else { scheme(rng, count) };
    let yarns: Vec<Rgb> = yarns.iter().map(|yarn| yarn.near(rng, 0.02, 0.0, 0.0).rgb()).collect();
    let (rows, slant) = (rng.range(1.15, 1.5), rng.range(0.75, 1.1));
    let (fair, seed, fuzz) = (rng.below(3), rng.seed(), rng.range(0.05, 0.2));
    let motif = 2 + rng.below(4) as i32;
    Box::new(move |at| {
        let column = floor(at.x);
        let side = at.x - column as f32 - 0.5;
        let reach = side.abs() * 2.0;
        let height = at.y * rows + slant * reach;
        let row = floor(height);
        let across = fract(height) - 0.5;
        let yarn = match fair {
            _ if yarns.len() == 1 => 0,
            0 => row.rem_euclid(motif * yarns.len() as i32) / motif,
            1 => (row + column).rem_euclid(yarns.len() as i32),
            _ => ((row / motif + column / motif).rem_euclid(2) + i32::from(row.rem_euclid(motif) == 0)).rem_euclid(yarns.len() as i32),
        };
        let leg = (1.0 - 3.6 * across * across) * (1.0 - smooth(0.75, 1.0, reach) * 0.7) * mix(0.45, 1.0, smooth(0.0, 0.22, reach));
        let twist = detail(at.x * 5.0 + 9.0 * side.signum(), height * 7.0, seed, 0.25, at.px);
        let hair = detail(at.x * 9.0, at.y * 9.0, seed, 0.2, at.px);
        yarns[yarn as usize]
            * ((0.3 + 0.8 * leg.max(0.0)) * (1.0 + fuzz * twist + 0.3 * fuzz * hair + 0.04 * (unit2(hash(column, row, seed)) - 0.5)))
    })
}
