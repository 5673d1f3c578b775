//! Compares the engine with stock tract on ONNX classifiers: `check [--size 224] [--runs 5] [--layers] [--left] [--fixed] [--no-self-test] [--bf16] [--int8] MODEL.onnx...`
//!
//! `--fixed` reads the graph for a batch of one and not of any size.
//!
//! `--bf16` computes in that, and `--int8` what is quantised in bytes; both ask for a cosine of 0.999 in the place of small differences.
//!
//! Prints, for each model: nodes taken and left, largest difference of each output over its largest value, whether batches give the same bits as
//! single images, and the time of an image for both, measured by turns.

use std::time::Instant;

use lakelens_engine::kernels::peak::{Arithmetic, measure as measure_peak};
use lakelens_engine::{Options, Precision, Segment, rewrite};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

struct Flags {
    size: usize,
    runs: usize,
    layers: bool,
    left: bool,
    fixed: bool,
    options: Options,
}

fn main() -> TractResult<()> {
    let mut flags = Flags { size: 224, runs: 5, layers: false, left: false, fixed: false, options: Options::default() };
    let mut failed = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).context("a number is missing");
        match argument.as_str() {
            "--size" => flags.size = number()?,
            "--runs" => flags.runs = number()?,
            "--together" => flags.options.together = number()?,
            "--weights" => flags.options.weights = arguments.next().and_then(|n| n.parse().ok()).context("a number is missing")?,
            "--layers" => flags.layers = true,
            "--fixed" => flags.fixed = true,
            "--left" => flags.left = true,
            "--bf16" => flags.options.precision = Precision::Bf16,
            "--int8" => flags.options.precision = Precision::Int8,
            "--no-self-test" => flags.options.self_test = false,
            path => match check(path, &flags) {
                Ok(fine) => failed |= !fine,
                Err(e) => {
                    println!("{path}: {e:#}");
                    failed = true;
                }
            },
        }
    }
    std::process::exit(failed.into())
}

fn check(path: &str, flags: &Flags) -> TractResult<bool> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stock = load(path, flags.size, false)?.into_optimized()?.into_runnable()?;
    // A graph that has its batch built in is compared at that.
    let (model, any_batch) = match load(path, flags.size, true) {
        Ok(model) if !flags.fixed => (model, true),
        _ => (load(path, flags.size, false)?, false),
    };
    let start = Instant::now();
    let (model, report) = rewrite(model, &flags.options)?;
    let rewriting = start.elapsed();
    println!(
        "{name}: {} nodes taken, {} left, {} segments, {:.2} GFLOP, weights {:.1} MB, arena {:.1} MB an image, rewritten in {rewriting:.0?}{}",
        report.taken.len(),
        report.left.len(),
        report.segments.len(),
        report.flops() as f64 / 1e9,
        report.weight_bytes() as f64 / 1e6,
        report.arena_bytes() as f64 / 1e6,
        report.fallback.as_ref().map_or(String::new(), |f| format!("; FALLS BACK: {f}"))
    );
    if flags.left {
        report.left.iter().for_each(|l| println!("    left {:?} ({}): {}", l.node, l.op, l.why));
    }
    let segments: Vec<Segment> = model.nodes().iter().filter_map(|n| n.op_as::<Segment>().cloned()).collect();
    let engine = model.into_optimized()?.into_runnable()?;
    let input = |image: usize| picture(flags.size, image);
    let due = stock.run(tvec!(input(0).into_tvalue()))?;
    let got = engine.run(tvec!(input(0).into_tvalue()))?;
    let mut fine = report.fallback.is_none();
    for (slot, (due, got)) in due.iter().zip(&got).enumerate() {
        let (difference, cosine) = (difference(due, got)?, cosine(due, got)?);
        let near = if flags.options.precision == Precision::F32 { difference <= 1e-4 } else { cosine >= 0.999 };
        fine &= near;
        let verdict = if near { "" } else { "  TOO MUCH" };
        println!("    output {slot} {:?}: difference {difference:.1e}, cosine {cosine:.6}{verdict}", got.shape());
    }
    // Nodes that are tract's need not give the same bits.
    if any_batch && report.left.is_empty() {
        for batch in [2, 5, 8] {
            let images: Vec<Tensor> = (0..batch).map(input).collect();
            let together = engine.run(tvec!(Tensor::stack_tensors(0, &images)?.into_tvalue()))?;
            for (image, picture) in images.into_iter().enumerate() {
                let alone = engine.run(tvec!(picture.into_tvalue()))?;
                let same = alone.iter().zip(&together).try_fold(true, |same, (alone, together)| {
                    let together = together.slice(0, image, image + 1)?;
                    let bits = |t: &Tensor| -> TractResult<Vec<u32>> {
                        Ok(t.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|v| v.to_bits()).collect())
                    };
                    TractResult::Ok(same && bits(alone)? == bits(&together)?)
                })?;
                if !same {
                    println!("    image {image} of a batch of {batch} differs from itself alone");
                    fine = false;
                }
            }
        }
    }
    if flags.layers {
        layers(&segments, flags)?;
    }
    time(&stock, &engine, any_batch, report.flops(), flags)?;
    Ok(fine)
}

/// For one image, or any number of them.
fn load(path: &str, size: usize, any_batch: bool) -> TractResult<TypedModel> {
    let model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(path)?;
    let batch = if any_batch { model.symbols.sym("N").to_dim() } else { 1.to_dim() };
    let shape = tvec!(batch, 3.to_dim(), size.to_dim(), size.to_dim());
    model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?.into_typed()
}

/// Something like a picture: smooth, with noise.
fn picture(size: usize, image: usize) -> Tensor {
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(image as u64 + 1);
    let values: Vec<f32> = (0..3 * size * size)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let noise = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            let (y, x) = (i / size % size, i % size);
            2.0 * ((x as f32 / 31.0).sin() * (y as f32 / (17.0 + image as f32)).cos()) + noise
        })
        .collect();
    Tensor::from_shape(&[1, 3, size, size], &values).unwrap_or_default()
}

fn difference(due: &Tensor, got: &Tensor) -> TractResult<f32> {
    ensure!(due.shape() == got.shape(), "{:?} where {:?} is due", got.shape(), due.shape());
    let (due, got) = (due.try_as_plain_ram()?, got.try_as_plain_ram()?);
    let (due, got) = (due.as_slice::<f32>()?, got.as_slice::<f32>()?);
    let largest = due.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let apart = |(a, b): (&f32, &f32)| if a.is_nan() == b.is_nan() { (a - b).abs() / largest } else { f32::INFINITY };
    Ok(due.iter().zip(got).map(apart).fold(0.0, f32::max))
}

fn cosine(due: &Tensor, got: &Tensor) -> TractResult<f32> {
    let (due, got) = (due.try_as_plain_ram()?, got.try_as_plain_ram()?);
    let (due, got) = (due.as_slice::<f32>()?, got.as_slice::<f32>()?);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    Ok(dot(due, got) / (dot(due, due) * dot(got, got)).sqrt())
}

/// The best time of each step.
fn layers(segments: &[Segment], flags: &Flags) -> TractResult<()> {
    for segment in segments {
        let infos = segment.plan().steps();
        let inputs: TVec<TValue> = segment
            .plan()
            .input_lengths()
            .iter()
            .map(|&n| Tensor::zero::<f32>(&[1, n]).map(IntoTValue::into_tvalue))
            .collect::<TractResult<_>>()?;
        let mut best = vec![f64::INFINITY; infos.len()];
        for _ in 0..flags.runs.max(1) + 1 {
            let mut last = Instant::now();
            segment.run(&inputs, &mut |at| {
                let now = Instant::now();
                best[at] = best[at].min((now - last).as_secs_f64());
                last = Instant::now();
            })?;
        }
        for (info, seconds) in infos.iter().zip(&best) {
            println!("    {:>9.1} us {:>7.1} GFLOP/s  {:<18} {}", seconds * 1e6, info.flops as f64 / seconds / 1e9, info.kind, info.name);
        }
    }
    Ok(())
}

fn time(stock: &Arc<TypedRunnableModel>, engine: &Arc<TypedRunnableModel>, any_batch: bool, flops: u64, flags: &Flags) -> TractResult<()> {
    let one = tvec!(picture(flags.size, 0).into_tvalue());
    let eight: Vec<Tensor> = (0..8).map(|i| picture(flags.size, i)).collect();
    let eight = tvec!(Tensor::stack_tensors(0, &eight)?.into_tvalue());
    let mut best = [f64::INFINITY; 3];
    let arithmetic = match flags.options.precision {
        Precision::F32 => Arithmetic::F32,
        Precision::Bf16 => Arithmetic::Bf16,
        Precision::Int8 => Arithmetic::Int8,
    };
    let mut peak = f64::NAN;
    for _ in 0..flags.runs {
        let mut measure = |slot: usize, model: &Arc<TypedRunnableModel>, input: &TVec<TValue>, images: f64| -> TractResult<()> {
            let start = Instant::now();
            model.run(input.clone())?;
            best[slot] = best[slot].min(start.elapsed().as_secs_f64() / images);
            Ok(())
        };
        peak = peak.max(measure_peak(arithmetic, 3).unwrap_or(f64::NAN));
        measure(0, stock, &one, 1.0)?;
        measure(1, engine, &one, 1.0)?;
        if any_batch {
            measure(2, engine, &eight, 8.0)?;
        }
    }
    let rate = |seconds: f64| 1.0 / seconds;
    let share = |seconds: f64| flops as f64 / seconds / peak;
    println!(
        "    images/s: stock tract {:.1}, engine {:.1} ({:.3} of the peak), in eights {:.1} ({:.3})",
        rate(best[0]),
        rate(best[1]),
        share(best[1]),
        rate(best[2]),
        share(best[2])
    );
    Ok(())
}
