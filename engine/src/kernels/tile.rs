//! The one inner loop that all dense convolutions share: a tile of 6 rows (pixels) by up to 4 vectors (output channels) of sums held in registers, or 12 by
//! fewer of them, to which each step adds the outer product of an input value of each row and one row of packed weights. Rows of the input are read where they lie.

use super::Isa;
use super::element::{Bf16, Element, Factor, U8};
use super::isa::{for_each_isa, with_bf16, with_int8};
use super::simd::Simd;

mod sizes;
pub(super) use sizes::{Tiles, most_rows, most_vectors, panels, split};

/// Most rows of a tile of any width.
pub(super) const ROWS: usize = 12;

/// What a tile computes: `out[r][..columns] = finish(start + sum over runs, over k < len of rows[run][r][k] * panel[..])`, of `I` for `O`. Several tiles, one
/// below the other, can be computed in one call: what comes between two of them takes as long as several steps.
#[derive(Clone, Copy)]
pub struct Tile<'a, I, O> {
    /// Where each row begins, and how far from there each run's values do (entries beyond the tile's rows are not read).
    pub rows: [*const I; ROWS],
    pub offsets: &'a [isize],
    /// Or, for each run, where each row's values begin, if that is no such grid; null where it is.
    pub table: *const [*const I; ROWS],
    /// Tiles of this call; more than one only without `table`.
    pub tiles: usize,
    /// Values from a row to the same one of the next tile.
    pub rows_step: usize,
    /// For each run, how many consecutive values.
    pub lens: &'a [u32],
    /// Packed weights: for each word of values (see [`Factor`]) of each run in turn, `vectors` whole vectors of words.
    pub panel: *const f32,
    /// Memory that is wanted soon, and the bytes of it to ask for with each word, see [`soon_step`]; 0 asks for nothing new.
    pub soon: *const i8,
    pub soon_step: usize,
    /// Where sums start: `vectors` whole vectors, the same for all rows; null goes on from `sums`.
    pub start: *const f32,
    /// First row's sums so far, and the values from a row to the next.
    pub sums: *mut f32,
    pub sums_pitch: usize,
    /// First row's output, and the elements from a row to the next.
    pub out: *mut O,
    pub out_pitch: usize,
    /// Output channels that exist; the last vector may be part empty.
    pub columns: usize,
    /// For whole sums: what the finished ones are multiplied by, and what is added then, `vectors` whole vectors of each; null leaves them as they are.
    pub scale: *const f32,
    pub shift: *const f32,
    /// Whether sums, read as f32 as they are, are the number that they stand for, see [`super::conv_int8`].
    pub sums_are_floats: bool,
    /// Whether all columns exist and lie as [`Element::INTERLEAVES`] says.
    pub interleaved: bool,
    /// Added at the end, or null; with whole sums, times `residual_scale`.
    pub residual: *const O,
    pub residual_pitch: usize,
    pub residual_scale: f32,
    /// Output and residual of the tile that follows the last one, asked for early; any address.
    pub out_ahead: *const O,
    pub residual_ahead: *const O,
    /// Bounds applied at the end, the lower first; infinite where there is none.
    pub bounds: (f32, f32),
}

impl<'a, I, O> Tile<'a, I, O> {
    /// The tile of `rows` rows that is not finished: it ends where sums are kept, without residual and bounds.
    pub(super) fn unfinished(self, rows: usize) -> Tile<'a, I, f32> {
        let Self { rows: from, offsets, table, tiles, rows_step, lens, panel, soon, soon_step, start, sums, sums_pitch, columns, .. } =
            self;
        Tile {
            rows: from,
            offsets,
            table,
            tiles,
            rows_step,
            lens,
            panel,
            soon,
            soon_step,
            start,
            sums,
            sums_pitch,
            out: sums,
            out_pitch: sums_pitch,
            columns,
            scale: std::ptr::null(),
            shift: std::ptr::null(),
            sums_are_floats: false,
            interleaved: false,
            residual: std::ptr::null(),
            residual_pitch: 0,
            residual_scale: 1.0,
            out_ahead: sums.wrapping_add(rows * sums_pitch),
            residual_ahead: sums,
            bounds: (f32::NEG_INFINITY, f32::INFINITY),
        }
    }
}

/// Computes tiles of `R` rows by `NV` vectors.
///
/// # Safety
/// All of [`Tile`]'s pointers reach what its fields say; `soon` and the tile that follows may be any address. `columns` is within `(NV - 1) * LANES + 1 ..= NV * LANES`.
#[inline(always)]
unsafe fn tile<S: Simd, I: Factor<S>, O: Element<S>, const R: usize, const NV: usize>(t: &Tile<'_, I, O>) {
    let mut soon = t.soon;
    for index in 0..t.tiles {
        // SAFETY: the caller's promise.
        unsafe { one::<S, I, O, R, NV>(t, index, &mut soon) }
    }
}

/// The tile `index` of a call.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn one<S: Simd, I: Factor<S>, O: Element<S>, const R: usize, const NV: usize>(
    t: &Tile<'_, I, O>,
    index: usize,
    soon: &mut *const i8,
) {
    // SAFETY: the caller's promise covers every access below.
    unsafe {
        let tail = t.columns - (NV - 1) * S::LANES;
        let row = index * R;
        let (out, sums_at) = (t.out.wrapping_add(row * t.out_pitch), t.sums.wrapping_add(row * t.sums_pitch));
        let residual = if t.residual.is_null() { t.residual } else { t.residual.wrapping_add(row * t.residual_pitch) };
        let (out_ahead, residual_ahead) = if index + 1 < t.tiles {
            let out = out.wrapping_add(R * t.out_pitch).cast_const();
            // An address that is asked for in vain costs a walk through the page tables.
            (out, if residual.is_null() { out } else { residual.wrapping_add(R * t.residual_pitch) })
        } else {
            (t.out_ahead, t.residual_ahead)
        };
        let mut sums = [[S::splat(0.0); NV]; R];
        if t.start.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                let from = sums_at.add(r * t.sums_pitch);
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = if v + 1 < NV { S::load(from.add(v * S::LANES)) } else { S::load_part(from.add(v * S::LANES), tail) };
                }
            }
        } else {
            let start: [S::V; NV] = std::array::from_fn(|v| S::load(t.start.add(v * S::LANES)));
            sums = [start; R];
        }
        let mut panel = t.panel;
        // One line with each word, so that the lines asked for never hold up the loads of weights.
        let of_a_line = 64 / size_of::<O>();
        let lines = (NV * S::LANES).div_ceil(of_a_line).next_power_of_two();
        let ahead = |step: usize| {
            let (row, line) = (step / lines, step % lines * of_a_line);
            prefetch::<SOON>(out_ahead.wrapping_add(row * t.out_pitch + line).cast());
            prefetch::<SOON>(residual_ahead.wrapping_add(row * t.residual_pitch + line).cast());
        };
        let mut step = 0;
        let unroll = values_a_turn(S::LANES);
        // What the first run has no turns for.
        for step in t.lens.first().map_or(0, |len| *len as usize / I::OF_A_WORD / unroll)..R * lines {
            ahead(step);
        }
        for (run, (offset, len)) in t.offsets.iter().zip(t.lens).enumerate() {
            let rows: [*const I; R] = if t.table.is_null() {
                std::array::from_fn(|r| t.rows[r].wrapping_offset(*offset + (index * t.rows_step) as isize))
            } else {
                let rows = t.table.add(run);
                std::array::from_fn(|r| (*rows)[r])
            };
            let (words, more) = (*len as usize / I::OF_A_WORD, *len as usize % I::OF_A_WORD);
            let mut k = 0;
            while k + unroll <= words {
                prefetch::<INTO_L2>(*soon);
                prefetch::<INTO_L2>(soon.wrapping_add(64));
                *soon = soon.wrapping_add(t.soon_step * unroll);
                ahead(step);
                step = (step + 1).min(R * lines - 1);
                for u in 0..unroll {
                    multiply::<S, I, R, NV>(&mut sums, &rows, k + u, 0, panel.add(u * NV * S::LANES));
                }
                k += unroll;
                panel = panel.add(unroll * NV * S::LANES);
            }
            while k < words {
                multiply::<S, I, R, NV>(&mut sums, &rows, k, 0, panel);
                k += 1;
                panel = panel.add(NV * S::LANES);
            }
            if more > 0 {
                multiply::<S, I, R, NV>(&mut sums, &rows, k, more, panel);
                panel = panel.add(NV * S::LANES);
            }
        }
        let interleaved = O::INTERLEAVES && NV == 4 && t.interleaved;
        if I::WHOLE && !t.scale.is_null() {
            if !t.sums_are_floats {
                for sum in sums.as_flattened_mut() {
                    *sum = I::whole(*sum);
                }
            }
            for v in 0..NV {
                let (scale, shift) = (S::load(t.scale.add(v * S::LANES)), S::load(t.shift.add(v * S::LANES)));
                for row in &mut sums {
                    row[v] = S::fma(row[v], scale, shift);
                }
            }
        }
        // Loops of their own: one with both ways in it would not be unrolled, and sums would go to memory.
        if !residual.is_null() && interleaved {
            let scale = S::splat(t.residual_scale);
            for (r, row) in sums.iter_mut().enumerate() {
                let values = O::load_interleaved::<NV>(residual.add(r * t.residual_pitch));
                for (sum, value) in row.iter_mut().zip(&values) {
                    *sum = S::fma(*value, scale, *sum);
                }
            }
        } else if !residual.is_null() {
            let scale = S::splat(t.residual_scale);
            for (r, row) in sums.iter_mut().enumerate() {
                let from = residual.add(r * t.residual_pitch);
                for (v, sum) in row.iter_mut().enumerate() {
                    let from = from.add(v * S::LANES);
                    if I::WHOLE {
                        let value = if v + 1 < NV || tail == S::LANES { O::load(from) } else { O::load_part(from, tail) };
                        *sum = S::fma(value, scale, *sum);
                        continue;
                    }
                    *sum = if v + 1 < NV || tail == S::LANES { O::add(from, *sum) } else { S::add(*sum, O::load_part(from, tail)) };
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
        if interleaved {
            for (r, row) in sums.iter().enumerate() {
                O::store_interleaved(out.add(r * t.out_pitch), row);
            }
            return;
        }
        for (r, row) in sums.iter().enumerate() {
            O::store_row(out.add(r * t.out_pitch), row, tail);
        }
    }
}

/// Adds the outer product of each row's word `k` and one row of packed weights; `more` is not 0 for the last one of a row of which there is only that much.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn multiply<S: Simd, I: Factor<S>, const R: usize, const NV: usize>(
    sums: &mut [[S::V; NV]; R],
    rows: &[*const I; R],
    k: usize,
    more: usize,
    panel: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut b = [S::splat(0.0); NV];
        for (v, b) in b.iter_mut().enumerate() {
            *b = S::load(panel.add(v * S::LANES));
        }
        for (row, sums) in rows.iter().zip(sums) {
            let from = row.add(k * I::OF_A_WORD);
            let a = if more > 0 { I::splat_last(from, more) } else { I::splat(from) };
            for (b, sum) in b.iter().zip(sums) {
                *sum = I::multiply_add(a, *b, *sum);
            }
        }
    }
}

/// Words of K for each turn of the loop, and so for each line that is asked for: narrow vectors leave less time for asking.
const fn values_a_turn(lanes: usize) -> usize {
    if lanes == 16 { 1 } else { 4 }
}

/// The step to ask with, so that `bytes` for each word of K are asked for within `tiles` tiles.
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
    unsafe fn tile_on<const R: usize, const NV: usize>(t: &Tile<'_, f32, f32>) => tile::<f32, f32>
}

with_bf16! {
    /// See [`tile`].
    unsafe fn tile_of_bf16<const R: usize, const NV: usize>(t: &Tile<'_, Bf16, Bf16>) => tile::<Bf16, Bf16>
}

with_bf16! {
    /// See [`tile`].
    unsafe fn tile_from_bf16<const R: usize, const NV: usize>(t: &Tile<'_, Bf16, f32>) => tile::<Bf16, f32>
}

with_int8! {
    /// See [`tile`].
    unsafe fn tile_of_u8<const R: usize, const NV: usize>(t: &Tile<'_, U8, U8>) => tile::<U8, U8>
}

with_int8! {
    /// See [`tile`].
    unsafe fn tile_from_u8<const R: usize, const NV: usize>(t: &Tile<'_, U8, f32>) => tile::<U8, f32>
}

/// Runs `$f` for a tile's rows and vectors, of those that [`most_rows`] allows.
macro_rules! pick {
    ($rows:expr, $vectors:expr, $f:ident $args:tt) => {
        pick!(@ $rows, $vectors, $f $args; 1: 1 2 3 4 5 6 7 8 9 10 11 12; 2: 1 2 3 4 5 6 7 8 9 10 11 12; 3: 1 2 3 4 5 6; 4: 1 2 3 4 5 6)
    };
    (@ $rows:expr, $vectors:expr, $f:ident $args:tt; $($v:literal: $($r:literal)*);*) => {
        match ($vectors, $rows) {
            $($(($v, $r) => $f::<$r, $v>$args,)*)*
            _ => unreachable!("a tile has 1 to 4 vectors, and as many rows as they leave registers for"),
        }
    };
}

/// Types that tiles are computed from and to.
///
/// # Safety
/// Of [`Multiplies::run`], which runs a tile of `rows` rows by `vectors` vectors: as for [`tile`]; `isa` is one that the processor has, and `vectors` is within
/// `1..=`[`most_vectors`], and `rows` within `1..=`[`most_rows`]. For bf16 and u8 the processor has their instructions.
pub trait Multiplies<O>: Sized {
    #[doc(hidden)]
    unsafe fn run(isa: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, O>);
}

impl Multiplies<f32> for f32 {
    unsafe fn run(isa: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, f32>) {
        debug_assert!((1..=most_vectors(isa)).contains(&vectors) && (1..=most_rows(isa, vectors)).contains(&rows));
        // SAFETY: the caller's promise, passed on.
        unsafe { pick!(rows, vectors, tile_on(isa, t)) }
    }
}

impl Multiplies<Bf16> for Bf16 {
    unsafe fn run(_: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, Bf16>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { pick!(rows, vectors, tile_of_bf16(t)) }
    }
}

impl Multiplies<f32> for Bf16 {
    unsafe fn run(_: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { pick!(rows, vectors, tile_from_bf16(t)) }
    }
}

impl Multiplies<U8> for U8 {
    unsafe fn run(_: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, U8>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { pick!(rows, vectors, tile_of_u8(t)) }
    }
}

impl Multiplies<f32> for U8 {
    unsafe fn run(_: Isa, rows: usize, vectors: usize, t: &Tile<'_, Self, f32>) {
        // SAFETY: the caller's promise, passed on.
        unsafe { pick!(rows, vectors, tile_from_u8(t)) }
    }
}
