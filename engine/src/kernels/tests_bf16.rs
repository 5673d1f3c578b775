//! The kernels over bf16 against their references, over shapes that divide by nothing; nothing to see on a processor that does not multiply it.

use proptest::prelude::*;

use super::elementwise::{Applies, add, layer_norm, scale_images, scale_shift};
use super::tests::{Case, activation, case, depthwise_shape, noise, shape, wino_shape};
use super::winograd::Transforms;
use super::*;

/// What stands where nothing may be written; exact in bf16.
const UNTOUCHED: f32 = 77.0;

fn rounded<T: Number>(values: &[f32]) -> Vec<T> {
    values.iter().map(|v| T::from(*v)).collect()
}

/// How far a value may be from `wanted`: what sums of f32 in another order make of the largest value, and for bf16 the rounding of the result, which may
/// go the other way where `wanted` lies in the middle.
fn close<O: Number>(wanted: O, got: O, largest: f32) -> bool {
    let (wanted, got): (f32, f32) = (wanted.into(), got.into());
    let rounding = if size_of::<O>() == 2 { wanted.abs() / 128.0 } else { 0.0 };
    // Windows of nothing have no largest value, and no mean.
    (wanted - got).abs() <= 4e-6 * largest + rounding || wanted == got || wanted.is_nan() && got.is_nan()
}

/// Whether the kernel agrees with the reference and leaves alone what is not its to write. Winograd's gets whole numbers, for which its sums and differences are
/// exact in bf16: what it loses otherwise would hide mistakes.
fn agrees<O: Transforms>(case: &Case, algorithm: Algorithm) -> bool
where
    Bf16: super::tile::Multiplies<O> + super::depthwise::Slides<O>,
    f32: Applies<O>,
{
    let Case { shape, images, .. } = *case;
    let [oh, ow] = shape.output();
    let taps = shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups;
    let scale = (3.0 / taps as f32).sqrt();
    let whole = algorithm != Algorithm::Direct;
    let weight = |w: f32| if whole { (w * 7.0).round() / 16.0 } else { Bf16::from(w * scale).into() };
    let weights: Vec<f32> = noise(shape.out_channels * taps, case.seed ^ 1).into_iter().map(weight).collect();
    let bias = noise(shape.out_channels, case.seed ^ 2);
    let pitches = [shape.in_channels + case.slack[0], shape.out_channels + case.slack[1], shape.out_channels + case.slack[2]];
    // Nothing beyond the last pixel's channels, and what is no number between the pixels: it must not be read.
    let pixels = images * shape.input[0] * shape.input[1];
    let values = noise(pixels * pitches[0], case.seed ^ 3);
    let mut input: Vec<Bf16> = values.into_iter().map(|v| Bf16::from(if whole { (v * 8.0).round() } else { v })).collect();
    input.iter_mut().enumerate().filter(|(i, _)| i % pitches[0] >= shape.in_channels).for_each(|(_, v)| *v = f32::NAN.into());
    input.truncate(input.len() - case.slack[0]);
    let residual: Vec<O> = rounded(&noise(images * oh * ow * pitches[2], case.seed ^ 4));
    let mut wanted = vec![O::from(UNTOUCHED); images * oh * ow * pitches[1]];
    let mut got = wanted.clone();
    let conv = ConvBf16::new(shape, &weights, &bias, case.activation, algorithm);
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
    let largest = wanted.iter().fold(1.0f32, |m, x| m.max((*x).into().abs()));
    wanted
        .iter()
        .zip(&got)
        .enumerate()
        .all(|(i, (w, g))| if i % pitches[1] >= shape.out_channels { (*g).into() == UNTOUCHED } else { close(*w, *g, largest) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn direct_convolutions_agree_with_the_reference(case in case(shape())) {
        prop_assert!(!has_bf16() || agrees::<Bf16>(&case, Algorithm::Direct), "to bf16");
        prop_assert!(!has_bf16() || agrees::<f32>(&case, Algorithm::Direct), "to f32");
    }

    #[test]
    fn winograd_agrees_with_the_reference(case in case(wino_shape())) {
        prop_assert!(!has_bf16() || agrees::<Bf16>(&case, Algorithm::Winograd2), "to bf16");
        prop_assert!(!has_bf16() || agrees::<f32>(&case, Algorithm::Winograd2), "to f32");
    }

    #[test]
    fn depthwise_convolutions_agree_with_the_reference(case in case(depthwise_shape())) {
        prop_assert!(!has_bf16() || agrees::<Bf16>(&case, Algorithm::Direct), "to bf16");
        prop_assert!(!has_bf16() || agrees::<f32>(&case, Algorithm::Direct), "to f32");
    }

    #[test]
    fn pooling_agrees_with_the_reference(
        input in [1usize..15, 1usize..15], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4], dilation in [1usize..3, 1usize..3],
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], channels in 1usize..150, mode in 0usize..3, images in 1usize..3, slack in [0usize..4, 0usize..4],
    ) {
        if !has_bf16() {
            return Ok(());
        }
        let pooling = [Pooling::Max, Pooling::Average { counted: [0; 4] }, Pooling::Average { counted: pad }][mode];
        let shape = PoolShape { input, channels, kernel, stride, dilation, pad, pooling };
        let pitches = [channels + slack[0], channels + slack[1]];
        let values: Vec<Bf16> = rounded(&noise(images * input[0] * input[1] * pitches[0], 9));
        let mut wanted = vec![Bf16::from(UNTOUCHED); images * shape.output().iter().product::<usize>() * pitches[1]];
        let mut got = wanted.clone();
        reference::pool(&shape, images, (&values, pitches[0]), (&mut wanted, pitches[1]));
        pool(Isa::best(), &shape, images, (&values, pitches[0]), (&mut got, pitches[1]));
        prop_assert!(wanted.iter().zip(&got).all(|(w, g)| close(*w, *g, 1.0)));
        let (mut wanted, mut got) = (vec![UNTOUCHED; wanted.len()], vec![UNTOUCHED; got.len()]);
        reference::pool(&shape, images, (&values, pitches[0]), (&mut wanted, pitches[1]));
        pool(Isa::best(), &shape, images, (&values, pitches[0]), (&mut got, pitches[1]));
        prop_assert!(wanted.iter().zip(&got).all(|(w, g)| close(*w, *g, 1.0)));
    }

    #[test]
    fn elementwise_kernels_agree_with_plain_arithmetic(
        images in 1usize..3, pixels in 1usize..9, channels in 1usize..70, slack in [0usize..4, 0usize..4, 0usize..4], activation in activation(),
    ) {
        if has_bf16() {
            elementwise_agrees::<Bf16, Bf16>(images, pixels, channels, slack, activation);
            elementwise_agrees::<Bf16, f32>(images, pixels, channels, slack, activation);
            elementwise_agrees::<f32, Bf16>(images, pixels, channels, slack, activation);
        }
    }
}

fn elementwise_agrees<I: Applies<O>, O: Number>(images: usize, pixels: usize, channels: usize, slack: [usize; 3], activation: Activation) {
    let pitches = slack.map(|slack| channels + slack);
    let all = images * pixels;
    let a: Vec<I> = rounded(&noise(all * pitches[0], 1));
    let b: Vec<O> = rounded(&noise(all * pitches[1], 2));
    let (scale, shift, factors) = (noise(channels, 3), noise(channels, 4), noise(images * channels, 5));
    let input = |pixel: usize, channel: usize| -> f32 { a[pixel * pitches[0] + channel].into() };
    let check = |got: &[O], plain: &dyn Fn(usize, usize) -> f32| {
        for (i, got) in got.iter().enumerate() {
            let (pixel, channel) = (i / pitches[2], i % pitches[2]);
            let wanted = if channel < channels { reference::activate(plain(pixel, channel), activation) } else { UNTOUCHED };
            assert!(close(O::from(wanted), *got, 1.0), "{wanted} became {}", (*got).into());
        }
    };
    let isa = Isa::best();
    let mut got = vec![O::from(UNTOUCHED); all * pitches[2]];
    add(isa, (all, channels), (&a, pitches[0]), (&b, pitches[1]), activation, (&mut got, pitches[2]));
    check(&got, &|p, c| input(p, c) + b[p * pitches[1] + c].into());
    scale_shift(isa, (all, channels), (&a, pitches[0]), Some(&scale), Some(&shift), activation, (&mut got, pitches[2]));
    check(&got, &|p, c| input(p, c) * scale[c] + shift[c]);
    scale_shift(isa, (all, channels), (&a, pitches[0]), None, None, activation, (&mut got, pitches[2]));
    check(&got, &input);
    let normalized: Vec<Vec<f32>> =
        (0..all).map(|p| reference::layer_norm(&(0..channels).map(|c| input(p, c)).collect::<Vec<_>>(), 0.01)).collect();
    layer_norm(isa, (all, channels), (&a, pitches[0]), 0.01, (&scale, &shift), activation, (&mut got, pitches[2]));
    check(&got, &|p, c| normalized[p][c] * scale[c] + shift[c]);
    let shape = (images, pixels, channels);
    scale_images(isa, shape, (&a, pitches[0]), (&factors, channels), activation, (&mut got, pitches[2]));
    check(&got, &|p, c| input(p, c) * factors[p / pixels * channels + c]);
}

/// Sums that are computed in several blocks, with runs of odd lengths, and that activations are applied to which are no mere bounds.
#[test]
fn deep_convolutions_agree_with_the_reference() {
    let conv = |in_channels, out_channels, kernel: usize, groups| ConvShape {
        input: [5, 4],
        groups,
        ..ConvShape::square(0, in_channels, out_channels, kernel, 1)
    };
    for shape in
        [conv(3001, 70, 1, 1), conv(900, 70, 3, 1), conv(301, 20, 3, 1), conv(80, 17, 9, 1), conv(2802, 36, 1, 2), conv(9, 33, 11, 1)]
    {
        for activation in [Activation::Silu, Activation::Clamp(0.0, 6.0)] {
            let case = Case { shape, images: 3, activation, residual: true, slack: [3, 0, 1], seed: 11 };
            assert!(!has_bf16() || agrees::<Bf16>(&case, Algorithm::Direct) && agrees::<f32>(&case, Algorithm::Direct), "{shape:?}");
        }
    }
}
