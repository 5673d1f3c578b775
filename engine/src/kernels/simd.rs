//! Vectors of f32, of one width an instruction set. Kernels are written once, generic over [`Simd`], and compiled once for each set (see
//! [`super::isa`]): the functions here are always inlined, so they take on the instructions of the kernel that they end up in.

/// A vector type and its arithmetic.
///
/// # Safety
/// Every function needs a processor with the instruction set. `load` and `store` need `LANES` values behind the pointer, `load_part` and `store_part` the
/// first `count` (at most `LANES`); none needs alignment.
pub(super) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// Zeros beyond `count`.
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the processor can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `2^n` for whole `n` within -126..=127, by putting `n` in the exponent.
    unsafe fn exp2_whole(n: Self::V) -> Self::V;
    /// The nearest whole number.
    unsafe fn round(a: Self::V) -> Self::V;
    /// Lane `i` of the result is lane `pattern[i]`, which is below `LANES`; `pattern` has `LANES` values.
    unsafe fn spread(a: Self::V, pattern: *const i32) -> Self::V;
}

/// What the compiler makes of plain arrays.
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        // SAFETY: the caller's promise.
        each(|i| if i < count { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
        for (i, x) in v.into_iter().enumerate().take(count) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        each(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: Self::V) -> Self::V {
        each(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        each(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn spread(a: Self::V, pattern: *const i32) -> Self::V {
        // SAFETY: the caller's promise.
        each(|i| a[unsafe { *pattern.add(i) } as usize])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Vectors of 8 (AVX2 and FMA).
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    /// Vectors of 16 (AVX-512 F and DQ).
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    /// Eight lanes on, then eight lanes off: a mask for `count` lanes begins at `8 - count`.
    static LANES_ON: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn mask8(count: usize) -> __m256i {
        debug_assert!(count <= 8);
        // SAFETY: 8 - count is within 0..=8, so eight values follow.
        unsafe { _mm256_loadu_si256(LANES_ON.as_ptr().add(8 - count).cast()) }
    }

    #[inline(always)]
    pub(in super::super) fn mask16(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    macro_rules! plain {
        ($($name:ident($($arg:ident),+) = $to:ident;)*) => {
            $(#[inline(always)]
            unsafe fn $name($($arg: Self::V),+) -> Self::V {
                // SAFETY: arithmetic on values; the caller promises the instruction set.
                unsafe { $to($($arg),+) }
            })*
        };
    }

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        plain! {
            add(a, b) = _mm256_add_ps;
            sub(a, b) = _mm256_sub_ps;
            mul(a, b) = _mm256_mul_ps;
            div(a, b) = _mm256_div_ps;
            fma(a, b, c) = _mm256_fmadd_ps;
            max(a, b) = _mm256_max_ps;
            min(a, b) = _mm256_min_ps;
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: as for all of the trait.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
            // SAFETY: the mask leaves only the first `count` lanes.
            unsafe { _mm256_maskload_ps(from, mask8(count)) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
            // SAFETY: the mask leaves only the first `count` lanes.
            unsafe { _mm256_maskstore_ps(to, mask8(count), v) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(n: Self::V) -> Self::V {
            // SAFETY: arithmetic on values.
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)) }
        }
        #[inline(always)]
        unsafe fn round(a: Self::V) -> Self::V {
            // SAFETY: arithmetic on values.
            unsafe { _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        }
        #[inline(always)]
        unsafe fn spread(a: Self::V, pattern: *const i32) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { _mm256_permutevar8x32_ps(a, _mm256_loadu_si256(pattern.cast())) }
        }
    }

    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        plain! {
            add(a, b) = _mm512_add_ps;
            sub(a, b) = _mm512_sub_ps;
            mul(a, b) = _mm512_mul_ps;
            div(a, b) = _mm512_div_ps;
            fma(a, b, c) = _mm512_fmadd_ps;
            max(a, b) = _mm512_max_ps;
            min(a, b) = _mm512_min_ps;
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: as for all of the trait.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
            // SAFETY: the mask leaves only the first `count` lanes.
            unsafe { _mm512_maskz_loadu_ps(mask16(count), from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
            // SAFETY: the mask leaves only the first `count` lanes.
            unsafe { _mm512_mask_storeu_ps(to, mask16(count), v) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(n: Self::V) -> Self::V {
            // SAFETY: arithmetic on values.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23)) }
        }
        #[inline(always)]
        unsafe fn round(a: Self::V) -> Self::V {
            // SAFETY: arithmetic on values.
            unsafe { _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        }
        #[inline(always)]
        unsafe fn spread(a: Self::V, pattern: *const i32) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { _mm512_permutexvar_ps(_mm512_loadu_si512(pattern.cast()), a) }
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, mask16};
