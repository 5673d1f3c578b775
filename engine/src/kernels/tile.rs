//! The one inner loop that all dense convolutions share: a tile of up to 6 rows (pixels) by up to 4 vectors (output channels) of sums held in registers,
//! to which each step adds the outer product of 6 input values and one row of packed weights. Rows of the input are read where they lie.

use super::Isa;
use super::isa::for_each_isa;
use super::memory::LINE;
use super::simd::Simd;

/// Most rows of a tile.
pub(super) const ROWS: usize = 6;

/// What a tile computes: `out[r][..columns] = finish(start + sum over runs, over k < len of rows[run][r][k] * panel[..])`.
pub(super) struct Tile<'a> {
    /// For each run, where each row's values begin (entries beyond the tile's rows are not read).
    pub rows: &'a [[*const f32; ROWS]],
    /// For each run, how many consecutive values.
    pub lens: &'a [u32],
    /// Packed weights: for each value of each run in turn, `vectors` whole vectors.
    pub panel: *const f32,
    /// Memory that is wanted soon, and the bytes of it to ask for with each value, see [`soon_step`]; 0 asks for nothing new.
    pub soon: *const f32,
    pub soon_step: usize,
    /// Where sums start: `vectors` whole vectors, the same for all rows; null goes on from what `out` holds.
    pub start: *const f32,
    /// First row's output, and the elements from a row to the next.
    pub out: *mut f32,
    pub out_pitch: usize,
    /// Output channels that exist; the last vector may be part empty.
    pub columns: usize,
    /// Added at the end, or null.
    pub residual: *const f32,
    pub residual_pitch: usize,
    /// Output and residual of the tile that follows, asked for early; any address.
    pub out_ahead: *const f32,
    pub residual_ahead: *const f32,
    /// Bounds applied at the end, the lower first; infinite where there is none.
    pub bounds: (f32, f32),
}

/// Computes a tile of `R` rows by `NV` vectors.
///
/// # Safety
/// All of [`Tile`]'s pointers reach what its fields say; `soon` and the tile that follows may be any address. `columns` is within `(NV - 1) * LANES + 1 ..= NV * LANES`.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const NV: usize>(t: &Tile<'_>) {
    // SAFETY: the caller's promise covers every access below.
    unsafe {
        let tail = t.columns - (NV - 1) * S::LANES;
        let mut sums = [[S::splat(0.0); NV]; R];
        if t.start.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                let from = t.out.add(r * t.out_pitch);
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = if v + 1 < NV { S::load(from.add(v * S::LANES)) } else { S::load_part(from.add(v * S::LANES), tail) };
                }
            }
        } else {
            let start: [S::V; NV] = std::array::from_fn(|v| S::load(t.start.add(v * S::LANES)));
            sums = [start; R];
        }
        let mut panel = t.panel;
        let mut soon = t.soon.cast::<i8>();
        // One line with each value, so that the lines asked for never hold up the loads of weights.
        let lines = (NV * S::LANES).div_ceil(LINE).next_power_of_two();
        let mut step = 0;
        let unroll = values_a_turn(S::LANES);
        // What the first run has no turns for.
        for line in t.lens.first().map_or(0, |len| *len as usize / unroll)..R * lines {
            prefetch::<SOON>(t.out_ahead.wrapping_add(line / lines * t.out_pitch + line % lines * LINE).cast());
            prefetch::<SOON>(t.residual_ahead.wrapping_add(line / lines * t.residual_pitch + line % lines * LINE).cast());
        }
        for (rows, len) in t.rows.iter().zip(t.lens) {
            let rows: [*const f32; R] = std::array::from_fn(|r| rows[r]);
            let len = *len as usize;
            let mut k = 0;
            while k + unroll <= len {
                prefetch::<INTO_L2>(soon);
                prefetch::<INTO_L2>(soon.wrapping_add(64));
                soon = soon.wrapping_add(t.soon_step * unroll);
                let (row, line) = (step / lines, step % lines * LINE);
                prefetch::<SOON>(t.out_ahead.wrapping_add(row * t.out_pitch + line).cast());
                prefetch::<SOON>(t.residual_ahead.wrapping_add(row * t.residual_pitch + line).cast());
                step = (step + 1).min(R * lines - 1);
                for u in 0..unroll {
                    multiply::<S, R, NV>(&mut sums, &rows, k + u, panel.add(u * NV * S::LANES));
                }
                k += unroll;
                panel = panel.add(unroll * NV * S::LANES);
            }
            while k < len {
                multiply::<S, R, NV>(&mut sums, &rows, k, panel);
                k += 1;
                panel = panel.add(NV * S::LANES);
            }
        }
        if !t.residual.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                let from = t.residual.add(r * t.residual_pitch);
                for (v, sum) in row.iter_mut().enumerate() {
                    let with = if v + 1 < NV { S::load(from.add(v * S::LANES)) } else { S::load_part(from.add(v * S::LANES), tail) };
                    *sum = S::add(*sum, with);
                }
            }
        }
        if t.bounds.0 != f32::NEG_INFINITY {
            let low = S::splat(t.bounds.0);
            for sum in sums.as_flattened_mut() {
                *sum = S::max(low, *sum);
            }
        }
        if t.bounds.1 != f32::INFINITY {
            let high = S::splat(t.bounds.1);
            for sum in sums.as_flattened_mut() {
                *sum = S::min(high, *sum);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let to = t.out.add(r * t.out_pitch);
            for (v, sum) in row.iter().enumerate() {
                if v + 1 < NV || tail == S::LANES {
                    S::store(to.add(v * S::LANES), *sum);
                } else {
                    S::store_part(to.add(v * S::LANES), *sum, tail);
                }
            }
        }
    }
}

/// Adds the outer product of each row's value `k` and one row of packed weights.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn multiply<S: Simd, const R: usize, const NV: usize>(
    sums: &mut [[S::V; NV]; R],
    rows: &[*const f32; R],
    k: usize,
    panel: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut b = [S::splat(0.0); NV];
        for (v, b) in b.iter_mut().enumerate() {
            *b = S::load(panel.add(v * S::LANES));
        }
        for (row, sums) in rows.iter().zip(sums) {
            let a = S::splat(*row.add(k));
            for (b, sum) in b.iter().zip(sums) {
                *sum = S::fma(a, *b, *sum);
            }
        }
    }
}

/// Values of K for each turn of the loop, and so for each line that is asked for: narrow vectors leave less time for asking.
const fn values_a_turn(lanes: usize) -> usize {
    if lanes == 16 { 1 } else { 4 }
}

/// The step to ask with, so that `bytes` for each value of K are asked for within `tiles` tiles.
pub(super) fn soon_step(isa: Isa, bytes: usize, tiles: usize) -> usize {
    bytes.div_ceil(tiles).clamp(4, 128 / values_a_turn(isa.lanes()))
}

// Hints of `_mm_prefetch`: into L1, into L2.
const SOON: i32 = 3;
const INTO_L2: i32 = 2;

#[inline(always)]
fn prefetch<const HINT: i32>(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<HINT>(address)
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

for_each_isa! {
    /// See [`tile`].
    unsafe fn tile_on<const R: usize, const NV: usize>(t: &Tile<'_>) => tile
}

/// Runs a tile of `rows` rows by `vectors` vectors.
///
/// # Safety
/// As for [`tile`]; `isa` is one that the processor has; `rows` is within `1..=ROWS` and `vectors` within `1..=`[`most_vectors`].
pub(super) unsafe fn run(isa: Isa, rows: usize, vectors: usize, t: &Tile<'_>) {
    debug_assert!((1..=ROWS).contains(&rows) && (1..=most_vectors(isa)).contains(&vectors));
    macro_rules! pick {
        ($($r:literal)*) => {
            match (rows, vectors) {
                $(($r, 1) => tile_on::<$r, 1>(isa, t),
                ($r, 2) => tile_on::<$r, 2>(isa, t),
                ($r, 3) => tile_on::<$r, 3>(isa, t),
                ($r, _) => tile_on::<$r, 4>(isa, t),)*
                _ => unreachable!("a tile has 1 to 6 rows"),
            }
        };
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { pick!(1 2 3 4 5 6) }
}

/// Most vectors of a tile: as many as leave registers for the weights of a step and a broadcast value.
pub(super) fn most_vectors(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 4 } else { 2 }
}

/// Splits `vectors` into panels of at most [`most_vectors`], as evenly as they go: (first vector, vectors) of each.
pub(super) fn panels(isa: Isa, vectors: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    split(vectors, vectors.div_ceil(most_vectors(isa)))
}

/// Splits `whole` into `parts` as evenly as they go: (first, count) of each.
pub(super) fn split(whole: usize, parts: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..parts).map(move |i| {
        let first = whole * i / parts;
        (first, whole * (i + 1) / parts - first)
    })
}

/// How many rows each tile of a matmul has: as even as they go, the first ones one more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub count: usize,
    each: usize,
    longer: usize,
}

impl Tiles {
    /// For `rows` rows, at least one.
    pub(super) fn new(rows: usize) -> Self {
        let count = rows.div_ceil(ROWS);
        Self { count, each: rows / count, longer: rows % count }
    }

    #[inline(always)]
    pub(super) fn rows(self, index: usize) -> usize {
        self.each + usize::from(index < self.longer)
    }

    pub(super) fn first_row(self, index: usize) -> usize {
        index * self.each + index.min(self.longer)
    }
}
