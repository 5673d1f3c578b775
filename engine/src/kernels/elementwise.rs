//! What is computed value by value, for layers that could not be fused into a convolution; and layer normalisation, which is that but for two numbers a pixel.

use super::activation::apply;
use super::conv::check;
use super::element::{Bf16, Element, Number, U8};
use super::isa::{for_each_isa, has_bf16, has_int8, with_bf16, with_int8};
use super::simd::Simd;
use super::{Activation, Isa};

/// Values seen through a pitch, and the pitch.
pub type View<'a, T = f32> = (&'a [T], usize);
/// As [`View`], to be written.
pub type ViewMut<'a, T = f32> = (&'a mut [T], usize);

/// `output = activation(a + b)` for `pixels` pixels of `channels`.
///
/// # Panics
/// If a tensor is shorter than its shape and pitch say, a pitch is below the channels, or the types are not this processor's.
pub fn add<I: Applies<O>, O: Number>(
    isa: Isa,
    (pixels, channels): (usize, usize),
    a: View<'_, I>,
    b: View<'_, O>,
    activation: Activation,
    output: ViewMut<'_, O>,
) {
    check("second addend", b.0.len(), pixels, channels, b.1);
    let job = Job { addend: Operand { at: b.0.as_ptr(), step: b.1 }, ..job_of((pixels, channels), a, activation, output) };
    // SAFETY: the lengths were checked.
    unsafe { run(isa, &job) }
}

/// `output = activation(input * scale + shift)`, `scale` and `shift` of one value a channel: a batch norm that stands alone, with unit scale a bias, with
/// neither an activation, and without that a conversion.
///
/// # Panics
/// As [`add`], and if `scale` or `shift` has not `channels` values.
pub fn scale_shift<I: Applies<O>, O: Number>(
    isa: Isa,
    (pixels, channels): (usize, usize),
    input: View<'_, I>,
    scale: Option<&[f32]>,
    shift: Option<&[f32]>,
    activation: Activation,
    output: ViewMut<'_, O>,
) {
    let operand = |values: Option<&[f32]>| {
        values.map_or(std::ptr::null(), |values| {
            assert_eq!(values.len(), channels, "one scale and one shift a channel");
            values.as_ptr()
        })
    };
    let (scale, shift) = (operand(scale), operand(shift));
    let job = Job { scale, shift, ..job_of((pixels, channels), input, activation, output) };
    // SAFETY: the lengths were checked.
    unsafe { run(isa, &job) }
}

/// As [`scale_shift`], of what is left of each pixel's values when their mean is taken away and they are divided by the root of their variance plus
/// `epsilon`: Ba, Kiros and Hinton, "Layer normalization" (2016), over the channels of each pixel.
///
/// # Panics
/// As [`scale_shift`].
pub fn layer_norm<I: Applies<O>, O: Number>(
    isa: Isa,
    (pixels, channels): (usize, usize),
    input: View<'_, I>,
    epsilon: f32,
    (scale, shift): (&[f32], &[f32]),
    activation: Activation,
    output: ViewMut<'_, O>,
) {
    assert!(scale.len() == channels && shift.len() == channels, "one scale and one shift a channel");
    let (scale, shift) = (scale.as_ptr(), shift.as_ptr());
    let job = Job { scale, shift, epsilon: Some(epsilon), ..job_of((pixels, channels), input, activation, output) };
    // SAFETY: the lengths were checked.
    unsafe { run(isa, &job) }
}

/// `output = activation(input * factors)`, `factors` (`[images, channels]`) of one value a channel and image, as squeeze-and-excitation needs it.
///
/// # Panics
/// As [`add`].
pub fn scale_images<I: Applies<O>, O: Number>(
    isa: Isa,
    (images, pixels, channels): (usize, usize, usize),
    input: View<'_, I>,
    factors: View<'_>,
    activation: Activation,
    output: ViewMut<'_, O>,
) {
    check("input", input.0.len(), images * pixels, channels, input.1);
    check("factors", factors.0.len(), images, channels, factors.1);
    check("output", output.0.len(), images * pixels, channels, output.1);
    if pixels * channels == 0 {
        return;
    }
    for image in 0..images {
        let input = (&input.0[image * pixels * input.1..], input.1);
        let output = (&mut output.0[image * pixels * output.1..], output.1);
        let scale = factors.0[image * factors.1..].as_ptr();
        let job = Job { scale, ..job_of((pixels, channels), input, activation, output) };
        // SAFETY: the lengths were checked.
        unsafe { run(isa, &job) }
    }
}

/// An addend: where its values for the first pixel begin (null where there is none), and the values from a pixel to the next.
pub struct Operand<T> {
    pub(super) at: *const T,
    pub(super) step: usize,
}

/// `activation(input * scale + shift + addend)` over all pixels.
pub struct Job<I, O> {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) input: *const I,
    pub(super) pitch: usize,
    /// If each pixel's values are to have a mean of 0 and a variance of 1 before all else: what is added to the variance.
    pub(super) epsilon: Option<f32>,
    /// A value for each channel, or null.
    pub(super) scale: *const f32,
    /// A value for each channel, or null.
    pub(super) shift: *const f32,
    pub(super) addend: Operand<O>,
    pub(super) activation: Activation,
    pub(super) output: *mut O,
    pub(super) output_pitch: usize,
}

/// A job without operands, after its lengths were checked.
fn job_of<I, O>((pixels, channels): (usize, usize), input: (&[I], usize), activation: Activation, output: (&mut [O], usize)) -> Job<I, O> {
    check("input", input.0.len(), pixels, channels, input.1);
    check("output", output.0.len(), pixels, channels, output.1);
    Job {
        pixels,
        channels,
        input: input.0.as_ptr(),
        pitch: input.1,
        epsilon: None,
        scale: std::ptr::null(),
        shift: std::ptr::null(),
        addend: Operand { at: std::ptr::null(), step: 0 },
        activation,
        output: output.0.as_mut_ptr(),
        output_pitch: output.1,
    }
}

/// Does a job.
///
/// # Safety
/// Every pixel of input, output and operands has `channels` values.
unsafe fn run<I: Applies<O>, O>(isa: Isa, job: &Job<I, O>) {
    assert!(I::present(), "the processor lacks the instructions for these types");
    // SAFETY: the instructions are there, and the rest is the caller's promise.
    unsafe { I::apply(isa.checked(), job) }
}

/// Does a job.
///
/// # Safety
/// As for [`Simd`]; every pixel of input, output and operands has `channels` values.
#[inline(always)]
unsafe fn job<S: Simd, I: Element<S>, O: Element<S>>(j: &Job<I, O>) {
    for pixel in 0..j.pixels {
        // SAFETY: the caller's promise.
        let moments = j.epsilon.map(|epsilon| unsafe { moments::<S, I>(j.input.add(pixel * j.pitch), j.channels, epsilon) });
        for channel in (0..j.channels).step_by(S::LANES) {
            let count = S::LANES.min(j.channels - channel);
            let whole = count == S::LANES;
            // SAFETY: the caller's promise; vectors are cut to the channels that exist.
            unsafe {
                let of_channel = |from: *const f32| if whole { S::load(from.add(channel)) } else { S::load_part(from.add(channel), count) };
                let from = j.input.add(pixel * j.pitch + channel);
                let mut value = if whole { I::load(from) } else { I::load_part(from, count) };
                if let Some((mean, factor)) = moments {
                    value = S::mul(S::sub(value, S::splat(mean)), S::splat(factor));
                }
                if !j.scale.is_null() {
                    value = S::mul(value, of_channel(j.scale));
                }
                if !j.shift.is_null() {
                    value = S::add(value, of_channel(j.shift));
                }
                if !j.addend.at.is_null() {
                    let from = j.addend.at.add(pixel * j.addend.step + channel);
                    value = S::add(value, if whole { O::load(from) } else { O::load_part(from, count) });
                }
                value = apply::<S>(value, j.activation);
                let to = j.output.add(pixel * j.output_pitch + channel);
                if whole { O::store(to, value) } else { O::store_part(to, value, count) }
            }
        }
    }
}

/// The mean of `channels` values, and one over the root of their variance plus `epsilon`. The variance is of what differs from the mean: a mean of squares
/// would lose it where the mean is large.
///
/// # Safety
/// As for [`Simd`]; the values are there.
#[inline(always)]
unsafe fn moments<S: Simd, I: Element<S>>(values: *const I, channels: usize, epsilon: f32) -> (f32, f32) {
    // SAFETY: the caller's promise; the last vector is cut to the values that exist, and an array holds every vector.
    unsafe {
        let total = |v: S::V| {
            let mut lanes = [0.0; 16];
            S::store(lanes.as_mut_ptr(), v);
            lanes.iter().sum::<f32>()
        };
        let whole = channels / S::LANES * S::LANES;
        let mut sums = S::splat(0.0);
        for channel in (0..whole).step_by(S::LANES) {
            sums = S::add(sums, I::load(values.add(channel)));
        }
        let rest = I::load_part(values.add(whole), channels - whole);
        let mean = total(S::add(sums, rest)) / channels as f32;
        let center = S::splat(mean);
        // Of the rest only what exists differs from the mean.
        let mut lanes = [0.0; 16];
        S::store_part(lanes.as_mut_ptr(), S::sub(rest, center), channels - whole);
        let rest = S::load(lanes.as_ptr());
        let mut squares = S::mul(rest, rest);
        for channel in (0..whole).step_by(S::LANES) {
            let off = S::sub(I::load(values.add(channel)), center);
            squares = S::fma(off, off, squares);
        }
        (mean, 1.0 / (total(squares) / channels as f32 + epsilon).sqrt())
    }
}

for_each_isa! {
    /// See [`job`].
    unsafe fn apply_on(j: &Job<f32, f32>) => job::<f32, f32>
}

/// Types that are computed from and to, value by value.
///
/// # Safety
/// Of [`Applies::apply`]: as for [`job`]; `isa` is one that the processor has, and the types are [`Applies::present`].
pub trait Applies<O>: Number {
    /// Whether the processor has the instructions for these types.
    fn present() -> bool;
    #[doc(hidden)]
    unsafe fn apply(isa: Isa, j: &Job<Self, O>);
}

impl Applies<f32> for f32 {
    fn present() -> bool {
        true
    }
    unsafe fn apply(isa: Isa, j: &Job<Self, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { apply_on(isa, j) }
    }
}

macro_rules! applies {
    ($with:ident, $has:ident; $($name:ident: $i:ty => $o:ty;)*) => {
        $($with! {
            /// See [`job`].
            unsafe fn $name(j: &Job<$i, $o>) => job::<$i, $o>
        }

        impl Applies<$o> for $i {
            fn present() -> bool {
                $has()
            }
            unsafe fn apply(_: Isa, j: &Job<Self, $o>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { $name(j) }
            }
        })*
    };
}

applies! {
    with_bf16, has_bf16;
    apply_of_bf16: Bf16 => Bf16;
    apply_from_bf16: Bf16 => f32;
    apply_to_bf16: f32 => Bf16;
}

applies! {
    with_int8, has_int8;
    apply_from_u8: U8 => f32;
    apply_to_u8: f32 => U8;
}
