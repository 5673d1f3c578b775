//! Random small networks: what comes out of a rewritten model is what comes out of tract's.

mod build;

use build::{Builder, Layer, close, run};
use lakelens_engine::kernels::has_bf16;
use lakelens_engine::{Error, Options, Precision, Report, Segment, rewrite};
use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ops::array::{Pad, Slice, TypedConcat};
use tract_core::ops::cnn::{Conv, MaxPool, SumPool};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::{Reduce, leaky_relu};

fn segments(model: &TypedModel) -> usize {
    model.nodes().iter().filter(|n| n.op_is::<Segment>()).count()
}

/// Rewrites a model and compares what it makes of `input` with what tract makes of it; how many segments there are, and the report.
fn compared(model: TypedModel, options: &Options, input: &Tensor, tolerance: f32) -> (usize, Report) {
    let due = run(model.clone(), input).unwrap();
    let (rewritten, report) = rewrite(model, options).unwrap();
    let count = segments(&rewritten);
    run(rewritten, input).unwrap().iter().zip(&due).for_each(|(got, due)| close(due, got, tolerance));
    (count, report)
}

/// Any network, its input channels and size.
fn network() -> impl Strategy<Value = (Vec<Layer>, usize, [usize; 2], u64)> {
    (prop::collection::vec(build::layer(), 1..9), 1usize..6, [5usize..15, 5usize..15], any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn computes_what_tract_computes((layers, channels, size, seed) in network(), embedding in any::<bool>()) {
        let model = Builder::network(&layers, channels, size, seed, embedding).unwrap();
        let input = build::picture(channels, size, 1, seed);
        let due = build::run_as_it_is(model.clone(), &input).unwrap();
        let (rewritten, report) = rewrite(model, &Options::default()).unwrap();
        prop_assert_eq!(report.fallback, None);
        prop_assert!(segments(&rewritten) > 0, "left: {:?}", report.left);
        prop_assert!(report.left.is_empty(), "left: {:?}", report.left);
        let got = run(rewritten, &input).unwrap();
        prop_assert_eq!(due.len(), got.len());
        for (due, got) in due.iter().zip(&got) {
            close(due, got, 1e-4);
        }
    }

    /// tract folds what it computes from a map without pixels into a constant NaN, of one image whatever the batch: such a network has nothing to compare.
    #[test]
    fn no_random_network_has_a_map_without_pixels((layers, channels, size, seed) in network()) {
        let model = Builder::network(&layers, channels, size, seed, true).unwrap();
        for fact in model.nodes().iter().flat_map(|n| &n.outputs).map(|o| &o.fact) {
            prop_assert!(fact.shape.iter().all(|d| *d != 0.to_dim()), "{:?} in {:?}", fact.shape, layers);
        }
    }

    #[test]
    fn a_batch_is_its_images_bit_for_bit((layers, channels, size, seed) in network(), batch in 2usize..9, together in 1usize..5) {
        let model = Builder::network(&layers, channels, size, seed, true).unwrap();
        let (rewritten, _) = rewrite(model, &Options { self_test: false, together, ..Options::default() }).unwrap();
        build::batches_are_images(rewritten, build::picture(channels, size, batch, seed));
    }
}

/// In bf16 where the processor has it.
fn bf16() -> Options {
    let precision = if has_bf16() { Precision::Bf16 } else { Precision::F32 };
    Options { precision, ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn computes_in_bf16_about_what_tract_computes((layers, channels, size, seed) in network()) {
        let model = Builder::network(&layers, channels, size, seed, true).unwrap();
        let input = build::picture(channels, size, 1, seed);
        let due = build::run_as_it_is(model.clone(), &input).unwrap();
        let (rewritten, report) = rewrite(model, &bf16()).unwrap();
        prop_assert_eq!(report.fallback, None);
        prop_assert!(report.left.is_empty(), "left: {:?}", report.left);
        let got = run(rewritten, &input).unwrap();
        // Layer by layer the self-test holds it to a rounding; some random networks make much of that, and of a value in the wrong place all.
        for (due, got) in due.iter().zip(&got) {
            build::near(due, got, 0.5);
        }
    }

    #[test]
    fn a_batch_is_its_images_bit_for_bit_in_bf16((layers, channels, size, seed) in network(), batch in 2usize..9, together in 1usize..5) {
        let model = Builder::network(&layers, channels, size, seed, true).unwrap();
        let (rewritten, _) = rewrite(model, &Options { self_test: false, together, ..bf16() }).unwrap();
        build::batches_are_images(rewritten, build::picture(channels, size, batch, seed));
    }
}

/// Numbers that an operator might carry: small ones, and ones that overflow what is computed with them.
fn number() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..5, Just(usize::MAX), Just(usize::MAX / 2), Just(1 << 31), Just(1 << 62)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_node_is_an_error_and_no_panic(
        (layers, channels, size, seed) in network(), at in any::<prop::sample::Index>(), which in 0u8..8, a in number(), b in number()
    ) {
        let mut model = Builder::network(&layers, channels, size, seed, false).unwrap();
        let nodes = model.nodes().len();
        let node = model.node_mut(at.index(nodes));
        if let Some(conv) = node.op_as_mut::<Conv>() {
            match which {
                0 => conv.group = a,
                1 => conv.pool_spec.input_channels = a,
                2 => conv.pool_spec.output_channels = a,
                _ => build::spoil(&mut conv.pool_spec, which, a, b),
            }
        } else if let Some(pool) = node.op_as_mut::<MaxPool>() {
            build::spoil(&mut pool.pool_spec, which, a, b);
        } else if let Some(pool) = node.op_as_mut::<SumPool>() {
            build::spoil(&mut pool.pool_spec, which, a, b);
        } else if let Some(slice) = node.op_as_mut::<Slice>() {
            (slice.start, slice.end) = (a.to_dim(), b.to_dim());
        } else if let Some(pad) = node.op_as_mut::<Pad>() {
            pad.pads[3] = (a, b);
        } else if let Some(concat) = node.op_as_mut::<TypedConcat>() {
            concat.axis = a;
        } else if let Some(reduce) = node.op_as_mut::<Reduce>() {
            reduce.axes = tvec!(a);
        } else if let Some(axis) = node.op_as_mut::<AxisOp>() {
            *axis = AxisOp::Move(a, b);
        } else if let Some(function) = node.op_as_mut::<ElementWiseOp>() {
            *function = leaky_relu(if which < 4 { f32::NAN } else { -(a as f32) });
        }
        // Either way is fine; to panic is not.
        let _ = rewrite(model, &Options::default()).map(|(_, report)| report);
    }
}

#[test]
fn a_graph_after_declutter_is_understood_too() {
    let layers =
        [Layer::Conv { out: 8, kernel: 1, stride: 1, dilation: 1, pad: 0, depthwise: false }, Layer::Residual, Layer::SqueezeExcite];
    let model = Builder::network(&layers, 4, [9, 7], 5, true).unwrap();
    let input = build::picture(4, [9, 7], 1, 5);
    let due = run(model.clone(), &input).unwrap();
    let (rewritten, report) = rewrite(model.into_decluttered().unwrap(), &Options::default()).unwrap();
    assert!(segments(&rewritten) > 0, "left: {:?}", report.left);
    run(rewritten, &input).unwrap().iter().zip(&due).for_each(|(got, due)| close(due, got, 1e-4));
}

#[test]
fn what_the_engine_does_not_know_stays_tracts() {
    let conv = Layer::Conv { out: 6, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise: false };
    let model = Builder::network(&[conv.clone(), Layer::Unknown, conv.clone(), Layer::Unknown, conv], 3, [8, 8], 7, true).unwrap();
    let (segments, report) = compared(model, &Options::default(), &build::picture(3, [8, 8], 2, 7), 1e-4);
    assert_eq!((segments, report.left.len()), (3, 2), "left: {:?}", report.left);
}

#[test]
fn what_has_its_channels_last_leaves_and_comes_back_so() {
    let conv = Layer::Conv { out: 6, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise: false };
    // As large in every direction, too: there a shape does not tell the orders apart.
    for size in [[8, 5], [6, 6]] {
        let model = Builder::network(&[conv.clone(), Layer::UnknownLast, conv.clone()], 3, size, 7, true).unwrap();
        let (segments, report) = compared(model, &Options::default(), &build::picture(3, size, 2, 7), 1e-4);
        assert_eq!((segments, report.left.len()), (2, 2), "left: {:?}", report.left);
    }
}

#[test]
fn only_a_norm_over_the_channels_is_a_layer_of_the_engine() {
    // Channels, rows, columns, of which there are as many; the right length and another; whole, and with an inner value that goes out, too.
    for (axis, length, read_elsewhere, taken) in
        [(1, 4, false, true), (2, 4, false, false), (3, 4, false, false), (1, 5, false, false), (1, 4, true, false)]
    {
        let model = Builder::normalized(3, axis, length, read_elsewhere).unwrap();
        let (_, report) = compared(model, &Options::default(), &build::picture(3, [4, 4], 2, 3), 1e-4);
        let norms = report.segments[0].layers.iter().filter(|l| l.kind == "layer norm").count();
        assert_eq!((norms, report.left.is_empty()), (usize::from(taken), taken), "axis {axis} over {length}: {:?}", report.left);
    }
}

#[test]
fn what_only_looks_like_a_vector_is_no_factor_of_channels() {
    for (model, size) in [(Builder::times_imported(5).unwrap(), [6, 6]), (Builder::times_reshaped(5).unwrap(), [4, 4])] {
        for options in [Options::default(), bf16(), Options { self_test: false, ..Options::default() }] {
            let (segments, report) = compared(model.clone(), &options, &build::picture(3, size, 2, 5), 0.02);
            assert_eq!(report.fallback, None);
            assert!(segments > 0 && !report.left.is_empty(), "left: {:?}", report.left);
        }
    }
}

#[test]
fn a_graph_may_be_deeper_than_a_stack() {
    let layers = vec![Layer::Function(0); 3000];
    let rewriting = || {
        let model = Builder::network(&layers, 1, [1, 1], 5, false).unwrap();
        rewrite(model, &Options { self_test: false, ..Options::default() }).unwrap().1.left.len()
    };
    let left = std::thread::scope(|scope| std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, rewriting).unwrap().join());
    assert_eq!(left.unwrap(), 0);
}

#[test]
fn a_way_around_does_not_make_a_circle() {
    // A segment that held both ends would have to run before and after the operator between them.
    for model in [Builder::around_unknown(11).unwrap(), Builder::renamed_between_parts(11).unwrap()] {
        let input = build::picture(3, [8, 8], 1, 11);
        let due = run(model.clone(), &input).unwrap();
        let (rewritten, _) = rewrite(model, &Options::default()).unwrap();
        assert_eq!(segments(&rewritten), 2);
        run(rewritten, &input).unwrap().iter().zip(&due).for_each(|(got, due)| close(due, got, 1e-4));
    }
}

#[test]
fn a_model_without_convolutions_is_left_as_it_is() {
    let model = Builder::network(&[Layer::BatchNorm, Layer::Activation(1)], 3, [6, 6], 3, false);
    let (rewritten, report) = rewrite(Builder::without_head(model.unwrap()).unwrap(), &Options::default()).unwrap();
    assert_eq!(segments(&rewritten), 0);
    assert!(report.taken.is_empty() && !report.left.is_empty());
}

#[test]
fn a_map_without_pixels_stays_tracts() {
    let (rewritten, report) = rewrite(Builder::without_pixels(29).unwrap(), &Options::default()).unwrap();
    assert_eq!((segments(&rewritten), report.left.len()), (0, 1));
    assert!(report.left[0].why.contains("empty"), "{:?}", report.left);
}

#[test]
fn the_last_images_of_a_batch_may_need_more_scratch_memory() {
    // Seven images, four at once: Winograd's blocks of three images are larger than those of four.
    let layers = [Layer::Pad(1), Layer::Dense, Layer::Residual, Layer::Dense, Layer::Residual];
    let model = Builder::network(&layers, 3, [14, 7], 1, false).unwrap();
    let input = build::picture(3, [14, 7], 7, 1);
    let due = run(model.clone(), &input).unwrap();
    let (rewritten, _) = rewrite(model, &Options { together: 4, ..Options::default() }).unwrap();
    run(rewritten, &input).unwrap().iter().zip(&due).for_each(|(got, due)| close(due, got, 1e-4));
}

#[test]
fn what_can_be_fused_is() {
    let conv = Layer::Conv { out: 6, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise: false };
    // Every network ends in a convolution, a pool and a linear layer.
    let cases: [(&[Layer], &[&str]); 12] = [
        (&[Layer::Residual], &["conv"]),
        (&[conv.clone(), Layer::BatchNorm, Layer::Activation(1)], &["conv"]),
        (&[conv.clone(), Layer::Activation(3)], &["conv"]),
        (&[conv.clone(), Layer::Activation(4)], &["conv"]),
        (&[conv.clone(), Layer::Activation(5)], &["conv"]),
        (&[Layer::Pad(1), conv.clone()], &["conv"]),
        (&[Layer::Multiplied(3), Layer::Activation(1)], &["depthwise", "depthwise", "depthwise", "concat", "shuffle"]),
        (&[conv.clone(), Layer::Function(1)], &["conv"]),
        (&[conv.clone(), Layer::Function(0)], &["conv", "function"]),
        (&[conv.clone(), Layer::ConvNext { division: true }], &["conv", "depthwise", "layer norm", "conv", "conv"]),
        (&[Layer::BatchNorm, Layer::Activation(0)], &["scale and shift"]),
        (&[conv.clone(), Layer::SqueezeExcite], &["conv", "global pool", "linear", "linear", "multiply channels"]),
    ];
    for (layers, due) in cases {
        let model = Builder::network(layers, 4, [8, 8], 19, false).unwrap();
        let (_, report) = rewrite(model, &Options::default()).unwrap();
        let kinds: Vec<&str> = report.segments[0].layers.iter().map(|l| l.kind).collect();
        let all: Vec<&str> = due.iter().copied().chain(["conv", "global pool", "linear"]).collect();
        assert_eq!(kinds, all, "{layers:?}");
    }
}

#[test]
fn a_layer_that_fails_its_test_gives_the_model_back() {
    let model = Builder::network(&[Layer::Residual], 4, [8, 8], 13, true).unwrap();
    // No difference is below a negative tolerance.
    for options in [Options::default(), bf16()] {
        let (same, report) = rewrite(model.clone(), &Options { tolerance: -1.0, ..options }).unwrap();
        assert!(report.fallback.is_some_and(|f| f.contains("differs from tract's")));
        assert_eq!((segments(&same), same.nodes().len()), (0, model.nodes().len()));
    }
}

#[test]
fn a_node_that_contradicts_itself_is_named() {
    let conv = Layer::Conv { out: 6, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise: false };
    let model = Builder::network(&[conv], 4, [8, 8], 13, true).unwrap();
    let at = model.nodes().iter().position(|n| n.op_is::<Conv>()).unwrap();
    let name = model.node(at).name.clone();
    for broken in 0..4 {
        let mut model = model.clone();
        let conv = model.node_mut(at).op_as_mut::<Conv>().unwrap();
        match broken {
            0 => conv.group = 3,
            1 => conv.group = 0,
            2 => conv.pool_spec.strides = Some(tvec!(0, 1)),
            _ => conv.pool_spec.kernel_shape = tvec!(2, 2),
        }
        match rewrite(model, &Options::default()) {
            Err(Error::Node { node, .. }) => assert_eq!(node, name),
            other => panic!("case {broken}: {:?}", other.map(|o| o.1)),
        }
    }
}

#[test]
fn infinity_and_denormals_come_out_as_from_tract() {
    let (f32, values) = (Options::default(), [f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 8.0]);
    let exact = [0, 1, 2, 4].map(Layer::Activation).into_iter().chain([0, 1, 2].map(Layer::Function));
    specials(&f32, &values, exact, &mut |due, got| build::same_specials(due, got, true));
    // x * sigmoid(x) at minus infinity is zero times infinity: which of NaN and infinity it becomes is chance, but a number it is not.
    let chance = [Layer::Activation(3), Layer::ConvNext { division: true }, Layer::ResponseNorm];
    specials(&f32, &values, chance, &mut |due, got| build::same_specials(due, got, false));
}

#[test]
fn a_picture_with_nan_gets_no_result() {
    // tract's own is NaN or not by which of its kernels a convolution and its activation land in; the engine's must be wherever any of tract's is.
    for options in [Options::default(), bf16()] {
        let layers = (0..5).map(Layer::Activation).chain((0..3).map(Layer::Function));
        let layers = layers.chain([Layer::ConvNext { division: false }, Layer::ResponseNorm]);
        specials(&options, &[f32::NAN], layers, &mut |due, got| {
            let nan = |t: &Tensor| build::values(t).iter().any(|v| v.is_nan());
            assert!(nan(got) || !nan(due), "{got:?} where {due:?} is due");
        });
    }
}

/// Compares a network's outputs where one value of the input is special.
fn specials(options: &Options, values: &[f32], layers: impl IntoIterator<Item = Layer>, same: &mut dyn FnMut(&Tensor, &Tensor)) {
    for (layer, kernel) in layers.into_iter().flat_map(|layer| [1, 3, 5].map(|kernel| (layer.clone(), kernel))) {
        let conv = Layer::Conv { out: 6, kernel, stride: 1, dilation: 1, pad: kernel / 2, depthwise: false };
        let model = Builder::network(&[conv, layer], 3, [9, 9], 17, true).unwrap();
        let (rewritten, _) = rewrite(model.clone(), options).unwrap();
        for &special in values {
            let mut input = build::picture(3, [9, 9], 1, 17);
            input.try_as_plain_ram_mut().unwrap().as_slice_mut::<f32>().unwrap()[4 * 9 + 4] = special;
            let due = run(model.clone(), &input).unwrap();
            let got = run(rewritten.clone(), &input).unwrap();
            due.iter().zip(&got).for_each(|(due, got)| same(due, got));
        }
    }
}

#[test]
fn threads_share_one_model() {
    let layers = [Layer::Conv { out: 8, kernel: 3, stride: 1, dilation: 1, pad: 1, depthwise: false }, Layer::Dense, Layer::Dense];
    let model = Builder::network(&layers, 3, [10, 10], 23, true).unwrap();
    let plan = rewrite(model, &Options::default()).unwrap().0.into_optimized().unwrap().into_runnable().unwrap();
    let inputs: Vec<Tensor> = (0..4).map(|seed| build::picture(3, [10, 10], 1 + seed as usize, seed)).collect();
    let due: Vec<_> = inputs.iter().map(|i| build::bits(&plan.run(tvec!(i.clone().into_tvalue())).unwrap()[0])).collect();
    std::thread::scope(|scope| {
        for (input, due) in inputs.iter().zip(&due) {
            let plan = &plan;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(&build::bits(&plan.run(tvec!(input.clone().into_tvalue())).unwrap()[0]), due);
                }
            });
        }
    });
}

#[test]
fn a_small_layer_whose_values_cancel_passes_its_test() {
    // Squeezed to two channels, of which the rectifier leaves next to nothing.
    let layers = [Layer::Grouped, Layer::SqueezeExcite];
    let model = Builder::network(&layers, 2, [5, 5], 9509212178257513656, false).unwrap();
    assert_eq!(rewrite(model, &Options::default()).unwrap().1.fallback, None);
}
