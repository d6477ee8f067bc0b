#![expect(unsafe_code, reason = "the standard library's collections cannot be told an alignment")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

use crate::Error;

/// Bytes that begin at a cache line.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    /// What was allocated: a byte at least.
    layout: Layout,
}

const LINE: usize = 64;

// SAFETY: a buffer owns its bytes, and hands them out only as slices, by the rules of borrowing.
unsafe impl Send for Buffer {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes `len` bytes, all zero.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system gives none.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Error> {
        let bytes = len.max(1);
        let layout = Layout::from_size_align(bytes, LINE).map_err(|_| Error::Memory { bytes })?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(Error::Memory { bytes })?;
        Ok(Self { start, len, layout })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: at least so many bytes were allocated, are all initialised, and live as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and not freed before.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
