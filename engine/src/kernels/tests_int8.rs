//! The kernels over bytes against plain arithmetic, over shapes that divide by nothing; nothing to see on a processor that does not multiply them.

use proptest::prelude::*;

use super::element::Packs;
use super::elementwise::{Applies, scale_shift};
use super::tests::{Case, case, noise, shape};
use super::*;

/// Bytes that depend on the seed.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    noise(len, seed).into_iter().map(|x| (127.5 + 127.5 * x) as u8).collect()
}

fn numbers(bytes: &[u8]) -> Vec<U8> {
    bytes.iter().map(|&b| U8::from(f32::from(b))).collect()
}

/// What a convolution's numbers stand for.
#[derive(Debug, Clone, Copy)]
struct Scales {
    input: Quantized,
    residual: Quantized,
    output: Quantized,
    /// All inputs 255 and all weights -128 or 127: the largest sums that there are.
    extreme: bool,
}

fn quantized() -> impl Strategy<Value = Quantized> {
    (0.001f32..0.1, prop_oneof![2 => Just(0u8), 3 => any::<u8>()]).prop_map(|(scale, zero)| Quantized { scale, zero })
}

fn scales() -> impl Strategy<Value = Scales> {
    (quantized(), quantized(), quantized(), prop_oneof![9 => Just(false), 1 => Just(true)])
        .prop_map(|(input, residual, output, extreme)| Scales { input, residual, output, extreme })
}

/// Asserts that the kernel agrees with sums of whole numbers and leaves alone what is not its to write. `O` is [`U8`], or f32.
fn agrees<O: Packs>(case: &Case, scales: &Scales)
where
    U8: super::tile::Multiplies<O>,
    f32: Applies<O>,
{
    let &Case { shape, images, activation, seed, .. } = case;
    if !has_int8() || !ConvInt8::computes(&shape, activation) {
        return;
    }
    let to_bytes = size_of::<O>() == 1;
    let [oh, ow] = shape.output();
    let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let taps = shape.kernel[0] * shape.kernel[1] * group_in;
    let whole: Vec<i8> = bytes(shape.out_channels * taps, seed ^ 1)
        .into_iter()
        .map(|b| if scales.extreme { [-128, 127][usize::from(b % 2)] } else { b as i8 })
        .collect();
    // A channel without weights has no step.
    let of_channel = |out: usize| if out == 3 { 0.0 } else { 1e-4 * (1 + out % 7) as f32 };
    let steps: Vec<f32> = (0..shape.out_channels).map(of_channel).collect();
    let weights: Vec<f32> = whole.iter().enumerate().map(|(i, w)| f32::from(*w) * steps[i / taps]).collect();
    let bias = noise(shape.out_channels, seed ^ 2);
    let pitches = [shape.in_channels + case.slack[0], shape.out_channels + case.slack[1], shape.out_channels + case.slack[2]];
    let mut input = bytes(images * shape.input[0] * shape.input[1] * pitches[0], seed ^ 3);
    if scales.extreme {
        input.fill(255);
    }
    // Nothing beyond the last pixel's channels.
    input.truncate(input.len() - case.slack[0]);
    let residual: Vec<O> = bytes(images * oh * ow * pitches[2], seed ^ 4).into_iter().map(|b| O::from(f32::from(b))).collect();
    let of_residual = if to_bytes { scales.residual.dequantize() } else { (1.0, 0.0) };
    let stepped = Stepped { weights: &weights, steps: &steps, bias: &bias };
    let conv = ConvInt8::new(
        shape,
        stepped,
        activation,
        scales.input,
        (case.residual && to_bytes).then_some(scales.residual),
        to_bytes.then_some(scales.output),
    );
    let untouched = O::from(77.0);
    let mut got = vec![untouched; images * oh * ow * pitches[1]];
    conv.run(ConvArgs {
        images,
        input: &numbers(&input),
        input_pitch: pitches[0],
        residual: case.residual.then_some((&residual[..], pitches[2])),
        output: &mut got,
        output_pitch: pitches[1],
        scratch: &mut vec![f32::NAN; conv.scratch(images)],
    });
    for (at, got) in got.iter().enumerate() {
        let (pixel, out, got): (_, _, f32) = (at / pitches[1], at % pitches[1], (*got).into());
        if out >= shape.out_channels {
            assert_eq!(got, 77.0, "written between the pixels");
            continue;
        }
        let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        let mut sum = 0i64;
        for (ky, kx) in (0..shape.kernel[0]).flat_map(|ky| (0..shape.kernel[1]).map(move |kx| (ky, kx))) {
            let (iy, ix) = (y * shape.stride[0] + ky * shape.dilation[0], x * shape.stride[1] + kx * shape.dilation[1]);
            let (Some(iy), Some(ix)) = (iy.checked_sub(shape.pad[0]), ix.checked_sub(shape.pad[1])) else { continue };
            if iy >= shape.input[0] || ix >= shape.input[1] {
                continue;
            }
            let from = ((n * shape.input[0] + iy) * shape.input[1] + ix) * pitches[0] + out / group_out * group_in;
            for i in 0..group_in {
                let weight = if steps[out] == 0.0 { 0 } else { whole[out * taps + (i * shape.kernel[0] + ky) * shape.kernel[1] + kx] };
                sum += (i64::from(input[from + i]) - i64::from(scales.input.zero)) * i64::from(weight);
            }
        }
        let mut value = sum as f64 * f64::from(scales.input.scale) * f64::from(steps[out]) + f64::from(bias[out]);
        if case.residual {
            let residual: f32 = residual[pixel * pitches[2] + out].into();
            value += f64::from(residual) * f64::from(of_residual.0) + f64::from(of_residual.1);
        }
        let due = f64::from(reference::activate(value as f32, activation));
        let (due, far) = if to_bytes {
            // Rounded to the nearest of what is off by less than a unit of the sum, where that is little (see `FLOAT`), and none but saturated values
            // farther away.
            let unit = f64::from(scales.input.scale * steps[out] / scales.output.scale);
            let off = if unit <= 1.0 / 64.0 { 0.75 * unit } else { 0.0 };
            ((due / f64::from(scales.output.scale) + f64::from(scales.output.zero)).clamp(0.0, 255.0), 0.5 + off)
        } else {
            (due, 0.0)
        };
        assert!(
            (f64::from(got) - due).abs() <= far + 2e-5 * (value.abs() + 30.0),
            "{got} where {due} is due, pixel {pixel}, channel {out}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree_with_whole_numbers(case in case(shape()), scales in scales()) {
        agrees::<U8>(&case, &scales);
        agrees::<f32>(&case, &scales);
    }

    #[test]
    fn pooling_agrees_with_the_reference(
        input in [1usize..15, 1usize..15], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4], channels in 1usize..150,
        dilation in [1usize..3, 1usize..3], pad in [0usize..4, 0usize..4, 0usize..4, 0usize..4], mean in any::<bool>(),
        images in 1usize..3, slack in [0usize..4, 0usize..4], seed in any::<u64>(),
    ) {
        let pooling = if mean { Pooling::Average { counted: [0; 4] } } else { Pooling::Max };
        let shape = PoolShape { input, channels, kernel, stride, dilation, pad, pooling };
        if !has_int8() || shape.output().contains(&0) {
            return Ok(());
        }
        let pitches = [channels + slack[0], channels + slack[1]];
        let values = numbers(&bytes(images * input[0] * input[1] * pitches[0], seed));
        let mut wanted = vec![U8::from(77.0); images * shape.output().iter().product::<usize>() * pitches[1]];
        let mut got = wanted.clone();
        reference::pool(&shape, images, (&values, pitches[0]), (&mut wanted, pitches[1]));
        pool(Isa::best(), &shape, images, (&values, pitches[0]), (&mut got, pitches[1]));
        prop_assert_eq!(wanted, got);
        let mut means = vec![0.0; images * channels];
        global_average(Isa::best(), (images, input[0] * input[1], channels), (&values, pitches[0]), (&mut means, channels));
        for (at, mean) in means.iter().enumerate() {
            let (image, channel) = (at / channels, at % channels);
            let all = (0..input[0] * input[1]).map(|p| f32::from(values[(image * input[0] * input[1] + p) * pitches[0] + channel]));
            prop_assert!((all.sum::<f32>() / (input[0] * input[1]) as f32 - mean).abs() < 1e-3);
        }
    }

    #[test]
    fn conversions_round_to_the_nearest_and_saturate(pixels in 1usize..9, channels in 1usize..70, slack in [0usize..4, 0usize..4], how in quantized()) {
        if !has_int8() {
            return Ok(());
        }
        let pitches = [channels + slack[0], channels + slack[1]];
        let values: Vec<f32> = noise(pixels * pitches[0], 7).iter().map(|x| x * 40.0).collect();
        let all = |value: f32| vec![value; channels];
        let (scale, shift) = how.quantize();
        let mut got = vec![U8::from(77.0); pixels * pitches[1]];
        let isa = Isa::best();
        scale_shift(isa, (pixels, channels), (&values, pitches[0]), Some(&all(scale)), Some(&all(shift)), Activation::None, (&mut got, pitches[1]));
        let (scale, shift) = how.dequantize();
        let mut back = vec![77.0; pixels * pitches[1]];
        scale_shift(isa, (pixels, channels), (&got, pitches[1]), Some(&all(scale)), Some(&all(shift)), Activation::None, (&mut back, pitches[1]));
        for at in 0..got.len() {
            let (pixel, channel) = (at / pitches[1], at % pitches[1]);
            if channel >= channels {
                prop_assert_eq!(f32::from(got[at]), 77.0);
                continue;
            }
            let due = values[pixel * pitches[0] + channel].max(how.range().0).min(how.range().1);
            prop_assert!((back[at] - due).abs() <= how.scale * 0.5 + 1e-4, "{} became {}", due, back[at]);
        }
    }
}

/// Sums that are computed in several blocks, runs of odd lengths, and the largest sums: nothing saturates on the way.
#[test]
fn deep_convolutions_and_largest_sums_agree_with_whole_numbers() {
    let conv = |in_channels, out_channels, kernel: usize, groups| ConvShape {
        input: [5, 4],
        groups,
        ..ConvShape::square(0, in_channels, out_channels, kernel, 1)
    };
    let grouped = ConvShape { input: [12, 40], ..conv(8, 144, 7, 2) };
    for shape in [
        grouped,
        conv(6001, 64, 1, 1),
        conv(900, 128, 3, 1),
        conv(6001, 70, 1, 1),
        conv(900, 70, 3, 1),
        conv(301, 20, 3, 1),
        conv(80, 17, 9, 1),
        conv(9602, 36, 1, 2),
        conv(9, 33, 11, 1),
    ] {
        for (extreme, zero) in [(true, 0), (true, 255), (false, 128)] {
            let of = |scale, zero| Quantized { scale, zero };
            let scales = Scales { input: of(0.02, zero), residual: of(0.1, 7), output: of(0.05, 100), extreme };
            let case = Case { shape, images: 3, activation: Activation::Clamp(0.0, 6.0), residual: true, slack: [3, 0, 1], seed: 11 };
            agrees::<U8>(&case, &scales);
            agrees::<f32>(&case, &scales);
        }
    }
}

/// What a convolution of one weight of 1 and this bias makes of one number.
fn of_one(number: u8, bias: f32, output: Quantized) -> f32 {
    let stepped = Stepped { weights: &[1.0], steps: &[1.0], bias: &[bias] };
    let of_input = Quantized { scale: 1.0, zero: 0 };
    let conv = ConvInt8::new(ConvShape::square(1, 1, 1, 1, 1), stepped, Activation::None, of_input, None, Some(output));
    let (input, mut output, mut scratch) = (numbers(&[number]), numbers(&[9]), vec![0.0; conv.scratch(1)]);
    let output_pitch = 1;
    conv.run(ConvArgs {
        images: 1,
        input: &input,
        input_pitch: 1,
        residual: None,
        output: &mut output,
        output_pitch,
        scratch: &mut scratch,
    });
    output[0].into()
}

/// Scales from a file that no calibration would give: values far beyond i32 still saturate at the right end.
#[test]
fn scales_that_overflow_saturate() {
    for (bias, due) in [(1e30, 255.0), (-1e30, 0.0)] {
        if !has_int8() {
            return;
        }
        assert_eq!(of_one(3, bias, Quantized { scale: 1e-3, zero: 7 }), due);
    }
}

/// A unit of the sum that is worth many steps of the output: what a sum begins with must not swallow the bias.
#[test]
fn a_coarse_sum_keeps_its_bias() {
    if has_int8() {
        assert_eq!(of_one(0, 0.4, Quantized { scale: 1.0 / 1024.0, zero: 7 }), 255.0);
    }
}
