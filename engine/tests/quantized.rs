//! Random small networks that are quantised: the engine computes in bytes what tract computes in floats between roundings.

mod build;

use build::{Builder, Layer, near, run, run_as_it_is};
use lakelens_engine::kernels::has_int8;
use lakelens_engine::{Error, Options, Precision, Report, rewrite};
use proptest::prelude::*;
use tract_core::ops::quant::DequantizeLinearF32;

fn int8() -> Options {
    Options { precision: Precision::Int8, ..Options::default() }
}

fn network() -> impl Strategy<Value = (Vec<(Layer, bool)>, usize, [usize; 2], u64)> {
    let layer = (build::layer(), prop_oneof![4 => Just(true), 1 => Just(false)]);
    (prop::collection::vec(layer, 1..9), 1usize..6, [5usize..15, 5usize..15], any::<u64>())
}

fn conv(depthwise: bool) -> Layer {
    Layer::Conv { out: 20, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise }
}

/// Names of the layers' kinds.
fn kinds(report: &Report) -> Vec<&'static str> {
    report.segments[0].layers.iter().map(|l| l.kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn computes_in_bytes_about_what_tract_computes((layers, channels, size, seed) in network()) {
        if !has_int8() {
            return Ok(());
        }
        let model = Builder::quantized(&layers, channels, size, seed).unwrap();
        let input = build::picture(channels, size, 1, seed);
        let due = run_as_it_is(model.clone(), &input).unwrap();
        let (rewritten, report) = rewrite(model, &int8()).unwrap();
        prop_assert_eq!(report.fallback, None);
        prop_assert!(report.left.is_empty(), "left: {:?}", report.left);
        let got = run(rewritten, &input).unwrap();
        // Layer by layer the self-test holds it to half a step; a sum is not rounded before it is added, and the steps of several layers add up.
        for (due, got) in due.iter().zip(&got) {
            near(due, got, 0.1);
        }
    }

    #[test]
    fn a_batch_is_its_images_bit_for_bit_in_bytes((layers, channels, size, seed) in network(), batch in 2usize..9, together in 1usize..5) {
        if !has_int8() {
            return Ok(());
        }
        let model = Builder::quantized(&layers, channels, size, seed).unwrap();
        let (rewritten, _) = rewrite(model, &Options { self_test: false, together, ..int8() }).unwrap();
        build::batches_are_images(rewritten, build::picture(channels, size, batch, seed));
    }

    #[test]
    fn other_precisions_leave_what_is_quantised_to_tract((layers, channels, size, seed) in network()) {
        let model = Builder::quantized(&layers, channels, size, seed).unwrap();
        let input = build::picture(channels, size, 1, seed);
        let due = run_as_it_is(model.clone(), &input).unwrap();
        let (rewritten, report) = rewrite(model, &Options::default()).unwrap();
        prop_assert!(report.left.iter().any(|l| l.why.contains("which only int8 computes")));
        let got = run(rewritten, &input).unwrap();
        // A value in the middle between two steps may be rounded either way.
        for (due, got) in due.iter().zip(&got) {
            near(due, got, 0.1);
        }
    }
}

#[test]
fn what_rounds_and_what_makes_floats_again_is_fused() {
    if !has_int8() {
        return;
    }
    let pool = Layer::MaxPool { kernel: 2, stride: 2, pad: 0, up: false };
    type Layers<'a> = &'a [(Layer, bool)];
    let cases: [(Layers<'_>, &[&str]); 5] = [
        (&[(conv(false), false), (Layer::Activation(1), true)], &["quantize", "conv"]),
        (&[(conv(false), false), (Layer::Activation(0), true), (pool, true)], &["quantize", "conv", "max pool"]),
        (&[(conv(false), true), (Layer::Residual, true)], &["quantize", "conv", "conv"]),
        // An activation that is more than bounds stands apart: the convolution computes on bytes all the same.
        (&[(conv(false), false), (Layer::Activation(3), true)], &["quantize", "conv", "activation", "quantize"]),
        (&[(conv(false), false), (Layer::Function(1), true)], &["quantize", "conv", "activation", "quantize"]),
    ];
    for (layers, due) in cases {
        let (_, report) = rewrite(Builder::quantized(layers, 8, [8, 8], 19).unwrap(), &int8()).unwrap();
        let all: Vec<&str> = due.iter().copied().chain(["conv", "global pool", "linear"]).collect();
        assert_eq!(kinds(&report), all, "{layers:?}");
    }
}

#[test]
fn a_pair_that_is_none_stays_tracts() {
    let model = Builder::quantized(&[(conv(false), true)], 4, [8, 8], 3).unwrap();
    let input = build::picture(4, [8, 8], 1, 3);
    for broken in 0..3 {
        let mut model = model.clone();
        let at = model.nodes().iter().position(|n| n.op_is::<DequantizeLinearF32>()).unwrap();
        let op = model.node_mut(at).op_as_mut::<DequantizeLinearF32>().unwrap();
        match broken {
            0 => op.scale *= 2.0,
            1 => op.zero_point -= 1,
            _ => op.scale = 0.0,
        }
        let due = run_as_it_is(model.clone(), &input).unwrap();
        match rewrite(model, &int8()) {
            Ok((rewritten, report)) => {
                assert!(report.left.len() >= 2, "left: {:?}", report.left);
                run(rewritten, &input).unwrap().iter().zip(&due).for_each(|(got, due)| near(due, got, 0.1));
            }
            Err(Error::Processor(_)) => assert!(!has_int8()),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_network_that_is_not_quantised_is_refused() {
    let model = Builder::network(&[conv(false), Layer::Residual], 4, [8, 8], 5, true).unwrap();
    match rewrite(model, &int8()) {
        Err(Error::NotQuantised) => (),
        Err(Error::Processor(_)) => assert!(!has_int8()),
        other => panic!("{:?}", other.map(|o| o.1)),
    }
}
