//! As `kernels`, in int8: the time and share of the int8 peak of each of ResNet-50's convolutions.

use std::collections::BTreeMap;
use std::time::Instant;

use lakelens_engine::kernels::peak::{Arithmetic, measure};
use lakelens_engine::kernels::{Activation, ConvArgs, ConvInt8, ConvShape, Quantized, Stepped, U8};

fn resnet50() -> Vec<(ConvShape, bool)> {
    let conv = ConvShape::square;
    let mut all = vec![(conv(224, 3, 64, 7, 2), false)];
    let (mut size, mut channels) = (56, 64);
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            if block == 0 {
                all.push((conv(size, channels, width * 4, 1, stride), false));
            }
            all.push((conv(size, channels, width, 1, 1), false));
            all.push((conv(size, width, width, 3, stride), false));
            size /= stride;
            all.push((conv(size, width, width * 4, 1, 1), true));
            channels = width * 4;
        }
    }
    all
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 20) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn main() {
    let peak = measure(Arithmetic::Int8, 50).unwrap_or(f64::NAN);
    println!("peak: {:.1} GOP/s", peak / 1e9);
    let hot: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let layers = resnet50();
    let q = Quantized { scale: 0.02, zero: 0 };
    let convs: Vec<ConvInt8> = layers
        .iter()
        .map(|(s, adds)| {
            let weights: Vec<f32> = noise(s.out_channels * s.kernel[0] * s.kernel[1] * s.in_channels, 3).iter().map(|b| f32::from(*b as i8) * 0.001).collect();
            let ones = vec![0.001; s.out_channels];
            let w = Stepped { weights: &weights, steps: &ones, bias: &ones };
            ConvInt8::new(*s, w, Activation::Relu, q, adds.then_some(q), Some(q))
        })
        .collect();
    let largest = 112 * 112 * 64;
    let of = |seed| noise(largest, seed).iter().map(|b| U8::from(f32::from(*b))).collect::<Vec<U8>>();
    let (a, residual, mut out) = (of(1), of(2), of(3));
    let mut scratch = vec![0f32; convs.iter().map(|c| c.scratch(1)).max().unwrap_or(0)];
    let mut best = vec![f64::INFINITY; layers.len()];
    for _ in 0..30 {
        for ((conv, (shape, adds)), best) in convs.iter().zip(&layers).zip(&mut best) {
            for _ in 0..hot {
                let start = Instant::now();
                conv.run(ConvArgs {
                    images: 1,
                    input: &a,
                    input_pitch: shape.in_channels,
                    residual: adds.then_some((&residual[..], shape.out_channels)),
                    output: &mut out,
                    output_pitch: shape.out_channels,
                    scratch: &mut scratch,
                });
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
    }
    let mut kinds: BTreeMap<String, (usize, f64, u64)> = BTreeMap::new();
    for ((shape, adds), seconds) in layers.iter().zip(&best) {
        let name = format!(
            "{:3}x{:<3} {:4} -> {:4} {}x{}/{}{}",
            shape.input[0],
            shape.input[1],
            shape.in_channels,
            shape.out_channels,
            shape.kernel[0],
            shape.kernel[1],
            shape.stride[0],
            if *adds { " +" } else { "" }
        );
        let kind = kinds.entry(name).or_default();
        *kind = (kind.0 + 1, kind.1 + seconds, shape.flops());
    }
    for (name, (count, sum, flops)) in kinds.iter().rev() {
        let each = sum / *count as f64;
        println!("{name:>42} {count:>5} {:>9.1} us {:>8.1} {:>6.3}", each * 1e6, *flops as f64 / each / 1e9, *flops as f64 / each / peak);
    }
    let sum: f64 = best.iter().sum();
    let flops: u64 = layers.iter().map(|(s, _)| s.flops()).sum();
    println!("all: {:.2} images/s, {:.3} of peak", 1.0 / sum, flops as f64 / sum / peak);
}
