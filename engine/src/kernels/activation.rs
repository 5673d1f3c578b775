//! Activations on vectors.

use super::Activation;
use super::simd::{Portable, Simd};

impl Activation {
    /// The bounds that do all of this activation's work, the lower applied first; `None` for those that are no mere bounds.
    pub(super) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Self::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Clamp(low, high) => Some((low, high)),
            Self::Silu | Self::Sigmoid | Self::HardSwish | Self::Leaky(_) | Self::Gelu => None,
        }
    }
}

/// `exp(x)` within 2 units of the last place; bounded to what f32 holds without denormals. After Cephes' `expf`
/// (<https://www.netlib.org/cephes/>).
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // The bounds come first, so that what is not a number stays so.
        let x = S::min(S::splat(88.0), S::max(S::splat(-87.0), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::fma(p, r, S::splat(c));
        }
        let e = S::add(S::fma(p, S::mul(r, r), r), S::splat(1.0));
        S::mul(e, S::exp2_whole(n))
    }
}

/// What a value of the standard normal distribution is below `x` with, within 3e-7. After Abramowitz and Stegun, "Handbook of mathematical functions"
/// (1964), 7.1.26, which gives the tail beyond a bound of at least zero.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn normal_below<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // The value stands second, so that what is not a number stays so.
        let size = S::max(S::sub(S::splat(0.0), x), x);
        let t = S::div(S::splat(1.0), S::fma(size, S::splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), S::splat(1.0)));
        let mut p = S::splat(0.5 * 1.061_405_4);
        for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = S::fma(p, t, S::splat(0.5 * c));
        }
        let tail = S::mul(S::mul(p, t), exp::<S>(S::mul(S::mul(x, x), S::splat(-0.5))));
        // So steep that it is the sign, but for values next to zero, of which half lies below either way.
        let sign = S::min(S::splat(1.0), S::max(S::splat(-1.0), S::mul(x, S::splat(1e30))));
        S::fma(sign, S::sub(S::splat(0.5), tail), S::splat(0.5))
    }
}

/// One value, activated.
pub(crate) fn activate(x: f32, activation: Activation) -> f32 {
    // SAFETY: every processor has what the compiler makes of plain arrays.
    unsafe { apply::<Portable>([x; 4], activation)[0] }
}

/// Applies `activation`.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(super) unsafe fn apply<S: Simd>(x: S::V, activation: Activation) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        match activation {
            Activation::None => x,
            // The value stands second, so that what is not a number stays so.
            Activation::Relu => S::max(S::splat(0.0), x),
            Activation::Clamp(low, high) => S::min(S::splat(high), S::max(S::splat(low), x)),
            Activation::Silu => S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x)))),
            Activation::Sigmoid => S::div(S::splat(1.0), S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x)))),
            Activation::HardSwish => {
                let gate = S::min(S::splat(6.0), S::max(S::splat(0.0), S::add(x, S::splat(3.0))));
                S::mul(x, S::div(gate, S::splat(6.0)))
            }
            Activation::Leaky(share) => S::fma(S::splat(share), S::min(S::splat(0.0), x), S::max(S::splat(0.0), x)),
            Activation::Gelu => S::mul(x, normal_below::<S>(x)),
        }
    }
}
