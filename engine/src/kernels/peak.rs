//! What a core can do at most: loops of multiply-adds that touch registers only. Every "share of peak" is against the number measured here, in the same
//! run on the same machine. Pin the thread (`taskset -c 0`) for a steady figure.

use std::hint::black_box;
use std::time::Instant;

/// The arithmetic whose peak is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32 fused multiply-adds.
    F32,
    /// Products of bf16 pairs added to f32 (`vdpbf16ps`).
    Bf16,
    /// Products of four u8 and s8 added to i32 (`vpdpbusd`).
    Int8,
}

/// A loop of `rounds` rounds and the operations (two for each multiply-add) of one.
#[cfg(target_arch = "x86_64")]
type Loop = (unsafe fn(u64), u64);

/// Operations a second of one core, two for each multiply-add: the best of `runs` runs of about 10 ms of two loop shapes (12 and 24 independent
/// accumulators). `None` where the processor lacks the instructions.
pub fn measure(arithmetic: Arithmetic, runs: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let shapes = shapes(arithmetic)?;
        let best = shapes.iter().flat_map(|shape| (0..runs.max(1)).map(move |_| timed(*shape))).fold(0.0, f64::max);
        Some(best)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (arithmetic, runs);
        None
    }
}

#[cfg(target_arch = "x86_64")]
fn shapes(arithmetic: Arithmetic) -> Option<[Loop; 2]> {
    let has_avx512 = is_x86_feature_detected!("avx512f");
    Some(match arithmetic {
        Arithmetic::F32 if has_avx512 => [(f32_avx512::<12>, 12 * 32), (f32_avx512::<24>, 24 * 32)],
        Arithmetic::F32 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
            [(f32_avx2::<10>, 10 * 16), (f32_avx2::<12>, 12 * 16)]
        }
        Arithmetic::Bf16 if has_avx512 && is_x86_feature_detected!("avx512bf16") => {
            [(bf16_avx512::<12>, 12 * 64), (bf16_avx512::<24>, 24 * 64)]
        }
        Arithmetic::Int8 if has_avx512 && is_x86_feature_detected!("avx512vnni") => {
            [(int8_avx512::<12>, 12 * 128), (int8_avx512::<24>, 24 * 128)]
        }
        _ => return None,
    })
}

#[cfg(target_arch = "x86_64")]
fn timed((run, operations): Loop) -> f64 {
    let rounds = 40_000_000 / (operations / 32).max(1);
    let start = Instant::now();
    // SAFETY: `shapes` names only loops whose instructions the processor has.
    unsafe { run(rounds) };
    (rounds * operations) as f64 / start.elapsed().as_secs_f64()
}

/// Defines a loop over `N` accumulators, each updated once a round from the same two registers.
#[cfg(target_arch = "x86_64")]
macro_rules! peak_loop {
    ($name:ident, $features:literal, $vector:ty, $operand:ty, $zero:expr, $value:expr, $step:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const N: usize>(rounds: u64) {
            use std::arch::x86_64::*;
            let mut sums: [$vector; N] = [$zero; N];
            let (a, b): ($operand, $operand) = (black_box($value), black_box($value));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $step(*sum, a, b);
                }
                // SAFETY: an empty instruction sequence; it keeps the compiler from folding rounds together.
                unsafe { std::arch::asm!("", options(nomem, nostack, preserves_flags)) };
            }
            black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod steps {
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn f32x16(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, sum)
    }
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32x8(sum: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, sum)
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16x32(sum: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        _mm512_dpbf16_ps(sum, a, b)
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn i8x64(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, a, b)
    }
}
#[cfg(target_arch = "x86_64")]
use steps::{bf16x32, f32x8, f32x16, i8x64};

#[cfg(target_arch = "x86_64")]
peak_loop!(f32_avx512, "avx512f", __m512, __m512, _mm512_setzero_ps(), _mm512_set1_ps(0.5), f32x16);
#[cfg(target_arch = "x86_64")]
peak_loop!(f32_avx2, "avx2,fma", __m256, __m256, _mm256_setzero_ps(), _mm256_set1_ps(0.5), f32x8);
#[cfg(target_arch = "x86_64")]
peak_loop!(
    bf16_avx512,
    "avx512f,avx512bf16",
    __m512,
    __m512bh,
    _mm512_setzero_ps(),
    _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
    bf16x32
);
#[cfg(target_arch = "x86_64")]
peak_loop!(int8_avx512, "avx512f,avx512vnni", __m512i, __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(3), i8x64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_does_more_than_a_giga_operation_a_second() {
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8] {
            assert!(measure(arithmetic, 1).is_none_or(|peak| (1e9..1e13).contains(&peak)));
        }
    }
}
