//! Which instructions the kernels may use, found at run time.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};

/// A set of vector instructions, from the plainest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every processor of the target has; the compiler chooses.
    Portable,
    /// x86-64 with AVX2 and FMA: vectors of 8.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, DQ and VL): vectors of 16.
    Avx512,
}

impl Isa {
    /// The widest that this processor has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = ["f", "bw", "dq", "vl"];
            let has = |name: &str| match name {
                "f" => is_x86_feature_detected!("avx512f"),
                "bw" => is_x86_feature_detected!("avx512bw"),
                "dq" => is_x86_feature_detected!("avx512dq"),
                _ => is_x86_feature_detected!("avx512vl"),
            };
            if wide.into_iter().all(has) {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// All that this processor has, the widest last.
    pub fn present() -> impl Iterator<Item = Self> {
        let best = Self::best();
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(move |isa| *isa <= best)
    }

    /// This one, or the widest that the processor has where it lacks this one: what holds an `Isa` from here may run its instructions.
    pub(super) fn checked(self) -> Self {
        self.min(Self::best())
    }

    /// Values in a vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            _ => Portable::LANES,
        }
    }
}

/// Defines a function that runs `$body::<S>` (or `$body::<S, Types>`) compiled for the instruction set that its first argument names. `$body` and all that it calls must be
/// `#[inline(always)]`, and closures in it small: what is not inlined is compiled without the instructions, and slow.
///
/// # Safety
/// Of the function that it defines: the processor has the instruction set (see [`Isa::checked`]), and what `$body` asks for holds.
macro_rules! for_each_isa {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident $(<$(const $c:ident: $ct:ty),+>)? ($($arg:ident: $ty:ty),* $(,)?) => $body:ident $(::<$($t:ty),+>)?) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<$(const $c: $ct),+>)? (isa: $crate::kernels::isa::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512 $(<$(const $c: $ct),+>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, passed on.
                unsafe { $body::<$crate::kernels::simd::Avx512 $($(, $t)+)? $($(, $c)+)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2 $(<$(const $c: $ct),+>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, passed on.
                unsafe { $body::<$crate::kernels::simd::Avx2 $($(, $t)+)? $($(, $c)+)?>($($arg),*) }
            }
            // SAFETY: the caller's promise, passed on; the processor has the instructions.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::isa::Isa::Avx512 => avx512 $(::<$($c),+>)? ($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::isa::Isa::Avx2 => avx2 $(::<$($c),+>)? ($($arg),*),
                    _ => $body::<$crate::kernels::simd::Portable $($(, $t)+)? $($(, $c)+)?>($($arg),*),
                }
            }
        }
    };
}
pub(super) use for_each_isa;

/// As [`for_each_isa`], for types that need AVX-512 with more of its instructions.
macro_rules! with_features {
    ($features:literal: $(#[$doc:meta])* $vis:vis unsafe fn $name:ident $(<$(const $c:ident: $ct:ty),+>)? ($($arg:ident: $ty:ty),* $(,)?) => $body:ident ::<$($t:ty),+>) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        $vis unsafe fn $name $(<$(const $c: $ct),+>)? ($($arg: $ty),*) {
            // SAFETY: the caller's promise, passed on.
            unsafe { $body::<$crate::kernels::simd::Avx512, $($t),+ $($(, $c)+)?>($($arg),*) }
        }
        $(#[$doc])*
        #[cfg(not(target_arch = "x86_64"))]
        $vis unsafe fn $name $(<$(const $c: $ct),+>)? ($(_: $ty),*) {
            unreachable!("no processor of this target has the instructions")
        }
    };
}
pub(super) use with_features;

/// As [`for_each_isa`], for types that need AVX-512 with its bf16 instructions.
///
/// # Safety
/// Of the function that it defines: [`has_bf16`], and what `$body` asks for holds.
macro_rules! with_bf16 {
    ($($function:tt)*) => { $crate::kernels::isa::with_features! { "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma": $($function)* } };
}
pub(super) use with_bf16;

/// As [`for_each_isa`], for types that need AVX-512 with VNNI.
///
/// # Safety
/// Of the function that it defines: [`has_int8`], and what `$body` asks for holds.
macro_rules! with_int8 {
    ($($function:tt)*) => { $crate::kernels::isa::with_features! { "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma": $($function)* } };
}
pub(super) use with_int8;

/// Whether this processor multiplies bytes (AVX-512 with VNNI).
pub fn has_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::best() == Isa::Avx512 && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this processor multiplies bf16.
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::best() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_present_and_nothing_above_it_runs() {
        assert_eq!(Isa::present().last(), Some(Isa::best()));
        assert!(Isa::present().all(|isa| isa.checked() == isa));
        assert!(Isa::Avx512.checked() <= Isa::best());
    }
}
