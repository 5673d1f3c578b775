//! With AVX-512, its bf16 instructions (which round denormals to zero) for bf16, and VNNI for [`U8`].

use std::arch::x86_64::*;

use super::super::simd::{Avx512, mask16};
use super::{Bf16, Element, Factor, U8};

#[inline(always)]
unsafe fn widen(bits: __m256i) -> __m512 {
    // SAFETY: arithmetic on values; the caller promises the instruction set, here and below.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits))) }
}

#[inline(always)]
unsafe fn narrow(v: __m512) -> __m256i {
    // SAFETY: both are 256 bits, of which all are values.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)) }
}

#[inline(always)]
unsafe fn pairs(v: __m512) -> __m512bh {
    // SAFETY: both are 512 bits, of which all are values.
    unsafe { std::mem::transmute::<__m512, __m512bh>(v) }
}

impl Element<Avx512> for Bf16 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { widen(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const Self, count: usize) -> __m512 {
        // SAFETY: the mask leaves only the first `count` lanes.
        unsafe { widen(_mm256_maskz_loadu_epi16(mask16(count), from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut Self, v: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), narrow(v)) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut Self, v: __m512, count: usize) {
        // SAFETY: the mask leaves only the first `count` lanes.
        unsafe { _mm256_mask_storeu_epi16(to.cast(), mask16(count), narrow(v)) }
    }
    #[inline(always)]
    unsafe fn store_two(to: *mut Self, first: __m512, second: __m512) {
        // SAFETY: the caller's promise; both are 512 bits, of which all are values.
        unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first))) }
    }
    #[inline(always)]
    unsafe fn add(from: *const Self, sum: __m512) -> __m512 {
        // SAFETY: the caller's promise. Each value with a zero beside it, times one: an instruction less than to widen and add.
        unsafe {
            let values = _mm512_castsi512_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())));
            let ones = _mm512_castsi512_ps(_mm512_set1_epi32(0x3f80));
            _mm512_dpbf16_ps(sum, pairs(values), pairs(ones))
        }
    }
}

impl Factor<Avx512> for Bf16 {
    const OF_A_WORD: usize = 2;
    #[inline(always)]
    unsafe fn splat(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise; the two numbers need not be aligned as a word is.
        unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn splat_last(from: *const Self, _: usize) -> __m512 {
        // SAFETY: the caller's promise; the upper half of each lane stays zero.
        unsafe { _mm512_castsi512_ps(_mm512_maskz_broadcastw_epi16(0x5555_5555, _mm_loadu_si16(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: arithmetic on values.
        unsafe { _mm512_dpbf16_ps(sum, pairs(a), pairs(b)) }
    }
}

/// 16 bytes of the nearest whole numbers.
#[inline(always)]
unsafe fn bytes(v: __m512) -> __m128i {
    // SAFETY: arithmetic on values. What lies beyond i32 would turn its sign; of what is no number, the bound comes second, so it stays so and becomes 0.
    unsafe {
        let whole = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255.0), v));
        _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512()))
    }
}

impl Element<Avx512> for U8 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise, here and below.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const Self, count: usize) -> __m512 {
        // SAFETY: the mask leaves only the first `count` lanes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask16(count), from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut Self, v: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), bytes(v)) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut Self, v: __m512, count: usize) {
        // SAFETY: the mask leaves only the first `count` lanes.
        unsafe { _mm_mask_storeu_epi8(to.cast(), mask16(count), bytes(v)) }
    }
    /// Packed together with saturation, in fewer instructions than one vector after the other.
    #[inline(always)]
    unsafe fn store_row<const N: usize>(to: *mut Self, row: &[__m512; N], tail: usize) {
        // SAFETY: arithmetic on values; the mask leaves only the values that there are.
        unsafe {
            // Four values `q` of vector `v` have come to stand at place `4 * q + v`.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let packed = _mm512_permutexvar_epi32(order, packed(row));
            let count = (N - 1) * 16 + tail;
            if count == 64 {
                _mm512_storeu_si512(to.cast(), packed);
            } else {
                _mm512_mask_storeu_epi8(to.cast(), (1u64 << count) - 1, packed);
            }
        }
    }
    const INTERLEAVES: bool = true;
    #[inline(always)]
    unsafe fn load_interleaved<const N: usize>(from: *const Self) -> [__m512; N] {
        const { assert!(N <= 4, "a tile has at most four vectors") };
        // SAFETY: the caller's promise: 64 bytes.
        unsafe {
            let all = _mm512_loadu_si512(from.cast());
            // For each value the byte of its quarter, and three zeros.
            let first = _mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1);
            let mut values = [_mm512_setzero_ps(); N];
            for (v, value) in values.iter_mut().enumerate() {
                let bytes = _mm512_broadcast_i32x4(_mm_or_si128(first, _mm_set1_epi32(4 * v as i32)));
                *value = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(all, bytes));
            }
            values
        }
    }
    #[inline(always)]
    unsafe fn store_interleaved<const N: usize>(to: *mut Self, row: &[__m512; N]) {
        // SAFETY: the caller's promise: 64 bytes.
        unsafe { _mm512_storeu_si512(to.cast(), packed(row)) }
    }
}

/// Up to four vectors as bytes, the nearest and saturated: packing works within quarters of a vector, so those of the vectors come to stand by turns.
#[inline(always)]
unsafe fn packed<const N: usize>(row: &[__m512; N]) -> __m512i {
    const { assert!(N <= 4, "a tile has at most four vectors") };
    // SAFETY: arithmetic on values.
    unsafe {
        let whole = |v: usize| if v < N { _mm512_cvtps_epi32(row[v]) } else { _mm512_setzero_si512() };
        let first = _mm512_packs_epi32(whole(0), whole(1));
        _mm512_packus_epi16(first, if N > 2 { _mm512_packs_epi32(whole(2), whole(3)) } else { first })
    }
}

impl Factor<Avx512> for U8 {
    const OF_A_WORD: usize = 4;
    #[inline(always)]
    unsafe fn splat(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise; the four numbers need not be aligned as a word is.
        unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn splat_last(from: *const Self, count: usize) -> __m512 {
        // SAFETY: the mask leaves only the first `count` bytes.
        unsafe { _mm512_castsi512_ps(_mm512_broadcastd_epi32(_mm_maskz_loadu_epi8(mask16(count), from.cast()))) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: arithmetic on values.
        unsafe { _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }
    const WHOLE: bool = true;
    #[inline(always)]
    unsafe fn whole(sum: __m512) -> __m512 {
        // SAFETY: arithmetic on values.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(sum)) }
    }
}
