//! Memory that begins at a cache line.

/// Values of f32 in a cache line.
pub(super) const LINE: usize = 16;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Zeros that begin at a cache line, as many as asked for rounded up to whole lines.
#[derive(Debug, Clone)]
pub(super) struct Aligned(Vec<Line>);

impl Aligned {
    pub(super) fn zeros(len: usize) -> Self {
        Self(vec![Line([0.0; LINE]); len.div_ceil(LINE)])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() * LINE
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.len();
        // SAFETY: a line is LINE values of f32 and nothing else, and lines lie one after the other.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

/// The part of `scratch` that begins at a cache line: `len` values, which fit when `scratch` has `len + LINE`.
pub(super) fn aligned(scratch: &mut [f32], len: usize) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(64);
    &mut scratch[skip..][..len]
}
