#![expect(unsafe_code, reason = "pages are asked for and given back by address")]

use std::{
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use crate::Error;

/// Bytes of whole pages; a large buffer begins at a huge page, so that all of it can lie in such.
///
/// With pages of 4 KiB, weights read once a token cost a look-up in the page tables for every row or two.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// What was asked for, within what was mapped.
    start: NonNull<u8>,
    len: usize,
    mapped: NonNull<u8>,
    mapped_len: usize,
}

const HUGE_PAGE: usize = 2 << 20;

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
        let fail = || Error::Memory { bytes: len };
        if cfg!(debug_assertions) && len < HUGE_PAGE {
            return Self::guarded(len).ok_or_else(fail);
        }
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let mapped_len = len.max(1).checked_add(align).ok_or_else(fail)?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the system chooses the place, so nothing that is there is touched.
        let mapped = unsafe { mmap_anonymous(ptr::null_mut(), mapped_len, prot, flags) };
        let mapped = NonNull::new(mapped.map_err(|_| fail())?.cast::<u8>()).ok_or_else(fail)?;
        let skip = if align == 0 { 0 } else { mapped.align_offset(align) };
        // SAFETY: less than the alignment is skipped, and that much more was mapped.
        let start = unsafe { mapped.add(skip) };
        if align != 0 {
            // Advice only: the buffer serves without, more slowly.
            // SAFETY: these pages are the buffer's own.
            let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        }
        Ok(Self { start, len, mapped, mapped_len })
    }

    /// Takes a buffer between pages that cannot be touched, against the first or the last by its length: a kernel
    /// that reads or writes outside ends the program there and then. Debug builds only.
    fn guarded(len: usize) -> Option<Self> {
        /// A multiple of every system's pages.
        const GUARD: usize = 64 << 10;
        let room = len.max(1).next_multiple_of(GUARD);
        let mapped_len = room + 2 * GUARD;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the system chooses the place, so nothing that is there is touched.
        let mapped = unsafe { mmap_anonymous(ptr::null_mut(), mapped_len, prot, flags) };
        let mapped = NonNull::new(mapped.ok()?.cast::<u8>())?;
        for edge in [0, GUARD + room] {
            // SAFETY: these pages were mapped above, and nobody else knows of them.
            let _ = unsafe { mprotect(mapped.add(edge).as_ptr().cast(), GUARD, MprotectFlags::empty()) };
        }
        let skip = if (len / 64).is_multiple_of(2) { room - len } else { 0 };
        // SAFETY: so much lies between the edges.
        let start = unsafe { mapped.add(GUARD + skip) };
        Some(Self { start, len, mapped, mapped_len })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: that much is mapped from there on, zero from the start, and lives as long as `self`.
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
        // SAFETY: mapped with this length, and not given back before. It fails for no whole mapping.
        let _ = unsafe { munmap(self.mapped.as_ptr().cast(), self.mapped_len) };
    }
}
