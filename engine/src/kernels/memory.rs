//! Memory in huge pages. Weights stream from memory once for each image, and with 4 KiB pages the prefetches wait for address translation: in 2 MiB pages
//! the late layers of a ResNet-50, whose weights do not fit the cache, run up to a third faster.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Values of f32 in a cache line.
pub(super) const LINE: usize = 16;
const PAGE: usize = 2 << 20;
/// Values of the regions that pieces are cut from.
const REGION: usize = (32 << 20) / 4;

/// Memory whose pages are huge where the system allows it. Its values are not initialised, and not resident until they are touched.
#[derive(Debug)]
struct Region {
    at: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a region is plain memory that it owns; who may touch which part is for its users to keep.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// # Panics
    /// If `values` do not fit the address space.
    fn new(values: usize) -> Self {
        let bytes = values.max(1) * size_of::<f32>();
        let align = if bytes >= PAGE { PAGE } else { 64 };
        let layout = Layout::from_size_align(bytes.next_multiple_of(align), align).expect("a tensor that fits the address space");
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        #[cfg(all(target_os = "linux", not(miri)))]
        if align == PAGE {
            // SAFETY: whole pages that were just allocated. It is advice: where it fails, pages stay small.
            unsafe { libc::madvise(at.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Self { at: at.cast(), layout }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and dropped once.
        unsafe { dealloc(self.at.as_ptr().cast(), self.layout) }
    }
}

/// Values for activations, zeros at first, from the start of a cache line on and in huge pages.
#[derive(Debug)]
pub struct Memory {
    region: Region,
    len: usize,
}

impl Memory {
    /// `len` zeros.
    ///
    /// # Panics
    /// If they do not fit the address space.
    pub fn zeros(len: usize) -> Self {
        let region = Region::new(len);
        // SAFETY: the region has room for `len` values, and zero bytes are zeros.
        unsafe { region.at.write_bytes(0, len) };
        Self { region, len }
    }
}

impl Deref for Memory {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` values that were initialised, borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.region.at.as_ptr(), self.len) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed from nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.region.at.as_ptr(), self.len) }
    }
}

/// Values that no longer change, in whole cache lines of a region that many share, so that small ones are in huge pages, too. A clone is the same memory.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    region: Arc<Region>,
    first: usize,
    len: usize,
}

/// The region that pieces are cut from, and how much of it is taken.
static CURRENT: Mutex<Option<(Arc<Region>, usize)>> = Mutex::new(None);

impl Packed {
    /// `len` values, rounded up to whole lines, that are zeros but for what `fill` makes of them.
    pub(super) fn new(len: usize, fill: impl FnOnce(&mut [f32])) -> Self {
        let len = len.next_multiple_of(LINE);
        let (region, first) = {
            let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
            let mut taken = current.take();
            if let Some((region, used)) = &mut taken
                && Arc::strong_count(region) == 1
            {
                // Nobody else has a piece of it any more.
                *used = 0;
            }
            let (region, used) = taken
                .filter(|(region, used)| used + len <= region.layout.size() / size_of::<f32>())
                .unwrap_or_else(|| (Arc::new(Region::new(len.max(REGION))), 0));
            *current = Some((region.clone(), used + len));
            (region, used)
        };
        // SAFETY: these values lie inside the region and are nobody else's: pieces are handed out once, under the lock, until all of them are gone.
        let values = unsafe {
            let at = region.at.as_ptr().add(first);
            at.write_bytes(0, len);
            std::slice::from_raw_parts_mut(at, len)
        };
        fill(values);
        Self { region, first, len }
    }

    /// `values`, followed by zeros up to `len`.
    pub(super) fn padded(values: &[f32], len: usize) -> Self {
        Self::new(len, |to| to[..values.len()].copy_from_slice(values))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        // SAFETY: `first` lies inside the region.
        unsafe { self.region.at.as_ptr().add(self.first) }
    }
}

/// The part of `scratch` that begins at a cache line: `len` values, which fit when `scratch` has `len + LINE`.
pub(super) fn aligned(scratch: &mut [f32], len: usize) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(64);
    &mut scratch[skip..][..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_values_while_others_come_and_go() {
        let first = Packed::padded(&[1.0, 2.0], 2);
        let clone = first.clone();
        for round in 0..40 {
            let other = Packed::new(1_000_000 + round, |to| to.fill(7.0));
            assert_eq!(other.len(), (1_000_000 + round).next_multiple_of(LINE));
            assert_eq!(other.as_ptr().align_offset(64), 0);
        }
        drop(first);
        // SAFETY: one line of values.
        assert_eq!(unsafe { std::slice::from_raw_parts(clone.as_ptr(), 4) }, [1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn memory_is_zeros_that_can_be_written() {
        for len in [0, 1, 1 << 20] {
            let mut memory = Memory::zeros(len);
            assert!(memory.len() == len && memory.iter().all(|x| *x == 0.0));
            memory.fill(1.0);
            assert!(memory.iter().all(|x| *x == 1.0));
        }
    }
}
