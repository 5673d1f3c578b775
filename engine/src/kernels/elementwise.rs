//! What is computed value by value, for layers that could not be fused into a convolution.

use super::activation::apply;
use super::conv::check;
use super::isa::for_each_isa;
use super::simd::Simd;
use super::{Activation, Isa};

/// Values seen through a pitch, and the pitch.
pub type View<'a> = (&'a [f32], usize);
/// As [`View`], to be written.
pub type ViewMut<'a> = (&'a mut [f32], usize);

/// `output = activation(a + b)` for `pixels` pixels of `channels`.
///
/// # Panics
/// If a tensor is shorter than its shape and pitch say, or a pitch is below the channels.
pub fn add(isa: Isa, (pixels, channels): (usize, usize), a: View<'_>, b: View<'_>, activation: Activation, output: ViewMut<'_>) {
    check("first addend", a.0.len(), pixels, channels, a.1);
    check("second addend", b.0.len(), pixels, channels, b.1);
    check("output", output.0.len(), pixels, channels, output.1);
    let shift = Operand { at: b.0.as_ptr(), step: b.1 };
    let job = Job {
        pixels,
        channels,
        input: a.0.as_ptr(),
        pitch: a.1,
        scale: Operand::NONE,
        shift,
        activation,
        output: output.0.as_mut_ptr(),
        output_pitch: output.1,
    };
    // SAFETY: the instruction set and the lengths were checked.
    unsafe { apply_on(isa.checked(), &job) }
}

/// `output = activation(input * scale + shift)`, `scale` and `shift` of one value a channel: a batch norm that stands alone, with unit scale a bias, with
/// neither an activation.
///
/// # Panics
/// As [`add`], and if `scale` or `shift` has not `channels` values.
pub fn scale_shift(
    isa: Isa,
    (pixels, channels): (usize, usize),
    input: View<'_>,
    scale: Option<&[f32]>,
    shift: Option<&[f32]>,
    activation: Activation,
    output: ViewMut<'_>,
) {
    check("input", input.0.len(), pixels, channels, input.1);
    check("output", output.0.len(), pixels, channels, output.1);
    let operand = |values: Option<&[f32]>| {
        values.map_or(Operand::NONE, |values| {
            assert_eq!(values.len(), channels, "one scale and one shift a channel");
            Operand { at: values.as_ptr(), step: 0 }
        })
    };
    let (scale, shift) = (operand(scale), operand(shift));
    let job = Job {
        pixels,
        channels,
        input: input.0.as_ptr(),
        pitch: input.1,
        scale,
        shift,
        activation,
        output: output.0.as_mut_ptr(),
        output_pitch: output.1,
    };
    // SAFETY: the instruction set and the lengths were checked.
    unsafe { apply_on(isa.checked(), &job) }
}

/// `output = activation(input * factors)`, `factors` (`[images, channels]`) of one value a channel and image, as squeeze-and-excitation needs it.
///
/// # Panics
/// As [`add`].
pub fn scale_images(
    isa: Isa,
    (images, pixels, channels): (usize, usize, usize),
    input: View<'_>,
    factors: View<'_>,
    activation: Activation,
    output: ViewMut<'_>,
) {
    check("input", input.0.len(), images * pixels, channels, input.1);
    check("factors", factors.0.len(), images, channels, factors.1);
    check("output", output.0.len(), images * pixels, channels, output.1);
    if pixels * channels == 0 {
        return;
    }
    for image in 0..images {
        let job = Job {
            pixels,
            channels,
            input: input.0[image * pixels * input.1..].as_ptr(),
            pitch: input.1,
            scale: Operand { at: factors.0[image * factors.1..].as_ptr(), step: 0 },
            shift: Operand::NONE,
            activation,
            output: output.0[image * pixels * output.1..].as_mut_ptr(),
            output_pitch: output.1,
        };
        // SAFETY: the instruction set and the lengths were checked.
        unsafe { apply_on(isa.checked(), &job) }
    }
}

/// A second operand: where its values for the first pixel begin (null where there is none), and the values from a pixel to the next.
#[derive(Clone, Copy)]
struct Operand {
    at: *const f32,
    step: usize,
}

impl Operand {
    const NONE: Self = Self { at: std::ptr::null(), step: 0 };
}

/// `activation(input * scale + shift)` over all pixels.
struct Job {
    pixels: usize,
    channels: usize,
    input: *const f32,
    pitch: usize,
    scale: Operand,
    shift: Operand,
    activation: Activation,
    output: *mut f32,
    output_pitch: usize,
}

/// Does a job.
///
/// # Safety
/// As for [`Simd`]; every pixel of input, output and operands has `channels` values.
#[inline(always)]
unsafe fn job<S: Simd>(j: &Job) {
    for pixel in 0..j.pixels {
        for channel in (0..j.channels).step_by(S::LANES) {
            let count = S::LANES.min(j.channels - channel);
            // SAFETY: the caller's promise; vectors are cut to the channels that exist.
            unsafe {
                let load = |from: *const f32| if count == S::LANES { S::load(from) } else { S::load_part(from, count) };
                let mut value = load(j.input.add(pixel * j.pitch + channel));
                let to = j.output.add(pixel * j.output_pitch + channel);
                if !j.scale.at.is_null() {
                    value = S::mul(value, load(j.scale.at.add(pixel * j.scale.step + channel)));
                }
                if !j.shift.at.is_null() {
                    value = S::add(value, load(j.shift.at.add(pixel * j.shift.step + channel)));
                }
                value = apply::<S>(value, j.activation);
                if count == S::LANES { S::store(to, value) } else { S::store_part(to, value, count) }
            }
        }
    }
}

for_each_isa! {
    /// See [`job`].
    unsafe fn apply_on(j: &Job) => job
}
