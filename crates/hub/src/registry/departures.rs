use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Models that are no longer in their places and whose memory is not given back yet. Clones share it.
///
/// A load that finds too little memory waits for them before it is refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Departures(Arc<(Mutex<Count>, Condvar)>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// How many are on their way.
    open: usize,
    /// How many have gone.
    gone: u64,
}

/// A model on its way out; gone once this is dropped.
#[derive(Debug)]
pub(super) struct Departure(Departures);

impl Departures {
    /// Notes that a model was taken out of its place; to be called under the lock of the places.
    pub(super) fn begin(&self) -> Departure {
        self.count().open += 1;
        Departure(self.clone())
    }

    /// Returns how many have gone so far.
    pub(super) fn gone(&self) -> u64 {
        self.count().gone
    }

    /// Waits until no model is on its way, and tells whether one has gone since there were `before`.
    pub(super) fn wait(&self, before: u64) -> bool {
        let (_, changed) = &*self.0;
        let done = changed.wait_while(self.count(), |count| count.open > 0);
        done.unwrap_or_else(PoisonError::into_inner).gone > before
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut count = self.0.count();
        count.open -= 1;
        count.gone += 1;
        self.0.0.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn who_waits_is_told_that_memory_came_back() {
        let departures = Departures::default();
        let before = departures.gone();
        assert!(!departures.wait(before), "nobody is on the way");
        let leaving = departures.begin();
        let (tx, rx) = mpsc::channel();
        let waiting = departures.clone();
        let waiter = thread::spawn(move || tx.send(waiting.wait(before)));
        assert!(rx.try_recv().is_err());
        drop(leaving);
        assert!(rx.recv().unwrap());
        waiter.join().unwrap().unwrap();
        assert!(departures.wait(before), "it is remembered");
    }
}
