//! One slice for several threads, each of which writes its own places.
#![expect(unsafe_code, reason = "borrows are split at places that only the work knows")]

use std::{marker::PhantomData, ops::Range, slice};

/// A slice borrowed for writing, of which several threads take parts.
#[derive(Debug)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out `&mut [T]` to other threads, which is what `T: Send` allows; who takes parts sees to it that they
// do not overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as a `&mut [T]`, which it was made of.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(all: &'a mut [T]) -> Self {
        Self { start: all.as_mut_ptr(), len: all.len(), _borrow: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns a part, to be written.
    ///
    /// # Safety
    /// No two parts that are held at the same time overlap.
    #[expect(clippy::mut_from_ref, reason = "that is what the type is for")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: the range lies within the slice that was borrowed, and nobody else holds any of it.
        unsafe { slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
