//! The time and share of peak of each of ResNet-50's convolutions, run one after the other with weights of their own as the network does, so that weights
//! come from memory as they would: `taskset -c 0 cargo run --release -p lakelens-engine --example kernels [-- BATCH... WORD...]`. Words:
//! `int8`; `direct`, without Winograd's method; `hot`, each layer several times in turn; `others`, layers of other networks; `avx2` or `portable`.

use std::collections::BTreeMap;
use std::time::Instant;

use lakelens_engine::kernels::peak::{Arithmetic, measure};
use lakelens_engine::kernels::{
    Activation, Algorithm, Conv, ConvArgs, ConvInt8, ConvShape, Isa, Memory, Number, PoolShape, Pooling, Quantized, Stepped, U8,
    candidates, cost, elementwise, global_average, has_int8, pool,
};

/// ResNet-50's convolutions in order; true where a residual is added.
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

/// Other shapes: grouped, depthwise and pointwise layers of ResNeXt-50, MobileNet-V2 and EfficientNet.
fn others() -> Vec<(ConvShape, bool)> {
    let conv = |size: usize, in_channels, out_channels, kernel: usize, stride, groups| {
        (ConvShape { groups, ..ConvShape::square(size, in_channels, out_channels, kernel, stride) }, false)
    };
    vec![
        conv(56, 128, 128, 3, 1, 32),
        conv(28, 256, 256, 3, 1, 32),
        conv(14, 512, 512, 3, 1, 32),
        conv(7, 1024, 1024, 3, 1, 32),
        conv(224, 3, 32, 3, 2, 1),
        conv(112, 32, 32, 3, 1, 32),
        conv(112, 96, 96, 3, 2, 96),
        conv(56, 144, 144, 3, 1, 144),
        conv(28, 192, 192, 5, 1, 192),
        conv(14, 576, 576, 3, 1, 576),
        conv(14, 480, 480, 5, 1, 480),
        conv(7, 960, 960, 3, 1, 960),
        conv(7, 1152, 1152, 5, 1, 1152),
        conv(112, 32, 16, 1, 1, 1),
        conv(112, 16, 96, 1, 1, 1),
        conv(56, 24, 144, 1, 1, 1),
        conv(56, 144, 24, 1, 1, 1),
        conv(28, 32, 192, 1, 1, 1),
        conv(28, 192, 32, 1, 1, 1),
        conv(14, 384, 64, 1, 1, 1),
        conv(7, 160, 960, 1, 1, 1),
        conv(7, 960, 320, 1, 1, 1),
        conv(1, 1280, 1000, 1, 1, 1),
        conv(28, 128, 32, 3, 1, 1),
        conv(224, 64, 64, 3, 1, 1),
        conv(14, 512, 512, 3, 1, 1),
    ]
}

/// Values between -1 and 1 that repeat from run to run.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2_147_483_648.0
    };
    (0..len).map(|_| next()).collect()
}

/// Values of the largest map of any layer.
fn largest_map(layers: &[(ConvShape, bool)], batch: usize) -> usize {
    let of_layer = |(s, _): &(ConvShape, bool)| {
        let [oh, ow] = s.output();
        (s.input[0] * s.input[1] * s.in_channels).max(oh * ow * s.out_channels) * batch
    };
    layers.iter().map(of_layer).max().unwrap_or(0)
}

/// Seconds of each convolution at each algorithm that it has: the best of `passes` passes over the network.
fn time(
    layers: &[(ConvShape, bool)],
    algorithm: impl Fn(&ConvShape) -> Algorithm,
    batch: usize,
    passes: usize,
    isa: Isa,
    hot: usize,
) -> (Vec<f64>, usize) {
    let mut packing = 0.0;
    let convs: Vec<Conv> = layers
        .iter()
        .map(|(shape, _)| {
            let taps = shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups;
            let weights = noise(shape.out_channels * taps, 7);
            let start = Instant::now();
            let conv = Conv::new_with(*shape, &weights, &vec![0.1; shape.out_channels], Activation::Relu, algorithm(shape), isa);
            packing += start.elapsed().as_secs_f64();
            conv
        })
        .collect();
    println!("\npacked in {packing:.3} s");
    let largest = largest_map(layers, batch);
    let (mut a, mut b, mut residual) = (Memory::zeros(largest), Memory::zeros(largest), Memory::zeros(largest));
    a.copy_from_slice(&noise(largest, 1));
    residual.copy_from_slice(&noise(largest, 2));
    let mut scratch = Memory::zeros(convs.iter().map(|conv| conv.scratch(batch)).max().unwrap_or(0));
    let mut best = vec![f64::INFINITY; layers.len()];
    for _ in 0..passes {
        for ((conv, (shape, adds)), best) in convs.iter().zip(layers).zip(&mut best) {
            for _ in 0..hot {
                let start = Instant::now();
                conv.run(ConvArgs {
                    images: batch,
                    input: &a,
                    input_pitch: shape.in_channels,
                    residual: adds.then_some((&residual, shape.out_channels)),
                    output: &mut b,
                    output_pitch: shape.out_channels,
                    scratch: &mut scratch,
                });
                *best = best.min(start.elapsed().as_secs_f64());
            }
            std::mem::swap(&mut a, &mut b);
            // Values would grow without end from layer to layer.
            a.iter_mut().step_by(257).for_each(|x| *x = x.clamp(-1.0, 1.0));
        }
        a.copy_from_slice(&noise(largest, 1));
    }
    (best, convs.iter().map(Conv::weight_bytes).sum())
}

/// As [`time`], of bytes.
fn time_int8(layers: &[(ConvShape, bool)], batch: usize, passes: usize, hot: usize) -> Vec<f64> {
    let how = Quantized { scale: 1.0, zero: 3 };
    let convs = layers.iter().map(|(shape, adds)| {
        let taps = shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups;
        let weights: Vec<f32> = noise(shape.out_channels * taps, 7).iter().map(|w| (w * 127.0).round()).collect();
        let (steps, bias) = (vec![1.0; shape.out_channels], vec![0.1; shape.out_channels]);
        let stepped = Stepped { weights: &weights, steps: &steps, bias: &bias };
        // As large as a sum of so many values is.
        let output = Quantized { scale: 73.0 * (taps as f32).sqrt(), zero: 0 };
        ConvInt8::new(*shape, stepped, Activation::Relu, how, adds.then_some(output), Some(output))
    });
    let convs: Vec<ConvInt8> = convs.collect();
    let words = largest_map(layers, batch).div_ceil(4);
    let (mut a, mut b, mut residual) = (Memory::zeros(words), Memory::zeros(words), Memory::zeros(words));
    for (map, seed) in [(&mut a, 1), (&mut residual, 2)] {
        let values = noise(words * 4, seed);
        U8::of_words_mut(map).iter_mut().zip(values).for_each(|(to, value)| *to = U8::from(value * 128.0 + 128.0));
    }
    let mut scratch = Memory::zeros(convs.iter().map(|conv| conv.scratch(batch)).max().unwrap_or(0));
    let mut best = vec![f64::INFINITY; layers.len()];
    for _ in 0..passes {
        for ((conv, (shape, adds)), best) in convs.iter().zip(layers).zip(&mut best) {
            for _ in 0..hot {
                let start = Instant::now();
                conv.run(ConvArgs::<U8, U8> {
                    images: batch,
                    input: U8::of_words(&a),
                    input_pitch: shape.in_channels,
                    residual: adds.then_some((U8::of_words(&residual), shape.out_channels)),
                    output: U8::of_words_mut(&mut b),
                    output_pitch: shape.out_channels,
                    scratch: &mut scratch,
                });
                *best = best.min(start.elapsed().as_secs_f64());
            }
            std::mem::swap(&mut a, &mut b);
        }
    }
    best
}

/// Prints the time and bandwidth of what is bound by memory, the best of several runs.
fn unfused(isa: Isa) {
    let (input, other) = (Memory::zeros(112 * 112 * 256), Memory::zeros(112 * 112 * 256));
    let mut output = Memory::zeros(112 * 112 * 256);
    let mut report = |name: &str, values: usize, run: &mut dyn FnMut(&mut [f32])| {
        let once = |output: &mut [f32], run: &mut dyn FnMut(&mut [f32])| {
            let start = Instant::now();
            run(output);
            start.elapsed().as_secs_f64()
        };
        let best = (0..20).map(|_| once(&mut output, run)).fold(f64::INFINITY, f64::min);
        println!("{name:>42} {:>9.1} us {:>6.1} GB/s", best * 1e6, values as f64 * 4.0 / best / 1e9);
    };
    let pixels = 56 * 56;
    report("56x56 256 add, relu", pixels * 256 * 3, &mut |to| {
        elementwise::add(isa, (pixels, 256), (&input, 256), (&other, 256), Activation::Relu, (to, 256));
    });
    report("56x56 256 scale, shift, relu", pixels * 256 * 2, &mut |to| {
        let vector = Some(&other[..256]);
        elementwise::scale_shift(isa, (pixels, 256), (&input, 256), vector, vector, Activation::Relu, (to, 256));
    });
    report("56x56 256 silu", pixels * 256 * 2, &mut |to| {
        elementwise::scale_shift(isa, (pixels, 256), (&input, 256), None, None, Activation::Silu, (to, 256));
    });
    let pooling = Pooling::Max;
    let shape = PoolShape { input: [112; 2], channels: 64, kernel: [3; 2], stride: [2; 2], dilation: [1; 2], pad: [1; 4], pooling };
    report("112x112 64 max 3x3/2", (112 * 112 + pixels) * 64, &mut |to| pool(isa, &shape, 1, (&input, 64), (to, 64)));
    if has_int8() {
        report("112x112 64 max 3x3/2 of bytes", (112 * 112 + pixels) * 16, &mut |to| {
            pool(isa, &shape, 1, (U8::of_words(&input), 64), (U8::of_words_mut(to), 64));
        });
    }
    report("7x7 2048 global average", 50 * 2048, &mut |to| global_average(isa, (1, 49, 2048), (&input, 2048), (to, 2048)));
}

/// Prints the time and share of peak of each kind of layer, and of all.
fn table(layers: &[(ConvShape, bool)], seconds: &[f64], batch: usize, peak: f64) {
    println!("{:>42} {:>5} {:>9} {:>8} {:>6}", "layer", "count", "us/image", "GFLOP/s", "share");
    let mut kinds: BTreeMap<String, (usize, f64, u64)> = BTreeMap::new();
    for ((shape, adds), seconds) in layers.iter().zip(seconds) {
        let name = format!(
            "{:3}x{:<3} {:4} -> {:4} {}x{}/{}{}{}",
            shape.input[0],
            shape.input[1],
            shape.in_channels,
            shape.out_channels,
            shape.kernel[0],
            shape.kernel[1],
            shape.stride[0],
            if shape.groups > 1 { format!(" /{}", shape.groups) } else { String::new() },
            if *adds { " +" } else { "" }
        );
        let kind = kinds.entry(name).or_default();
        *kind = (kind.0 + 1, kind.1 + seconds, shape.flops());
    }
    for (name, (count, sum, flops)) in kinds.iter().rev() {
        let each = sum / *count as f64 / batch as f64;
        let rate = *flops as f64 / each;
        println!("{name:>42} {count:>5} {:>9.1} {:>8.1} {:>6.3}", each * 1e6, rate / 1e9, rate / peak);
    }
    let flops: u64 = layers.iter().map(|(shape, _)| shape.flops()).sum();
    let sum = seconds.iter().sum::<f64>() / batch as f64;
    println!("all: {:.2} images/s, {:.1} GFLOP/s, {:.3} of peak", 1.0 / sum, flops as f64 / sum / 1e9, flops as f64 / sum / peak);
}

fn main() {
    let peak = measure(Arithmetic::F32, 50).unwrap_or(f64::NAN);
    println!("peak F32: {:.1} GFLOP/s", peak / 1e9);
    for a in [Arithmetic::Bf16, Arithmetic::Int8] {
        println!("peak {a:?}: {:.1} GOP/s", measure(a, 10).unwrap_or(f64::NAN) / 1e9);
    }
    let mut isa = Isa::best();
    let (mut batches, mut only_direct, mut hot, mut other, mut int8) = (Vec::new(), false, 1, false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "avx2" => isa = Isa::Avx2,
            "others" => other = true,
            "hot" => hot = 4,
            "int8" => int8 = true,
            "direct" => only_direct = true,
            "portable" => isa = Isa::Portable,
            number => batches.extend(number.parse::<usize>()),
        }
    }
    if other {
        unfused(isa);
    }
    if batches.is_empty() {
        batches = vec![1, 8];
    }
    let mut layers = if other { others() } else { resnet50() };
    if int8 {
        layers.retain(|(shape, _)| ConvInt8::computes(shape, Activation::Relu));
    }
    let flops: u64 = layers.iter().map(|(shape, _)| shape.flops()).sum();
    for batch in batches {
        if int8 {
            let peak = measure(Arithmetic::Int8, 50).unwrap_or(f64::NAN);
            let seconds = time_int8(&layers, batch, if batch == 1 { 24 } else { 4 }, hot);
            table(&layers, &seconds, batch, peak);
            continue;
        }
        let mut total_best: Vec<(f64, Algorithm)> = vec![(f64::INFINITY, Algorithm::Direct); layers.len()];
        let every: Vec<Algorithm> = layers.iter().flat_map(|(shape, _)| candidates(shape, 4)).fold(Vec::new(), |mut all, algorithm| {
            if !all.contains(&algorithm) {
                all.push(algorithm);
            }
            all
        });
        for algorithm in every.into_iter().filter(|algorithm| !only_direct || *algorithm == Algorithm::Direct) {
            let pick = |shape: &ConvShape| if candidates(shape, 4).contains(&algorithm) { algorithm } else { Algorithm::Direct };
            let (seconds, bytes) = time(&layers, pick, batch, if batch == 1 { 12 } else { 4 }, isa, hot);
            println!("batch {batch}, {algorithm:?} ({isa:?}), {} MB of weights", bytes / 1_000_000);
            for (i, ((shape, _), seconds)) in layers.iter().zip(&seconds).enumerate() {
                if *seconds < total_best[i].0 {
                    total_best[i] = (*seconds, pick(shape));
                }
            }
            table(&layers, &seconds, batch, peak);
        }
        let cheapest = |shape: &ConvShape| {
            let by_cost = |a: &Algorithm, b: &Algorithm| cost(shape, *a, 4, 1).total_cmp(&cost(shape, *b, 4, 1));
            candidates(shape, 4).into_iter().min_by(by_cost).unwrap_or(Algorithm::Direct)
        };
        let (seconds, bytes) = time(&layers, cheapest, batch, if batch == 1 { 12 } else { 4 }, isa, hot);
        let sum = seconds.iter().sum::<f64>() / batch as f64;
        println!(
            "cheapest by estimate: {:.2} images/s, {:.3} of peak, {} MB of weights",
            1.0 / sum,
            flops as f64 / sum / peak,
            bytes / 1_000_000
        );
        let sum = total_best.iter().map(|(seconds, _)| seconds).sum::<f64>() / batch as f64;
        println!("best of each: {:.2} images/s, {:.3} of peak", 1.0 / sum, flops as f64 / sum / peak);
    }
}
