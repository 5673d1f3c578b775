//! Running a plan.

use super::steps::{self, Map, MapMut};
use super::{Plan, Step, View};
use crate::kernels::{self, Activation, ConvArgs, Isa, elementwise};

/// Memory that a run needs, kept between runs.
#[derive(Debug, Default)]
pub struct Buffers {
    arena: Vec<f32>,
    scratch: Vec<f32>,
    images: usize,
}

impl Buffers {
    /// Grows to what `plan` needs for `images` at once.
    fn fit(&mut self, plan: &Plan, images: usize) {
        if self.images < images {
            // Room to start on a cache line.
            self.arena.resize(plan.arena * images + 16, 0.0);
            self.scratch.resize(plan.scratch(images), 0.0);
            self.images = images;
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.arena.capacity() + self.scratch.capacity()) * size_of::<f32>()
    }
}

impl Plan {
    /// Elements of scratch memory for up to `images` at once: fewer images may need more, for blocks are made even.
    fn scratch(&self, images: usize) -> usize {
        let of = |step: &Step| match step {
            Step::Conv { conv, .. } => (1..=images).map(|images| conv.scratch(images)).max().unwrap_or(0),
            _ => 0,
        };
        self.steps.iter().map(of).max().unwrap_or(0)
    }

    /// Runs `images` at once: each of `inputs` and `outputs` holds that many images in tract's order (channels, rows, columns).
    ///
    /// # Panics
    /// Where the lengths are not what the plan says; callers check.
    pub(crate) fn run(&self, images: usize, inputs: &[&[f32]], outputs: &mut [&mut [f32]], buffers: &mut Buffers) {
        self.run_watched(images, inputs, outputs, buffers, &mut |_| ());
    }

    /// [`Plan::run`], telling `done` the number of each step that has just run.
    pub(crate) fn run_watched(
        &self,
        images: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        buffers: &mut Buffers,
        done: &mut dyn FnMut(usize),
    ) {
        buffers.fit(self, images);
        let skip = buffers.arena.as_ptr().align_offset(64).min(16);
        let mut arena = Arena { values: &mut buffers.arena[skip..], images };
        for (at, step) in self.steps.iter().enumerate() {
            arena.step(self.isa, step, inputs, outputs, &mut buffers.scratch);
            done(at);
        }
    }
}

struct Arena<'a> {
    values: &'a mut [f32],
    images: usize,
}

/// What is left and right of the buffer that is written.
struct Rest<'a> {
    below: &'a [f32],
    above: &'a [f32],
    /// Where `above` begins.
    from: usize,
    images: usize,
}

impl<'a> Rest<'a> {
    fn map(&self, view: &View) -> Map<'a> {
        let (start, end) = (view.start * self.images, (view.start + view.size) * self.images);
        let whole = if start >= self.from { &self.above[start - self.from..end - self.from] } else { &self.below[start..end] };
        Map { values: &whole[view.channel..], pitch: view.pitch, shape: view.shape, images: self.images }
    }
}

impl Arena<'_> {
    /// The buffer that `to` lies in, and all others.
    fn split(&mut self, to: &View) -> (MapMut<'_>, Rest<'_>) {
        let (start, end) = (to.start * self.images, (to.start + to.size) * self.images);
        let (below, rest) = self.values.split_at_mut(start);
        let (whole, above) = rest.split_at_mut(end - start);
        let out = MapMut { values: &mut whole[to.channel..], pitch: to.pitch, shape: to.shape, images: self.images };
        (out, Rest { below, above, from: end, images: self.images })
    }

    fn step(&mut self, isa: Isa, step: &Step, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        match step {
            Step::Import { input, to } => steps::import(inputs[*input], self.split(to).0),
            Step::Export { from, output } => {
                let rest = Rest { below: self.values, above: &[], from: usize::MAX, images: self.images };
                steps::export(rest.map(from), outputs[*output]);
            }
            Step::Conv { conv, x, residual, to } => {
                let images = self.images;
                let (out, rest) = self.split(to);
                let residual = residual.as_ref().map(|r| (rest.map(r).values, r.pitch));
                conv.run(ConvArgs {
                    images,
                    input: rest.map(x).values,
                    input_pitch: x.pitch,
                    residual,
                    output: out.values,
                    output_pitch: to.pitch,
                    scratch,
                });
            }
            Step::Pool { shape, x, to, activation } => {
                let (images, (mut out, rest)) = (self.images, self.split(to));
                kernels::pool(isa, shape, images, (rest.map(x).values, x.pitch), (&mut *out.values, to.pitch));
                steps::activate(&mut out, *activation);
            }
            Step::SumPool { window, x, to, activation } => {
                let (mut out, rest) = self.split(to);
                steps::sum_pool(window, rest.map(x), &mut out);
                steps::activate(&mut out, *activation);
            }
            Step::GlobalSum { factor, x, to, activation } => {
                let (images, (mut out, rest)) = (self.images, self.split(to));
                let [h, w, c] = x.shape;
                kernels::global_average(isa, (images, h * w, c), (rest.map(x).values, x.pitch), (&mut *out.values, to.pitch));
                // Mostly the factor is the share of a pixel, and the sum is the average.
                let more = factor * (h * w) as f32;
                if (more - 1.0).abs() > f32::EPSILON {
                    steps::times(more, &mut out);
                }
                steps::activate(&mut out, *activation);
            }
            Step::ScaleShift { scale, shift, x, to, activation } => {
                let (out, rest) = self.split(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map(x).values, x.pitch));
                elementwise::scale_shift(isa, size, from, Some(scale), Some(shift), *activation, (out.values, to.pitch));
            }
            Step::Add { x, y, to, activation } => {
                let (out, rest) = self.split(to);
                let (a, b) = ((rest.map(x).values, x.pitch), (rest.map(y).values, y.pitch));
                elementwise::add(isa, (out.pixels(), x.shape[2]), a, b, *activation, (out.values, to.pitch));
            }
            Step::Mul { x, y, to, activation } => {
                let (mut out, rest) = self.split(to);
                steps::of_two(rest.map(x), rest.map(y), &mut out, |a, b| a * b);
                steps::activate(&mut out, *activation);
            }
            Step::MulChannels { x, y, to, activation } => {
                let (images, (out, rest)) = (self.images, self.split(to));
                let (a, b) = ((rest.map(x).values, x.pitch), (rest.map(y).values, y.pitch));
                let size = (images, x.shape[0] * x.shape[1], x.shape[2]);
                elementwise::scale_images(isa, size, a, b, *activation, (out.values, to.pitch));
            }
            Step::Copy { x, to, activation: Activation::None } => {
                let (mut out, rest) = self.split(to);
                steps::copy(rest.map(x), &mut out);
            }
            Step::Copy { x, to, activation } => {
                let (out, rest) = self.split(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map(x).values, x.pitch));
                elementwise::scale_shift(isa, size, from, None, None, *activation, (out.values, to.pitch));
            }
            Step::Shuffle { groups, x, to } => {
                let (mut out, rest) = self.split(to);
                steps::shuffle(*groups, rest.map(x), &mut out);
            }
            Step::Pad { pad, x, to } => {
                let (mut out, rest) = self.split(to);
                steps::pad(*pad, rest.map(x), &mut out);
            }
        }
    }
}
