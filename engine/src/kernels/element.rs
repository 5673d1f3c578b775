//! What maps are made of: f32; bf16, which is kept so and computed with in f32; or whole numbers from 0 to 255, which a map is quantised to.

use super::simd::Simd;

/// bfloat16: the upper half of an f32, as many exponents and 8 significant bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

/// A whole number from 0 to 255, to which a map is quantised. Here it is that number and no more: what it stands for ([`super::Quantized`]) is the business
/// of whoever reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct U8(u8);

/// A number that is kept as `Self` and computed with as f32.
pub trait Number: Copy + Default + From<f32> + Into<f32> + Send + Sync + 'static {
    /// Words of 32 bits as the numbers that they hold.
    fn of_words(words: &[f32]) -> &[Self];
    /// As [`Number::of_words`].
    fn of_words_mut(words: &mut [f32]) -> &mut [Self];
}

impl Number for f32 {
    fn of_words(words: &[f32]) -> &[Self] {
        words
    }
    fn of_words_mut(words: &mut [f32]) -> &mut [Self] {
        words
    }
}

impl Number for Bf16 {
    fn of_words(words: &[f32]) -> &[Self] {
        // SAFETY: two numbers are as large as a word and aligned in it, and any bits are a number.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len()) }
    }
    fn of_words_mut(words: &mut [f32]) -> &mut [Self] {
        // SAFETY: as above, borrowed from nobody else; and any bits are a word.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
    }
}

impl Number for U8 {
    fn of_words(words: &[f32]) -> &[Self] {
        // SAFETY: four numbers are as large as a word, and any bits are a number.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
    }
    fn of_words_mut(words: &mut [f32]) -> &mut [Self] {
        // SAFETY: as above, borrowed from nobody else; and any bits are a word.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
    }
}

/// The nearest, of two as near the even one, and of what lies beyond the last one. What is not a number becomes 0.
impl From<f32> for U8 {
    fn from(x: f32) -> Self {
        Self(x.round_ties_even() as u8)
    }
}

impl From<U8> for f32 {
    fn from(x: U8) -> f32 {
        x.0.into()
    }
}

/// The nearest; of two as near the even one. What is not a number stays so.
impl From<f32> for Bf16 {
    fn from(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        Self((if x.is_nan() { bits | 1 << 22 } else { rounded } >> 16) as u16)
    }
}

impl From<Bf16> for f32 {
    fn from(x: Bf16) -> f32 {
        f32::from_bits(u32::from(x.0) << 16)
    }
}

impl Bf16 {
    /// Two of them as the kernels read them: in one word of 32 bits, `self` first.
    pub(super) fn beside(self, next: Self) -> f32 {
        f32::from_bits(u32::from(self.0) | u32::from(next.0) << 16)
    }
}

/// Numbers that are packed into words.
pub trait Packs: Number {
    /// Of them in a word.
    const OF_A_WORD: usize;
    /// A word of the `n`-th weight and those that follow, as they are multiplied with such numbers: for [`U8`] whole ones from -128 to 127.
    fn word(n: usize, weight: impl Fn(usize) -> f32) -> f32;
    /// What sums may be kept in until they are finished, if that is the output itself.
    fn as_sums(output: *mut Self) -> Option<*mut f32>;
}

impl Packs for f32 {
    const OF_A_WORD: usize = 1;
    fn word(n: usize, weight: impl Fn(usize) -> f32) -> f32 {
        weight(n)
    }
    fn as_sums(output: *mut Self) -> Option<*mut f32> {
        Some(output)
    }
}

impl Packs for Bf16 {
    const OF_A_WORD: usize = 2;
    fn word(n: usize, weight: impl Fn(usize) -> f32) -> f32 {
        Self::from(weight(n)).beside(Self::from(weight(n + 1)))
    }
    fn as_sums(_: *mut Self) -> Option<*mut f32> {
        None
    }
}

impl Packs for U8 {
    const OF_A_WORD: usize = 4;
    fn word(n: usize, weight: impl Fn(usize) -> f32) -> f32 {
        f32::from_bits(u32::from_le_bytes(std::array::from_fn(|i| weight(n + i) as i8 as u8)))
    }
    fn as_sums(_: *mut Self) -> Option<*mut f32> {
        None
    }
}

/// Numbers as vectors of f32.
///
/// # Safety
/// As for [`Simd`], whose functions these are for memory that holds `Self`.
pub(super) trait Element<S: Simd>: Number {
    unsafe fn load(from: *const Self) -> S::V;
    unsafe fn load_part(from: *const Self, count: usize) -> S::V;
    unsafe fn store(to: *mut Self, v: S::V);
    unsafe fn store_part(to: *mut Self, v: S::V, count: usize);
    /// Two vectors, one behind the other.
    #[inline(always)]
    unsafe fn store_two(to: *mut Self, first: S::V, second: S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::store(to, first);
            Self::store(to.add(S::LANES), second);
        }
    }
    /// Several vectors, one behind the other, of which the last has `tail` values. For [`U8`] values must lie within i32.
    #[inline(always)]
    unsafe fn store_row<const N: usize>(to: *mut Self, row: &[S::V; N], tail: usize) {
        let whole = if tail == S::LANES { N } else { N - 1 };
        // SAFETY: the caller's promise.
        unsafe {
            for v in (0..N).step_by(2) {
                let to = to.add(v * S::LANES);
                if v + 1 < whole {
                    Self::store_two(to, row[v], row[v + 1]);
                    continue;
                }
                for (u, value) in row[v..N.min(v + 2)].iter().enumerate() {
                    let to = to.add(u * S::LANES);
                    if v + u < whole { Self::store(to, *value) } else { Self::store_part(to, *value, tail) }
                }
            }
        }
    }
    /// Whether four vectors of numbers lie in memory in an order that saves instructions: channel `16 * j + 4 * v + i` is lane `4 * j + i` of vector `v`.
    const INTERLEAVES: bool = false;
    /// As many vectors as lie so at `from`; only of types that do.
    #[inline(always)]
    unsafe fn load_interleaved<const N: usize>(_: *const Self) -> [S::V; N] {
        unreachable!("numbers that are not interleaved")
    }
    /// As [`Element::store_row`], of vectors whose values are to lie so.
    #[inline(always)]
    unsafe fn store_interleaved<const N: usize>(_: *mut Self, _: &[S::V; N]) {
        unreachable!("numbers that are not interleaved")
    }
    /// `sum` and what lies at `from`.
    #[inline(always)]
    unsafe fn add(from: *const Self, sum: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::add(sum, Self::load(from)) }
    }
}

impl<S: Simd> Element<S> for f32 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> S::V {
        // SAFETY: the caller's promise, here and below.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const Self, count: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_part(from, count) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut Self, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to, v) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut Self, v: S::V, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store_part(to, v, count) }
    }
}

/// Numbers that are multiplied a word of 32 bits at a time: one of f32, two neighbours of bf16 or four of [`U8`], of which all products are added.
///
/// # Safety
/// As for [`Simd`].
pub(super) trait Factor<S: Simd>: Element<S> {
    /// Numbers in a word.
    const OF_A_WORD: usize;
    /// The word at `from` in each lane.
    unsafe fn splat(from: *const Self) -> S::V;
    /// The `count` numbers at `from` (less than a word of them) in each lane, and zeros for what else their word holds.
    unsafe fn splat_last(from: *const Self, count: usize) -> S::V;
    /// Adds the products of two words of each lane.
    unsafe fn multiply_add(a: S::V, b: S::V, sum: S::V) -> S::V;
    /// Whether sums are whole numbers (i32 in each lane), for [`Factor::whole`] to turn into f32.
    const WHOLE: bool = false;
    /// Sums as f32.
    #[inline(always)]
    unsafe fn whole(sum: S::V) -> S::V {
        sum
    }
}

impl<S: Simd> Factor<S> for f32 {
    const OF_A_WORD: usize = 1;
    #[inline(always)]
    unsafe fn splat(from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::splat(*from) }
    }
    #[inline(always)]
    unsafe fn splat_last(from: *const Self, _: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::splat(*from) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: S::V, b: S::V, sum: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::fma(a, b, sum) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_is_taken(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            let near = Bf16::from(x);
            if x.is_nan() {
                prop_assert!(f32::from(near).is_nan());
                return Ok(());
            }
            let apart = |b: Bf16| (f64::from(f32::from(b)) - f64::from(x)).abs();
            // What is beyond the largest is nearer to infinity by the rules of rounding, not by distance.
            if f32::from(near).is_finite() {
                for neighbour in [near.0.wrapping_sub(1), near.0.wrapping_add(1)].map(Bf16) {
                    if f32::from(neighbour).is_finite() {
                        let (here, there) = (apart(near), apart(neighbour));
                        prop_assert!(here < there || here == there && near.0 % 2 == 0, "{x:e}");
                    }
                }
            }
        }

        #[test]
        fn what_is_exact_stays(upper in any::<u16>()) {
            let x = f32::from(Bf16(upper));
            prop_assert!(x.is_nan() || Bf16::from(x) == Bf16(upper));
        }
    }

    #[test]
    fn a_word_holds_two() {
        let (a, b) = (Bf16::from(1.5), Bf16::from(-3.0));
        assert_eq!(Bf16::of_words(&[a.beside(b)]), [a, b]);
    }
}
