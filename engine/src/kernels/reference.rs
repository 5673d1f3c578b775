//! What each kernel must compute, written as plainly as it goes; for tests.

use super::{Activation, ConvArgs, ConvShape, Number, PoolShape, Pooling};

pub(super) fn activate(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::None => x,
        // Written so that what is not a number stays so.
        Activation::Relu if x < 0.0 => 0.0,
        Activation::Relu => x,
        Activation::Clamp(low, _) if x < low => low,
        Activation::Clamp(_, high) if x > high => high,
        Activation::Clamp(..) => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Leaky(share) if x < 0.0 => share * x,
        Activation::Leaky(_) => x,
        Activation::Gelu => x * (0.5 + 0.5 * erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2)) as f32,
    }
}

/// The error function, by its Taylor series; beyond 4 it is 1 to more digits than an f32 has.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let mut term = x;
    let terms = (1..100).map(|n| {
        term *= -x * x / f64::from(n);
        term / f64::from(2 * n + 1)
    });
    (x + terms.sum::<f64>()) * std::f64::consts::FRAC_2_SQRT_PI
}

pub(super) fn layer_norm(x: &[f32], epsilon: f32) -> Vec<f32> {
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    x.iter().map(|&v| ((f64::from(v) - mean) / (variance + f64::from(epsilon)).sqrt()) as f32).collect()
}

pub(super) fn conv<I: Number, O: Number>(
    shape: &ConvShape,
    weights: &[f32],
    bias: &[f32],
    activation: Activation,
    args: ConvArgs<'_, I, O>,
) {
    let [oh, ow] = shape.output();
    let [h, w] = shape.input;
    let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    for pixel in 0..args.images * oh * ow {
        let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for o in 0..shape.out_channels {
            let mut sum = bias[o];
            for (ky, kx) in (0..shape.kernel[0]).flat_map(|ky| (0..shape.kernel[1]).map(move |kx| (ky, kx))) {
                let (iy, ix) = (y * shape.stride[0] + ky * shape.dilation[0], x * shape.stride[1] + kx * shape.dilation[1]);
                let (Some(iy), Some(ix)) = (iy.checked_sub(shape.pad[0]), ix.checked_sub(shape.pad[1])) else { continue };
                if iy >= h || ix >= w {
                    continue;
                }
                let from = ((n * h + iy) * w + ix) * args.input_pitch + o / group_out * group_in;
                for i in 0..group_in {
                    let value: f32 = args.input[from + i].into();
                    sum += value * weights[((o * group_in + i) * shape.kernel[0] + ky) * shape.kernel[1] + kx];
                }
            }
            if let Some((residual, pitch)) = args.residual {
                sum += residual[pixel * pitch + o].into();
            }
            args.output[pixel * args.output_pitch + o] = activate(sum, activation).into();
        }
    }
}

pub(super) fn pool<I: Number, O: Number>(
    shape: &PoolShape,
    images: usize,
    (input, input_pitch): (&[I], usize),
    (output, output_pitch): (&mut [O], usize),
) {
    let ([h, w], [oh, ow]) = (shape.input.map(|x| x as isize), shape.output());
    let counted = if let Pooling::Average { counted } = shape.pooling { counted.map(|x| x as isize) } else { [0; 4] };
    for pixel in 0..images * oh * ow {
        let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for c in 0..shape.channels {
            let (mut largest, mut sum, mut count) = (f32::MIN, 0.0, 0.0);
            for (ky, kx) in (0..shape.kernel[0]).flat_map(|ky| (0..shape.kernel[1]).map(move |kx| (ky, kx))) {
                let iy = (y * shape.stride[0] + ky * shape.dilation[0]) as isize - shape.pad[0] as isize;
                let ix = (x * shape.stride[1] + kx * shape.dilation[1]) as isize - shape.pad[1] as isize;
                if (-counted[0]..h + counted[2]).contains(&iy) && (-counted[1]..w + counted[3]).contains(&ix) {
                    count += 1.0;
                }
                if (0..h).contains(&iy) && (0..w).contains(&ix) {
                    let value: f32 = input[((n as isize * h + iy) * w + ix) as usize * input_pitch + c].into();
                    largest = value.max(largest);
                    sum += value;
                }
            }
            output[pixel * output_pitch + c] = if shape.pooling == Pooling::Max { largest } else { sum / count }.into();
        }
    }
}
