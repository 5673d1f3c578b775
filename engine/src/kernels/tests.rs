//! Every kernel against its reference, over shapes that divide by nothing, on every instruction set that this processor has.

use proptest::prelude::*;

use super::*;

/// Values between -1 and 1 that depend on the seed.
pub(super) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clamp(0.0, 6.0)),
        Just(Activation::Clamp(-0.25, 0.5)),
        Just(Activation::Silu),
        Just(Activation::Sigmoid),
        Just(Activation::HardSwish),
        Just(Activation::Gelu),
        Just(Activation::Leaky(0.1)),
    ]
}

/// All kinds of shapes: any, pointwise ones, and lines so wide that several tiles lie in one.
pub(super) fn shape() -> impl Strategy<Value = ConvShape> {
    let pointwise = (any_shape(), 1usize..40).prop_map(|(shape, width)| ConvShape {
        input: [shape.input[0], width],
        kernel: [1, 1],
        stride: [1, 1],
        pad: [0; 4],
        ..shape
    });
    let wide = (any_shape(), 30usize..70).prop_map(|(shape, width)| ConvShape { input: [shape.input[0] % 4 + 1, width], ..shape });
    prop_oneof![4 => any_shape(), 1 => pointwise, 1 => wide]
}

prop_compose! {
    fn any_shape()(
        input in [1usize..14, 1usize..14], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4], dilation in [1usize..3, 1usize..3],
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], groups in prop_oneof![4 => Just(1usize), 1 => 2usize..4],
        group_in in prop_oneof![1usize..7, 7usize..40], group_out in prop_oneof![4 => 1usize..20, 4 => 20usize..150, 1 => Just(64usize), 1 => Just(128usize)],
    ) -> ConvShape {
        ConvShape { input, in_channels: groups * group_in, out_channels: groups * group_out, kernel, stride, dilation, pad, groups }
    }
}

prop_compose! {
    pub(super) fn wino_shape()(
        input in [1usize..20, 1usize..20], pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], in_channels in 1usize..50, out_channels in 1usize..150,
    ) -> ConvShape {
        ConvShape { input, in_channels, out_channels, kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad, groups: 1 }
    }
}

prop_compose! {
    pub(super) fn depthwise_shape()(
        input in [1usize..20, 1usize..20], kernel in (1usize..6, prop_oneof![2 => 1usize..8, 3 => Just(3), 3 => Just(5)]).prop_map(<[usize; 2]>::from),
        stride in [1usize..4, 1usize..4], dilation in prop_oneof![3 => Just([1usize, 1]), 1 => [1usize..3, 1usize..3]],
        pad in [0usize..4, 0usize..4, 0usize..4, 0usize..4], groups in 2usize..70, group in prop_oneof![3 => Just(1usize), 1 => 1usize..9],
    ) -> ConvShape {
        ConvShape { input, in_channels: groups * group, out_channels: groups * group, kernel, stride, dilation, pad, groups }
    }
}

/// What runs must agree on: everything but how it is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub shape: ConvShape,
    pub images: usize,
    pub activation: Activation,
    pub residual: bool,
    /// Added to the channels for the pitches of input, output and residual.
    pub slack: [usize; 3],
    pub seed: u64,
}

pub(super) fn case(shape: impl Strategy<Value = ConvShape>) -> impl Strategy<Value = Case> {
    (shape, 1usize..4, activation(), any::<bool>(), prop_oneof![Just([0; 3]), [0usize..5, 0usize..5, 0usize..5]], any::<u64>())
        .prop_map(|(shape, images, activation, residual, slack, seed)| Case { shape, images, activation, residual, slack, seed })
}

/// The largest difference from the reference, over the largest value (at least 1), after every value that is not the kernel's to write was seen unchanged.
pub(super) fn difference(case: &Case, algorithm: Algorithm, isa: Isa) -> f32 {
    let Case { shape, images, .. } = *case;
    let [oh, ow] = shape.output();
    let taps = shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups;
    let scale = (3.0 / taps as f32).sqrt();
    let weights: Vec<f32> = noise(shape.out_channels * taps, case.seed ^ 1).into_iter().map(|w| w * scale).collect();
    let bias = noise(shape.out_channels, case.seed ^ 2);
    let pitches = [shape.in_channels + case.slack[0], shape.out_channels + case.slack[1], shape.out_channels + case.slack[2]];
    let input = noise(images * shape.input[0] * shape.input[1] * pitches[0], case.seed ^ 3);
    let pixels = images * oh * ow;
    let residual = noise(pixels * pitches[2], case.seed ^ 4);
    let mut wanted = vec![77.0; pixels * pitches[1]];
    let mut got = wanted.clone();
    let conv = Conv::new_with(shape, &weights, &bias, case.activation, algorithm, isa);
    let mut scratch = vec![f32::NAN; conv.scratch(images)];
    let args = |output, scratch| ConvArgs {
        images,
        input: &input,
        input_pitch: pitches[0],
        residual: case.residual.then_some((&residual[..], pitches[2])),
        output,
        output_pitch: pitches[1],
        scratch,
    };
    reference::conv(&shape, &weights, &bias, case.activation, args(&mut wanted, &mut []));
    conv.run(args(&mut got, &mut scratch));
    let largest = wanted.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    let differences = wanted.iter().zip(&got).enumerate().map(|(i, (w, g))| {
        if i % pitches[1] >= shape.out_channels {
            assert_eq!(*g, 77.0, "wrote between the pixels");
        }
        if (w - g).is_nan() { f32::INFINITY } else { (w - g).abs() }
    });
    differences.fold(0.0, f32::max) / largest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn direct_convolutions_agree_with_the_reference(case in case(shape())) {
        for isa in Isa::present() {
            let difference = difference(&case, Algorithm::Direct, isa);
            prop_assert!(difference < 2e-6, "{isa:?} differs by {difference}");
        }
    }

    #[test]
    fn winograd_agrees_with_the_reference(case in case(wino_shape())) {
        for isa in Isa::present() {
            for (algorithm, bar) in [(Algorithm::Winograd2, 3e-6), (Algorithm::Winograd4, 5e-6)] {
                let difference = difference(&case, algorithm, isa);
                prop_assert!(difference < bar, "{algorithm:?} on {isa:?} differs by {difference}");
            }
        }
    }

    #[test]
    fn depthwise_convolutions_agree_with_the_reference(case in case(depthwise_shape())) {
        for isa in Isa::present() {
            let difference = difference(&case, Algorithm::Direct, isa);
            prop_assert!(difference < 2e-6, "{isa:?} differs by {difference}");
        }
    }

    #[test]
    fn pooling_agrees_with_the_reference(
        input in [1usize..15, 1usize..15], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4], dilation in [1usize..3, 1usize..3],
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], channels in 1usize..150, mode in 0usize..3, images in 1usize..3, slack in [0usize..4, 0usize..4],
    ) {
        let pooling = [Pooling::Max, Pooling::Average { counted: [0; 4] }, Pooling::Average { counted: pad }][mode];
        let shape = PoolShape { input, channels, kernel, stride, dilation, pad, pooling };
        let pitches = [channels + slack[0], channels + slack[1]];
        let values = noise(images * input[0] * input[1] * pitches[0], 9);
        let mut wanted = vec![77.0; images * shape.output().iter().product::<usize>() * pitches[1]];
        let untouched = wanted.clone();
        reference::pool(&shape, images, (&values, pitches[0]), (&mut wanted, pitches[1]));
        for isa in Isa::present() {
            let mut got = untouched.clone();
            pool(isa, &shape, images, (&values, pitches[0]), (&mut got, pitches[1]));
            for (w, g) in wanted.iter().zip(&got) {
                prop_assert!((w - g).abs() < 1e-6 || w.is_nan() && g.is_nan(), "{isa:?}: {w} became {g}");
            }
        }
    }

    #[test]
    fn elementwise_kernels_agree_with_plain_arithmetic(
        images in 1usize..3, pixels in 1usize..9, channels in 1usize..70, slack in [0usize..4, 0usize..4, 0usize..4], activation in activation(),
    ) {
        let pitches = slack.map(|slack| channels + slack);
        let (a, b) = (noise(images * pixels * pitches[0], 1), noise(images * pixels * pitches[1], 2));
        let (scale, shift) = (noise(channels, 3), noise(channels, 4));
        let all = images * pixels;
        for isa in Isa::present() {
            type Plain<'a> = &'a dyn Fn(usize, usize) -> f32;
            let agrees = |got: &[f32], plain: Plain<'_>| (0..all * pitches[2]).all(|i| {
                let (pixel, channel) = (i / pitches[2], i % pitches[2]);
                let wanted = if channel < channels { reference::activate(plain(pixel, channel), activation) } else { 77.0 };
                (got[i] - wanted).abs() < 1e-6
            });
            let input = |pixel: usize, channel: usize| a[pixel * pitches[0] + channel];
            let mut got = vec![77.0; all * pitches[2]];
            elementwise::add(isa, (all, channels), (&a, pitches[0]), (&b, pitches[1]), activation, (&mut got, pitches[2]));
            prop_assert!(agrees(&got, &|p, c| input(p, c) + b[p * pitches[1] + c]));
            let shape = (all, channels);
            elementwise::scale_shift(isa, shape, (&a, pitches[0]), Some(&scale), Some(&shift), activation, (&mut got, pitches[2]));
            prop_assert!(agrees(&got, &|p, c| input(p, c) * scale[c] + shift[c]));
            elementwise::scale_shift(isa, shape, (&a, pitches[0]), None, None, activation, (&mut got, pitches[2]));
            prop_assert!(agrees(&got, &|p, c| input(p, c)));
            let shape = (images, pixels, channels);
            elementwise::scale_images(isa, shape, (&a, pitches[0]), (&b, pitches[1]), activation, (&mut got, pitches[2]));
            prop_assert!(agrees(&got, &|p, c| input(p, c) * b[p / pixels * pitches[1] + c]));
        }
    }

    /// Whatever the mean, and however little differs from it.
    #[test]
    fn layer_normalisation_agrees_with_the_reference(
        pixels in 1usize..9, channels in 1usize..200, slack in [0usize..4, 0usize..4], activation in activation(), mean in -20f32..20.0,
        size in 0.01f32..10.0, epsilon in prop_oneof![Just(1e-6f32), Just(1e-5), Just(0.1)],
    ) {
        let pitches = slack.map(|slack| channels + slack);
        let x: Vec<f32> = noise(pixels * pitches[0], 1).iter().map(|v| mean + size * v).collect();
        let (scale, shift) = (noise(channels, 2), noise(channels, 3));
        let of = |pixel: usize| &x[pixel * pitches[0]..][..channels];
        // What f32 loses of the values is lost, and divided by how far they differ.
        let lost = |pixel: usize| {
            let center = of(pixel).iter().sum::<f32>() / channels as f32;
            let variance = of(pixel).iter().map(|v| (v - center).powi(2)).sum::<f32>() / channels as f32;
            1e-6 * (1.0 + (mean.abs() + size) / (variance + epsilon).sqrt())
        };
        for isa in Isa::present() {
            let mut got = vec![77.0; pixels * pitches[1]];
            elementwise::layer_norm(isa, (pixels, channels), (&x, pitches[0]), epsilon, (&scale, &shift), activation, (&mut got, pitches[1]));
            for pixel in 0..pixels {
                let due = reference::layer_norm(of(pixel), epsilon);
                let got = &got[pixel * pitches[1]..][..pitches[1]];
                for channel in 0..channels {
                    let due = reference::activate(due[channel] * scale[channel] + shift[channel], activation);
                    prop_assert!((due - got[channel]).abs() < lost(pixel), "{due} became {} on {isa:?}", got[channel]);
                }
                prop_assert!(got[channels..].iter().all(|&v| v == 77.0), "wrote between the pixels");
            }
        }
    }
}

/// Sums that are computed in several blocks, of kernel offsets and of channels, with weights that fit L2 and that do not.
#[test]
fn deep_convolutions_agree_with_the_reference() {
    let conv = |in_channels, out_channels, kernel: usize, groups| ConvShape {
        input: [5, 4],
        groups,
        ..ConvShape::square(0, in_channels, out_channels, kernel, 1)
    };
    for shape in
        [conv(1500, 70, 1, 1), conv(300, 70, 3, 1), conv(300, 20, 3, 1), conv(80, 17, 7, 1), conv(1400, 36, 1, 2), conv(9, 33, 11, 1)]
    {
        for (activation, isa) in
            [Activation::Silu, Activation::Clamp(0.0, 6.0)].into_iter().flat_map(|a| Isa::present().map(move |isa| (a, isa)))
        {
            let case = Case { shape, images: 3, activation, residual: true, slack: [3, 0, 1], seed: 11 };
            let difference = difference(&case, Algorithm::Direct, isa);
            assert!(difference < 4e-6, "{shape:?} on {isa:?} differs by {difference}");
        }
    }
}

/// One value of the input is not a number or infinite: every output that depends on it says so, whichever way it was computed.
#[test]
fn what_is_not_a_number_is_not_lost() {
    let shape = |groups| ConvShape { input: [9, 7], groups, ..ConvShape::square(0, 12, 12, 3, 1) };
    for (value, groups) in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().flat_map(|value| [1, 3, 12].map(|groups| (value, groups)))
    {
        let shape = shape(groups);
        let weights = noise(12 * 12 / groups * 9, 1);
        let mut input = noise(9 * 7 * 12, 2);
        input[(4 * 7 + 3) * 12 + 5] = value;
        for (algorithm, isa) in candidates(&shape, 4).into_iter().flat_map(|algorithm| Isa::present().map(move |isa| (algorithm, isa))) {
            let (mut wanted, mut got) = (vec![0.0; 9 * 7 * 12], vec![0.0; 9 * 7 * 12]);
            let conv = Conv::new_with(shape, &weights, &[0.5; 12], Activation::None, algorithm, isa);
            let mut scratch = vec![0.0; conv.scratch(1)];
            let args =
                |output, scratch| ConvArgs { images: 1, input: &input, input_pitch: 12, residual: None, output, output_pitch: 12, scratch };
            reference::conv(&shape, &weights, &[0.5; 12], Activation::None, args(&mut wanted, &mut []));
            conv.run(args(&mut got, &mut scratch));
            assert!(wanted.iter().any(|x| !x.is_finite()));
            for (w, g) in wanted.iter().zip(&got) {
                // A tile of Winograd's shares its values; with the others the very same values come out, and no others.
                let same = if algorithm == Algorithm::Direct {
                    w == g || w.is_nan() && g.is_nan() || w.is_finite() && g.is_finite()
                } else {
                    w.is_finite() || !g.is_finite()
                };
                assert!(same, "{w} became {g} with {algorithm:?} on {isa:?}, {groups} groups");
            }
        }
    }
}

/// Beyond what an exponential holds, too: there a value is itself or nothing.
#[test]
fn a_gelu_is_right_from_end_to_end() {
    let ends = [1e-30, -1e-30, 1e30, 0.0, f32::INFINITY, f32::NEG_INFINITY];
    let values: Vec<f32> = (-200_000..=200_000).map(|n| n as f32 / 10_007.0).chain(ends).collect();
    for isa in Isa::present() {
        let mut got = vec![0.0; values.len()];
        elementwise::scale_shift(isa, (1, values.len()), (&values, values.len()), None, None, Activation::Gelu, (&mut got, values.len()));
        for (x, got) in values.iter().zip(got) {
            let due = reference::activate(*x, Activation::Gelu);
            assert!(
                due == got || due.is_nan() && got.is_nan() || (due - got).abs() <= 4e-7 * x.abs(),
                "{x} became {got} and not {due} on {isa:?}"
            );
        }
    }
}

/// A rectifier that made a number of it would let a network answer where it has failed.
#[test]
fn no_activation_makes_a_number_of_what_is_none() {
    for isa in Isa::present() {
        for activation in [
            Activation::None,
            Activation::Relu,
            Activation::Clamp(0.5, 6.0),
            Activation::Silu,
            Activation::Sigmoid,
            Activation::Gelu,
            Activation::Leaky(0.1),
        ] {
            let mut output = [1.0; 5];
            elementwise::scale_shift(isa, (1, 5), (&[f32::NAN; 5], 5), None, None, activation, (&mut output, 5));
            assert!(output.iter().all(|x| x.is_nan()), "{activation:?} on {isa:?}");
        }
    }
}
