//! Threads that work on one thing together.
//!
//! A piece of work is cut into parts; whoever is free takes the next one, so a thread that the system has put aside
//! holds up nobody: only parts it has begun are waited for. A part writes what no other part writes, and computes it
//! the same way on any thread, so results do not depend on who took what.
//!
//! Between two pieces of work the threads look for the next one for a few microseconds, since the parts of a step
//! follow each other closely, and then sleep: a model that waits for a request costs nothing.
#![expect(unsafe_code, reason = "threads that outlive a call work on what the call borrows")]

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// How long a thread looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(60);
/// How often it looks between two looks at the clock.
const LOOKS: usize = 64;

/// Some threads, of which the caller's is one.
pub(crate) struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One piece of work at a time.
    turn: Mutex<()>,
}

/// What part of a piece of work is to be done: thread and part, in that order.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    /// A count of pieces of work so far, how many threads are at the present one, and whether it is open.
    state: AtomicU64,
    /// The present work. Written while nobody is at work, read by those who joined while it was open.
    work: UnsafeCell<Option<*const Work<'static>>>,
    parts: AtomicUsize,
    next: AtomicUsize,
    /// What a thread panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    is_closing: AtomicBool,
    /// The caller, once it sleeps until the others are done.
    caller: Mutex<Option<Thread>>,
    caller_sleeps: AtomicBool,
}

// SAFETY: `work` is written by the holder of `turn` while no thread is at work, and read only between joining and
// leaving; both are ordered by `state`.
unsafe impl Sync for Shared {}
// SAFETY: as above; what the pointer leads to is `Sync`.
unsafe impl Send for Shared {}

const OPEN: u64 = 1;
const MEMBER: u64 = 1 << 8;
const MEMBERS: u64 = 0xffff << 8;
const GENERATION: u64 = 1 << 32;

impl Team {
    /// Starts all threads but the caller's.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let mut team = Self::alone();
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let name = format!("compute-{index}");
            let thread = thread::Builder::new().name(name).spawn(move || shared.serve(index))?;
            team.threads.push(thread);
        }
        Ok(team)
    }

    /// A team of the caller's thread alone.
    pub(crate) fn alone() -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            parts: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            caller: Mutex::new(None),
            caller_sleeps: AtomicBool::new(false),
        });
        Self { shared, threads: Vec::new(), turn: Mutex::new(()) }
    }

    /// Returns how many threads there are, the caller's included.
    pub(crate) fn len(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `work(thread, part)` once for each part, and returns when all are done. `thread` is below
    /// [`len`](Self::len), and no two parts run on the same one at once.
    ///
    /// # Panics
    /// With what a part panicked with; the others are done or not begun then.
    pub(crate) fn run(&self, parts: usize, work: &Work<'_>) {
        if parts <= 1 || self.threads.is_empty() {
            (0..parts).for_each(|part| work(0, part));
            return;
        }
        let _turn = lock(&self.turn);
        self.open(parts, work);
        let mut close = Close { shared: &self.shared, is_done: false };
        self.shared.take_parts(0, work);
        close.is_done = true;
        drop(close);
        if let Some(panic) = lock(&self.shared.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Lays out the work and calls the others.
    fn open(&self, parts: usize, work: &Work<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. `Close` waits for all who joined before the borrow ends.
        let work = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: this thread has the turn, and nobody is at work: the last `Close` has waited for that.
        unsafe { *shared.work.get() = Some(work) };
        // Where the caller panicked too, what another thread panicked with is still here.
        lock(&shared.panic).take();
        shared.parts.store(parts, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let state = shared.state.load(Ordering::Relaxed);
        shared.state.store(state.wrapping_add(GENERATION) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            self.threads.iter().for_each(|thread| thread.thread().unpark());
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A thread of the team catches what its parts panic with, so there is nothing to hear of.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("threads", &self.len()).finish_non_exhaustive()
    }
}

/// Ends a piece of work, also when the caller's own part panics: nobody joins any more, and all who did are waited for.
struct Close<'a> {
    shared: &'a Shared,
    /// Whether the caller has found no part left.
    is_done: bool,
}

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        // After a panic of the caller nobody needs what is left.
        if !self.is_done {
            shared.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
        shared.state.fetch_and(!OPEN, Ordering::SeqCst);
        let is_done = || shared.state.load(Ordering::SeqCst) & MEMBERS == 0;
        if spin_until(is_done) {
            return;
        }
        *lock(&shared.caller) = Some(thread::current());
        shared.caller_sleeps.store(true, Ordering::SeqCst);
        while !is_done() {
            thread::park();
        }
        shared.caller_sleeps.store(false, Ordering::SeqCst);
        *lock(&shared.caller) = None;
    }
}

impl Shared {
    /// What a thread does all its life.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let is_new = || {
                let state = self.state.load(Ordering::SeqCst);
                state & OPEN != 0 && state / GENERATION != seen
            };
            let is_called = || is_new() || self.is_closing.load(Ordering::SeqCst);
            if !spin_until(is_called) {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while !is_called() {
                    thread::park();
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
            if self.is_closing.load(Ordering::SeqCst) {
                return;
            }
            if let Some(generation) = self.join() {
                seen = generation;
                self.help(thread);
            }
        }
    }

    /// Joins the work if it is open, and returns which it is.
    fn join(&self) -> Option<u64> {
        let join = |state: u64| (state & OPEN != 0).then_some(state + MEMBER);
        let joined = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, join);
        joined.ok().map(|state| state / GENERATION)
    }

    /// Takes parts of the work this thread has joined, and leaves it.
    fn help(&self, thread: usize) {
        // SAFETY: this thread is a member, so `Close` waits for it before the work's borrow ends; the work was written
        // before it was opened.
        let work = unsafe { (*self.work.get()).map(|work| &*work) };
        if let Some(work) = work
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_parts(thread, work)))
        {
            self.next.store(usize::MAX / 2, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
        self.state.fetch_sub(MEMBER, Ordering::SeqCst);
        if self.caller_sleeps.load(Ordering::SeqCst)
            && let Some(caller) = &*lock(&self.caller)
        {
            caller.unpark();
        }
    }

    fn take_parts(&self, thread: usize, work: &Work<'_>) {
        let parts = self.parts.load(Ordering::Relaxed);
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            work(thread, part);
        }
    }
}

/// Looks for a short while, and tells whether it came about.
fn spin_until(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if is_so() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

/// What a poisoned lock guards here is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            for parts in [0, 1, 2, 7, 1_000] {
                let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                team.run(parts, &|thread, part| {
                    assert!(thread < threads);
                    done[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads}, {parts}");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(3).unwrap();
        for _ in 0..100 {
            for at in [0, 50, 99] {
                let work = |_: usize, part: usize| assert_ne!(part, at, "on purpose");
                let result = catch_unwind(AssertUnwindSafe(|| team.run(100, &work)));
                assert!(result.is_err());
            }
        }
        let sum = AtomicUsize::new(0);
        team.run(100, &|_, part| {
            sum.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4_950);
    }

    #[test]
    fn a_panic_of_all_threads_is_not_thrown_again_later() {
        let team = Team::new(2).unwrap();
        for _ in 0..100 {
            let both = std::sync::Barrier::new(2);
            let work = |_: usize, _: usize| {
                both.wait();
                panic!("on purpose");
            };
            assert!(catch_unwind(AssertUnwindSafe(|| team.run(2, &work))).is_err());
            team.run(2, &|_, _| ());
        }
    }

    #[test]
    fn sleepers_are_woken() {
        let team = Team::new(2).unwrap();
        for _ in 0..20 {
            thread::sleep(SPIN * 4);
            let done = AtomicUsize::new(0);
            team.run(64, &|_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 64);
        }
    }

    #[test]
    fn several_callers_take_turns() {
        let team = Team::new(2).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        team.run(10, &|_, part| {
                            sum.fetch_add(part, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 45);
                    }
                });
            }
        });
    }
}
