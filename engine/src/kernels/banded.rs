//! A pointwise convolution and the depthwise one that alone reads it, a few rows at a time: what is between is made, read and forgotten in L2, where as a
//! whole map it would go out to L3 and come back. So begin the blocks of MobileNets and EfficientNets, whose largest maps these are.

use super::conv::check;
use super::depthwise::{Depthwise, Slides};
use super::direct::Direct;
use super::element::Packs;
use super::elementwise::Applies;
use super::memory::{LINE, aligned};
use super::tile::Multiplies;
use super::{Activation, ConvArgs, ConvShape, Isa};

/// Bytes of the rows that are kept between: with the rows that are read and written they fit L2.
const BAND: usize = 320 << 10;
/// Bytes of a map up to which it stays in L2 as a whole.
const WHOLE: usize = 512 << 10;

/// A convolution's constants, as [`super::Conv::new`] takes them.
pub struct Part<'a> {
    /// Its shape.
    pub shape: ConvShape,
    /// `[out_channels, in_channels / groups, kh, kw]`.
    pub weights: &'a [f32],
    /// `[out_channels]`.
    pub bias: &'a [f32],
    /// Done to each value afterwards.
    pub activation: Activation,
}

/// The two ready to run, over maps of `I`.
#[derive(Debug, Clone)]
pub struct Banded<I> {
    first: Direct<I>,
    second: Depthwise,
    shapes: [ConvShape; 2],
    activations: [Activation; 2],
}

/// Whether two shapes, of which the second reads what the first makes in numbers of so many bytes, are such a pair, and large enough for it to pay.
pub fn bands(first: &ConvShape, second: &ConvShape, bytes: usize) -> bool {
    let pointwise = first.pointwise() && first.groups == 1;
    let [height, width] = second.input;
    let whole = height * width * second.in_channels * bytes;
    // A band holds a window at least.
    let window = (second.kernel[0] + second.stride[0]) * width * second.in_channels * bytes;
    pointwise
        && second.groups == second.in_channels
        && second.in_channels == second.out_channels
        && second.dilation == [1, 1]
        && second.kernel[0] >= second.stride[0]
        && first.output() == second.input
        && whole > WHOLE
        && window <= BAND
}

impl<I: Packs> Banded<I> {
    /// Packs both.
    ///
    /// # Panics
    /// If they are no such pair (see [`bands`]), and as [`super::Conv::new`].
    pub fn new(first: &Part<'_>, second: &Part<'_>) -> Self {
        assert!(bands(&first.shape, &second.shape, size_of::<I>()), "{:?} and {:?} are no pair", first.shape, second.shape);
        [first, second].iter().for_each(|part| part.shape.assert_fits(part.weights, part.bias));
        let isa = Isa::best();
        Self {
            first: Direct::new(first.shape, first.weights, first.bias, isa),
            second: Depthwise::new(second.shape, second.weights, second.bias, isa),
            shapes: [first.shape, second.shape],
            activations: [first.activation, second.activation],
        }
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.first.weight_bytes() + self.second.weight_bytes()
    }

    /// Elements of a row between the two, and how many rows are kept.
    fn band(&self) -> (usize, usize) {
        let [_, second] = &self.shapes;
        let row = second.input[1] * second.in_channels;
        let fit = BAND / size_of::<I>() / row;
        // Whole steps of the window.
        let steps = (fit.max(second.kernel[0]) - second.kernel[0]) / second.stride[0];
        (row, steps * second.stride[0] + second.kernel[0])
    }

    /// Words of scratch memory, for any number of images.
    pub fn scratch(&self) -> usize {
        let (row, rows) = self.band();
        (row * rows).div_ceil(I::OF_A_WORD) + LINE + self.first.scratch(1, size_of::<I>() < size_of::<f32>())
    }

    /// Computes: `input` is read by the first, `output` written by the second.
    ///
    /// # Panics
    /// As [`super::Conv::run`], and if there is a residual.
    pub fn run(&self, args: ConvArgs<'_, I, I>)
    where
        I: Multiplies<I> + Multiplies<f32> + Slides<I>,
        f32: Applies<I>,
    {
        let [first, second] = self.shapes;
        assert!(args.residual.is_none(), "nothing is added to a depthwise convolution that runs in bands");
        check("input", args.input.len(), args.images * first.input[0] * first.input[1], first.in_channels, args.input_pitch);
        let [oh, ow] = second.output();
        check("output", args.output.len(), args.images * oh * ow, second.out_channels, args.output_pitch);
        let (row, most) = self.band();
        let words = (row * most).div_ceil(I::OF_A_WORD);
        let (band, scratch) = args.scratch.split_at_mut(words + LINE);
        let band = I::of_words_mut(aligned(band, words));
        let ([height, width], [kernel, _], [stride, _], top) = (second.input, second.kernel, second.stride, second.pad[0]);
        let each = (most - kernel) / stride + 1;
        for image in 0..args.images {
            // Rows of the map between that are in the band.
            let mut kept = 0..0;
            for y in (0..oh).step_by(each) {
                let count = each.min(oh - y);
                let from = (y * stride).saturating_sub(top).min(height);
                let to = ((y + count - 1) * stride + kernel).saturating_sub(top).clamp(from, height);
                let again = from.max(kept.start)..to.min(kept.end);
                if !again.is_empty() {
                    band.copy_within((again.start - kept.start) * row..(again.end - kept.start) * row, 0);
                }
                let made = if again.is_empty() { from } else { again.end };
                if made < to {
                    let mut one = ConvArgs {
                        images: 1,
                        input: &args.input[(image * height + made) * width * args.input_pitch..],
                        input_pitch: args.input_pitch,
                        residual: None,
                        output: &mut band[(made - from) * row..(to - from) * row],
                        output_pitch: second.in_channels,
                        scratch: &mut *scratch,
                    };
                    self.first.rows(ConvShape { input: [to - made, width], ..first }, self.activations[0], &mut one);
                }
                kept = from..to;
                let above = top.saturating_sub(y * stride).min(kernel);
                let below = ((count - 1) * stride + kernel).saturating_sub(above + to - from);
                let shape = ConvShape { input: [to - from, width], pad: [above, second.pad[1], below, second.pad[3]], ..second };
                let one = ConvArgs {
                    images: 1,
                    input: &band[..(to - from) * row],
                    input_pitch: second.in_channels,
                    residual: None,
                    output: &mut args.output[(image * oh + y) * ow * args.output_pitch..],
                    output_pitch: args.output_pitch,
                    scratch: &mut [],
                };
                self.second.run_as(&shape, self.activations[1], one);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{activation, noise};
    use super::super::{Algorithm, Bf16, Conv, ConvBf16, has_bf16};
    use super::*;

    /// Both ways, over maps of `I`; `apart` runs one convolution.
    fn agrees<I>(
        shapes: [ConvShape; 2],
        activations: [Activation; 2],
        images: usize,
        slack: [usize; 2],
        apart: impl Fn(&Part<'_>, &[I], usize, &mut [I], usize),
    ) where
        I: Packs + PartialEq + std::fmt::Debug + Multiplies<I> + Multiplies<f32> + Slides<I>,
        f32: Applies<I>,
    {
        let [first, second] = shapes;
        let rounded = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|w| Bf16::from(w).into()).collect() };
        let weights = [
            rounded(noise(first.in_channels * first.out_channels, 1)),
            noise(second.out_channels * second.kernel[0] * second.kernel[1], 2),
        ];
        let bias = [noise(first.out_channels, 3), noise(second.out_channels, 4)];
        let part = |i: usize| Part { shape: shapes[i], weights: &weights[i], bias: &bias[i], activation: activations[i] };
        let pitches = [first.in_channels + slack[0], second.out_channels + slack[1]];
        let pixels = |[h, w]: [usize; 2]| images * h * w;
        let input: Vec<I> = noise(pixels(first.input) * pitches[0], 5).into_iter().map(I::from).collect();
        let mut between = vec![I::default(); pixels(second.input) * second.in_channels];
        let mut wanted = vec![I::from(77.0); pixels(second.output()) * pitches[1]];
        let mut got = wanted.clone();
        apart(&part(0), &input, pitches[0], &mut between, second.in_channels);
        apart(&part(1), &between, second.in_channels, &mut wanted, pitches[1]);
        let banded = Banded::<I>::new(&part(0), &part(1));
        let mut scratch = vec![f32::NAN; banded.scratch()];
        let (output, scratch) = (&mut got[..], &mut scratch[..]);
        banded.run(ConvArgs { images, input: &input, input_pitch: pitches[0], residual: None, output, output_pitch: pitches[1], scratch });
        assert!(wanted == got, "{shapes:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// To the last bit: what one makes of a row does not depend on where it is kept.
        #[test]
        fn in_bands_comes_out_what_comes_out_apart(
            width in 9usize..40, channels in 8usize..100, in_channels in 1usize..40, kernel in prop_oneof![Just(3usize), Just(5), Just(7), Just(2)],
            stride in 1usize..3, pad in [0usize..4, 0usize..4, 0usize..4, 0usize..4], more in 0usize..30, images in 1usize..3,
            slack in [0usize..3, 0usize..3], activations in [activation(), activation()],
        ) {
            for bytes in [4, 2] {
                // So many rows that the map is not kept whole.
                let height = WHOLE / (bytes * width * channels) + 1 + more;
                let first = ConvShape { input: [height, width], ..ConvShape::square(0, in_channels, channels, 1, 1) };
                let second = ConvShape {
                    input: [height, width], in_channels: channels, out_channels: channels, kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1],
                    pad: pad.map(|p| p.min(kernel - 1)), groups: channels,
                };
                prop_assert!(bands(&first, &second, bytes));
                let shapes = [first, second];
                if bytes == 4 {
                    agrees::<f32>(shapes, activations, images, slack, |part, input, input_pitch, output, output_pitch| {
                        let conv = Conv::new(part.shape, part.weights, part.bias, part.activation);
                        let scratch = &mut vec![0.0; conv.scratch(images)];
                        conv.run(ConvArgs { images, input, input_pitch, residual: None, output, output_pitch, scratch });
                    });
                } else if has_bf16() {
                    agrees::<Bf16>(shapes, activations, images, slack, |part, input, input_pitch, output, output_pitch| {
                        let conv = ConvBf16::new(part.shape, part.weights, part.bias, part.activation, Algorithm::Direct);
                        let scratch = &mut vec![0.0; conv.scratch(images)];
                        conv.run(ConvArgs { images, input, input_pitch, residual: None, output, output_pitch, scratch });
                    });
                }
            }
        }
    }

    #[test]
    fn small_maps_and_other_pairs_stay_apart() {
        let first = ConvShape::square(112, 16, 96, 1, 1);
        let second = ConvShape { groups: 96, ..ConvShape::square(112, 96, 96, 3, 2) };
        assert!(bands(&first, &second, 4) && bands(&first, &second, 2));
        let small = [ConvShape { input: [28, 28], ..first }, ConvShape { input: [28, 28], ..second }];
        assert!(!bands(&small[0], &small[1], 4));
        for (a, b) in [
            (ConvShape { kernel: [3, 3], pad: [1; 4], ..first }, second),
            (first, ConvShape { groups: 1, ..second }),
            (first, ConvShape { dilation: [2, 2], ..second }),
            (first, ConvShape { stride: [4, 4], ..second }),
        ] {
            assert!(!bands(&a, &b, 4));
        }
    }
}
