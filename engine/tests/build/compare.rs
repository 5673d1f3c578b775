//! Pictures, running models, and comparing what comes out.

use tract_core::internal::*;

/// Random images.
pub fn picture(channels: usize, [h, w]: [usize; 2], images: usize, seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..images * channels * h * w)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect();
    Tensor::from_shape(&[images, channels, h, w], &values).unwrap()
}

/// Runs without optimising: tract 0.23.9 moves a stride back through a convolution with SAME padding, which gives it another padding.
pub fn run_as_it_is(model: TypedModel, input: &Tensor) -> TractResult<TVec<TValue>> {
    model.into_runnable()?.run(tvec!(input.clone().into_tvalue()))
}

/// Optimises and runs.
pub fn run(model: TypedModel, input: &Tensor) -> TractResult<TVec<TValue>> {
    model.into_optimized()?.into_runnable()?.run(tvec!(input.clone().into_tvalue()))
}

/// Compares what a model makes of a batch with what it makes of each image alone.
pub fn batches_are_images(model: TypedModel, input: Tensor) {
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let all = plan.run(tvec!(input.clone().into_tvalue())).unwrap();
    for image in 0..input.shape()[0] {
        let alone = plan.run(tvec!(input.slice(0, image, image + 1).unwrap().into_tvalue())).unwrap();
        for (all, alone) in all.iter().zip(&alone) {
            assert_eq!(bits(&all.slice(0, image, image + 1).unwrap()), bits(alone));
        }
    }
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

pub fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// Largest difference over largest value.
pub fn close(due: &Tensor, got: &Tensor, tolerance: f32) {
    assert_eq!(due.shape(), got.shape());
    let (due, got) = (values(due), values(got));
    let largest = due.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (at, (due, got)) in due.iter().zip(&got).enumerate() {
        assert!((due - got).abs() <= tolerance * largest, "value {at}: {got} where {due} is due, the largest being {largest}");
    }
}

/// Whether the difference is as short as `share` of what is due, both as vectors.
pub fn near(due: &Tensor, got: &Tensor, share: f32) {
    assert_eq!(due.shape(), got.shape());
    let (due, got) = (values(due), values(got));
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    let (apart, all) = (length(&mut due.iter().zip(&got).map(|(a, b)| a - b)), length(&mut due.iter().copied()));
    assert!(apart <= share * all, "{apart} of {all} apart: {got:?} where {due:?} is due");
}

/// NaN where tract has NaN, infinity where it has that (unless not `exact`: then either for either), and ordinary values near tract's.
pub fn same_specials(due: &Tensor, got: &Tensor, exact: bool) {
    let (due, got) = (values(due), values(got));
    let largest = due.iter().filter(|v| v.is_finite()).fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (at, (due, got)) in due.iter().zip(&got).enumerate() {
        let same = match due.is_finite() {
            true => (due - got).abs() <= 1e-4 * largest,
            false if exact => due.is_nan() == got.is_nan() && (due.is_nan() || due == got),
            false => !got.is_finite(),
        };
        assert!(same, "value {at}: {got} where {due} is due");
    }
}
