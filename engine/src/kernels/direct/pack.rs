//! Weights in the order in which the tiles read them.

use std::marker::PhantomData;

use super::super::element::Packs;
use super::super::memory::Packed;
use super::super::tile;
use super::super::{ConvShape, Isa};
use super::{DEPTH, Direct, FEW_CHANNELS, RUNS, Run};

/// How sums of whole numbers become values of the output, see [`super::super::ConvInt8`].
#[derive(Debug, Clone)]
pub struct Rescale {
    /// For each output channel, what its sum is multiplied by and what is added then.
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// What the residual is multiplied by.
    pub residual: f32,
    /// Bounds of the result, the lower first; infinite where there is none.
    pub bounds: (f32, f32),
    /// Whether the bits of the sums, which begin so, are those of the number that they stand for.
    pub sums_are_floats: bool,
    /// Whether columns may be [interleaved](super::super::element::Element::INTERLEAVES): what is written is bytes.
    pub interleaved: bool,
}

/// [`Rescale`], packed as the bias is.
#[derive(Debug, Clone)]
pub(super) struct Rescaled {
    pub scale: Packed,
    pub shift: Packed,
    pub residual: f32,
    pub bounds: (f32, f32),
    pub sums_are_floats: bool,
}

/// A panel's output channels within its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// First vector, and vectors.
    pub first: usize,
    pub count: usize,
    /// Whether they lie interleaved, see [`Rescale::interleaved`]: all four vectors are full.
    pub interleaved: bool,
}

impl Columns {
    /// Where a column lies in the panel.
    fn place(self, column: usize) -> usize {
        if self.interleaved { column % 16 / 4 * 16 + column / 16 * 4 + column % 4 } else { column }
    }
}

impl<I: Packs> Direct<I> {
    /// Packs `weights` (`[out, in / groups, kh, kw]`) and `bias`, whose lengths the caller has checked.
    pub(in super::super) fn new(shape: ConvShape, weights: &[f32], bias: &[f32], isa: Isa) -> Self {
        Self::pack(shape, weights, bias, I::default(), None, isa)
    }

    /// As [`Direct::new`], for whole numbers: `start` are the bits of where sums begin (i32), and `border` is what lies outside the image.
    pub(in super::super) fn of_whole(shape: ConvShape, weights: &[f32], start: &[f32], border: I, rescale: Rescale, isa: Isa) -> Self {
        Self::pack(shape, weights, start, border, Some(rescale), isa)
    }

    fn pack(shape: ConvShape, weights: &[f32], bias: &[f32], border: I, rescale: Option<Rescale>, isa: Isa) -> Self {
        let [kh, kw] = shape.kernel;
        let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let copied = shape.groups == 1 && shape.dilation[1] == 1 && kw > 1 && group_in <= FEW_CHANNELS;
        let mut runs = Vec::new();
        for ky in 0..kh {
            if copied {
                runs.push(Run { ky, kx: 0, channel: 0, len: kw * group_in });
                continue;
            }
            for kx in 0..kw {
                let parts = group_in.div_ceil(512);
                runs.extend(tile::split(group_in, parts).map(|(channel, len)| Run { ky, kx, channel, len }));
            }
        }
        let words = |run: &Run| run.len.div_ceil(I::OF_A_WORD);
        let depth: usize = runs.iter().map(words).sum();
        let wanted = depth.div_ceil(depth.div_ceil(DEPTH));
        let mut blocks: Vec<(usize, usize, usize)> = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            match blocks.last_mut() {
                Some((_, count, depth)) if *depth + words(run) / 2 < wanted && *count < RUNS => {
                    *count += 1;
                    *depth += words(run);
                }
                _ => blocks.push((i, 1, words(run))),
            }
        }
        let lanes = isa.lanes();
        let vectors = group_out.div_ceil(lanes);
        let mixes = rescale.as_ref().is_some_and(|r| r.interleaved) && lanes == 16;
        let columns = |(first, count)| Columns { first, count, interleaved: mixes && count == 4 && group_out >= (first + count) * lanes };
        let panels: Vec<Columns> = tile::panels(isa, vectors).map(columns).collect();
        let packed = Packed::new(shape.groups * depth * vectors * lanes, |to| {
            for (group, panel) in (0..shape.groups).flat_map(|group| panels.iter().map(move |panel| (group, panel))) {
                let Columns { first, count, .. } = *panel;
                let width = count * lanes;
                let mut at = (group * vectors + first) * depth * lanes;
                // A few words of each column at a time, so that both what is read and what is written stays in cache.
                for (run, part) in
                    runs.iter().flat_map(|run| (0..words(run)).step_by(64).map(move |part| (run, part..words(run).min(part + 64))))
                {
                    for column in 0..width.min(group_out - first * lanes) {
                        let out = group * group_out + first * lanes + column;
                        let weight = |value: usize| {
                            let (kx, channel) = if copied { (value / group_in, value % group_in) } else { (run.kx, run.channel + value) };
                            // Beyond the run there is room in its last word.
                            if value < run.len { weights[((out * group_in + channel) * kh + run.ky) * kw + kx] } else { 0.0 }
                        };
                        for (line, word) in part.clone().enumerate() {
                            to[at + line * width + panel.place(column)] = I::word(word * I::OF_A_WORD, weight);
                        }
                    }
                    at += part.len() * width;
                }
            }
        });
        let by_vector = |values: &[f32]| {
            Packed::new(shape.groups * vectors * lanes, |to| {
                for (to, values) in to.chunks_mut(vectors * lanes).zip(values.chunks(group_out)) {
                    for panel in &panels {
                        let first = panel.first * lanes;
                        for (column, value) in values[first..].iter().take(panel.count * lanes).enumerate() {
                            to[first + panel.place(column)] = *value;
                        }
                    }
                }
            })
        };
        let bias = by_vector(bias);
        let rescale = rescale.map(|r| {
            let Rescale { scale, shift, residual, bounds, sums_are_floats, .. } = r;
            Rescaled { scale: by_vector(&scale), shift: by_vector(&shift), residual, bounds, sums_are_floats }
        });
        let longest = runs.iter().map(words).max().unwrap_or(0);
        // A run of bytes may be read to the end of its last word in the copy: what follows it meets weights of zero. Floats might not be numbers there.
        let len = |run: &Run| if copied && rescale.is_some() { words(run) * I::OF_A_WORD } else { run.len };
        let lens = runs.iter().map(|run| len(run) as u32).collect();
        let outside = Packed::new(longest, |to| I::of_words_mut(to).fill(border));
        Self { shape, isa, weights: packed, bias, outside, border, rescale, runs, lens, depth, panels, blocks, copied, of: PhantomData }
    }
}
