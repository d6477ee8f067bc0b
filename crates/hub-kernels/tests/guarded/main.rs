//! The tests of `it` once more, where everything on the heap lies between pages that cannot be touched: a kernel that
//! reads or writes outside of what it was given ends the program there and then. Weights do so in every debug build.
#![cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
#![expect(unsafe_code, reason = "an allocator gives out addresses")]

#[path = "../it/main.rs"]
mod it;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

#[global_allocator]
static GUARDED: Guarded = Guarded { at_end: AtomicBool::new(false) };

/// Puts what is worth it between two guards, against the first or the last in turns.
struct Guarded {
    at_end: AtomicBool,
}

/// A page: whatever lies in the first one of a piece tells where its guards are.
const GUARD: usize = 4 << 10;
/// The smallest piece that gets guards: the system has room for some ten thousands of them.
const SMALLEST: usize = 64;

/// Whether a piece gets guards: what kernels work on needs no more than the alignment of a cache line.
fn is_guarded(layout: Layout) -> bool {
    layout.size() >= SMALLEST && layout.align() <= 64
}

/// Returns the bytes between the guards.
fn room(layout: Layout) -> usize {
    layout.size().next_multiple_of(GUARD)
}

// SAFETY: a piece is a mapping of its own, as long and as aligned as asked for, or comes from the system's allocator.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_guarded(layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        let room = room(layout);
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the system chooses the place, so nothing that is there is touched.
        let Ok(mapped) = (unsafe { mmap_anonymous(ptr::null_mut(), room + 2 * GUARD, prot, flags) }) else {
            return ptr::null_mut();
        };
        for edge in [0, GUARD + room] {
            // SAFETY: these pages were mapped above, and nobody else knows of them.
            let _ = unsafe { mprotect(mapped.byte_add(edge), GUARD, MprotectFlags::empty()) };
        }
        let at_end = self.at_end.fetch_not(Ordering::Relaxed);
        let skip = if at_end { (room - layout.size()) & !(layout.align() - 1) } else { 0 };
        // SAFETY: so much lies between the guards.
        unsafe { mapped.cast::<u8>().add(GUARD + skip) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        if !is_guarded(layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.dealloc(address, layout) };
        }
        // Either end of a piece is within its first or last stretch: the mapping begins a guard before.
        let start = address.map_addr(|at| at / GUARD * GUARD).wrapping_sub(GUARD);
        // SAFETY: mapped with this length, and not given back before.
        let _ = unsafe { munmap(start.cast(), room(layout) + 2 * GUARD) };
    }
}
