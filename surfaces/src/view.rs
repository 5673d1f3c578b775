//! How a surface is seen: its scale, turned, bent, a little from the side, in uneven light.

use crate::class::Kind;
use crate::noise::{mix, sine, smooth};
use crate::pattern::{At, Pattern, Rgb, Turn};
use crate::rng::Rng;

/// Coordinates and light are worked out exactly at every so many pixels, and linearly between.
const STEP: usize = 4;

/// What part of the picture is wanted, in units of its short side from its middle: a crop is drawn as such, not cut out of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub x: f32,
    pub y: f32,
    /// The part's short side.
    pub zoom: f32,
    pub mirrored: bool,
}

impl Frame {
    /// The whole picture.
    pub const WHOLE: Self = Self { x: 0.0, y: 0.0, zoom: 1.0, mirrored: false };
}

/// A wave that displaces what it passes over, or darkens it.
#[derive(Clone, Copy, Debug)]
struct Wave {
    x: f32,
    y: f32,
    phase: f32,
    height: f32,
}

impl Wave {
    /// A wave in a random direction whose slope is at most `slope`, some 0.5 to 1.6 short sides long.
    fn new(rng: &mut Rng, slope: f32) -> Self {
        let (length, direction) = (rng.log_range(0.5, 1.6), rng.range(0.0, std::f32::consts::TAU));
        let height = slope * length / std::f32::consts::TAU;
        Self { x: direction.cos() / length, y: direction.sin() / length, phase: rng.unit(), height }
    }

    fn at(&self, u: f32, v: f32) -> f32 {
        self.height * sine(self.x * u + self.y * v + self.phase)
    }
}

/// One way of seeing a surface.
pub(crate) struct View {
    repeats: f32,
    turn: Turn,
    offset: (f32, f32),
    tilt: (f32, f32),
    waves: [Wave; 4],
    light: Light,
}

struct Light {
    exposure: f32,
    slope: (f32, f32),
    vignette: f32,
    /// How much light a shadow leaves, where its edge is and how soft; and the wave that bends the edge.
    shadow: Option<(f32, Turn, f32, f32, Wave)>,
    /// The colour of the light.
    tint: Rgb,
}

/// What is known at a node of the grid: where on the surface, the pixel's width there, the light.
type Node = [f32; 4];

impl View {
    pub fn new(rng: &mut Rng, kind: &Kind) -> Self {
        let degrees = if kind.turn > 90.0 { rng.range(-180.0, 180.0) } else { kind.turn * rng.range(-1.0, 1.0) * rng.unit() };
        let tilt = if rng.chance(0.4) { 0.0 } else { 0.45 * rng.unit() };
        let towards = rng.range(0.0, std::f32::consts::TAU);
        let slope = if rng.chance(0.25) { 0.0 } else { 0.28 * kind.warp * rng.unit() };
        Self {
            repeats: rng.log_range(kind.repeats.0, kind.repeats.1),
            turn: Turn::new(degrees.to_radians()),
            offset: (rng.range(-40.0, 40.0), rng.range(-40.0, 40.0)),
            tilt: (tilt * towards.cos(), tilt * towards.sin()),
            waves: std::array::from_fn(|_| Wave::new(rng, slope)),
            light: Light::new(rng),
        }
    }

    /// Draws the part `frame` of a picture, `width` by `height` pixels, before the camera.
    pub fn render(&self, pattern: &Pattern, frame: Frame, width: usize, height: usize) -> Vec<[f32; 3]> {
        let mut pixels = Vec::with_capacity(width * height);
        let Rgb(tint) = self.light.tint;
        let nodes = width.div_ceil(STEP) + 1;
        let grid = Grid { view: self, frame, width: width as f32, height: height as f32 };
        let (mut above, mut below): (Vec<Node>, Vec<Node>) = (grid.row(0, nodes), Vec::new());
        for y in 0..height {
            let step = y % STEP;
            if step == 0 {
                if y > 0 {
                    above = below;
                }
                below = grid.row(y + STEP, nodes);
            }
            let down = step as f32 / STEP as f32;
            let at = |node: usize| -> Node { std::array::from_fn(|i| mix(above[node][i], below[node][i], down)) };
            let mut right = at(0);
            for node in 0..nodes - 1 {
                let mut here = right;
                right = at(node + 1);
                let slope: Node = std::array::from_fn(|i| (right[i] - here[i]) / STEP as f32);
                for _ in node * STEP..width.min((node + 1) * STEP) {
                    let Rgb([red, green, blue]) = pattern(At { x: here[0], y: here[1], px: here[2] }) * here[3];
                    pixels.push([red * tint[0], green * tint[1], blue * tint[2]]);
                    here = std::array::from_fn(|i| here[i] + slope[i]);
                }
            }
        }
        pixels
    }

    /// The node at a point in units of the short side, `pixel` being a pixel's width and `reach` the largest coordinate in the picture.
    fn node(&self, u: f32, v: f32, pixel: f32, reach: f32) -> Node {
        let depth = 1.0 + (self.tilt.0 * u + self.tilt.1 * v) * 0.5 / reach.max(0.5);
        let (a, b) = (u / depth, v / depth);
        let x = a + self.waves[0].at(a, b) + self.waves[1].at(a, b);
        let y = b + self.waves[2].at(a, b) + self.waves[3].at(a, b);
        let (x, y) = self.turn.apply(x * self.repeats, y * self.repeats);
        [x + self.offset.0, y + self.offset.1, pixel * self.repeats / depth, self.light.at(u, v, reach)]
    }
}

/// The pixels of a picture and where they are seen.
struct Grid<'a> {
    view: &'a View,
    frame: Frame,
    width: f32,
    height: f32,
}

impl Grid<'_> {
    fn row(&self, y: usize, nodes: usize) -> Vec<Node> {
        let short = self.width.min(self.height);
        let reach = 0.5 * self.width.max(self.height) / short;
        let pixel = self.frame.zoom / short;
        let v = self.frame.y + (y as f32 + 0.5 - self.height / 2.0) * pixel;
        let sign = if self.frame.mirrored { -1.0 } else { 1.0 };
        (0..nodes)
            .map(|node| {
                let u = self.frame.x + sign * ((node * STEP) as f32 + 0.5 - self.width / 2.0) * pixel;
                self.view.node(u, v, pixel, reach)
            })
            .collect()
    }
}

impl Light {
    fn new(rng: &mut Rng) -> Self {
        let (strength, from) = (0.45 * rng.unit() * rng.unit(), rng.range(0.0, std::f32::consts::TAU));
        let shadow = rng.chance(0.2).then(|| {
            let edge = rng.range(-0.3, 0.3);
            (rng.range(0.5, 0.85), Turn::new(rng.range(0.0, std::f32::consts::TAU)), edge, rng.log_range(0.05, 0.4), Wave::new(rng, 0.6))
        });
        let warm = rng.range(-0.09, 0.09) * rng.unit();
        let green = rng.range(-0.03, 0.03);
        Self {
            exposure: rng.range(0.78, 1.1),
            slope: (strength * from.cos(), strength * from.sin()),
            vignette: 0.35 * rng.unit() * rng.unit(),
            shadow,
            tint: Rgb([1.0 + warm, 1.0 + green, 1.0 - warm]),
        }
    }

    fn at(&self, u: f32, v: f32, reach: f32) -> f32 {
        let (u, v) = (u / reach, v / reach);
        let mut light = self.exposure * (1.0 + self.slope.0 * u + self.slope.1 * v) * (1.0 - self.vignette * (u * u + v * v));
        if let Some((left, turn, edge, softness, wave)) = &self.shadow {
            let (across, along) = turn.apply(u, v);
            light *= mix(*left, 1.0, smooth(-softness, *softness, across - edge + wave.at(across, along)));
        }
        light.max(0.0)
    }
}
