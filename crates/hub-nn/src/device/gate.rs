use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who goes first when several wait for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Work nobody waits for right now: batches, indexing.
    Background,
    /// Somebody is looking at the screen.
    #[default]
    Interactive,
}

/// The turn to compute on a device: one holder at a time, the higher priority first.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_held: bool,
    /// How many wait, by priority.
    waiting: [usize; 2],
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    priority: Priority,
}

impl Gate {
    /// Waits for the turn.
    pub fn enter(&self, priority: Priority) -> Pass<'_> {
        let mut state = self.lock();
        state.waiting[priority as usize] += 1;
        while state.is_held || state.has_waiter_over(priority) {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting[priority as usize] -= 1;
        state.is_held = true;
        Pass { gate: self, priority }
    }

    fn leave(&self) {
        self.lock().is_held = false;
        self.freed.notify_all();
    }

    /// A holder that panicked leaves counters that are still true, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_waiter_over(&self, priority: Priority) -> bool {
        self.waiting[priority as usize + 1..].iter().any(|count| *count > 0)
    }
}

impl Pass<'_> {
    /// Lets waiters of higher priority go first, then takes the turn again. Called between layers.
    pub fn give_way(&mut self) {
        if self.gate.lock().has_waiter_over(self.priority) {
            self.gate.leave();
            // `enter` returns a second pass for the same turn; this one keeps it.
            std::mem::forget(self.gate.enter(self.priority));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_background_holder_gives_way_to_an_interactive_waiter() {
        let gate = Gate::default();
        let (tx, rx) = mpsc::channel();
        let mut pass = gate.enter(Priority::Background);
        std::thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || {
                let _pass = gate.enter(Priority::Interactive);
                tx.send("interactive").unwrap();
            });
            while gate.lock().waiting[Priority::Interactive as usize] == 0 {
                std::thread::yield_now();
            }
            pass.give_way();
            assert_eq!(rx.try_recv(), Ok("interactive"));
        });
    }

    #[test]
    fn a_holder_that_panics_frees_the_turn() {
        let gate = Gate::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _pass = gate.enter(Priority::Interactive);
            panic!("on purpose");
        }));
        assert!(result.is_err());
        drop(gate.enter(Priority::Background));
    }
}
