#![expect(unsafe_code, reason = "parts of a slice go to several threads")]

use std::{io, num::NonZeroUsize, sync::Arc};

use crate::{Isa, disjoint::Disjoint, team::Team};

/// A processor as kernels use it: how many threads, and which instructions. Clones share the threads.
#[derive(Clone, Debug)]
pub struct Cpu {
    team: Arc<Team>,
    isa: Isa,
}

impl Cpu {
    /// Starts `threads` threads, the caller's counted as one, that use `isa`, or plain instructions if the processor
    /// lacks it.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn new(threads: NonZeroUsize, isa: Isa) -> io::Result<Self> {
        Ok(Self { team: Arc::new(Team::new(threads.get())?), isa: isa.checked() })
    }

    /// Uses the caller's thread alone, with the best instructions there are.
    pub fn single() -> Self {
        Self { team: Arc::new(Team::alone()), isa: Isa::best() }
    }

    /// Returns how many threads compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.team.len()
    }

    /// Returns which instructions are used.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Calls `work(thread, part)` once for each of `parts`, on any of the threads; a single part on the caller's.
    ///
    /// One call at a time has the threads, so `work` must not call this again with more than one part: it would wait for
    /// itself.
    ///
    /// # Panics
    /// With what a part panicked with.
    pub fn run(&self, parts: usize, work: impl Fn(usize, usize) + Sync) {
        self.team.run(parts, &work);
    }

    /// Cuts `items` into parts of `len`, the last one shorter, and calls `work(index, part)` for each.
    ///
    /// # Panics
    /// If `len` is 0, or with what a part panicked with.
    pub fn each_chunk<T: Send>(&self, items: &mut [T], len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        self.each_chunk_by_thread(items, len, |_, index, part| work(index, part));
    }

    /// The same, and tells `work(thread, index, part)` which thread it runs on.
    ///
    /// # Panics
    /// As [`each_chunk`](Self::each_chunk).
    pub(crate) fn each_chunk_by_thread<T: Send>(
        &self,
        items: &mut [T],
        len: usize,
        work: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        let all = Disjoint::new(items);
        self.run(all.len().div_ceil(len), |thread, part| {
            let range = part * len..((part + 1) * len).min(all.len());
            // SAFETY: each part is handed out once, and ranges of different parts do not overlap.
            work(thread, part, unsafe { all.part(range) });
        });
    }
}
