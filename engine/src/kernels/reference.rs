//! What each kernel must compute, written as plainly as it goes. Slow; for tests and for what has no kernel.

use super::{Activation, ConvArgs, ConvShape};

pub(super) fn activate(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clamp(low, high) => x.max(low).min(high),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

pub(super) fn conv(shape: &ConvShape, weights: &[f32], bias: &[f32], activation: Activation, args: ConvArgs<'_>) {
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
                    sum += args.input[from + i] * weights[((o * group_in + i) * shape.kernel[0] + ky) * shape.kernel[1] + kx];
                }
            }
            if let Some((residual, pitch)) = args.residual {
                sum += residual[pixel * pitch + o];
            }
            args.output[pixel * args.output_pitch + o] = activate(sum, activation);
        }
    }
}
