//! Running a plan.

use super::steps::{self, Map, MapMut};
use super::{Convolution, Plan, Step, Uniform, View};
use crate::ir::Dtype;
use crate::kernels::{self, Activation, Bf16, ConvArgs, Isa, Number, U8, elementwise};

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
    /// Words of scratch memory for up to `images` at once: fewer images may need more, for blocks are made even.
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
        let mut arena = Arena { words: &mut buffers.arena[skip..], images };
        for (at, step) in self.steps.iter().enumerate() {
            arena.step(self.isa, step, inputs, outputs, &mut buffers.scratch);
            done(at);
        }
    }
}

/// Words of 32 bits, whatever they hold.
struct Arena<'a> {
    words: &'a mut [f32],
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
    fn map<T: Number>(&self, view: &View) -> Map<'a, T> {
        let (start, end) = (view.start * self.images, (view.start + view.size) * self.images);
        let whole = if start >= self.from { &self.above[start - self.from..end - self.from] } else { &self.below[start..end] };
        Map { values: &T::of_words(whole)[view.channel..], pitch: view.pitch, shape: view.shape, images: self.images }
    }
}

/// What a layer that computes on bytes was given by mistake: `precision` lets none but those that can have them.
const NO_BYTES: &str = "a layer of bytes that does not compute on them";

/// Runs `$body` with `$T` as the type of a view's elements.
macro_rules! of_any_type {
    ($view:expr, $T:ident => $body:expr) => {
        match $view.dtype {
            Dtype::U8(_) => {
                type $T = U8;
                $body
            }
            _ => of_type!($view, $T => $body),
        }
    };
}

/// As [`of_any_type`], without bytes.
macro_rules! of_type {
    ($view:expr, $T:ident => $body:expr) => {
        match $view.dtype {
            Dtype::F32 => {
                type $T = f32;
                $body
            }
            Dtype::Bf16 => {
                type $T = Bf16;
                $body
            }
            Dtype::U8(_) => unreachable!("{NO_BYTES}"),
        }
    };
}

/// As [`of_type`], with the types of what is read and what is written. Nothing but a conversion makes bf16 of f32.
macro_rules! of_types {
    ($from:expr, $to:expr, $I:ident, $O:ident => $body:expr) => {
        match ($from.dtype, $to.dtype) {
            (Dtype::U8(_), _) | (_, Dtype::U8(_)) => unreachable!("{NO_BYTES}"),
            (Dtype::F32, _) => {
                type $I = f32;
                type $O = f32;
                $body
            }
            (Dtype::Bf16, Dtype::Bf16) => {
                type $I = Bf16;
                type $O = Bf16;
                $body
            }
            (Dtype::Bf16, Dtype::F32) => {
                type $I = Bf16;
                type $O = f32;
                $body
            }
        }
    };
}

impl Arena<'_> {
    /// The buffer that `to` lies in, and all others.
    fn split<T: Number>(&mut self, to: &View) -> (MapMut<'_, T>, Rest<'_>) {
        let (start, end) = (to.start * self.images, (to.start + to.size) * self.images);
        let (below, rest) = self.words.split_at_mut(start);
        let (whole, above) = rest.split_at_mut(end - start);
        let out = MapMut { values: &mut T::of_words_mut(whole)[to.channel..], pitch: to.pitch, shape: to.shape, images: self.images };
        (out, Rest { below, above, from: end, images: self.images })
    }

    /// What a convolution is called with.
    fn conv_args<'b, I: Number, O: Number>(
        &'b mut self,
        x: &View,
        residual: Option<&View>,
        to: &View,
        scratch: &'b mut [f32],
    ) -> ConvArgs<'b, I, O> {
        let images = self.images;
        let (out, rest) = self.split(to);
        let residual = residual.map(|r| (rest.map(r).values, r.pitch));
        let input = rest.map(x).values;
        ConvArgs { images, input, input_pitch: x.pitch, residual, output: out.values, output_pitch: to.pitch, scratch }
    }

    /// See [`Step::Convert`].
    fn convert<I: elementwise::Applies<O>, O: Number>(&mut self, isa: Isa, by: &Uniform, x: &View, to: &View, activation: Activation) {
        let (out, rest) = self.split::<O>(to);
        let (pixels, channels) = (out.pixels(), x.shape[2]);
        let side_by_side = x.pitch == channels && to.pitch == channels;
        let each = if side_by_side { by.pixels } else { 1 };
        let vector = each * channels;
        let (from, to) = ((rest.map::<I>(x).values, x.pitch * each), (out.values, to.pitch * each));
        let (scale, shift) = (Some(&by.scale[..vector]), Some(&by.shift[..vector]));
        elementwise::scale_shift(isa, (pixels / each, vector), from, scale, shift, activation, to);
    }

    fn step(&mut self, isa: Isa, step: &Step, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        let images = self.images;
        match step {
            Step::Import { input, to } => of_type!(to, T => steps::import(isa, inputs[*input], self.split::<T>(to).0)),
            Step::Export { from, output } => {
                let rest = Rest { below: self.words, above: &[], from: usize::MAX, images };
                of_any_type!(from, T => steps::export(rest.map::<T>(from), outputs[*output]));
            }
            Step::Conv { conv, x, residual, to } => match (&**conv, to.dtype) {
                (Convolution::F32(conv), _) => conv.run(self.conv_args(x, residual.as_ref(), to, scratch)),
                (Convolution::Bf16(conv), Dtype::Bf16) => conv.run(self.conv_args::<_, Bf16>(x, residual.as_ref(), to, scratch)),
                (Convolution::Bf16(conv), _) => conv.run(self.conv_args::<_, f32>(x, residual.as_ref(), to, scratch)),
                (Convolution::Int8(conv), Dtype::U8(_)) => conv.run(self.conv_args::<_, U8>(x, residual.as_ref(), to, scratch)),
                (Convolution::Int8(conv), _) => conv.run(self.conv_args::<_, f32>(x, residual.as_ref(), to, scratch)),
                (Convolution::BandedF32(two), _) => two.run(self.conv_args(x, residual.as_ref(), to, scratch)),
                (Convolution::BandedBf16(two), _) => two.run(self.conv_args(x, residual.as_ref(), to, scratch)),
            },
            Step::Pool { shape, x, to, .. } if x.dtype.quantized().is_some() => {
                let (out, rest) = self.split::<U8>(to);
                kernels::pool(isa, shape, images, (rest.map::<U8>(x).values, x.pitch), (out.values, to.pitch));
            }
            Step::Pool { shape, x, to, activation } => of_types!(x, to, I, O => {
                let (mut out, rest) = self.split::<O>(to);
                kernels::pool(isa, shape, images, (rest.map::<I>(x).values, x.pitch), (&mut *out.values, to.pitch));
                steps::activate(&mut out, *activation);
            }),
            Step::SumPool { window, x, to, activation } => of_types!(x, to, I, O => {
                let (mut out, rest) = self.split::<O>(to);
                steps::sum_pool(window, rest.map::<I>(x), &mut out);
                steps::activate(&mut out, *activation);
            }),
            Step::GlobalSum { factor, x, to, activation } if x.dtype.quantized().is_some() => {
                let (mut out, rest) = self.split::<f32>(to);
                let [h, w, c] = x.shape;
                kernels::global_average(isa, (images, h * w, c), (rest.map::<U8>(x).values, x.pitch), (&mut *out.values, to.pitch));
                let (scale, shift) = x.dtype.quantized().map_or((1.0, 0.0), |how| how.dequantize());
                let more = factor * (h * w) as f32;
                steps::each(&mut out, |mean| (mean * scale + shift) * more);
                steps::activate(&mut out, *activation);
            }
            Step::GlobalSum { factor, x, to, activation } => of_types!(x, to, I, O => {
                let (mut out, rest) = self.split::<O>(to);
                let [h, w, c] = x.shape;
                kernels::global_average(isa, (images, h * w, c), (rest.map::<I>(x).values, x.pitch), (&mut *out.values, to.pitch));
                // Mostly the factor is the share of a pixel, and the sum is the average.
                let more = factor * (h * w) as f32;
                if (more - 1.0).abs() > f32::EPSILON {
                    steps::times(more, &mut out);
                }
                steps::activate(&mut out, *activation);
            }),
            Step::Convert { by, x, to, activation } => match to.dtype {
                Dtype::U8(_) => self.convert::<f32, U8>(isa, by, x, to, *activation),
                _ => self.convert::<U8, f32>(isa, by, x, to, *activation),
            },
            Step::ScaleShift { scale, shift, x, to, activation } => of_types!(x, to, I, O => {
                let (out, rest) = self.split::<O>(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map::<I>(x).values, x.pitch));
                elementwise::scale_shift(isa, size, from, Some(scale), Some(shift), *activation, (out.values, to.pitch));
            }),
            Step::LayerNorm { epsilon, scale, shift, x, to, activation } => of_types!(x, to, I, O => {
                let (out, rest) = self.split::<O>(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map::<I>(x).values, x.pitch));
                elementwise::layer_norm(isa, size, from, *epsilon, (scale, shift), *activation, (out.values, to.pitch));
            }),
            Step::OverMean { epsilon, x, to, activation } => of_types!(x, to, I, O => {
                let (mut out, rest) = self.split::<O>(to);
                steps::over_mean(*epsilon, rest.map::<I>(x), &mut out);
                steps::activate(&mut out, *activation);
            }),
            Step::Add { x, y, to, activation } => of_type!(to, T => {
                let (out, rest) = self.split::<T>(to);
                let (a, b) = ((rest.map::<T>(x).values, x.pitch), (rest.map::<T>(y).values, y.pitch));
                elementwise::add(isa, (out.pixels(), x.shape[2]), a, b, *activation, (out.values, to.pitch));
            }),
            Step::Sub { x, y, to, activation } => of_type!(to, T => {
                let (mut out, rest) = self.split::<T>(to);
                steps::of_two(rest.map(x), rest.map(y), &mut out, |a, b| a - b);
                steps::activate(&mut out, *activation);
            }),
            Step::Mul { x, y, to, activation } => of_type!(to, T => {
                let (mut out, rest) = self.split::<T>(to);
                steps::of_two(rest.map(x), rest.map(y), &mut out, |a, b| a * b);
                steps::activate(&mut out, *activation);
            }),
            Step::MulChannels { x, y, to, activation } => of_type!(to, T => {
                let (out, rest) = self.split::<T>(to);
                let (a, b) = ((rest.map::<T>(x).values, x.pitch), (rest.map(y).values, y.pitch));
                let size = (images, x.shape[0] * x.shape[1], x.shape[2]);
                elementwise::scale_images(isa, size, a, b, *activation, (out.values, to.pitch));
            }),
            Step::Copy { x, to, activation: Activation::None } if x.dtype == to.dtype => of_any_type!(to, T => {
                let (mut out, rest) = self.split::<T>(to);
                steps::copy(rest.map(x), &mut out);
            }),
            Step::Copy { x, to, activation } if (x.dtype, to.dtype) == (Dtype::F32, Dtype::Bf16) => {
                let (out, rest) = self.split::<Bf16>(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map::<f32>(x).values, x.pitch));
                elementwise::scale_shift(isa, size, from, None, None, *activation, (out.values, to.pitch));
            }
            Step::Copy { x, to, activation } => of_types!(x, to, I, O => {
                let (out, rest) = self.split::<O>(to);
                let (size, from) = ((out.pixels(), x.shape[2]), (rest.map::<I>(x).values, x.pitch));
                elementwise::scale_shift(isa, size, from, None, None, *activation, (out.values, to.pitch));
            }),
            Step::Function { op, x, to, activation } => of_types!(x, to, I, O => {
                let (mut out, rest) = self.split::<O>(to);
                steps::function(op, rest.map::<I>(x), &mut out);
                steps::activate(&mut out, *activation);
            }),
            Step::Shuffle { groups, x, to } => of_any_type!(to, T => {
                let (mut out, rest) = self.split::<T>(to);
                steps::shuffle(*groups, rest.map(x), &mut out);
            }),
            Step::Pad { pad, x, to } => of_type!(to, T => {
                let (mut out, rest) = self.split::<T>(to);
                steps::pad(*pad, rest.map(x), &mut out);
            }),
        }
    }
}
