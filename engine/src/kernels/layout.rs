//! From tract's order of an image's values (channels, rows, columns) to the engine's (rows, columns, channels).

use super::Isa;
use super::conv::check;
use super::element::{Bf16, Number};
use super::isa::for_each_isa;
use super::simd::Simd;

/// Pixels that are moved at a time where there are many channels.
const BLOCK: usize = 16;

/// Moves one image: `from` is `[channels, pixels]`, `to` is `[pixels, channels]`, seen through its pitch.
///
/// # Panics
/// If a tensor is shorter than its shape and pitch say, or a pitch is below the channels.
pub fn channels_last<O: Interleaves>(isa: Isa, (pixels, channels): (usize, usize), from: &[f32], (to, pitch): (&mut [O], usize)) {
    assert!(from.len() >= channels * pixels, "the image has {} values of {}", from.len(), channels * pixels);
    check("output", to.len(), pixels, channels, pitch);
    if (channels, pitch) == (3, 3) {
        // SAFETY: the lengths were checked.
        return unsafe { O::interleave(isa.checked(), from.as_ptr(), pixels, to.as_mut_ptr()) };
    }
    for first in (0..pixels).step_by(BLOCK) {
        let block = first..pixels.min(first + BLOCK);
        for channel in 0..channels {
            let row = &from[channel * pixels..][..pixels];
            for pixel in block.clone() {
                to[pixel * pitch + channel] = row[pixel].into();
            }
        }
    }
}

/// A picture's three channels, which the compiler makes vectors of.
///
/// # Safety
/// `from` has three times `pixels` values, and `to` has room for them; as for [`Simd`].
#[inline(always)]
unsafe fn three<S: Simd, O: Number>(from: *const f32, pixels: usize, to: *mut O) {
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (std::slice::from_raw_parts(from, 3 * pixels), std::slice::from_raw_parts_mut(to, 3 * pixels)) };
    let (red, rest) = from.split_at(pixels);
    let (green, blue) = rest.split_at(pixels);
    for (((to, red), green), blue) in to.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        to[0] = (*red).into();
        to[1] = (*green).into();
        to[2] = (*blue).into();
    }
}

for_each_isa! {
    /// See [`three`].
    unsafe fn three_f32(from: *const f32, pixels: usize, to: *mut f32) => three::<f32>
}

for_each_isa! {
    /// See [`three`].
    unsafe fn three_bf16(from: *const f32, pixels: usize, to: *mut Bf16) => three::<Bf16>
}

/// Numbers that pictures are kept in.
///
/// # Safety
/// Of [`Interleaves::interleave`]: as for [`three`]; `isa` is one that the processor has.
pub trait Interleaves: Number {
    #[doc(hidden)]
    unsafe fn interleave(isa: Isa, from: *const f32, pixels: usize, to: *mut Self);
}

impl Interleaves for f32 {
    unsafe fn interleave(isa: Isa, from: *const f32, pixels: usize, to: *mut Self) {
        // SAFETY: the caller's promise, passed on.
        unsafe { three_f32(isa, from, pixels, to) }
    }
}

impl Interleaves for Bf16 {
    unsafe fn interleave(isa: Isa, from: *const f32, pixels: usize, to: *mut Self) {
        // SAFETY: the caller's promise, passed on.
        unsafe { three_bf16(isa, from, pixels, to) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::noise;
    use super::*;

    fn lies_where_it_should<O: Interleaves + PartialEq + std::fmt::Debug>(pixels: usize, channels: usize, pitch: usize) {
        let from = noise(pixels * channels, 1);
        for isa in Isa::present() {
            let mut to = vec![O::from(77.0); pixels * pitch];
            channels_last(isa, (pixels, channels), &from, (&mut to, pitch));
            for (at, value) in to.iter().enumerate() {
                let (pixel, channel) = (at / pitch, at % pitch);
                assert_eq!(*value, O::from(if channel < channels { from[channel * pixels + pixel] } else { 77.0 }));
            }
        }
    }

    proptest! {
        #[test]
        fn every_value_lies_where_it_should(pixels in 1usize..200, channels in 1usize..40, slack in prop_oneof![Just(0usize), 1usize..5]) {
            for channels in [3, channels] {
                lies_where_it_should::<f32>(pixels, channels, channels + slack);
                lies_where_it_should::<Bf16>(pixels, channels, channels + slack);
            }
        }
    }
}
